import type { Addr, DmaAddr, Gfp, Pfn } from '@netmem/base'
import { seeded } from '@netmem/base/testing'
import { allocPages, failNever, failNth, freePages, trackAllocations } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { describe, expect, it } from 'vitest'
import { dmaSetMaskAndCoherent } from './device.js'
import { deviceCreate } from './dma.js'
import { dmaEngineRead, dmaEngineWrite } from './engine.js'
import { dmaMapPage, dmaMappingError, dmaMapSingle, dmaUnmapPage, dmaUnmapSingle } from './mapping.js'
import { getDmaOps } from './ops.js'
import { deviceRemove } from './remove.js'
import { auditDma, auditDmaQuiescent, dmaMachine } from './testing.js'
import { DMA_BIDIRECTIONAL, DMA_BIT_MASK, DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDirection } from './types.js'

const one = new Uint8Array(1)

describe('an IOMMU', () => {
  it('gives addresses from the top of 4 GiB, keeps the offset in the page, and leaves out the interrupt window', () => {
    const m = dmaMachine({ iommu: { strict: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x123456 as Addr, 100, DMA_TO_DEVICE, 'drv')
    expect(dma).toBe(0xfffff456)
    dmaSetMaskAndCoherent(dev, 0xfef00fff)
    const below = dmaMapSingle(m.cpu, dev, 0x200000 as Addr, 8192, DMA_TO_DEVICE, 'drv')
    expect(below).toBeLessThan(0xfee00000)
    auditDma(m.dma)
  })

  it('lets the device do what the direction says, and faults on everything else', () => {
    const m = dmaMachine({ iommu: {} })
    const dev = deviceCreate(m.dma, { name: '00:03.0' })
    const cases: [DmaDirection, number, number][] = [
      [DMA_TO_DEVICE, 0, -14],
      [DMA_FROM_DEVICE, -14, 0],
      [DMA_BIDIRECTIONAL, 0, 0],
    ]
    for (const [dir, read, write] of cases) {
      const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, dir, 'drv')
      expect([dmaEngineRead(dev, dma, one, 0, 1), dmaEngineWrite(dev, dma, one, 0, 1)]).toEqual([read, write])
      dmaUnmapSingle(m.cpu, dev, dma, 64, dir, 'drv')
    }
    expect(dmaEngineWrite(dev, 0x5000 as DmaAddr, one, 0, 1)).toBe(-14)
    expect(m.dma.faults.map((f) => [f.reason, f.write])).toEqual([
      ['protection', true],
      ['protection', false],
      ['unmapped', true],
    ])
    expect(m.log.at(-1)).toBe(
      'DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x5000 [fault reason 0x05] PTE Write access is not set',
    )
  })

  it('strict: stops the device at the unmap, with one invalidation each', () => {
    const m = dmaMachine({ iommu: { strict: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    for (let i = 0; i < 5; i++) {
      const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_FROM_DEVICE, 'drv')
      dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_FROM_DEVICE, 'drv')
      expect(dmaEngineWrite(dev, dma, one, 0, 1)).toBe(-14)
    }
    expect([dev.domain!.maps, dev.domain!.unmaps, dev.domain!.iotlbInvalidations]).toEqual([5, 5, 5])
    auditDmaQuiescent(m.dma)
  })

  it('lazy: the device reaches the page until the queue is flushed, 10 ms later, once for many unmaps', () => {
    const m = dmaMachine({ iommu: { strict: false } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dmas = [0, 1, 2].map((i) =>
      dmaMapSingle(m.cpu, dev, (0x100000 + i * 4096) as Addr, 64, DMA_FROM_DEVICE, 'drv'),
    )
    for (const dma of dmas) dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_FROM_DEVICE, 'drv')
    expect(dmaEngineWrite(dev, dmas[1]!, new Uint8Array([77]), 0, 1)).toBe(0)
    expect([m.mem.u8[0x101000], dev.staleAccesses]).toEqual([77, 1])
    // Until then nobody else gets these addresses.
    const other = dmaMapSingle(m.cpu, dev, 0x300000 as Addr, 64, DMA_FROM_DEVICE, 'drv')
    expect(dmas).not.toContain(other)
    auditDma(m.dma)
    m.events.runUntil(10e6)
    expect(dmaEngineWrite(dev, dmas[1]!, one, 0, 1)).toBe(-14)
    expect(dev.domain!.iotlbInvalidations).toBe(1)
    dmaUnmapSingle(m.cpu, dev, other, 64, DMA_FROM_DEVICE, 'drv')
    auditDmaQuiescent(m.dma)
  })

  it('never lets an untrusted device reach beyond its buffer, or after the unmap', () => {
    const m = dmaMachine({ iommu: {}, swiotlb: { bytes: 1 << 20 } })
    const dev = deviceCreate(m.dma, { name: 'dock', untrusted: true })
    m.mem.u8.fill(5, 0x100000, 0x102000)
    const dma = dmaMapSingle(m.cpu, dev, 0x100100 as Addr, 64, DMA_BIDIRECTIONAL, 'drv')
    expect(m.dma.ioTlb!.slots.used).toBe(1)
    expect(dmaEngineWrite(dev, dma, new Uint8Array(64).fill(6), 0, 64)).toBe(0)
    expect(dmaEngineWrite(dev, (dma + 64) as DmaAddr, one, 0, 1)).toBe(-14)
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL, 'drv')
    expect(dmaEngineRead(dev, dma, one, 0, 1)).toBe(-14)
    expect([...m.mem.u8.subarray(0x1000ff, 0x100142)]).toEqual([5, ...new Array(64).fill(6), 5, 5])
    const whole = dmaMapPage(m.cpu, dev, 0x100 as Pfn, 0, 4096, DMA_TO_DEVICE, 'drv')
    expect(m.dma.ioTlb!.slots.used).toBe(0)
    dmaUnmapPage(m.cpu, dev, whole, 4096, DMA_TO_DEVICE, 'drv')
    auditDmaQuiescent(m.dma)
    const bare = dmaMachine({ iommu: {} })
    const without = deviceCreate(bare.dma, { name: 'dock', untrusted: true })
    expect(dmaMapSingle(bare.cpu, without, 0x100100 as Addr, 64, DMA_TO_DEVICE, 'drv')).toBe(-1)
    expect(bare.log.at(-1)).toContain('DMA bounce buffers are inactive')
  })

  it('runs out of addresses in a small aperture, and recovers when mappings end', () => {
    const m = dmaMachine({ iommu: { strict: true, apertureEnd: 16 * 4096 - 1, reserved: [] } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const map = () => dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    const live = Array.from({ length: 15 }, map)
    expect(live.every((dma) => dmaMappingError(dev, dma) === 0)).toBe(true)
    expect(dmaMappingError(dev, map())).toBe(-12)
    auditDma(m.dma)
    dmaUnmapSingle(m.cpu, dev, live.pop()!, 64, DMA_TO_DEVICE, 'drv')
    expect(dmaMappingError(dev, map())).toBe(0)
  })

  it('goes above 4 GiB when there is no room below, and says so once', () => {
    const m = dmaMachine({ iommu: { strict: true, reserved: [[0, 0xffffffff - 2 * 4096]] } })
    const dev = deviceCreate(m.dma, { name: 'nic', driver: 'ixgbe' })
    dmaSetMaskAndCoherent(dev, DMA_BIT_MASK(64))
    const dmas = [0, 1, 2, 3].map(() => dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv'))
    expect(dmas.map((dma) => dma > 0xffffffff)).toEqual([false, false, true, true])
    expect(m.log).toEqual(['ixgbe nic: Using 48-bit DMA addresses'])
    const old = deviceCreate(m.dma, { name: 'old' })
    const full = [0, 1, 2].map(() => dmaMapSingle(m.cpu, old, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv'))
    expect(full.map((dma) => dmaMappingError(old, dma))).toEqual([0, 0, -12])
  })

  it('is reached by name since 6.12, through a table before', () => {
    const now = deviceCreate(dmaMachine({ iommu: {} }).dma, { name: 'nic' })
    const then = deviceCreate(dmaMachine({ iommu: {} }, { profile: 'linux-6.1-x86_64' }).dma, { name: 'nic' })
    expect([getDmaOps(now), now.dmaIommu]).toEqual([null, true])
    expect([getDmaOps(then)!.name, then.dmaIommu]).toEqual(['iommu_dma_ops', false])
    const outside = deviceCreate(now.env, { name: 'serial', iommu: false })
    expect([getDmaOps(outside), outside.domain]).toEqual([null, null])
  })

  it('undoes everything when any allocation on the way fails', () => {
    const run = (fail: number): boolean => {
      const m = dmaMachine({ iommu: { strict: true } })
      const dev = deviceCreate(m.dma, { name: 'nic' })
      trackAllocations(m.mem)
      m.mem.fault = fail === 0 ? failNever() : failNth(fail)
      const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 3 * 4096, DMA_TO_DEVICE, 'drv')
      const failed = m.mem.fault.failed > 0
      m.mem.fault = null
      if (dmaMappingError(dev, dma) === 0) dmaUnmapSingle(m.cpu, dev, dma, 3 * 4096, DMA_TO_DEVICE, 'drv')
      else expect(failed).toBe(true)
      auditDmaQuiescent(m.dma)
      const again = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv')
      expect(dmaMappingError(dev, again)).toBe(0)
      dmaUnmapSingle(m.cpu, dev, again, 64, DMA_TO_DEVICE, 'drv')
      deviceRemove(m.cpu, dev)
      auditMemory(m.mem)
      return failed
    }
    expect(run(0)).toBe(false)
    let n = 1
    while (run(n)) n++
    expect(n).toBeGreaterThan(5)
  })

  it('takes its table pages from memory and gives them back with the domain', () => {
    const m = dmaMachine({ iommu: {} })
    trackAllocations(m.mem)
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    expect(dev.domain!.tablePages.length).toBe(4)
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')
    deviceRemove(m.cpu, dev)
    expect(m.mem.tracker!.live()).toEqual([])
    expect(m.events.pending).toBe(0)
  })

  it('fires iommu:map and iommu:unmap with whole pages', () => {
    const m = dmaMachine({ iommu: { strict: true } })
    const seen: unknown[] = []
    m.trace.iommuMap = (dev, iova, phys, bytes) => seen.push(['map', dev, iova, phys, bytes])
    m.trace.iommuUnmap = (dev, iova, bytes) => seen.push(['unmap', dev, iova, bytes])
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x100ff0 as Addr, 32, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, dma, 32, DMA_TO_DEVICE, 'drv')
    expect(seen).toEqual([
      ['map', 'nic', 0xffffe000, 0x100000, 8192],
      ['unmap', 'nic', 0xffffe000, 8192],
    ])
  })

  it.each([
    [21, false],
    [22, true],
    [23, false],
  ])('keeps its books under random steps (seed %i, strict %s)', (seed, strict) => {
    const { rng, label } = seeded(seed)
    const m = dmaMachine({ iommu: { strict }, debug: true })
    const devs = ['a', 'b'].map((name) => deviceCreate(m.dma, { name }))
    const live: { dev: (typeof devs)[0]; dma: DmaAddr; bytes: number; dir: DmaDirection; pfn: Pfn }[] = []
    for (let step = 0; step < 600; step++) {
      const cpu = m.cpus[rng.below(2)]!
      if (rng.below(2) === 0) {
        const dev = devs[rng.below(2)]!
        const dir = rng.below(3) as DmaDirection
        const pfn = allocPages(m.mem, cpu, m.mem.gfp.GFP_KERNEL as Gfp, 1, -1, 'test')
        const bytes = 1 + rng.below(8192)
        const dma = dmaMapPage(cpu, dev, pfn, 0, bytes, dir, 'test')
        expect(dmaMappingError(dev, dma), label).toBe(0)
        live.push({ dev, dma, bytes, dir, pfn })
      } else if (live.length > 0) {
        const [gone] = live.splice(rng.below(live.length), 1)
        dmaUnmapPage(cpu, gone!.dev, gone!.dma, gone!.bytes, gone!.dir, 'test')
        freePages(m.mem, cpu, gone!.pfn, 1, 'test')
      }
      if (rng.below(20) === 0) m.events.runUntil(m.events.nowNs + rng.below(20) * 1e6)
      auditDma(m.dma)
      for (const l of live)
        expect(l.dev.domain!.iovaToPfn(Math.floor(l.dma / 4096)), `${label} step ${step}`).toBe(l.pfn)
    }
    for (const l of live) {
      dmaUnmapPage(m.cpu, l.dev, l.dma, l.bytes, l.dir, 'test')
      freePages(m.mem, m.cpu, l.pfn, 1, 'test')
    }
    auditDmaQuiescent(m.dma)
    expect(m.dma.debug!.errors, label).toEqual([])
    for (const dev of devs) deviceRemove(m.cpu, dev)
    auditMemory(m.mem)
  })
})
