/** The packet that a stream fills: an fclone pair with room for headers only, its payload in fragments. */
import type { Cpu, Gfp } from '@netmem/base'
import {
  allocSkbFclone,
  CHECKSUM_PARTIAL,
  kfreeSkbUnchecked,
  type SkBuff,
  skbEndOffset,
  skbReserve,
  skbTruesize,
} from '@netmem/skbuff'
import { skForcedMemSchedule, skWmemSchedule } from './mem-schedule.js'
import { skEnterMemoryPressure } from './pressure.js'
import type { Sock } from './sock.js'
import { skStreamModerateSndbuf } from './stream-space.js'

/**
 * Models `sk_stream_alloc_skb`, since 5.16 `tcp_stream_alloc_skb` (net/ipv4/tcp.c). The truesize is set to what the head
 * holds, so a stream is charged 832 bytes per buffer and then byte for byte.
 *
 * @param force charges without asking limits, when the queues are empty and the stream could not go on otherwise.
 * @returns null without memory (which is pressure) or when the charge was refused (which is not).
 */
export function skStreamAllocSkb(cpu: Cpu, sk: Sock, gfp: Gfp, force: boolean): SkBuff | null {
  const { env } = sk
  const skb = allocSkbFclone(env.skbs, cpu, sk.proto.maxHeader, gfp)
  if (skb === null) {
    skEnterMemoryPressure(cpu, sk)
    skStreamModerateSndbuf(sk)
    return null
  }
  skb.truesize = skbTruesize(env.skbs.sizes, skbEndOffset(skb))
  let scheduled = true
  if (force) skForcedMemSchedule(cpu, sk, skb.truesize)
  else scheduled = skWmemSchedule(cpu, sk, skb.truesize)
  if (!scheduled) {
    kfreeSkbUnchecked(cpu, skb, 'tcp_stream_alloc_skb')
    return null
  }
  skbReserve(skb, sk.proto.maxHeader)
  skb.ipSummed = CHECKSUM_PARTIAL
  return skb
}
