import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { FlowTable } from './flow-table.js'

describe('FlowTable', () => {
  it('finds what a map would find, through collisions and growth', () => {
    const prng = new Prng(99)
    const table = new FlowTable()
    const map = new Map<string, number>()
    for (let step = 0; step < 20000; step++) {
      const key = [prng.below(2), 0, prng.below(2), prng.below(40), prng.below(60), prng.below(2)] as const
      if (prng.below(2) === 0) {
        table.set(...key, step)
        map.set(key.join(), step)
      }
      expect(table.get(...key)).toBe(map.get(key.join()) ?? -1)
    }
    expect(table.count).toBe(map.size)
  })
})
