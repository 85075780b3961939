/**
 * Which flow a packet belongs to, as a number: the software hash of addresses and ports by which RPS, flow
 * limits and queue selection spread packets when the device supplied none.
 */
import { SKB_L4_HASH, SKB_SW_HASH, type SkBuff, skbHeadlen } from '@netmem/skbuff'
import type { NetDevs } from './net-devs.js'
import { ETH_P_IP, ETH_P_IPV6 } from './packet-type.js'

const IPPROTO_TCP = 6
const IPPROTO_UDP = 17

/**
 * Models `skb_get_hash` (include/linux/skbuff.h): the device's hash if it gave one, else ours.
 *
 * Differs: the kernel keys a SipHash with random numbers; here the machine's seed keys a 32-bit mix.
 * @returns a signed 32-bit number; 0 never, because 0 means "none".
 */
export function skbGetHash(env: NetDevs, skb: SkBuff): number {
  if (skb.hash !== 0 && (skb.flags & (SKB_L4_HASH | SKB_SW_HASH)) !== 0) return skb.hash
  const hash = flowHash(env, skb)
  skb.hash = hash
  skb.flags |= SKB_SW_HASH
  return hash
}

const mix = (h: number, word: number): number => {
  const x = Math.imul(h ^ word, 0x85ebca6b)
  return Math.imul(x ^ (x >>> 13), 0xc2b2ae35) ^ (x >>> 16)
}

/** Models `__skb_get_hash` with the parts of the flow dissector that IP packets need, from the network header on. */
function flowHash(env: NetDevs, skb: SkBuff): number {
  const dv = env.mem.dv
  const offset = (skb.head + skb.networkHeader - skb.data) | 0
  const at = (skb.data + offset) >>> 0
  const have = skbHeadlen(skb) - offset
  let h = mix(env.seed | 0, skb.protocol)
  if (skb.protocol === ETH_P_IP && have >= 20) {
    h = mix(mix(h, dv.getInt32(at + 12)), dv.getInt32(at + 16))
    const proto = dv.getUint8(at + 9)
    h = mix(h, proto)
    const ihl = (dv.getUint8(at) & 15) * 4
    // A fragment beyond the first has no ports, so none of its datagram may use them.
    const fragmented = (dv.getUint16(at + 6) & 0x3fff) !== 0
    if (!fragmented && (proto === IPPROTO_TCP || proto === IPPROTO_UDP) && have >= ihl + 4)
      h = mix(h, dv.getInt32(at + ihl))
  } else if (skb.protocol === ETH_P_IPV6 && have >= 40) {
    for (let i = 8; i < 40; i += 4) h = mix(h, dv.getInt32(at + i))
    const proto = dv.getUint8(at + 6)
    h = mix(h, proto)
    if ((proto === IPPROTO_TCP || proto === IPPROTO_UDP) && have >= 44) h = mix(h, dv.getInt32(at + 40))
  }
  return h === 0 ? 1 : h
}

/**
 * Models `__skb_get_hash_symmetric`: the same number for both directions of a flow.
 *
 * @returns a signed 32-bit number.
 */
export function skbGetHashSymmetric(env: NetDevs, skb: SkBuff): number {
  const { dv } = env.mem
  const offset = (skb.head + skb.networkHeader - skb.data) | 0
  const at = (skb.data + offset) >>> 0
  const have = skbHeadlen(skb) - offset
  let h = mix(env.seed | 0, skb.protocol)
  if (skb.protocol === ETH_P_IP && have >= 20) {
    const proto = dv.getUint8(at + 9)
    const ihl = (dv.getUint8(at) & 15) * 4
    h = mix(h, dv.getInt32(at + 12) ^ dv.getInt32(at + 16))
    h = mix(h, proto)
    if ((proto === IPPROTO_TCP || proto === IPPROTO_UDP) && have >= ihl + 4)
      h = mix(h, dv.getUint16(at + ihl) ^ dv.getUint16(at + ihl + 2))
  } else if (skb.protocol === ETH_P_IPV6 && have >= 40) {
    for (let i = 8; i < 24; i += 4) h = mix(h, dv.getInt32(at + i) ^ dv.getInt32(at + i + 16))
    if (have >= 44) h = mix(h, dv.getUint16(at + 40) ^ dv.getUint16(at + 42))
  }
  return h
}

/** Models `reciprocal_scale`: maps a 32-bit hash onto `[0, n)` by multiplication. */
export const reciprocalScale = (hash: number, n: number): number => Math.floor(((hash >>> 0) * n) / 4294967296)
