import { Cpu } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { addToFreeList } from './buddy.js'
import { allocPages, freePages, pageIsPfmemalloc, setMinFreeKbytes, Zone, zoneInfo } from './index.js'
import { Pages } from './pages.js'
import { auditMemory, testMachine } from './testing.js'
import {
  ALLOC_HIGHATOMIC,
  ALLOC_MIN_RESERVE,
  ALLOC_NON_BLOCK,
  ALLOC_OOM,
  minFreeKbytesDefault,
  perCpuPages,
  setupPerZoneLowmemReserve,
  setupPerZoneWmarks,
  zoneBatchsize,
  zoneWatermarkOk,
} from './watermarks.js'

const SITE = 'test'

/** Zones of these sizes, as far as the marks need them. */
function zonesOf(...managed: number[]): Zone[] {
  return managed.map((pages, type) => {
    const zone = new Zone(type, 0, type as 0 | 1 | 2, 0, 0)
    zone.managed = pages
    return zone
  })
}

describe('watermarks', () => {
  // /proc/zoneinfo of a 24 GiB machine with the reference kernel, of which only the first zones are at hand here.
  it('equal what a real machine shows for its zones', () => {
    const zones = zonesOf(3840, 772915, 360448)
    setupPerZoneLowmemReserve(zones, [256, 256, 32])
    setupPerZoneWmarks(zones, 67584, 10)
    expect(zones.map((zone) => [...zone.lowmemReserve])).toEqual([
      [0, 3019, 4427],
      [0, 0, 1408],
      [0, 0, 0],
    ])
    expect(zones.map((zone) => [...zone.wmark])).toEqual([
      [57, 71, 85, 99],
      [11483, 14353, 17223, 20093],
      [5355, 6693, 8031, 9369],
    ])
    const lists = zones.map((zone) => perCpuPages(zone, 2, true))
    expect(lists.map(({ batch, highMin, highMax }) => [batch, highMin, highMax])).toEqual([
      [1, 35, 240],
      [63, 7176, 48307],
      [63, 3346, 22528],
    ])
  })

  it('start from min_free_kbytes, which grows with the root of memory and with huge pages', () => {
    expect(minFreeKbytesDefault(zonesOf(3840, 772915, 360448), true)).toBe(67584)
    expect(minFreeKbytesDefault(zonesOf(3840, 772915, 360448), false)).toBe(8531)
    expect(minFreeKbytesDefault(zonesOf(0, 0, 256), true)).toBe(128)
  })

  it('move when min_free_kbytes is set, and the per-CPU limits with them', () => {
    const { mem, cpu } = testMachine({ bytes: 256 << 20 })
    const before = zoneInfo(mem)[2]!
    setMinFreeKbytes(mem, mem.minFreeKbytes * 4)
    const after = zoneInfo(mem)[2]!
    expect(after.min).toBeGreaterThanOrEqual(before.min * 4)
    expect(after.pagesets[0]!.highMin).toBeGreaterThan(before.pagesets[0]!.highMin)
    setMinFreeKbytes(mem, 4 * mem.zones.reduce((sum, zone) => sum + zone.managed, 0))
    expect(allocPages(mem, cpu, mem.gfp.GFP_NOWAIT, 0, -1, SITE)).toBe(0)
    expect(allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 0, -1, SITE)).not.toBe(0)
  })

  it('size batches by zone', () => {
    expect([3840, 65536, 262144, 2228224].map(zoneBatchsize)).toEqual([1, 15, 63, 63])
  })

  it('let those dig deeper who are more urgent', () => {
    const pages = new Pages(1024)
    const [zone] = zonesOf(1024) as [Zone]
    for (let i = 0; i < 50; i++) addToFreeList(pages, zone, 16 + 2 * i, 1, 0, true)
    // 100 pages free, none in a block above order 1.
    const lowest = (flags: number) => {
      let mark = 0
      while (zoneWatermarkOk(zone, 0, mark + 1, 0, flags)) mark++
      return mark
    }
    expect(lowest(0)).toBe(99)
    // Half of the mark, three quarters of that, and half of it for a task that is being killed.
    expect(lowest(ALLOC_MIN_RESERVE)).toBe(198)
    expect(lowest(ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK)).toBe(264)
    expect(lowest(ALLOC_OOM)).toBe(198)
    expect(zoneWatermarkOk(zone, 1, 0, 0, 0)).toBe(true)
    expect(zoneWatermarkOk(zone, 2, 0, 0, 0)).toBe(false)
  })

  it('do not count HIGHATOMIC blocks for those who may not have them', () => {
    const pages = new Pages(1024)
    const [zone] = zonesOf(1024) as [Zone]
    addToFreeList(pages, zone, 64, 6, 3, true)
    expect(zoneWatermarkOk(zone, 0, 10, 0, 0)).toBe(false)
    expect(zoneWatermarkOk(zone, 0, 10, 0, ALLOC_HIGHATOMIC)).toBe(true)
    expect(zoneWatermarkOk(zone, 3, 10, 0, ALLOC_HIGHATOMIC)).toBe(true)
    expect(zoneWatermarkOk(zone, 3, 10, 0, ALLOC_NON_BLOCK)).toBe(false)
  })
})

describe('an allocation when memory is short', () => {
  /** Takes pages with this mask until it gets no more. @returns pages still free in all zones. */
  function drain(mask: 'GFP_KERNEL' | 'GFP_ATOMIC' | 'GFP_NOWAIT' | 'MEMALLOC' | 'NOMEMALLOC', profile?: string) {
    const machine = testMachine({ bytes: 64 << 20, ...(profile ? { profile } : {}) })
    const { mem, cpu } = machine
    const gfp =
      mask === 'MEMALLOC'
        ? mem.gfp.GFP_ATOMIC | mem.gfp.MEMALLOC
        : mask === 'NOMEMALLOC'
          ? mem.gfp.GFP_ATOMIC | mem.gfp.NOMEMALLOC
          : mem.gfp[mask]
    const taken: number[] = []
    for (;;) {
      const pfn = allocPages(mem, cpu, gfp | mem.gfp.NOWARN, 0, -1, SITE)
      if (pfn === 0) break
      taken.push(pfn)
    }
    auditMemory(mem)
    return { ...machine, taken, left: mem.zones.map((zone) => zone.free) }
  }

  it.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('stops at the mark that its mask deserves (%s)', (profile) => {
    const total = (mask: Parameters<typeof drain>[0]) => drain(mask, profile).left.reduce((a, b) => a + b, 0)
    const [memalloc, atomic, kernel] = [total('MEMALLOC'), total('GFP_ATOMIC'), total('GFP_KERNEL')]
    expect(memalloc).toBe(0)
    expect(atomic).toBeGreaterThan(memalloc)
    expect(kernel).toBeGreaterThan(atomic)
    // Without the right to the reserves NOMEMALLOC still has HIGH, but not the bonus for those who cannot wait.
    expect(total('NOMEMALLOC')).toBeGreaterThan(atomic)
    expect(total('NOMEMALLOC')).toBeLessThan(kernel)
  })

  it('takes the preferred zone first and the lower ones only down to their reserve', () => {
    const { mem, left } = drain('GFP_KERNEL')
    const info = zoneInfo(mem)
    for (const [i, zone] of info.entries()) {
      const mark = zone.min + zone.protection[2]!
      expect(left[i]!).toBeGreaterThanOrEqual(Math.min(mark, zone.managed) - 64)
      expect(left[i]!).toBeLessThanOrEqual(mark)
    }
  })

  it('marks pages from below the watermarks, and only those', () => {
    const { mem, taken } = drain('MEMALLOC')
    const marked = taken.filter((pfn) => pageIsPfmemalloc(mem, pfn as never))
    expect(marked.length).toBeGreaterThan(0)
    expect(marked.length).toBeLessThan(taken.length)
    // The reserve is the last to go.
    expect(marked).toEqual(taken.slice(-marked.length))
  })

  it('forgets the mark when the page is used again', () => {
    const { mem, cpu, taken } = drain('MEMALLOC')
    for (const pfn of taken) freePages(mem, cpu, pfn as never, 0, SITE)
    const pfn = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    expect(pageIsPfmemalloc(mem, pfn)).toBe(false)
  })

  it('gives the reserves to a PF_MEMALLOC task, but not in a hardirq on its back', () => {
    const { mem, cpu } = drain('GFP_ATOMIC')
    const gfp = mem.gfp.GFP_KERNEL | mem.gfp.NOWARN
    // What per-CPU lists still held is within the rights of anybody who may reclaim.
    while (allocPages(mem, cpu, gfp, 0, -1, SITE) !== 0);
    while (allocPages(mem, cpu, mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN, 0, -1, SITE) !== 0);
    cpu.pfMemalloc = 1
    const pfn = allocPages(mem, cpu, gfp, 0, -1, SITE)
    expect(pageIsPfmemalloc(mem, pfn)).toBe(true)
    expect(allocPages(mem, cpu, gfp | mem.gfp.NOMEMALLOC, 0, -1, SITE)).toBe(0)
    cpu.hardirq = 1
    expect(allocPages(mem, cpu, mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN, 0, -1, SITE)).toBe(0)
    cpu.hardirq = 0
    cpu.servingSoftirq = 1
    expect(allocPages(mem, cpu, mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN, 0, -1, SITE)).not.toBe(0)
  })

  it('wakes kswapd when the low mark is hit, and reclaims only where the mask lets it wait', () => {
    const { mem, cpu } = drain('GFP_KERNEL')
    const log: string[] = []
    mem.kswapd = (node, order) => log.push(`kswapd ${node} ${order}`)
    mem.reclaim = (_cpu, _gfp, order) => {
      log.push(`reclaim ${order}`)
      return 0
    }
    while (allocPages(mem, cpu, mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN, 0, -1, SITE) !== 0);
    expect(log).toContain('kswapd 0 0')
    expect(log).not.toContain('reclaim 0')
    allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.NOWARN, 0, -1, SITE)
    expect(log).toContain('reclaim 0')
  })

  it('succeeds when reclaim finds something', () => {
    const { mem, cpu, taken } = drain('GFP_KERNEL')
    mem.reclaim = () => {
      for (let i = 0; i < 64; i++) freePages(mem, cpu, taken.pop() as never, 0, SITE)
      return 64
    }
    expect(allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)).not.toBe(0)
    auditMemory(mem)
  })

  it('takes back what other CPUs keep before it gives up', () => {
    const { mem, cpu, cpus, taken } = drain('GFP_KERNEL')
    for (let i = 0; i < 3; i++) freePages(mem, cpus[1]!, taken.pop() as never, 0, SITE)
    expect(allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)).not.toBe(0)
    auditMemory(mem)
  })

  it('asks for a victim when nothing else helps, and NOFAIL never comes back empty', () => {
    const { mem, cpu, taken } = drain('GFP_KERNEL')
    let victims = 2
    mem.oomKill = () => {
      if (victims-- === 0) return false
      if (victims === 0) for (let i = 0; i < 64; i++) freePages(mem, cpu, taken.pop() as never, 0, SITE)
      return true
    }
    expect(allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)).not.toBe(0)
    expect(mem.vm.oomKill).toBe(2)
    mem.oomKill = null
    while (allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.NOWARN, 0, -1, SITE) !== 0);
    expect(() => allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.NOFAIL, 0, -1, SITE)).toThrow('__GFP_NOFAIL')
  })

  it('says so in the log, with the mask as text, ten times at most', () => {
    const { mem, cpu, trace } = drain('GFP_KERNEL')
    const lines: string[] = []
    trace.printk = (words) => lines.push(words)
    for (let i = 0; i < 20; i++) allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, 'sk_page_frag_refill')
    expect(lines.length).toBe(10)
    expect(lines[0]).toBe(
      'sk_page_frag_refill: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL), nodemask=(null)',
    )
  })

  it('may not block in an interrupt', () => {
    const { mem } = drain('GFP_KERNEL')
    const irq = new Cpu(0, 0)
    irq.hardirq = 1
    expect(() => allocPages(mem, irq, mem.gfp.GFP_KERNEL, 0, -1, SITE)).toThrow('might_sleep')
  })

  it('sets page blocks aside for urgent large allocations, and gives them up under pressure', () => {
    const { mem, cpu } = testMachine({ bytes: 1024 << 20 })
    const held: number[] = []
    while (mem.zones.every((zone) => zone.nrReservedHighatomic === 0)) {
      const pfn = allocPages(mem, cpu, mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN, 4, -1, SITE)
      if (pfn === 0) break
      held.push(pfn)
    }
    const reserved = mem.zones.filter((zone) => zone.nrReservedHighatomic > 0)
    expect(reserved.length).toBe(1)
    expect(reserved[0]!.freeHighatomic).toBeGreaterThan(0)
    auditMemory(mem)
    while (allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.NOWARN, 0, -1, SITE) !== 0);
    expect(reserved[0]!.nrReservedHighatomic).toBe(0)
    auditMemory(mem)
  })
})
