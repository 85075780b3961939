import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { BUCKETS, Timeline } from './timeline.js'

describe('Timeline', () => {
  it('keeps the peak of every quantity whatever time does, in a bounded number of buckets', () => {
    const prng = new Prng(7)
    for (let round = 0; round < 50; round++) {
      const timeline = new Timeline(['a', 'b'])
      const values = new Float64Array(2)
      let peak = 0
      let now = 0
      let counter = 0
      for (let step = 0; step < 200; step++) {
        now += prng.below(4) === 0 ? prng.below(2 ** 31) : prng.below(5000)
        values[0] = prng.below(1000)
        values[1] = -values[0]
        peak = Math.max(peak, values[0])
        counter += prng.below(3)
        timeline.sample(now, values, counter)
        expect(timeline.count).toBeLessThanOrEqual(BUCKETS)
      }
      expect(timeline.peak[0]).toBe(peak)
      expect(timeline.counts().reduce((sum, count) => sum + count, 0)).toBe(counter)
      for (const width of [1, 7, 60, BUCKETS]) expect(Math.max(...timeline.row(0, width))).toBe(peak)
      expect(timeline.count * timeline.bucketNs).toBeGreaterThan(now)
    }
  })

  it('holds a value through the time in which nothing was sampled', () => {
    const timeline = new Timeline(['a'])
    timeline.sample(0, Float64Array.of(5))
    timeline.sample(100_000, Float64Array.of(0))
    const row = timeline.row(0, BUCKETS)
    expect(row.slice(0, -1).every((value) => value === 5)).toBe(true)
    expect(row.at(-1)).toBe(0)
  })

  it('survives a jump of a century', () => {
    const timeline = new Timeline(['a'])
    timeline.sample(4e18, Float64Array.of(1))
    expect(timeline.row(0, 10).at(-1)).toBe(1)
  })
})
