/** Raw sockets of IPv4: a copy of every packet of their protocol. */
import type { Cpu } from '@netmem/base'
import { kfreeSkb, type SkBuff, skbClone } from '@netmem/skbuff'
import { queueRcvDropReason, type Sock, sockQueueRcvSkb } from '@netmem/sockmem'
import type { InetEnv } from '../inet-env.js'
import type { InetNet } from '../inet-net.js'

/** Raw sockets by protocol, of all namespaces; few, so a list. */
export interface RawTable {
  readonly socks: Sock[]
}

export const rawTableOf = (env: InetEnv): RawTable => env.owned.raw as RawTable

/**
 * Models `raw_local_deliver` and `raw_v4_input` (net/ipv4/raw.c). The packet stays the caller's, `data` at the transport header.
 *
 * @returns whether anybody wanted it.
 */
export function rawLocalDeliver(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, protocol: number): boolean {
  const iph = (skb.head + skb.networkHeader) >>> 0
  const { dv } = env.mem
  let delivered = false
  for (const sk of rawTableOf(env).socks) {
    if (sk.protocol !== protocol || sk.net !== net.net || sk.v6 !== null) continue
    if (sk.rcvSaddr !== 0 && sk.rcvSaddr !== dv.getInt32(iph + 16)) continue
    if (sk.daddr !== 0 && sk.daddr !== dv.getInt32(iph + 12)) continue
    if (sk.boundDevIf !== 0 && sk.boundDevIf !== skb.skbIif) continue
    delivered = true
    const clone = skbClone(cpu, skb, env.mem.gfp.GFP_ATOMIC)
    if (clone !== null) rawRcv(cpu, sk, clone)
  }
  return delivered
}

/** Models `raw_rcv` and `raw_rcv_skb`: raw sockets see the IP header too. Takes the skb. */
function rawRcv(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  const header = (skb.data - skb.head - skb.networkHeader) | 0
  skb.data = (skb.data - header) as typeof skb.data
  skb.len += header
  skb.refdst = 0
  const err = sockQueueRcvSkb(cpu, sk, skb)
  if (err < 0) kfreeSkb(cpu, skb, queueRcvDropReason(err), 'raw_rcv_skb', sk.id)
}
