/**
 * How large a slab is and how many objects it holds: pure arithmetic from the object's size, the alignment it
 * asks for and the number of CPUs.
 */
import { getOrder, MAX_PAGE_ORDER, PAGE_SIZE } from './zone-types.js'

/** Models `SLAB_HWCACHE_ALIGN`: start objects on cache lines, or on the fraction of one that they fit in. */
export const SLAB_HWCACHE_ALIGN = 1
/** Models `SLAB_TYPESAFE_BY_RCU`: a free object stays readable, so the free pointer gets its own place. */
export const SLAB_TYPESAFE_BY_RCU = 2
/** Models `SLAB_ACCOUNT`: every object is charged to the allocating task's memory cgroup. */
export const SLAB_ACCOUNT = 4
/** Models `SLAB_RECLAIM_ACCOUNT`. */
export const SLAB_RECLAIM_ACCOUNT = 8
/** Models `SLAB_CACHE_DMA`. */
export const SLAB_CACHE_DMA = 0x10
/** Models `SLAB_CACHE_DMA32`. */
export const SLAB_CACHE_DMA32 = 0x20
/** Models `SLAB_NO_MERGE`. */
export const SLAB_NO_MERGE = 0x40
/** Models `SLAB_PANIC`: the kernel cannot go on without this cache; creating one never fails here. */
export const SLAB_PANIC = 0x80

/** Models `SLAB_MERGE_SAME`: flags that two caches must share to become one. */
export const SLAB_MERGE_SAME = SLAB_RECLAIM_ACCOUNT | SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_ACCOUNT
/** Models `SLAB_NEVER_MERGE`. */
export const SLAB_NEVER_MERGE = SLAB_TYPESAFE_BY_RCU | SLAB_NO_MERGE

/** Models `slub_max_order` and `MAX_OBJS_PER_PAGE`. */
const SLUB_MAX_ORDER = 3
const MAX_OBJS_PER_PAGE = 32767
const WORD = 8

/** Rounds `x` up to a power-of-two multiple. */
const align = (x: number, to: number): number => Math.ceil(x / to) * to

/** Models `calculate_alignment`: bytes. */
export function calculateAlignment(flags: number, wanted: number, size: number, cacheLine: number): number {
  let result = wanted
  if ((flags & SLAB_HWCACHE_ALIGN) !== 0) {
    let line = cacheLine
    while (size <= line / 2) line /= 2
    result = Math.max(result, line)
  }
  return align(Math.max(result, WORD), WORD)
}

/** Models the first half of `calculate_sizes`: bytes from one object to the next. */
export function slabStride(
  objectSize: number,
  alignment: number,
  flags: number,
  hasCtor: boolean,
  pointerInside: boolean,
): number {
  const padded = align(objectSize, WORD)
  // What must survive in a free object (its state for RCU readers, what a constructor set up) cannot hold the link.
  const outside = ((flags & SLAB_TYPESAFE_BY_RCU) !== 0 && !pointerInside) || hasCtor
  return align(padded + (outside ? WORD : 0), alignment)
}

/** Models `order_objects`. */
export const orderObjects = (order: number, size: number): number => Math.floor((PAGE_SIZE << order) / size)

/** Models the default of `slub_min_objects`: more CPUs, larger slabs. */
export const slubMinObjects = (cpus: number): number => 4 * (32 - Math.clz32(cpus) + 1)

/**
 * Models `calculate_order` (mm/slub.c): the smallest order that wastes little, where "little" is relaxed step by
 * step. @returns the order, or -1 when the object is larger than the largest block.
 *
 * @param keepsMinObjects since 6.7 only the waste is relaxed; before that, one object fewer per slab was tried
 *   each time a sixteenth, an eighth and a quarter were all too little.
 */
export function calculateOrder(size: number, cpus: number, keepsMinObjects: boolean): number {
  if (orderObjects(0, size) > MAX_OBJS_PER_PAGE) return getOrder(size * MAX_OBJS_PER_PAGE) - 1
  const most = Math.max(orderObjects(SLUB_MAX_ORDER, size), 1)
  const wanted = Math.min(slubMinObjects(cpus), most)
  if (keepsMinObjects) {
    for (let fraction = 16; fraction > 1; fraction /= 2) {
      const order = orderWasting(size, getOrder(wanted * size), fraction)
      if (order <= SLUB_MAX_ORDER) return order
    }
  } else {
    for (let objects = Math.min(slubMinObjects(cpus), orderObjects(SLUB_MAX_ORDER, size)); objects > 1; objects--)
      for (let fraction = 16; fraction >= 4; fraction /= 2) {
        const order = orderWasting(size, getOrder(objects * size), fraction)
        if (order <= SLUB_MAX_ORDER) return order
      }
  }
  const single = getOrder(size)
  return single <= MAX_PAGE_ORDER ? single : -1
}

/** Models `calc_slab_order`: the first order from `from` whose rest is at most a `fraction`-th. @returns above the limit when none is. */
function orderWasting(size: number, from: number, fraction: number): number {
  let order = from
  while (order <= SLUB_MAX_ORDER) {
    const bytes = PAGE_SIZE << order
    if (bytes % size <= Math.floor(bytes / fraction)) break
    order++
  }
  return order
}

/** Models `set_cpu_partial`: free objects that one CPU may keep on partial slabs. */
export const cpuPartialObjects = (size: number): number =>
  size >= PAGE_SIZE ? 6 : size >= 1024 ? 24 : size >= 256 ? 52 : 120

/** Models `slub_set_cpu_partial`: the same as slabs, each taken to be half full. */
export const cpuPartialSlabs = (objects: number, perSlab: number): number => Math.ceil((objects * 2) / perSlab)

/** Models `MIN_PARTIAL`/`MAX_PARTIAL`: partial slabs that a node keeps even when they are empty. */
export const minPartial = (size: number): number => Math.max(5, Math.min(10, (31 - Math.clz32(size)) >> 1))
