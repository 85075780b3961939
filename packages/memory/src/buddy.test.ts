import type { Cpu, Pfn } from '@netmem/base'
import { seeded } from '@netmem/base/testing'
import { describe, expect, it } from 'vitest'
import {
  allocPages,
  allocPagesBulk,
  drainAllPages,
  freePages,
  getPage,
  nrFreePages,
  putPage,
  splitPage,
} from './index.js'
import { auditMemory, testMachine } from './testing.js'

const SITE = 'test'

/** The naive model: which frames are taken, by a plain set. */
class Frames {
  private readonly taken = new Set<number>()
  take(pfn: number, count: number): void {
    for (let page = pfn; page < pfn + count; page++) {
      expect(this.taken.has(page), `page ${page} handed out twice`).toBe(false)
      this.taken.add(page)
    }
  }
  give(pfn: number, count: number): void {
    for (let page = pfn; page < pfn + count; page++) this.taken.delete(page)
  }
  get size(): number {
    return this.taken.size
  }
}

describe('page allocator', () => {
  it('hands out the lower half of a split block and gives the upper half back', () => {
    const { mem, cpu } = testMachine({ bytes: 16 << 20 })
    const order4 = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 4, -1, SITE)
    expect(order4 % 16).toBe(0)
    const next = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 4, -1, SITE)
    expect(next).toBe(order4 + 16)
    freePages(mem, cpu, order4, 4, SITE)
    freePages(mem, cpu, next, 4, SITE)
    auditMemory(mem)
  })

  it('merges everything back: after all is freed and drained the free lists are as after boot', () => {
    const { mem, cpu, cpus } = testMachine({ bytes: 32 << 20 })
    const counts = () => mem.zones.map((zone) => [...zone.freeCount].reduce((sum, n) => sum + n, 0))
    const atBoot = nrFreePages(mem)
    const blocks = counts()
    const held: [Pfn, number][] = []
    const { rng, label } = seeded(7)
    for (let i = 0; i < 400; i++) {
      const order = rng.below(6)
      const pfn = allocPages(mem, cpus[rng.below(2)]!, mem.gfp.GFP_KERNEL, order, -1, SITE)
      if (pfn !== 0) held.push([pfn, order])
    }
    for (const [pfn, order] of held) freePages(mem, cpus[rng.below(2)]!, pfn, order, SITE)
    drainAllPages(mem, cpu)
    expect(nrFreePages(mem), label).toBe(atBoot)
    expect(counts(), label).toEqual(blocks)
    auditMemory(mem)
  })

  it.each([
    ['linux-6.18-x86_64', 1, 1],
    ['linux-6.18-x86_64', 2, 2],
    ['linux-6.1-x86_64', 3, 1],
    ['linux-6.1-x86_64', 4, 2],
  ])('agrees with a set of frames under random use (%s, seed %i, %i nodes)', (profile, seed, nodes) => {
    const { mem, cpus } = testMachine({ profile, bytes: 24 << 20, nodes, cpus: 2 })
    const { rng, label } = seeded(seed)
    const frames = new Frames()
    const held: { pfn: Pfn; order: number; compound: boolean }[] = []
    const masks = [
      mem.gfp.GFP_KERNEL,
      mem.gfp.GFP_ATOMIC,
      mem.gfp.GFP_HIGHUSER_MOVABLE,
      mem.gfp.GFP_KERNEL | mem.gfp.RECLAIMABLE,
      mem.gfp.GFP_KERNEL | mem.gfp.DMA,
      mem.gfp.GFP_KERNEL | mem.gfp.DMA32,
    ]
    for (let step = 0; step < 1500; step++) {
      const cpu = cpus[rng.below(cpus.length)]!
      const fill = step % 500 < 300
      if (rng.below(100) < (fill ? 70 : 30)) {
        const order = rng.below(100) < 70 ? 0 : rng.below(11)
        const compound = rng.below(2) === 0
        const gfp = masks[rng.below(masks.length)]! | (compound ? mem.gfp.COMP : 0) | mem.gfp.NOWARN
        const pfn = allocPages(mem, cpu, gfp, order, nodes > 1 && rng.below(2) ? rng.below(nodes) : -1, SITE)
        if (pfn !== 0) {
          frames.take(pfn, 1 << order)
          held.push({ pfn, order, compound })
          if (compound) for (let i = 0; i < 1 << order; i++) expect(mem.pages.head[pfn + i]).toBe(pfn)
        }
      } else if (held.length > 0) {
        const [block] = held.splice(rng.below(held.length), 1)
        frames.give(block!.pfn, 1 << block!.order)
        freePages(mem, cpu, block!.pfn, block!.order, SITE)
      }
      if (step % 10 === 0) {
        try {
          auditMemory(mem)
        } catch (error) {
          throw new Error(`${label}, step ${step}: ${String(error)}`)
        }
      }
    }
    for (const { pfn, order } of held) freePages(mem, cpus[0]!, pfn, order, SITE)
    drainAllPages(mem, cpus[0]!)
    auditMemory(mem)
    expect(nrFreePages(mem)).toBe(mem.zones.reduce((sum, zone) => sum + zone.managed, 0))
  })

  it('keeps a compound page until its last reference goes, from whichever of its pages', () => {
    const { mem, cpu } = testMachine()
    const pfn = allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.COMP, 3, -1, SITE)
    getPage(mem, (pfn + 5) as Pfn)
    expect(mem.pages.refcount[pfn]).toBe(2)
    freePages(mem, cpu, pfn, 3, SITE)
    auditMemory(mem)
    expect(mem.pages.refcount[pfn]).toBe(1)
    putPage(mem, cpu, (pfn + 7) as Pfn, SITE)
    expect(mem.pages.refcount[pfn]).toBe(0)
    auditMemory(mem)
  })

  it('frees the rest of a plain block at once when somebody else still holds its first page', () => {
    const { mem, cpu } = testMachine()
    const free = () => nrFreePages(mem) + mem.zones.reduce((sum, zone) => sum + zone.pcp[0]!.count, 0)
    const before = free()
    const pfn = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 3, -1, SITE)
    getPage(mem, pfn)
    freePages(mem, cpu, pfn, 3, SITE)
    expect(free()).toBe(before - 1)
    auditMemory(mem)
    putPage(mem, cpu, pfn, SITE)
    expect(free()).toBe(before)
    auditMemory(mem)
  })

  it('splits a block into pages that live and die alone', () => {
    const { mem, cpu } = testMachine()
    const pfn = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 2, -1, SITE)
    splitPage(mem, pfn, 2)
    for (const i of [2, 0, 3, 1]) {
      putPage(mem, cpu, (pfn + i) as Pfn, SITE)
      auditMemory(mem)
    }
  })

  it('zeroes pages when asked, even those that were used before', () => {
    const { mem, cpu } = testMachine()
    const dirty = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 1, -1, SITE)
    mem.u8.fill(0xa5, dirty << 12, (dirty + 2) << 12)
    freePages(mem, cpu, dirty, 1, SITE)
    const clean = allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.ZERO, 1, -1, SITE)
    expect(clean).toBe(dirty)
    expect(mem.u8.subarray(clean << 12, (clean + 2) << 12).every((byte) => byte === 0)).toBe(true)
  })

  it('notices a page that is freed twice', () => {
    const { mem, cpu } = testMachine()
    const pfn = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    freePages(mem, cpu, pfn, 0, SITE)
    expect(() => freePages(mem, cpu, pfn, 0, SITE)).toThrow('is free already')
    expect(() => putPage(mem, cpu, pfn, SITE)).toThrow('is free already')
    expect(() => getPage(mem, pfn)).toThrow('the page is free')
  })

  it('refuses orders above the largest, with a warning unless told not to', () => {
    const { mem, cpu, trace } = testMachine()
    const warnings: string[] = []
    trace.warn = (site) => warnings.push(site)
    expect(allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 11, -1, SITE)).toBe(0)
    expect(allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.NOWARN, 11, -1, SITE)).toBe(0)
    expect(warnings).toEqual(['__alloc_pages'])
  })
})

describe('bulk allocation', () => {
  it('fills empty slots only and counts those that were filled before', () => {
    const { mem, cpu } = testMachine()
    const out = new Int32Array(12)
    const own = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    out[2] = own
    out[6] = own
    expect(allocPagesBulk(mem, cpu, mem.gfp.GFP_KERNEL, -1, 10, out, 1, SITE)).toBe(10)
    expect(out[0]).toBe(0)
    expect(out[11]).toBe(0)
    expect(out[2]).toBe(own)
    expect(out[6]).toBe(own)
    expect(new Set(out.subarray(1, 11)).size).toBe(9)
    auditMemory(mem)
    for (const pfn of new Set(out)) if (pfn !== 0) freePages(mem, cpu, pfn as Pfn, 0, SITE)
    auditMemory(mem)
  })

  it('leaves a zone that it would take below its mark to the single allocator', () => {
    const { mem, cpu } = testMachine({ bytes: 8 << 20 })
    const out = new Int32Array(4096)
    const got = allocPagesBulk(mem, cpu, mem.gfp.GFP_KERNEL, -1, 4096, out, 0, SITE)
    expect(got).toBe(1)
    auditMemory(mem)
  })

  it('fires no event per page, as the kernel does not either', () => {
    const { mem, cpu, trace } = testMachine()
    const seen: number[] = []
    trace.mmPageAlloc = (_cpu: Cpu, pfn: Pfn) => seen.push(pfn)
    const out = new Int32Array(20)
    allocPagesBulk(mem, cpu, mem.gfp.GFP_ATOMIC, -1, 20, out, 0, SITE)
    expect(out.every((pfn) => pfn !== 0)).toBe(true)
    expect(seen).toEqual([])
  })
})
