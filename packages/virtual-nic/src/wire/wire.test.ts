import { spawnSync } from 'node:child_process'
import { EventQueue } from '@netmem/base'
import { allocSkb, consumeSkb, skbPut, skbReserve } from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import {
  deviceFaults,
  devicePcap,
  deviceTracer,
  devOpen,
  devQueueXmit,
  devStatistics,
  ETH_P_IP,
  Link,
  type LinkParams,
  linkConnect,
  loopbackCreate,
  type NetDevice,
  PcapWriter,
  pcapPort,
  type XmitTrace,
} from '../index.js'
import { assertNetDevsQuiescent, collect, ppCard, type TestNet, testNet, udpFrame } from '../testing.js'

/** Sends frames numbered in their first byte, one per microsecond. @returns what came out, and when. */
function carry(n: number, p: LinkParams): { first: number; at: number; bytes: Uint8Array }[] {
  const clock = new EventQueue()
  const out: { first: number; at: number; bytes: Uint8Array }[] = []
  const link = new Link(
    clock,
    { receive: (b, at, len) => out.push({ first: b[at]!, at: clock.nowNs, bytes: b.slice(at, at + len) }) },
    p,
  )
  for (let i = 0; i < n; i++) {
    const frame = new Uint8Array(100).fill(i)
    clock.runUntil(i * 1000)
    link.receive(frame, 0, frame.length)
    frame.fill(255)
  }
  clock.runUntil(1e9)
  expect(link.pending).toBe(0)
  const c = link.counts
  expect(c.delivered).toBe(c.sent - c.lost - c.overflowed + c.duplicated)
  return out
}

describe('a link', () => {
  it('is perfect unless told otherwise: at once, in order, unharmed', () => {
    const out = carry(5, {})
    expect(out.map((f) => [f.first, f.at])).toEqual([0, 1, 2, 3, 4].map((i) => [i, i * 1000]))
  })

  it('delays, and keeps the order', () => {
    expect(carry(3, { delayNs: 5000 }).map((f) => [f.first, f.at])).toEqual([
      [0, 5000],
      [1, 6000],
      [2, 7000],
    ])
  })

  it('loses about as many as asked, the same ones for the same seed', () => {
    const a = carry(200, { loss: 0.3, seed: 7 }).map((f) => f.first)
    expect(a).toEqual(carry(200, { loss: 0.3, seed: 7 }).map((f) => f.first))
    expect(a).not.toEqual(carry(200, { loss: 0.3, seed: 8 }).map((f) => f.first))
    expect(a.length).toBeGreaterThan(110)
    expect(a.length).toBeLessThan(170)
  })

  it('lets later frames overtake, doubles frames, and turns single bits', () => {
    const order = carry(100, { reorder: 0.2, reorderNs: 5000, seed: 3 }).map((f) => f.first)
    expect(order).not.toEqual([...order].sort((a, b) => a - b))
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i))
    expect(carry(100, { duplicate: 1 })).toHaveLength(200)
    for (const { bytes } of carry(50, { corrupt: 1, seed: 4 })) {
      const common = bytes[0] === bytes[1] ? bytes[0]! : bytes[2]!
      const wrong = [...bytes].filter((b) => b !== common)
      expect(wrong).toHaveLength(1)
      expect((wrong[0]! ^ common).toString(2).replaceAll('0', '')).toBe('1')
    }
  })

  it('has a bandwidth: frames queue, and beyond the queue they are lost', () => {
    // 124 bytes on the wire at 100 Mbit/s take 9920 ns; one frame comes every 1000 ns.
    const out = carry(10, { bandwidth: 100e6 })
    expect(out.map((f) => f.at)).toEqual(Array.from({ length: 10 }, (_, i) => 9920 * (i + 1)))
    expect(carry(10, { bandwidth: 100e6, queueBytes: 300 })).toHaveLength(3)
  })

  it('refuses nonsense', () => {
    const clock = new EventQueue()
    expect(() => new Link(clock, { receive: () => {} }, { loss: 2 })).toThrow('link loss 2: from 0 to 1')
    expect(() => new Link(clock, { receive: () => {} }, { delayNs: -1 })).toThrow('not below 0')
  })

  it('connects two cards both ways', () => {
    const net = testNet()
    const a = ppCard(net, { name: 'eth0' }, { name: 'pci0' })
    const b = ppCard(net, { name: 'eth1' }, { name: 'pci1' })
    linkConnect(net.clock, a.nic.hw, b.nic.hw, { delayNs: 1000 })
    const got = collect(net, ETH_P_IP)
    send(net, a.dev, udpFrame(77))
    send(net, b.dev, udpFrame(78))
    expect(got).toHaveLength(0)
    net.clock.runUntil(1000)
    expect(got.map((skb) => [net.env.devices[skb.dev]!.name, skb.len])).toEqual([
      ['eth1', 105],
      ['eth0', 106],
    ])
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
    assertNetDevsQuiescent(net.env)
  })
})

describe('a capture', () => {
  const parse = (bytes: Uint8Array): { ns: number; len: number; data: number[] }[] => {
    const dv = new DataView(bytes.buffer, bytes.byteOffset)
    expect([dv.getUint32(0, true), dv.getUint16(4, true), dv.getUint16(6, true)]).toEqual([0xa1b23c4d, 2, 4])
    const out = []
    for (let at = 24; at < bytes.length; ) {
      const kept = dv.getUint32(at + 8, true)
      out.push({
        ns: dv.getUint32(at, true) * 1e9 + dv.getUint32(at + 4, true),
        len: dv.getUint32(at + 12, true),
        data: [...bytes.subarray(at + 16, at + 16 + kept)],
      })
      at += 16 + kept
    }
    return out
  }

  it('of a cable holds every frame with its time', () => {
    const clock = new EventQueue()
    const writer = new PcapWriter(1, 60)
    let passed = 0
    const port = pcapPort(clock, writer, { receive: () => passed++ })
    clock.runUntil(1_500_000_123)
    const f = udpFrame(100)
    port.receive(f, 0, f.length)
    for (let i = 0; i < 2000; i++) port.receive(f, 0, f.length)
    expect(passed).toBe(2001)
    const frames = parse(writer.bytes())
    expect(frames).toHaveLength(2001)
    expect(frames[0]).toEqual({ ns: 1_500_000_123, len: 142, data: [...f.subarray(0, 60)] })
  })

  it('of any device holds what it sends and receives, link headers included', () => {
    const net = testNet()
    const lo = loopbackCreate(net.env) as NetDevice
    devOpen(lo, net.cpu)
    const got = collect(net, ETH_P_IP)
    const writer = new PcapWriter()
    const stop = devicePcap(lo, writer)
    const f = udpFrame(33)
    send(net, lo, f)
    stop()
    send(net, lo, f)
    expect(parse(writer.bytes()).map((r) => r.data)).toEqual([[...f], [...f]])
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
    assertNetDevsQuiescent(net.env)
  })

  it.skipIf(spawnSync('tcpdump', ['--version']).error !== undefined)('is what tcpdump reads', () => {
    const clock = new EventQueue()
    const writer = new PcapWriter()
    const port = pcapPort(clock, writer, { receive: () => {} })
    clock.runUntil(1_000_000_123)
    for (const bytes of [33, 1400]) {
      const f = udpFrame(bytes, { sport: 1000, dport: 2000 })
      port.receive(f, 0, f.length)
    }
    const run = spawnSync('tcpdump', ['--nano', '-tt', '-n', '-q', '-r', '-'], { input: writer.bytes() })
    const lines = run.stdout.toString().trim().split('\n')
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(/^1\.000000123 IP .*\.1000 > .*\.2000: UDP, length 33$/)
    expect(lines[1]).toMatch(/UDP, length 1400$/)
  })
})

describe('device wrappers', () => {
  it('compose: the tracer sees what the fault injector then loses, doubles or damages', () => {
    const net = testNet()
    const lo = loopbackCreate(net.env) as NetDevice
    devOpen(lo, net.cpu)
    const got = collect(net, ETH_P_IP)
    const seen: XmitTrace[] = []
    const stopFaults = deviceFaults(lo, { seed: 2, loss: 0.5, duplicate: 0.5 })
    const stopTrace = deviceTracer(lo, (event) => seen.push(event))
    for (let i = 0; i < 100; i++) send(net, lo, udpFrame(20))
    expect(seen).toHaveLength(100)
    expect(seen[0]).toEqual({ dev: 'lo', len: 62, truesize: 832, rc: 0 })
    const { tx_dropped, tx_packets } = devStatistics(lo)
    expect(tx_dropped).toBeGreaterThan(30)
    expect(tx_packets).toBeGreaterThan(100 - tx_dropped)
    expect(got).toHaveLength(tx_packets)
    expect(() => stopFaults()).toThrow('a wrapper put on later')
    stopTrace()
    stopFaults()
    send(net, lo, udpFrame(20))
    expect(seen).toHaveLength(100)
    expect(got).toHaveLength(tx_packets + 1)
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
    assertNetDevsQuiescent(net.env)
  })
})

function send(net: TestNet, dev: NetDevice, frame: Uint8Array): void {
  const skb = allocSkb(net.skbs, net.cpu, frame.length + 16, net.mem.gfp.GFP_KERNEL)!
  skbReserve(skb, 16)
  net.mem.u8.set(frame, skbPut(skb, frame.length) >>> 0)
  skb.dev = dev.id
  skb.protocol = ETH_P_IP
  skb.networkHeader = 30
  devQueueXmit(net.env, net.cpu, skb)
}
