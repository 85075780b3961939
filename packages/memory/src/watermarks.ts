/**
 * How much memory a zone keeps back, and for whom. The marks are computed once at boot from the zones' sizes;
 * `zoneWatermarkOk` is the question every allocation asks.
 */
import { PerCpuPages } from './per-cpu-pages.js'
import type { Zone } from './zone.js'
import {
  MAX_PAGE_ORDER,
  MIGRATE_HIGHATOMIC,
  MIGRATE_PCPTYPES,
  MIGRATE_TYPES,
  PAGEBLOCK_PAGES,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  WMARK_PROMO,
} from './zone-types.js'

/** Models `ALLOC_WMARK_MASK`: which mark an allocation must respect is its lowest bits. */
export const ALLOC_WMARK_MASK = 3
/** Models `ALLOC_NO_WATERMARKS`: may take the last page. */
export const ALLOC_NO_WATERMARKS = 4
/** Models `ALLOC_OOM`: a task that is being killed. */
export const ALLOC_OOM = 8
/** Models `ALLOC_NON_BLOCK` (`ALLOC_HARDER` in 6.1): cannot wait. */
export const ALLOC_NON_BLOCK = 0x10
/** Models `ALLOC_MIN_RESERVE` (`ALLOC_HIGH` in 6.1): `__GFP_HIGH`. */
export const ALLOC_MIN_RESERVE = 0x20
/** Models `ALLOC_NOFRAGMENT`. */
export const ALLOC_NOFRAGMENT = 0x100
/** Models `ALLOC_HIGHATOMIC`: may use the blocks set aside for urgent large allocations. */
export const ALLOC_HIGHATOMIC = 0x200
/** Models `ALLOC_KSWAPD`. */
export const ALLOC_KSWAPD = 0x800
const ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM

/**
 * Models `__zone_watermark_ok`: would the zone keep more than its mark after this allocation, and has it a
 * block of that order in a usable list?
 *
 * @param mark pages; halved, and so on, for those who may dig into the reserve.
 * @param highestZone the highest zone that the caller could have used: lower zones are kept from such callers.
 */
export function zoneWatermarkOk(
  zone: Zone,
  order: number,
  mark: number,
  highestZone: number,
  allocFlags: number,
): boolean {
  const entitled = (allocFlags & ALLOC_RESERVES) !== 0
  // HIGHATOMIC blocks do not count for those who may not have them, nor do the pages that this block takes.
  const usable = zone.free - ((1 << order) - 1) - (entitled ? 0 : zone.freeHighatomic)
  let min = mark
  if (entitled) {
    if (allocFlags & ALLOC_MIN_RESERVE) {
      min -= min >> 1
      if (allocFlags & ALLOC_NON_BLOCK) min -= min >> 2
    }
    if (allocFlags & ALLOC_OOM) min -= min >> 1
  }
  if (usable <= min + zone.lowmemReserve[highestZone]!) return false
  if (order === 0) return true
  for (let current = order; current <= MAX_PAGE_ORDER; current++) {
    const list = current * MIGRATE_TYPES
    for (let type = 0; type < MIGRATE_PCPTYPES; type++) if (zone.freeHead[list + type] !== 0) return true
    if (allocFlags & (ALLOC_HIGHATOMIC | ALLOC_OOM) && zone.freeHead[list + MIGRATE_HIGHATOMIC] !== 0) return true
  }
  return false
}

/** Models `int_sqrt`. */
const intSqrt = (x: number): number => Math.floor(Math.sqrt(x))

/**
 * Models `calculate_min_free_kbytes`, and `set_recommended_min_free_kbytes` that huge pages bring with them on
 * machines of 512 MiB and more.
 *
 * @returns kibibytes, `vm.min_free_kbytes` by default.
 */
export function minFreeKbytesDefault(zones: readonly Zone[], hugePages: boolean): number {
  const managed = zones.reduce((sum, zone) => sum + zone.managed, 0)
  let kbytes = Math.min(Math.max(intSqrt(managed * 4 * 16), 128), 262144)
  if (hugePages && managed >= 131072) {
    const populated = zones.filter((zone) => zone.managed > 0).length
    // Room in each zone for a free block of every type, next to blocks of every other type.
    const pages = PAGEBLOCK_PAGES * populated * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    kbytes = Math.max(kbytes, Math.min(pages, Math.floor(managed / 20)) * 4)
  }
  return kbytes
}

/** Models `setup_per_zone_wmarks`: each zone's share of `minFreeKbytes` by size, and steps above it. */
export function setupPerZoneWmarks(zones: readonly Zone[], minFreeKbytes: number, scaleFactor: number): void {
  const lowmem = zones.reduce((sum, zone) => sum + zone.managed, 0)
  for (const zone of zones) {
    const min = Math.floor(((minFreeKbytes >> 2) * zone.managed) / Math.max(1, lowmem))
    const step = Math.max(min >> 2, Math.floor((zone.managed * scaleFactor) / 10000))
    zone.wmark[WMARK_MIN] = min
    zone.wmark[WMARK_LOW] = min + step
    zone.wmark[WMARK_HIGH] = min + 2 * step
    zone.wmark[WMARK_PROMO] = min + 3 * step
    zone.quickMark = zone.wmark[WMARK_HIGH]! + Math.max(...zone.lowmemReserve)
  }
}

/**
 * Models `setup_per_zone_lowmem_reserve`: a caller who could use a higher zone leaves a part of its size in
 * the lower ones.
 *
 * @param zones one node's zones, lowest first.
 * @param ratio `vm.lowmem_reserve_ratio`.
 */
export function setupPerZoneLowmemReserve(zones: readonly Zone[], ratio: readonly number[]): void {
  for (const zone of zones) {
    let above = 0
    for (const higher of zones) {
      if (higher.type <= zone.type) continue
      above += higher.managed
      const share = ratio[zone.type]!
      zone.lowmemReserve[higher.type] = share === 0 || zone.managed === 0 ? 0 : Math.floor(above / share)
    }
  }
}

/** Models `CONFIG_PCP_BATCH_SCALE_MAX`: refills and drains grow to this many doublings of the batch. */
export const PCP_BATCH_SCALE_MAX = 5

const rounddownPow2 = (x: number): number => 2 ** (31 - Math.clz32(x))

/** Models `zone_batchsize`: pages moved at once between the buddy and a CPU's lists. */
export function zoneBatchsize(managed: number): number {
  const share = Math.max(1, Math.min(managed >> 10, 256) >> 2)
  return Math.max(1, rounddownPow2(share + (share >> 1)) - 1)
}

/** Models `zone_set_pageset_high_and_batch`. @param cpusOfNode CPUs that the zone's pages are shared by, at least 1. */
export function perCpuPages(zone: Zone, cpusOfNode: number, floatingHigh: boolean): PerCpuPages {
  const batch = zoneBatchsize(zone.managed)
  const atLeast = (pages: number): number => Math.max(Math.floor(pages / Math.max(1, cpusOfNode)), batch << 2)
  const highMin = atLeast(zone.wmark[WMARK_LOW]!)
  return new PerCpuPages(
    zone,
    batch,
    highMin,
    floatingHigh ? Math.max(highMin, atLeast(zone.managed >> 3)) : highMin,
    floatingHigh,
    floatingHigh ? batch << PCP_BATCH_SCALE_MAX : 0,
  )
}
