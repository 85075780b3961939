/**
 * A zone, its free lists, its watermarks and its per-CPU lists. Data only: `buddy.ts` and `pcp.ts` change
 * the lists, `watermarks.ts` fills in the marks.
 *
 * Invariant: `managed` = `free` + pages on the per-CPU lists + pages handed out.
 */
import type { PerCpuPages } from './per-cpu-pages.js'
import { MIGRATE_TYPES, NR_PAGE_ORDERS, type ZoneType } from './zone-types.js'

/** Models `ZONE_BELOW_HIGH`: free pages fell below the high watermark. */
export const ZONE_BELOW_HIGH = 1
/** Models `ZONE_RECLAIM_ACTIVE`: kswapd works on this zone. */
export const ZONE_RECLAIM_ACTIVE = 2

export class Zone {
  /** Pages on the free lists (`NR_FREE_PAGES`). */
  free = 0
  /** Those of them in HIGHATOMIC blocks (`nr_free_highatomic`). */
  freeHighatomic = 0
  /** Pages set aside in HIGHATOMIC blocks, free or not. */
  nrReservedHighatomic = 0
  /** Pages the zone manages: present less reserved. */
  managed = 0
  flags = 0
  /** First and last free block per `order * MIGRATE_TYPES + type`, 0 when empty. */
  readonly freeHead = new Int32Array(NR_PAGE_ORDERS * MIGRATE_TYPES)
  readonly freeTail = new Int32Array(NR_PAGE_ORDERS * MIGRATE_TYPES)
  /** Blocks on each of those lists. */
  readonly freeCount = new Int32Array(NR_PAGE_ORDERS * MIGRATE_TYPES)
  /** min, low, high, promo: pages. */
  readonly wmark = new Int32Array(4)
  /** Pages an allocation that could use a higher zone must leave here, by that zone. */
  readonly lowmemReserve = new Int32Array(3)
  /** The high watermark and the largest reserve: with more free pages than this nothing else needs a look. */
  quickMark = 0
  /** By CPU number. */
  pcp: readonly PerCpuPages[] = []
  /** Blocks handed out and taken back since boot, by order; those of order 0 less what `pcp` still counts. */
  readonly allocs = new Float64Array(NR_PAGE_ORDERS)
  readonly frees = new Float64Array(NR_PAGE_ORDERS)
  /** Blocks from here although another node was preferred, and the mirror image on that node. */
  numaMiss = 0
  numaForeign = 0
  /** Blocks handed out to CPUs of other nodes. */
  numaOther = 0

  constructor(
    /** Position in `mem.zones`. */
    readonly index: number,
    readonly node: number,
    readonly type: ZoneType,
    /** First frame, and the first frame after the zone; both on limits of the largest block but at memory's end. */
    readonly startPfn: number,
    readonly endPfn: number,
  ) {}
}

/** Sets a zone's flags; its per-CPU lists keep a copy. */
export function setZoneFlags(zone: Zone, flags: number): void {
  zone.flags = flags
  for (const pcp of zone.pcp) pcp.zoneFlags = flags
}

/** Models `struct pglist_data`: a NUMA node. */
export interface NumaNode {
  readonly id: number
  readonly zones: readonly Zone[]
  /** CPU numbers. */
  readonly cpus: readonly number[]
}
