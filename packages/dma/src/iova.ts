/**
 * Device addresses behind an IOMMU: ranges of page frames that are handed out from the top down. The kernel keeps
 * them in a red-black tree; here it is a list in descending walk order with an index, and the same two shortcuts
 * into it, because where a search starts decides which address comes out.
 */
import { type Addr, assert, type Cpu, NULL } from '@netmem/base'
import { type KmemCache, kmemCacheAlloc, kmemCacheCreate, kmemCacheFree, SLAB_HWCACHE_ALIGN } from '@netmem/memory'
import type { Dma } from './dma.js'

/** Models `struct iova`: frames `[lo, hi]`, both included. In the list it lies between `below` and `above`. */
export interface Iova {
  lo: number
  hi: number
  above: Iova | null
  below: Iova | null
  /** The slab object that stands for it; NULL for reservations made at boot. */
  addr: Addr
}

const IOVA_STRUCT_BYTES = 40

/**
 * Models `struct iova_domain` (drivers/iommu/iova.c). Ranges are disjoint, at or above `startPfn`, and each was asked
 * for once: reserved + lent + resting in the caches of `iova-rcache.ts` = all ranges in the list.
 */
export class IovaDomain {
  /** Above everything: where a walk from the top starts. */
  readonly anchor: Iova
  cachedNode: Iova
  cached32Node: Iova
  /** Models `max32_alloc_size`: below 4 GiB, this many frames in a row or more could not be had last time. */
  max32AllocPages: number
  /** First frame above 4 GiB. */
  readonly dma32Pfn: number
  readonly index = new Map<number, Iova>()
  readonly slab: KmemCache
  usedPages = 0

  constructor(
    readonly env: Dma,
    /** Bytes that one frame covers. */
    readonly granule: number,
    readonly startPfn: number,
  ) {
    this.dma32Pfn = 2 ** 32 / granule
    this.max32AllocPages = this.dma32Pfn
    this.anchor = { lo: Number.POSITIVE_INFINITY, hi: Number.POSITIVE_INFINITY, above: null, below: null, addr: NULL }
    this.cachedNode = this.anchor
    this.cached32Node = this.anchor
    this.slab =
      env.mem.kmemCaches.find((cache) => cache.name === 'iommu_iova') ??
      kmemCacheCreate(env.mem, 'iommu_iova', IOVA_STRUCT_BYTES, { flags: SLAB_HWCACHE_ALIGN })
  }
}

/** @returns the smallest power of two that is at least `n`. */
export const roundupPowOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(n))

/**
 * Models `alloc_iova`: a range of `pages` frames, aligned to the next power of two of their number, all of it at or
 * below `limitPfn`.
 *
 * @returns the range, or null when the space or the memory for its record is exhausted; then nothing is taken.
 */
export function allocIova(cpu: Cpu, iovad: IovaDomain, pages: number, limitPfn: number): Iova | null {
  const { gfp } = iovad.env.mem
  const addr = kmemCacheAlloc(iovad.slab, cpu, (gfp.GFP_ATOMIC | gfp.NOWARN | gfp.ZERO) as never, 'alloc_iova')
  if (addr === NULL) return null
  const iova = insertRange(iovad, pages, limitPfn + 1, addr)
  if (iova === null) kmemCacheFree(iovad.slab, cpu, addr, 'alloc_iova')
  return iova
}

/** Models `__alloc_and_insert_iova_range`: walks down from a remembered place, once more from the top if that fails. */
function insertRange(iovad: IovaDomain, pages: number, limitPfn: number, addr: Addr): Iova | null {
  const below4g = limitPfn <= iovad.dma32Pfn
  if (below4g && pages >= iovad.max32AllocPages) return null
  const align = roundupPowOfTwo(pages)
  const from = below4g ? iovad.cached32Node : iovad.cachedNode
  const found =
    walk(iovad, from, pages, align, limitPfn, iovad.startPfn) ??
    (from === iovad.anchor || from.hi + 1 >= limitPfn
      ? null
      : walk(iovad, iovad.anchor, pages, align, limitPfn, from.hi + 1))
  if (found === null) {
    if (below4g) iovad.max32AllocPages = pages
    return null
  }
  const iova: Iova = { lo: found.lo, hi: found.lo + pages - 1, above: found.above, below: found.above.below, addr }
  if (iova.below !== null) iova.below.above = iova
  found.above.below = iova
  iovad.index.set(iova.lo, iova)
  iovad.usedPages += pages
  if (iova.hi < iovad.dma32Pfn) iovad.cached32Node = iova
  else iovad.cachedNode = iova
  return iova
}

// The highest aligned gap below `from` that ends under the limit and starts at `lowPfn` or above.
function walk(
  _iovad: IovaDomain,
  from: Iova,
  pages: number,
  align: number,
  limitPfn: number,
  lowPfn: number,
): { lo: number; above: Iova } | null {
  let above = from
  for (;;) {
    const high = Math.min(limitPfn, above.lo)
    const lo = Math.floor((high - pages) / align) * align
    if (high < pages || lo < lowPfn) return null
    const below = above.below
    if (below === null || lo > below.hi) return { lo, above }
    above = below
  }
}

/** Models `free_iova`: the range that starts at `pfn` goes back to the space. Unknown ranges are ignored, as in the kernel. */
export function freeIova(cpu: Cpu, iovad: IovaDomain, pfn: number): boolean {
  const iova = iovad.index.get(pfn)
  if (iova === undefined) return false
  removeIova(cpu, iovad, iova)
  return true
}

/** Models `remove_iova` with `__cached_rbnode_delete_update`: the shortcuts move up to where space is free again. */
function removeIova(cpu: Cpu, iovad: IovaDomain, iova: Iova): void {
  const cached32 = iovad.cached32Node
  if (iova === cached32 || (iova.hi < iovad.dma32Pfn && iova.lo >= cached32.lo)) iovad.cached32Node = iova.above!
  if (iova.lo < iovad.dma32Pfn) iovad.max32AllocPages = iovad.dma32Pfn
  if (iova.lo >= iovad.cachedNode.lo || iova === iovad.cachedNode) iovad.cachedNode = iova.above!
  iova.above!.below = iova.below
  if (iova.below !== null) iova.below.above = iova.above
  iovad.index.delete(iova.lo)
  iovad.usedPages -= iova.hi - iova.lo + 1
  if (iova.addr !== NULL) kmemCacheFree(iovad.slab, cpu, iova.addr, 'free_iova_mem')
}

/** Models `reserve_iova` for a range that nothing uses yet: frames `[lo, hi]` are never handed out. */
export function reserveIova(iovad: IovaDomain, lo: number, hi: number): void {
  let above = iovad.anchor
  while (above.below !== null && above.below.lo > hi) above = above.below
  assert(above.below === null || above.below.hi < lo, 'reserve_iova: the range is in use')
  const iova: Iova = { lo, hi, above, below: above.below, addr: NULL }
  if (iova.below !== null) iova.below.above = iova
  above.below = iova
  iovad.index.set(lo, iova)
  iovad.usedPages += hi - lo + 1
}

/** Models `put_iova_domain`: every record goes, whatever is still lent. */
export function putIovaDomain(cpu: Cpu, iovad: IovaDomain): void {
  for (const iova of [...iovad.index.values()]) removeIova(cpu, iovad, iova)
}
