/**
 * A ring of descriptors between one producer and one consumer: free-running indices on a power of two, so that
 * full and empty differ without a spare slot. What a NIC's queues and its driver talk through.
 */

/** Entries `[cons, prod)` are posted; `0 <= prod - cons <= size` (mod 2^32). One shape, small integers only. */
export class DescRing {
  readonly slots: Int32Array
  readonly mask: number
  readonly size: number
  prod = 0
  cons = 0

  /** @param size a power of two, 2^0 to 2^30. */
  constructor(size: number) {
    if (!Number.isInteger(size) || size < 1 || size > 2 ** 30 || (size & (size - 1)) !== 0)
      throw new RangeError(`descriptor ring of ${size} entries: not a power of two`)
    this.size = size
    this.mask = size - 1
    this.slots = new Int32Array(size)
  }
}

/** @returns how many entries are posted. */
export const descRingCount = (ring: DescRing): number => (ring.prod - ring.cons) | 0

/** @returns false when the ring is full; then nothing changes. */
export function descRingProduce(ring: DescRing, entry: number): boolean {
  const prod = ring.prod
  if (((prod - ring.cons) | 0) === ring.size) return false
  ring.slots[prod & ring.mask] = entry
  ring.prod = (prod + 1) | 0
  return true
}

/** @param none what to return when the ring is empty: any number that is not an entry. */
export function descRingConsume(ring: DescRing, none: number): number {
  const cons = ring.cons
  if (cons === ring.prod) return none
  ring.cons = (cons + 1) | 0
  return ring.slots[cons & ring.mask]!
}

/** Posts all of `count` entries from `from[at]` on, or none. @returns count or 0. */
export function descRingProduceBulk(ring: DescRing, from: Int32Array, at: number, count: number): number {
  const { slots, mask, prod } = ring
  if (ring.size - ((prod - ring.cons) | 0) < count) return 0
  // Two straight runs instead of a mask per entry: up to the end of the array, and from its start.
  const first = prod & mask
  const run = Math.min(count, mask + 1 - first)
  for (let i = 0; i < run; i++) slots[first + i] = from[at + i]!
  for (let i = run; i < count; i++) slots[i - run] = from[at + i]!
  ring.prod = (prod + count) | 0
  return count
}

/** Takes exactly `count` entries into `to[at]` on, or none. @returns count or 0. */
export function descRingConsumeBulk(ring: DescRing, to: Int32Array, at: number, count: number): number {
  const { slots, mask, cons } = ring
  if (((ring.prod - cons) | 0) < count) return 0
  const first = cons & mask
  const run = Math.min(count, mask + 1 - first)
  for (let i = 0; i < run; i++) to[at + i] = slots[first + i]!
  for (let i = run; i < count; i++) to[at + i] = slots[i - run]!
  ring.cons = (cons + count) | 0
  return count
}

/** Takes up to `count` entries. @returns how many. */
export function descRingConsumeBurst(ring: DescRing, to: Int32Array, at: number, count: number): number {
  const have = (ring.prod - ring.cons) | 0
  return descRingConsumeBulk(ring, to, at, Math.min(have, count))
}
