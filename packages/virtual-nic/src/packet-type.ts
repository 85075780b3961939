/**
 * Who receives packets: protocol handlers by EtherType and taps that see everything. `inet` and packet
 * sockets register here; a device driver never learns who they are.
 */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import type { NetDevice } from './net-device.js'
import type { NetDevs } from './net-devs.js'

/** Models `ETH_P_ALL`, `ETH_P_IP` and the rest (include/uapi/linux/if_ether.h), in host order. */
export const ETH_P_ALL = 0x0003
export const ETH_P_802_3 = 0x0001
export const ETH_P_802_2 = 0x0004
export const ETH_P_LOOPBACK = 0x9000
export const ETH_P_IP = 0x0800
export const ETH_P_ARP = 0x0806
export const ETH_P_IPV6 = 0x86dd
export const ETH_P_8021Q = 0x8100
export const ETH_P_8021AD = 0x88a8

export {
  PACKET_BROADCAST,
  PACKET_HOST,
  PACKET_LOOPBACK,
  PACKET_MULTICAST,
  PACKET_OTHERHOST,
  PACKET_OUTGOING,
} from '@netmem/skbuff'

/** Models `struct packet_type`. The handler takes the skb. */
export interface PacketType {
  /** An EtherType, or `ETH_P_ALL` for a tap. */
  readonly type: number
  /** The handler's name in /proc/net/ptype; a packet socket's when absent. */
  readonly name?: string
  /** Only packets of this device; null for all. */
  readonly dev?: NetDevice | null
  /** Only packets of this network namespace; absent for all. */
  readonly ns?: number
  /** Takes the skb, whatever it returns. @param origDev the device it came in on before any handler changed it. */
  func(cpu: Cpu, skb: SkBuff, dev: NetDevice, ptype: PacketType, origDev: NetDevice): number
  /** Models `ignore_outgoing`. */
  ignoreOutgoing?: boolean
  /** Models `skb_loop_sk`: true for a packet that this tap's owner sent itself and need not see. */
  skipOwn?: (skb: SkBuff) => boolean
  /** Models `af_packet_priv`: the owner's own. */
  priv?: unknown
}

/** Models `PTYPE_HASH_SIZE`. */
export const PTYPE_HASH_SIZE = 16

/** @returns the list that a packet type belongs to. Models `ptype_head` (net/core/dev.c). */
function ptypeHead(env: NetDevs, pt: PacketType): PacketType[] {
  if (pt.type === ETH_P_ALL) return pt.dev ? pt.dev.ptypeAll : env.ptypeAll
  if (pt.dev) return pt.dev.ptypeSpecific
  return env.ptypeBase[pt.type & (PTYPE_HASH_SIZE - 1)]!
}

/** Models `dev_add_pack` (net/core/dev.c). The newest handler of a list is called first. */
export function devAddPack(env: NetDevs, pt: PacketType): void {
  ptypeHead(env, pt).unshift(pt)
  countTaps(env)
}

/** Models `dev_remove_pack`. Unknown types are reported as the kernel does and otherwise ignored. */
export function devRemovePack(env: NetDevs, pt: PacketType): void {
  const head = ptypeHead(env, pt)
  const at = head.indexOf(pt)
  if (at < 0) {
    if (env.trace.printk !== null) env.trace.printk('dev_remove_pack: not found')
    return
  }
  head.splice(at, 1)
  countTaps(env)
}

// The receive path asks one integer whether anybody taps at all, instead of walking two lists per packet.
function countTaps(env: NetDevs): void {
  let taps = env.ptypeAll.length
  for (const dev of env.devices) {
    if (dev === null) continue
    taps += dev.ptypeAll.length
    dev.updateRxSlow()
  }
  env.taps = taps
}

/** For the registry: the taps of a device that goes away are gone too. */
export const netDevsRecountTaps = countTaps

/** Models `ptype_match` restricted to what the lists do not already say: is this type for that namespace? */
export const ptypeInNs = (pt: PacketType, ns: number): boolean => pt.ns === undefined || pt.ns === ns
