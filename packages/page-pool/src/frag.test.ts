import type { Gfp } from '@netmem/base'
import { seeded } from '@netmem/base/testing'
import { failEvery, getPage, putPage } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import { pagePoolCreate } from './create.js'
import { pagePoolDestroy } from './destroy.js'
import { pagePoolAlloc, pagePoolAllocFrag, pagePoolAllocVa } from './frag.js'
import { napiPpPutPage } from './put.js'
import { pagePoolGetStats } from './stats.js'
import { auditPagePool, auditPagePoolsQuiescent, type PoolMachine, poolMachine } from './testing.js'
import { BIAS_MAX, type PagePool, type PagePoolParams, PP_FLAG_PAGE_FRAG } from './types.js'

const make = (m: PoolMachine, params: PagePoolParams = {}): PagePool => {
  const pool = pagePoolCreate(m.pools, m.cpu, params)
  if (typeof pool === 'number') throw new Error(`page_pool_create: ${pool}`)
  return pool
}
const gfp = (m: PoolMachine): Gfp => m.mem.gfp.GFP_ATOMIC as Gfp

describe('pieces of pages', () => {
  it('follow each other in a page without a gap, and start a new page when one does not fit', () => {
    const m = poolMachine()
    const pool = make(m)
    const piece = (bytes: number) => [pagePoolAllocFrag(m.cpu, pool, bytes, gfp(m)), pool.outOffset]
    const [a] = piece(1000)
    expect([piece(1), piece(64), piece(65)]).toEqual([
      [a, 1000],
      [a, 1001],
      [a, 1065],
    ])
    expect([m.mem.pages.ppRefCount[a!], pool.fragUsers]).toEqual([BIAS_MAX, 4])
    const [b, at] = piece(3000)
    expect([b === a, at]).toEqual([false, 0])
    // The page that was closed has exactly its four users left.
    expect(m.mem.pages.ppRefCount[a!]).toBe(4)
    for (let i = 0; i < 4; i++) napiPpPutPage(m.pools, m.cpu, a as never)
    expect([m.mem.pages.ppRefCount[a!], auditPagePool(pool)]).toEqual([1, { cached: 62, ring: 1, lent: 1 }])
  })

  it('cut the same page again when nobody holds a piece of it any more', () => {
    const m = poolMachine()
    const pool = make(m)
    const a = pagePoolAllocFrag(m.cpu, pool, 4096, gfp(m))
    napiPpPutPage(m.pools, m.cpu, a)
    expect(pagePoolAllocFrag(m.cpu, pool, 64, gfp(m))).toBe(a)
    expect([pool.outOffset, pool.fragUsers, m.mem.pages.ppRefCount[a]]).toEqual([0, 1, BIAS_MAX])
    expect(pagePoolGetStats(pool)).toMatchObject({ slow: 1, fast: 1 })
  })

  it('return a page that somebody outside refers to instead of cutting it again', () => {
    const m = poolMachine()
    const pool = make(m)
    const a = pagePoolAllocFrag(m.cpu, pool, 4096, gfp(m))
    getPage(m.mem, a)
    napiPpPutPage(m.pools, m.cpu, a)
    expect(pagePoolAllocFrag(m.cpu, pool, 64, gfp(m))).not.toBe(a)
    expect(m.mem.pages.pp[a]).toBe(0)
    putPage(m.mem, m.cpu, a, 'test')
    auditPagePool(pool)
  })

  it('refuse what is larger than a page, with a warning', () => {
    const m = poolMachine()
    expect(pagePoolAllocFrag(m.cpu, make(m), 4097, gfp(m))).toBe(0)
    expect(m.log.length).toBe(1)
    const big = make(m, { order: 1 })
    expect(pagePoolAllocFrag(m.cpu, big, 4097, gfp(m))).toBeGreaterThan(0)
  })

  it('need a flag on 6.1', () => {
    const m = poolMachine({}, { profile: 'linux-6.1-x86_64' })
    expect(pagePoolAllocFrag(m.cpu, make(m), 64, gfp(m))).toBe(0)
    const pool = make(m, { flags: PP_FLAG_PAGE_FRAG })
    const a = pagePoolAllocFrag(m.cpu, pool, 2048, gfp(m))
    expect(pagePoolAllocFrag(m.cpu, pool, 2048, gfp(m))).toBe(a)
    pagePoolAllocFrag(m.cpu, pool, 2048, gfp(m))
    napiPpPutPage(m.pools, m.cpu, a)
    expect(auditPagePool(pool).ring).toBe(0)
    napiPpPutPage(m.pools, m.cpu, a)
    expect(auditPagePool(pool).ring).toBe(1)
  })

  it('are whole pages when two would not fit one, and take the rest along when nothing else fits behind', () => {
    const m = poolMachine()
    const pool = make(m)
    const whole = pagePoolAlloc(m.cpu, pool, 2049, gfp(m))
    expect([pool.outBytes, pool.outOffset, m.mem.pages.ppRefCount[whole]]).toEqual([4096, 0, 1])
    const a = pagePoolAlloc(m.cpu, pool, 1500, gfp(m))
    expect([pool.outBytes, pool.outOffset]).toEqual([1500, 0])
    expect(pagePoolAlloc(m.cpu, pool, 1500, gfp(m))).toBe(a)
    expect([pool.outBytes, pool.outOffset, pool.fragOffset]).toEqual([4096 - 1500, 1500, 4096])
    const va = pagePoolAllocVa(m.cpu, pool, 1500, gfp(m))
    expect(va % 4096).toBe(0)
    m.mem.fault = failEvery(1).byKind('page')
    for (let i = 0; i < 200; i++) pagePoolAllocVa(m.cpu, pool, 4096, gfp(m))
    expect([pagePoolAllocVa(m.cpu, pool, 4096, gfp(m)), pagePoolAllocVa(m.cpu, pool, 100, gfp(m))]).not.toContain(-1)
  })

  it('leave the pool whole when no page can be had', () => {
    const m = poolMachine()
    const pool = make(m)
    m.mem.fault = failEvery(1).byKind('page')
    expect(pagePoolAllocFrag(m.cpu, pool, 64, gfp(m))).toBe(0)
    expect([pagePoolAlloc(m.cpu, pool, 64, gfp(m)), pagePoolAllocVa(m.cpu, pool, 64, gfp(m)), pool.fragPage]).toEqual([
      0, 0, 0,
    ])
    m.mem.fault = null
    expect(pagePoolAllocFrag(m.cpu, pool, 64, gfp(m))).toBeGreaterThan(0)
  })

  it.each([41, 42, 43])('keep their counts under random steps (seed %i)', (seed) => {
    const { rng, label } = seeded(seed)
    const m = poolMachine()
    const pool = make(m, { order: rng.below(3) })
    const live: number[] = []
    const users = new Map<number, number>()
    for (let step = 0; step < 1500; step++) {
      if (rng.below(5) < 3) {
        const netmem =
          rng.below(2) === 0
            ? pagePoolAllocFrag(m.cpu, pool, 1 + rng.below(pool.pageBytes), gfp(m))
            : pagePoolAlloc(m.cpu, pool, 1 + rng.below(pool.pageBytes), gfp(m))
        live.push(netmem)
        users.set(netmem, (users.get(netmem) ?? 0) + 1)
        expect(pool.outOffset, label).toBeLessThan(pool.pageBytes)
      } else if (live.length > 0) {
        const [gone] = live.splice(rng.below(live.length), 1)
        napiPpPutPage(m.pools, m.cpu, gone as never)
        users.set(gone!, users.get(gone!)! - 1)
      }
      auditPagePool(pool)
      for (const [netmem, count] of users) {
        if (netmem === pool.fragPage || count === 0) continue
        expect(m.mem.pages.ppRefCount[netmem], `${label} step ${step}`).toBe(count)
      }
    }
    for (const netmem of live) napiPpPutPage(m.pools, m.cpu, netmem as never)
    pagePoolDestroy(m.cpu, pool)
    auditPagePoolsQuiescent(m.pools)
  })
})
