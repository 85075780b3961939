/**
 * A zone, its free lists, its watermarks and its per-CPU lists. Data only: `buddy.ts` and `pcp.ts` change
 * the lists, `watermarks.ts` fills in the marks.
 *
 * Invariant: `managed` = `free` + pages on the per-CPU lists + pages handed out.
 */
import { MIGRATE_TYPES, NR_PAGE_ORDERS, PAGEBLOCK_PAGES, type ZoneType } from './zone-types.js'

/** Models `NR_PCP_LISTS`: 3 types for each order 0 to 3, then two lists of page-block size. */
export const NR_PCP_LISTS = 14

/** Models `struct per_cpu_pages`: pages one CPU keeps to itself. List index: `3 * order + type`. */
export class PerCpuPages {
  /** Pages on all lists together. */
  count = 0
  /** Pages from which a free gives some back; floats between the limits on kernels that let it. */
  high: number
  /** Doublings of the next order-0 refill (6.18). */
  allocFactor = 0
  /** Pages freed in a row, halved by each allocation (6.18); doublings of the next drain (6.1). */
  freeCount = 0
  /** Models `PCPF_PREV_FREE_HIGH_ORDER`: the last free was of order 1 to 3. */
  prevFreeHighOrder = 0
  /** First and last block per list, 0 when empty; links are `pages.next` and `pages.prev`. */
  readonly head = new Int32Array(NR_PCP_LISTS)
  readonly tail = new Int32Array(NR_PCP_LISTS)

  constructor(
    readonly batch: number,
    readonly highMin: number,
    readonly highMax: number,
  ) {
    this.high = highMin
  }
}

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
  /** `wmark[HIGH] + lowmemReserve[zone]`: above it nothing else needs a look. */
  readonly fastMark = new Int32Array(3)
  /** By CPU number. */
  pcp: PerCpuPages[] = []
  /** Blocks handed out and taken back since boot, by order. */
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

/** Models `struct pglist_data`: a NUMA node. */
export interface NumaNode {
  readonly id: number
  readonly zones: readonly Zone[]
  /** CPU numbers. */
  readonly cpus: readonly number[]
}

/** Models `pageblock_nr_pages`. */
export { PAGEBLOCK_PAGES }
