/**
 * The page allocator when the CPU's list is empty or memory is short: the pass over the zone list under a
 * watermark, and the order in which an allocation asks for more and more.
 */
import { assert, bug, type Cpu, type Gfp, inHardirq, inServingSoftirq, inSoftirq, NO_PFN, type Pfn } from '@netmem/base'
import { rmqueueSmallest } from './buddy.js'
import { reserveHighatomicPageblock, rmqueueBuddy, unreserveHighatomicPageblock } from './fallback.js'
import { gfpFlagsText } from './gfp.js'
import type { Memory } from './memory.js'
import { PG_PFMEMALLOC } from './pages.js'
import { drainAllPages, orderToPindex, pcpAllowedOrder, pcpRefill } from './pcp.js'
import { pcpListLength, pcpListPop } from './per-cpu-pages.js'
import { prepNewPage } from './prep-page.js'
import {
  ALLOC_HIGHATOMIC,
  ALLOC_KSWAPD,
  ALLOC_MIN_RESERVE,
  ALLOC_NO_WATERMARKS,
  ALLOC_NOFRAGMENT,
  ALLOC_NON_BLOCK,
  ALLOC_OOM,
  ALLOC_WMARK_MASK,
  zoneWatermarkOk,
} from './watermarks.js'
import { setZoneFlags, ZONE_BELOW_HIGH, type Zone } from './zone.js'
import {
  MAX_PAGE_ORDER,
  MIGRATE_HIGHATOMIC,
  type MigrateType,
  PAGE_ALLOC_COSTLY_ORDER,
  WMARK_HIGH,
  WMARK_LOW,
  WMARK_MIN,
  ZONE_DMA32,
  ZONE_NORMAL,
} from './zone-types.js'

/** Models `MAX_RECLAIM_RETRIES`: rounds of reclaim without progress before giving up. */
export const MAX_RECLAIM_RETRIES = 16

/** Models `__alloc_pages`: everything but the fast path. */
export function allocPagesNoFast(mem: Memory, cpu: Cpu, gfp: number, order: number, nid: number, site: string): Pfn {
  if (order > MAX_PAGE_ORDER) {
    if ((gfp & mem.gfp.NOWARN) === 0 && mem.trace.warn !== null)
      mem.trace.warn('__alloc_pages', `order ${order} is above MAX_PAGE_ORDER`)
    return NO_PFN
  }
  if (mem.fault?.shouldFail('page', 4096 << order, gfp, site)) return failed(mem, cpu, gfp, order, site)
  const cls = mem.gfpClass[gfp & 31]!
  const node = nid < 0 ? cpu.node : nid
  const lists = (gfp & mem.gfp.THISNODE) !== 0 ? mem.zonelistsThisNode : mem.zonelists
  const request: Request = {
    mem,
    cpu,
    gfp,
    order,
    zones: lists[(node << 2) | (cls & 3)]!,
    highest: cls & 3,
    type: (cls >> 2) as MigrateType,
  }
  const flags = WMARK_LOW | kswapdFlag(request) | nofragmentFlag(request)
  let pfn = getPageFromFreelist(request, flags)
  if (pfn === NO_PFN) pfn = allocPagesSlowpath(request)
  if (pfn === NO_PFN) return failed(mem, cpu, gfp, order, site)
  if (mem.trace.mmPageAlloc !== null) mem.trace.mmPageAlloc(cpu, pfn, order, gfp as Gfp, request.type, site)
  if (mem.tracker !== null) mem.tracker.pageAlloc(pfn, order, site)
  return pfn
}

/** Models `struct alloc_context`, and what else stays the same during one allocation. */
export interface Request {
  readonly mem: Memory
  readonly cpu: Cpu
  readonly gfp: number
  readonly order: number
  readonly zones: readonly Zone[]
  /** Highest zone that the mask allows. */
  readonly highest: number
  readonly type: MigrateType
}

const kswapdFlag = ({ mem, gfp }: Request): number => ((gfp & mem.gfp.KSWAPD_RECLAIM) !== 0 ? ALLOC_KSWAPD : 0)

/** Models `alloc_flags_nofragment`: rather go to DMA32 than mix page blocks of the NORMAL zone. */
function nofragmentFlag({ mem, zones }: Request): number {
  const first = zones[0]
  if (first === undefined || first.type !== ZONE_NORMAL) return 0
  return mem.nodes[first.node]!.zones[ZONE_DMA32]!.managed > 0 ? ALLOC_NOFRAGMENT : 0
}

/**
 * Models `get_page_from_freelist`: the first zone of the list that keeps its watermark and has the block.
 *
 * @returns a page ready for use, NO_PFN when no zone may give one.
 */
export function getPageFromFreelist(request: Request, allocFlags: number): Pfn {
  const { mem, cpu, gfp, order, zones, highest } = request
  let flags = allocFlags
  for (;;) {
    for (const zone of zones) {
      if ((flags & ALLOC_NOFRAGMENT) !== 0 && zone.node !== zones[0]!.node) break
      if (!zoneAllows(mem, zone, order, highest, flags)) continue
      const pfn = rmqueue(request, zone, flags)
      if (pfn === NO_PFN) continue
      prepNewPage(mem, pfn, order, gfp)
      if ((flags & ALLOC_NO_WATERMARKS) !== 0) mem.pages.flags[pfn]! |= PG_PFMEMALLOC
      if (order !== 0 && (flags & ALLOC_HIGHATOMIC) !== 0) reserveHighatomicPageblock(mem, zone, pfn)
      zone.allocs[order]!++
      const preferred = zones[0]!
      if (zone.node !== preferred.node) {
        zone.numaMiss++
        preferred.numaForeign++
      }
      if (zone.node !== cpu.node) zone.numaOther++
      return pfn
    }
    // Local memory, even mixed up, beats memory of another node; and any memory beats none.
    if ((flags & ALLOC_NOFRAGMENT) === 0) return NO_PFN
    flags &= ~ALLOC_NOFRAGMENT
  }
}

function zoneAllows(mem: Memory, zone: Zone, order: number, highest: number, flags: number): boolean {
  if (zone.managed === 0) return false
  if ((flags & ALLOC_NO_WATERMARKS) !== 0) return true
  if (mem.profile.features.pcpFloatingHigh && (zone.flags & ZONE_BELOW_HIGH) === 0) {
    if (zoneWatermarkOk(zone, order, zone.wmark[WMARK_HIGH]!, highest, flags)) return true
    setZoneFlags(zone, zone.flags | ZONE_BELOW_HIGH)
  }
  return zoneWatermarkOk(zone, order, zone.wmark[flags & ALLOC_WMARK_MASK]!, highest, flags)
}

/** Models `rmqueue`: from the CPU's list, refilled if need be, or straight from the buddy. */
function rmqueue({ mem, cpu, order, type }: Request, zone: Zone, flags: number): Pfn {
  const noFragment = (flags & ALLOC_NOFRAGMENT) !== 0
  if (pcpAllowedOrder(order) && (flags & ALLOC_HIGHATOMIC) === 0) {
    const pcp = zone.pcp[cpu.id]!
    const list = pcp.lists[orderToPindex(type, order)]!
    pcp.freeCount >>= 1
    if (pcpListLength(list) === 0) pcpRefill(mem, cpu, zone, pcp, order, type, noFragment)
    const pfn = pcpListPop(list)
    if (pfn !== 0) {
      pcp.count -= 1 << order
      return pfn as Pfn
    }
  }
  if ((flags & ALLOC_HIGHATOMIC) !== 0) {
    const pfn = rmqueueSmallest(mem, cpu, zone, order, MIGRATE_HIGHATOMIC)
    if (pfn !== NO_PFN) return pfn
  }
  const pfn = rmqueueBuddy(mem, cpu, zone, order, type, noFragment)
  if (pfn !== NO_PFN || (flags & (ALLOC_OOM | ALLOC_NON_BLOCK)) === 0) return pfn
  return rmqueueSmallest(mem, cpu, zone, order, MIGRATE_HIGHATOMIC)
}

/** Models `gfp_to_alloc_flags`: what the mask alone entitles to, beyond the min watermark. */
function gfpToAllocFlags(request: Request): number {
  const { mem, gfp, order } = request
  let flags = WMARK_MIN | kswapdFlag(request)
  if ((gfp & mem.gfp.HIGH) !== 0) flags |= ALLOC_MIN_RESERVE
  // Before 6.3 a bit of its own said "cannot wait"; since then it is the lack of DIRECT_RECLAIM.
  const urgent = mem.profile.features.gfpAtomicBit ? (gfp & mem.gfp.ATOMIC) !== 0 : (gfp & mem.gfp.DIRECT_RECLAIM) === 0
  if (urgent && (gfp & mem.gfp.NOMEMALLOC) === 0) {
    flags |= ALLOC_NON_BLOCK
    if (order > 0 && (flags & ALLOC_MIN_RESERVE) !== 0) flags |= ALLOC_HIGHATOMIC
  }
  return flags
}

/** Models `__gfp_pfmemalloc_flags`: who may go below every watermark, because it will give memory back. */
function pfmemallocFlags(mem: Memory, cpu: Cpu, gfp: number): number {
  if ((gfp & mem.gfp.NOMEMALLOC) !== 0) return 0
  if ((gfp & mem.gfp.MEMALLOC) !== 0) return ALLOC_NO_WATERMARKS
  if (cpu.pfMemalloc === 0) return 0
  const inInterrupt = inHardirq(cpu) || inSoftirq(cpu)
  return inServingSoftirq(cpu) || !inInterrupt ? ALLOC_NO_WATERMARKS : 0
}

/** Models `gfp_pfmemalloc_allowed`: may this caller use a page or slab that came from the reserves? */
export const gfpPfmemallocAllowed = (mem: Memory, cpu: Cpu, gfp: number): boolean =>
  pfmemallocFlags(mem, cpu, gfp) !== 0

/** Models `__alloc_pages_slowpath`: kswapd, the reserves, reclaim, compaction, and at last the OOM killer. */
function allocPagesSlowpath(request: Request): Pfn {
  const { mem, cpu, gfp, order, zones, type } = request
  const canReclaim = (gfp & mem.gfp.DIRECT_RECLAIM) !== 0
  let flags = gfpToAllocFlags(request)
  if ((flags & ALLOC_KSWAPD) !== 0) wakeAllKswapds(mem, zones, order)
  let pfn = getPageFromFreelist(request, flags)
  if (pfn !== NO_PFN) return pfn
  const reserve = pfmemallocFlags(mem, cpu, gfp)
  if (reserve !== 0) {
    flags = reserve | (flags & ALLOC_KSWAPD)
    pfn = getPageFromFreelist(request, flags)
    if (pfn !== NO_PFN) return pfn
  }
  // A task that frees memory must not start to reclaim memory itself.
  if (!canReclaim || cpu.pfMemalloc !== 0) return noPage(request)
  assert(!inHardirq(cpu) && !inServingSoftirq(cpu), 'might_sleep: a mask that may block, in an interrupt')
  mem.vm.allocstall[zones[0]?.type ?? 0]!++
  if (order > 0) mem.vm.compactStall++
  for (let round = 0; round < MAX_RECLAIM_RETRIES; round++) {
    const progress = mem.reclaim === null ? 0 : mem.reclaim(cpu, gfp, order)
    pfn = getPageFromFreelist(request, flags)
    if (pfn !== NO_PFN) return pfn
    // Pages that other CPUs keep to themselves, and blocks kept for urgent callers, are next.
    unreserveHighatomicPageblock(mem, zones, type, false)
    drainAllPages(mem, cpu)
    pfn = getPageFromFreelist(request, flags)
    if (pfn !== NO_PFN) return pfn
    if ((gfp & mem.gfp.NORETRY) !== 0 || (order > PAGE_ALLOC_COSTLY_ORDER && (gfp & mem.gfp.RETRY_MAYFAIL) === 0)) break
    if (progress === 0 && !unreserveHighatomicPageblock(mem, zones, type, true)) break
  }
  if (order > 0) mem.vm.compactFail++
  const mayKill =
    order <= PAGE_ALLOC_COSTLY_ORDER && (gfp & (mem.gfp.NORETRY | mem.gfp.RETRY_MAYFAIL | mem.gfp.THISNODE)) === 0
  while (mayKill && mem.oomKill?.(cpu, gfp, order)) {
    mem.vm.oomKill++
    pfn = getPageFromFreelist(request, flags)
    if (pfn !== NO_PFN) return pfn
  }
  return noPage(request)
}

function noPage({ mem, gfp }: Request): Pfn {
  // The kernel would retry for ever: in one thread that is the end of the run.
  if ((gfp & mem.gfp.NOFAIL) !== 0 && (gfp & mem.gfp.DIRECT_RECLAIM) !== 0)
    bug('__GFP_NOFAIL: out of memory and nothing to reclaim')
  return NO_PFN
}

/** Models `wake_all_kswapds`: one wake-up per node of the list that is short of memory. */
function wakeAllKswapds(mem: Memory, zones: readonly Zone[], order: number): void {
  let last = -1
  for (const zone of zones) {
    if (zone.managed === 0 || zone.node === last) continue
    last = zone.node
    mem.vm.pageoutrun++
    if (mem.kswapd !== null) mem.kswapd(zone.node, order)
  }
}

/** Models `warn_alloc`, then gives up. */
function failed(mem: Memory, _cpu: Cpu, gfp: number, order: number, site: string): Pfn {
  mem.vm.pageAllocFailed++
  if ((gfp & mem.gfp.NOWARN) === 0 && mem.vm.warned < 10) {
    mem.vm.warned++
    if (mem.trace.printk !== null) {
      const mode = `0x${gfp.toString(16)}(${gfpFlagsText(mem.profile.gfp, gfp)})`
      mem.trace.printk(`${site}: page allocation failure: order:${order}, mode:${mode}, nodemask=(null)`)
    }
  }
  return NO_PFN
}
