/** What /proc/slabinfo, buddyinfo, zoneinfo, pagetypeinfo and vmstat tell about memory, as plain numbers. */

import type { Memory } from './memory.js'
import type { SlabCore } from './slab-core.js'
import type { Zone } from './zone.js'
import {
  MIGRATE_NAMES,
  MIGRATE_TYPES,
  NR_PAGE_ORDERS,
  PAGEBLOCK_ORDER,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  WMARK_PROMO,
  ZONE_NAMES,
} from './zone-types.js'

/** One line of /proc/slabinfo. */
export interface SlabInfo {
  readonly name: string
  /** Objects less those free on node partial lists: free objects of CPU slabs count as active, as in the kernel. */
  readonly activeObjs: number
  readonly numObjs: number
  /** Bytes per object, alignment included. */
  readonly objSize: number
  readonly objPerSlab: number
  readonly pagesPerSlab: number
  readonly numSlabs: number
  readonly usersize: number
  readonly align: number
  /** Largest size asked for. */
  readonly objectSize: number
  /** Names that share it, its own included. */
  readonly aliases: readonly string[]
}

/** Models `get_slabinfo` for every real cache, newest first as /proc/slabinfo lists them. */
export function slabInfo(mem: Memory): SlabInfo[] {
  const lines: SlabInfo[] = []
  for (let id = mem.slabCores.length - 1; id > 0; id--) {
    const core = mem.slabCores[id]!
    if (core !== null) lines.push(slabInfoOf(mem, core))
  }
  return lines
}

function slabInfoOf(mem: Memory, core: SlabCore): SlabInfo {
  const sum = (list: Int32Array): number => list.reduce((a, b) => a + b, 0)
  const numObjs = sum(core.nodeObjects)
  return {
    name: core.name,
    activeObjs: numObjs - freeOnNodeLists(core),
    numObjs,
    objSize: core.size,
    objPerSlab: core.objects,
    pagesPerSlab: 1 << core.order,
    numSlabs: sum(core.nodeSlabs),
    usersize: core.usersize,
    align: core.align,
    objectSize: core.objectSize,
    aliases: mem.kmemCaches.filter((cache) => cache.core === core).map((cache) => cache.name),
  }
}

/** Models `count_partial(count_free)`. */
function freeOnNodeLists(core: SlabCore): number {
  let free = 0
  for (const head of core.nodePartialHead)
    for (let slot = head; slot >= 0; slot = core.slabNext[slot]!) free += core.slabCount[slot]! - core.slabInuse[slot]!
  return free
}

/** Objects of a cache that are really handed out: free ones on CPU lists not counted. */
export function kmemCacheInuse(core: SlabCore): number {
  let used = 0
  for (let slot = 0; slot < core.slots; slot++) if (core.slabState[slot] !== 0) used += core.slabInuse[slot]!
  for (let cpu = 0; cpu < core.cpus.length; cpu++)
    for (let obj = core.cpus[cpu]!.freelist; obj >= 0; obj = core.next[obj]!) used--
  return used
}

/** One line of /proc/buddyinfo. */
export interface BuddyInfo {
  readonly node: number
  readonly zone: string
  /** Free blocks by order. */
  readonly free: readonly number[]
}

/** Models /proc/buddyinfo: populated zones in order. */
export function buddyInfo(mem: Memory): BuddyInfo[] {
  return populated(mem).map((zone) => ({
    node: zone.node,
    zone: ZONE_NAMES[zone.type],
    free: Array.from({ length: NR_PAGE_ORDERS }, (_, order) =>
      MIGRATE_NAMES.reduce((sum, _name, type) => sum + zone.freeCount[order * MIGRATE_TYPES + type]!, 0),
    ),
  }))
}

const populated = (mem: Memory): Zone[] => mem.zones.filter((zone) => zone.managed > 0)

/** One zone of /proc/zoneinfo; pages. */
export interface ZoneInfo {
  readonly node: number
  readonly zone: string
  readonly free: number
  readonly min: number
  readonly low: number
  readonly high: number
  readonly promo: number
  readonly spanned: number
  readonly present: number
  readonly managed: number
  readonly startPfn: number
  /** By highest zone: DMA, DMA32, Normal. */
  readonly protection: readonly number[]
  readonly nrFreeHighatomic: number
  readonly pagesets: readonly {
    readonly cpu: number
    readonly count: number
    readonly high: number
    readonly batch: number
    readonly highMin: number
    readonly highMax: number
  }[]
  readonly numa: NumaStats
  /** Free blocks by type name and order, as /proc/pagetypeinfo has them. */
  readonly types: Readonly<Record<string, readonly number[]>>
  /** Page blocks by type name, free or not. */
  readonly blocks: Readonly<Record<string, number>>
}

/** Models the `numa_*` counters of /proc/vmstat and zoneinfo; blocks. */
export interface NumaStats {
  readonly hit: number
  readonly miss: number
  readonly foreign: number
  readonly local: number
  readonly other: number
}

/** Blocks handed out, or taken back, since boot by order. */
function blocksByOrder(zone: Zone, which: 'allocs' | 'frees'): number[] {
  const blocks = [...zone[which]]
  for (const pcp of zone.pcp) blocks[0]! += pcp[which]
  return blocks
}

function numaStats(zone: Zone): NumaStats {
  const blocks = blocksByOrder(zone, 'allocs').reduce((sum, count) => sum + count, 0)
  return {
    hit: blocks - zone.numaMiss,
    miss: zone.numaMiss,
    foreign: zone.numaForeign,
    local: blocks - zone.numaOther,
    other: zone.numaOther,
  }
}

/** Models `zoneinfo_show_print`: populated zones in order. */
export function zoneInfo(mem: Memory): ZoneInfo[] {
  return populated(mem).map((zone) => ({
    node: zone.node,
    zone: ZONE_NAMES[zone.type],
    free: zone.free,
    min: zone.wmark[WMARK_MIN]!,
    low: zone.wmark[WMARK_LOW]!,
    high: zone.wmark[WMARK_HIGH]!,
    promo: zone.wmark[WMARK_PROMO]!,
    spanned: zone.endPfn - zone.startPfn,
    present: zone.endPfn - zone.startPfn,
    managed: zone.managed,
    startPfn: zone.startPfn,
    protection: [...zone.lowmemReserve],
    nrFreeHighatomic: zone.freeHighatomic,
    pagesets: zone.pcp.map(({ count, high, batch, highMin, highMax }, cpu) => ({
      cpu,
      count,
      high,
      batch,
      highMin,
      highMax,
    })),
    numa: numaStats(zone),
    types: Object.fromEntries(
      MIGRATE_NAMES.map((name, type) => [
        name,
        Array.from({ length: NR_PAGE_ORDERS }, (_, order) => zone.freeCount[order * MIGRATE_TYPES + type]!),
      ]),
    ),
    blocks: pageblocksByType(mem, zone),
  }))
}

/** Models `pagetypeinfo_showblockcount_print`: what each page block of a zone is for. */
function pageblocksByType(mem: Memory, zone: Zone): Record<string, number> {
  const counts = new Array<number>(MIGRATE_TYPES).fill(0)
  for (let block = zone.startPfn >>> PAGEBLOCK_ORDER; block << PAGEBLOCK_ORDER < zone.endPfn; block++)
    counts[mem.pages.block[block]! & 7]! += 1
  return Object.fromEntries(MIGRATE_NAMES.map((name, type) => [name, counts[type]!]))
}

/** Models `nr_free_pages`. */
export const nrFreePages = (mem: Memory): number => mem.zones.reduce((sum, zone) => sum + zone.free, 0)

/** Pages that rest on per-CPU lists. */
export const nrPcpPages = (mem: Memory): number =>
  mem.zones.reduce((sum, zone) => sum + zone.pcp.reduce((pages, pcp) => pages + pcp.count, 0), 0)

/** Models `totalram_pages`: pages the allocator manages. */
export const totalramPages = (mem: Memory): number => mem.zones.reduce((sum, zone) => sum + zone.managed, 0)

/** Models `nr_free_buffer_pages`: managed pages above the high watermarks; TCP and UDP size their limits by it. */
export const nrFreeBufferPages = (mem: Memory): number =>
  mem.zones.reduce((sum, zone) => sum + Math.max(0, zone.managed - zone.wmark[WMARK_HIGH]!), 0)

/** Models the lines of /proc/vmstat that this package keeps, under the kernel's names. */
export function vmStat(mem: Memory): Record<string, number> {
  const stat: Record<string, number> = { nr_free_pages: nrFreePages(mem) }
  const names = ['dma', 'dma32', 'normal'] as const
  const pagesOf = (blocks: number[]): number => blocks.reduce((sum, count, order) => sum + count * 2 ** order, 0)
  const numa = { hit: 0, miss: 0, foreign: 0, local: 0, other: 0 }
  for (const name of names) stat[`pgalloc_${name}`] = 0
  let pgfree = 0
  for (const zone of mem.zones) {
    stat[`pgalloc_${names[zone.type]}`]! += pagesOf(blocksByOrder(zone, 'allocs'))
    pgfree += pagesOf(blocksByOrder(zone, 'frees'))
    for (const [key, value] of Object.entries(numaStats(zone))) numa[key as keyof NumaStats] += value
  }
  let reclaimable = 0
  let unreclaimable = 0
  for (const core of mem.slabCores) {
    if (core === null) continue
    let pages = 0
    for (let slot = 0; slot < core.slots; slot++) if (core.slabState[slot] !== 0) pages += 1 << core.slabOrder[slot]!
    if (core.allocGfp & mem.gfp.RECLAIMABLE) reclaimable += pages
    else unreclaimable += pages
  }
  stat.nr_slab_reclaimable = reclaimable
  stat.nr_slab_unreclaimable = unreclaimable
  stat.pgfree = pgfree
  for (const [name, value] of Object.entries(numa)) stat[`numa_${name}`] = value
  for (const [type, name] of names.entries()) stat[`allocstall_${name}`] = mem.vm.allocstall[type]!
  stat.pageoutrun = mem.vm.pageoutrun
  stat.compact_stall = mem.vm.compactStall
  stat.compact_fail = mem.vm.compactFail
  stat.oom_kill = mem.vm.oomKill
  return stat
}
