import { type Addr, type DmaAddr, type Gfp, NULL } from '@netmem/base'
import { seeded } from '@netmem/base/testing'
import { failNever, failNth, trackAllocations } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { describe, expect, it } from 'vitest'
import { dmaAllocAttrs, dmaAllocCoherent, dmaFreeCoherent } from './coherent.js'
import { dmaDeclareCoherentMemory, dmaReleaseCoherentMemory } from './coherent-pool.js'
import { dmaSetCoherentMask, dmaSetMaskAndCoherent } from './device.js'
import { deviceCreate } from './dma.js'
import { dmaPoolAlloc, dmaPoolCreate, dmaPoolDestroy, dmaPoolFree, dmaPoolsShow, dmaPoolZalloc } from './dma-pool.js'
import { dmaEngineRead, dmaEngineWrite } from './engine.js'
import { deviceRemove } from './remove.js'
import { auditDma, auditDmaQuiescent, type DmaMachine, dmaMachine } from './testing.js'
import { DMA_BIT_MASK } from './types.js'

const gfp = (m: DmaMachine): Gfp => m.mem.gfp.GFP_KERNEL as Gfp
const handle = () => ({ dma: 0 as DmaAddr })

describe('coherent memory', () => {
  it('is zeroed, in whole pages, and shared with the device at once, snooping or not', () => {
    const m = dmaMachine()
    trackAllocations(m.mem)
    const dev = deviceCreate(m.dma, { name: 'nic', coherent: false })
    m.mem.u8.fill(0xff)
    const h = handle()
    const ring = dmaAllocCoherent(m.cpu, dev, 5000, h, gfp(m), 'drv')
    expect(ring % 4096).toBe(0)
    expect(m.mem.u8.subarray(ring, ring + 8192).every((byte) => byte === 0)).toBe(true)
    m.mem.u8[ring] = 1
    const seen = new Uint8Array(1)
    expect(dmaEngineRead(dev, h.dma, seen, 0, 1)).toBe(0)
    expect(seen[0]).toBe(1)
    dmaEngineWrite(dev, (h.dma + 4096) as DmaAddr, new Uint8Array([5]), 0, 1)
    expect(m.mem.u8[ring + 4096]).toBe(5)
    dmaFreeCoherent(m.cpu, dev, 5000, ring, h.dma, 'drv')
    dmaFreeCoherent(m.cpu, dev, 5000, NULL, h.dma, 'drv')
    expect(m.mem.tracker!.live()).toEqual([])
    auditDmaQuiescent(m.dma)
  })

  it('comes from the zone that the coherent mask reaches', () => {
    const m = dmaMachine({}, { zoneEnds: { dma: 16 << 20, dma32: 32 << 20 } })
    const dev = deviceCreate(m.dma, { name: 'isa' })
    const h = handle()
    dmaAllocCoherent(m.cpu, dev, 4096, h, gfp(m), 'drv')
    expect(h.dma).toBeGreaterThanOrEqual(32 << 20)
    expect(dmaSetCoherentMask(dev, DMA_BIT_MASK(24))).toBe(0)
    dmaAllocCoherent(m.cpu, dev, 4096, h, gfp(m), 'drv')
    expect(h.dma).toBeLessThan(16 << 20)
    // Whatever zone the caller asks for, the mask decides.
    dmaSetCoherentMask(dev, DMA_BIT_MASK(32))
    dmaAllocCoherent(m.cpu, dev, 4096, h, (gfp(m) | m.mem.gfp.DMA) as Gfp, 'drv')
    expect(h.dma).toBeGreaterThanOrEqual(32 << 20)
    const odd = deviceCreate(m.dma, { name: 'odd', busDmaLimit: (20 << 20) - 1 })
    dmaAllocCoherent(m.cpu, odd, 4096, h, gfp(m), 'drv')
    expect(h.dma).toBeLessThan(20 << 20)
  })

  it('refuses compound pages, a device without a mask, and removed attributes', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    expect(dmaAllocCoherent(m.cpu, dev, 64, handle(), (gfp(m) | m.mem.gfp.COMP) as Gfp, 'drv')).toBe(NULL)
    expect(m.log.at(-1)).toContain('__GFP_COMP')
    expect(() => dmaAllocAttrs(m.cpu, dev, 64, handle(), gfp(m), 1 << 3, 'drv')).toThrow('DMA_ATTR_NON_CONSISTENT')
    dev.coherentDmaMask = 0
    expect(dmaAllocCoherent(m.cpu, dev, 64, handle(), gfp(m), 'drv')).toBe(NULL)
    auditDmaQuiescent(m.dma)
  })

  it('warns when it is freed with interrupts off', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const h = handle()
    const a = dmaAllocCoherent(m.cpu, dev, 64, h, gfp(m), 'drv')
    m.cpu.irqsDisabled = 1
    dmaFreeCoherent(m.cpu, dev, 64, a, h.dma, 'drv')
    expect(m.log.at(-1)).toContain('interrupts off')
  })

  it('of a device with a pool of its own comes from there and from nowhere else', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'sram' })
    expect(dmaDeclareCoherentMemory(m.cpu, dev, 4 * 4096)).toBe(true)
    const base = dev.coherentPool!.phys
    const h = handle()
    const a = dmaAllocCoherent(m.cpu, dev, 4096, h, gfp(m), 'drv')
    const b = dmaAllocCoherent(m.cpu, dev, 5000, h, gfp(m), 'drv')
    expect([a - base, b - base]).toEqual([0, 8192])
    expect(dmaAllocCoherent(m.cpu, dev, 8192, h, gfp(m), 'drv')).toBe(NULL)
    expect(() => dmaReleaseCoherentMemory(m.cpu, dev)).toThrow('in use')
    dmaFreeCoherent(m.cpu, dev, 4096, a, a as unknown as DmaAddr, 'drv')
    dmaFreeCoherent(m.cpu, dev, 5000, b, b as unknown as DmaAddr, 'drv')
    dmaReleaseCoherentMemory(m.cpu, dev)
    expect(dmaDeclareCoherentMemory(m.cpu, dev, 1 << 30)).toBe(false)
    auditDmaQuiescent(m.dma)
    auditMemory(m.mem)
  })

  it.each([
    ['no IOMMU', null],
    ['an IOMMU', { strict: true }],
  ])('with %s undoes everything when any allocation fails', (_name, iommu) => {
    const run = (n: number): boolean => {
      const m = dmaMachine({ iommu })
      const dev = deviceCreate(m.dma, { name: 'nic' })
      dmaSetMaskAndCoherent(dev, DMA_BIT_MASK(64))
      m.mem.fault = n === 0 ? failNever() : failNth(n)
      const h = handle()
      const addr = dmaAllocCoherent(m.cpu, dev, 10000, h, gfp(m), 'drv')
      const failed = m.mem.fault.failed > 0
      m.mem.fault = null
      // Below 4 GiB is only the first try for a PCI device, so not every failure is the end.
      if (iommu === null) expect(addr === NULL).toBe(failed)
      else if (addr === NULL) expect(failed).toBe(true)
      if (addr !== NULL) {
        expect(dmaEngineWrite(dev, h.dma, new Uint8Array(10000).fill(1), 0, 10000)).toBe(0)
        dmaFreeCoherent(m.cpu, dev, 10000, addr, h.dma, 'drv')
      }
      auditDmaQuiescent(m.dma)
      deviceRemove(m.cpu, dev)
      auditMemory(m.mem)
      return failed
    }
    run(0)
    let n = 1
    while (run(n)) n++
    expect(n).toBeGreaterThan(1)
  })
})

describe('a dma_pool', () => {
  it('validates its arguments as the kernel does', () => {
    const dev = deviceCreate(dmaMachine().dma, { name: 'nic' })
    const make = (size: number, align: number, boundary: number) => dmaPoolCreate('p', dev, size, align, boundary)
    expect([make(0, 1, 0), make(-1, 1, 0), make(2 ** 31, 1, 0), make(8, 3, 0)]).toEqual([null, null, null, null])
    expect([make(64, 1, 32), make(64, 1, 96)]).toEqual([null, null])
    expect(make(1, 0, 0)!.size).toBe(16)
    expect(make(100, 64, 0)!.size).toBe(128)
    expect(make(5000, 1, 0)!.allocation).toBe(5000)
    expect(make(64, 1, 1 << 20)!.boundary).toBe(4096)
    const old = deviceCreate(dmaMachine({}, { profile: 'linux-6.1-x86_64' }).dma, { name: 'nic' })
    expect(dmaPoolCreate('p', old, 1, 1, 0)!.size).toBe(4)
  })

  it('hands out the lowest block of a new page first, then the last freed, and never crosses a boundary', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const pool = dmaPoolCreate('td', dev, 96, 32, 512)!
    const h = handle()
    const blocks = Array.from({ length: 6 }, () => {
      const addr = dmaPoolAlloc(m.cpu, pool, gfp(m), h)
      expect(h.dma).toBe(addr)
      return addr & 4095
    })
    expect(blocks).toEqual([0, 96, 192, 288, 384, 512])
    const base = pool.pages[0]!.addr
    dmaPoolFree(pool, (base + 96) as Addr, (base + 96) as DmaAddr)
    dmaPoolFree(pool, (base + 288) as Addr, (base + 288) as DmaAddr)
    expect(dmaPoolAlloc(m.cpu, pool, gfp(m), h) & 4095).toBe(288)
    auditDma(m.dma)
    expect(dmaPoolsShow(dev)).toBe('poolinfo - 0.1\ntd                  5   40   96  1\n')
  })

  it('zeroes on demand only', () => {
    const m = dmaMachine()
    const pool = dmaPoolCreate('p', deviceCreate(m.dma, { name: 'nic' }), 64, 1, 0)!
    const h = handle()
    const a = dmaPoolAlloc(m.cpu, pool, gfp(m), h)
    m.mem.u8.fill(7, a, a + 64)
    dmaPoolFree(pool, a, h.dma)
    expect(m.mem.u8[dmaPoolAlloc(m.cpu, pool, gfp(m), h)]).toBe(7)
    dmaPoolFree(pool, a, h.dma)
    expect(m.mem.u8[dmaPoolZalloc(m.cpu, pool, gfp(m), h)]).toBe(0)
  })

  it('logs a wrong free and ignores it', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const pool = dmaPoolCreate('p', dev, 64, 1, 0)!
    const h = handle()
    const a = dmaPoolAlloc(m.cpu, pool, gfp(m), h)
    dmaPoolFree(pool, a, (h.dma + 64) as DmaAddr)
    dmaPoolFree(pool, (a + 64) as Addr, (h.dma + 64) as DmaAddr)
    dmaPoolFree(pool, 0x1000 as Addr, 0x1000 as DmaAddr)
    dmaPoolFree(pool, a, h.dma)
    dmaPoolFree(pool, a, h.dma)
    expect(m.log.map((line) => /\((.*)\)/.exec(line)![1])).toEqual([
      'bad vaddr',
      'already free',
      'bad vaddr',
      'already free',
    ])
    auditDma(m.dma)
  })

  it('that is destroyed with blocks out logs it and leaves their pages', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic', driver: 'xhci' })
    const pool = dmaPoolCreate('p', dev, 2048, 1, 0)!
    const h = handle()
    for (let i = 0; i < 3; i++) dmaPoolAlloc(m.cpu, pool, gfp(m), h)
    dmaPoolFree(pool, pool.pages[1]!.addr, pool.pages[1]!.dma)
    dmaPoolDestroy(m.cpu, pool)
    dmaPoolDestroy(m.cpu, pool)
    dmaPoolDestroy(m.cpu, null)
    expect(m.log).toEqual(['xhci nic: dma_pool_destroy p busy'])
    expect(dev.coherentBlocks).toBe(1)
    expect(() => dmaPoolAlloc(m.cpu, pool, gfp(m), h)).toThrow('gone')
    expect(deviceRemove(m.cpu, dev).count).toBe(1)
  })

  it.each([31, 32, 33])('keeps its books under random steps and failures (seed %i)', (seed) => {
    const { rng, label } = seeded(seed)
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const pool = dmaPoolCreate('p', dev, 100 + rng.below(900), 4, 0)!
    const live = new Map<number, DmaAddr>()
    const h = handle()
    for (let step = 0; step < 800; step++) {
      if (rng.below(2) === 0) {
        m.mem.fault = rng.below(4) === 0 ? failNth(1) : null
        const addr = dmaPoolAlloc(m.cpu, pool, gfp(m), h)
        if (addr === NULL) expect(m.mem.fault?.failed, label).toBe(1)
        else {
          expect(live.has(addr), `${label} step ${step}`).toBe(false)
          live.set(addr, h.dma)
        }
        m.mem.fault = null
      } else if (live.size > 0) {
        const addr = [...live.keys()][rng.below(live.size)]!
        dmaPoolFree(pool, addr as Addr, live.get(addr)!)
        live.delete(addr)
      }
      expect(pool.nrActive, label).toBe(live.size)
      auditDma(m.dma)
    }
    for (const [addr, dma] of live) dmaPoolFree(pool, addr as Addr, dma)
    dmaPoolDestroy(m.cpu, pool)
    auditDmaQuiescent(m.dma)
    expect(
      m.log.filter((line) => line.includes('dma_pool')),
      label,
    ).toEqual([])
  })
})
