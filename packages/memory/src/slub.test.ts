import type { Addr } from '@netmem/base'
import { seeded } from '@netmem/base/testing'
import { describe, expect, it } from 'vitest'
import {
  failEvery,
  failNth,
  type KmemCache,
  kmemCacheAlloc,
  kmemCacheAllocBulk,
  kmemCacheAllocNode,
  kmemCacheAllocObj,
  kmemCacheAllocObjBulk,
  kmemCacheCreate,
  kmemCacheDestroy,
  kmemCacheFree,
  kmemCacheFreeBulk,
  kmemCacheFreeObj,
  kmemCacheFreeObjBulk,
  kmemCacheInuse,
  kmemCacheObjAddr,
  kmemCacheObjAt,
  kmemCacheObjOf,
  kmemCacheShrink,
  kmemCacheZalloc,
  nrFreePages,
  nrPcpPages,
  SLAB_HWCACHE_ALIGN,
  slabInfo,
} from './index.js'
import { auditMemory, auditSlab, testMachine } from './testing.js'

const SITE = 'test'
const line = (cache: KmemCache) => slabInfo(cache.mem).find((info) => info.name === cache.core.name)!

describe('SLUB', () => {
  it.each([
    [1, 256, 1],
    [2, 576, 2],
    [3, 1344, 2],
    [4, 5888, 1],
    [5, 8, 2],
  ])('agrees with a set of addresses under random use (seed %i, %i bytes, %i nodes)', (seed, bytes, nodes) => {
    const { mem, cpus } = testMachine({ bytes: 32 << 20, nodes })
    const cache = kmemCacheCreate(mem, 'victim', bytes, { flags: SLAB_HWCACHE_ALIGN, usersize: 8 })
    const { rng, label } = seeded(seed)
    const held = new Set<number>()
    const scratch = new Int32Array(64)
    const take = (addr: number) => {
      expect(held.has(addr), label).toBe(false)
      held.add(addr)
    }
    for (let step = 0; step < 1200; step++) {
      const cpu = cpus[rng.below(2)]!
      const grow = step % 400 < 220
      if (rng.below(100) < (grow ? 70 : 25)) {
        const kind = rng.below(4)
        if (kind === 0) {
          const n = 1 + rng.below(40)
          expect(kmemCacheAllocBulk(cache, cpu, mem.gfp.GFP_ATOMIC, n, scratch, 3, SITE)).toBe(n)
          for (let i = 0; i < n; i++) take(scratch[3 + i]!)
        } else if (kind === 1) take(kmemCacheAllocNode(cache, cpu, mem.gfp.GFP_KERNEL, rng.below(nodes), SITE))
        else take(kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE))
      } else if (held.size > 0) {
        const all = [...held]
        const n = Math.min(all.length, rng.below(3) === 0 ? 1 + rng.below(60) : 1)
        const from = rng.below(all.length - n + 1)
        for (let i = 0; i < n; i++) {
          scratch[i] = all[from + i]!
          held.delete(all[from + i]!)
        }
        if (n > 1) kmemCacheFreeBulk(cache, cpu, n, scratch, 0, SITE)
        else kmemCacheFree(cache, cpu, scratch[0]! as Addr, SITE)
      }
      expect(kmemCacheInuse(cache.core), label).toBe(held.size)
      try {
        auditSlab(cache.core)
        if (step % 100 === 0) auditMemory(mem)
      } catch (error) {
        throw new Error(`${label}, step ${step}: ${String(error)}`)
      }
    }
    for (const addr of held) kmemCacheFree(cache, cpus[0]!, addr as Addr, SITE)
    expect(kmemCacheDestroy(cache, cpus[0]!)).toBe(true)
    auditMemory(mem)
  })

  it('never lets two objects overlap, and keeps them inside their slab', () => {
    const { mem, cpu } = testMachine()
    for (const bytes of [8, 24, 96, 200, 232, 576, 1000, 2368, 4288, 6000, 20000, 40000]) {
      const cache = kmemCacheCreate(mem, `c${bytes}`, bytes, { usersize: 8 })
      const addrs = Array.from({ length: 40 }, () => kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE) >>> 0)
      const sorted = [...addrs].sort((a, b) => a - b)
      for (let i = 1; i < sorted.length; i++) expect(sorted[i]! - sorted[i - 1]!).toBeGreaterThanOrEqual(bytes)
      for (const addr of addrs) kmemCacheFree(cache, cpu, addr as Addr, SITE)
      auditSlab(cache.core)
    }
  })

  it('finds the number of every object of every geometry from its address', () => {
    const { mem, cpu } = testMachine({ bytes: 64 << 20 })
    for (let bytes = 8; bytes <= 8192; bytes += bytes < 1024 ? 8 : 264) {
      const cache = kmemCacheCreate(mem, `g${bytes}`, bytes, { usersize: 8 })
      const count = cache.core.objects + 1
      for (let i = 0; i < count; i++) {
        const obj = kmemCacheAllocObj(cache, cpu, mem.gfp.GFP_KERNEL, -1, SITE)
        expect(kmemCacheObjAt(cache, (kmemCacheObjAddr(cache, obj) + bytes - 1) as Addr)).toBe(obj)
        expect(kmemCacheObjOf(cache, kmemCacheObjAddr(cache, obj))).toBe(obj)
      }
    }
  })

  it('hands out the object that was freed last', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'lifo', 256, { usersize: 8 })
    const [a, b] = [1, 2].map(() => kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE))
    kmemCacheFree(cache, cpu, a!, SITE)
    kmemCacheFree(cache, cpu, b!, SITE)
    expect(kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE)).toBe(b)
    expect(kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE)).toBe(a)
  })

  it('collects what other CPUs freed into its slab before it takes a new one', () => {
    const { mem, cpus } = testMachine()
    const cache = kmemCacheCreate(mem, 'remote', 256, { usersize: 8 })
    const addrs = Array.from({ length: 16 }, () => kmemCacheAlloc(cache, cpus[0]!, mem.gfp.GFP_ATOMIC, SITE))
    for (const addr of addrs) kmemCacheFree(cache, cpus[1]!, addr, SITE)
    expect(addrs).toContain(kmemCacheAlloc(cache, cpus[0]!, mem.gfp.GFP_ATOMIC, SITE))
    expect(line(cache).numSlabs).toBe(1)
    auditSlab(cache.core)
  })

  it('parks slabs that were full on the CPU that frees into them, and moves them to the node when there are too many', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'park', 256, { usersize: 8 })
    // 52 free objects per CPU, slabs of 16 taken to be half full: 7 slabs.
    expect(cache.core.cpuPartialSlabs).toBe(7)
    const addrs = Array.from({ length: 16 * 20 }, () => kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE))
    for (let slab = 0; slab < 7; slab++) kmemCacheFree(cache, cpu, addrs[slab * 16]!, SITE)
    expect([cache.core.cpus[0]!.partialCount, cache.core.nodePartialCount[0]]).toEqual([7, 0])
    kmemCacheFree(cache, cpu, addrs[7 * 16]!, SITE)
    expect([cache.core.cpus[0]!.partialCount, cache.core.nodePartialCount[0]]).toEqual([1, 7])
    auditSlab(cache.core)
  })

  it('gives an empty slab back only when the node has enough partial ones', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'keep', 256, { usersize: 8 })
    const addrs = Array.from({ length: 16 * 40 }, () => kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE))
    for (const addr of addrs) kmemCacheFree(cache, cpu, addr, SITE)
    expect(cache.core.minPartial).toBe(5)
    expect(cache.core.nodePartialCount[0]).toBe(5)
    expect(line(cache).numSlabs).toBeLessThan(40)
    auditMemory(mem)
  })

  it('counts objects that are free on a CPU as active, as slabinfo does', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'count', 256, { usersize: 8 })
    const addr = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE)
    expect(line(cache)).toMatchObject({ activeObjs: 16, numObjs: 16, numSlabs: 1 })
    expect(kmemCacheInuse(cache.core)).toBe(1)
    kmemCacheFree(cache, cpu, addr, SITE)
    expect(line(cache).activeObjs).toBe(16)
  })

  it('falls back to the smallest slab when there is no large block', () => {
    const { mem, cpu } = testMachine({ bytes: 16 << 20 })
    const cache = kmemCacheCreate(mem, 'small', 2048, { usersize: 8 })
    mem.fault = failNth(1).byKind('page').bySize(32768)
    const addr = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
    expect(addr).not.toBe(0)
    expect(line(cache)).toMatchObject({ numObjs: 2, objPerSlab: 16 })
    expect(kmemCacheObjOf(cache, addr)).toBe(0)
    const second = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
    expect(kmemCacheObjOf(cache, second)).toBe(1)
    kmemCacheFree(cache, cpu, addr, SITE)
    kmemCacheFree(cache, cpu, second, SITE)
    auditMemory(mem)
  })

  it('notices double frees and foreign objects', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'mine', 256, { usersize: 8 })
    const other = kmemCacheCreate(mem, 'theirs', 256, { usersize: 16 })
    const addr = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE)
    expect(() => kmemCacheFree(other, cpu, addr, SITE)).toThrow('cache_from_obj: Wrong slab cache. theirs')
    expect(() => kmemCacheFree(cache, cpu, (addr + 8) as Addr, SITE)).toThrow('invalid object pointer')
    kmemCacheFree(cache, cpu, addr, SITE)
    expect(() => kmemCacheFree(cache, cpu, addr, SITE)).toThrow('Object already free')
  })

  it('zeroes an object up to its size and no further', () => {
    const { mem, cpu } = testMachine()
    for (const bytes of [24, 200, 1000]) {
      const cache = kmemCacheCreate(mem, `z${bytes}`, bytes, { usersize: 8 })
      const addr = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
      const next = addr + cache.size
      mem.u8.fill(0xff, addr, next + 8)
      kmemCacheFree(cache, cpu, addr, SITE)
      expect(kmemCacheZalloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)).toBe(addr)
      expect(mem.u8.subarray(addr, addr + bytes).every((byte) => byte === 0)).toBe(true)
      expect(mem.u8[next]).toBe(0xff)
    }
  })

  it('tells the hook about every slab, those taken before it was set too', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'hook', 256, { usersize: 8 })
    kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE)
    const seen: [number, number][] = []
    cache.onSlab = (first, count) => seen.push([first, count])
    for (let i = 0; i < 16; i++) kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, SITE)
    expect(seen).toEqual([
      [0, 16],
      [16, 16],
    ])
  })

  it('runs a constructor once per object and keeps the free pointer outside', () => {
    const { mem, cpu } = testMachine()
    const built: number[] = []
    const cache = kmemCacheCreate(mem, 'ctor', 768, {
      flags: SLAB_HWCACHE_ALIGN,
      ctor: (addr) => {
        built.push(addr)
      },
    })
    expect(cache.size).toBe(832)
    const addr = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
    kmemCacheFree(cache, cpu, addr, SITE)
    kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
    expect(built.length).toBe(cache.core.objects)
  })

  it('keeps a cache that still has objects, and returns all its pages otherwise', () => {
    const { mem, cpu, trace } = testMachine()
    const warnings: string[] = []
    trace.warn = (_site, words) => warnings.push(words)
    const pages = () => nrFreePages(mem) + nrPcpPages(mem)
    const before = pages()
    const cache = kmemCacheCreate(mem, 'gone', 512, { usersize: 8 })
    const addr = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
    expect(kmemCacheDestroy(cache, cpu)).toBe(false)
    expect(warnings).toEqual(['gone: Slab cache still has objects (1)'])
    kmemCacheFree(cache, cpu, addr, SITE)
    expect(kmemCacheShrink(cache, cpu)).toBe(1)
    expect(kmemCacheDestroy(cache, cpu)).toBe(true)
    expect(pages()).toBe(before)
    auditMemory(mem)
  })
})

describe('bulk', () => {
  it('gives all or nothing: what was taken before the failure is back', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'bulk', 512, { usersize: 8 })
    const out = new Int32Array(64)
    for (const slabs of [0, 1, 2]) {
      mem.fault = failEvery(1)
        .byKind('page')
        .where(() => cache.core.slabsAllocated - cache.core.slabsFreed >= slabs)
      expect(kmemCacheAllocObjBulk(cache, cpu, mem.gfp.GFP_ATOMIC, 40, out, 0, SITE)).toBe(0)
      expect(kmemCacheInuse(cache.core)).toBe(0)
      auditSlab(cache.core)
    }
    mem.fault = null
    expect(kmemCacheAllocObjBulk(cache, cpu, mem.gfp.GFP_ATOMIC, 40, out, 0, SITE)).toBe(40)
    kmemCacheFreeObjBulk(cache, cpu, 40, out, 0, SITE)
    auditSlab(cache.core)
  })

  it('prints no event, unlike the single calls', () => {
    const { mem, cpu, trace } = testMachine()
    const cache = kmemCacheCreate(mem, 'quiet', 256, { usersize: 8 })
    const events: string[] = []
    trace.kmemCacheAlloc = (_cpu, site, _addr, name, req, alloc, gfp, node, accounted) =>
      events.push(`alloc ${name} ${site} ${req} ${alloc} ${gfp} ${node} ${accounted}`)
    trace.kmemCacheFree = (_cpu, site, _addr, name) => events.push(`free ${name} ${site}`)
    const out = new Int32Array(16)
    kmemCacheAllocObjBulk(cache, cpu, mem.gfp.GFP_ATOMIC, 16, out, 0, SITE)
    kmemCacheFreeObjBulk(cache, cpu, 16, out, 0, SITE)
    expect(events).toEqual([])
    kmemCacheFreeObj(cache, cpu, kmemCacheAllocObj(cache, cpu, mem.gfp.GFP_ATOMIC, -1, SITE), SITE)
    expect(events).toEqual([`alloc quiet test 256 256 ${0x820} -1 false`, 'free quiet test'])
  })
})
