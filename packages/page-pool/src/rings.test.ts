import { seeded } from '@netmem/base/testing'
import { describe, expect, it } from 'vitest'
import {
  DescRing,
  descRingConsume,
  descRingConsumeBulk,
  descRingConsumeBurst,
  descRingCount,
  descRingProduce,
  descRingProduceBulk,
} from './desc-ring.js'
import {
  PtrRing,
  ptrRingConsume,
  ptrRingConsumeBatched,
  ptrRingCount,
  ptrRingEmpty,
  ptrRingProduce,
} from './ptr-ring.js'

describe('the ptr_ring', () => {
  it('is full for the producer until a batch of 16 consumed slots is handed back', () => {
    const ring = new PtrRing(1024, 64)
    expect(ring.batch).toBe(16)
    for (let i = 1; i <= 1024; i++) expect(ptrRingProduce(ring, i)).toBe(true)
    expect(ptrRingProduce(ring, 2000)).toBe(false)
    for (let i = 1; i <= 15; i++) expect(ptrRingConsume(ring)).toBe(i)
    expect(ptrRingProduce(ring, 2000)).toBe(false)
    expect(ptrRingConsume(ring)).toBe(16)
    for (let i = 0; i < 16; i++) expect(ptrRingProduce(ring, 2000 + i)).toBe(true)
    expect(ptrRingProduce(ring, 3000)).toBe(false)
  })

  it('hands every slot back at once when it is too small for batches', () => {
    for (const size of [1, 2, 3, 16, 31]) {
      const ring = new PtrRing(size, 64)
      expect(ring.batch).toBe(1)
      for (let i = 1; i <= size; i++) ptrRingProduce(ring, i)
      expect(ptrRingProduce(ring, 99)).toBe(false)
      expect(ptrRingConsume(ring)).toBe(1)
      expect(ptrRingProduce(ring, 99)).toBe(true)
    }
    expect(new PtrRing(32, 64).batch).toBe(16)
  })

  it('hands back what it has when the consumer passes the end', () => {
    const ring = new PtrRing(40, 64)
    for (let i = 1; i <= 40; i++) ptrRingProduce(ring, i)
    for (let i = 1; i <= 40; i++) ptrRingConsume(ring)
    expect([ptrRingEmpty(ring), ring.queue.subarray(0, 40).every((entry) => entry === 0)]).toEqual([true, true])
  })

  it.each([1, 2, 3, 4, 5, 6])('agrees with a list under random steps (seed %i)', (seed) => {
    const { rng, label } = seeded(seed)
    const size = 1 + rng.below(100)
    const ring = new PtrRing(size, 64)
    const list: number[] = []
    const out = new Int32Array(64)
    // Slots that are consumed and not yet handed back: fewer than a batch.
    let held = 0
    for (let step = 1; step < 5000; step++) {
      const message = `${label} step ${step}`
      if (rng.below(3) < (step % 600 < 300 ? 2 : 1)) {
        const entry = rng.next() | 1
        const taken = ptrRingProduce(ring, entry)
        if (taken) list.push(entry)
        else expect(list.length + held, message).toBeGreaterThanOrEqual(size - ring.batch + 1)
        expect(list.length, message).toBeLessThanOrEqual(size)
      } else if (rng.below(3) === 0) {
        const want = 1 + rng.below(64)
        const got = ptrRingConsumeBatched(ring, out, 0, want)
        expect([...out.subarray(0, got)], message).toEqual(list.splice(0, want))
      } else expect(ptrRingConsume(ring), message).toBe(list.shift() ?? 0)
      held = ring.queue[ring.size + 1]! - ring.queue[ring.size + 2]!
      expect(held, message).toBeLessThan(ring.batch)
      expect([ptrRingCount(ring), ptrRingEmpty(ring)], message).toEqual([list.length, list.length === 0])
    }
  })
})

describe('the descriptor ring', () => {
  it('holds exactly its size, and any entry but the one that says "empty"', () => {
    const ring = new DescRing(4)
    expect(descRingConsume(ring, -1)).toBe(-1)
    expect([0, -5, 7, 0].map((entry) => descRingProduce(ring, entry))).toEqual([true, true, true, true])
    expect([descRingProduce(ring, 1), descRingCount(ring)]).toEqual([false, 4])
    expect([0, 0, 0, 0, 0].map(() => descRingConsume(ring, -1))).toEqual([0, -5, 7, 0, -1])
  })

  it('posts and takes in bulk all or nothing, in bursts what there is', () => {
    const ring = new DescRing(8)
    const from = Int32Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9])
    const to = new Int32Array(9)
    expect(descRingProduceBulk(ring, from, 0, 9)).toBe(0)
    expect(descRingProduceBulk(ring, from, 1, 5)).toBe(5)
    expect(descRingConsumeBulk(ring, to, 0, 6)).toBe(0)
    expect(descRingConsumeBulk(ring, to, 2, 3)).toBe(3)
    expect([...to.subarray(2, 5)]).toEqual([2, 3, 4])
    expect(descRingProduceBulk(ring, from, 0, 6)).toBe(6)
    expect(descRingConsumeBurst(ring, to, 0, 9)).toBe(8)
    expect([...to.subarray(0, 8)]).toEqual([5, 6, 1, 2, 3, 4, 5, 6])
    expect(descRingConsumeBurst(ring, to, 0, 9)).toBe(0)
  })

  it('goes on when its counters wrap at 2^32', () => {
    const ring = new DescRing(4)
    ring.words[4] = 0x7ffffffe
    ring.words[5] = 0x7ffffffe
    for (let i = 0; i < 4; i++) expect(descRingProduce(ring, i)).toBe(true)
    expect([descRingProduce(ring, 9), descRingCount(ring)]).toEqual([false, 4])
    for (let i = 0; i < 4; i++) expect(descRingConsume(ring, -1)).toBe(i)
    expect(ring.words[4]).toBe(-2147483646)
  })

  it('can lie in words that somebody gives, and refuses nonsense', () => {
    const words = new Int32Array(10)
    const producer = new DescRing(8, words)
    const consumer = new DescRing(8, words)
    descRingProduce(producer, 5)
    expect(descRingConsume(consumer, -1)).toBe(5)
    expect(() => new DescRing(8, new Int32Array(9))).toThrow(RangeError)
    for (const size of [0, 3, -4, 2 ** 29, 1.5]) expect(() => new DescRing(size)).toThrow(RangeError)
  })

  it.each([7, 8, 9])('agrees with a list under random steps (seed %i)', (seed) => {
    const { rng, label } = seeded(seed)
    const size = 1 << rng.below(8)
    const ring = new DescRing(size)
    const list: number[] = []
    const buffer = new Int32Array(64)
    for (let step = 0; step < 5000; step++) {
      const message = `${label} step ${step}`
      const n = rng.below(40)
      const at = rng.below(20)
      if (rng.below(2) === 0) {
        for (let i = 0; i < n; i++) buffer[at + i] = rng.next()
        const posted = descRingProduceBulk(ring, buffer, at, n)
        expect(posted, message).toBe(list.length + n <= size ? n : 0)
        list.push(...buffer.subarray(at, at + posted))
      } else {
        const taken =
          rng.below(2) === 0 ? descRingConsumeBulk(ring, buffer, at, n) : descRingConsumeBurst(ring, buffer, at, n)
        expect([...buffer.subarray(at, at + taken)], message).toEqual(list.splice(0, taken))
      }
      expect(descRingCount(ring), message).toBe(list.length)
    }
  })
})
