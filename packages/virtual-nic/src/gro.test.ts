import { Prng } from '@netmem/base'
import {
  allocSkb,
  consumeSkb,
  fragList,
  gsoSegs,
  gsoSize,
  gsoType,
  nrFrags,
  pskbMayPull,
  type SkBuff,
  setGsoSegs,
  setGsoSize,
  setGsoType,
  skbCopyBits,
  skbPushUnchecked,
  skbPut,
  skbReserve,
} from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import {
  devClose,
  devQueueXmit,
  ETH_P_IP,
  NETIF_F_ALL_TSO,
  NETIF_F_GRO,
  NETIF_F_GRO_UDP_FWD,
  NETIF_F_HW_CSUM,
  NETIF_F_SG,
  netdevSetFeature,
  SKB_GSO_TCPV4,
  SKB_GSO_UDP_L4,
  skbGsoSegment,
} from './index.js'
import {
  assertNetDevsQuiescent,
  auditNetDevs,
  collect,
  ppCard,
  ringCard,
  type TestNet,
  tcpFrame,
  testNet,
  udpFrame,
} from './testing.js'

const BATCH = { rxFrames: 64, rxUsecs: 10 }

/** The frame of a received packet: its link header pushed back, all its bytes in one array. */
function frameOf(net: TestNet, skb: SkBuff): Uint8Array {
  skbPushUnchecked(skb, 14)
  const bytes = new Uint8Array(skb.len)
  const scratch = 4096 * 16
  for (let at = 0; at < skb.len; at += 4096) {
    const n = Math.min(4096, skb.len - at)
    skbCopyBits(skb, at, scratch as never, n)
    bytes.set(net.mem.u8.subarray(scratch, scratch + n), at)
  }
  return bytes
}

function feed(net: TestNet, receive: (f: Uint8Array) => void, frames: Uint8Array[]): void {
  for (const f of frames) receive(f)
  net.clock.runUntil(net.clock.nowNs + 20_000)
  auditNetDevs(net.env)
}

const train = (n: number, len: number, o: { psh?: boolean; seq?: number; sport?: number } = {}): Uint8Array[] =>
  Array.from({ length: n }, (_, i) =>
    tcpFrame(len, {
      seq: (o.seq ?? 1000) + i * len,
      id: 100 + i,
      flags: i === n - 1 && o.psh === true ? 0x18 : 0x10,
      payloadStart: i * len,
      ...(o.sport === undefined ? {} : { sport: o.sport }),
    }),
  )

describe('GRO', () => {
  it('merges the segments of a stream: heads become fragments, 256 bytes of truesize less each', () => {
    const net = testNet()
    const { nic } = ppCard(net, BATCH)
    const got = collect(net, ETH_P_IP)
    feed(net, (f) => nic.hw.receive(f, 0, f.length), train(4, 1448, { psh: true }))
    expect(got).toHaveLength(1)
    const skb = got[0]!
    expect([skb.len, nrFrags(skb), gsoSize(skb), gsoSegs(skb), gsoType(skb)]).toEqual([
      40 + 4 * 1448,
      3,
      1448,
      4,
      SKB_GSO_TCPV4,
    ])
    expect(skb.truesize).toBe(4352 + 3 * (4352 - 256))
    expect(skb.ipSummed).toBe(3)
    const frame = frameOf(net, skb)
    expect(new DataView(frame.buffer).getUint16(16)).toBe(40 + 4 * 1448)
    expect(frame[47]).toBe(0x18)
    expect([...frame.subarray(54)]).toEqual(Array.from({ length: 4 * 1448 }, (_, i) => i & 255))
    consumeSkb(net.cpu, skb, 'ip_rcv')
    assertNetDevsQuiescent(net.env)
  })

  it('puts packets whose heads are slab memory on a fragment list', () => {
    const net = testNet()
    const { nic } = ringCard(net, { ...BATCH, copybreak: 256 })
    const got = collect(net, ETH_P_IP)
    feed(net, (f) => nic.hw.receive(f, 0, f.length), train(3, 100))
    expect(got).toHaveLength(1)
    expect([nrFrags(got[0]!), fragList(got[0]!) !== 0, got[0]!.len]).toEqual([0, true, 340])
    // Small heads: 832 each, all of it charged.
    expect(got[0]!.truesize).toBe(3 * 832)
    consumeSkb(net.cpu, got[0]!, 'ip_rcv')
  })

  it.each([
    ['a hole', tcpFrame(1000, { seq: 3001, id: 2 })],
    ['another acknowledgement', tcpFrame(1000, { seq: 2000, ack: 2001, id: 2 })],
    ['a longer segment', tcpFrame(1200, { seq: 2000, id: 2 })],
    ['an id that jumps', tcpFrame(1000, { seq: 2000, id: 7 })],
    ['a SYN', tcpFrame(1000, { seq: 2000, id: 2, flags: 0x12 })],
  ])('does not merge across %s', (_what, second) => {
    const net = testNet()
    const { nic } = ppCard(net, BATCH)
    const got = collect(net, ETH_P_IP)
    feed(net, (f) => nic.hw.receive(f, 0, f.length), [tcpFrame(1000, { seq: 1000, id: 1 }), second])
    expect(got.map((skb) => skb.len)).toEqual([1040, second.length - 14])
    for (const skb of got) consumeSkb(net.cpu, skb, 'ip_rcv')
  })

  it('lets a wrong checksum through alone', () => {
    const net = testNet()
    const { nic } = ppCard(net, BATCH)
    const got = collect(net, ETH_P_IP)
    const frames = train(3, 1000)
    frames[1]![60]! ^= 1
    feed(net, (f) => nic.hw.receive(f, 0, f.length), frames)
    expect(got.map((skb) => skb.len).sort()).toEqual([1040, 1040, 1040])
    for (const skb of got) consumeSkb(net.cpu, skb, 'ip_rcv')
  })

  it('holds eight flows in a bucket and gives up the oldest for a ninth', () => {
    const net = testNet()
    const { nic } = ppCard(net, { ...BATCH, features: NETIF_F_SG })
    const got = collect(net, ETH_P_IP)
    const order: number[] = []
    feed(
      net,
      (f) => nic.hw.receive(f, 0, f.length),
      Array.from({ length: 9 }, (_, i) => tcpFrame(500, { sport: 1000 + i })),
    )
    for (const skb of got) order.push(net.mem.dv.getUint16((skb.data + 20) >>> 0))
    expect(order).toEqual([1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008])
    for (const skb of got) consumeSkb(net.cpu, skb, 'ip_rcv')
  })

  it('passes UDP at once unless somebody wants it merged', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net, BATCH)
    const got = collect(net, ETH_P_IP)
    const frames = () =>
      Array.from({ length: 4 }, (_, i) => udpFrame(500, { id: 10 + i, checksum: true, payloadStart: i * 500 }))
    feed(net, (f) => nic.hw.receive(f, 0, f.length), frames())
    expect(got.map((skb) => skb.len)).toEqual([528, 528, 528, 528])
    dev.features |= NETIF_F_GRO_UDP_FWD
    feed(net, (f) => nic.hw.receive(f, 0, f.length), frames())
    expect(got.slice(4).map((skb) => [skb.len, gsoType(skb), gsoSegs(skb)])).toEqual([[28 + 2000, SKB_GSO_UDP_L4, 4]])
    for (const skb of got) consumeSkb(net.cpu, skb, 'ip_rcv')
  })

  it('does nothing on a device that has it switched off', () => {
    const net = testNet()
    const { dev, nic } = ppCard(net, BATCH)
    netdevSetFeature(dev, NETIF_F_GRO, false, net.cpu)
    const got = collect(net, ETH_P_IP)
    feed(net, (f) => nic.hw.receive(f, 0, f.length), train(3, 1000))
    expect(got).toHaveLength(3)
    for (const skb of got) consumeSkb(net.cpu, skb, 'ip_rcv')
  })

  it.each([1, 2, 3, 4])('merges what can be cut again into the very same frames (seed %i)', (seed) => {
    const net = testNet()
    const rng = new Prng(seed)
    const { dev, nic } = ppCard(net, BATCH)
    const got = collect(net, ETH_P_IP)
    for (let round = 0; round < 20; round++) {
      const mss = 1 + rng.below(1448)
      const sent = Array.from({ length: 1 + rng.below(3) }, (_, flow) =>
        train(1 + rng.below(6), mss, { sport: 5000 + flow, seq: rng.below(1e9) }),
      )
      const mixed: Uint8Array[] = []
      while (sent.some((t) => t.length > 0)) {
        const t = sent[rng.below(sent.length)]!
        if (t.length > 0) mixed.push(t.shift()!)
      }
      feed(net, (f) => nic.hw.receive(f, 0, f.length), mixed)
      const back: Uint8Array[] = []
      for (const skb of got.splice(0)) {
        if (gsoSize(skb) === 0) {
          back.push(frameOf(net, skb))
          consumeSkb(net.cpu, skb, 'ip_rcv')
          continue
        }
        skbPushUnchecked(skb, 14)
        const segs = skbGsoSegment(net.env, net.cpu, skb, NETIF_F_SG) as SkBuff
        for (let seg: SkBuff | null = segs; seg !== null; ) {
          const next: SkBuff | null = seg.next === 0 ? null : net.skbs.skbs[seg.next]!
          seg.next = 0
          seg.data = (seg.data + 14) as typeof seg.data
          seg.len -= 14
          back.push(frameOf(net, seg))
          consumeSkb(net.cpu, seg, 'test')
          seg = next
        }
        consumeSkb(net.cpu, skb, 'test')
      }
      const key = (f: Uint8Array): string => Buffer.from(f).toString('hex')
      expect(back.map(key).sort(), `seed ${seed}, round ${round}, mss ${mss}`).toEqual(mixed.map(key).sort())
      auditNetDevs(net.env)
    }
    devClose(dev, net.cpu)
    assertNetDevsQuiescent(net.env)
  })
})

describe('segmentation', () => {
  /** One TCP packet of `payload` bytes to be cut at `mss`, as the stack would hand it to a device. */
  function big(net: TestNet, dev: number, payload: number, mss: number): SkBuff {
    const frame = tcpFrame(payload, { seq: 77, id: 9, flags: 0x18 })
    const skb = allocSkb(net.skbs, net.cpu, frame.length + 16, net.mem.gfp.GFP_KERNEL)!
    skbReserve(skb, 16)
    const at = skbPut(skb, frame.length) >>> 0
    net.mem.u8.set(frame, at)
    skb.dev = dev
    skb.protocol = ETH_P_IP
    skb.macHeader = 16
    skb.networkHeader = 30
    skb.transportHeader = 50
    skb.ipSummed = 3
    skb.csumStart = 50
    skb.csumOffset = 16
    // The field holds the pseudo header's sum, as the stack leaves it for the device.
    const dv = net.mem.dv
    let sum = 6 + 20 + payload
    for (let i = 26; i < 34; i += 2) sum += dv.getUint16(at + i)
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
    dv.setUint16(at + 50, sum)
    if (payload > mss) {
      setGsoSize(skb, mss)
      setGsoType(skb, SKB_GSO_TCPV4)
      setGsoSegs(skb, Math.ceil(payload / mss))
    }
    expect(pskbMayPull(net.cpu, skb, 54)).toBe(true)
    return skb
  }

  const settings: [string, number][] = [
    ['the card', 0],
    ['the stack, checksums by the card', NETIF_F_ALL_TSO],
    ['the stack, checksums too', NETIF_F_ALL_TSO | NETIF_F_HW_CSUM],
    ['the stack, without scatter-gather', NETIF_F_ALL_TSO | NETIF_F_HW_CSUM | NETIF_F_SG],
  ]
  it('puts the same frames on the wire whoever cuts the packet', () => {
    for (const [payload, mss] of [
      [100, 1448],
      [5000, 1448],
      [4344, 1448],
      [3001, 700],
    ] as const) {
      const wires = settings.map(([, off]) => {
        const net = testNet()
        const { dev, nic } = ppCard(net)
        for (let bit = 1; bit <= off; bit *= 2) if ((off & bit) !== 0) netdevSetFeature(dev, bit, false, net.cpu)
        const wire: string[] = []
        nic.hw.wire = { receive: (b, at, len) => void wire.push(Buffer.from(b.slice(at, at + len)).toString('hex')) }
        expect(devQueueXmit(net.env, net.cpu, big(net, dev.id, payload, mss))).toBe(0)
        devClose(dev, net.cpu)
        assertNetDevsQuiescent(net.env)
        return wire
      })
      expect(wires[0]).toHaveLength(Math.ceil(payload / mss))
      settings.forEach(([name], i) => {
        expect(wires[i], `${payload} bytes cut at ${mss} by ${name}`).toEqual(wires[0])
      })
    }
  })
})
