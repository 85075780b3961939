/** /proc/zoneinfo, pagetypeinfo and vmstat: zones with their marks and lists, and what was counted in all. */
import { vmStat, type ZoneInfo, zoneInfo } from '@netmem/memory'
import type { Kernel } from '../kernel.js'
import { NODE_ITEMS, NUMA_ITEMS, VM_EVENTS, vmNames, ZONE_ITEMS } from './vm-names.js'

const PAGEBLOCK_ORDER = 9
const NR_PAGE_ORDERS = 11
/** Models `MIGRATE_TYPES` by their names, in the order of their numbers. */
const TYPES = ['Unmovable', 'Movable', 'Reclaimable', 'HighAtomic', 'Isolate']
/** What an empty zone of movable pages has as its marks: `SWAP_CLUSTER_MAX`. */
const MOVABLE_MARK = 32

const item = (name: string, value: number): string => `      ${name.padEnd(12)} ${value}\n`
const watermark = (name: string, value: number): string => `        ${name.padEnd(8)} ${value}\n`

/** Pages in free blocks that are whole page blocks (`NR_FREE_PAGES_BLOCKS`). */
function freeInBlocks(zone: ZoneInfo): number {
  let pages = 0
  for (const free of Object.values(zone.types))
    for (let order = PAGEBLOCK_ORDER; order < NR_PAGE_ORDERS; order++) pages += (free[order] ?? 0) * 2 ** order
  return pages
}

const fls = (value: number): number => 32 - Math.clz32(value)

/** Models `calculate_normal_threshold` (mm/vmstat.c). */
const statThreshold = (cpus: number, managed: number): number => Math.min(125, 2 * fls(cpus) * (1 + fls(managed >> 15)))

function marks(kernel: Kernel, zone: ZoneInfo): string {
  const young = kernel.profile.features.pcpFloatingHigh
  return (
    `  pages free     ${zone.free}\n` +
    watermark('boost', 0) +
    watermark('min', zone.min) +
    watermark('low', zone.low) +
    watermark('high', zone.high) +
    (young ? watermark('promo', zone.promo) : '') +
    watermark('spanned', zone.spanned) +
    watermark('present', zone.present) +
    watermark('managed', zone.managed) +
    watermark('cma', 0) +
    `        protection: (${[...zone.protection, ...EMPTY].slice(0, EMPTY.length).join(', ')})\n`
  )
}

// DMA, DMA32, Normal, Movable, Device.
const EMPTY = [0, 0, 0, 0, 0]

function pagesets(kernel: Kernel, zone: ZoneInfo): string {
  const threshold = statThreshold(kernel.cpus.length, zone.managed)
  const young = kernel.profile.features.pcpFloatingHigh
  return zone.pagesets
    .map(
      ({ cpu, count, high, batch, highMin, highMax }) =>
        `    cpu: ${cpu}\n              count:    ${count}\n              high:     ${high}\n` +
        `              batch:    ${batch}\n` +
        (young ? `              high_min: ${highMin}\n              high_max: ${highMax}\n` : '') +
        `  vm stats threshold: ${threshold}\n`,
    )
    .join('')
}

const head = (node: number, zone: string): string => `Node ${node}, zone ${zone.padStart(8)}\n`

/** A zone without pages has its marks only. */
const emptyZone = (kernel: Kernel, node: number, name: string, mark: number): string =>
  head(node, name) +
  marks(kernel, {
    ...({ free: 0, spanned: 0, present: 0, managed: 0, protection: [] } as unknown as ZoneInfo),
    min: mark,
    low: mark,
    high: mark,
    promo: mark,
  })

/**
 * Models `zoneinfo_show` (mm/vmstat.c). Differs: slab pages are all shown with the first node.
 *
 * @returns the text of /proc/zoneinfo; pages.
 */
export function zoneinfoShow(kernel: Kernel): string {
  const stat = vmStat(kernel.mem)
  const { profile } = kernel
  let node = -1
  let text = ''
  const zones = zoneInfo(kernel.mem)
  for (const [at, zone] of zones.entries()) {
    text += head(zone.node, zone.zone)
    if (zone.node !== node) {
      node = zone.node
      text += '  per-node stats\n'
      for (const name of vmNames(profile, NODE_ITEMS)) text += item(name, node === 0 ? (stat[name] ?? 0) : 0)
    }
    text += marks(kernel, zone)
    const numa = { ...zone.numa, interleave: 0 }
    for (const name of vmNames(profile, ZONE_ITEMS)) text += item(name, zoneItem(zone, name))
    for (const name of NUMA_ITEMS) text += item(name, numa[name.slice('numa_'.length) as keyof typeof numa])
    text += `  pagesets\n${pagesets(kernel, zone)}  node_unreclaimable:  0\n  start_pfn:           ${zone.startPfn}\n`
    if (zones[at + 1]?.node === zone.node) continue
    text += emptyZone(kernel, node, 'Movable', MOVABLE_MARK) + emptyZone(kernel, node, 'Device', 0)
  }
  return text
}

function zoneItem(zone: ZoneInfo, name: string): number {
  if (name === 'nr_free_pages') return zone.free
  return name === 'nr_free_pages_blocks' ? freeInBlocks(zone) : 0
}

/** Models `pagetypeinfo_show` (mm/vmstat.c). @returns the text of /proc/pagetypeinfo. */
export function pagetypeinfoShow(kernel: Kernel): string {
  const zones = zoneInfo(kernel.mem)
  const orders = Array.from({ length: NR_PAGE_ORDERS }, (_, order) => `${String(order).padStart(6)} `).join('')
  const free = zones.flatMap((zone) =>
    TYPES.map((type) => {
      const counts = Array.from(
        { length: NR_PAGE_ORDERS },
        (_, order) => `${String(zone.types[type]?.[order] ?? 0).padStart(6)} `,
      )
      return (
        `Node ${String(zone.node).padStart(4)}, zone ${zone.zone.padStart(8)}, type ${type.padStart(12)} ` +
        `${counts.join('')}\n`
      )
    }),
  )
  const blocks = zones.map((zone) => {
    const counts = TYPES.map((type) => `${String(zone.blocks[type] ?? 0).padStart(12)} `)
    return `Node ${zone.node}, zone ${zone.zone.padStart(8)} ${counts.join('')}\n`
  })
  return (
    `Page block order: ${PAGEBLOCK_ORDER}\nPages per block:  ${2 ** PAGEBLOCK_ORDER}\n\n` +
    `${'Free pages count per migrate type at order'.padEnd(44)}${orders}\n${free.join('')}\n` +
    `${'Number of blocks type'.padEnd(23)}${TYPES.map((type) => `${type.padStart(12)} `).join('')}\n${blocks.join('')}`
  )
}

/** Models `vmstat_show` (mm/vmstat.c). Differs: what the model does not count stands at 0. @returns the text of /proc/vmstat. */
export function vmstatShow(kernel: Kernel): string {
  const { profile } = kernel
  const zones = zoneInfo(kernel.mem)
  const stat: Record<string, number> = {
    ...vmStat(kernel.mem),
    nr_free_pages_blocks: zones.reduce((sum, zone) => sum + freeInBlocks(zone), 0),
  }
  return [...ZONE_ITEMS, ...NUMA_ITEMS, ...NODE_ITEMS, ...VM_EVENTS]
    .filter((name) => vmNames(profile, [name]).length > 0)
    .map((name) => `${name} ${stat[name] ?? 0}\n`)
    .join('')
}
