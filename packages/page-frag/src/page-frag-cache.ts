/**
 * A page cut into pieces, front to back on 6.18 and back to front on 6.1. One CPU context owns a cache and
 * takes pieces without touching the page's reference; whoever frees a piece drops one real reference, from
 * any CPU. That works because the cache buys references in bulk when it takes the page:
 *
 *     reference of the cached page = pagecntBias + live pieces
 *
 * so a piece handed out moves one unit from the bias to the living, and nothing is written but the cache.
 */
import { type Addr, assert, type Cpu, type Gfp, NO_PFN, NULL, type Pfn } from '@netmem/base'
import { allocPages, freePages, type Memory, pageIsPfmemalloc } from '@netmem/memory'

/** Models `PAGE_FRAG_CACHE_MAX_SIZE`: the chunk that a cache asks for first, in bytes. */
export const PAGE_FRAG_CACHE_MAX_SIZE = 32768
/** Models `PAGE_FRAG_CACHE_MAX_ORDER`. */
export const PAGE_FRAG_CACHE_MAX_ORDER = 3

const PAGE_SIZE = 4096
assert(PAGE_SIZE << PAGE_FRAG_CACHE_MAX_ORDER === PAGE_FRAG_CACHE_MAX_SIZE, 'order and size of a chunk disagree')
// The page comes with one reference of its own, so the bias is one more than what is added.
const FULL_BIAS = PAGE_FRAG_CACHE_MAX_SIZE + 1

/**
 * Models `struct page_frag_cache`. 6.18 folds address, order and the emergency flag into one word; they are
 * kept apart here, so `virt`, `order` and `pfmemalloc` read as values.
 */
export class PageFragCache {
  /** Frame of the chunk, `NO_PFN` when the cache is empty. */
  pfn: Pfn = NO_PFN
  /** Address of the chunk's first byte; `NULL` when the cache is empty. */
  virt: Addr = NULL
  order = 0
  /** Bytes in the chunk; 0 when the cache is empty. */
  size = 0
  /** Ours: `size`, or 0 where a piece needs a second look (6.1 counts down; the reserves must be reported). */
  fastSize = 0
  /** 6.18: where the next piece may start. 6.1: where the last piece began. */
  offset = 0
  /** References that the cache still holds. */
  pagecntBias = 0
  /** The chunk came from the emergency reserves; such a chunk is never reused in place. */
  pfmemalloc = false

  declare readonly mem: Memory
  /** The frames' reference counts (`struct page::_refcount`), kept here to save a load. */
  declare readonly refcount: Int32Array
  /** Profile feature `pageFragCountsUp`: pieces are cut front to back. */
  declare readonly countsUp: boolean
  /** The function that page events name. */
  declare readonly site: string
  /** What a chunk's mask has besides the caller's bits, and which of the caller's bits it keeps. */
  declare readonly chunkGfp: number
  declare readonly keptGfp: number

  constructor(mem: Memory, refcount: Int32Array, countsUp: boolean, site: string) {
    const { COMP, NOWARN, NORETRY, NOMEMALLOC, DIRECT_RECLAIM } = mem.gfp
    this.chunkGfp = COMP | NOWARN | NORETRY | NOMEMALLOC
    // 6.1 trusts its callers not to reclaim.
    this.keptGfp = countsUp ? ~DIRECT_RECLAIM : -1
    this.mem = mem
    this.refcount = refcount
    this.countsUp = countsUp
    this.site = site
  }
}

/** @returns an empty cache; the first allocation takes its first chunk. */
export function pageFragCacheCreate(mem: Memory): PageFragCache {
  const countsUp = mem.profile.features.pageFragCountsUp
  return new PageFragCache(
    mem,
    mem.pages.refcount,
    countsUp,
    countsUp ? '__page_frag_alloc_align' : 'page_frag_alloc_align',
  )
}

// Hot path: one compare, two stores.

/**
 * Models `page_frag_alloc` (mm/page_frag_cache.c): a piece with no alignment of its own.
 *
 * @returns the piece, holding one reference that `pageFragFree` drops; `NULL` when no page is to be had.
 */
export function pageFragAlloc(nc: PageFragCache, cpu: Cpu, bytes: number, gfp: Gfp): Addr {
  return pageFragAllocAlign(nc, cpu, bytes, gfp, 1)
}

/**
 * Models `page_frag_alloc_align` and `__page_frag_alloc_align` (mm/page_frag_cache.c).
 *
 * @param align a power of two, in bytes.
 * @returns the piece, or `NULL`: no page, or more than one page asked of a chunk that is too small for it.
 */
export function pageFragAllocAlign(nc: PageFragCache, cpu: Cpu, bytes: number, gfp: Gfp, align: number): Addr {
  if (__ASSERT__) assert(align > 0 && (align & (align - 1)) === 0, 'page_frag_alloc_align: not a power of two')
  if (nc.countsUp) {
    const start = (nc.offset + align - 1) & -align
    const next = start + bytes
    if (next <= nc.size) {
      nc.pagecntBias--
      nc.offset = next
      return ((nc.virt + start) | 0) as Addr
    }
  } else {
    const start = nc.offset - bytes
    if (start >= 0 && nc.size !== 0) {
      nc.pagecntBias--
      nc.offset = start & -align
      return ((nc.virt + nc.offset) | 0) as Addr
    }
  }
  return pageFragAllocSlow(nc, cpu, bytes, gfp, align)
}

/**
 * Models `page_frag_free` (mm/page_frag_cache.c): drops one reference of the chunk that holds the piece.
 *
 * @param site the function that a page event names if this was the last reference.
 */
export function pageFragFree(mem: Memory, cpu: Cpu, addr: Addr, site: string): void {
  const head = mem.pages.head[addr >>> 12] as Pfn
  const left = mem.pages.refcount[head]! - 1
  // The last reference goes through the page allocator, which sets the count to zero itself.
  if (left === 0) freePages(mem, cpu, head, mem.pages.order[head]!, site)
  else {
    if (__ASSERT__) assert(left > 0, 'page_frag_free: the page has no reference left')
    mem.pages.refcount[head] = left
  }
}

/** Models `skb_free_frag` (include/linux/skbuff.h): the same thing by its networking name. */
export const skbFreeFrag = pageFragFree

// Cold path: once per chunk.

/** The chunk is full or there is none: reuse it if all pieces came back, else take another. */
export function pageFragAllocSlow(nc: PageFragCache, cpu: Cpu, bytes: number, gfp: Gfp, align: number): Addr {
  if (nc.pfn === NO_PFN) {
    if (!pageFragCacheRefill(nc, cpu, gfp)) return NULL
  } else {
    // 6.18 refuses before it touches the chunk; 6.1 only after the chunk turned out to be reusable.
    if (nc.countsUp && bytes > PAGE_SIZE) return NULL
    const left = (nc.refcount[nc.pfn]! - nc.pagecntBias) | 0
    if (left !== 0) {
      // Somebody still holds pieces: the chunk is theirs now, and the last of them frees it.
      nc.refcount[nc.pfn] = left
      if (!pageFragCacheRefill(nc, cpu, gfp)) return NULL
    } else if (nc.pfmemalloc) {
      releaseChunk(nc, cpu)
      if (!pageFragCacheRefill(nc, cpu, gfp)) return NULL
    } else {
      nc.refcount[nc.pfn] = FULL_BIAS
      nc.pagecntBias = FULL_BIAS
      if (nc.countsUp) nc.offset = 0
      else if (bytes > nc.size) return NULL
      else nc.offset = nc.size
    }
  }
  // A new chunk of order 0 may still be too small: then the next round decides as above.
  if (nc.countsUp) {
    if (bytes > nc.size) return bytes > PAGE_SIZE ? NULL : pageFragAllocSlow(nc, cpu, bytes, gfp, align)
    nc.pagecntBias--
    nc.offset = bytes
    return nc.virt
  }
  const start = nc.offset - bytes
  if (start < 0) return pageFragAllocSlow(nc, cpu, bytes, gfp, align)
  nc.pagecntBias--
  nc.offset = start & -align
  return ((nc.virt + nc.offset) | 0) as Addr
}

/**
 * Models `__page_frag_cache_refill` (mm/page_frag_cache.c): an order-3 chunk without reclaim and without the
 * reserves; if there is none, one page with the caller's own mask.
 *
 * @returns false with the cache empty when neither is to be had.
 */
export function pageFragCacheRefill(nc: PageFragCache, cpu: Cpu, gfp: Gfp): boolean {
  const mem = nc.mem
  const mask = ((gfp & nc.keptGfp) | nc.chunkGfp) as Gfp
  let order = PAGE_FRAG_CACHE_MAX_ORDER
  let pfn = allocPages(mem, cpu, mask, order, -1, nc.site)
  if (pfn === NO_PFN) {
    order = 0
    pfn = allocPages(mem, cpu, gfp, 0, -1, nc.site)
  }
  if (pfn === NO_PFN) {
    pageFragCacheForget(nc)
    return false
  }
  nc.pfn = pfn
  nc.virt = (pfn << 12) as Addr
  nc.order = order
  nc.size = PAGE_SIZE << order
  nc.pfmemalloc = pageIsPfmemalloc(mem, pfn)
  nc.fastSize = nc.countsUp && !nc.pfmemalloc ? nc.size : 0
  nc.refcount[pfn] = nc.refcount[pfn]! + PAGE_FRAG_CACHE_MAX_SIZE
  nc.pagecntBias = FULL_BIAS
  nc.offset = nc.countsUp ? 0 : nc.size
  return true
}

/** Models `page_frag_cache_drain` and `__page_frag_cache_drain`: gives back what the cache holds; pieces live on. */
export function pageFragCacheDrain(nc: PageFragCache, cpu: Cpu): void {
  if (nc.pfn === NO_PFN) return
  const left = (nc.refcount[nc.pfn]! - nc.pagecntBias) | 0
  if (left === 0) releaseChunk(nc, cpu)
  else nc.refcount[nc.pfn] = left
  pageFragCacheForget(nc)
}

/** Models `page_frag_cache_init`: empty, owning nothing. */
export function pageFragCacheForget(nc: PageFragCache): void {
  nc.pfn = NO_PFN
  nc.virt = NULL
  nc.order = 0
  nc.size = 0
  nc.fastSize = 0
  nc.offset = 0
  nc.pagecntBias = 0
  nc.pfmemalloc = false
}

function releaseChunk(nc: PageFragCache, cpu: Cpu): void {
  // Drop to the last reference, so that the page allocator sees an ordinary free.
  nc.refcount[nc.pfn] = 1
  freePages(nc.mem, cpu, nc.pfn, nc.order, nc.site)
}
