import type { Addr, DmaAddr, Gfp, Pfn } from '@netmem/base'
import { allocPages, kmalloc } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import {
  dmaClearMask,
  dmaGetRequiredMask,
  dmaMaxMappingSize,
  dmaSetCoherentMask,
  dmaSetMask,
  dmaSetMaskAndCoherent,
  dmaSetMinAlignMask,
} from './device.js'
import { deviceCreate } from './dma.js'
import { dmaEngineCopy, dmaEngineRead, dmaEngineWrite } from './engine.js'
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapSingle,
  dmaMapSingleAttrs,
  dmaNeedSync,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPage,
  dmaUnmapSingle,
  dmaUnmapSingleAttrs,
} from './mapping.js'
import { deviceRemove } from './remove.js'
import { dmaMapSg, dmaMapSgtable, dmaSyncSgForCpu, dmaSyncSgForDevice, dmaUnmapSg, sgSetPage } from './sg.js'
import { auditDmaQuiescent, dmaMachine } from './testing.js'
import {
  DMA_ATTR_NO_WARN,
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_BIDIRECTIONAL,
  DMA_BIT_MASK,
  DMA_FROM_DEVICE,
  DMA_MAPPING_ERROR,
  DMA_NONE,
  DMA_TO_DEVICE,
  dmaAttrNonConsistent,
} from './types.js'

describe('masks', () => {
  it('are 32 bits until the driver raises them', () => {
    const dev = deviceCreate(dmaMachine().dma, { name: 'nic' })
    expect([dev.dmaMask, dev.coherentDmaMask]).toEqual([0xffffffff, 0xffffffff])
    expect(dmaSetMaskAndCoherent(dev, DMA_BIT_MASK(64))).toBe(0)
    expect([dev.dmaMask, dev.coherentDmaMask]).toEqual([2 ** 64, 2 ** 64])
  })

  it('that reach no memory are refused with EIO, and nothing changes', () => {
    const dev = deviceCreate(dmaMachine().dma, { name: 'nic' })
    expect([dmaSetMask(dev, 0xfff), dmaSetCoherentMask(dev, 0xfff), dmaSetMaskAndCoherent(dev, 0xfff)]).toEqual([
      -5, -5, -5,
    ])
    expect([dev.dmaMask, dev.coherentDmaMask]).toEqual([0xffffffff, 0xffffffff])
  })

  it('are cut by the bus', () => {
    const dev = deviceCreate(dmaMachine().dma, { name: 'nic', busDmaLimit: 0x1fffff })
    expect(dmaMapSingle({} as never, dev, 0x1fff00 as Addr, 256, DMA_TO_DEVICE, 'drv')).toBe(0x1fff00)
    expect(dmaMapSingle({} as never, dev, 0x1fff00 as Addr, 257, DMA_TO_DEVICE, 'drv')).toBe(DMA_MAPPING_ERROR)
  })

  it('say how much the device needs, and how much one mapping may have', () => {
    const plain = deviceCreate(dmaMachine().dma, { name: 'nic' })
    expect([dmaGetRequiredMask(plain), dmaMaxMappingSize(plain)]).toEqual([0xffffffff, Number.POSITIVE_INFINITY])
    const forced = deviceCreate(dmaMachine({ swiotlb: { bytes: 1 << 20, force: true } }).dma, { name: 'nic' })
    expect(dmaMaxMappingSize(forced)).toBe(256 << 10)
    dmaSetMinAlignMask(forced, 4095)
    expect(dmaMaxMappingSize(forced)).toBe((256 << 10) - 4096)
  })
})

describe('a direct mapping', () => {
  it('is the physical address, and gives the device these pages and no others', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x100ff0 as Addr, 32, DMA_FROM_DEVICE, 'drv')
    expect(dma).toBe(0x100ff0)
    expect(dmaEngineWrite(dev, dma, new Uint8Array(32).fill(3), 0, 32)).toBe(0)
    expect(m.mem.u8[0x10100f]).toBe(3)
    expect(dmaEngineRead(dev, dma, new Uint8Array(1), 0, 1)).toBe(-14)
    expect(dmaEngineWrite(dev, 0x102000 as DmaAddr, new Uint8Array(1), 0, 1)).toBe(-14)
    expect(dmaEngineWrite(dev, 0x4000000 as DmaAddr, new Uint8Array(1), 0, 1)).toBe(-14)
    expect(m.dma.faults.map((f) => f.reason)).toEqual(['protection', 'unmapped', 'memory'])
    dmaUnmapSingle(m.cpu, dev, dma, 32, DMA_FROM_DEVICE, 'drv')
    expect(dmaEngineWrite(dev, dma, new Uint8Array(1), 0, 1)).toBe(-14)
    expect(dev.faults).toBe(4)
    auditDmaQuiescent(m.dma)
  })

  it('writes what comes before the page that faults', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapSingle(m.cpu, dev, 0x100f00 as Addr, 256, DMA_FROM_DEVICE, 'drv')
    expect(dmaEngineWrite(dev, dma, new Uint8Array(512).fill(1), 0, 512)).toBe(-14)
    expect([m.mem.u8[0x100fff], m.mem.u8[0x101000]]).toEqual([1, 0])
  })

  it('fails above the mask without a bounce pool, with one warning unless it is not wanted', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic', driver: 'b44' })
    dmaSetMask(dev, DMA_BIT_MASK(25))
    const at = 0x2000000 as Addr
    expect(dmaMapSingleAttrs(m.cpu, dev, at, 64, DMA_TO_DEVICE, DMA_ATTR_NO_WARN, 'drv')).toBe(DMA_MAPPING_ERROR)
    expect(m.log).toEqual([])
    const dma = dmaMapSingle(m.cpu, dev, at, 64, DMA_TO_DEVICE, 'drv')
    expect(dmaMappingError(dev, dma)).toBe(-12)
    expect(m.log).toEqual(['b44 nic: DMA addr 0x2000000+64 overflow (mask 1ffffff, bus limit 0).'])
    auditDmaQuiescent(m.dma)
  })

  it('needs a mask, a direction, memory in the direct map, and a device that is there', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    expect(() => dmaMapSingle(m.cpu, dev, 0x1000 as Addr, 1, DMA_NONE, 'drv')).toThrow('kernel BUG')
    expect(() => dmaUnmapSingle(m.cpu, dev, 0x1000 as DmaAddr, 1, DMA_NONE, 'drv')).toThrow('kernel BUG')
    expect(dmaMapSingle(m.cpu, dev, 0x4000000 as Addr, 1, DMA_TO_DEVICE, 'drv')).toBe(DMA_MAPPING_ERROR)
    expect(dmaMapSingle(m.cpu, dev, 0 as Addr, 1, DMA_TO_DEVICE, 'drv')).toBe(DMA_MAPPING_ERROR)
    expect(m.log.at(-1)).toContain('rejecting DMA map of vmalloc memory')
    dmaClearMask(dev)
    expect(dmaMapSingle(m.cpu, dev, 0x1000 as Addr, 1, DMA_TO_DEVICE, 'drv')).toBe(DMA_MAPPING_ERROR)
    expect(m.log.at(-1)).toContain('without a DMA mask')
    const gone = deviceCreate(m.dma, { name: 'usb' })
    deviceRemove(m.cpu, gone)
    expect(dmaMapSingle(m.cpu, gone, 0x1000 as Addr, 1, DMA_TO_DEVICE, 'drv')).toBe(DMA_MAPPING_ERROR)
    expect(() => deviceCreate(m.dma, { name: '' })).toThrow(RangeError)
  })

  it('refuses attributes that do not exist, and names what replaced the removed one', () => {
    const m = dmaMachine()
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const map = (attrs: number) => dmaMapSingleAttrs(m.cpu, dev, 0x1000 as Addr, 1, DMA_TO_DEVICE, attrs, 'drv')
    expect(() => map(1 << 3)).toThrow('DMA_ATTR_NON_CONSISTENT was removed in 5.10')
    expect(() => map(1 << 20)).toThrow('bits that do not exist')
    expect(() => dmaAttrNonConsistent()).toThrow('dmaSyncSingleForCpu')
  })

  it('needs no sync on a device that snoops, and the tracepoints say what happened', () => {
    const m = dmaMachine()
    const seen: unknown[] = []
    m.trace.dmaMap = (...args) => seen.push(['map', ...args])
    m.trace.dmaUnmap = (...args) => seen.push(['unmap', ...args])
    m.trace.dmaSyncSingleForCpu = (...args) => seen.push(['for_cpu', ...args])
    m.trace.dmaSyncSingleForDevice = (...args) => seen.push(['for_device', ...args])
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const dma = dmaMapPage(m.cpu, dev, 0x100 as Pfn, 16, 64, DMA_BIDIRECTIONAL, 'drv')
    expect(dmaNeedSync(dev, dma)).toBe(false)
    dmaSyncSingleForCpu(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL)
    dmaUnmapPage(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL, 'drv')
    expect(seen).toEqual([
      ['map', 'nic', 0x100010, 0x100010, 64, 0],
      ['unmap', 'nic', 0x100010, 64, 0],
    ])
    const old = dmaMachine({}, { profile: 'linux-6.1-x86_64' })
    old.trace.dmaSyncSingleForDevice = (...args) => seen.push(['for_device', ...args])
    const then = deviceCreate(old.dma, { name: 'nic' })
    dmaSyncSingleForDevice(old.cpu, then, 0x100010 as DmaAddr, 64, DMA_TO_DEVICE)
    expect(seen.at(-1)).toEqual(['for_device', 'nic', 0x100010, 64, 1])
  })

  it('starts to need syncs for ever at the first bounce', () => {
    const m = dmaMachine({ swiotlb: { bytes: 1 << 20 } })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    dmaSetMask(dev, DMA_BIT_MASK(26) - 1)
    expect(dev.needSync).toBe(false)
    const pool = m.dma.ioTlb!.slots.start
    const at = pool < 0x2000000 ? 0x3fffff0 : 0
    if (at === 0) return
    const dma = dmaMapSingle(m.cpu, dev, at as Addr, 16, DMA_TO_DEVICE, 'drv')
    expect(dma).not.toBe(DMA_MAPPING_ERROR)
    expect(dev.needSync).toBe(true)
    dmaUnmapSingle(m.cpu, dev, dma, 16, DMA_TO_DEVICE, 'drv')
    expect(dev.needSync).toBe(true)
  })

  it('copies from one device to another through the mappings of both', () => {
    const m = dmaMachine({ iommu: {} })
    const a = deviceCreate(m.dma, { name: 'a' })
    const b = deviceCreate(m.dma, { name: 'b', iommu: false })
    m.mem.u8.fill(42, 0x100f80, 0x101080)
    const from = dmaMapSingle(m.cpu, a, 0x100f80 as Addr, 256, DMA_TO_DEVICE, 'drv')
    const to = dmaMapSingle(m.cpu, b, 0x200fc0 as Addr, 256, DMA_FROM_DEVICE, 'drv')
    expect(dmaEngineCopy(a, from, b, to, 256)).toBe(0)
    expect(m.mem.u8.subarray(0x200fc0, 0x2010c0).every((byte) => byte === 42)).toBe(true)
    expect(dmaEngineCopy(b, to, a, from, 1)).toBe(-14)
    expect(dmaEngineCopy(a, from, a, from, 1)).toBe(-14)
  })
})

describe('a scatter-gather list', () => {
  const pages = (m: ReturnType<typeof dmaMachine>, n: number) =>
    Array.from({ length: n }, (_, i) =>
      sgSetPage(allocPages(m.mem, m.cpu, m.mem.gfp.GFP_KERNEL as Gfp, 0, -1, 'test'), 1000 + i, 10 * i),
    )

  it('is mapped piece by piece, and synced and unmapped as a whole', () => {
    const m = dmaMachine({ swiotlb: { bytes: 1 << 20, force: true }, debug: true })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const sgl = pages(m, 3)
    expect(dmaMapSg(m.cpu, dev, sgl, DMA_BIDIRECTIONAL, 0, 'drv')).toBe(3)
    expect(sgl.map((sg) => sg.dmaBytes)).toEqual([1000, 1001, 1002])
    dmaEngineWrite(dev, sgl[1]!.dmaAddress, new Uint8Array(4).fill(9), 0, 4)
    dmaSyncSgForCpu(m.cpu, dev, sgl, DMA_BIDIRECTIONAL)
    expect(m.mem.u8[sgl[1]!.pfn * 4096 + 10]).toBe(9)
    m.mem.u8[sgl[2]!.pfn * 4096 + 20] = 8
    dmaSyncSgForDevice(m.cpu, dev, sgl, DMA_BIDIRECTIONAL)
    expect(m.mem.u8[sgl[2]!.dmaAddress]).toBe(8)
    dmaUnmapSg(m.cpu, dev, sgl, DMA_BIDIRECTIONAL, 0, 'drv')
    expect(m.dma.debug!.errors).toEqual([])
    auditDmaQuiescent(m.dma)
  })

  it('is mapped whole or not at all', () => {
    const m = dmaMachine({ swiotlb: { bytes: 1 << 20, areas: 1, force: true }, debug: true })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const most = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 1, DMA_TO_DEVICE, 'drv')
    const all = Array.from({ length: 509 }, () => dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 1, DMA_TO_DEVICE, 'drv'))
    const sgl = pages(m, 4)
    expect(dmaMapSg(m.cpu, dev, sgl, DMA_TO_DEVICE, 0, 'drv')).toBe(0)
    expect(dmaMapSgtable(m.cpu, dev, sgl, DMA_TO_DEVICE, 0, 'drv')).toBe(-5)
    expect(m.dma.ioTlb!.slots.used).toBe(510)
    for (const dma of [most, ...all]) {
      dmaMappingError(dev, dma)
      dmaUnmapSingle(m.cpu, dev, dma, 1, DMA_TO_DEVICE, 'drv')
    }
    expect(dmaMapSg(m.cpu, dev, sgl, DMA_TO_DEVICE, 0, 'drv')).toBe(4)
    dmaUnmapSg(m.cpu, dev, sgl, DMA_TO_DEVICE, 0, 'drv')
    auditDmaQuiescent(m.dma)
    expect(m.dma.debug!.errors).toEqual([])
  })

  it.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('works behind an IOMMU of %s', (profile) => {
    const m = dmaMachine({ iommu: { strict: true } }, { profile })
    const dev = deviceCreate(m.dma, { name: 'nic' })
    const sgl = pages(m, 3)
    expect(dmaMapSg(m.cpu, dev, sgl, DMA_TO_DEVICE, 0, 'drv')).toBe(3)
    expect(dmaEngineRead(dev, sgl[2]!.dmaAddress, new Uint8Array(1002), 0, 1002)).toBe(0)
    dmaUnmapSg(m.cpu, dev, sgl, DMA_TO_DEVICE, 0, 'drv')
    auditDmaQuiescent(m.dma)
  })
})

describe('a device that does not snoop', () => {
  const setup = (options = {}) => {
    const m = dmaMachine(options)
    const dev = deviceCreate(m.dma, { name: 'soc-eth', coherent: false })
    const read = (at: number) => m.mem.u8[at]!
    return { m, dev, read }
  }

  it('leaves the CPU reading stale lines until it syncs', () => {
    const { m, dev, read } = setup()
    m.mem.u8.fill(1, 0x100000, 0x100100)
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 256, DMA_FROM_DEVICE, 'drv')
    dmaEngineWrite(dev, dma, new Uint8Array(256).fill(2), 0, 256)
    expect(read(0x100000)).toBe(1)
    dmaSyncSingleRangeForCpu(m.cpu, dev, dma, 64, 10, DMA_FROM_DEVICE)
    expect([read(0x10003f), read(0x100040), read(0x10007f), read(0x100080)]).toEqual([1, 2, 2, 1])
    dmaUnmapSingle(m.cpu, dev, dma, 256, DMA_FROM_DEVICE, 'drv')
    expect(read(0x100000)).toBe(2)
    auditDmaQuiescent(m.dma)
  })

  it('sees what the CPU wrote only after a sync for the device', () => {
    const { m, dev } = setup()
    const seen = new Uint8Array(1)
    m.mem.u8[0x100000] = 1
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_TO_DEVICE, 'drv')
    m.mem.u8[0x100000] = 2
    dmaEngineRead(dev, dma, seen, 0, 1)
    expect(seen[0]).toBe(1)
    dmaSyncSingleRangeForDevice(m.cpu, dev, dma, 0, 1, DMA_TO_DEVICE)
    dmaEngineRead(dev, dma, seen, 0, 1)
    expect(seen[0]).toBe(2)
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_TO_DEVICE, 'drv')
    auditDmaQuiescent(m.dma)
  })

  it('loses what the device wrote when the unmap skips the sync', () => {
    const { m, dev, read } = setup()
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_FROM_DEVICE, 'drv')
    dmaEngineWrite(dev, dma, new Uint8Array(64).fill(2), 0, 64)
    dmaUnmapSingleAttrs(m.cpu, dev, dma, 64, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC, 'drv')
    expect(read(0x100000)).toBe(0)
    auditDmaQuiescent(m.dma)
  })

  it('takes with an invalidate what the CPU wrote into the same line beside the buffer', () => {
    const { m, dev, read } = setup()
    m.mem.u8.fill(1, 0x100000, 0x100040)
    const dma = dmaMapSingle(m.cpu, dev, 0x100010 as Addr, 16, DMA_FROM_DEVICE, 'drv')
    m.mem.u8[0x100000] = 99
    dmaUnmapSingle(m.cpu, dev, dma, 16, DMA_FROM_DEVICE, 'drv')
    expect(read(0x100000)).toBe(1)
  })

  it('bounces small kmalloc objects where the kernel is built to, and then the neighbour is safe', () => {
    const { m, dev, read } = setup({ swiotlb: { bytes: 1 << 20 }, bounceUnalignedKmalloc: true })
    const kernel = m.mem.gfp.GFP_KERNEL as Gfp
    const small = kmalloc(m.mem, m.cpu, 96, kernel, 'test')
    const dma = dmaMapSingle(m.cpu, dev, small, 96, DMA_FROM_DEVICE, 'drv')
    expect(m.dma.ioTlb!.slots.used).toBe(1)
    m.mem.u8[small + 96] = 99
    dmaEngineWrite(dev, dma, new Uint8Array(96).fill(4), 0, 96)
    expect(read(small)).toBe(0)
    dmaUnmapSingle(m.cpu, dev, dma, 96, DMA_FROM_DEVICE, 'drv')
    expect([read(small), read(small + 95), read(small + 96)]).toEqual([4, 4, 99])
    const large = kmalloc(m.mem, m.cpu, 2048, kernel, 'test')
    const plain = dmaMapSingle(m.cpu, dev, large, 1500, DMA_FROM_DEVICE, 'drv')
    expect(plain).toBe(large)
    dmaUnmapSingle(m.cpu, dev, plain, 1500, DMA_FROM_DEVICE, 'drv')
    auditDmaQuiescent(m.dma)
  })

  it.each([true, false])('keeps the same rules behind an IOMMU (strict %s)', (strict) => {
    const { m, dev, read } = setup({ iommu: { strict } })
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_BIDIRECTIONAL, 'drv')
    dmaEngineWrite(dev, dma, new Uint8Array(64).fill(7), 0, 64)
    expect(read(0x100000)).toBe(0)
    dmaSyncSingleForCpu(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL)
    expect(read(0x100000)).toBe(7)
    m.mem.u8[0x100000] = 8
    const seen = new Uint8Array(64)
    dmaEngineRead(dev, dma, seen, 0, 64)
    expect(seen[0]).toBe(7)
    dmaSyncSingleForDevice(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL)
    dmaEngineRead(dev, dma, seen, 0, 64)
    expect(seen[0]).toBe(8)
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL, 'drv')
    m.events.runUntil(20e6)
    auditDmaQuiescent(m.dma)
  })

  it('copies through both sides of the cache when it bounces', () => {
    const { m, dev, read } = setup({ swiotlb: { bytes: 1 << 20, force: true } })
    m.mem.u8.fill(1, 0x100000, 0x100040)
    const dma = dmaMapSingle(m.cpu, dev, 0x100000 as Addr, 64, DMA_BIDIRECTIONAL, 'drv')
    const seen = new Uint8Array(64)
    dmaEngineRead(dev, dma, seen, 0, 64)
    expect(seen[0]).toBe(1)
    dmaEngineWrite(dev, dma, new Uint8Array(64).fill(2), 0, 64)
    dmaUnmapSingle(m.cpu, dev, dma, 64, DMA_BIDIRECTIONAL, 'drv')
    expect(read(0x100000)).toBe(2)
    auditDmaQuiescent(m.dma)
  })
})
