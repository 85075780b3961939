import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import {
  allocPages,
  allocPagesBulk,
  failEvery,
  failNever,
  failNth,
  failProbability,
  freePages,
  kfree,
  kmalloc,
  kmemCacheAlloc,
  kmemCacheAllocObjBulk,
  kmemCacheCreate,
  kmemCacheFree,
  kmemCacheFreeObjBulk,
  leakReport,
  type Memory,
  trackAllocations,
  userAlloc,
  userFree,
} from './index.js'
import { assertNoLeaks, auditMemory, type TestMachine, testMachine } from './testing.js'

const SITE = 'test'

/** A path through every allocator that gives up cleanly wherever it fails. @returns whether it got to the end. */
function everything({ mem, cpu }: TestMachine): boolean {
  const { GFP_KERNEL, COMP, NOWARN } = mem.gfp
  const gfp = GFP_KERNEL | NOWARN
  const undo: (() => void)[] = []
  const giveUp = () => {
    for (const step of undo.reverse()) step()
  }
  const cache = kmemCacheCreate(mem, 'path', 600, { usersize: 8 })
  const object = kmemCacheAlloc(cache, cpu, gfp, SITE)
  if (object === 0) return false
  undo.push(() => kmemCacheFree(cache, cpu, object, SITE))
  const block = kmalloc(mem, cpu, 3000, gfp, SITE)
  if (block === 0) {
    giveUp()
    return false
  }
  undo.push(() => kfree(mem, cpu, block, SITE))
  const large = kmalloc(mem, cpu, 20000, gfp, SITE)
  if (large === 0) {
    giveUp()
    return false
  }
  undo.push(() => kfree(mem, cpu, large, SITE))
  const page = allocPages(mem, cpu, gfp | COMP, 3, -1, SITE)
  if (page === 0) {
    giveUp()
    return false
  }
  undo.push(() => freePages(mem, cpu, page, 3, SITE))
  const objs = new Int32Array(40)
  if (kmemCacheAllocObjBulk(cache, cpu, gfp, 40, objs, 0, SITE) === 0) {
    giveUp()
    return false
  }
  undo.push(() => kmemCacheFreeObjBulk(cache, cpu, 40, objs, 0, SITE))
  const user = userAlloc(mem, cpu, 50_000)
  if (user === null) {
    giveUp()
    return false
  }
  userFree(mem, cpu, user)
  giveUp()
  return true
}

describe('failure injection', () => {
  it('lets the n-th allocation fail, for every n, and nothing leaks', () => {
    const probe = testMachine()
    probe.mem.fault = failNever()
    expect(everything(probe)).toBe(true)
    const total = probe.mem.fault.calls
    expect(total).toBeGreaterThan(8)
    let survived = 0
    for (let n = 1; n <= total; n++) {
      const machine = testMachine()
      const { mem } = machine
      trackAllocations(mem)
      mem.fault = failNth(n)
      if (everything(machine)) survived++
      expect(mem.fault.failed, `allocation ${n}`).toBe(1)
      mem.fault = null
      auditMemory(mem)
      assertNoLeaks(mem)
    }
    // Failures of a wish (a large slab, a contiguous buffer) are made up for; the others end the path.
    expect(survived).toBeGreaterThan(0)
    expect(survived).toBeLessThan(total)
  })

  it('can choose by kind, size and site, in any combination', () => {
    const { mem, cpu } = testMachine()
    mem.fault = failEvery(1).byKind('kmalloc').bySize(1000, 3000).bySite('__alloc_skb')
    const ok = (size: number, site: string) => kmalloc(mem, cpu, size, mem.gfp.GFP_ATOMIC, site) !== 0
    expect([ok(2000, '__alloc_skb'), ok(900, '__alloc_skb'), ok(2000, 'sock_kmalloc')]).toEqual([false, true, true])
    expect(mem.fault).toMatchObject({ matched: 1, failed: 1, lastSite: '__alloc_skb', lastKind: 'kmalloc' })
  })

  it('fails every n-th, or by a seeded probability', () => {
    const { mem, cpu } = testMachine()
    const run = (mem: Memory, count: number) =>
      Array.from({ length: count }, () =>
        allocPages(mem, cpu, mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN, 0, -1, SITE) ? 1 : 0,
      )
    mem.fault = failEvery(3)
    expect(run(mem, 7)).toEqual([1, 1, 0, 1, 1, 0, 1])
    mem.fault = failProbability(new Prng(11), 0.25)
    const first = run(mem, 200)
    mem.fault = failProbability(new Prng(11), 0.25)
    expect(run(mem, 200)).toEqual(first)
    const failed = first.filter((ok) => ok === 0).length
    expect(failed).toBeGreaterThan(20)
    expect(failed).toBeLessThan(80)
  })

  it('leaves the slots of a bulk allocation empty', () => {
    const { mem, cpu } = testMachine()
    const out = new Int32Array(8)
    mem.fault = failNth(1)
    expect(allocPagesBulk(mem, cpu, mem.gfp.GFP_KERNEL, -1, 8, out, 0, SITE)).toBe(0)
    expect([...out].every((pfn) => pfn === 0)).toBe(true)
  })
})

describe('leak listing', () => {
  it('names who allocated what is live, and when', () => {
    const { mem, cpu } = testMachine()
    kmalloc(mem, cpu, 100, mem.gfp.GFP_KERNEL, 'before')
    const tracker = trackAllocations(mem)
    tracker.step = 5
    const kept = kmalloc(mem, cpu, 1000, mem.gfp.GFP_KERNEL, '__alloc_skb')
    kfree(mem, cpu, kmalloc(mem, cpu, 64, mem.gfp.GFP_KERNEL, 'gone'), SITE)
    const page = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 1, -1, 'skb_page_frag_refill')
    kmalloc(mem, cpu, 9000, mem.gfp.GFP_KERNEL, '__alloc_skb')
    expect(tracker.live()).toMatchObject([
      { kind: 'slab', addr: kept, bytes: 1024, cache: 'kmalloc-1k', site: '__alloc_skb', step: 5 },
      { kind: 'page', addr: page << 12, bytes: 8192, site: 'skb_page_frag_refill' },
      { kind: 'page', bytes: 16384, site: '__alloc_skb' },
    ])
    expect(leakReport(tracker.live())).toEqual([
      '1 x pages of 16384 = 16384 bytes from __alloc_skb',
      '1 x pages of 8192 = 8192 bytes from skb_page_frag_refill',
      '1 x kmalloc-1k = 1024 bytes from __alloc_skb',
    ])
    expect(() => assertNoLeaks(mem)).toThrow('still allocated:\n1 x pages of 16384')
  })
})
