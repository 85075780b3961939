import type { Cpu, Gfp, Pfn } from '@netmem/base'
import { seeded } from '@netmem/base/testing'
import { DMA_FROM_DEVICE, deviceCreate } from '@netmem/dma'
import { auditDmaQuiescent } from '@netmem/dma/testing'
import { getPage, putPage, trackAllocations } from '@netmem/memory'
import { assertNoLeaks, auditMemory } from '@netmem/memory/testing'
import { describe, expect, it } from 'vitest'
import { pagePoolAllocNetmems, pagePoolAllocPages } from './alloc.js'
import { pagePoolCreate } from './create.js'
import {
  pagePoolCheckMemoryProvider,
  pagePoolDestroy,
  pagePoolUnregNetdev,
  pagePoolUpdateNid,
  pagePoolUseXdpMem,
} from './destroy.js'
import { pagePoolAllocFragNetmem } from './frag.js'
import { netIovAreaCreate, netIovToNetmem, netMpNiovSetDmaAddr, netmemToNetIov } from './net-iov.js'
import { netdevNlPagePoolGet, netdevNlPagePoolStatsGet } from './netlink.js'
import { pagePoolHoldersReport, pagePoolRegisterHolders, pagePoolTrackHolders } from './owners.js'
import { netMpNiovClearPagePool, netMpNiovSetPagePool, netmemGetPp, pagePoolGetDmaAddr } from './pp-info.js'
import {
  napiPpPutPage,
  pagePoolPutFullNetmem,
  pagePoolPutFullPage,
  pagePoolPutNetmemBulk,
  pagePoolRecycleDirect,
  pagePoolRefNetmem,
} from './put.js'
import { pagePoolGetStats } from './stats.js'
import { auditPagePool, auditPagePoolsQuiescent, type PoolMachine, poolMachine } from './testing.js'
import { type MemoryProviderOps, type PagePool, type PagePoolParams, PP_FLAG_ALLOW_UNREADABLE_NETMEM } from './types.js'

const OLD = { profile: 'linux-6.1-x86_64' }
const make = (m: PoolMachine, params: PagePoolParams = {}): PagePool => {
  const pool = pagePoolCreate(m.pools, m.cpu, params)
  if (typeof pool === 'number') throw new Error(`page_pool_create: ${pool}`)
  return pool
}
const gfp = (m: PoolMachine): Gfp => m.mem.gfp.GFP_ATOMIC as Gfp
const take = (m: PoolMachine, pool: PagePool, n: number): Pfn[] =>
  Array.from({ length: n }, () => pagePoolAllocPages(m.cpu, pool, gfp(m)))

describe('the end of a pool', () => {
  it('comes at once when every page rests in it', () => {
    const m = poolMachine()
    trackAllocations(m.mem)
    const events: unknown[] = []
    m.trace.pagePoolRelease = (...args) => events.push(args)
    const pool = make(m)
    const [a, b] = take(m, pool, 2)
    pagePoolRecycleDirect(m.cpu, pool, a!)
    pagePoolPutFullPage(m.cpu, pool, b!, false)
    pagePoolDestroy(m.cpu, pool)
    pagePoolDestroy(m.cpu, null)
    expect(events).toEqual([[1, 0, 64, 64]])
    expect(pool.freed).toBe(true)
    expect(() => pagePoolDestroy(m.cpu, pool)).toThrow('gone already')
    assertNoLeaks(m.mem)
    auditPagePoolsQuiescent(m.pools)
    expect(m.events.pending).toBe(0)
  })

  it('waits for the pages that are out, looks once a second, and ends when the last is back', () => {
    const m = poolMachine()
    const released: number[] = []
    m.trace.pagePoolRelease = (_id, inflight) => released.push(inflight)
    const pool = make(m)
    const out = take(m, pool, 3)
    pagePoolDestroy(m.cpu, pool)
    m.events.runUntil(2.5e9)
    expect(released).toEqual([3, 3, 3])
    for (const pfn of out) napiPpPutPage(m.pools, m.cpu, pfn)
    // They wait in the ring for the worker.
    expect(pool.freed).toBe(false)
    m.events.runUntil(3e9)
    expect([pool.freed, released]).toEqual([true, [3, 3, 3, 0]])
    expect(m.events.pending).toBe(0)
    auditPagePoolsQuiescent(m.pools)
    auditMemory(m.mem)
  })

  it('complains after a minute and then once a minute, in the words of its kernel', () => {
    for (const [profile, words] of [
      ['linux-6.18-x86_64', 'stalled pool shutdown: id 1, 2 inflight'],
      ['linux-6.1-x86_64', 'stalled pool shutdown 2 inflight'],
    ]) {
      const m = poolMachine({}, { profile: profile! })
      const pool = make(m)
      take(m, pool, 2)
      m.events.runUntil(7e9)
      pagePoolDestroy(m.cpu, pool)
      m.events.runUntil(7e9 + 59.9e9)
      expect(m.log).toEqual([])
      m.events.runUntil(7e9 + 185e9)
      expect(m.log).toEqual([60, 120, 180].map((sec) => `page_pool_release_retry() ${words} ${sec} sec`))
    }
  })

  it('complains only about pools that the user cannot see', () => {
    const m = poolMachine()
    const pool = make(m, { netdev: 7 })
    take(m, pool, 1)
    pagePoolDestroy(m.cpu, pool)
    m.events.runUntil(100e9)
    expect(m.log).toEqual([])
    pagePoolUnregNetdev(m.pools, 7, 1)
    m.events.runUntil(200e9)
    expect([m.log, pool.netdev]).toEqual([[], 1])
    pagePoolUnregNetdev(m.pools, 1, 0)
    m.events.runUntil(201e9)
    expect(m.log).toEqual(['page_pool_release_retry() stalled pool shutdown: id 1, 1 inflight 201 sec'])
  })

  it('stops looking when more came back than went out', () => {
    const m = poolMachine()
    const pool = make(m)
    take(m, pool, 1)
    pagePoolDestroy(m.cpu, pool)
    pool.releaseCnt += 2
    m.events.runUntil(1e9)
    expect([m.log, m.events.pending]).toEqual([['Negative(-1) inflight packet-pages'], 0])
  })

  it('undoes the mappings of pages that are still out, where the kernel keeps a table of them', () => {
    for (const [profile, mapped] of [
      ['linux-6.18-x86_64', 0],
      ['linux-6.1-x86_64', 1],
    ] as const) {
      const m = poolMachine({ debug: true }, { profile })
      const dev = deviceCreate(m.dma, { name: 'nic' })
      const pool = make(m, { flags: 3, dev, dmaDir: DMA_FROM_DEVICE, maxLen: 1500 })
      const [a] = take(m, pool, 1)
      pagePoolDestroy(m.cpu, pool)
      expect(dev.mappings, profile).toBe(mapped)
      napiPpPutPage(m.pools, m.cpu, a!)
      m.events.runUntil(1e9)
      auditPagePoolsQuiescent(m.pools)
      auditDmaQuiescent(m.dma)
      expect(m.dma.debug!.errors).toEqual([])
    }
  })

  it('lets the page being cut go when its pieces have', () => {
    const m = poolMachine()
    const pool = make(m)
    const a = pagePoolAllocFragNetmem(m.cpu, pool, 100, gfp(m))
    pagePoolAllocFragNetmem(m.cpu, pool, 100, gfp(m))
    napiPpPutPage(m.pools, m.cpu, a)
    pagePoolDestroy(m.cpu, pool)
    expect(pool.freed).toBe(false)
    napiPpPutPage(m.pools, m.cpu, a)
    m.events.runUntil(1e9)
    expect(pool.freed).toBe(true)
    const idle = make(m)
    napiPpPutPage(m.pools, m.cpu, pagePoolAllocFragNetmem(m.cpu, idle, 100, gfp(m)))
    pagePoolDestroy(m.cpu, idle)
    expect(idle.freed).toBe(true)
    auditPagePoolsQuiescent(m.pools)
  })

  it('comes with the last of its users, and tells the XDP memory model', () => {
    const m = poolMachine()
    const pool = make(m)
    const told: string[] = []
    pagePoolUseXdpMem(pool, 3, () => told.push('disconnect'))
    pagePoolDestroy(m.cpu, pool)
    expect([pool.freed, told]).toEqual([false, []])
    pagePoolDestroy(m.cpu, pool)
    expect([pool.freed, told, pool.xdpMemId]).toEqual([true, ['disconnect'], 3])
  })

  it('logs a page in the ring that somebody else refers to', () => {
    const m = poolMachine()
    const pool = make(m)
    const [a] = take(m, pool, 1)
    pagePoolPutFullPage(m.cpu, pool, a!, false)
    getPage(m.mem, a!)
    pagePoolDestroy(m.cpu, pool)
    expect(m.log).toEqual(['page_pool_empty_ring() page_pool refcnt 2 violation'])
    putPage(m.mem, m.cpu, a!, 'test')
    auditMemory(m.mem)
  })

  it.each([51, 52, 53, 54])('is reached from any state under random steps (seed %i)', (seed) => {
    const { rng, label } = seeded(seed)
    const m = poolMachine({ debug: true, iommu: { strict: rng.below(2) === 0 } }, seed % 2 === 0 ? {} : OLD)
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const napi = { napiId: 1, listOwner: 0 }
    const pools = [0, 1].map((order) =>
      make(m, { flags: 3, dev, dmaDir: DMA_FROM_DEVICE, maxLen: 1500, order, poolSize: 1 + rng.below(40), napi }),
    )
    const live: Pfn[] = []
    for (let step = 0; step < 2500; step++) {
      const cpu: Cpu = m.cpus[rng.below(2)]!
      cpu.servingSoftirq = rng.below(2)
      const pool = pools[rng.below(2)]!
      const action = rng.below(10)
      if (action < 5) {
        const pfn = pagePoolAllocPages(m.cpu, pool, gfp(m))
        expect(live, `${label} step ${step}`).not.toContain(pfn)
        live.push(pfn)
      } else if (action < 8 && live.length > 0) {
        const [pfn] = live.splice(rng.below(live.length), 1)
        const owner = netmemGetPp(m.pools, pfn!)!
        if (rng.below(3) === 0 && cpu.id === 0) pagePoolRecycleDirect(cpu, owner, pfn!)
        else napiPpPutPage(m.pools, cpu, pfn!)
      } else if (action === 8 && live.length > 0) {
        const bulk = live.splice(0, 1 + rng.below(16))
        pagePoolPutNetmemBulk(m.pools, cpu, Int32Array.from(bulk), bulk.length)
      } else if (rng.below(20) === 0) pagePoolUpdateNid(m.cpu, pool, -1)
      cpu.servingSoftirq = 0
      const lent = pools.map((p) => auditPagePool(p).lent)
      expect(lent[0]! + lent[1]!, `${label} step ${step}`).toBe(live.length)
      expect(dev.mappings, label).toBe(pools.reduce((sum, p) => sum + ((p.holdCnt - p.releaseCnt) | 0), 0))
    }
    for (const pool of pools) pagePoolDestroy(m.cpu, pool)
    while (live.length > 0) {
      napiPpPutPage(m.pools, m.cpus[rng.below(2)]!, live.pop()!)
      m.events.runUntil(m.events.nowNs + rng.below(100) * 1e6)
    }
    m.events.runUntil(m.events.nowNs + 2e9)
    auditPagePoolsQuiescent(m.pools)
    auditDmaQuiescent(m.dma)
    auditMemory(m.mem)
    expect(m.dma.debug!.errors, label).toEqual([])
  })
})

describe('the netlink listing', () => {
  it('shows the pools of devices with their attributes, and not those of nobody', () => {
    const m = poolMachine()
    const notes: unknown[] = []
    m.pools.notify = (event, pool) => notes.push([event, pool.id])
    make(m)
    const b = make(m, { netdev: 7, napi: { napiId: 515, listOwner: -1 }, order: 1 })
    const c = make(m, { netdev: 1 })
    const d = make(m, { netdev: 9, napi: { napiId: 0, listOwner: -1 } })
    take(m, b, 2)
    take(m, c, 1)
    m.events.runUntil(5.5e9)
    take(m, d, 1)
    pagePoolDestroy(m.cpu, d)
    expect(netdevNlPagePoolGet(m.pools, 0)).toEqual([
      { id: 2, ifindex: 7, 'napi-id': 515, inflight: 2, 'inflight-mem': 16384 },
      { id: 3, inflight: 64, 'inflight-mem': 262144 },
      { id: 4, ifindex: 9, inflight: 1, 'inflight-mem': 4096, 'detach-time': 5 },
    ])
    expect(netdevNlPagePoolGet(m.pools, 7)).toMatchObject([{ id: 2 }])
    pagePoolUnregNetdev(m.pools, 7, 1)
    pagePoolUnregNetdev(m.pools, 9, 0)
    expect(netdevNlPagePoolGet(m.pools, 0)).toMatchObject([{ id: 2 }, { id: 3 }])
    expect(notes).toEqual([
      ['add', 2],
      ['add', 3],
      ['add', 4],
      ['change', 4],
      ['del', 2],
      ['del', 4],
    ])
  })

  it('does not exist before 6.8, and has no statistics unless they are built in', () => {
    const m = poolMachine()
    expect(netdevNlPagePoolStatsGet(m.pools, 0)).toBe(-95)
    const old = poolMachine({}, OLD)
    expect([netdevNlPagePoolGet(old.pools, 0), netdevNlPagePoolStatsGet(old.pools, 0)]).toEqual([-95, -95])
    const profile = { ...m.dma.profile, config: { ...m.dma.profile.config, PAGE_POOL_STATS: 'y' } }
    const built = Object.assign(Object.create(m.pools), { profile })
    make(m, { netdev: 7 })
    take(m, m.pools.pools[1]!, 3)
    expect(netdevNlPagePoolStatsGet(built, 7)).toMatchObject([
      { id: 1, 'alloc-fast': 2, 'alloc-slow': 1, 'alloc-empty': 1 },
    ])
  })
})

describe('who still holds these pages', () => {
  it('is answered page by page by the layers that registered', () => {
    const m = poolMachine()
    pagePoolTrackHolders(m.pools, true)
    m.pools.step = 'step 4: burst'
    const pool = make(m, { label: 'eth0 rx 0' })
    const [inSkb, leaked] = take(m, pool, 2)
    pagePoolRefNetmem(pool, inSkb!)
    const cut = pagePoolAllocFragNetmem(m.cpu, pool, 64, gfp(m))
    const skbs = pagePoolRegisterHolders(m.pools, (visit) => {
      visit(inSkb!, { kind: 'skb', name: '17', where: 'tcp 5 receive queue', step: 'step 6: recv' })
      visit(1, { kind: 'skb', name: '18' })
    })
    const report = pagePoolHoldersReport(pool)
    expect(new Map(report.map((page) => [page.netmem, page]))).toEqual(
      new Map([
        [
          inSkb,
          {
            netmem: inSkb,
            ppRefCount: 2,
            pageRefCount: 1,
            takenAt: 'step 4: burst',
            holders: [{ kind: 'skb', name: '17', where: 'tcp 5 receive queue', step: 'step 6: recv' }],
          },
        ],
        [leaked, { netmem: leaked, ppRefCount: 1, pageRefCount: 1, takenAt: 'step 4: burst', holders: [] }],
        [
          cut,
          {
            netmem: cut,
            ppRefCount: m.mem.pages.ppRefCount[cut],
            pageRefCount: 1,
            takenAt: 'step 4: burst',
            holders: [{ kind: 'page_pool', name: 'eth0 rx 0', where: 'page being cut' }],
          },
        ],
      ]),
    )
    skbs()
    skbs()
    pagePoolTrackHolders(m.pools, false)
    expect(pagePoolHoldersReport(pool).map((page) => [page.holders.length, page.takenAt])).toEqual(
      report.map((page) => [page.netmem === cut ? 1 : 0, '']),
    )
  })
})

describe('a memory provider', () => {
  // A device's own memory: a free list of net_iovs that the CPU never reads.
  const provider = (m: PoolMachine, count: number, initErr = 0) => {
    const { niovs } = m.pools
    const first = netIovAreaCreate(niovs, count)
    const idle = Array.from({ length: count }, (_, i) => first + i)
    const log: string[] = []
    const ops: MemoryProviderOps = {
      name: 'test',
      init: () => initErr,
      destroy: () => log.push('destroy'),
      allocNetmems(cpu, pool) {
        const index = idle.pop()
        if (index === undefined) return 0
        netMpNiovSetDmaAddr(niovs, index, 0x10000000 + index * 4096)
        return netMpNiovSetPagePool(cpu, pool, index)
      },
      releaseNetmem(_cpu, pool, netmem) {
        netMpNiovClearPagePool(pool, netmemToNetIov(netmem))
        idle.push(netmemToNetIov(netmem))
        return false
      },
    }
    return { ops, idle, log }
  }
  const params = (m: PoolMachine): PagePoolParams => ({
    flags: 3 | PP_FLAG_ALLOW_UNREADABLE_NETMEM,
    dev: deviceCreate(m.dma, { name: 'nic' }),
    dmaDir: DMA_FROM_DEVICE,
    maxLen: 4096,
    netdev: 7,
    queueIdx: 3,
    poolSize: 2,
  })

  it('lends net_iovs through the same cache and ring, and gets them back when they leave', () => {
    const m = poolMachine()
    const { ops, idle, log } = provider(m, 100)
    m.pools.rxQueueProvider = (netdev, queueIdx) => (netdev === 7 && queueIdx === 3 ? { ops, priv: null } : null)
    const pool = make(m, params(m))
    const out = Array.from({ length: 100 }, () => pagePoolAllocNetmems(m.cpu, pool, gfp(m)))
    expect(out.every((netmem) => netmem < 0)).toBe(true)
    expect(pagePoolAllocNetmems(m.cpu, pool, gfp(m))).toBe(0)
    expect([pagePoolGetDmaAddr(pool, out[0]!), netmemGetPp(m.pools, out[0]!)]).toEqual([0x10000000 + 99 * 4096, pool])
    expect(auditPagePool(pool)).toEqual({ cached: 0, ring: 0, lent: 100 })
    pagePoolRefNetmem(pool, out[0]!)
    napiPpPutPage(m.pools, m.cpu, out[0]!)
    expect(auditPagePool(pool).lent).toBe(100)
    for (const netmem of out.slice(0, 5)) napiPpPutPage(m.pools, m.cpu, netmem)
    expect([auditPagePool(pool), idle.length]).toEqual([{ cached: 0, ring: 2, lent: 95 }, 3])
    expect(pagePoolAllocNetmems(m.cpu, pool, gfp(m))).toBe(out[1])
    pagePoolPutFullNetmem(m.cpu, pool, out[1]!, true)
    expect(auditPagePool(pool).cached).toBe(2)
    const frag = pagePoolAllocFragNetmem(m.cpu, pool, 100, gfp(m))
    pagePoolAllocFragNetmem(m.cpu, pool, 4096, gfp(m))
    expect(m.pools.niovs.ppRefCount[netmemToNetIov(frag)]).toBe(1)
    napiPpPutPage(m.pools, m.cpu, frag)
    napiPpPutPage(m.pools, m.cpu, pool.fragPage)
    const rest = Int32Array.from(out.slice(5))
    pagePoolPutNetmemBulk(m.pools, m.cpu, rest, rest.length)
    expect(pagePoolCheckMemoryProvider(m.pools, 7, 3)).toBe(0)
    pagePoolDestroy(m.cpu, pool)
    expect([pool.freed, idle.length, log]).toEqual([true, 100, ['destroy']])
    expect(pagePoolCheckMemoryProvider(m.pools, 7, 3)).toBe(-2)
    auditPagePoolsQuiescent(m.pools)
    expect(netIovToNetmem(0)).toBe(-1)
  })

  it('needs a pool that maps and syncs, and its own consent', () => {
    const m = poolMachine()
    trackAllocations(m.mem)
    const { ops } = provider(m, 1, -19)
    m.pools.rxQueueProvider = () => ({ ops, priv: null })
    expect(pagePoolCreate(m.pools, m.cpu, { ...params(m), flags: 1 | PP_FLAG_ALLOW_UNREADABLE_NETMEM })).toBe(-95)
    expect(pagePoolCreate(m.pools, m.cpu, params(m))).toBe(-19)
    expect(m.log).toContain('page_pool_init() mem-provider init failed -19')
    assertNoLeaks(m.mem)
    auditPagePoolsQuiescent(m.pools)
  })

  it('is not there for a queue that has none: then the pool is an ordinary one', () => {
    const m = poolMachine()
    m.pools.rxQueueProvider = () => null
    const pool = make(m, params(m))
    expect(take(m, pool, 1)[0]).toBeGreaterThan(0)
    expect(pagePoolGetStats(pool).slow).toBe(1)
  })
})
