import { Cpu, kernelProfiles, type Pfn, Trace } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import {
  allocPages,
  buddyInfo,
  drainAllPages,
  freePages,
  kmalloc,
  memcpy,
  memoryCreate,
  nrFreeBufferPages,
  nrFreePages,
  readBytes,
  totalramPages,
  vmStat,
  writeBytes,
  zoneInfo,
} from './index.js'
import { auditMemory, testMachine } from './testing.js'

const SITE = 'test'
const GIB = 2 ** 30

describe('a machine of 4 GiB', () => {
  const { mem, cpu } = testMachine({ bytes: 4 * GIB })

  it('manages all frames but the first and the last', () => {
    expect(totalramPages(mem)).toBe(2 ** 20 - 2)
    expect(nrFreePages(mem)).toBe(2 ** 20 - 2)
    expect(zoneInfo(mem).map(({ zone, managed }) => [zone, managed])).toEqual([
      ['DMA', 4095],
      ['DMA32', 258048],
      ['Normal', 786431],
    ])
    auditMemory(mem)
  })

  it('keeps addresses above 2 GiB usable as signed integers', () => {
    const held: [Pfn, number][] = []
    let addr = kmalloc(mem, cpu, 2048, mem.gfp.GFP_KERNEL, SITE)
    while (addr >= 0) {
      const pfn = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 10, -1, SITE)
      held.push([pfn, 10])
      addr = kmalloc(mem, cpu, 8192, mem.gfp.GFP_KERNEL, SITE)
    }
    const data = Uint8Array.from({ length: 8192 }, (_, i) => i & 255)
    writeBytes(mem, addr, data)
    expect(readBytes(mem, addr, 8192)).toEqual(data)
    const low = kmalloc(mem, cpu, 8192, mem.gfp.GFP_KERNEL | mem.gfp.DMA, SITE)
    memcpy(mem, low, addr, 8192)
    expect(readBytes(mem, low, 8192)).toEqual(data)
    for (const [pfn, order] of held) freePages(mem, cpu, pfn, order, SITE)
    auditMemory(mem)
  })

  it('has the watermarks that its size deserves', () => {
    // Three zones with huge pages: 67584 KiB, as on any machine of this shape.
    expect(mem.minFreeKbytes).toBe(67584)
    const normal = zoneInfo(mem)[2]!
    expect(normal.low - normal.min).toBe(normal.min >> 2)
    expect(normal.pagesets[0]).toMatchObject({ batch: 63 })
  })
})

describe('a small machine', () => {
  it.each([1, 2, 7, 16, 64, 100, 512])('of %i MiB boots, uses all of its memory, and gives it back', (mib) => {
    const { mem, cpu } = testMachine({ bytes: mib << 20 })
    auditMemory(mem)
    const atBoot = buddyInfo(mem)
    const taken: Pfn[] = []
    for (;;) {
      const pfn = allocPages(
        mem,
        cpu,
        mem.gfp.GFP_ATOMIC | mem.gfp.MEMALLOC | mem.gfp.NOWARN,
        mib > 100 ? 6 : 0,
        -1,
        SITE,
      )
      if (pfn === 0) break
      taken.push(pfn)
    }
    auditMemory(mem)
    if (mib <= 100) expect(taken.length).toBe(totalramPages(mem))
    for (const pfn of taken) freePages(mem, cpu, pfn, mib > 100 ? 6 : 0, SITE)
    drainAllPages(mem, cpu)
    expect(buddyInfo(mem)).toEqual(atBoot)
    expect(vmStat(mem).pgfree).toBe(vmStat(mem).pgalloc_dma! + vmStat(mem).pgalloc_dma32! + vmStat(mem).pgalloc_normal!)
  })

  it('has all three zones, so that fallbacks and reserves are in play', () => {
    const { mem } = testMachine({ bytes: 64 << 20 })
    expect(zoneInfo(mem).map(({ zone, spanned }) => [zone, spanned / 256])).toEqual([
      ['DMA', 4],
      ['DMA32', 12],
      ['Normal', 48],
    ])
    expect(nrFreeBufferPages(mem)).toBeGreaterThan(10_000)
  })

  it('puts the ends of zones where it is told to', () => {
    const { mem } = testMachine({ bytes: 64 << 20, zoneEnds: { dma: 16 << 20, dma32: 64 << 20 } })
    expect(zoneInfo(mem).map(({ zone }) => zone)).toEqual(['DMA', 'DMA32'])
    auditMemory(mem)
    expect(allocPages(mem, new Cpu(0, 0), mem.gfp.GFP_KERNEL, 0, -1, SITE)).toBeGreaterThanOrEqual(4096)
  })

  it('shares nothing with another', () => {
    const [a, b] = [testMachine(), testMachine()]
    const first = allocPages(a.mem, a.cpu, a.mem.gfp.GFP_KERNEL, 0, -1, SITE)
    expect(allocPages(b.mem, b.cpu, b.mem.gfp.GFP_KERNEL, 0, -1, SITE)).toBe(first)
    a.mem.u8[first << 12] = 1
    expect(b.mem.u8[first << 12]).toBe(0)
  })
})

describe('memoryCreate', () => {
  it.each([
    [{ bytes: 4097 }, 'must be whole pages'],
    [{ bytes: 4 * GIB + 4096 }, 'from 1 MiB to 4 GiB'],
    [{ cpus: 0 }, '0 CPUs must be 1 to 256'],
    [{ nodes: 9 }, '9 nodes must be 1 to 8'],
    [{ nodes: 8, bytes: 16 << 20 }, '8 nodes need 4 MiB each'],
  ])('refuses %o', (change, words) => {
    const params = { profile: kernelProfiles['linux-6.18-x86_64'], bytes: 64 << 20, cpus: 2, trace: new Trace() }
    expect(() => memoryCreate({ ...params, ...change })).toThrow(words)
  })
})
