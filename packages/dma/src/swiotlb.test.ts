import type { Addr, DmaAddr, Gfp } from '@netmem/base'
import { kfree, kmalloc } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import { dmaSetMask, dmaSetMinAlignMask } from './device.js'
import { deviceCreate } from './dma.js'
import { dmaEngineRead, dmaEngineWrite } from './engine.js'
import {
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
} from './mapping.js'
import { swiotlbUsage } from './swiotlb.js'
import { auditDma, auditDmaQuiescent, type DmaMachine, dmaMachine } from './testing.js'
import { DMA_BIDIRECTIONAL, DMA_BIT_MASK, DMA_FROM_DEVICE, DMA_MAPPING_ERROR, DMA_TO_DEVICE } from './types.js'

const MIB = 1 << 20
const buffer = (m: DmaMachine, bytes: number, fill: number): Addr => {
  const addr = kmalloc(m.mem, m.cpu, bytes, m.mem.gfp.GFP_KERNEL as Gfp, 'test')
  m.mem.u8.fill(fill, addr, addr + bytes)
  return addr
}
const bytesAt = (m: DmaMachine, at: number, n: number): number[] => [...m.mem.u8.subarray(at, at + n)]

describe('bounce buffers', () => {
  it('moves real bytes out to the device and back, and only those that were mapped', () => {
    const m = dmaMachine({ swiotlb: { bytes: 2 * MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const addr = buffer(m, 256, 7)
    const dma = dmaMapSingle(m.cpu, dev, (addr + 64) as Addr, 64, DMA_BIDIRECTIONAL, 'drv')
    expect(dma).not.toBe(addr + 64)
    const seen = new Uint8Array(64)
    expect(dmaEngineRead(dev, dma, seen, 0, 64)).toBe(0)
    expect([...seen]).toEqual(new Array(64).fill(7))
    expect(dmaEngineWrite(dev, dma, new Uint8Array(64).fill(9), 0, 64)).toBe(0)
    expect(bytesAt(m, addr, 256)).toEqual(new Array(256).fill(7))
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL, 'drv')
    expect(bytesAt(m, addr, 256)).toEqual([
      ...new Array(64).fill(7),
      ...new Array(64).fill(9),
      ...new Array(128).fill(7),
    ])
    kfree(m.mem, m.cpu, addr, 'test')
    auditDmaQuiescent(m.dma)
  })

  it('copies in for DMA_FROM_DEVICE too, so that a short write leaves the rest of the buffer as it was', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const addr = buffer(m, 128, 5)
    const dma = dmaMapSingle(m.cpu, dev, addr, 128, DMA_FROM_DEVICE, 'drv')
    dmaEngineWrite(dev, dma, new Uint8Array(16).fill(1), 0, 16)
    dmaUnmapSingle(m.cpu, dev, dma, 128, DMA_FROM_DEVICE, 'drv')
    expect(bytesAt(m, addr, 128)).toEqual([...new Array(16).fill(1), ...new Array(112).fill(5)])
  })

  it('does not copy back what the device was only to read', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const addr = buffer(m, 64, 5)
    const dma = dmaMapSingle(m.cpu, dev, addr, 64, DMA_TO_DEVICE, 'drv')
    m.mem.u8.fill(99, dma, dma + 64)
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')
    expect(bytesAt(m, addr, 64)).toEqual(new Array(64).fill(5))
  })

  it('syncs parts: for the CPU what the device wrote, for the device what the CPU wrote', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const addr = buffer(m, 4096, 1)
    const dma = dmaMapSingle(m.cpu, dev, addr, 4096, DMA_BIDIRECTIONAL, 'drv')
    dmaEngineWrite(dev, dma, new Uint8Array(4096).fill(2), 0, 4096)
    dmaSyncSingleForCpu(m.cpu, dev, (dma + 3000) as DmaAddr, 100, DMA_BIDIRECTIONAL)
    expect(bytesAt(m, addr + 2999, 102)).toEqual([1, ...new Array(100).fill(2), 1])
    m.mem.u8.fill(3, addr, addr + 4096)
    dmaSyncSingleForDevice(m.cpu, dev, (dma + 10) as DmaAddr, 4, DMA_BIDIRECTIONAL)
    expect(bytesAt(m, dma + 9, 6)).toEqual([2, 3, 3, 3, 3, 2])
    dmaUnmapSingle(m.cpu, dev, dma, 4096, DMA_BIDIRECTIONAL, 'drv')
    auditDmaQuiescent(m.dma)
  })

  it('cuts a sync that reaches past the mapping, with a warning', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const addr = buffer(m, 512, 1)
    const dma = dmaMapSingle(m.cpu, dev, addr, 100, DMA_FROM_DEVICE, 'drv')
    m.mem.u8.fill(8, dma, dma + 512)
    dmaSyncSingleForCpu(m.cpu, dev, dma, 300, DMA_FROM_DEVICE)
    expect(m.log.at(-1)).toContain('Buffer overflow detected. Allocation size: 100. Mapping size: 300.')
    expect(bytesAt(m, addr + 99, 2)).toEqual([8, 1])
  })

  it('bounces only what the device cannot reach', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB } }, { zoneEnds: { dma: 16 << 20, dma32: 32 << 20 } })
    const dev = deviceCreate(m.dma, { name: 'isa' })
    expect(dmaSetMask(dev, DMA_BIT_MASK(20))).toBe(-5)
    expect(dmaSetMask(dev, DMA_BIT_MASK(24))).toBe(0)
    const low = dmaMapSingle(m.cpu, dev, 0x800000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    expect(low).toBe(0x800000)
    // The pool itself lies where this device cannot reach either: the mapping fails loudly instead.
    const high = dmaMapSingle(m.cpu, dev, 0x2800000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    const pool = m.dma.ioTlb!.slots.start
    if (pool > DMA_BIT_MASK(24)) {
      expect(high).toBe(DMA_MAPPING_ERROR)
      expect(m.log.at(-1)).toContain('overflow (mask ffffff')
    } else dmaUnmapSingle(m.cpu, dev, high, 64, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, low, 64, DMA_TO_DEVICE, 'drv')
    auditDmaQuiescent(m.dma)
  })

  it('keeps the low address bits of a device that wants them', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nvme' })
    dmaSetMinAlignMask(dev, 4095)
    const page = buffer(m, 8192, 4)
    for (const offset of [0, 1, 2047, 2048, 3000, 4095]) {
      const dma = dmaMapSingle(m.cpu, dev, (page + offset) as Addr, 100, DMA_TO_DEVICE, 'drv')
      expect(dma & 4095).toBe((page + offset) & 4095)
      const seen = new Uint8Array(100)
      dmaEngineRead(dev, dma, seen, 0, 100)
      expect(seen.every((b) => b === 4)).toBe(true)
      auditDma(m.dma)
      dmaUnmapSingle(m.cpu, dev, dma, 100, DMA_TO_DEVICE, 'drv')
    }
    auditDmaQuiescent(m.dma)
  })

  it('fails with the kernel line when it is full, at most ten times in five seconds, and works again afterwards', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, areas: 1, force: true } })
    const dev = deviceCreate(m.dma, { name: 'eth0', driver: 'e1000' })
    const live: DmaAddr[] = []
    for (let i = 0; i < 512; i++) live.push(dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 1522, DMA_FROM_DEVICE, 'drv'))
    expect(live.every((dma) => dmaMappingError(dev, dma) === 0)).toBe(true)
    for (let i = 0; i < 30; i++) {
      const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 1522, DMA_FROM_DEVICE, 'drv')
      expect(dmaMappingError(dev, dma)).toBe(-12)
    }
    const line = 'e1000 eth0: swiotlb buffer is full (sz: 1522 bytes), total 512 (slots), used 512 (slots)'
    expect(m.log).toEqual(new Array(10).fill(line))
    m.events.runUntil(5e9)
    dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 1522, DMA_FROM_DEVICE, 'drv')
    expect(m.log.length).toBe(11)
    auditDma(m.dma)
    for (const dma of live) dmaUnmapSingle(m.cpu, dev, dma, 1522, DMA_FROM_DEVICE, 'drv')
    auditDmaQuiescent(m.dma)
    expect(swiotlbUsage(m.dma)).toEqual({ io_tlb_nslabs: 512, io_tlb_used: 0, io_tlb_used_hiwater: 512 })
    const again = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 1522, DMA_FROM_DEVICE, 'drv')
    expect(dmaMappingError(dev, again)).toBe(0)
  })

  it('refuses more than a segment at once, whatever is free', () => {
    const m = dmaMachine({ swiotlb: { bytes: 4 * MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    expect(dmaMapSingle(m.cpu, dev, 0x100000 as Addr, (256 << 10) + 1, DMA_TO_DEVICE, 'drv')).toBe(DMA_MAPPING_ERROR)
    const most = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 256 << 10, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, most, 256 << 10, DMA_TO_DEVICE, 'drv')
    auditDmaQuiescent(m.dma)
  })

  it('finds a second unmap of the same slot', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')
    expect(() => dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')).toThrow('not in use')
  })

  it('gives the device no byte beside its mapping, not even in the same slot', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_FROM_DEVICE, 'drv')
    expect(dmaEngineWrite(dev, (dma + 64) as DmaAddr, new Uint8Array(1), 0, 1)).toBe(-14)
    expect(dmaEngineWrite(dev, (dma + 2048) as DmaAddr, new Uint8Array(1), 0, 1)).toBe(-14)
    expect(m.dma.faults.map((f) => f.reason)).toEqual(['unmapped', 'unmapped'])
  })

  it('takes half of the pool again and again until memory has that much in a row', () => {
    const m = dmaMachine({ swiotlb: { bytes: 256 * MIB } })
    expect(m.dma.ioTlb!.slots.nslabs).toBeLessThan((64 * MIB) / 2048)
    expect(m.dma.ioTlb!.slots.nslabs).toBeGreaterThanOrEqual((16 * MIB) / 2048)
    expect(() => dmaMachine({ swiotlb: { bytes: 0 } })).toThrow(RangeError)
  })

  it('fires swiotlb:swiotlb_bounced with size and force, and counts the bytes copied', () => {
    const m = dmaMachine({ swiotlb: { bytes: MIB, force: true } })
    const seen: unknown[] = []
    m.trace.swiotlbBounced = (dev, _dma, bytes, force) => seen.push([dev, bytes, force])
    m.trace.copy = (_cpu, site, bytes) => seen.push([site, bytes])
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 1522, DMA_FROM_DEVICE, 'drv')
    dmaUnmapSingle(m.cpu, dev, dma, 1522, DMA_FROM_DEVICE, 'drv')
    expect(seen).toEqual([
      ['nic', 1522, true],
      ['swiotlb_bounce', 1522],
      ['swiotlb_bounce', 1522],
    ])
  })
})
