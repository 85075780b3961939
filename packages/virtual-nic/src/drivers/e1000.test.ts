/** What e1000 and e1000e map and unmap for each frame, and that nothing is left whatever fails. */
import { traceSubscribe } from '@netmem/base'
import { type DmaParams, deviceCreate, deviceRemove, swiotlbUsage } from '@netmem/dma'
import { auditDma, auditDmaQuiescent } from '@netmem/dma/testing'
import { failNth } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { allocSkb, consumeSkb, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { assertSkbsQuiescent } from '@netmem/skbuff/testing'
import { describe, expect, it } from 'vitest'
import {
  devAddPack,
  devClose,
  devOpen,
  devQueueXmit,
  e1000Create,
  e1000eCreate,
  ethHwAddrSet,
  hubConnect,
  type NetDevice,
  netdevUnregister,
  type RingNic,
} from '../index.js'
import { assertNetDevsQuiescent, auditNetDevs, testNet } from '../testing.js'

const ETHERTYPE = 0x88b5
const SLOTS = ['0000:00:03.0', '0000:00:04.0'] as const
/** Buffers of one ring at rest: one slot of 256 stays empty. */
const RING = 255

function pair(create: typeof e1000Create, dma: Partial<DmaParams>) {
  const net = testNet({ dma })
  const { cpu } = net
  const pci = SLOTS.map((name) => deviceCreate(net.dma, { name }))
  const devs = pci.map((device, i) => create(net.env, { name: `eth${i}`, device }) as NetDevice)
  devs.forEach((dev, i) => {
    ethHwAddrSet(dev, `52:54:00:12:34:0${i}`)
  })
  hubConnect(devs.map((dev) => (dev.priv as RingNic).hw))
  const bounced: [string, number][] = []
  const counts = { maps: 0, unmaps: 0 }
  traceSubscribe(net.trace, {
    swiotlbBounced: (slot, _dma, bytes) => {
      bounced.push([slot, bytes])
    },
    iommuMap: () => {
      counts.maps += 1
    },
    iommuUnmap: () => {
      counts.unmaps += 1
    },
  })
  const got: SkBuff[] = []
  devAddPack(net.env, { type: ETHERTYPE, dev: devs[1]!, func: (_cpu, skb) => got.push(skb) })
  /** Sends frames of `len` bytes. @returns how many arrived. */
  const send = (len: number, count = 1): number => {
    bounced.length = 0
    counts.maps = 0
    counts.unmaps = 0
    for (let i = 0; i < count; i++) {
      const skb = allocSkb(net.skbs, cpu, len + 64, net.mem.gfp.GFP_KERNEL, 0, -1)
      if (skb === null) continue
      skbReserve(skb, 16)
      const at = skbPut(skb, len) >>> 0
      net.mem.u8.fill(0, at, at + len)
      net.mem.u8.set([0x52, 0x54, 0, 0x12, 0x34, 1, 0x52, 0x54, 0, 0x12, 0x34, 0, 0x88, 0xb5], at)
      skb.dev = devs[0]!.id
      skb.protocol = ETHERTYPE
      devQueueXmit(net.env, cpu, skb)
    }
    const arrived = got.length
    for (const skb of got.splice(0)) consumeSkb(cpu, skb, 'test')
    net.clock.runUntil(net.clock.nowNs + 20e6)
    auditNetDevs(net.env)
    auditDma(net.dma)
    return arrived
  }
  const end = (): void => {
    for (const dev of devs) {
      devClose(dev, cpu)
      netdevUnregister(net.env, dev, cpu)
    }
    net.clock.runUntil(net.clock.nowNs + 5e9)
    assertNetDevsQuiescent(net.env)
    assertSkbsQuiescent(net.skbs)
    for (const device of pci) expect(deviceRemove(cpu, device).count).toBe(0)
    auditDmaQuiescent(net.dma)
    auditMemory(net.mem)
  }
  return { net, devs, pci, bounced, counts, send, end, open: () => devs.map((dev) => devOpen(dev, cpu)) }
}

const FORCE = { swiotlb: { bytes: 8 << 20, force: true } }

describe('e1000', () => {
  it('copies a frame of up to 256 bytes, checksum included, out of a buffer that stays mapped', () => {
    const m = pair(e1000Create, FORCE)
    expect(m.open()).toEqual([0, 0])
    expect(swiotlbUsage(m.net.dma).io_tlb_used).toBe(2 * RING)
    // The slot that was empty gets a buffer; the one that was read keeps its own.
    expect(m.send(60)).toBe(1)
    expect(m.bounced).toEqual([
      [SLOTS[0], 60],
      [SLOTS[1], 1522],
    ])
    expect(swiotlbUsage(m.net.dma).io_tlb_used).toBe(2 * RING + 1)
    expect(m.send(252, 3)).toBe(3)
    expect(m.bounced).toEqual([252, 252, 252].map((len) => [SLOTS[0], len]))
    // One byte more takes the buffer along; its slot is filled when the next frame has come.
    expect(m.send(253)).toBe(1)
    expect(m.bounced).toEqual([[SLOTS[0], 253]])
    expect(swiotlbUsage(m.net.dma).io_tlb_used).toBe(2 * RING)
    expect(m.send(1514, 2)).toBe(2)
    expect(m.bounced.filter(([slot]) => slot === SLOTS[1])).toEqual([
      [SLOTS[1], 1522],
      [SLOTS[1], 1522],
    ])
    m.end()
  })

  it('fills a short frame up to 60 bytes itself', () => {
    const m = pair(e1000Create, FORCE)
    m.open()
    expect(m.send(20)).toBe(1)
    expect(m.bounced[0]).toEqual([SLOTS[0], 60])
    m.end()
  })
})

describe('e1000e', () => {
  it('unmaps the buffer of every frame and maps one for the card again', () => {
    const m = pair(e1000eCreate, FORCE)
    m.open()
    for (const len of [60, 252, 255, 256, 1514]) {
      expect(m.send(len, 40)).toBe(40)
      expect(m.bounced.filter(([slot]) => slot === SLOTS[0])).toEqual(Array(40).fill([SLOTS[0], len]))
      expect(m.bounced.filter(([slot]) => slot === SLOTS[1])).toEqual(Array(40).fill([SLOTS[1], 1522]))
      expect(swiotlbUsage(m.net.dma).io_tlb_used).toBe(2 * RING)
    }
    m.end()
  })

  it('leaves padding to the card down to 17 bytes', () => {
    const m = pair(e1000eCreate, FORCE)
    m.open()
    m.send(17)
    expect(m.bounced[0]).toEqual([SLOTS[0], 17])
    m.send(14)
    expect(m.bounced[0]).toEqual([SLOTS[0], 17])
    m.end()
  })

  it('makes two mappings per frame behind an IOMMU, and flushes each at once or all of a device together', () => {
    for (const strict of [true, false]) {
      const m = pair(e1000eCreate, { iommu: { strict } })
      m.open()
      m.send(60)
      const flushed = (): number => m.pci.reduce((sum, dev) => sum + dev.domain!.iotlbInvalidations, 0)
      const before = flushed()
      expect(m.send(1514, 10)).toBe(10)
      expect(m.counts).toEqual({ maps: 20, unmaps: 20 })
      expect(flushed() - before).toBe(strict ? 20 : 2)
      m.end()
    }
  })
})

describe('running out of memory', () => {
  for (const [name, create] of [
    ['e1000', e1000Create],
    ['e1000e', e1000eCreate],
  ] as const)
    it(`costs ${name} no buffer and no mapping, whichever allocation fails`, () => {
      for (const dma of [FORCE, { iommu: { strict: true } }])
        for (let n = 1; ; n++) {
          const m = pair(create, dma)
          m.open()
          m.net.mem.fault = failNth(n)
          m.send(20, 3)
          m.send(200, 3)
          m.send(1514, 3)
          const { failed } = m.net.mem.fault
          m.net.mem.fault = null
          expect(m.send(1514, 3)).toBe(3)
          m.end()
          if (failed === 0) break
        }
    })

  it('while a card is brought up leaves it down and holding nothing', () => {
    for (const create of [e1000Create, e1000eCreate]) {
      const m = pair(create, FORCE)
      const dev = m.devs[0]!
      // A ring's descriptors, its first buffers, its last ones: each step once, the long middle in strides.
      for (let n = 1; ; n += n < 12 ? 1 : 7) {
        m.net.mem.fault = failNth(n)
        const err = devOpen(dev, m.net.cpu)
        const { failed } = m.net.mem.fault
        m.net.mem.fault = null
        if (failed === 0) break
        if (err === 0) devClose(dev, m.net.cpu)
        else expect(err).toBe(-12)
        auditDmaQuiescent(m.net.dma)
      }
      m.end()
    }
  })
})
