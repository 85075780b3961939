/** Running out of memory in each place, and going on by itself once memory is back. */
import { DMA_BIT_MASK, DmaDebug, dmaSetMaskAndCoherent } from '@netmem/dma'
import { auditDma, auditDmaQuiescent } from '@netmem/dma/testing'
import { failEvery, failNth } from '@netmem/memory'
import { pagePoolDestroy } from '@netmem/page-pool'
import { auditPagePool, auditPagePoolsQuiescent } from '@netmem/page-pool/testing'
import { allocSkb, consumeSkb, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { assertSkbsQuiescent } from '@netmem/skbuff/testing'
import { describe, expect, it } from 'vitest'
import {
  devClose,
  devOpen,
  devQueueXmit,
  devStatistics,
  ETH_P_IP,
  type NetDevice,
  netdevUnregister,
  type RingNic,
} from '../index.js'
import {
  assertNetDevsQuiescent,
  auditNetDevs,
  collect,
  ppCard,
  ringCard,
  type TestNet,
  testNet,
  udpFrame,
} from '../testing.js'

/** Where a page pool takes its pages. */
const POOL = '__page_pool_alloc_netmems_slow'

/** Ends a test: device gone, everything given back. */
function finish(net: TestNet, dev: { id: number } & Parameters<typeof devClose>[0]): void {
  net.mem.fault = null
  devClose(dev, net.cpu)
  netdevUnregister(net.env, dev, net.cpu)
  net.clock.runUntil(net.clock.nowNs + 5e9)
  assertNetDevsQuiescent(net.env)
  auditPagePoolsQuiescent(net.pools)
  assertSkbsQuiescent(net.skbs)
  auditDmaQuiescent(net.dma)
}

const free = (net: TestNet, got: SkBuff[]): number => {
  const n = got.length
  for (const skb of got.splice(0)) consumeSkb(net.cpu, skb, 'test')
  return n
}

describe('a page-pool card', () => {
  it('loses frames while no page is to be had, and recovers when there is one again', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net, { rxRing: 32 })
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(200)
    const send = (n: number): void => {
      for (let i = 0; i < n; i++) {
        nic.hw.receive(f, 0, f.length)
        auditNetDevs(net.env)
      }
    }
    send(10)
    expect(free(net, got)).toBe(10)
    net.mem.fault = failEvery(1).bySite(POOL)
    // The handler keeps every packet: the ring, then what the pool has cached, then nothing.
    send(300)
    const delivered = got.length
    expect(delivered).toBeLessThan(200)
    expect(devStatistics(dev).rx_missed_errors).toBe(300 - delivered)
    expect(nic.queues[0]!.rx.allocFailed).toBeGreaterThan(0)
    auditPagePool(nic.queues[0]!.rx.pool!)
    net.clock.runUntil(net.clock.nowNs + 10e6)
    expect(got).toHaveLength(delivered)
    // Memory is back, and no packet moves: only the driver's own timer can know.
    net.mem.fault = null
    net.clock.runUntil(net.clock.nowNs + 10e6)
    send(20)
    expect(got).toHaveLength(delivered + 20)
    free(net, got)
    finish(net, dev)
  })

  it('lives on pages that come back while the page allocator has none', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net, { rxRing: 32 })
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(200)
    net.mem.fault = failEvery(1).bySite(POOL)
    for (let i = 0; i < 1000; i++) {
      nic.hw.receive(f, 0, f.length)
      expect(free(net, got)).toBe(1)
    }
    expect(devStatistics(dev)).toMatchObject({ rx_packets: 1000, rx_missed_errors: 0 })
    finish(net, dev)
  })

  it('drops a frame for which there is no head, and keeps its page', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net)
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(200)
    net.mem.fault = failEvery(1).byKind('slab')
    for (let i = 0; i < 5; i++) nic.hw.receive(f, 0, f.length)
    expect(got).toHaveLength(0)
    expect(devStatistics(dev).rx_dropped).toBe(5)
    net.mem.fault = null
    nic.hw.receive(f, 0, f.length)
    expect(free(net, got)).toBe(1)
    finish(net, dev)
  })

  it('gives everything back whichever allocation fails when it is brought up', () => {
    let n = 1
    for (; n < 200; n++) {
      const net = testNet({ bytes: 16 << 20 })
      const { dev } = ppCard(net, { rxRing: 16, txRing: 16, queues: 2 })
      devClose(dev, net.cpu)
      net.mem.fault = failNth(n)
      const rc = devOpen(dev, net.cpu)
      const { failed } = net.mem.fault
      net.mem.fault = null
      auditNetDevs(net.env)
      if (rc !== 0) expect([rc, failed]).toEqual([-12, 1])
      finish(net, dev)
      if (failed === 0) break
    }
    expect(n).toBeGreaterThan(5)
  })

  it('leaves nothing behind whichever allocation fails on receive', () => {
    for (let n = 1; n < 60; n++) {
      const net = testNet({ bytes: 16 << 20 })
      const { dev, nic } = ppCard(net, { rxRing: 16 })
      const got = collect(net, ETH_P_IP)
      net.mem.fault = failNth(n)
      const long = udpFrame(9000)
      for (let i = 0; i < 40; i++) {
        const f = i % 5 === 0 ? long : udpFrame(100)
        nic.hw.receive(f, 0, f.length)
        auditNetDevs(net.env)
        if (i % 3 === 0) free(net, got)
      }
      free(net, got)
      finish(net, dev)
    }
  })

  it('outlives its pool: packets still held keep it until they are read', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net)
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(100)
    for (let i = 0; i < 7; i++) nic.hw.receive(f, 0, f.length)
    const pool = nic.queues[0]!.rx.pool!
    devClose(dev, net.cpu)
    expect(pool.freed).toBe(false)
    expect(free(net, got)).toBe(7)
    net.clock.runUntil(net.clock.nowNs + 2e9)
    expect(pool.freed).toBe(true)
    expect(() => pagePoolDestroy(net.cpu, pool)).toThrow('gone already')
    expect(devOpen(dev, net.cpu)).toBe(0)
    nic.hw.receive(f, 0, f.length)
    expect(free(net, got)).toBe(1)
    finish(net, dev)
  })
})

describe('a classic card', () => {
  it('leaves nothing behind whichever allocation fails: bringing it up, receiving, sending', () => {
    for (let n = 1; n < 120; n++) {
      const net = testNet({ bytes: 16 << 20 })
      const { dev, nic } = ringCard(net, { rxRing: 16, txRing: 16 })
      devClose(dev, net.cpu)
      const got = collect(net, ETH_P_IP)
      net.mem.fault = failNth(n)
      if (devOpen(dev, net.cpu) === 0) {
        for (let i = 0; i < 60; i++) {
          const f = udpFrame(i % 4 === 0 ? 1000 : 100)
          nic.hw.receive(f, 0, f.length)
          auditNetDevs(net.env)
          if (i % 3 === 0) free(net, got)
          transmit(net, dev.id)
          auditNetDevs(net.env)
        }
      }
      free(net, got)
      finish(net, dev)
    }
  })

  it('refills by itself after a time without any buffer', () => {
    const net = testNet()
    const { dev, nic } = ringCard(net, { rxRing: 16, copybreak: 0 })
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(1000)
    net.mem.fault = failEvery(1)
    for (let i = 0; i < 40; i++) nic.hw.receive(f, 0, f.length)
    expect(got).toHaveLength(15)
    expect(devStatistics(dev).rx_missed_errors).toBe(25)
    net.mem.fault = null
    net.clock.runUntil(net.clock.nowNs + 5e6)
    for (let i = 0; i < 10; i++) nic.hw.receive(f, 0, f.length)
    expect(free(net, got)).toBe(25)
    finish(net, dev)
  })

  it('cannot be opened when the bounce pool is smaller than its ring, and leaves nothing taken', () => {
    const net = testNet({ dma: { swiotlb: { bytes: 1 << 20, force: true } } })
    // 512 slots of 2 KiB, one for each receive buffer.
    expect(() => ringCard(net, { rxRing: 1024 })).toThrow('open failed with -12')
    finish(net, net.env.devices[1]!)
  })

  it('drops what it sends while the bounce pool is full, and recovers', () => {
    const net = testNet({ dma: { swiotlb: { bytes: 1 << 20, force: true } } })
    const { dev, nic } = ringCard(net, { rxRing: 256, txRing: 512 })
    pileUp(dev, nic)
    // 512 slots, 255 of them under the receive ring.
    for (let i = 0; i < 300; i++) transmit(net, dev.id)
    expect(devStatistics(dev)).toMatchObject({ tx_packets: 257, tx_dropped: 43 })
    net.clock.runUntil(net.clock.nowNs + 1e6)
    for (let i = 0; i < 100; i++) transmit(net, dev.id)
    expect(devStatistics(dev)).toMatchObject({ tx_packets: 357, tx_dropped: 43 })
    finish(net, dev)
  })

  it('bounces every frame when told to, and gives each slot back', () => {
    const net = testNet({ dma: { swiotlb: { bytes: 1 << 20, force: true } } })
    const { dev, nic } = ringCard(net, { rxRing: 64, copybreak: 256 })
    const got = collect(net, ETH_P_IP)
    const bounced: number[] = []
    net.trace.swiotlbBounced = (_dev, _dma, bytes) => bounced.push(bytes)
    const f = udpFrame(18)
    for (let i = 0; i < 40; i++) nic.hw.receive(f, 0, f.length)
    // The e1000e way: copied out, and the same buffer mapped again, so each frame bounces anew.
    expect(bounced).toEqual(Array(40).fill(1522))
    expect(got).toHaveLength(40)
    expect([...net.mem.u8.subarray((got[39]!.data + 28) >>> 0, (got[39]!.data + 46) >>> 0)]).toEqual([
      ...f.subarray(42),
    ])
    bounced.length = 0
    transmit(net, dev.id, 60)
    expect(bounced).toEqual([60])
    auditDma(net.dma)
    free(net, got)
    finish(net, dev)
  })

  it('keeps a copied buffer mapped the older way, and only syncs it', () => {
    const net = testNet({ dma: { swiotlb: { bytes: 1 << 20, force: true } } })
    const { dev, nic } = ringCard(net, { rxRing: 64, keepMapped: true })
    const got = collect(net, ETH_P_IP)
    const bounced: number[] = []
    net.trace.swiotlbBounced = (_dev, _dma, bytes) => bounced.push(bytes)
    const f = udpFrame(18)
    for (let i = 0; i < 40; i++) nic.hw.receive(f, 0, f.length)
    // Only the slot that a ring always leaves empty is mapped anew when its turn comes.
    expect(bounced).toEqual([1522])
    expect([...net.mem.u8.subarray((got[39]!.data + 28) >>> 0, (got[39]!.data + 46) >>> 0)]).toEqual([
      ...f.subarray(42),
    ])
    free(net, got)
    finish(net, dev)
  })

  it('runs out of device addresses behind an IOMMU and recovers', () => {
    const net = testNet({ dma: { iommu: { strict: true, apertureEnd: 0x3ffff } } })
    const { dev, nic } = ringCard(net, { rxRing: 16, txRing: 64, copybreak: 0 })
    pileUp(dev, nic)
    for (let i = 0; i < 60; i++) transmit(net, dev.id)
    const { tx_packets, tx_dropped } = devStatistics(dev)
    expect([tx_packets + tx_dropped, tx_dropped > 0]).toEqual([60, true])
    net.clock.runUntil(net.clock.nowNs + 1e6)
    for (let i = 0; i < 10; i++) transmit(net, dev.id)
    expect(devStatistics(dev)).toMatchObject({ tx_packets: tx_packets + 10, tx_dropped })
    expect(net.dma.faults).toEqual([])
    finish(net, dev)
  })

  it('makes no mistake that the DMA debug facility would see', () => {
    const net = testNet({ dma: { debug: true } })
    const errors: unknown[] = []
    net.trace.warn = (site, words) => errors.push([site, words])
    const { dev, nic } = ringCard(net, { rxRing: 32 })
    const got = collect(net, ETH_P_IP)
    for (let i = 0; i < 200; i++) {
      const f = udpFrame(i % 2 === 0 ? 1400 : 40)
      nic.hw.receive(f, 0, f.length)
      free(net, got)
      transmit(net, dev.id)
    }
    finish(net, dev)
    expect(errors).toEqual([])
    expect(net.dma.debug).toBeInstanceOf(DmaDebug)
  })

  it('cannot be opened by a device that reaches too little memory, and says so', () => {
    const net = testNet()
    const { dev, nic } = ringCard(net)
    devClose(dev, net.cpu)
    expect(dmaSetMaskAndCoherent(nic.hw.device, DMA_BIT_MASK(24))).toBeLessThanOrEqual(0)
    net.mem.fault = failEvery(1).bySite('netdev_alloc_dma_ring')
    expect(devOpen(dev, net.cpu)).toBe(-12)
    finish(net, dev)
  })
})

/** Completions are not seen until a timer, and no byte limit holds the stack back: mappings pile up. */
function pileUp(dev: NetDevice, nic: RingNic): void {
  nic.hw.queues[0]!.rxFrames = 10_000
  nic.hw.queues[0]!.rxUsecs = 50
  dev.txq[0]!.dql.adjLimit = 1e9
  dev.txq[0]!.dql.minLimit = 1e9
}

/** Sends a packet of 14 + 100 bytes, or of `bytes` in all. */
function transmit(net: TestNet, dev: number, bytes = 114): void {
  const skb = allocSkb(net.skbs, net.cpu, bytes + 16, net.mem.gfp.GFP_ATOMIC)
  if (skb === null) return
  skbReserve(skb, 16)
  const at = skbPut(skb, bytes) >>> 0
  net.mem.u8.fill(7, at, at + bytes)
  skb.dev = dev
  devQueueXmit(net.env, net.cpu, skb)
}
