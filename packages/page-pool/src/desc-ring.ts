/**
 * A ring of descriptors between one producer and one consumer: free-running indices on a power of two, so that
 * full and empty differ without a spare slot. What a NIC's queues and its driver talk through.
 *
 * The indices are words of the same array as the slots, as in a ring that two sides share; fields cost twice as much
 * (`bench/desc-ring.bench.ts`).
 *
 *     words   0 .. size-1 slots   size: produced   size+1: consumed
 */

/** Entries `[consumed, produced)` are posted; `0 <= produced - consumed <= size` (mod 2^32). */
export class DescRing {
  readonly words: Int32Array
  readonly mask: number
  readonly size: number

  /** @param size a power of two, 1 to 2^28. @param words where the ring lies; `size + 2` words of zeros when absent. */
  constructor(size: number, words: Int32Array = new Int32Array(size + 2)) {
    if (!Number.isInteger(size) || size < 1 || size > 2 ** 28 || (size & (size - 1)) !== 0)
      throw new RangeError(`descriptor ring of ${size} entries: not a power of two`)
    if (words.length < size + 2)
      throw new RangeError(`descriptor ring of ${size} entries needs ${size + 2} words, not ${words.length}`)
    this.size = size
    this.mask = size - 1
    this.words = words
  }
}

/** @returns how many entries are posted. */
export const descRingCount = (ring: DescRing): number => (ring.words[ring.size]! - ring.words[ring.size + 1]!) | 0

/** @returns false when the ring is full; then nothing changes. */
export function descRingProduce(ring: DescRing, entry: number): boolean {
  const { words, size } = ring
  const produced = words[size]!
  if (((produced - words[size + 1]!) | 0) === size) return false
  words[produced & ring.mask] = entry
  words[size] = produced + 1
  return true
}

/** @param none what to return when the ring is empty: any number that is not an entry. */
export function descRingConsume(ring: DescRing, none: number): number {
  const { words, size } = ring
  const consumed = words[size + 1]!
  if (consumed === words[size]!) return none
  const entry = words[consumed & ring.mask]!
  words[size + 1] = consumed + 1
  return entry
}

/** Posts all of `count` entries from `from[at]` on, or none. @returns count or 0. */
export function descRingProduceBulk(ring: DescRing, from: Int32Array, at: number, count: number): number {
  const { words, size } = ring
  const produced = words[size]!
  if (size - ((produced - words[size + 1]!) | 0) < count) return 0
  const first = produced & ring.mask
  const run = size - first
  if (run >= count) copyWords(words, first, from, at, count)
  else {
    copyWords(words, first, from, at, run)
    copyWords(words, 0, from, at + run, count - run)
  }
  words[size] = produced + count
  return count
}

/** Takes exactly `count` entries into `to[at]` on, or none. @returns count or 0. */
export function descRingConsumeBulk(ring: DescRing, to: Int32Array, at: number, count: number): number {
  const { words, size } = ring
  const consumed = words[size + 1]!
  if (((words[size]! - consumed) | 0) < count) return 0
  const first = consumed & ring.mask
  const run = size - first
  if (run >= count) copyWords(to, at, words, first, count)
  else {
    copyWords(to, at, words, first, run)
    copyWords(to, at + run, words, 0, count - run)
  }
  words[size + 1] = consumed + count
  return count
}

/** Takes up to `count` entries. @returns how many. */
export function descRingConsumeBurst(ring: DescRing, to: Int32Array, at: number, count: number): number {
  return descRingConsumeBulk(ring, to, at, Math.min(descRingCount(ring), count))
}

// Eight at a time: for a handful of words a loop beats `set(subarray)`, and the unrolled one beats the plain one by a fifth.
function copyWords(to: Int32Array, toAt: number, from: Int32Array, fromAt: number, count: number): void {
  const end = fromAt + count
  const last8 = end - 7
  let s = fromAt
  let d = toAt
  while (s < last8) {
    to[d] = from[s]!
    to[d + 1] = from[s + 1]!
    to[d + 2] = from[s + 2]!
    to[d + 3] = from[s + 3]!
    to[d + 4] = from[s + 4]!
    to[d + 5] = from[s + 5]!
    to[d + 6] = from[s + 6]!
    to[d + 7] = from[s + 7]!
    s += 8
    d += 8
  }
  while (s < end) to[d++] = from[s++]!
}
