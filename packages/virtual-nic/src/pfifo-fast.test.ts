import { allocSkb, skbPut, skbReserve } from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import { devClose, devQueueXmit, devStatistics, type NetDevice, type PpNic } from './index.js'
import { assertNetDevsQuiescent, auditNetDevs, ppCard, type TestNet, testNet } from './testing.js'

function send(net: TestNet, dev: NetDevice, tag: number, priority = 0, bytes = 100): number {
  const skb = allocSkb(net.skbs, net.cpu, bytes + 16, net.mem.gfp.GFP_KERNEL)!
  skbReserve(skb, 16)
  const at = skbPut(skb, bytes) >>> 0
  net.mem.u8.fill(0, at, at + bytes)
  net.mem.dv.setUint16(at, tag)
  skb.dev = dev.id
  skb.priority = priority
  const rc = devQueueXmit(net.env, net.cpu, skb)
  auditNetDevs(net.env)
  return rc
}

/** A card whose completions are seen only every 50 microseconds. */
function lazyCard(net: TestNet, txRing: number): { dev: NetDevice; nic: PpNic; wire: number[] } {
  const { dev, nic } = ppCard(net, { txRing, rxFrames: 10_000, rxUsecs: 50 })
  const wire: number[] = []
  nic.hw.wire = { receive: (b, at) => wire.push((b[at]! << 8) | b[at + 1]!) }
  return { dev, nic, wire }
}

describe('the queue above a driver', () => {
  it('keeps packets while byte limits hold them back, in order, and sends them when there is room', () => {
    const net = testNet()
    const { dev, wire } = lazyCard(net, 256)
    for (let i = 0; i < 50; i++) expect(send(net, dev, i)).toBe(0)
    // A fresh limit is 0: one packet may overshoot it, the others wait.
    expect(wire).toEqual([0])
    expect(dev.txq[0]!.qdisc!.qlen).toBe(49)
    net.clock.runUntil(5e6)
    expect(wire).toEqual(Array.from({ length: 50 }, (_, i) => i))
    // The ring ran dry while packets waited, so the limit has grown.
    expect(dev.txq[0]!.dql.limit).toBeGreaterThan(0)
    devClose(dev, net.cpu)
    assertNetDevsQuiescent(net.env)
  })

  it('stops the queue when the ring could not take a packet of the most fragments, and wakes it with twice that room', () => {
    const net = testNet()
    const { dev, nic, wire } = lazyCard(net, 64)
    dev.txq[0]!.dql.adjLimit = 1e9
    dev.txq[0]!.dql.minLimit = 1e9
    for (let i = 0; i < 100; i++) send(net, dev, i)
    // 63 usable descriptors; below 19 free ones the driver stops: after the 45th.
    expect(wire).toHaveLength(45)
    net.clock.runUntil(5e6)
    expect(wire).toEqual(Array.from({ length: 100 }, (_, i) => i))
    expect(nic.queues[0]!.tx.restarts).toBeGreaterThan(0)
    devClose(dev, net.cpu)
    assertNetDevsQuiescent(net.env)
  })

  it('serves its bands by priority', () => {
    const net = testNet()
    const { dev, wire } = lazyCard(net, 256)
    send(net, dev, 0)
    // Priorities 6 (interactive) and 2 (bulk) go to bands 0 and 2.
    for (let i = 1; i <= 3; i++) {
      send(net, dev, 20 + i, 2)
      send(net, dev, 10 + i, 0)
      send(net, dev, i, 6)
    }
    net.clock.runUntil(5e6)
    expect(wire).toEqual([0, 1, 2, 3, 11, 12, 13, 21, 22, 23])
    devClose(dev, net.cpu)
  })

  it('drops what does not fit a band, and tells the sender', () => {
    const net = testNet()
    const { dev } = lazyCard(net, 256)
    dev.txq[0]!.qdisc!.limit = 10
    const reasons: string[] = []
    net.trace.kfreeSkb = (_c, _s, _l, _p, reason) => reasons.push(reason)
    const rcs = Array.from({ length: 14 }, (_, i) => send(net, dev, i))
    expect(rcs).toEqual([...Array(11).fill(0), 1, 1, 1])
    expect(reasons).toEqual(['QDISC_DROP', 'QDISC_DROP', 'QDISC_DROP'])
    // Taking the device down frees what waits.
    devClose(dev, net.cpu)
    expect(reasons.slice(3)).toEqual(Array(10).fill('QUEUE_PURGE'))
    expect(devStatistics(dev).tx_packets).toBe(1)
    assertNetDevsQuiescent(net.env)
  })
})
