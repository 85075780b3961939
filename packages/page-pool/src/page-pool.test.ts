import type { Gfp, Pfn } from '@netmem/base'
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE, deviceCreate, dmaEngineWrite } from '@netmem/dma'
import { auditDma, auditDmaQuiescent } from '@netmem/dma/testing'
import { failEvery, failNever, failNth, getPage, PG_PFMEMALLOC, putPage, trackAllocations } from '@netmem/memory'
import { assertNoLeaks, auditMemory } from '@netmem/memory/testing'
import { describe, expect, it } from 'vitest'
import { pagePoolAllocCached, pagePoolAllocNew, pagePoolStatsPercpu } from './absent.js'
import { pagePoolAllocPages, pagePoolDevAllocPages } from './alloc.js'
import { pagePoolCreate, pagePoolCreatePercpu } from './create.js'
import {
  pagePoolDestroy,
  pagePoolDisableDirectRecycling,
  pagePoolEnableDirectRecycling,
  pagePoolNidChanged,
} from './destroy.js'
import { pagePoolDmaSyncForCpu } from './dma-map.js'
import { pagePoolInflight } from './inflight.js'
import {
  napiPpPutPage,
  pagePoolPutFullPage,
  pagePoolPutNetmemBulk,
  pagePoolPutPage,
  pagePoolRecycleDirect,
  pagePoolRefNetmem,
} from './put.js'
import {
  pagePoolEthtoolStatsGet,
  pagePoolEthtoolStatsGetCount,
  pagePoolEthtoolStatsGetStrings,
  pagePoolGetStats,
} from './stats.js'
import { auditPagePool, auditPagePoolsQuiescent, type PoolMachine, poolMachine } from './testing.js'
import {
  type PagePool,
  type PagePoolParams,
  PP_FLAG_DMA_MAP,
  PP_FLAG_DMA_SYNC_DEV,
  PP_FLAG_PAGE_FRAG,
} from './types.js'

const MAP_SYNC = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV
const OLD = { profile: 'linux-6.1-x86_64' }

function make(m: PoolMachine, params: PagePoolParams = {}): PagePool {
  const pool = pagePoolCreate(m.pools, m.cpu, params)
  if (typeof pool === 'number') throw new Error(`page_pool_create: ${pool}`)
  return pool
}
const atomic = (m: PoolMachine): Gfp => m.mem.gfp.GFP_ATOMIC as Gfp
const take = (m: PoolMachine, pool: PagePool, n: number): Pfn[] =>
  Array.from({ length: n }, () => pagePoolAllocPages(m.cpu, pool, atomic(m)))
function softirq<T>(m: PoolMachine, work: () => T): T {
  m.cpu.servingSoftirq++
  try {
    return work()
  } finally {
    m.cpu.servingSoftirq--
  }
}
const nonZero = (pool: PagePool) =>
  Object.fromEntries(Object.entries(pagePoolGetStats(pool)).filter(([, count]) => count !== 0))

describe('creating a page pool', () => {
  const errno = (m: PoolMachine, params: PagePoolParams) => {
    const made = pagePoolCreate(m.pools, m.cpu, params)
    return typeof made === 'number' ? made : 0
  }

  it('refuses what the kernel refuses, with its errno and its line in the log', () => {
    const m = poolMachine()
    trackAllocations(m.mem)
    const dev = deviceCreate(m.dma, { name: 'nic' })
    expect(errno(m, { flags: 1 << 4 })).toBe(-22)
    expect(errno(m, { flags: PP_FLAG_DMA_MAP, dev, dmaDir: DMA_TO_DEVICE })).toBe(-22)
    expect(errno(m, { flags: PP_FLAG_DMA_MAP, dev, dmaDir: 3 })).toBe(-22)
    expect(errno(m, { flags: PP_FLAG_DMA_SYNC_DEV, maxLen: 100 })).toBe(-22)
    expect(errno(m, { flags: MAP_SYNC, dev, dmaDir: DMA_FROM_DEVICE })).toBe(-22)
    expect(errno(m, { order: 11 })).toBe(-22)
    expect(m.log).toEqual(new Array(6).fill('page_pool_create_percpu() gave up with errno -22'))
    assertNoLeaks(m.mem)
    expect(errno(m, { flags: MAP_SYNC, dev, dmaDir: DMA_BIDIRECTIONAL, maxLen: 1 })).toBe(0)
  })

  it('knows other flags on 6.1', () => {
    const m = poolMachine({}, OLD)
    expect(errno(m, { flags: PP_FLAG_PAGE_FRAG })).toBe(0)
    expect(errno(m, { flags: 8 })).toBe(-22)
    expect(m.log).toEqual(['page_pool_create() gave up with errno -22'])
  })

  it('clamps the ring to 16384 entries and takes 1024 when none are asked for', () => {
    const m = poolMachine()
    expect([0, 1, 100, 16384, 16385, 2 ** 32 - 1].map((poolSize) => make(m, { poolSize }).ring.size)).toEqual([
      1024, 1, 100, 16384, 16384, 16384,
    ])
  })

  it('throws at once for what no kernel structure could hold', () => {
    const m = poolMachine()
    for (const params of [{ order: -1 }, { poolSize: 1.5 }, { nid: -2 }, { maxLen: -1 }, { flags: PP_FLAG_DMA_MAP }])
      expect(() => pagePoolCreate(m.pools, m.cpu, params)).toThrow(RangeError)
  })

  it('leaves nothing behind when any allocation fails', () => {
    const run = (n: number): boolean => {
      const m = poolMachine()
      trackAllocations(m.mem)
      m.mem.fault = n === 0 ? failNever() : failNth(n)
      const pool = pagePoolCreate(m.pools, m.cpu, { poolSize: 4096 })
      const failed = m.mem.fault.failed > 0
      m.mem.fault = null
      if (typeof pool !== 'number') pagePoolDestroy(m.cpu, pool)
      // A slab that gets no large page asks for a small one, so not every failure reaches the caller.
      if (typeof pool === 'number') expect([pool, failed]).toEqual([-12, true])
      assertNoLeaks(m.mem)
      auditPagePoolsQuiescent(m.pools)
      auditMemory(m.mem)
      return failed
    }
    run(0)
    let n = 1
    while (run(n)) n++
    expect(n).toBeGreaterThan(2)
  })

  it('numbers pools from 1 on and never reuses a number', () => {
    const m = poolMachine()
    const a = make(m)
    pagePoolDestroy(m.cpu, a)
    const b = make(m)
    expect([a.id, b.id, b.slot]).toEqual([1, 2, a.slot])
  })

  it('calls the driver for each page that joins', () => {
    const m = poolMachine()
    const seen: number[] = []
    take(m, make(m, { initCallback: (netmem) => seen.push(netmem) }), 1)
    expect(seen.length).toBe(64)
  })
})

describe('taking pages', () => {
  it('takes 64 from the page allocator when cache and ring are empty, then none for 63 more', () => {
    const m = poolMachine()
    const holds: number[] = []
    m.trace.pagePoolStateHold = (_cpu, id, pfn, hold) => {
      expect([id, m.mem.pages.pp[pfn] !== 0]).toEqual([1, true])
      holds.push(hold)
    }
    const pool = make(m)
    take(m, pool, 64)
    expect(holds).toEqual(Array.from({ length: 64 }, (_, i) => i + 1))
    expect(nonZero(pool)).toEqual({ slow: 1, fast: 63, empty: 1 })
    take(m, pool, 1)
    expect(nonZero(pool)).toEqual({ slow: 2, fast: 63, empty: 2 })
    expect(auditPagePool(pool)).toEqual({ cached: 63, ring: 0, lent: 65 })
  })

  it('hands out the page that came back last', () => {
    const m = poolMachine()
    const pool = make(m)
    const [a, b] = take(m, pool, 2)
    pagePoolRecycleDirect(m.cpu, pool, a!)
    pagePoolRecycleDirect(m.cpu, pool, b!)
    expect(take(m, pool, 2)).toEqual([b, a])
  })

  it('refills 64 from the ring, oldest first, and counts that once', () => {
    const m = poolMachine()
    const pool = make(m)
    const out = take(m, pool, 128)
    for (const pfn of out) pagePoolPutFullPage(m.cpu, pool, pfn, false)
    expect(auditPagePool(pool)).toEqual({ cached: 0, ring: 128, lent: 0 })
    expect(take(m, pool, 1)).toEqual([out[63]])
    expect(auditPagePool(pool)).toEqual({ cached: 63, ring: 64, lent: 1 })
    expect(nonZero(pool)).toEqual({ slow: 2, fast: 126, empty: 2, refill: 1, ring: 128 })
  })

  it('takes compound pages one by one', () => {
    const m = poolMachine()
    const pool = make(m, { order: 2 })
    const [a] = take(m, pool, 2)
    expect([m.mem.pages.order[a!], m.mem.pages.head[a! + 3]]).toEqual([2, a])
    expect(nonZero(pool)).toEqual({ slowHighOrder: 2, empty: 2 })
    expect(napiPpPutPage(m.pools, m.cpu, (a! + 3) as Pfn)).toBe(true)
    expect(auditPagePool(pool)).toEqual({ cached: 0, ring: 1, lent: 1 })
  })

  it('gives what there is when memory runs short, and nothing when there is none', () => {
    const m = poolMachine()
    const pool = make(m)
    m.mem.fault = failEvery(1).byKind('page')
    expect(pagePoolDevAllocPages(m.cpu, pool)).toBe(0)
    expect(auditPagePool(pool)).toEqual({ cached: 0, ring: 0, lent: 0 })
    m.mem.fault = null
    expect(pagePoolDevAllocPages(m.cpu, pool)).toBeGreaterThan(0)
  })

  it('asks quietly in atomic context since 6.13', () => {
    for (const [profile, quiet] of [
      ['linux-6.18-x86_64', true],
      ['linux-6.1-x86_64', false],
    ] as const) {
      const m = poolMachine({}, { profile })
      let mask = 0
      m.mem.fault = failNever().where((kind, _bytes, gfp) => {
        if (kind === 'page') mask = gfp
        return true
      })
      take(m, make(m), 1)
      expect((mask & m.mem.gfp.NOWARN) !== 0, profile).toBe(quiet)
    }
  })

  it('waives a page of another node, gives it back, and ends the refill', () => {
    const m = poolMachine({}, { nodes: 2 })
    const pool = make(m, { nid: 0 })
    const out = take(m, pool, 64)
    for (const pfn of out) pagePoolPutFullPage(m.cpu, pool, pfn, false)
    pagePoolNidChanged(m.cpu, pool, 0)
    expect(pool.nid).toBe(0)
    const updates: unknown[] = []
    m.trace.pagePoolUpdateNid = (id, nid) => updates.push([id, nid])
    pagePoolNidChanged(m.cpu, pool, 1)
    expect(updates).toEqual([[1, 1]])
    const [fresh] = take(m, pool, 1)
    expect(out).not.toContain(fresh)
    expect(nonZero(pool)).toEqual({ slow: 2, fast: 63, empty: 1, waive: 1, ring: 64 })
    expect(auditPagePool(pool)).toEqual({ cached: 63, ring: 63, lent: 1 })
  })

  it('returns the cached pages when the node changes, not those in the ring', () => {
    const m = poolMachine({}, { nodes: 2 })
    const pool = make(m, { nid: 0 })
    const [a, b] = take(m, pool, 2)
    pagePoolPutFullPage(m.cpu, pool, a!, false)
    pagePoolNidChanged(m.cpu, pool, 1)
    expect(auditPagePool(pool)).toEqual({ cached: 0, ring: 1, lent: 1 })
    pagePoolPutFullPage(m.cpu, pool, b!, false)
  })
})

describe('giving pages back', () => {
  it('goes to the cache only from the context that owns the pool', () => {
    const m = poolMachine()
    const napi = { napiId: 9, listOwner: -1 }
    const pool = make(m, { napi })
    const put = () => {
      const before = nonZero(pool)
      pagePoolPutFullPage(m.cpu, pool, take(m, pool, 1)[0]!, false)
      const after = nonZero(pool)
      return (after.cached ?? 0) > (before.cached ?? 0) ? 'cache' : 'ring'
    }
    expect(put()).toBe('ring')
    napi.listOwner = 0
    expect(put()).toBe('ring')
    expect(softirq(m, put)).toBe('cache')
    m.cpu.bhDisabled = 1
    expect(put()).toBe('cache')
    m.cpu.bhDisabled = 0
    napi.listOwner = 1
    expect(softirq(m, put)).toBe('ring')
    pagePoolDisableDirectRecycling(pool)
    napi.listOwner = 0
    expect(softirq(m, put)).toBe('ring')
    pagePoolEnableDirectRecycling(pool, napi)
    pagePoolEnableDirectRecycling(pool, napi)
    expect(softirq(m, put)).toBe('cache')
    pagePoolEnableDirectRecycling(pool, { napiId: 1, listOwner: 0 })
    expect(m.log.at(-1)).toContain('belongs to a NAPI already')
  })

  it("goes to the cache of a CPU's own pool from any softirq of that CPU", () => {
    const m = poolMachine()
    const pool = pagePoolCreatePercpu(m.pools, m.cpu, {}, 0) as PagePool
    const [a, b] = take(m, pool, 2)
    softirq(m, () => pagePoolPutFullPage(m.cpu, pool, a!, false))
    expect(auditPagePool(pool).cached).toBe(63)
    const other = m.cpus[1]!
    other.servingSoftirq = 1
    pagePoolPutFullPage(other, pool, b!, false)
    other.servingSoftirq = 0
    expect(auditPagePool(pool)).toEqual({ cached: 63, ring: 1, lent: 0 })
  })

  it('6.1: believes the caller about the context, but only in a softirq', () => {
    const m = poolMachine({}, OLD)
    const pool = make(m, { napi: { napiId: 1, listOwner: 0 } })
    const [a, b, c] = take(m, pool, 3)
    pagePoolPutFullPage(m.cpu, pool, a!, true)
    expect(auditPagePool(pool).ring).toBe(1)
    softirq(m, () => pagePoolPutFullPage(m.cpu, pool, b!, false))
    expect(auditPagePool(pool).ring).toBe(2)
    softirq(m, () => pagePoolPutFullPage(m.cpu, pool, c!, true))
    expect(auditPagePool(pool)).toEqual({ cached: 62, ring: 2, lent: 0 })
  })

  it('goes on to the ring when the cache has 128, and to the page allocator when the ring is full', () => {
    const m = poolMachine()
    const pool = make(m, { poolSize: 10 })
    const out = take(m, pool, 192)
    const releases: number[] = []
    m.trace.pagePoolStateRelease = (_cpu, _id, _pfn, release) => releases.push(release)
    for (const pfn of out) pagePoolRecycleDirect(m.cpu, pool, pfn)
    expect(auditPagePool(pool)).toEqual({ cached: 128, ring: 10, lent: 0 })
    const stats = pagePoolGetStats(pool)
    expect([stats.cached, stats.cacheFull, stats.ring, stats.ringFull]).toEqual([128, 64, 10, 54])
    expect(releases).toEqual(Array.from({ length: 54 }, (_, i) => i + 1))
  })

  it('lets go of a page that somebody else refers to, and of one from the reserves', () => {
    const m = poolMachine()
    const pool = make(m)
    const [a, b] = take(m, pool, 2)
    getPage(m.mem, a!)
    pagePoolRecycleDirect(m.cpu, pool, a!)
    expect([nonZero(pool).releasedRefcnt, m.mem.pages.pp[a!], m.mem.pages.refcount[a!]]).toEqual([1, 0, 1])
    putPage(m.mem, m.cpu, a!, 'test')
    m.mem.pages.flags[b!]! |= PG_PFMEMALLOC
    pool.reservePages++
    pagePoolRecycleDirect(m.cpu, pool, b!)
    expect([nonZero(pool).releasedRefcnt, pool.reservePages]).toEqual([2, 0])
    expect(auditPagePool(pool)).toEqual({ cached: 62, ring: 0, lent: 0 })
    auditMemory(m.mem)
  })

  it('comes back only with the last of several holders', () => {
    const m = poolMachine()
    const pool = make(m)
    const [a] = take(m, pool, 1)
    pagePoolRefNetmem(pool, a!)
    pagePoolRefNetmem(pool, a!)
    napiPpPutPage(m.pools, m.cpu, a!)
    pagePoolPutPage(m.cpu, pool, a!, 0, false)
    expect(auditPagePool(pool).lent).toBe(1)
    napiPpPutPage(m.pools, m.cpu, a!)
    expect(auditPagePool(pool)).toEqual({ cached: 63, ring: 1, lent: 0 })
    expect(m.mem.pages.ppRefCount[a!]).toBe(1)
  })

  it('finds a page that comes back twice, and one that comes back to a pool that is gone', () => {
    const m = poolMachine()
    const pool = make(m)
    const [a, b] = take(m, pool, 2)
    pagePoolRecycleDirect(m.cpu, pool, a!)
    expect(() => pagePoolRecycleDirect(m.cpu, pool, a!)).toThrow('page recycled twice')
    pagePoolPutFullPage(m.cpu, pool, b!, false)
    pagePoolDestroy(m.cpu, pool)
    expect(() => pagePoolPutFullPage(m.cpu, pool, b!, false)).toThrow()
    m.cpu.hardirq = 1
    const other = make(m)
    const [c] = take(m, other, 1)
    expect(() => pagePoolPutFullPage(m.cpu, other, c!, false)).toThrow('hardirq')
  })

  it('is what freeing an skb does with its pages; a page of nobody is not taken', () => {
    const m = poolMachine()
    const pool = make(m)
    const [a] = take(m, pool, 1)
    expect(napiPpPutPage(m.pools, m.cpu, a!)).toBe(true)
    pagePoolDestroy(m.cpu, pool)
    expect(napiPpPutPage(m.pools, m.cpu, a!)).toBe(false)
  })

  it('in bulk visits each ring once, and counts a full ring once', () => {
    const m = poolMachine()
    const a = make(m, { poolSize: 5 })
    const b = make(m)
    const mixed = [...take(m, a, 8), ...take(m, b, 3)]
    const data = Int32Array.from([mixed[8]!, ...mixed.slice(0, 8), mixed[9]!, mixed[10]!])
    pagePoolRefNetmem(b, mixed[10]!)
    pagePoolPutNetmemBulk(m.pools, m.cpu, data, 11)
    expect(auditPagePool(a)).toEqual({ cached: 56, ring: 5, lent: 0 })
    expect(auditPagePool(b)).toEqual({ cached: 61, ring: 2, lent: 1 })
    expect([pagePoolGetStats(a).ring, pagePoolGetStats(a).ringFull]).toEqual([5, 1])
    expect(pagePoolInflight(a, false)).toBe(61)
  })

  it("in bulk fills the cache first when it runs in the pool's poll", () => {
    const m = poolMachine()
    const pool = make(m, { napi: { napiId: 1, listOwner: 0 }, poolSize: 100 })
    const out = take(m, pool, 128)
    getPage(m.mem, out[5]!)
    softirq(m, () => pagePoolPutNetmemBulk(m.pools, m.cpu, Int32Array.from(out), 128))
    expect(auditPagePool(pool)).toEqual({ cached: 127, ring: 0, lent: 0 })
    expect(pagePoolGetStats(pool).releasedRefcnt).toBe(1)
  })
})

describe("the pool's mappings", () => {
  it('are made once per page and undone when it leaves', () => {
    const m = poolMachine({ debug: true, iommu: { strict: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const pool = make(m, { flags: PP_FLAG_DMA_MAP, dev, dmaDir: DMA_FROM_DEVICE, order: 1 })
    const [a] = take(m, pool, 1)
    expect(dev.mappings).toBe(1)
    const dma = m.mem.pages.dmaAddr[a!]!
    for (let i = 0; i < 5; i++) {
      pagePoolRecycleDirect(m.cpu, pool, a!)
      expect(take(m, pool, 1)).toEqual([a])
    }
    expect([dev.mappings, m.mem.pages.dmaAddr[a!], dev.domain!.maps]).toEqual([1, dma, 1])
    expect(dmaEngineWrite(dev, dma as never, new Uint8Array(8192), 0, 8192)).toBe(0)
    pagePoolRecycleDirect(m.cpu, pool, a!)
    pagePoolDestroy(m.cpu, pool)
    auditDmaQuiescent(m.dma)
    expect(m.dma.debug!.errors).toEqual([])
  })

  it('are synced for the device when a page joins and when it is recycled: what was dirtied, at most maxLen, from offset', () => {
    const m = poolMachine()
    const syncs: number[][] = []
    m.trace.dmaSyncSingleForDevice = (_dev, dma, bytes, dir) => syncs.push([dma & 4095, bytes, dir])
    const dev = deviceCreate(m.dma, { name: 'soc', coherent: false })
    const pool = make(m, { flags: MAP_SYNC, dev, dmaDir: DMA_BIDIRECTIONAL, maxLen: 1536, offset: 256 })
    const [a] = take(m, pool, 1)
    expect([syncs.length, syncs[0]]).toEqual([64, [256, 1536, 0]])
    for (const size of [100, 5000, -1, 0]) {
      pagePoolPutPage(m.cpu, pool, a!, size, true)
      take(m, pool, 1)
    }
    expect(syncs.slice(64).map(([, bytes]) => bytes)).toEqual([100, 1536, 1536, 0])
  })

  it('are not synced for a device that snoops, until it has bounced', () => {
    const m = poolMachine({ swiotlb: { bytes: 4 << 20, force: true } })
    let syncs = 0
    m.trace.dmaSyncSingleForDevice = () => syncs++
    const plain = poolMachine()
    plain.trace.dmaSyncSingleForDevice = () => syncs++
    const params = { flags: MAP_SYNC, dmaDir: DMA_FROM_DEVICE, maxLen: 1536 } as const
    const quiet = make(plain, { ...params, dev: deviceCreate(plain.dma, { name: 'nic' }) })
    pagePoolRecycleDirect(plain.cpu, quiet, take(plain, quiet, 1)[0]!)
    expect(syncs).toBe(0)
    const bounced = make(m, { ...params, dev: deviceCreate(m.dma, { name: 'nic' }) })
    pagePoolRecycleDirect(m.cpu, bounced, take(m, bounced, 1)[0]!)
    expect(syncs).toBe(65)
  })

  it('are synced for the CPU where the frame lies', () => {
    const m = poolMachine()
    const dev = deviceCreate(m.dma, { name: 'soc', coherent: false })
    const pool = make(m, { flags: MAP_SYNC, dev, dmaDir: DMA_FROM_DEVICE, maxLen: 1536, offset: 256 })
    const [a] = take(m, pool, 1)
    const dma = m.mem.pages.dmaAddr[a!]! + 256
    dmaEngineWrite(dev, dma as never, new Uint8Array(200).fill(7), 0, 200)
    expect(m.mem.u8[a! * 4096 + 256]).toBe(0)
    pagePoolDmaSyncForCpu(m.cpu, pool, a!, 64, 64)
    expect([255, 319, 320, 383, 384].map((at) => m.mem.u8[a! * 4096 + at])).toEqual([0, 0, 7, 7, 0])
  })

  it('that cannot be made leave the page out, and the pool gives what could be mapped', () => {
    const m = poolMachine({ iommu: { strict: true, apertureEnd: 11 * 4096 - 1, reserved: [] } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const pool = make(m, { flags: PP_FLAG_DMA_MAP, dev, dmaDir: DMA_FROM_DEVICE })
    expect(take(m, pool, 12).map((pfn) => pfn > 0)).toEqual([...new Array(10).fill(true), false, false])
    expect(auditPagePool(pool).lent).toBe(10)
    auditDma(m.dma)
    auditMemory(m.mem)
    const high = make(m, { flags: PP_FLAG_DMA_MAP, dev, dmaDir: DMA_FROM_DEVICE, order: 3 })
    expect(take(m, high, 1)).toEqual([0])
    expect(auditPagePool(high)).toEqual({ cached: 0, ring: 0, lent: 0 })
  })

  it('leave nothing behind when any allocation on the way fails', () => {
    const run = (n: number): boolean => {
      const m = poolMachine({ iommu: { strict: true } })
      const dev = deviceCreate(m.dma, { name: 'nic' })
      const pool = make(m, { flags: PP_FLAG_DMA_MAP, dev, dmaDir: DMA_FROM_DEVICE })
      m.mem.fault = n === 0 ? failNever() : failNth(n)
      const out = take(m, pool, 70)
      const failed = m.mem.fault.failed > 0
      m.mem.fault = null
      auditPagePool(pool)
      auditDma(m.dma)
      for (const pfn of out) if (pfn !== 0) pagePoolRecycleDirect(m.cpu, pool, pfn)
      pagePoolDestroy(m.cpu, pool)
      auditPagePoolsQuiescent(m.pools)
      auditDmaQuiescent(m.dma)
      auditMemory(m.mem)
      return failed
    }
    run(0)
    let n = 1
    while (run(n)) n++
    expect(n).toBeGreaterThan(100)
  })
})

describe('statistics', () => {
  it('have the names and the order that ethtool shows', () => {
    const m = poolMachine()
    const pool = make(m)
    pagePoolRecycleDirect(m.cpu, pool, take(m, pool, 2)[0]!)
    expect(pagePoolEthtoolStatsGetStrings()).toEqual([
      'rx_pp_alloc_fast',
      'rx_pp_alloc_slow',
      'rx_pp_alloc_slow_ho',
      'rx_pp_alloc_empty',
      'rx_pp_alloc_refill',
      'rx_pp_alloc_waive',
      'rx_pp_recycle_cached',
      'rx_pp_recycle_cache_full',
      'rx_pp_recycle_ring',
      'rx_pp_recycle_ring_full',
      'rx_pp_recycle_released_ref',
    ])
    expect(pagePoolEthtoolStatsGetCount()).toBe(11)
    expect(pagePoolEthtoolStatsGet(pagePoolGetStats(pool))).toEqual([1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0])
  })

  it('go on when a counter of the fast path wraps', () => {
    const m = poolMachine()
    const pool = make(m)
    const [a] = take(m, pool, 1)
    for (const word of [129, 130, 131]) pool.cache[word] = -1
    pagePoolRecycleDirect(m.cpu, pool, a!)
    pagePoolPutFullPage(m.cpu, pool, take(m, pool, 1)[0]!, false)
    const stats = pagePoolGetStats(pool)
    expect([stats.fast, stats.cached, stats.ring]).toEqual([2 ** 32, 2 ** 32, 2 ** 32])
  })

  it('count pages in flight modulo 2^32', () => {
    const m = poolMachine()
    const pool = make(m)
    pool.holdCnt = 0x7ffffff0
    pool.releaseCnt = 0x7ffffff0
    take(m, pool, 65)
    expect(pagePoolInflight(pool, false)).toBe(128)
    expect(auditPagePool(pool)).toEqual({ cached: 63, ring: 0, lent: 65 })
    pool.releaseCnt += 200
    expect([pagePoolInflight(pool, false), pagePoolInflight(pool, true)]).toEqual([0, -72])
    expect(m.log.at(-1)).toBe('Negative(-72) inflight packet-pages')
  })
})

describe('names that are no page-pool functions', () => {
  it('say what to call instead', () => {
    expect(() => pagePoolAllocCached()).toThrow('pagePoolAllocPages')
    expect(() => pagePoolAllocNew()).toThrow('pagePoolAllocPages')
    expect(() => pagePoolStatsPercpu()).toThrow('pagePoolGetStats')
  })
})
