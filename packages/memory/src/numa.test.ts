import { describe, expect, it } from 'vitest'
import {
  allocPages,
  drainAllPages,
  freePages,
  kmallocNode,
  kmemCacheAllocNode,
  kmemCacheCreate,
  vmStat,
  zoneInfo,
} from './index.js'
import { auditMemory, testMachine } from './testing.js'

const SITE = 'test'

describe('NUMA', () => {
  const machine = () => testMachine({ bytes: 256 << 20, nodes: 2, cpus: 4 })
  const nodeOf = (mem: ReturnType<typeof machine>['mem'], pfn: number) =>
    mem.zones[mem.pages.blockZone[pfn >>> 9]!]!.node

  it('spreads memory and CPUs over the nodes', () => {
    const { mem, cpus } = machine()
    expect(cpus.map(({ node }) => node)).toEqual([0, 0, 1, 1])
    expect(zoneInfo(mem).map(({ node, zone }) => `${node} ${zone}`)).toEqual([
      '0 DMA',
      '0 DMA32',
      '0 Normal',
      '1 Normal',
    ])
  })

  it('serves each CPU from its own node, and others on request', () => {
    const { mem, cpus } = machine()
    expect(nodeOf(mem, allocPages(mem, cpus[0]!, mem.gfp.GFP_KERNEL, 0, -1, SITE))).toBe(0)
    expect(nodeOf(mem, allocPages(mem, cpus[3]!, mem.gfp.GFP_KERNEL, 0, -1, SITE))).toBe(1)
    expect(nodeOf(mem, allocPages(mem, cpus[0]!, mem.gfp.GFP_KERNEL, 0, 1, SITE))).toBe(1)
    expect(nodeOf(mem, kmallocNode(mem, cpus[0]!, 4096, mem.gfp.GFP_KERNEL, 1, SITE) >>> 12)).toBe(1)
    const cache = kmemCacheCreate(mem, 'local', 256, { usersize: 8 })
    for (const node of [0, 1, 0, 1])
      expect(nodeOf(mem, kmemCacheAllocNode(cache, cpus[0]!, mem.gfp.GFP_KERNEL, node, SITE) >>> 12)).toBe(node)
    auditMemory(mem)
  })

  it('goes to the next node when its own is full, unless the mask forbids it, and counts hits and misses', () => {
    const { mem, cpus } = machine()
    const cpu = cpus[2]!
    let last = 0
    const thisNode = mem.gfp.GFP_KERNEL | mem.gfp.THISNODE | mem.gfp.NOWARN
    while (allocPages(mem, cpu, thisNode, 0, -1, SITE) !== 0);
    const before = vmStat(mem)
    for (let i = 0; i < 100; i++) last = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    expect(nodeOf(mem, last)).toBe(0)
    const after = vmStat(mem)
    const delta = (name: string) => after[name]! - before[name]!
    expect(delta('numa_miss')).toBe(100)
    expect(delta('numa_foreign')).toBe(100)
    expect(delta('numa_other')).toBe(100)
    expect(delta('numa_hit')).toBe(0)
    auditMemory(mem)
  })

  it('counts a page of another node on request as a hit there, and as other', () => {
    const { mem, cpus } = machine()
    allocPages(mem, cpus[0]!, mem.gfp.GFP_KERNEL, 0, 1, SITE)
    expect(vmStat(mem)).toMatchObject({ numa_hit: 1, numa_miss: 0, numa_other: 1, numa_local: 0 })
    allocPages(mem, cpus[0]!, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    expect(vmStat(mem)).toMatchObject({ numa_hit: 2, numa_other: 1, numa_local: 1 })
  })

  it('rather takes DMA32 than mix page blocks in the NORMAL zone', () => {
    const { mem, cpu } = testMachine({ bytes: 256 << 20 })
    const normal = mem.zones[2]!
    const dma32 = mem.zones[1]!
    const held: number[] = []
    // Movable pages fill the NORMAL zone but for single pages in movable blocks.
    for (;;) {
      const pfn = allocPages(mem, cpu, mem.gfp.GFP_HIGHUSER_MOVABLE | mem.gfp.NOWARN, 9, -1, SITE)
      if (pfn === 0 || mem.pages.blockZone[pfn >>> 9] !== normal.index) break
      held.push(pfn)
    }
    const before = dma32.free
    const pfn = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    expect(mem.pages.blockZone[pfn >>> 9]).toBe(dma32.index)
    expect(dma32.free).toBeLessThan(before)
    auditMemory(mem)
    for (const block of held) freePages(mem, cpu, block as never, 9, SITE)
    drainAllPages(mem, cpu)
    auditMemory(mem)
  })
})
