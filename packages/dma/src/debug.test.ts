import type { Addr, DmaAddr, Gfp, Pfn } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.js'
import { debugDmaFreeCoherent } from './debug.js'
import { debugDmaAssertIdle } from './debug-owner.js'
import { type Device, dmaClearMask } from './device.js'
import { deviceCreate } from './dma.js'
import type { DmaMisuse } from './dma-debug.js'
import { dmaEngineWrite } from './engine.js'
import {
  dmaMapPageAttrs,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
} from './mapping.js'
import { deviceRemove } from './remove.js'
import { dmaMapSg, dmaUnmapSg, sgSetPage } from './sg.js'
import { auditDma, type DmaMachine, dmaMachine } from './testing.js'
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaDirection,
} from './types.js'

interface Bench {
  m: DmaMachine
  dev: Device
  map(at: number, bytes: number, dir: DmaDirection): DmaAddr
  misuse(): DmaMisuse[]
}

function bench(params: object | true = true): Bench {
  const m = dmaMachine({ debug: params, swiotlb: null })
  const dev = deviceCreate(m.dma, { name: '0000:00:03.0', driver: 'e1000e' })
  return {
    m,
    dev,
    map(at, bytes, dir) {
      m.dma.step = 'step 1: open'
      const dma = dmaMapSingle(m.cpu, dev, at as Addr, bytes, dir, 'e1000_alloc_rx_buffers')
      dmaMappingError(dev, dma)
      m.dma.step = 'step 2: poll'
      return dma
    },
    misuse: () => m.dma.debug!.errors.map((error) => error.misuse),
  }
}

describe('the debug facility finds', () => {
  it('an unmap with another size, and says where the mapping was made', () => {
    const { m, dev, map } = bench()
    const dma = map(0x100000, 2048, DMA_FROM_DEVICE)
    dmaUnmapSingle(m.cpu, dev, dma, 1522, DMA_FROM_DEVICE, 'e1000_clean_rx_irq')
    expect(m.dma.debug!.errors).toEqual([
      {
        misuse: 'unmap-size',
        device: '0000:00:03.0',
        dma: 0x100000,
        bytes: 1522,
        site: 'e1000_clean_rx_irq',
        step: 'step 2: poll',
        mappedAt: { site: 'e1000_alloc_rx_buffers', step: 'step 1: open' },
        text:
          'DMA-API: e1000e 0000:00:03.0: device driver frees DMA memory with different size ' +
          '[device address=0x0000000000100000] [map size=2048 bytes] [unmap size=1522 bytes]',
      },
    ])
    expect(m.log).toEqual([`${m.dma.debug!.errors[0]!.text} Mapped at: e1000_alloc_rx_buffers (step 1: open)`])
  })

  it('an unmap with another direction', () => {
    const { m, dev, map, misuse } = bench()
    dmaUnmapSingle(m.cpu, dev, map(0x100000, 64, DMA_FROM_DEVICE), 64, DMA_TO_DEVICE, 'drv')
    expect(misuse()).toEqual(['unmap-direction'])
    expect(m.dma.debug!.errors[0]!.text).toContain('[mapped with DMA_FROM_DEVICE] [unmapped with DMA_TO_DEVICE]')
  })

  it('an unmap with the function of another kind', () => {
    const { m, dev, map, misuse } = bench()
    const dma = map(0x100000, 64, DMA_BIDIRECTIONAL)
    dmaFreeCoherent(m.cpu, dev, 64, 0x100000 as Addr, dma, 'drv')
    expect(misuse()).toEqual(['unmap-kind'])
    auditDma(m.dma)
    expect(m.dma.debug!.errors[0]!.text).toContain('[mapped as single] [unmapped as coherent]')
  })

  it('a second unmap, an unmap of what was never mapped, and of an error value; none of them does harm', () => {
    const { m, dev, map, misuse } = bench()
    const dma = map(0x100000, 64, DMA_TO_DEVICE)
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, 0x500000 as DmaAddr, 64, DMA_TO_DEVICE, 'drv')
    dmaClearMask(dev)
    dmaUnmapSingle(m.cpu, dev, map(0x100000, 64, DMA_TO_DEVICE), 64, DMA_TO_DEVICE, 'drv')
    expect(misuse()).toEqual(['unmap-unknown', 'unmap-unknown', 'unmap-unknown'])
    expect(m.dma.debug!.errors.map((e) => e.text.includes('invalid DMA memory address'))).toEqual([false, false, true])
    expect(dev.mappings).toBe(0)
    auditDma(m.dma)
  })

  it('coherent memory freed with another CPU address', () => {
    const { m, dev, misuse } = bench()
    const h = { dma: 0 as DmaAddr }
    const addr = dmaAllocCoherent(m.cpu, dev, 4096, h, m.mem.gfp.GFP_KERNEL as Gfp, 'drv')
    expect(debugDmaFreeCoherent(m.dma.debug!, dev, 4096, h.dma, addr + 64, 'drv')).toBe(true)
    expect(misuse()).toEqual(['unmap-address'])
  })

  it('a list unmapped with another number of pieces', () => {
    const { m, dev, misuse } = bench()
    const sgl = [0x100, 0x200, 0x300].map((pfn) => sgSetPage(pfn as Pfn, 100, 0))
    dmaMapSg(m.cpu, dev, sgl, DMA_TO_DEVICE, 0, 'drv')
    dmaUnmapSg(m.cpu, dev, sgl.slice(0, 2), DMA_TO_DEVICE, 0, 'drv')
    expect(misuse()).toEqual(['unmap-entries', 'unmap-entries'])
    expect(m.dma.debug!.errors[0]!.text).toContain('[map count=3] [unmap count=2]')
  })

  it('a driver that never asked whether the mapping failed', () => {
    const { m, dev, misuse } = bench()
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')
    expect(misuse()).toEqual(['error-unchecked'])
  })

  it('a sync of the unmapped, past the end, in another direction, or against the direction', () => {
    const { m, dev, map, misuse } = bench()
    const rx = map(0x100000, 2048, DMA_FROM_DEVICE)
    const tx = map(0x200000, 64, DMA_TO_DEVICE)
    dmaSyncSingleForCpu(m.cpu, dev, 0x600000 as DmaAddr, 64, DMA_FROM_DEVICE, 'drv')
    dmaSyncSingleForCpu(m.cpu, dev, (rx + 2000) as DmaAddr, 64, DMA_FROM_DEVICE, 'drv')
    dmaSyncSingleForCpu(m.cpu, dev, rx, 64, DMA_BIDIRECTIONAL, 'drv')
    dmaSyncSingleForDevice(m.cpu, dev, rx, 64, DMA_TO_DEVICE, 'drv')
    dmaSyncSingleForCpu(m.cpu, dev, tx, 64, DMA_FROM_DEVICE, 'drv')
    expect(misuse()).toEqual([
      'sync-unknown',
      'sync-size',
      'sync-direction',
      'sync-direction',
      'sync-direction',
      'sync-direction',
      'sync-direction',
    ])
    const words = m.dma.debug!.errors.map(
      (e) => /(different direction|read-only|write-only|outside|not allocated)/.exec(e.text)![0],
    )
    expect(words).toEqual([
      'not allocated',
      'outside',
      'different direction',
      'different direction',
      'write-only',
      'different direction',
      'read-only',
    ])
  })

  it('nothing wrong in a sync of part of a mapping, however far from its start', () => {
    const { m, dev, map, misuse } = bench()
    const dma = map(0x100000, 65536, DMA_FROM_DEVICE)
    dmaSyncSingleForCpu(m.cpu, dev, (dma + 60000) as DmaAddr, 1000, DMA_FROM_DEVICE, 'drv')
    dmaSyncSingleForDevice(m.cpu, dev, (dma + 60000) as DmaAddr, 1000, DMA_FROM_DEVICE, 'drv')
    expect(misuse()).toEqual([])
  })

  it('two mappings that share a cache line and may both be written', () => {
    const { m, dev, map, misuse } = bench()
    const a = map(0x100000, 100, DMA_FROM_DEVICE)
    map(0x100064, 100, DMA_FROM_DEVICE)
    expect(misuse()).toEqual(['overlap'])
    expect(m.dma.debug!.errors[0]!.text).toContain("cacheline tracking EEXIST, overlapping mappings aren't supported")
    map(0x100000, 100, DMA_TO_DEVICE)
    dmaMapPageAttrs(m.cpu, dev, 0x100 as Pfn, 0, 64, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC, 'drv')
    expect(misuse()).toEqual(['overlap'])
    dmaUnmapSingle(m.cpu, dev, a, 100, DMA_FROM_DEVICE, 'drv')
    auditDma(m.dma)
  })

  it('a CPU that touches what the device owns, and lets it between the syncs', () => {
    const { m, dev, map, misuse } = bench()
    const idle = (at: number, bytes: number, write: boolean) =>
      debugDmaAssertIdle(m.dma.debug!, at, bytes, write, 'memcpy')
    const rx = map(0x100000, 2048, DMA_FROM_DEVICE)
    expect(idle(0x100700, 512, false)).toBe(false)
    expect(idle(0x100800, 512, false)).toBe(true)
    dmaSyncSingleForCpu(m.cpu, dev, rx, 128, DMA_FROM_DEVICE)
    dmaSyncSingleForCpu(m.cpu, dev, (rx + 128) as DmaAddr, 128, DMA_FROM_DEVICE)
    expect([idle(0x100000, 256, true), idle(0x100000, 257, true)]).toEqual([true, false])
    dmaSyncSingleForDevice(m.cpu, dev, (rx + 64) as DmaAddr, 64, DMA_FROM_DEVICE)
    expect([idle(0x100000, 64, true), idle(0x100040, 1, true), idle(0x100080, 128, true)]).toEqual([true, false, true])
    const tx = map(0x200000, 64, DMA_TO_DEVICE)
    expect([idle(0x200000, 64, false), idle(0x200000, 64, true)]).toEqual([true, false])
    dmaUnmapSingle(m.cpu, dev, tx, 64, DMA_TO_DEVICE, 'drv')
    expect(idle(0x200000, 64, true)).toBe(true)
    expect(misuse().every((kind) => kind === 'cpu-access')).toBe(true)
    expect(m.dma.debug!.errors.at(-1)!.text).toContain('cpu writes an active dma mapped cacheline')
    expect(m.dma.debug!.errors[0]!.mappedAt!.site).toBe('e1000_alloc_rx_buffers')
  })

  it('by comparing contents, that the CPU wrote into the buffer behind the device', () => {
    const { m, dev, map, misuse } = bench({ verifyContents: true })
    const dma = map(0x100000, 256, DMA_FROM_DEVICE)
    dmaEngineWrite(dev, dma, new Uint8Array(64).fill(5), 0, 64)
    dmaSyncSingleForCpu(m.cpu, dev, dma, 64, DMA_FROM_DEVICE)
    m.mem.u8[0x100001] = 6
    dmaSyncSingleForDevice(m.cpu, dev, dma, 64, DMA_FROM_DEVICE)
    expect(misuse()).toEqual([])
    m.mem.u8[0x1000c0] = 1
    dmaUnmapSingle(m.cpu, dev, dma, 256, DMA_FROM_DEVICE, 'drv')
    expect(m.dma.debug!.errors.map((e) => [e.misuse, e.dma])).toEqual([['cpu-access', 0x1000c0]])
  })

  it('what a driver forgot when its device goes, with the last entry in full', () => {
    const { m, dev, map } = bench()
    map(0x100000, 2048, DMA_FROM_DEVICE)
    map(0x200000, 1000, DMA_TO_DEVICE)
    m.dma.step = 'step 9: rmmod'
    const { count, leaks } = deviceRemove(m.cpu, dev)
    expect([count, leaks.length]).toEqual([2, 2])
    expect(m.dma.debug!.errors).toMatchObject([{ misuse: 'leak', step: 'step 9: rmmod', dma: 0x200000 }])
    expect(m.dma.debug!.errors[0]!.text).toContain(
      'device driver has pending DMA allocations while released from device [count=2] One of leaked entries details: ' +
        '[device address=0x0000000000200000] [size=1000 bytes] [mapped with DMA_TO_DEVICE] [mapped as single]',
    )
    const clean = deviceCreate(m.dma, { name: 'b' })
    expect(deviceRemove(m.cpu, clean)).toEqual({ count: 0, leaks: [] })
  })

  it('memory that is none', () => {
    const { m, dev, misuse } = bench()
    dmaMapSingle(m.cpu, dev, 0x7f000000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    expect(misuse()).toEqual(['bad-area'])
  })

  it('the right one of several mappings of the same address', () => {
    const { m, dev, map, misuse } = bench()
    const a = map(0x100000, 64, DMA_TO_DEVICE)
    map(0x100000, 128, DMA_TO_DEVICE)
    dmaUnmapSingle(m.cpu, dev, a, 128, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, a, 64, DMA_TO_DEVICE, 'drv')
    expect(misuse()).toEqual([])
    map(0x100000, 64, DMA_TO_DEVICE)
    map(0x100000, 128, DMA_TO_DEVICE)
    dmaUnmapSingle(m.cpu, dev, a, 99, DMA_TO_DEVICE, 'drv')
    expect(misuse()).toEqual(['unmap-unknown'])
  })

  it.each([
    [{}, 1],
    [{ numErrors: 2 }, 2],
    [{ allErrors: true }, 4],
  ])('everything, but logs as much as it was told to (%o: %i)', (params, lines) => {
    const { m, dev } = bench(params)
    for (let i = 0; i < 4; i++) dmaUnmapSingle(m.cpu, dev, 0x9000 as DmaAddr, 1, DMA_TO_DEVICE, 'drv')
    expect([m.dma.debug!.errors.length, m.log.length]).toEqual([4, lines])
  })
})
