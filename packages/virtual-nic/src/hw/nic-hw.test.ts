import { Prng } from '@netmem/base'
import { consumeSkb } from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import {
  Dim,
  devStatistics,
  ETH_P_IP,
  NET_DIM_RX_PROFILES,
  NETIF_F_RXCSUM,
  netDim,
  RSS_SPEC_KEY,
  Toeplitz,
} from '../index.js'
import { assertNetDevsQuiescent, collect, ppCard, tcpFrame, testNet, udpFrame } from '../testing.js'
import { HW_INTERRUPTS } from './nic-hw.js'

const ip4 = (text: string): number[] => text.split('.').map(Number)
const be16 = (n: number): number[] => [n >> 8, n & 255]

describe('the Toeplitz hash', () => {
  // The verification suite of the RSS specification: source, destination, hash of addresses, hash with ports.
  it.each([
    ['66.9.149.187', 2794, '161.142.100.80', 1766, 0x323e8fc2, 0x51ccc178],
    ['199.92.111.2', 14230, '65.69.140.83', 4739, 0xd718262a, 0xc626b0ea],
    ['24.19.198.95', 12898, '12.22.207.184', 38024, 0xd2d0a5de, 0x5c2b394a],
    ['38.27.205.30', 48228, '209.142.163.6', 2217, 0x82989176, 0xafc7327f],
    ['153.39.163.191', 44251, '202.188.127.2', 1303, 0x5d1809c5, 0x10e828a2],
  ])('of %s:%i to %s:%i is as published', (src, sport, dst, dport, addresses, ports) => {
    const t = new Toeplitz(RSS_SPEC_KEY)
    const input = Uint8Array.from([...ip4(src), ...ip4(dst), ...be16(sport), ...be16(dport)])
    expect(t.hash(input, 0, 8, 0) >>> 0).toBe(addresses)
    expect((t.hash(input, 0, 8, 0) ^ t.hash(input, 8, 4, 8)) >>> 0).toBe(ports)
  })

  it('refuses a key of another length', () => {
    expect(() => new Toeplitz(new Uint8Array(16))).toThrow('an RSS key has 40 bytes, not 16')
  })
})

describe('a card', () => {
  it('spreads flows over its queues, each flow on one queue, by the indirection table', () => {
    const net = testNet()
    const { nic } = ppCard(net, { queues: 2, rssUdpPorts: true })
    const got = collect(net, ETH_P_IP)
    for (let i = 0; i < 200; i++) {
      const f = udpFrame(10, { sport: 1000 + (i % 10) })
      nic.hw.receive(f, 0, f.length)
    }
    const queues = new Map<number, Set<number>>()
    for (const skb of got) {
      const sport = net.mem.dv.getUint16((skb.data + 20) >>> 0)
      queues.set(sport, (queues.get(sport) ?? new Set()).add(skb.queueMapping))
      expect(skb.hash).not.toBe(0)
    }
    expect([...queues.values()].every((q) => q.size === 1)).toBe(true)
    expect(new Set([...queues.values()].flatMap((q) => [...q]))).toEqual(new Set([1, 2]))
    nic.hw.rss!.indirection.fill(1)
    const before = got.length
    for (let i = 0; i < 10; i++) {
      const f = udpFrame(10, { sport: 1000 + i })
      nic.hw.receive(f, 0, f.length)
    }
    expect(got.slice(before).map((skb) => skb.queueMapping)).toEqual(Array(10).fill(2))
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
    assertNetDevsQuiescent(net.env)
  })

  it('interrupts after so many frames or so much time, whichever is first', () => {
    const net = testNet()
    const { nic } = ppCard(net, { rxFrames: 4, rxUsecs: 50 })
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(10)
    for (let i = 0; i < 6; i++) nic.hw.receive(f, 0, f.length)
    expect([got.length, nic.queues[0]!.hw.stats[HW_INTERRUPTS]]).toEqual([4, 1])
    net.clock.runUntil(49_999)
    expect(got).toHaveLength(4)
    net.clock.runUntil(50_000)
    expect([got.length, nic.queues[0]!.hw.stats[HW_INTERRUPTS]]).toEqual([6, 2])
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
  })

  it('says which checksums are right, and keeps quiet about others', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net, { rxChecksum: 'verify' })
    expect(dev.features & NETIF_F_RXCSUM).not.toBe(0)
    const got = collect(net, ETH_P_IP)
    const bad = tcpFrame(100)
    bad[70]! ^= 0x10
    for (const f of [tcpFrame(100), udpFrame(101, { checksum: true }), udpFrame(100), bad])
      nic.hw.receive(f, 0, f.length)
    expect(got.map((skb) => skb.ipSummed)).toEqual([1, 1, 0, 0])
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
  })

  it('takes VLAN tags out of frames and keeps them beside', () => {
    const net = testNet()
    const { nic } = ppCard(net, { vlanStrip: true })
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(100, { vlan: 0x2064 })
    nic.hw.receive(f, 0, f.length)
    // No device has VLAN 100, so the packet is for another host; handlers above see that.
    expect(got.map((skb) => [skb.len, skb.pktType])).toEqual([[128, 3]])
    consumeSkb(net.cpu, got[0]!, 'test')
  })

  it('has the stack take the tag out when it cannot', () => {
    const net = testNet()
    const { nic } = ppCard(net)
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(100, { vlan: 0 })
    nic.hw.receive(f, 0, f.length)
    // VLAN 0 only carries a priority.
    expect(got.map((skb) => [skb.len, skb.pktType])).toEqual([[128, 0]])
    consumeSkb(net.cpu, got[0]!, 'test')
  })

  it('splits headers from payload when asked', () => {
    const net = testNet()
    const { nic } = ppCard(net, { headerSplit: 128 })
    const got = collect(net, ETH_P_IP)
    for (const f of [udpFrame(20), udpFrame(1000)]) nic.hw.receive(f, 0, f.length)
    // A short frame is copied whole to a small head; of a long one the page holds the rest.
    expect(got.map((skb) => [skb.len, skb.dataLen, skb.truesize])).toEqual([
      [48, 0, 832],
      [1028, 914, 832 + 4096],
    ])
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
    assertNetDevsQuiescent(net.env)
  })

  it('counts frames that are longer than it takes, and survives any length (seed 5)', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net, { rxRing: 16 })
    const got = collect(net, ETH_P_IP)
    const rng = new Prng(5)
    const bytes = udpFrame(12_000)
    for (let i = 0; i < 500; i++) {
      nic.hw.receive(bytes, 0, rng.below(12_000))
      dev.audit!()
      for (const skb of got.splice(0)) consumeSkb(net.cpu, skb, 'test')
    }
    expect(nic.hw.oversize).toBeGreaterThan(0)
    const { rx_errors, rx_packets, rx_missed_errors } = devStatistics(dev)
    expect(rx_packets + rx_errors + rx_missed_errors + nic.hw.oversize).toBe(500)
    assertNetDevsQuiescent(net.env)
  })
})

describe('adaptive moderation', () => {
  it('waits longer under a flood and stays where it is best', () => {
    const dim = new Dim()
    let packets = 0
    let now = 0
    const seen: number[] = []
    for (let i = 0; i < 40; i++) {
      // A bigger batch per interrupt moves more packets in the same time.
      for (let e = 0; e < 64; e++) {
        now += 10_000
        packets += 10 * (1 + dim.profile)
        netDim(dim, i * 64 + e + 1, packets, packets * 100, now)
      }
      seen.push(dim.profile)
    }
    expect(seen.at(-1)).toBe(NET_DIM_RX_PROFILES.length - 1)
    expect(new Set(seen.slice(-10)).size).toBeLessThanOrEqual(2)
  })

  it('changes a card while it runs', () => {
    const net = testNet()
    const { nic } = ppCard(net, { adaptiveRx: true, rxUsecs: 1, rxFrames: 1 })
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(64)
    for (let i = 0; i < 5000; i++) {
      for (let k = 0; k <= i >> 9; k++) nic.hw.receive(f, 0, f.length)
      net.clock.runUntil(net.clock.nowNs + 2_000)
      for (const skb of got.splice(0)) consumeSkb(net.cpu, skb, 'test')
    }
    expect(NET_DIM_RX_PROFILES.map((p) => p.usecs)).toContain(nic.queues[0]!.hw.rxUsecs)
    expect(nic.queues[0]!.hw.rxFrames).toBe(256)
    net.clock.runUntil(net.clock.nowNs + 1e6)
    for (const skb of got.splice(0)) consumeSkb(net.cpu, skb, 'test')
    assertNetDevsQuiescent(net.env)
  })
})
