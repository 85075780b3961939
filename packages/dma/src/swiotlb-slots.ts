/**
 * The slots of a bounce pool: 2 KiB each, in segments of 128, in areas that CPUs prefer so that they do not
 * meet. Nothing here copies bytes or knows a device; it only finds contiguous slots and gives them back.
 *
 *     list[i]  how many slots from i to the end of its segment are free in a row; 0: slot i is taken
 */
import { assert } from '@netmem/base'

/** Models `IO_TLB_SHIFT`, `IO_TLB_SIZE`: a slot is 2 KiB. */
export const IO_TLB_SHIFT = 11
export const IO_TLB_SIZE = 1 << IO_TLB_SHIFT
/** Models `IO_TLB_SEGSIZE`: one mapping never leaves its segment of 128 slots (256 KiB). */
export const IO_TLB_SEGSIZE = 128
/** Models `IO_TLB_DEFAULT_SIZE`: 64 MiB. */
export const IO_TLB_DEFAULT_SIZE = 64 << 20
/** Models `IO_TLB_MIN_SLABS`: below 1 MiB a pool is not worth having. */
export const IO_TLB_MIN_SLABS = (1 << 20) >> IO_TLB_SHIFT

/** Models `struct io_tlb_area`: where its CPUs look next, and how many of its slots are taken. */
export interface IoTlbArea {
  used: number
  index: number
}

/** Models `struct io_tlb_pool` and the `struct io_tlb_slot` array. Free slots + used slots = `nslabs`. */
export class IoTlbSlots {
  readonly areas: IoTlbArea[] = []
  readonly areaSlabs: number
  readonly list: Int32Array
  /** Direct-map address that the first byte of this slot stands for; meaningless while free. */
  readonly origAddr: Int32Array
  /** Bytes of the mapping from the start of this slot on, padding included; 0 while free. */
  readonly allocBytes: Int32Array
  /** Bytes before the mapping starts, in its first slot; 0 in the others. */
  readonly padBytes: Int16Array
  used = 0
  usedHiwater = 0

  /** @param start physical address of slot 0; what alignment is measured from. */
  constructor(
    readonly start: number,
    readonly nslabs: number,
    areas: number,
  ) {
    assert(nslabs % IO_TLB_SEGSIZE === 0, 'a bounce pool is whole segments')
    this.areaSlabs = Math.floor(nslabs / areas)
    assert(this.areaSlabs % IO_TLB_SEGSIZE === 0, 'an area is whole segments')
    for (let i = 0; i < areas; i++) this.areas.push({ used: 0, index: 0 })
    this.list = new Int32Array(nslabs)
    for (let i = 0; i < nslabs; i++) this.list[i] = IO_TLB_SEGSIZE - (i % IO_TLB_SEGSIZE)
    this.origAddr = new Int32Array(nslabs)
    this.allocBytes = new Int32Array(nslabs)
    this.padBytes = new Int16Array(nslabs)
  }
}

/** Models `limit_nareas`: an area holds a segment at least. @returns a power of two. */
export function limitNareas(areas: number, nslabs: number): number {
  let n = 1
  while (n < areas) n *= 2
  while (n > 1 && nslabs < n * IO_TLB_SEGSIZE) n /= 2
  return n
}

/** Models `nr_slots`. */
export const nrSlots = (bytes: number): number => Math.ceil(bytes / IO_TLB_SIZE)

/**
 * Models `swiotlb_pool_find_slots` (kernel/dma/swiotlb.c): the CPU's own area first, then the others in turn.
 *
 * @param allocBytes bytes wanted, counted from the start of the first slot.
 * @param orig address of the buffer, whose bits under `alignMask` the slot must repeat.
 * @returns the first slot, or -1; the slots are then taken.
 */
export function ioTlbFindSlots(
  slots: IoTlbSlots,
  cpuId: number,
  orig: number,
  allocBytes: number,
  alignMask: number,
  pageBytes: number,
): number {
  const start = cpuId & (slots.areas.length - 1)
  let area = start
  do {
    const index = searchArea(slots, area, orig, allocBytes, alignMask, pageBytes)
    if (index >= 0) return index
    if (++area >= slots.areas.length) area = 0
  } while (area !== start)
  return -1
}

/** Models `swiotlb_search_pool_area`: next fit from where this area's last search ended. */
function searchArea(
  slots: IoTlbSlots,
  areaIndex: number,
  orig: number,
  allocBytes: number,
  minAlignMask: number,
  pageBytes: number,
): number {
  const area = slots.areas[areaIndex]!
  const count = nrSlots(allocBytes)
  assert(count > 0, 'a bounce buffer of no bytes')
  if (count > slots.areaSlabs - area.used) return -1
  // Mappings of a page or more have always been page-aligned, unless the device wants its own low bits kept.
  let allocMask = minAlignMask === 0 && allocBytes >= pageBytes ? pageBytes - 1 : 0
  allocMask |= IO_TLB_SIZE - 1
  const keepMask = minAlignMask & ~allocMask
  const stride = (Math.max(allocMask, keepMask) >>> IO_TLB_SHIFT) + 1
  const base = areaIndex * slots.areaSlabs
  let index = area.index
  for (let checked = 0; checked < slots.areaSlabs; ) {
    const slot = base + index
    const addr = slots.start + slot * IO_TLB_SIZE
    if ((addr & allocMask) !== 0 || (addr & keepMask) !== (orig & keepMask)) {
      index = wrap(slots, index + 1)
      checked++
      continue
    }
    if (slots.list[slot]! >= count) {
      take(slots, area, slot, count, allocBytes)
      area.index = wrap(slots, index + count)
      return slot
    }
    index = wrap(slots, index + stride)
    checked += stride
  }
  return -1
}

const wrap = (slots: IoTlbSlots, index: number): number => (index >= slots.areaSlabs ? 0 : index)

function take(slots: IoTlbSlots, area: IoTlbArea, slot: number, count: number, allocBytes: number): void {
  for (let i = 0; i < count; i++) {
    slots.list[slot + i] = 0
    slots.allocBytes[slot + i] = allocBytes - i * IO_TLB_SIZE
  }
  // The free slots just before now have a shorter run ahead of them.
  let run = 0
  for (let i = slot - 1; i >= 0 && i % IO_TLB_SEGSIZE !== IO_TLB_SEGSIZE - 1 && slots.list[i] !== 0; i--) {
    slots.list[i] = ++run
  }
  area.used += count
  slots.used += count
  if (slots.used > slots.usedHiwater) slots.usedHiwater = slots.used
}

/** Models `swiotlb_release_slots`: gives `count` slots back and joins them with free neighbours of the segment. */
export function ioTlbReleaseSlots(slots: IoTlbSlots, slot: number, count: number): void {
  const end = slot + count
  assert(slots.list[slot] === 0 && slots.allocBytes[slot] !== 0, 'swiotlb: released slot was not in use')
  let run = end % IO_TLB_SEGSIZE !== 0 ? slots.list[end]! : 0
  for (let i = end - 1; i >= slot; i--) {
    slots.list[i] = ++run
    slots.origAddr[i] = 0
    slots.allocBytes[i] = 0
    slots.padBytes[i] = 0
  }
  for (let i = slot - 1; i >= 0 && i % IO_TLB_SEGSIZE !== IO_TLB_SEGSIZE - 1 && slots.list[i] !== 0; i--) {
    slots.list[i] = ++run
  }
  slots.areas[Math.floor(slot / slots.areaSlabs)]!.used -= count
  slots.used -= count
}
