/**
 * Memory by size: a set of slab caches per family up to 8 KiB, whole pages above. Which family serves is a
 * matter of the mask: DMA, RECLAIMABLE and ACCOUNT each select one, in that order of precedence.
 */
import { type Addr, assert, bug, type Cpu, type Gfp, NO_PFN, NULL, type Pfn } from '@netmem/base'
import { allocPages, freePages } from './alloc-pages.js'
import type { KmemCache } from './kmem-cache.js'
import type { Memory } from './memory.js'
import { PG_LARGE_KMALLOC } from './pages.js'
import { objOfOddSlab, objOfWord, slabWordCache } from './slab-core.js'
import { markLive, slabFree, zeroObject } from './slub.js'
import { slabAllocSlow } from './slub-slow.js'
import { getOrder, PAGE_SIZE } from './zone-types.js'

/** Models `ZERO_SIZE_PTR`: what an allocation of 0 bytes returns; it may be freed and must not be used. */
export const ZERO_SIZE_PTR = 16 as Addr
/** Models `KMALLOC_MAX_CACHE_SIZE`. */
export const KMALLOC_MAX_CACHE_SIZE = 8192
/** Models `KMALLOC_MAX_SIZE`. */
export const KMALLOC_MAX_SIZE = 4 << 20

/** Models `kmalloc_info`: the size classes, bytes. */
export const KMALLOC_SIZES = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192] as const

/** Models `enum kmalloc_cache_type`: which family of caches, in our order. */
export const KMALLOC_NORMAL = 0
export const KMALLOC_RECLAIM = 1
export const KMALLOC_DMA = 2
export const KMALLOC_CGROUP = 3

/** Models `kmalloc_size_index`: the class of `(size + 7) >>> 3`. */
const SIZE_CLASS = Uint8Array.from({ length: KMALLOC_MAX_CACHE_SIZE / 8 + 1 }, (_, words) =>
  KMALLOC_SIZES.findIndex((size) => size >= words * 8),
)

/** Models `kmalloc_type`. */
export function kmallocType(mem: Memory, gfp: number): number {
  const { DMA, RECLAIMABLE, ACCOUNT } = mem.gfp
  if ((gfp & (DMA | RECLAIMABLE | ACCOUNT)) === 0) return KMALLOC_NORMAL
  if ((gfp & DMA) !== 0) return KMALLOC_DMA
  return (gfp & RECLAIMABLE) !== 0 ? KMALLOC_RECLAIM : KMALLOC_CGROUP
}

/** Models `kmalloc_slab`: the cache that serves `size` bytes (1 to 8192) with this mask. */
export const kmallocSlab = (mem: Memory, size: number, gfp: number): KmemCache =>
  mem.kmallocCaches[
    ((gfp & mem.kmallocFamilyMask) === 0 ? 0 : kmallocType(mem, gfp) << 4) | SIZE_CLASS[(size + 7) >>> 3]!
  ]!

/** Models `kmalloc_size_roundup`: how many bytes an allocation of `size` really gives. */
export function kmallocSizeRoundup(_mem: Memory, size: number): number {
  if (size <= 0) return 0
  if (size <= KMALLOC_MAX_CACHE_SIZE) return KMALLOC_SIZES[SIZE_CLASS[(size + 7) >>> 3]!]!
  return size <= KMALLOC_MAX_SIZE ? PAGE_SIZE << getOrder(size) : size
}

/**
 * Models `kmalloc`.
 *
 * @param size bytes.
 * @param site the calling function, as tracepoints and failure injection see it.
 * @returns address of a block of at least `size` bytes; NULL when there is no memory; ZERO_SIZE_PTR for size 0.
 */
export function kmalloc(mem: Memory, cpu: Cpu, size: number, gfp: number, site: string): Addr {
  return kmallocNode(mem, cpu, size, gfp, -1, site)
}

/** Models `kzalloc`. */
export const kzalloc = (mem: Memory, cpu: Cpu, size: number, gfp: number, site: string): Addr =>
  kmallocNode(mem, cpu, size, gfp | mem.gfp.ZERO, -1, site)

/** Models `kmalloc_node` (`__do_kmalloc_node`). @param node NUMA node, -1 for any. */
export function kmallocNode(
  mem: Memory,
  cpu: Cpu,
  size: number,
  gfp: number,
  node: number,
  site: string,
  pageSite = site,
): Addr {
  if (size > KMALLOC_MAX_CACHE_SIZE) return kmallocLarge(mem, cpu, size, gfp, node, site, pageSite)
  if (size === 0) return ZERO_SIZE_PTR
  const cache = kmallocSlab(mem, size, gfp)
  const core = cache.core
  if (mem.fault?.shouldFail('kmalloc', size, gfp, site)) return NULL
  const c = core.cpus[cpu.id]!
  let obj = c.freelist
  if (obj >= 0 && node < 0) c.freelist = core.next[obj]!
  else {
    obj = slabAllocSlow(core, cpu, gfp, node)
    if (obj < 0) return NULL
  }
  if (__ASSERT__) markLive(core, obj)
  if ((gfp & core.zeroBit) !== 0) zeroObject(core, obj)
  const addr = core.addr[obj]! as Addr
  if (mem.trace.kmalloc !== null)
    mem.trace.kmalloc(cpu, site, addr, size, core.size, gfp as Gfp, node, (gfp & mem.gfp.ACCOUNT) !== 0)
  if (mem.tracker !== null) mem.tracker.slabAlloc(addr, core.size, cache.name, site)
  return addr
}

/** Models `__kmalloc_large_node`: whole pages as one compound page. @param pageSite what the page event names. */
function kmallocLarge(
  mem: Memory,
  cpu: Cpu,
  size: number,
  gfp: number,
  node: number,
  site: string,
  pageSite: string,
): Addr {
  if (mem.fault?.shouldFail('kmalloc', size, gfp, site)) return NULL
  const order = getOrder(size)
  const pfn = allocPages(mem, cpu, gfp | mem.gfp.COMP, order, node, pageSite)
  const addr = (pfn << 12) as Addr
  if (pfn !== NO_PFN) mem.pages.flags[pfn]! |= PG_LARGE_KMALLOC
  if (mem.trace.kmalloc !== null)
    mem.trace.kmalloc(
      cpu,
      site,
      addr,
      size,
      pfn === NO_PFN ? 0 : PAGE_SIZE << order,
      gfp as Gfp,
      node,
      (gfp & mem.gfp.ACCOUNT) !== 0,
    )
  if (mem.tracker !== null && pfn !== NO_PFN) mem.tracker.pageAlloc(pfn, order, site)
  return addr
}

/** Models `kfree`: takes the block. NULL and ZERO_SIZE_PTR are fine, and print no event here. */
export function kfree(mem: Memory, cpu: Cpu, addr: Addr, site: string): void {
  if (addr === NULL || addr === ZERO_SIZE_PTR) return
  if (mem.trace.kfree !== null) mem.trace.kfree(cpu, site, addr)
  const word = mem.pages.slab[addr >>> 12]!
  if (word === 0) {
    freeLargeKmalloc(mem, cpu, addr, site)
    return
  }
  const core = mem.slabCores[slabWordCache(word)]!
  if (mem.tracker !== null) mem.tracker.slabFree(addr)
  slabFree(core, cpu, word > 0 ? objOfWord(core, addr, word) : objOfOddSlab(core, addr, word))
}

/** Models `free_large_kmalloc`. */
function freeLargeKmalloc(mem: Memory, cpu: Cpu, addr: Addr, site: string): void {
  const pfn = mem.pages.head[addr >>> 12]! as Pfn
  if ((mem.pages.flags[pfn]! & PG_LARGE_KMALLOC) === 0)
    bug(`kfree: 0x${(addr >>> 0).toString(16)} is no kmalloc memory`)
  if (__ASSERT__) assert(addr === pfn << 12, 'kfree: not the start of the block')
  mem.pages.flags[pfn]! &= ~PG_LARGE_KMALLOC
  freePages(mem, cpu, pfn, mem.pages.order[pfn]!, site)
}

/** Models `ksize`: bytes that the block at `addr` really has. */
export function ksize(mem: Memory, addr: Addr): number {
  if (addr === NULL || addr === ZERO_SIZE_PTR) return 0
  const word = mem.pages.slab[addr >>> 12]!
  if (word !== 0) return mem.slabCores[slabWordCache(word)]!.size
  return PAGE_SIZE << mem.pages.order[mem.pages.head[addr >>> 12]!]!
}

/** @returns the name of the cache that `addr` belongs to, `kmalloc-large` above 8 KiB. */
export function kmallocCacheName(mem: Memory, addr: Addr): string {
  const word = mem.pages.slab[addr >>> 12]!
  return word === 0 ? 'kmalloc-large' : mem.slabCores[slabWordCache(word)]!.name
}
