/** The table of sockets against a plain map. */
import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { SocketHash } from './socket-hash.js'

function idsOf(table: SocketHash, hash: number): number[] {
  const ids: number[] = []
  for (let at = table.probe(hash, -1); at >= 0; at = table.probe(hash, at)) ids.push(table.idAt(at))
  return ids.sort((a, b) => a - b)
}

describe('SocketHash', () => {
  it.each([1, 2, 3, 4])('finds what a map of sets finds, over growth, removal and reuse (seed %i)', (seed) => {
    const rng = new Prng(seed)
    const table = new SocketHash(2)
    const model = new Map<number, Set<number>>()
    const hashes = Array.from({ length: 40 }, () => (rng.below(2 ** 31) * 2 + rng.below(2)) | 0)
    let live = 0
    for (let step = 0; step < 20_000; step += 1) {
      const hash = hashes[rng.below(hashes.length)]!
      const set = model.get(hash) ?? new Set()
      model.set(hash, set)
      const id = 1 + rng.below(30)
      if (set.has(id)) {
        expect(table.remove(hash, id)).toBe(true)
        set.delete(id)
        live -= 1
      } else if (rng.below(3) === 0) expect(table.remove(hash, id)).toBe(false)
      else {
        table.insert(hash, id)
        set.add(id)
        live += 1
      }
      expect(table.size).toBe(live)
      if (step % 50 === 0) for (const [h, ids] of model) expect(idsOf(table, h)).toEqual([...ids].sort((a, b) => a - b))
    }
  })

  it('holds a million sockets and finds each', () => {
    const table = new SocketHash()
    for (let id = 1; id <= 1e6; id += 1) table.insert(Math.imul(id, 0x9e3779b1), id)
    expect(table.size).toBe(1e6)
    let missing = 0
    for (let id = 1; id <= 1e6; id += 1) if (table.idAt(table.probe(Math.imul(id, 0x9e3779b1), -1)) !== id) missing += 1
    expect(missing).toBe(0)
  })
})
