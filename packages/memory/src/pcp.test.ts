import type { Pfn } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { allocPages, drainAllPages, freePages } from './index.js'
import { PcpList, pcpListLength, pcpListPop, pcpListPopCold, pcpListPush, pcpListPushCold } from './per-cpu-pages.js'
import { auditMemory, testMachine } from './testing.js'
import { setZoneFlags, ZONE_RECLAIM_ACTIVE } from './zone.js'

const SITE = 'test'

describe('a per-CPU list', () => {
  it('behaves as a double-ended queue, growing and wrapping', () => {
    const { mem } = testMachine()
    const list = new PcpList(mem.zones[0]!, mem.zones[0]!.pcp[0]!)
    list.top = 0x7ffffff0
    list.bottom = 0x7ffffff0
    const model: number[] = []
    let next = 1
    for (let step = 0; step < 400; step++) {
      const what = (step * 7919) % 5
      if (what === 0 || what === 1) {
        pcpListPush(list, next)
        model.push(next++)
      } else if (what === 2) {
        pcpListPushCold(list, next)
        model.unshift(next++)
      } else if (what === 3) expect(pcpListPop(list)).toBe(model.pop() ?? 0)
      else if (model.length > 0) expect(pcpListPopCold(list)).toBe(model.shift())
      expect(pcpListLength(list)).toBe(model.length)
    }
  })
})

describe('per-CPU page lists', () => {
  const big = (profile?: string) => testMachine({ bytes: 1024 << 20, ...(profile ? { profile } : {}) })
  const normal = ({ mem }: ReturnType<typeof big>) => mem.zones[2]!

  it('refill twice as much each time nothing is freed in between, up to 32 batches', () => {
    const machine = big()
    const { mem, cpu } = machine
    const pcp = normal(machine).pcp[0]!
    const refills: number[] = []
    for (let i = 0; i < 8000; i++) {
      const before = pcp.count
      allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
      if (pcp.count > before) refills.push(pcp.count - before + 1)
    }
    expect(pcp.batch).toBe(63)
    expect(refills.slice(0, 6)).toEqual([63, 126, 252, 504, 1008, 2016])
    auditMemory(mem)
  })

  it('refill by the same batch each time before 6.7', () => {
    const machine = big('linux-6.1-x86_64')
    const { mem, cpu } = machine
    const pcp = normal(machine).pcp[0]!
    for (let i = 0; i < 64; i++) allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    expect(pcp.count).toBe(62)
    expect(pcp.high).toBe(pcp.highMax)
    auditMemory(mem)
  })

  it('hand out physical pages in rising order after a refill, then the last one freed first', () => {
    const { mem, cpu } = big()
    const pages = Array.from({ length: 4 }, () => allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE))
    expect(pages.map((pfn) => pfn - pages[0]!)).toEqual([0, 1, 2, 3])
    freePages(mem, cpu, pages[1]!, 0, SITE)
    freePages(mem, cpu, pages[3]!, 0, SITE)
    expect(allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)).toBe(pages[3])
    expect(allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)).toBe(pages[1])
  })

  it.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])(
    'never hold more than their limit, and give the coldest back (%s)',
    (profile) => {
      const machine = big(profile)
      const { mem, cpu, cpus } = machine
      const pcp = normal(machine).pcp[1]!
      const pages: Pfn[] = Array.from({ length: 30_000 }, () => allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE))
      for (const pfn of pages) {
        freePages(mem, cpus[1]!, pfn, 0, SITE)
        expect(pcp.count).toBeLessThan(Math.max(pcp.high, pcp.highMax) + 1)
      }
      expect(pcp.count).toBeLessThan(30_000)
      expect(pcp.count).toBeGreaterThanOrEqual(pcp.batch)
      // The page freed last stays.
      expect(allocPages(mem, cpus[1]!, mem.gfp.GFP_KERNEL, 0, -1, SITE)).toBe(pages.at(-1))
      auditMemory(mem)
    },
  )

  it('empty themselves when blocks of order 1 to 3 are freed in a row', () => {
    const machine = big()
    const { mem, cpu, cpus } = machine
    const pcp = normal(machine).pcp[1]!
    const blocks = Array.from({ length: 3000 }, () => allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 3, -1, SITE))
    let most = 0
    for (const pfn of blocks) {
      freePages(mem, cpus[1]!, pfn, 3, SITE)
      most = Math.max(most, pcp.count)
    }
    expect(most).toBeLessThan(pcp.highMin + (pcp.batch << 5))
    auditMemory(mem)
  })

  it('hold little while the zone is being reclaimed', () => {
    const machine = big()
    const { mem, cpu } = machine
    const zone = normal(machine)
    const pages = Array.from({ length: 2000 }, () => allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE))
    drainAllPages(mem, cpu)
    setZoneFlags(zone, ZONE_RECLAIM_ACTIVE)
    for (const pfn of pages) freePages(mem, cpu, pfn, 0, SITE)
    expect(zone.pcp[0]!.count).toBeLessThanOrEqual(zone.pcp[0]!.batch * 4)
    auditMemory(mem)
  })

  it('tell about every page that goes back to the zone', () => {
    const { mem, cpu, trace } = big()
    let drained = 0
    trace.mmPagePcpuDrain = (_cpu, _pfn, order) => {
      drained += 1 << order
    }
    const kept = mem.zones.reduce((sum, zone) => sum + zone.pcp.reduce((pages, pcp) => pages + pcp.count, 0), 0)
    const page = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    freePages(mem, cpu, page, 0, SITE)
    drainAllPages(mem, cpu)
    expect(kept).toBe(0)
    expect(drained).toBe(63)
  })
})

describe('migrate types', () => {
  it('claim whole page blocks for pages that cannot move, the largest first, and tell about it', () => {
    const { mem, cpu, trace } = testMachine({ bytes: 1024 << 20 })
    const events: number[][] = []
    trace.mmPageAllocExtfrag = (_cpu, _pfn, order, fallbackOrder, type, fallbackType) =>
      events.push([order, fallbackOrder, type, fallbackType])
    const page = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    expect(events).toEqual([[0, 10, 0, 1]])
    // Both page blocks of the 4 MiB block are unmovable now.
    expect([mem.pages.block[page >>> 9]! & 7, mem.pages.block[(page >>> 9) + 1]! & 7]).toEqual([0, 0])
    const movable = allocPages(mem, cpu, mem.gfp.GFP_HIGHUSER_MOVABLE, 0, -1, SITE)
    expect(movable >>> 10).not.toBe(page >>> 10)
    auditMemory(mem)
  })

  it('steal single blocks when nothing can be claimed', () => {
    const { mem, cpu, trace } = testMachine({ bytes: 8 << 20 })
    const urgent = mem.gfp.GFP_ATOMIC | mem.gfp.MEMALLOC | mem.gfp.NOWARN
    const stolen: number[] = []
    trace.mmPageAllocExtfrag = (_cpu, _pfn, _order, fallbackOrder, type) => stolen.push(type * 100 + fallbackOrder)
    // Unmovable pages own every page block; a movable request then takes what it finds, and changes no type.
    const held: Pfn[] = []
    for (;;) {
      const pfn = allocPages(mem, cpu, urgent, 0, -1, SITE)
      if (pfn === 0) break
      held.push(pfn)
    }
    for (let i = 0; i < held.length; i += 2) freePages(mem, cpu, held[i]!, 0, SITE)
    drainAllPages(mem, cpu)
    stolen.length = 0
    const pfn = allocPages(mem, cpu, urgent | mem.gfp.MOVABLE, 0, -1, SITE)
    expect(pfn).not.toBe(0)
    expect(mem.pages.block[pfn >>> 9]! & 7).toBe(0)
    expect(stolen.every((event) => event === 100)).toBe(true)
    expect(stolen.length).toBeGreaterThan(0)
    auditMemory(mem)
  })
})
