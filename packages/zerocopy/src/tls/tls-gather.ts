/** Bytes between a packet's pieces and the staging buffer of the cipher. */
import { fragAddr, fragLen, fragList, nrFrags, type SkBuff, skbHeadlen } from '@netmem/skbuff'

/**
 * Copies `[offset, offset + len)` of a packet, wherever it lies, to the start of `out`: what `skb_to_sgvec` lets a
 * cipher read. The bytes are there; whoever asks has checked the length.
 */
export function skbGather(skb: SkBuff, offset: number, len: number, out: Uint8Array): void {
  gatherAt(skb, offset, len, out, 0)
}

function gatherAt(skb: SkBuff, offset: number, len: number, out: Uint8Array, to: number): number {
  const { u8 } = skb.env
  let skip = offset
  let left = len
  let at = to
  const linear = skbHeadlen(skb)
  if (skip < linear) {
    const bytes = Math.min(linear - skip, left)
    const from = (skb.data + skip) >>> 0
    out.set(u8.subarray(from, from + bytes), at)
    left -= bytes
    at += bytes
  }
  skip = Math.max(0, skip - linear)
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i += 1) {
    const size = fragLen(skb, i)
    if (skip < size) {
      const bytes = Math.min(size - skip, left)
      const from = (fragAddr(skb, i) + skip) >>> 0
      out.set(u8.subarray(from, from + bytes), at)
      left -= bytes
      at += bytes
    }
    skip = Math.max(0, skip - size)
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = skb.env.skbs[id]!
    if (skip < frag.len) {
      const bytes = Math.min(frag.len - skip, left)
      gatherAt(frag, skip, bytes, out, at)
      left -= bytes
      at += bytes
    }
    skip = Math.max(0, skip - frag.len)
    id = frag.next
  }
  return at
}

/** Copies `len` bytes of `data` into a packet's page fragments, from its byte `offset` on. */
export function skbScatter(skb: SkBuff, offset: number, data: Uint8Array, len: number): void {
  const { u8 } = skb.env
  let skip = offset
  let at = 0
  const count = nrFrags(skb)
  for (let i = 0; i < count && at < len; i += 1) {
    const size = fragLen(skb, i)
    if (skip < size) {
      const bytes = Math.min(size - skip, len - at)
      u8.set(data.subarray(at, at + bytes), (fragAddr(skb, i) + skip) >>> 0)
      at += bytes
    }
    skip = Math.max(0, skip - size)
  }
}
