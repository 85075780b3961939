/** Makes a machine's memory: lays out nodes and zones, fills the free lists, computes the marks, makes the caches. */
import { bootCaches } from './boot-caches.js'
import { freeRangeAtBoot } from './buddy.js'
import { GfpMasks, gfpClassTable } from './gfp.js'
import { Memory, type MemoryParams } from './memory.js'
import { Pages, PG_RESERVED } from './pages.js'
import { VmEvents } from './vm-events.js'
import { minFreeKbytesDefault, perCpuPages, setupPerZoneLowmemReserve, setupPerZoneWmarks } from './watermarks.js'
import { type NumaNode, Zone } from './zone.js'
import {
  MAX_NR_ZONES,
  MIGRATE_MOVABLE,
  PAGE_SIZE,
  PAGEBLOCK_ORDER,
  ZONE_DMA,
  ZONE_DMA32,
  ZONE_NORMAL,
  type ZoneType,
} from './zone-types.js'

const BLOCK_BYTES = 4 << 20
const MIB = 1 << 20

/**
 * Makes the memory of one machine.
 *
 * Frame 0 is reserved so that address 0 can be `NULL`, and the last frame so that the end of a block never
 * wraps to 0. Everything else is free, and every page block movable, as after boot.
 *
 * @throws RangeError when a parameter makes no sense.
 */
export function memoryCreate(params: MemoryParams): Memory {
  checkParams(params)
  const frames = Math.floor(params.bytes / PAGE_SIZE)
  const pages = new Pages(Math.ceil(frames / 1024) * 1024)
  const nodeCount = params.nodes ?? 1
  const limits = zoneLimits(params)
  const zones: Zone[] = []
  const nodes: NumaNode[] = []
  const nodeFrames = Math.ceil(frames / nodeCount / 1024) * 1024
  for (let id = 0; id < nodeCount; id++) {
    const from = Math.min(id * nodeFrames, frames)
    const to = Math.min(from + nodeFrames, frames)
    const own = ([ZONE_DMA, ZONE_DMA32, ZONE_NORMAL] as ZoneType[]).map(
      (type, at) =>
        new Zone(id * MAX_NR_ZONES + at, id, type, clamp(limits[type]!, from, to), clamp(limits[type + 1]!, from, to)),
    )
    zones.push(...own)
    const cpus = Array.from({ length: params.cpus }, (_, cpu) => cpu).filter(
      (cpu) => Math.floor((cpu * nodeCount) / params.cpus) === id,
    )
    nodes.push({ id, zones: own, cpus })
  }
  fillZones(pages, zones, frames)
  const { ratio, scale } = vmSysctls(params)
  for (const node of nodes) setupPerZoneLowmemReserve(node.zones, ratio)
  const minFreeKbytes = minFreeKbytesDefault(zones, params.profile.config.TRANSPARENT_HUGEPAGE === 'y')
  setupPerZoneWmarks(zones, minFreeKbytes, scale)
  const floating = params.profile.features.pcpFloatingHigh
  for (const zone of zones)
    zone.pcp = Array.from({ length: params.cpus }, () =>
      perCpuPages(zone, nodes[zone.node]!.cpus.length || params.cpus, floating),
    )
  const gfp = new GfpMasks(params.profile.gfp)
  const lists = zonelists(nodes, false)
  const listsThisNode = zonelists(nodes, true)
  const mem = new Memory(params, gfp, gfpClassTable(gfp), pages, zones, nodes, lists, listsThisNode, new VmEvents())
  mem.minFreeKbytes = minFreeKbytes
  mem.watermarkScaleFactor = scale
  bootCaches(mem)
  return mem
}

const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high)

function checkParams({ profile, bytes, cpus, nodes = 1 }: MemoryParams): void {
  if (profile.page_size !== PAGE_SIZE)
    throw new RangeError(`memory: page size ${profile.page_size} must be ${PAGE_SIZE}`)
  if (!Number.isInteger(bytes) || bytes % PAGE_SIZE !== 0 || bytes < MIB || bytes > 2 ** 32)
    throw new RangeError(`memory: ${bytes} bytes must be whole pages, from 1 MiB to 4 GiB`)
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 256) throw new RangeError(`memory: ${cpus} CPUs must be 1 to 256`)
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 8) throw new RangeError(`memory: ${nodes} nodes must be 1 to 8`)
  if (nodes > 1 && bytes / nodes < BLOCK_BYTES) throw new RangeError(`memory: ${nodes} nodes need 4 MiB each`)
}

/**
 * Frame numbers where the zones begin and end.
 *
 * Differs: with at most 4 GiB a real x86-64 machine would have no NORMAL zone at all. To keep the order of
 * zones, reserves and fallbacks in play, DMA ends at 16 MiB or a sixteenth of memory, DMA32 at a quarter.
 */
function zoneLimits({ bytes, zoneEnds }: MemoryParams): number[] {
  const align = (x: number): number => Math.ceil(x / BLOCK_BYTES) * 1024
  const dma = align(zoneEnds?.dma ?? Math.min(16 * MIB, bytes / 16))
  const dma32 = Math.max(dma, align(zoneEnds?.dma32 ?? bytes / 4))
  return [0, dma, dma32, Number.MAX_SAFE_INTEGER]
}

function fillZones(pages: Pages, zones: readonly Zone[], frames: number): void {
  pages.block.fill(MIGRATE_MOVABLE)
  for (const reserved of [0, frames - 1]) {
    pages.flags[reserved] = PG_RESERVED
    pages.refcount[reserved] = 1
  }
  for (let pfn = frames; pfn < pages.count; pfn++) pages.flags[pfn] = PG_RESERVED
  for (const zone of zones) {
    if (zone.endPfn === zone.startPfn) continue
    const first = zone.startPfn >>> PAGEBLOCK_ORDER
    const end = Math.ceil(zone.endPfn / 512)
    pages.blockZone.fill(zone.index, first, end)
    pages.block.fill((zone.index << 3) | MIGRATE_MOVABLE, first, end)
    freeRangeAtBoot(pages, zone, Math.max(zone.startPfn, 1), Math.min(zone.endPfn, frames - 1))
  }
}

/** Models the `vm.*` sysctls that shape zones; a profile may set them. */
function vmSysctls({ profile }: MemoryParams): { ratio: number[]; scale: number } {
  const numbers = (name: string): number[] | undefined => profile.sysctl[name]?.trim().split(/\s+/).map(Number)
  return {
    ratio: numbers('vm.lowmem_reserve_ratio') ?? [256, 256, 32],
    scale: numbers('vm.watermark_scale_factor')?.[0] ?? 10,
  }
}

/** Models `build_zonelists`: own node first, then the following ones; within a node the highest zone first. */
function zonelists(nodes: readonly NumaNode[], thisNode: boolean): Zone[][] {
  const lists: Zone[][] = []
  for (const { id } of nodes)
    for (let highest = 0; highest < 4; highest++) {
      const order = thisNode ? [id] : nodes.map((_, step) => (id + step) % nodes.length)
      const list = order.flatMap((node) => nodes[node]!.zones.filter((zone) => zone.type <= highest).reverse())
      const populated = list.filter((zone) => zone.managed > 0)
      // The fast path reads the first entry without asking whether there is one.
      lists[id * 4 + highest] = populated.length > 0 ? populated : list
    }
  return lists
}
