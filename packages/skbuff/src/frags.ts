/** Adding page fragments to an skb. Who counts what: `len` and `dataLen` the bytes, truesize the memory. */
import { type Addr, type Cpu, ERRNO, type Gfp, NO_PFN, type Pfn } from '@netmem/base'
import {
  allocPages,
  getPage,
  type IovIter,
  ITER_BVEC,
  ITER_UBUF,
  iovIterAdvance,
  iovIterSingleSegCount,
  iterAddr,
  pageIsPfmemalloc,
} from '@netmem/memory'
import { allocSkb } from './alloc.js'
import { csumBlockAdd, csumPartial } from './checksum.js'
import type { Skbuffs } from './env.js'
import { kfreeSkb } from './release.js'
import {
  fragLen,
  fragOff,
  fragPfn,
  nrFrags,
  SKBFL_ZEROCOPY_ENABLE,
  setFrag,
  setFragLen,
  setNrFrags,
  shinfoFlags,
  skbCanCoalesce,
} from './shared-info.js'
import { CHECKSUM_NONE, SKB_PFMEMALLOC, type SkBuff } from './sk-buff.js'

/** Models `__skb_fill_page_desc`: fills slot `i`; the reference comes with the call. */
export function skbFillPageDescUnchecked(skb: SkBuff, i: number, pfn: Pfn, off: number, bytes: number): void {
  setFrag(skb, i, pfn, off, bytes)
  if (pfn > 0 && pageIsPfmemalloc(skb.env.mem, pfn)) skb.flags |= SKB_PFMEMALLOC
}

/** Models `skb_fill_page_desc`: as above, and slot `i` is the last. Lengths are the caller's business. */
export function skbFillPageDesc(skb: SkBuff, i: number, pfn: Pfn, off: number, bytes: number): void {
  skbFillPageDescUnchecked(skb, i, pfn, off, bytes)
  setNrFrags(skb, i + 1)
}

/** Models `skb_add_rx_frag` (net/core/skbuff.c): one more fragment of a received packet, which costs `truesize`. */
export function skbAddRxFrag(skb: SkBuff, i: number, pfn: Pfn, off: number, bytes: number, truesize: number): void {
  skbFillPageDesc(skb, i, pfn, off, bytes)
  skb.len += bytes
  skb.dataLen += bytes
  skb.truesize += truesize
}

/** Models `skb_coalesce_rx_frag`: the last fragment grows. */
export function skbCoalesceRxFrag(skb: SkBuff, i: number, bytes: number, truesize: number): void {
  setFragLen(skb, i, fragLen(skb, i) + bytes)
  skb.len += bytes
  skb.dataLen += bytes
  skb.truesize += truesize
}

/**
 * Models `skb_append_pagefrags` (net/core/skbuff.c): bytes of a page join the last fragment or take a new slot
 * and a reference of their own. Lengths are the caller's business. @returns 0, or `-EMSGSIZE` without a slot.
 */
export function skbAppendPagefrags(skb: SkBuff, pfn: Pfn, off: number, bytes: number, maxFrags: number): number {
  const i = nrFrags(skb)
  if (skbCanCoalesce(skb, i, pfn, off)) {
    setFragLen(skb, i - 1, fragLen(skb, i - 1) + bytes)
    return 0
  }
  if (i >= maxFrags) return -ERRNO.EMSGSIZE
  getPage(skb.env.mem, pfn)
  skbFillPageDescUnchecked(skb, i, pfn, off, bytes)
  setNrFrags(skb, i + 1)
  return 0
}

/** What `allocSkbWithFrags` reports on failure; the caller owns one and reuses it. */
export class AllocSkbError {
  /** A negative errno: `-EMSGSIZE` when the bytes can never fit, else `-ENOBUFS`. */
  errno = 0
}

/**
 * Models `alloc_skb_with_frags` (net/core/skbuff.c): a head of `headerLen` bytes and pages for `dataLen` more,
 * taken in the largest orders up to `maxOrder` that are to be had without reclaim. truesize counts whole pages;
 * `len` and `dataLen` of the skb stay 0, the bytes are there for the caller to fill.
 */
export function allocSkbWithFrags(
  env: Skbuffs,
  cpu: Cpu,
  headerLen: number,
  dataLen: number,
  maxOrder: number,
  gfp: Gfp,
  error: AllocSkbError,
): SkBuff | null {
  const pageBytes = env.sizes.pageBytes
  error.errno = -ERRNO.EMSGSIZE
  const order = env.profile.features.skbSmallHeadCache ? Math.min(maxOrder, PAGE_ALLOC_COSTLY_ORDER) : maxOrder
  const slots = env.sizes.maxFrags
  if (env.profile.features.skbSmallHeadCache) {
    if (dataLen > slots * (pageBytes << order)) return null
  } else if (Math.ceil(dataLen / pageBytes) > slots) return null
  error.errno = -ERRNO.ENOBUFS
  const skb = allocSkb(env, cpu, headerLen, gfp)
  if (skb === null) return null
  const filled = env.profile.features.skbSmallHeadCache
    ? fillPages(cpu, skb, dataLen, order, gfp)
    : fillPagesGreedily(cpu, skb, dataLen, order, gfp)
  if (filled) return skb
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'alloc_skb_with_frags')
  return null
}

/** Models `PAGE_ALLOC_COSTLY_ORDER`. */
const PAGE_ALLOC_COSTLY_ORDER = 3

/** From 6.5 on: an order that failed once is not tried again; no page is larger than what is left. */
function fillPages(cpu: Cpu, skb: SkBuff, dataLen: number, maxOrder: number, gfp: Gfp): boolean {
  const { mem, sizes } = skb.env
  let order = maxOrder
  for (let left = dataLen; left > 0; ) {
    const i = nrFrags(skb)
    if (i === sizes.maxFrags) return false
    while (order > 0 && Math.ceil(left / sizes.pageBytes) * sizes.pageBytes < sizes.pageBytes << order) order--
    const mask = order > 0 ? (((gfp & ~mem.gfp.DIRECT_RECLAIM) | mem.gfp.COMP | mem.gfp.NOWARN) as Gfp) : gfp
    const pfn = allocPages(mem, cpu, mask, order, -1, 'alloc_skb_with_frags')
    if (pfn === NO_PFN) {
      if (order === 0) return false
      order--
      continue
    }
    const bytes = Math.min(left, sizes.pageBytes << order)
    skbFillPageDesc(skb, i, pfn, 0, bytes)
    skb.truesize += sizes.pageBytes << order
    left -= bytes
  }
  return true
}

/** 6.1: truesize is counted first; the first order that fails sends the rest down to single pages. */
function fillPagesGreedily(cpu: Cpu, skb: SkBuff, dataLen: number, maxOrder: number, gfp: Gfp): boolean {
  const { mem, sizes } = skb.env
  let pages = Math.ceil(dataLen / sizes.pageBytes)
  skb.truesize += pages * sizes.pageBytes
  for (let left = dataLen; pages > 0; ) {
    let order = maxOrder
    let pfn = NO_PFN
    for (; order > 0 && pfn === NO_PFN; order--) {
      if (pages < 1 << order) continue
      const mask = ((gfp & ~mem.gfp.DIRECT_RECLAIM) | mem.gfp.COMP | mem.gfp.NOWARN) as Gfp
      pfn = allocPages(mem, cpu, mask, order, -1, 'alloc_skb_with_frags')
      if (pfn !== NO_PFN) break
      // No second try with another high order.
      order = 1
    }
    if (pfn === NO_PFN) {
      order = 0
      pfn = allocPages(mem, cpu, gfp, 0, -1, 'alloc_skb_with_frags')
      if (pfn === NO_PFN) return false
    }
    const bytes = Math.min(left, sizes.pageBytes << order)
    skbFillPageDesc(skb, nrFrags(skb), pfn, 0, bytes)
    left -= bytes
    pages -= 1 << order
  }
  return true
}

/**
 * Models `skb_splice_from_iter` (net/core/skbuff.c, 6.5 on): the pages under an iterator become fragments, each
 * with a reference, joined to the last where they continue it.
 *
 * @returns bytes added to `len`, `dataLen` and truesize alike; if there were none, `-EMSGSIZE` (no slot) or `-EIO`
 *   (nothing to extract).
 */
export function skbSpliceFromIter(skb: SkBuff, iter: IovIter, maxBytes: number): number {
  const { mem, sizes, sysctl } = skb.env
  const limit = sysctl.maxSkbFrags()
  const most = Math.min(maxBytes, iter.count)
  if (iter.kind === ITER_BVEC) return spliceBvec(skb, iter, most, limit)
  let spliced = 0
  let err = 0
  while (spliced < most) {
    if (nrFrags(skb) > limit) {
      err = -ERRNO.EMSGSIZE
      break
    }
    const chunk = Math.min(iovIterSingleSegCount(iter), most - spliced)
    if (chunk <= 0) {
      if (iter.kind !== ITER_UBUF && iter.seg < iter.nrSegs) {
        iovIterAdvance(iter, 0)
        continue
      }
      err = -ERRNO.EIO
      break
    }
    const addr = iterAddr(iter)
    const off = addr & (sizes.pageBytes - 1)
    const part = Math.min(chunk, sizes.pageBytes - off)
    // Slab memory has no reference of its own to take.
    if (mem.pages.slab[addr >>> 12] !== 0) {
      err = -ERRNO.EIO
      break
    }
    err = skbAppendPagefrags(skb, (addr >>> 12) as Pfn, off, part, limit)
    if (err < 0) break
    // Models `skb_splice_csum_page`, which reckons with the length that the packet had before.
    if (skb.ipSummed === CHECKSUM_NONE) skb.csum = csumBlockAdd(skb.csum, csumPartial(mem, addr, part, 0), skb.len)
    iovIterAdvance(iter, part)
    spliced += part
  }
  skb.len += spliced
  skb.dataLen += spliced
  skb.truesize += spliced
  return spliced > 0 ? spliced : err
}

/** The same for pieces of pages, with the position in locals: this loop is most of what sendfile does for a page. */
function spliceBvec(skb: SkBuff, iter: IovIter, most: number, limit: number): number {
  const { mem, sizes } = skb.env
  const { pageBytes } = sizes
  const { slab } = mem.pages
  const { bases, offsets, lens } = iter
  let { seg, iovOffset } = iter
  let count = nrFrags(skb)
  // Where the last fragment ends, if it may grow.
  let lastPfn = -1
  let lastEnd = 0
  if (count > 0 && (shinfoFlags(skb) & SKBFL_ZEROCOPY_ENABLE) === 0) {
    lastPfn = fragPfn(skb, count - 1)
    lastEnd = fragOff(skb, count - 1) + fragLen(skb, count - 1)
  }
  const grows = count === 0 || lastPfn >= 0
  let spliced = 0
  let err = 0
  while (spliced < most) {
    const left = lens[seg]! - iovOffset
    if (left === 0) {
      seg++
      iovOffset = 0
      continue
    }
    const where = offsets[seg]! + iovOffset
    const pfn = (bases[seg]! + (where >>> 12)) as Pfn
    const off = where & (pageBytes - 1)
    const part = Math.min(left, most - spliced, pageBytes - off)
    if (slab[pfn] !== 0) {
      err = -ERRNO.EIO
      break
    }
    if (pfn === lastPfn && off === lastEnd) setFragLen(skb, count - 1, fragLen(skb, count - 1) + part)
    else {
      if (count >= limit) {
        err = -ERRNO.EMSGSIZE
        break
      }
      getPage(mem, pfn)
      skbFillPageDescUnchecked(skb, count, pfn, off, part)
      count++
      setNrFrags(skb, count)
    }
    if (skb.ipSummed === CHECKSUM_NONE) {
      const addr = ((pfn << 12) + off) as Addr
      skb.csum = csumBlockAdd(skb.csum, csumPartial(mem, addr, part, 0), skb.len)
    }
    if (grows) {
      lastPfn = pfn
      lastEnd = off + part
    }
    iovOffset += part
    spliced += part
  }
  iter.seg = seg
  iter.iovOffset = iovOffset
  iter.count -= spliced
  skb.len += spliced
  skb.dataLen += spliced
  skb.truesize += spliced
  return spliced > 0 ? spliced : err
}
