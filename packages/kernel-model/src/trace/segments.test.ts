import { seeded } from '@netmem/base/testing'
import { describe, expect, it } from 'vitest'
import { anySlopeSegments, type Segment, unitSlopeSegments } from './segments.js'

function expand(segments: readonly Segment[]): (number | string)[] {
  const values: (number | string)[] = []
  for (const [from, to, value, slope] of segments)
    for (let n = from; n <= to; n++) values.push(typeof value === 'string' ? value : value + slope * (n - from))
  return values
}

describe('run-length coded tables', () => {
  it('code constant runs, unit slopes and errno names as the socket traces write them', () => {
    expect(unitSlopeSegments([832, 832, 832, 1280, 1280, 900, 901, 902, 'EMSGSIZE', 'EMSGSIZE'], 0)).toEqual([
      [0, 2, 832, 0],
      [3, 4, 1280, 0],
      [5, 7, 900, 1],
      [8, 9, 'EMSGSIZE', 0],
    ])
  })

  it('code lines of three or more of any slope as the ring traces write them', () => {
    expect(anySlopeSegments([5, 5, 10, 74, 138, 3, -90], 1)).toEqual([
      [1, 2, 5, 0],
      [3, 5, 10, 64],
      [6, 6, 3, 0],
      [7, 7, -90, 0],
    ])
  })

  it('expand to the values that were coded, whatever they are', () => {
    const { rng, label } = seeded(11)
    for (let round = 0; round < 200; round++) {
      const values = Array.from({ length: rng.below(40) }, () => rng.below(3) * rng.below(3))
      expect(expand(unitSlopeSegments(values, 7)), label).toEqual(values)
      expect(expand(anySlopeSegments(values, 7)), label).toEqual(values)
    }
  })
})
