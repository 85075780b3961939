/** Many single pages in one call, as page pools and ring refills take them. */
import { type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages } from './alloc-pages.js'
import type { Memory } from './memory.js'
import { pcpRefill } from './pcp.js'
import { pcpListLength, pcpListPop } from './per-cpu-pages.js'
import { prepNewPage } from './prep-page.js'
import { zoneWatermarkOk } from './watermarks.js'
import type { Zone } from './zone.js'
import { type MigrateType, WMARK_LOW } from './zone-types.js'

/**
 * Models `alloc_pages_bulk` (mm/page_alloc.c): fills the empty (0) slots `out[at .. at+n)` with single pages.
 *
 * Pages come from one zone, the first that stays above its low watermark with all of them gone; only when not
 * a single page could be had, one more attempt is made the ordinary way.
 *
 * @returns how many slots are filled, those that were filled before included.
 */
export function allocPagesBulk(
  mem: Memory,
  cpu: Cpu,
  gfp: number,
  nid: number,
  n: number,
  out: Int32Array,
  at: number,
  site: string,
): number {
  let populated = 0
  while (populated < n && out[at + populated] !== 0) populated++
  if (populated === n) return n
  const injected = mem.fault?.shouldFail('page', 4096 * (n - populated), gfp, site) ?? false
  // With one slot to fill the single allocator is as good, and it tries harder.
  const cls = mem.gfpClass[gfp & 31]!
  const node = nid < 0 ? cpu.node : nid
  const zone = injected || n - populated === 1 ? null : bulkZone(mem, node, cls & 3, n - populated, gfp)
  if (zone === null) {
    const pfn = injected ? NO_PFN : allocPages(mem, cpu, gfp, 0, nid, site)
    if (pfn === NO_PFN) return populated
    out[at + populated] = pfn
    return populated + 1
  }
  return fillFromZone(mem, cpu, zone, node, gfp, (cls >> 2) as MigrateType, n, out, at, site, populated)
}

/** The first zone of the preferred node (any node when that has none) that can give `count` pages and stay above its mark. */
function bulkZone(mem: Memory, node: number, highest: number, count: number, gfp: number): Zone | null {
  const lists = (gfp & mem.gfp.THISNODE) !== 0 ? mem.zonelistsThisNode : mem.zonelists
  const zones = lists[(node << 2) | highest]!
  for (const zone of zones) {
    // Leaving the node is a job for the single allocator.
    if (zone.node !== zones[0]!.node) return null
    if (zone.managed > 0 && zoneWatermarkOk(zone, 0, zone.wmark[WMARK_LOW]! + count, highest, 0)) return zone
  }
  return null
}

function fillFromZone(
  mem: Memory,
  cpu: Cpu,
  zone: Zone,
  node: number,
  gfp: number,
  type: MigrateType,
  n: number,
  out: Int32Array,
  at: number,
  site: string,
  first: number,
): number {
  const pcp = zone.pcp[cpu.id]!
  const list = pcp.lists[type]!
  let filled = first
  let taken = 0
  for (let slot = first; slot < n; slot++) {
    if (out[at + slot] !== 0) {
      filled++
      continue
    }
    if (pcpListLength(list) === 0 && pcpRefill(mem, cpu, zone, pcp, 0, type, false) === 0) break
    const pfn = pcpListPop(list) as Pfn
    pcp.count--
    // No `mm_page_alloc` event: the kernel's bulk path has none.
    prepNewPage(mem, pfn, 0, gfp)
    if (mem.tracker !== null) mem.tracker.pageAlloc(pfn, 0, site)
    out[at + slot] = pfn
    filled++
    taken++
  }
  zone.allocs[0]! += taken
  if (zone.node !== cpu.node) zone.numaOther += taken
  if (zone.node !== node) zone.numaMiss += taken
  if (taken > 0) return filled
  const pfn = allocPages(mem, cpu, gfp, 0, -1, site)
  if (pfn === NO_PFN) return filled
  let slot = first
  while (out[at + slot] !== 0) slot++
  out[at + slot] = pfn
  return filled + 1
}
