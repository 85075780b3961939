/** A packet's bytes as pieces of pages, for a pipe: what can be lent is lent, what cannot is copied first. */
import type { Addr, Pfn } from '@netmem/base'
import { skbHeadIsLocked } from './coalesce.js'
import { fragLen, fragList, fragOff, fragPfn, nrFrags } from './shared-info.js'
import { type SkBuff, skbHeadlen } from './sk-buff.js'

/** Where the pieces go: the part of `struct splice_pipe_desc` that the owner of pipes fills. */
export interface SpliceSink {
  /** Models `spd_fill_page` for a page: takes a reference of its own. @returns false when there is no more room. */
  page(pfn: Pfn, off: number, bytes: number): boolean
  /** Models `linear_to_page` and `spd_fill_page`: copies the bytes first. @returns bytes taken, 0 when there is no more room. */
  copy(from: Addr, bytes: number): number
}

/**
 * Models `__skb_splice_bits` (net/core/skbuff.c): offers `len` bytes from `offset` on, in order. The linear part
 * is lent only when the head is a page fragment and nobody shares it.
 *
 * @returns bytes that the sink took.
 */
export function skbSpliceBits(skb: SkBuff, offset: number, len: number, sink: SpliceSink): number {
  const { env } = skb
  let skip = offset
  let left = len
  const linear = skbHeadlen(skb)
  if (skip < linear) {
    let bytes = Math.min(linear - skip, left)
    let from = (skb.data + skip) | 0
    if (skbHeadIsLocked(skb))
      while (bytes > 0) {
        const taken = sink.copy(from as Addr, bytes)
        if (taken === 0) return len - left
        from = (from + taken) | 0
        bytes -= taken
        left -= taken
      }
    else {
      if (!sink.page((from >>> 12) as Pfn, from & (env.sizes.pageBytes - 1), bytes)) return len - left
      left -= bytes
    }
  }
  skip = Math.max(0, skip - linear)
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i++) {
    const size = fragLen(skb, i)
    if (skip < size) {
      const bytes = Math.min(size - skip, left)
      if (!sink.page(fragPfn(skb, i), fragOff(skb, i) + skip, bytes)) return len - left
      left -= bytes
    }
    skip = Math.max(0, skip - size)
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = env.skbs[id]!
    if (skip < frag.len) {
      const bytes = Math.min(frag.len - skip, left)
      const taken = skbSpliceBits(frag, skip, bytes, sink)
      left -= taken
      if (taken < bytes) return len - left
    }
    skip = Math.max(0, skip - frag.len)
    id = frag.next
  }
  return len - left
}
