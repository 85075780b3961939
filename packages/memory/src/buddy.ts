/**
 * The buddy allocator of one zone: free blocks of 2^order pages on a list per order and migrate type.
 * A free block lies on the list of its page block's type; that is what lets a merge and a split find the list.
 */
import { assert, type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import type { Memory } from './memory.js'
import { type Pages, PG_BUDDY, PG_RESERVED } from './pages.js'
import type { Zone } from './zone.js'
import {
  MAX_PAGE_ORDER,
  MIGRATE_HIGHATOMIC,
  MIGRATE_ISOLATE,
  MIGRATE_PCPTYPES,
  MIGRATE_TYPES,
  type MigrateType,
  PAGEBLOCK_ORDER,
} from './zone-types.js'

/** Models `get_pfnblock_migratetype`. */
export const pfnMigrateType = (pages: Pages, pfn: number): MigrateType =>
  (pages.block[pfn >>> PAGEBLOCK_ORDER]! & 7) as MigrateType

/** Models `account_freepages`: isolated pages are on lists but are not free to take. */
function accountFreepages(zone: Zone, count: number, type: MigrateType): void {
  if (type === MIGRATE_ISOLATE) return
  zone.free += count
  if (type === MIGRATE_HIGHATOMIC) zone.freeHighatomic += count
}

/** Models `__add_to_free_list`: `toTail` for blocks that should be taken last. */
export function addToFreeList(
  pages: Pages,
  zone: Zone,
  pfn: number,
  order: number,
  type: MigrateType,
  toTail: boolean,
) {
  const list = order * MIGRATE_TYPES + type
  const first = zone.freeHead[list]!
  if (first === 0) {
    pages.next[pfn] = 0
    pages.prev[pfn] = 0
    zone.freeHead[list] = pfn
    zone.freeTail[list] = pfn
  } else if (toTail) {
    const last = zone.freeTail[list]!
    pages.next[last] = pfn
    pages.prev[pfn] = last
    pages.next[pfn] = 0
    zone.freeTail[list] = pfn
  } else {
    pages.next[pfn] = first
    pages.prev[first] = pfn
    pages.prev[pfn] = 0
    zone.freeHead[list] = pfn
  }
  zone.freeCount[list]!++
  pages.flags[pfn] = PG_BUDDY
  pages.order[pfn] = order
  accountFreepages(zone, 1 << order, type)
}

/** Models `del_page_from_free_list`. */
export function delPageFromFreeList(pages: Pages, zone: Zone, pfn: number, order: number, type: MigrateType): void {
  const list = order * MIGRATE_TYPES + type
  const next = pages.next[pfn]!
  const prev = pages.prev[pfn]!
  if (prev === 0) zone.freeHead[list] = next
  else pages.next[prev] = next
  if (next === 0) zone.freeTail[list] = prev
  else pages.prev[next] = prev
  zone.freeCount[list]!--
  pages.flags[pfn] = 0
  accountFreepages(zone, -(1 << order), type)
}

/** Models `expand`: halves a block until it has `low` order; each upper half goes back to the lists. */
export function expandBlock(pages: Pages, zone: Zone, pfn: number, low: number, high: number, type: MigrateType): void {
  for (let order = high - 1; order >= low; order--) addToFreeList(pages, zone, pfn + (1 << order), order, type, false)
  pages.order[pfn] = low
}

/** Models `__rmqueue_smallest`: the smallest block of this type that is large enough. @returns NO_PFN when there is none. */
export function rmqueueSmallest(mem: Memory, cpu: Cpu, zone: Zone, order: number, type: MigrateType): Pfn {
  const pages = mem.pages
  for (let current = order; current <= MAX_PAGE_ORDER; current++) {
    const pfn = zone.freeHead[current * MIGRATE_TYPES + type]!
    if (pfn === 0) continue
    delPageFromFreeList(pages, zone, pfn, current, type)
    expandBlock(pages, zone, pfn, order, current, type)
    if (mem.trace.mmPageAllocZoneLocked !== null) mem.trace.mmPageAllocZoneLocked(cpu, pfn as Pfn, order, type)
    return pfn as Pfn
  }
  return NO_PFN
}

/** @returns whether the block that starts at `pfn` is free, of that order and in that zone: a buddy to merge with. */
function isFreeBuddy(pages: Pages, zone: Zone, pfn: number, order: number): boolean {
  return (
    pages.flags[pfn] === PG_BUDDY &&
    pages.order[pfn] === order &&
    pages.blockZone[pfn >>> PAGEBLOCK_ORDER] === zone.index
  )
}

/**
 * Models `__free_one_page`: the block merges with its buddy as long as that is free, up to the largest order.
 *
 * @param toTail put it behind the others: it will probably merge soon, or nobody should want it first.
 */
export function freeOnePage(pages: Pages, zone: Zone, pfn: number, order: number, toTail: boolean): void {
  let type = pfnMigrateType(pages, pfn)
  if (__ASSERT__) {
    assert((pfn & ((1 << order) - 1)) === 0, 'a block is aligned to its order')
    assert((pages.flags[pfn]! & (PG_BUDDY | PG_RESERVED)) === 0, 'bad page state: freed while free or reserved')
  }
  let start = pfn
  let size = order
  while (size < MAX_PAGE_ORDER) {
    const buddy = start ^ (1 << size)
    if (!isFreeBuddy(pages, zone, buddy, size)) break
    const buddyType = pfnMigrateType(pages, buddy)
    // Two page blocks of different kinds join only when both kinds are the ordinary ones.
    if (size >= PAGEBLOCK_ORDER && buddyType !== type && (type >= MIGRATE_PCPTYPES || buddyType >= MIGRATE_PCPTYPES))
      break
    delPageFromFreeList(pages, zone, buddy, size, buddyType)
    if (buddyType !== type) changePageblockRange(pages, buddy, size, type)
    start &= buddy
    size++
    type = pfnMigrateType(pages, start)
  }
  addToFreeList(pages, zone, start, size, type, toTail || buddyMergeLikely(pages, zone, start, size))
}

/** Models `buddy_merge_likely`: the block's buddy is in use, but the pair next to them is free as a whole. */
function buddyMergeLikely(pages: Pages, zone: Zone, pfn: number, order: number): boolean {
  if (order >= MAX_PAGE_ORDER - 1) return false
  const higher = pfn & ~(1 << order)
  return isFreeBuddy(pages, zone, higher ^ (1 << (order + 1)), order + 1)
}

/** Models `set_pageblock_migratetype` for every page block that a block of this order covers. */
export function changePageblockRange(pages: Pages, pfn: number, order: number, type: MigrateType): void {
  const first = pfn >>> PAGEBLOCK_ORDER
  const end = first + Math.max(1, 1 << (order - PAGEBLOCK_ORDER))
  for (let block = first; block < end; block++) pages.block[block] = (pages.block[block]! & ~7) | type
}

/** Models `__free_pages_core` at boot: gives `[from, to)` to the zone in the largest aligned blocks, lowest first. */
export function freeRangeAtBoot(pages: Pages, zone: Zone, from: number, to: number): void {
  let pfn = from
  while (pfn < to) {
    let order = MAX_PAGE_ORDER
    while ((pfn & ((1 << order) - 1)) !== 0 || pfn + (1 << order) > to) order--
    addToFreeList(pages, zone, pfn, order, pfnMigrateType(pages, pfn), true)
    zone.managed += 1 << order
    pfn += 1 << order
  }
}
