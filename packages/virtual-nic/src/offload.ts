/** Who can merge and segment packets of one EtherType: the registry that GRO and GSO look into. */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import type { NapiStruct } from './napi-struct.js'
import type { NetDevs } from './net-devs.js'

/** What `groReceive` of an offload may answer besides the id of a packet to flush: models `-EINPROGRESS`. */
export const GRO_IN_PROGRESS = -1

/** Models `struct packet_offload`: what one EtherType can merge and segment. */
export interface PacketOffload {
  readonly type: number
  /**
   * Compares with the packets held in `bucket` and merges if it can; what it found is in the packets' `cb`.
   * @returns id of a held packet that must go now, 0 none.
   */
  groReceive(cpu: Cpu, napi: NapiStruct, bucket: number, skb: SkBuff): number
  /** Writes the merged packet's headers. @returns 0 or -errno. */
  groComplete(skb: SkBuff, nhoff: number): number
  /** Models `gso_segment`. @returns a list linked by `next`, null: the packet stays whole, or -errno. */
  gsoSegment(cpu: Cpu, skb: SkBuff, features: number): SkBuff | null | number
}

/** Models `dev_add_offload`. */
export function devAddOffload(env: NetDevs, offload: PacketOffload): void {
  env.offloads.push(offload)
}

/** @returns the offload of an EtherType, or null. */
export function findOffload(env: NetDevs, type: number): PacketOffload | null {
  const list = env.offloads
  for (let i = 0; i < list.length; i++) if (list[i]!.type === type) return list[i]!
  return null
}
