/**
 * Per-CPU page lists: where an allocation of order 0 to 3 (or of a page block) looks first and where it goes
 * back. The last page freed is the first handed out, as it is still in that CPU's cache. Only the CPU itself
 * touches its lists, so the kernel's trylock never fails here.
 */
import type { Cpu, Pfn } from '@netmem/base'
import { freeOnePage, pfnMigrateType } from './buddy.js'
import { rmqueueBuddy } from './fallback.js'
import type { Memory } from './memory.js'
import { PG_HEAD, PG_PCP } from './pages.js'
import { NR_PCP_LISTS, type PerCpuPages, pcpListLength, pcpListPopCold, pcpListPushCold } from './per-cpu-pages.js'
import { destroyCompoundPage } from './prep-page.js'
import { PCP_BATCH_SCALE_MAX, zoneWatermarkOk } from './watermarks.js'
import { setZoneFlags, ZONE_BELOW_HIGH, ZONE_RECLAIM_ACTIVE, type Zone } from './zone.js'
import {
  MIGRATE_MOVABLE,
  MIGRATE_PCPTYPES,
  type MigrateType,
  PAGE_ALLOC_COSTLY_ORDER,
  PAGEBLOCK_ORDER,
  WMARK_HIGH,
} from './zone-types.js'

/** Models `pcp_allowed_order`. */
export const pcpAllowedOrder = (order: number): boolean => order <= PAGE_ALLOC_COSTLY_ORDER || order === PAGEBLOCK_ORDER

/** Models `order_to_pindex`. */
export const orderToPindex = (type: MigrateType, order: number): number =>
  order <= PAGE_ALLOC_COSTLY_ORDER ? MIGRATE_PCPTYPES * order + type : 12 + (type === MIGRATE_MOVABLE ? 1 : 0)

/** Models `pindex_to_order`. */
export const pindexToOrder = (index: number): number => (index >= 12 ? PAGEBLOCK_ORDER : Math.floor(index / 3))

/** Models the refill in `__rmqueue_pcplist` (`rmqueue_bulk`). @returns pages added; 0 when the zone has none to give. */
export function pcpRefill(
  mem: Memory,
  cpu: Cpu,
  zone: Zone,
  pcp: PerCpuPages,
  order: number,
  type: MigrateType,
  noFragment: boolean,
): number {
  const list = pcp.lists[orderToPindex(type, order)]!
  const wanted = pcp.floating ? nrPcpAlloc(pcp, zone, order) : fixedRefill(pcp, order)
  let got = 0
  for (; got < wanted; got++) {
    const pfn = rmqueueBuddy(mem, cpu, zone, order, type, noFragment)
    if (pfn === 0) break
    pcpListPushCold(list, pfn)
    mem.pages.flags[pfn] = __ASSERT__ ? PG_PCP : 0
  }
  pcp.count += got << order
  return got << order
}

/** Models the refill size of 6.1: the batch, less for larger blocks. */
function fixedRefill(pcp: PerCpuPages, order: number): number {
  return pcp.batch > 1 ? Math.max(pcp.batch >> order, 2) : pcp.batch
}

/** Models `nr_pcp_alloc`: refills of order 0 double as long as nothing is freed in between. */
function nrPcpAlloc(pcp: PerCpuPages, zone: Zone, order: number): number {
  let batch = order === 0 ? pcp.batch << pcp.allocFactor : pcp.batch
  if (pcp.high < pcp.batch) return 1
  if (pcp.highMin !== pcp.highMax && (zone.flags & ZONE_BELOW_HIGH) === 0)
    pcp.high = Math.min(pcp.high + batch, pcp.highMax)
  if (order === 0) {
    const most = Math.max(pcp.high - pcp.count - pcp.batch, pcp.batch)
    if (batch <= most && pcp.allocFactor < PCP_BATCH_SCALE_MAX) pcp.allocFactor++
    batch = Math.min(batch, most)
  }
  return batch > 1 ? Math.max(batch >> order, 2) : batch
}

/**
 * Models what `free_frozen_page_commit` does after the push: trims the lists when they have grown too long.
 * Counters for the next refill and drain are kept here.
 */
export function pcpFreeCommit(mem: Memory, cpu: Cpu, zone: Zone, pcp: PerCpuPages, index: number, order: number): void {
  if (pcp.floating) freeCommitFloating(mem, cpu, zone, pcp, index, order)
  else freeCommitFixed(mem, cpu, zone, pcp, index, order)
}

function freeCommitFloating(mem: Memory, cpu: Cpu, zone: Zone, pcp: PerCpuPages, index: number, order: number): void {
  const batch = pcp.batch
  pcp.allocFactor >>= 1
  let freeHigh = false
  if (order !== 0 && order <= PAGE_ALLOC_COSTLY_ORDER) {
    // Blocks of order 1 to 3 fragment memory when they pile up, so a row of such frees empties the lists.
    freeHigh = pcp.freeCount >= batch + (pcp.highMin >> 1) && pcp.prevFreeHighOrder !== 0
    pcp.prevFreeHighOrder = 1
  } else pcp.prevFreeHighOrder = 0
  if (pcp.freeCount < batch << PCP_BATCH_SCALE_MAX) pcp.freeCount += 1 << order
  const high = nrPcpHigh(pcp, zone, batch, freeHigh)
  if (pcp.count < high) return
  freePcppagesBulk(mem, cpu, zone, pcp, nrPcpFree(pcp, batch, high, freeHigh), index)
  if ((zone.flags & ZONE_BELOW_HIGH) !== 0 && zoneWatermarkOk(zone, 0, zone.wmark[WMARK_HIGH]!, 2, 0))
    setZoneFlags(zone, zone.flags & ~ZONE_BELOW_HIGH)
}

/** Models `nr_pcp_high`: how many pages may stay; the limit follows the pace of frees and the zone's state. */
function nrPcpHigh(pcp: PerCpuPages, zone: Zone, batch: number, freeHigh: boolean): number {
  const high = pcp.high
  if (freeHigh) {
    pcp.high = Math.max(high - (batch << PCP_BATCH_SCALE_MAX), pcp.highMin)
    return 0
  }
  const freed = Math.max(pcp.freeCount, batch)
  if ((zone.flags & ZONE_RECLAIM_ACTIVE) !== 0) {
    pcp.high = Math.max(high - freed, pcp.highMin)
    return Math.min(batch << 2, pcp.high)
  }
  if (pcp.highMin === pcp.highMax) return high
  if ((zone.flags & ZONE_BELOW_HIGH) !== 0) {
    pcp.high = Math.max(high - freed, pcp.highMin)
    return Math.max(pcp.count, pcp.highMin)
  }
  if (pcp.count >= high) {
    const needed = pcp.freeCount + batch
    if (pcp.high < needed) pcp.high = Math.min(Math.max(needed, pcp.highMin), pcp.highMax)
  }
  return high
}

/** Models `nr_pcp_free`: at least a batch goes, and at least a batch stays. */
function nrPcpFree(pcp: PerCpuPages, batch: number, high: number, freeHigh: boolean): number {
  if (freeHigh) return Math.min(pcp.count, batch << PCP_BATCH_SCALE_MAX)
  if (high < batch) return 1
  return Math.min(Math.max(pcp.freeCount, batch), Math.max(high - batch, batch))
}

/** Models `free_unref_page_commit` of 6.1: one limit, and drains that double in a row. */
function freeCommitFixed(mem: Memory, cpu: Cpu, zone: Zone, pcp: PerCpuPages, index: number, order: number): void {
  const freeHigh = pcp.freeCount !== 0 && order !== 0 && order <= PAGE_ALLOC_COSTLY_ORDER
  const limit = (zone.flags & ZONE_RECLAIM_ACTIVE) !== 0 ? Math.min(pcp.batch << 2, pcp.high) : pcp.high
  const high = freeHigh ? 0 : limit
  if (pcp.count < high) return
  let count = pcp.count
  if (!freeHigh) {
    const most = high - pcp.batch
    const batch = pcp.batch << pcp.freeCount
    if (batch < most && pcp.freeCount < PCP_BATCH_SCALE_MAX + 1) pcp.freeCount++
    count = high < pcp.batch ? 1 : Math.min(Math.max(batch, pcp.batch), Math.max(most, pcp.batch))
  }
  freePcppagesBulk(mem, cpu, zone, pcp, count, index)
}

/** Models `free_pcppages_bulk`: gives the coldest pages back, from the list just used and then the others in turn. */
export function freePcppagesBulk(
  mem: Memory,
  cpu: Cpu,
  zone: Zone,
  pcp: PerCpuPages,
  wanted: number,
  firstIndex: number,
): void {
  const pages = mem.pages
  let left = Math.min(wanted, pcp.count)
  let index = firstIndex
  while (left > 0) {
    while (pcpListLength(pcp.lists[index]!) === 0) index = index + 1 === NR_PCP_LISTS ? 0 : index + 1
    const list = pcp.lists[index]!
    const order = pindexToOrder(index)
    do {
      const pfn = pcpListPopCold(list)
      pcp.count -= 1 << order
      left -= 1 << order
      if ((pages.flags[pfn]! & PG_HEAD) !== 0) destroyCompoundPage(mem, pfn, order)
      pages.flags[pfn] = 0
      const type = pfnMigrateType(pages, pfn)
      freeOnePage(pages, zone, pfn, order, false)
      if (mem.trace.mmPagePcpuDrain !== null) mem.trace.mmPagePcpuDrain(cpu, pfn as Pfn, order, type)
    } while (left > 0 && pcpListLength(list) !== 0)
    index = index + 1 === NR_PCP_LISTS ? 0 : index + 1
  }
}

/** Models `drain_all_pages`: every CPU gives back what it keeps. */
export function drainAllPages(mem: Memory, cpu: Cpu): void {
  for (const zone of mem.zones)
    for (const pcp of zone.pcp) if (pcp.count > 0) freePcppagesBulk(mem, cpu, zone, pcp, pcp.count, 0)
}
