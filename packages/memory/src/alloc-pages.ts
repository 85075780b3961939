/**
 * Taking and returning pages: the entry points of the page allocator. The fast path serves orders 0 to 3 from
 * the CPU's own list while the zone is above its high watermark; everything else is in `alloc-slow.ts`.
 */
import { assert, bug, type Cpu, type Gfp, NO_PFN, type Pfn } from '@netmem/base'
import { allocPagesNoFast } from './alloc-slow.js'
import { freeOnePage } from './buddy.js'
import type { Memory } from './memory.js'
import { PG_HEAD, PG_LRU, PG_PCP, PG_PFMEMALLOC, PG_RESERVED } from './pages.js'
import { orderToPindex, pcpAllowedOrder, pcpFreeCommit } from './pcp.js'
import { COUNTER_FOLD, type PerCpuPages, pcpListPush } from './per-cpu-pages.js'
import { destroyCompoundPage, prepByMask, prepListedBlock } from './prep-page.js'
import type { Zone } from './zone.js'
import {
  MIGRATE_ISOLATE,
  MIGRATE_MOVABLE,
  MIGRATE_PCPTYPES,
  type MigrateType,
  PAGE_ALLOC_COSTLY_ORDER,
  PAGE_SHIFT,
} from './zone-types.js'

/**
 * Models `alloc_pages_node` (mm/page_alloc.c, `__alloc_pages`).
 *
 * @param gfp mask; see `mem.gfp`.
 * @param order the block has `2^order` pages, and is a compound page only with `__GFP_COMP`.
 * @param nid preferred node, `NUMA_NO_NODE` (-1) for the CPU's own.
 * @param site the calling function, as tracepoints and failure injection see it.
 * @returns the first frame, with one reference for the caller; NO_PFN when there is no memory.
 */
export function allocPages(mem: Memory, cpu: Cpu, gfp: number, order: number, nid: number, site: string): Pfn {
  if (order > PAGE_ALLOC_COSTLY_ORDER) return allocPagesNoFast(mem, cpu, gfp, order, nid, site)
  const cls = mem.gfpClass[gfp & 31]!
  const list = mem.allocLists[(cpu.id << 6) | ((cls & 3) << 4) | (3 * order + (cls >> 2))]!
  const { zone, top } = list
  if (top === list.bottom || zone.free <= zone.quickMark) return allocPagesNoFast(mem, cpu, gfp, order, nid, site)
  if (mem.fault !== null || (nid >= 0 && nid !== zone.node)) return allocPagesNoFast(mem, cpu, gfp, order, nid, site)
  const pfn = list.ring[(top - 1) & list.mask]! as Pfn
  list.top = (top - 1) | 0
  const pcp = list.pcp
  pcp.count -= 1 << order
  pcp.freeCount >>= 1
  if (order !== 0) zone.allocs[order]!++
  else if (++pcp.allocs === COUNTER_FOLD) foldCounters(zone, pcp)
  // A block on these lists knows its order and has no flags but `PG_HEAD`; what else is to do depends on the mask.
  if (__ASSERT__) {
    assert(mem.pages.refcount[pfn] === 0, 'bad page state: a page from the lists has references')
    mem.pages.flags[pfn]! &= ~PG_PCP
  }
  mem.pages.refcount[pfn] = 1
  if (order !== 0) prepListedBlock(mem, pfn, order, gfp)
  else if ((gfp & mem.prepMask) !== 0) prepByMask(mem, pfn, order, gfp)
  if (mem.trace.mmPageAlloc !== null) mem.trace.mmPageAlloc(cpu, pfn, order, gfp as Gfp, cls >> 2, site)
  if (mem.tracker !== null) mem.tracker.pageAlloc(pfn, order, site)
  return pfn
}

function foldCounters(zone: Zone, pcp: PerCpuPages): void {
  zone.allocs[0]! += pcp.allocs
  zone.frees[0]! += pcp.frees
  pcp.allocs = 0
  pcp.frees = 0
}

/**
 * Models `__free_pages`: drops the caller's reference; the block goes back when it was the last.
 *
 * A block that is no compound page has one reference count in its first page. Should somebody else still hold
 * that, the rest of the block is freed at once and the first page later, by whoever lets go of it.
 */
export function freePages(mem: Memory, cpu: Cpu, pfn: Pfn, order: number, site: string): void {
  const pages = mem.pages
  const refcount = pages.refcount[pfn]! - 1
  if (refcount < 0) freeTwice('__free_pages', pfn, site)
  pages.refcount[pfn] = refcount
  if (refcount === 0) freeFrozenPages(mem, cpu, pfn, order, site)
  else if (order > 0 && (pages.flags[pfn]! & PG_HEAD) === 0) freeTailsOf(mem, cpu, pfn, order, site)
}

function freeTwice(what: string, pfn: Pfn, site: string): never {
  bug(`${what}: page ${pfn} is free already (${site})`)
}

function freeTailsOf(mem: Memory, cpu: Cpu, pfn: Pfn, order: number, site: string): void {
  mem.pages.order[pfn] = 0
  if (mem.tracker !== null) mem.tracker.pageSplit(pfn, order)
  for (let half = order - 1; half >= 0; half--) {
    const upper = (pfn + (1 << half)) as Pfn
    mem.pages.order[upper] = half
    freeFrozenPages(mem, cpu, upper, half, site)
  }
}

/** Models `put_page`: drops one reference of the compound page that holds `pfn`. */
export function putPage(mem: Memory, cpu: Cpu, pfn: Pfn, site: string): void {
  const pages = mem.pages
  const head = pages.head[pfn]! as Pfn
  const refcount = pages.refcount[head]! - 1
  if (refcount < 0) freeTwice('put_page', head, site)
  pages.refcount[head] = refcount
  if (refcount === 0)
    freeFrozenPages(mem, cpu, head, (pages.flags[head]! & PG_HEAD) !== 0 ? pages.order[head]! : 0, site)
}

/** Models `free_frozen_pages`: the block has no reference left and goes back to the CPU's list, or to the buddy. */
export function freeFrozenPages(mem: Memory, cpu: Cpu, pfn: Pfn, order: number, site: string): void {
  const pages = mem.pages
  if (mem.trace.mmPageFree !== null) mem.trace.mmPageFree(cpu, pfn, order, site)
  if (mem.tracker !== null) mem.tracker.pageFree(pfn)
  if (__ASSERT__) checkFree(mem, pfn, order)
  const flags = pages.flags[pfn]!
  // A compound page that goes to a list stays one (`prepListedBlock`).
  if (flags !== 0 && (flags !== PG_HEAD || order > PAGE_ALLOC_COSTLY_ORDER)) clearFlags(mem, pfn, order)
  if (__ASSERT__) pages.flags[pfn]! |= PG_PCP
  const list = mem.freeLists[pages.block[pfn >>> 9]! * mem.cpus + cpu.id]!
  const pcp = list.pcp
  // The usual case of `freeToLists`, in line: a single page, nothing to trim, counters at rest.
  if (
    order !== 0 ||
    pcp.count + 1 >= pcp.high ||
    (pcp.zoneFlags | pcp.allocFactor | pcp.prevFreeHighOrder) !== 0 ||
    ((list.top - list.bottom) | 0) > list.mask
  ) {
    freeToLists(mem, cpu, pfn, order)
    return
  }
  list.ring[list.top & list.mask] = pfn
  list.top = (list.top + 1) | 0
  pcp.count++
  if (pcp.freeCount < pcp.freeCountMax) pcp.freeCount++
  if (++pcp.frees === COUNTER_FOLD) foldCounters(list.zone, pcp)
}

function freeToLists(mem: Memory, cpu: Cpu, pfn: Pfn, order: number): void {
  const block = mem.pages.block[pfn >>> 9]!
  const zone = mem.zones[block >> 3]!
  let type = (block & 7) as MigrateType
  zone.frees[order]!++
  if (!pcpAllowedOrder(order) || type === MIGRATE_ISOLATE) {
    freeToBuddy(mem, zone, pfn, order)
    return
  }
  if (type >= MIGRATE_PCPTYPES) type = MIGRATE_MOVABLE
  const index = orderToPindex(type, order)
  const pcp = zone.pcp[cpu.id]!
  pcpListPush(pcp.lists[index]!, pfn)
  pcp.count += 1 << order
  pcpFreeCommit(mem, cpu, zone, pcp, index, order)
}

function clearFlags(mem: Memory, pfn: Pfn, order: number): void {
  if ((mem.pages.flags[pfn]! & PG_HEAD) !== 0) destroyCompoundPage(mem, pfn, order)
  mem.pages.flags[pfn] = 0
}

function freeToBuddy(mem: Memory, zone: Zone, pfn: Pfn, order: number): void {
  clearFlags(mem, pfn, order)
  freeOnePage(mem.pages, zone, pfn, order, false)
}

/** Models `free_page_is_bad`: what must hold for a page that nobody uses any more. */
function checkFree(mem: Memory, pfn: Pfn, order: number): void {
  const pages = mem.pages
  assert(pages.refcount[pfn] === 0, 'bad page state: freed with references')
  // The last reference takes a user page off its LRU list on the way here (`__page_cache_release`).
  assert((pages.flags[pfn]! & ~(PG_HEAD | PG_PFMEMALLOC | PG_LRU)) === 0, 'bad page state: freed with flags set')
  assert((pages.flags[pfn]! & PG_RESERVED) === 0, 'bad page state: reserved page freed')
  assert(pages.pp[pfn] === 0, 'bad page state: page_pool leak')
  assert(pages.head[pfn] === pfn, 'bad page state: a tail page freed')
  assert(pages.order[pfn] === order, 'bad page state: freed with another order than it was allocated with')
}

/**
 * Models `split_page`: a block that is no compound page becomes single pages, each with its own reference.
 */
export function splitPage(mem: Memory, pfn: Pfn, order: number): void {
  const pages = mem.pages
  assert((pages.flags[pfn]! & PG_HEAD) === 0, 'split_page: not for compound pages')
  assert(pages.refcount[pfn]! > 0, 'split_page: the page is free')
  const flags = pages.flags[pfn]!
  for (let page = pfn; page < pfn + (1 << order); page++) {
    pages.refcount[page] = 1
    pages.flags[page] = flags
    pages.order[page] = 0
  }
  if (mem.tracker !== null) mem.tracker.pageSplit(pfn, order)
}

/** Models `__get_free_pages`: an address instead of a frame number, 0 when there is no memory. */
export const getFreePages = (mem: Memory, cpu: Cpu, gfp: number, order: number, site: string): number =>
  allocPages(mem, cpu, gfp, order, -1, site) << PAGE_SHIFT

/** Models `free_pages`: by address. */
export function freePagesAddr(mem: Memory, cpu: Cpu, addr: number, order: number, site: string): void {
  if (addr !== 0) freePages(mem, cpu, (addr >>> PAGE_SHIFT) as Pfn, order, site)
}

export { NO_PFN }
