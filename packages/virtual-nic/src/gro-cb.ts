/**
 * What GRO remembers in a packet while it holds it: `napi_gro_cb`, laid over `skb->cb`. The words belong to GRO
 * from `devGroReceive` until the packet is passed up.
 *
 *     cb0 flags   cb1 data offset   cb2 last (skb id)   cb3 count   cb4 age (jiffies)
 *     cb5 checksum over the rest   cb6 validated checksum levels   cb7 network offset   cb8 protocol
 */
import type { Addr, Cpu } from '@netmem/base'
import { fragAddr, fragLen, nrFrags, pskbMayPull, type SkBuff, skbHeadlen } from '@netmem/skbuff'

// The bits of cb0.
export const GRO_SAME_FLOW = 1 << 0
export const GRO_FLUSH = 1 << 1
/** Models `NAPI_GRO_FREE` and `NAPI_GRO_FREE_STOLEN_HEAD`: how the merged skb ends. */
export const GRO_FREE = 1 << 2
export const GRO_FREE_STOLEN_HEAD = 1 << 3
export const GRO_CSUM_VALID = 1 << 4
export const GRO_IS_FLIST = 1 << 5
export const GRO_IP_FIXEDID = 1 << 6

/** Models `skb_gro_offset`: where the header to be looked at next starts, from `data`. */
export const skbGroOffset = (skb: SkBuff): number => skb.cb1
/** Models `skb_gro_len`: bytes from there to the end. */
export const skbGroLen = (skb: SkBuff): number => skb.len - skb.cb1
/** Models `skb_gro_pull`. */
export function skbGroPull(skb: SkBuff, bytes: number): void {
  skb.cb1 += bytes
}

/**
 * Models `skb_gro_header`: the address of `hlen` header bytes (counted from `data`), wherever they are: in the
 * linear part, in the first fragment of a packet that has no linear bytes, or pulled together if need be.
 *
 * @returns the address of the byte at `offset`, or 0 when the packet is too short or memory is.
 */
export function skbGroHeader(cpu: Cpu, skb: SkBuff, hlen: number, offset: number): Addr {
  const headlen = skbHeadlen(skb)
  if (hlen <= headlen) return ((skb.data + offset) | 0) as Addr
  if (headlen === 0 && nrFrags(skb) > 0 && fragLen(skb, 0) >= hlen) return ((fragAddr(skb, 0) + offset) | 0) as Addr
  return pskbMayPull(cpu, skb, hlen) ? (((skb.data + offset) | 0) as Addr) : (0 as Addr)
}
