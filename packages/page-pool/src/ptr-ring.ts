/**
 * The ring behind a pool's cache: entries that came back from other contexts. 0 is an empty slot, which is how
 * producer and consumer know full and empty without looking at each other's index.
 */

/**
 * Models `struct ptr_ring` (include/linux/ptr_ring.h). Slots in `[consumerTail, consumerHead)` are consumed but not
 * yet cleared: the consumer clears them `batch` at a time, and until then the producer finds the ring that much fuller.
 *
 * The three indices are words behind the slots, `queue[size]` to `queue[size + 2]`: as fields they cost twice as much.
 */
export class PtrRing {
  /** Slots `[0, size)`, then producer, consumerHead, consumerTail. */
  readonly queue: Int32Array
  readonly size: number
  readonly batch: number

  /** @param size entries, at least 1. @param cacheBytes line size, from which the kernel derives the batch. */
  constructor(size: number, cacheBytes: number) {
    this.size = size
    this.queue = new Int32Array(size + 3)
    // Two cache lines of pointers, unless that is more than half of the ring.
    const batch = (cacheBytes * 2) / 8
    this.batch = batch > size >> 1 ? 1 : batch
  }
}

/** Models `__ptr_ring_produce`. @param entry not 0. @returns false when the ring is full; then nothing changes. */
export function ptrRingProduce(ring: PtrRing, entry: number): boolean {
  const { queue, size } = ring
  const producer = queue[size]!
  if (queue[producer] !== 0) return false
  queue[producer] = entry
  const next = producer + 1
  queue[size] = next === size ? 0 : next
  return true
}

/** Models `__ptr_ring_empty`. */
export const ptrRingEmpty = (ring: PtrRing): boolean => ring.queue[ring.queue[ring.size + 1]!] === 0

/** Models `__ptr_ring_consume`. @returns the oldest entry, or 0 when there is none. */
export function ptrRingConsume(ring: PtrRing): number {
  const { queue, size } = ring
  const head = queue[size + 1]!
  const entry = queue[head]!
  if (entry === 0) return 0
  const next = head + 1
  if (next - queue[size + 2]! >= ring.batch || next === size) discard(queue, size, next)
  else queue[size + 1] = next
  return entry
}

/** Models the slow half of `__ptr_ring_discard_one`: hands a batch of consumed slots back to the producer. */
function discard(queue: Int32Array, size: number, next: number): void {
  for (let i = next - 1; i >= queue[size + 2]!; i--) queue[i] = 0
  const head = next === size ? 0 : next
  queue[size + 1] = head
  queue[size + 2] = head
}

/** Models `ptr_ring_consume_batched`. @returns how many entries were written to `out` from `at` on. */
export function ptrRingConsumeBatched(ring: PtrRing, out: Int32Array, at: number, count: number): number {
  let n = 0
  for (; n < count; n++) {
    const entry = ptrRingConsume(ring)
    if (entry === 0) break
    out[at + n] = entry
  }
  return n
}

/** @returns how many entries wait in the ring; walks it, for audits and reports. */
export function ptrRingCount(ring: PtrRing): number {
  let n = 0
  ptrRingForEach(ring, () => n++)
  return n
}

/** Visits the waiting entries, oldest first. */
export function ptrRingForEach(ring: PtrRing, visit: (entry: number) => void): void {
  const { queue, size } = ring
  const head = queue[size + 1]!
  // Consumed slots that were not handed back yet still hold what was in them.
  const most = size - (head - queue[size + 2]!)
  for (let i = 0, at = head; i < most; i++) {
    const entry = queue[at]!
    if (entry === 0) return
    visit(entry)
    at = at + 1 === size ? 0 : at + 1
  }
}
