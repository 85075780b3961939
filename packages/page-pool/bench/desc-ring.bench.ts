/** Goal G6: a ring of descriptors, one at a time and 32 at once. One op is one entry in and out. */
import {
  DescRing,
  descRingConsume,
  descRingConsumeBulk,
  descRingProduce,
  descRingProduceBulk,
  PtrRing,
  ptrRingConsume,
  ptrRingProduce,
} from '@netmem/page-pool'

export interface BenchCase {
  /** Performs `n` operations and returns a checksum of the work. */
  run(n: number): number
}

export function single(): BenchCase {
  const ring = new DescRing(1024)
  return {
    run(n) {
      let sum = 0
      for (let i = 0; i < n; i++) {
        descRingProduce(ring, i)
        sum ^= descRingConsume(ring, -1)
      }
      return sum
    },
  }
}

export function bulk(count: number): BenchCase {
  const ring = new DescRing(1024)
  const from = new Int32Array(count)
  const to = new Int32Array(count)
  return {
    run(n) {
      for (let i = 0; i < n; i += count) {
        from[0] = i
        descRingProduceBulk(ring, from, 0, count)
        descRingConsumeBulk(ring, to, 0, count)
      }
      return to[0]!
    },
  }
}

export function ptrRing(): BenchCase {
  const ring = new PtrRing(1024, 64)
  return {
    run(n) {
      let sum = 0
      for (let i = 1; i <= n; i++) {
        ptrRingProduce(ring, i)
        sum ^= ptrRingConsume(ring)
      }
      return sum
    },
  }
}

export const cases = {
  'descriptor ring, single': single,
  'descriptor ring, bulk 32': () => bulk(32),
  'ptr_ring, single': ptrRing,
}
