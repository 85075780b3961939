import { consumeSkb, nrFrags } from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import {
  bpfRedirect,
  bpfXdpAdjustHead,
  bpfXdpAdjustMeta,
  bpfXdpAdjustTail,
  devClose,
  devOpen,
  devSetMtu,
  devStatistics,
  ETH_P_IP,
  type NetDevice,
  vethCreate,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  type XdpBuff,
  type XdpProgram,
  xdpGetBuffLen,
  xdpLoadHalf,
  xdpNrFrags,
  xdpStoreByte,
} from '../index.js'
import { assertNetDevsQuiescent, auditNetDevs, collect, ppCard, type TestNet, testNet, udpFrame } from '../testing.js'

const program = (run: (xdp: XdpBuff) => number, hasFrags = true): XdpProgram => ({ name: 'test', hasFrags, run })

function card(net: TestNet, prog: XdpProgram, name = 'eth0') {
  const c = ppCard(net, { name })
  expect(c.dev.ops.xdpSet!(c.dev, prog, net.cpu)).toBe(0)
  auditNetDevs(net.env)
  return c
}

/** The bytes of everything that the card sends. */
function wire(c: ReturnType<typeof card>): Uint8Array[] {
  const out: Uint8Array[] = []
  c.nic.hw.wire = { receive: (bytes, at, len) => out.push(bytes.slice(at, at + len)) }
  return out
}

function finish(net: TestNet, ...devs: NetDevice[]): void {
  for (const dev of devs) devClose(dev, net.cpu)
  assertNetDevsQuiescent(net.env)
  expect(net.pools.pools.filter((p) => p !== null)).toEqual([])
}

describe.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('native XDP on a page-pool card (%s)', (profile) => {
  it('shows the program every byte and lets it decide', () => {
    const net = testNet({ profile })
    let act = XDP_PASS
    let seen = 0
    const c = card(
      net,
      program((xdp) => {
        seen = xdpGetBuffLen(xdp)
        expect(xdpLoadHalf(xdp, 12)).toBe(ETH_P_IP)
        return act
      }, false),
    )
    const got = collect(net, ETH_P_IP)
    const out = wire(c)
    const f = udpFrame(100)
    for (act of [XDP_PASS, XDP_DROP, XDP_ABORTED, XDP_TX, XDP_REDIRECT, 9]) {
      c.nic.hw.receive(f, 0, f.length)
      expect(seen).toBe(142)
      auditNetDevs(net.env)
    }
    expect(got).toHaveLength(1)
    expect(out).toEqual([f])
    // A redirect to nowhere is a drop that the driver counts.
    expect(devStatistics(c.dev)).toMatchObject({ rx_packets: 1, rx_dropped: 1, rx_errors: 0 })
    consumeSkb(net.cpu, got[0]!, 'test')
    finish(net, c.dev)
  })

  it('follows what the program did to the head, the tail and the metadata', () => {
    const net = testNet({ profile })
    const c = card(
      net,
      program((xdp) => {
        expect(bpfXdpAdjustMeta(xdp, -8)).toBe(0)
        expect(bpfXdpAdjustTail(xdp, -50)).toBe(0)
        // The descriptor of a frame and the metadata must stay in front of the data.
        expect(bpfXdpAdjustHead(xdp, -(256 - 8))).toBe(-22)
        expect(bpfXdpAdjustHead(xdp, -4)).toBe(0)
        for (let i = 0; i < 14; i++) xdpStoreByte(xdp, i, i < 12 ? 0xff : i === 12 ? 8 : 0)
        return XDP_PASS
      }),
    )
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(100)
    c.nic.hw.receive(f, 0, f.length)
    expect(got[0]).toMatchObject({ len: 142 - 50 + 4 - 14 })
    expect(net.mem.u8[(got[0]!.end >>> 0) + 1]).toBe(8)
    consumeSkb(net.cpu, got[0]!, 'test')
    finish(net, c.dev)
  })

  it('runs once on a frame of three buffers, whatever the verdict', () => {
    const net = testNet({ profile })
    let act = XDP_PASS
    const frags: number[] = []
    const c = card(
      net,
      program((xdp) => {
        frags.push(xdpNrFrags(xdp), xdpGetBuffLen(xdp))
        return act
      }),
    )
    const got = collect(net, ETH_P_IP)
    const out = wire(c)
    const f = udpFrame(8000)
    for (act of [XDP_PASS, XDP_DROP, XDP_TX, XDP_ABORTED]) {
      c.nic.hw.receive(f, 0, f.length)
      auditNetDevs(net.env)
    }
    expect(frags).toEqual([2, 8042, 2, 8042, 2, 8042, 2, 8042])
    const skb = got[0]!
    expect(skb).toMatchObject({ len: 8028, truesize: 3 * 4096 + 256 })
    expect(nrFrags(skb)).toBe(2)
    expect(out).toEqual([f])
    consumeSkb(net.cpu, skb, 'test')
    finish(net, c.dev)
  })

  it('cuts fragments off the tail, and refuses to cut the Ethernet header or to grow past the page', () => {
    const net = testNet({ profile })
    let cut = 0
    const c = card(
      net,
      program((xdp) => {
        expect(bpfXdpAdjustTail(xdp, -(8042 - 13))).toBe(-22)
        expect(bpfXdpAdjustTail(xdp, 4096)).toBe(-22)
        expect(bpfXdpAdjustTail(xdp, 10)).toBe(0)
        expect(bpfXdpAdjustTail(xdp, -10)).toBe(0)
        expect(bpfXdpAdjustTail(xdp, -cut)).toBe(0)
        return XDP_PASS
      }),
    )
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(8000)
    // Within the last buffer, the last buffer, all but the first, and into the first: 3520 bytes each.
    for (const [bytes, left] of [
      [1, 2],
      [1002, 1],
      [4522, 0],
      [8000, 0],
    ] as const) {
      cut = bytes
      c.nic.hw.receive(f, 0, f.length)
      const skb = got.pop()!
      expect(skb.len).toBe(8028 - bytes)
      expect(nrFrags(skb)).toBe(left)
      const head = net.mem.u8.slice(skb.data >>> 0, (skb.data >>> 0) + Math.min(skb.len, 3506))
      expect(head).toEqual(f.slice(14, 14 + head.length))
      auditNetDevs(net.env)
      consumeSkb(net.cpu, skb, 'test')
    }
    finish(net, c.dev)
  })

  it('sends a frame of several buffers to another device where the kernel can', () => {
    const net = testNet({ profile })
    const can = profile.includes('6.18')
    const other = ppCard(net, { name: 'eth1' })
    const out: Uint8Array[] = []
    other.nic.hw.wire = { receive: (bytes, at, len) => out.push(bytes.slice(at, at + len)) }
    devSetMtu(other.dev, 8028, net.cpu)
    const c = card(
      net,
      program((xdp) => bpfRedirect(xdp, other.dev)),
    )
    const f = udpFrame(8000)
    c.nic.hw.receive(f, 0, f.length)
    expect(out).toEqual(can ? [f] : [])
    // Longer than the other device's MTU with header and tag.
    devSetMtu(other.dev, 8023, net.cpu)
    c.nic.hw.receive(f, 0, f.length)
    expect(out).toHaveLength(can ? 1 : 0)
    expect(devStatistics(c.dev).rx_dropped).toBe(can ? 1 : 2)
    finish(net, c.dev, other.dev)
  })

  it('sends a frame of several buffers through a veth, whose peer has it as one packet', () => {
    const net = testNet({ profile })
    const pair = vethCreate(net.env, { name: 'a' }, { name: 'b' }, net.cpu)
    if (typeof pair === 'number') throw new Error(`${pair}`)
    const [a, b] = pair
    for (const dev of [a, b]) {
      devSetMtu(dev, 9000, net.cpu)
      devOpen(dev, net.cpu)
    }
    const pass = program((xdp) => {
      bpfXdpAdjustTail(xdp, -1002)
      return XDP_PASS
    })
    expect(b.ops.xdpSet!(b, pass, net.cpu)).toBe(0)
    const c = card(
      net,
      program((xdp) => bpfRedirect(xdp, a)),
    )
    const got = collect(net, ETH_P_IP)
    const f = udpFrame(8000)
    c.nic.hw.receive(f, 0, f.length)
    auditNetDevs(net.env)
    if (profile.includes('6.18')) {
      expect(got[0]).toMatchObject({ len: 7026, truesize: 2 * 4096 + 256 })
      expect(nrFrags(got[0]!)).toBe(1)
    }
    for (const skb of got) consumeSkb(net.cpu, skb, 'test')
    finish(net, c.dev, a, b)
  })

  it('is refused to a program without fragments when packets may not fit one buffer', () => {
    const net = testNet({ profile })
    const c = ppCard(net)
    const short = program(() => XDP_PASS, false)
    const max = 4096 - 256 - 320 - 18
    expect(devSetMtu(c.dev, max + 1, net.cpu)).toBe(0)
    expect(c.dev.ops.xdpSet!(c.dev, short, net.cpu)).toBe(-95)
    expect(devSetMtu(c.dev, max, net.cpu)).toBe(0)
    expect(c.dev.ops.xdpSet!(c.dev, short, net.cpu)).toBe(0)
    expect(devSetMtu(c.dev, max + 1, net.cpu)).toBe(-22)
    // What is longer all the same is an error, and the next frame is not affected.
    const got = collect(net, ETH_P_IP)
    for (const bytes of [8000, 100]) {
      const f = udpFrame(bytes)
      c.nic.hw.receive(f, 0, f.length)
      auditNetDevs(net.env)
    }
    expect(got.map((skb) => skb.len)).toEqual([128])
    expect(devStatistics(c.dev)).toMatchObject({ rx_packets: 1, rx_errors: 1 })
    consumeSkb(net.cpu, got[0]!, 'test')
    expect(c.dev.ops.xdpSet!(c.dev, null, net.cpu)).toBe(0)
    finish(net, c.dev)
  })
})
