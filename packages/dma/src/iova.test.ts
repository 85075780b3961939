import { seeded } from '@netmem/base/testing'
import { failEvery, failNth, trackAllocations } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { describe, expect, it } from 'vitest'
import { allocIova, freeIova, IovaDomain, putIovaDomain, reserveIova } from './iova.js'
import { IovaFlushQueues, iovaQueued, queueIova } from './iova-fq.js'
import {
  allocIovaFast,
  freeCachedIovas,
  freeIovaFast,
  freeIovaRcaches,
  IovaRcaches,
  iovaCached,
} from './iova-rcache.js'
import { dmaMachine } from './testing.js'

const LIMIT = 2 ** 20 - 1

describe('device address ranges', () => {
  it('come from the top down, aligned to the power of two of their size', () => {
    const m = dmaMachine()
    const d = new IovaDomain(m.dma, 4096, 1)
    expect(allocIova(m.cpu, d, 1, LIMIT)!.lo).toBe(LIMIT)
    expect(allocIova(m.cpu, d, 4, LIMIT)!.lo).toBe(LIMIT - 7)
    expect(allocIova(m.cpu, d, 3, LIMIT)!.lo).toBe(LIMIT - 11)
    // The search goes on below the last range, so the gap above it stays until something above is freed.
    expect(allocIova(m.cpu, d, 1, LIMIT)!.lo).toBe(LIMIT - 12)
    freeIova(m.cpu, d, LIMIT - 7)
    expect(allocIova(m.cpu, d, 1, LIMIT)!.lo).toBe(LIMIT - 1)
  })

  it('never touch what was reserved', () => {
    const m = dmaMachine()
    const d = new IovaDomain(m.dma, 4096, 1)
    reserveIova(d, LIMIT - 1, LIMIT - 1)
    expect(allocIova(m.cpu, d, 1, LIMIT)!.lo).toBe(LIMIT)
    expect(allocIova(m.cpu, d, 2, LIMIT)!.lo).toBe(LIMIT - 3)
    expect(() => reserveIova(d, LIMIT, LIMIT)).toThrow('in use')
  })

  it('run out, say so, and are there again after a free', () => {
    const m = dmaMachine()
    const d = new IovaDomain(m.dma, 4096, 1)
    const all = Array.from({ length: 15 }, () => allocIova(m.cpu, d, 1, 15)!.lo)
    expect(new Set(all).size).toBe(15)
    expect(allocIova(m.cpu, d, 1, 15)).toBeNull()
    freeIova(m.cpu, d, 8)
    expect(allocIova(m.cpu, d, 2, 15)).toBeNull()
    expect(allocIova(m.cpu, d, 1, 15)!.lo).toBe(8)
  })

  it('leave nothing behind when there is no memory for the record', () => {
    const m = dmaMachine()
    const d = new IovaDomain(m.dma, 4096, 1)
    m.mem.fault = failNth(1).bySite('alloc_iova')
    expect(allocIova(m.cpu, d, 1, LIMIT)).toBeNull()
    expect(d.index.size).toBe(0)
    m.mem.fault = null
    expect(allocIova(m.cpu, d, 1, LIMIT)!.lo).toBe(LIMIT)
  })

  it.each([11, 12, 13, 14])('agree with a set of intervals under random steps (seed %i)', (seed) => {
    const { rng, label } = seeded(seed)
    const m = dmaMachine()
    trackAllocations(m.mem)
    const d = new IovaDomain(m.dma, 4096, 1)
    const top = 300
    const taken = new Uint8Array(top + 1)
    taken[0] = 1
    const live: { lo: number; pages: number }[] = []
    for (let step = 0; step < 3000; step++) {
      const message = `${label} step ${step}`
      if (rng.below(2) === 0) {
        const pages = 1 + rng.below(rng.below(4) === 0 ? 40 : 5)
        const iova = allocIova(m.cpu, d, pages, top)
        const align = 2 ** Math.ceil(Math.log2(pages))
        if (iova === null) {
          for (let lo = align; lo + pages - 1 <= top; lo += align)
            expect(taken.subarray(lo, lo + pages).includes(1), `${message}: ${lo} was free`).toBe(true)
          continue
        }
        expect(iova.lo % align, message).toBe(0)
        expect(iova.hi, message).toBeLessThanOrEqual(top)
        expect(taken.subarray(iova.lo, iova.hi + 1).includes(1), message).toBe(false)
        taken.fill(1, iova.lo, iova.hi + 1)
        live.push({ lo: iova.lo, pages })
      } else if (live.length > 0) {
        const [gone] = live.splice(rng.below(live.length), 1)
        expect(freeIova(m.cpu, d, gone!.lo), message).toBe(true)
        taken.fill(0, gone!.lo, gone!.lo + gone!.pages)
      }
      expect(d.usedPages, message).toBe(taken.reduce((a, b) => a + b, 0) - 1)
    }
    putIovaDomain(m.cpu, d)
    expect(d.index.size).toBe(0)
    expect(d.cachedNode).toBe(d.anchor)
    auditMemory(m.mem)
  })
})

describe('the caches of freed addresses', () => {
  it('hand the last freed range of a size class out first', () => {
    const m = dmaMachine()
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    const a = allocIovaFast(m.cpu, rc, 1, LIMIT, true)
    const b = allocIovaFast(m.cpu, rc, 1, LIMIT, true)
    freeIovaFast(m.cpu, rc, b, 1)
    freeIovaFast(m.cpu, rc, a, 1)
    expect(allocIovaFast(m.cpu, rc, 1, LIMIT, true)).toBe(a)
    expect(allocIovaFast(m.cpu, rc, 1, LIMIT, true)).toBe(b)
  })

  it('round what they may cache up to a power of two, so that any size of the class can have it', () => {
    const m = dmaMachine()
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    const a = allocIovaFast(m.cpu, rc, 3, LIMIT, true)
    expect(rc.iovad.usedPages).toBe(4)
    freeIovaFast(m.cpu, rc, a, 3)
    expect(allocIovaFast(m.cpu, rc, 4, LIMIT, true)).toBe(a)
    allocIovaFast(m.cpu, rc, 33, LIMIT, true)
    expect(rc.iovad.usedPages).toBe(4 + 33)
  })

  it('do not take more than 32 pages at once', () => {
    const m = dmaMachine()
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    freeIovaFast(m.cpu, rc, allocIovaFast(m.cpu, rc, 33, LIMIT, true), 33)
    expect(rc.iovad.usedPages).toBe(0)
    freeIovaFast(m.cpu, rc, allocIovaFast(m.cpu, rc, 32, LIMIT, true), 32)
    expect(rc.iovad.usedPages).toBe(32)
  })

  it('are per CPU, with two magazines of 127 and a depot for full ones', () => {
    const m = dmaMachine()
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    const all = Array.from({ length: 127 * 3 }, () => allocIovaFast(m.cpu, rc, 1, LIMIT, true))
    for (const pfn of all) freeIovaFast(m.cpu, rc, pfn, 1)
    expect(rc.classes[0]!.depot.length).toBe(1)
    expect(new Set(iovaCached(rc)).size).toBe(127 * 3)
    // The other CPU has nothing of its own and takes the depot's magazine.
    expect(allocIovaFast(m.cpus[1]!, rc, 1, LIMIT, true)).toBe(all[253])
    expect(rc.classes[0]!.depot.length).toBe(0)
  })

  it.each([
    ['linux-6.18-x86_64', 1600, 2],
    ['linux-6.1-x86_64', 1600, 11],
  ])('%s: the depot shrinks to one magazine per CPU where the kernel trims it', (profile, count, depot) => {
    const m = dmaMachine({}, { profile })
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    const all = Array.from({ length: count }, () => allocIovaFast(m.cpu, rc, 1, LIMIT, true))
    for (const pfn of all) freeIovaFast(m.cpu, rc, pfn, 1)
    expect(rc.classes[0]!.depot.length).toBe(11)
    m.events.runUntil(10e9)
    expect(rc.classes[0]!.depot.length).toBe(depot)
    expect(rc.iovad.usedPages).toBe(iovaCached(rc).length)
  })

  it('of 6.1 give a magazine back to the space when the depot has 32', () => {
    const m = dmaMachine({}, { profile: 'linux-6.1-x86_64' })
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    const all = Array.from({ length: 127 * 36 }, () => allocIovaFast(m.cpu, rc, 1, LIMIT, true))
    for (const pfn of all) freeIovaFast(m.cpu, rc, pfn, 1)
    expect(rc.classes[0]!.depot.length).toBe(32)
    expect(rc.iovad.usedPages).toBe(127 * 34)
  })

  it('are flushed when the space is full, so that their ranges can serve another size', () => {
    const m = dmaMachine()
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    const all = Array.from({ length: 63 }, () => allocIovaFast(m.cpu, rc, 1, 63, true))
    for (const pfn of all) freeIovaFast(m.cpu, rc, pfn, 1)
    expect(allocIovaFast(m.cpu, rc, 16, 63, false)).toBe(0)
    expect(allocIovaFast(m.cpu, rc, 16, 63, true)).toBe(48)
  })

  it('free straight to the space when no magazine can be had', () => {
    const m = dmaMachine()
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    const all = Array.from({ length: 300 }, () => allocIovaFast(m.cpu, rc, 1, LIMIT, true))
    m.mem.fault = failEvery(1).bySite('iova_magazine_alloc')
    for (const pfn of all) freeIovaFast(m.cpu, rc, pfn, 1)
    m.mem.fault = null
    expect(rc.iovad.usedPages).toBe(254)
    freeCachedIovas(m.cpu, rc)
    expect(rc.iovad.usedPages).toBe(0)
    freeIovaRcaches(m.cpu, rc)
    putIovaDomain(m.cpu, rc.iovad)
    auditMemory(m.mem)
  })
})

describe('the flush queue', () => {
  const make = (single = false) => {
    const m = dmaMachine()
    const rc = new IovaRcaches(new IovaDomain(m.dma, 4096, 1))
    let flushes = 0
    const fqs = new IovaFlushQueues(rc, single, () => flushes++)
    return { m, rc, fqs, flushes: () => flushes }
  }

  it('holds an address until 10 ms have passed', () => {
    const { m, rc, fqs, flushes } = make()
    const pfn = allocIovaFast(m.cpu, rc, 1, LIMIT, true)
    queueIova(m.cpu, fqs, pfn, 1)
    expect(allocIovaFast(m.cpu, rc, 1, LIMIT, true)).not.toBe(pfn)
    m.events.runUntil(10e6 - 1)
    expect([flushes(), iovaQueued(fqs).length]).toEqual([0, 1])
    m.events.runUntil(10e6)
    expect([flushes(), iovaQueued(fqs).length]).toEqual([1, 0])
    expect(allocIovaFast(m.cpu, rc, 1, LIMIT, true)).toBe(pfn)
    expect(m.events.pending).toBe(0)
  })

  it('flushes at once when a CPU has queued 255', () => {
    const { m, rc, fqs, flushes } = make()
    const all = Array.from({ length: 300 }, () => allocIovaFast(m.cpu, rc, 1, LIMIT, true))
    for (const pfn of all.slice(0, 255)) queueIova(m.cpu, fqs, pfn, 1)
    expect([flushes(), iovaQueued(fqs).length]).toEqual([0, 255])
    queueIova(m.cpu, fqs, all[255]!, 1)
    expect([flushes(), iovaQueued(fqs).length]).toEqual([1, 1])
  })

  it('lets another CPU free what this flush covered when it queues next', () => {
    const { m, rc, fqs, flushes } = make()
    const all = Array.from({ length: 300 }, () => allocIovaFast(m.cpu, rc, 1, LIMIT, true))
    queueIova(m.cpus[1]!, fqs, all[299]!, 1)
    for (const pfn of all.slice(0, 256)) queueIova(m.cpu, fqs, pfn, 1)
    expect(flushes()).toBe(1)
    expect(iovaQueued(fqs)).toContain(all[299])
    queueIova(m.cpus[1]!, fqs, all[298]!, 1)
    expect(iovaQueued(fqs)).not.toContain(all[299])
    expect(flushes()).toBe(1)
  })

  it('can be one for all CPUs, with room for 32767 and a second of time', () => {
    const { m, rc, fqs, flushes } = make(true)
    queueIova(m.cpu, fqs, allocIovaFast(m.cpu, rc, 1, LIMIT, true), 1)
    queueIova(m.cpus[1]!, fqs, allocIovaFast(m.cpu, rc, 1, LIMIT, true), 1)
    m.events.runUntil(1e9 - 1)
    expect([flushes(), iovaQueued(fqs).length]).toEqual([0, 2])
    m.events.runUntil(1e9)
    expect([flushes(), iovaQueued(fqs).length]).toEqual([1, 0])
  })
})
