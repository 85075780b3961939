/**
 * What the buddy does when a zone has no free block of the wanted type: claim a page block of another type,
 * or take a single block from one. And the HIGHATOMIC blocks, kept for callers that can neither wait nor do
 * with single pages.
 *
 * Differs: no watermark boost after a claim (`vm.watermark_boost_factor`); nothing here would end it.
 */
import { type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import {
  addToFreeList,
  changePageblockRange,
  delPageFromFreeList,
  expandBlock,
  pfnMigrateType,
  rmqueueSmallest,
} from './buddy.js'
import type { Memory } from './memory.js'
import { type Pages, PG_BUDDY, PG_LRU } from './pages.js'
import type { Zone } from './zone.js'
import {
  MAX_PAGE_ORDER,
  MIGRATE_HIGHATOMIC,
  MIGRATE_MOVABLE,
  MIGRATE_PCPTYPES,
  MIGRATE_RECLAIMABLE,
  MIGRATE_TYPES,
  MIGRATE_UNMOVABLE,
  type MigrateType,
  PAGEBLOCK_ORDER,
  PAGEBLOCK_PAGES,
} from './zone-types.js'

/** Models `fallbacks`: whose blocks to take, best first. */
export const FALLBACKS: readonly (readonly MigrateType[])[] = [
  [MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE],
  [MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE],
  [MIGRATE_UNMOVABLE, MIGRATE_MOVABLE],
]

/** Models `__rmqueue`: own type, then claim a whole page block, then steal one block unless that would fragment. */
export function rmqueueBuddy(
  mem: Memory,
  cpu: Cpu,
  zone: Zone,
  order: number,
  type: MigrateType,
  noFragment: boolean,
): Pfn {
  const own = rmqueueSmallest(mem, cpu, zone, order, type)
  if (own !== NO_PFN || type >= MIGRATE_PCPTYPES) return own
  const claimed = rmqueueClaim(mem, cpu, zone, order, type, noFragment)
  if (claimed !== NO_PFN || noFragment) return claimed
  return rmqueueSteal(mem, cpu, zone, order, type)
}

/** Models `should_try_claim_block`: whether a block of this order may change the type of its page block. */
function shouldTryClaimBlock(order: number, type: MigrateType): boolean {
  return order >= PAGEBLOCK_ORDER >>> 1 || type === MIGRATE_RECLAIMABLE || type === MIGRATE_UNMOVABLE
}

/** Models `find_suitable_fallback`: the first fallback type with a free block of that order, or -1. */
function findFallback(zone: Zone, order: number, type: MigrateType): MigrateType | -1 {
  for (const other of FALLBACKS[type]!) if (zone.freeHead[order * MIGRATE_TYPES + other] !== 0) return other
  return -1
}

/** Models `__rmqueue_claim`: the largest foreign block first, so that few page blocks end up mixed. */
function rmqueueClaim(mem: Memory, cpu: Cpu, zone: Zone, order: number, type: MigrateType, noFragment: boolean): Pfn {
  const lowest = noFragment && order < PAGEBLOCK_ORDER ? PAGEBLOCK_ORDER : order
  for (let current = MAX_PAGE_ORDER; current >= lowest; current--) {
    if (!shouldTryClaimBlock(current, type)) break
    const other = findFallback(zone, current, type)
    if (other === -1) continue
    const block = zone.freeHead[current * MIGRATE_TYPES + other]! as Pfn
    const pfn = tryToClaimBlock(mem, cpu, zone, block, current, order, type, other)
    if (pfn === NO_PFN) continue
    if (mem.trace.mmPageAllocExtfrag !== null) mem.trace.mmPageAllocExtfrag(cpu, pfn, order, current, type, other)
    return pfn
  }
  return NO_PFN
}

/** Models `try_to_claim_block`: takes over whole page blocks, or one in which at least half is free or of our kind. */
function tryToClaimBlock(
  mem: Memory,
  cpu: Cpu,
  zone: Zone,
  pfn: Pfn,
  current: number,
  order: number,
  type: MigrateType,
  blockType: MigrateType,
): Pfn {
  const pages = mem.pages
  if (current >= PAGEBLOCK_ORDER) {
    delPageFromFreeList(pages, zone, pfn, current, blockType)
    changePageblockRange(pages, pfn, current, type)
    expandBlock(pages, zone, pfn, order, current, type)
    return pfn
  }
  const start = pfn & ~(PAGEBLOCK_PAGES - 1)
  let free = 0
  let movable = 0
  for (let at = start; at < start + PAGEBLOCK_PAGES; ) {
    if (pages.flags[at] === PG_BUDDY) {
      free += 1 << pages.order[at]!
      at += 1 << pages.order[at]!
    } else {
      if (pages.flags[at]! & PG_LRU) movable++
      at++
    }
  }
  // What is neither free nor movable in a movable block is taken to be like us.
  const alike =
    type === MIGRATE_MOVABLE ? movable : blockType === MIGRATE_MOVABLE ? PAGEBLOCK_PAGES - free - movable : 0
  if (free + alike < PAGEBLOCK_PAGES / 2) return NO_PFN
  moveFreepagesBlock(pages, zone, start, type)
  return rmqueueSmallest(mem, cpu, zone, order, type)
}

/** Models `__rmqueue_steal`: the smallest foreign block that will do; its page block keeps its type. */
function rmqueueSteal(mem: Memory, cpu: Cpu, zone: Zone, order: number, type: MigrateType): Pfn {
  for (let current = order; current <= MAX_PAGE_ORDER; current++) {
    const other = findFallback(zone, current, type)
    if (other === -1) continue
    const pfn = zone.freeHead[current * MIGRATE_TYPES + other]! as Pfn
    delPageFromFreeList(mem.pages, zone, pfn, current, other)
    expandBlock(mem.pages, zone, pfn, order, current, other)
    if (mem.trace.mmPageAllocExtfrag !== null) mem.trace.mmPageAllocExtfrag(cpu, pfn, order, current, type, other)
    return pfn
  }
  return NO_PFN
}

/** Models `move_freepages_block`: the page block changes type, and its free blocks change lists. @returns pages moved. */
export function moveFreepagesBlock(pages: Pages, zone: Zone, start: number, type: MigrateType): number {
  const oldType = pfnMigrateType(pages, start)
  let moved = 0
  for (let pfn = start; pfn < start + PAGEBLOCK_PAGES; ) {
    if (pages.flags[pfn] !== PG_BUDDY) {
      pfn++
      continue
    }
    const order = pages.order[pfn]!
    delPageFromFreeList(pages, zone, pfn, order, oldType)
    addToFreeList(pages, zone, pfn, order, type, false)
    if (order > PAGEBLOCK_ORDER) changePageblockRange(pages, pfn, order, type)
    moved += 1 << order
    pfn += 1 << order
  }
  changePageblockRange(pages, start, PAGEBLOCK_ORDER, type)
  return moved
}

/**
 * Models `reserve_highatomic_pageblock`: the block that just served an urgent caller is set aside for the next
 * one, as long as no more than a hundredth of the zone is.
 */
export function reserveHighatomicPageblock(mem: Memory, zone: Zone, pfn: Pfn): void {
  const share = Math.floor(zone.managed / 100)
  if (share < PAGEBLOCK_PAGES) return
  const limit = Math.ceil(share / PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES
  if (zone.nrReservedHighatomic >= limit) return
  if (pfnMigrateType(mem.pages, pfn) >= MIGRATE_PCPTYPES) return
  moveFreepagesBlock(mem.pages, zone, pfn & ~(PAGEBLOCK_PAGES - 1), MIGRATE_HIGHATOMIC)
  zone.nrReservedHighatomic += PAGEBLOCK_PAGES
}

/** Models `unreserve_highatomic_pageblock`: under pressure one reserved page block becomes ordinary. @returns whether one did. */
export function unreserveHighatomicPageblock(mem: Memory, zones: readonly Zone[], type: MigrateType, force: boolean) {
  for (const zone of zones) {
    if (!force && zone.nrReservedHighatomic <= PAGEBLOCK_PAGES) continue
    for (let order = 0; order <= MAX_PAGE_ORDER; order++) {
      const pfn = zone.freeHead[order * MIGRATE_TYPES + MIGRATE_HIGHATOMIC]!
      if (pfn === 0) continue
      zone.nrReservedHighatomic -= Math.min(PAGEBLOCK_PAGES, zone.nrReservedHighatomic)
      if (moveFreepagesBlock(mem.pages, zone, pfn & ~(PAGEBLOCK_PAGES - 1), type) > 0) return true
    }
  }
  return false
}
