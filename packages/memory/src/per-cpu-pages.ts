/**
 * Pages that one CPU keeps to itself, one list per order and migrate type. A list is a ring of frame numbers:
 * the hot end is `top` (freed last, handed out first), the cold end is `bottom` (given back first). Links in the
 * pages themselves, as the kernel has them, would touch two more cache lines per operation.
 */
import { assert } from '@netmem/base'
import type { Zone } from './zone.js'

/** Models `NR_PCP_LISTS`: 3 types for each order 0 to 3, then two lists of page-block size. */
export const NR_PCP_LISTS = 14

/** Where `allocs` and `frees` are carried over to the zone: far from where small integers end. */
export const COUNTER_FOLD = 1 << 30

/** One list. Invariant: frame numbers lie in `ring[i & mask]` for `bottom <= i < top`, both wrapping at 32 bits. */
export class PcpList {
  ring = new Int32Array(16)
  mask = 15
  top = 0
  bottom = 0

  constructor(
    readonly zone: Zone,
    /** The limits and counters that all lists of this CPU and zone share. */
    readonly pcp: PerCpuPages,
  ) {}
}

/** @returns blocks on the list. */
export const pcpListLength = (list: PcpList): number => (list.top - list.bottom) | 0

/** Puts a block at the hot end: it will be the next one handed out. */
export function pcpListPush(list: PcpList, pfn: number): void {
  if (((list.top - list.bottom) | 0) > list.mask) growRing(list)
  list.ring[list.top & list.mask] = pfn
  list.top = (list.top + 1) | 0
}

/** Puts a block at the cold end. */
export function pcpListPushCold(list: PcpList, pfn: number): void {
  if (((list.top - list.bottom) | 0) > list.mask) growRing(list)
  list.bottom = (list.bottom - 1) | 0
  list.ring[list.bottom & list.mask] = pfn
}

/** @returns the block at the hot end, 0 when the list is empty. */
export function pcpListPop(list: PcpList): number {
  if (list.top === list.bottom) return 0
  list.top = (list.top - 1) | 0
  return list.ring[list.top & list.mask]!
}

/** @returns the block at the cold end; the list must not be empty. */
export function pcpListPopCold(list: PcpList): number {
  const pfn = list.ring[list.bottom & list.mask]!
  list.bottom = (list.bottom + 1) | 0
  return pfn
}

function growRing(list: PcpList): void {
  const count = pcpListLength(list)
  const ring = new Int32Array(list.ring.length * 2)
  for (let i = 0; i < count; i++) ring[i] = list.ring[(list.bottom + i) & list.mask]!
  list.ring = ring
  list.mask = ring.length - 1
  list.bottom = 0
  list.top = count
}

/** Models `struct per_cpu_pages`. List index: `3 * order + type`. */
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
  readonly lists: readonly PcpList[]
  /** The zone's flags, once more: while any is set, frees take the long way. */
  zoneFlags = 0
  /** Blocks of order 0 handed out and taken back through these lists and not yet counted in the zone. */
  allocs = 0
  frees = 0

  constructor(
    zone: Zone,
    readonly batch: number,
    public highMin: number,
    public highMax: number,
    /** Whether `high` floats: the 6.18 rules. */
    readonly floating: boolean,
    /** Where `freeCount` stops counting frees; 0 when it does not count them (6.1). */
    readonly freeCountMax: number,
  ) {
    assert(batch >= 1 && highMax >= highMin, 'per-CPU page limits')
    this.high = highMin
    this.lists = Array.from({ length: NR_PCP_LISTS }, () => new PcpList(zone, this))
  }
}
