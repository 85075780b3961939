import { failNth } from '@netmem/memory'
import { auditPagePoolsQuiescent } from '@netmem/page-pool/testing'
import { allocSkb, consumeSkb, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { assertSkbsQuiescent } from '@netmem/skbuff/testing'
import { describe, expect, it } from 'vitest'
import {
  bpfRedirect,
  bpfRedirectMap,
  bpfXdpAdjustHead,
  bpfXdpAdjustMeta,
  bpfXdpAdjustTail,
  devClose,
  devOpen,
  devQueueXmit,
  devSetMtu,
  devStatistics,
  ETH_P_IP,
  ethHwAddrSet,
  localBhDisable,
  localBhEnable,
  NETIF_F_ALL_TSO,
  NETIF_F_GRO,
  type NetDevice,
  netdevSetFeature,
  netdevUnregister,
  type VethPriv,
  vethCreate,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  type XdpBuff,
  type XdpProgram,
  type XskSlot,
  xdpLoadByte,
  xdpLoadHalf,
  xdpStoreByte,
} from '../index.js'
import { assertNetDevsQuiescent, auditNetDevs, collect, type TestNet, testNet, udpFrame } from '../testing.js'

function pair(net: TestNet): [NetDevice, NetDevice] {
  const ends = vethCreate(net.env, { name: 'v0' }, { name: 'v1', ns: 1 }, net.cpu) as [NetDevice, NetDevice]
  ethHwAddrSet(ends[0], '02:00:00:00:00:0a')
  ethHwAddrSet(ends[1], '02:00:00:00:00:01')
  for (const dev of ends) expect(devOpen(dev, net.cpu)).toBe(0)
  return ends
}

function send(net: TestNet, dev: NetDevice, frame: Uint8Array, gfp = net.mem.gfp.GFP_KERNEL): number {
  const skb = allocSkb(net.skbs, net.cpu, frame.length + 31, gfp)
  if (skb === null) return -12
  skbReserve(skb, 16)
  net.mem.u8.set(frame, skbPut(skb, frame.length) >>> 0)
  skb.dev = dev.id
  skb.protocol = ETH_P_IP
  skb.networkHeader = 30
  const rc = devQueueXmit(net.env, net.cpu, skb)
  auditNetDevs(net.env)
  return rc
}

const program = (run: (xdp: XdpBuff) => number, hasFrags = false): XdpProgram => ({ name: 'test', hasFrags, run })
const verdict = (act: number): XdpProgram => program(() => act)

function finish(net: TestNet, ...devs: NetDevice[]): void {
  for (const dev of devs) {
    devClose(dev, net.cpu)
    netdevUnregister(net.env, dev, net.cpu)
  }
  net.clock.runUntil(net.clock.nowNs + 5e9)
  assertNetDevsQuiescent(net.env)
  auditPagePoolsQuiescent(net.pools)
  assertSkbsQuiescent(net.skbs)
}

const release = (net: TestNet, got: SkBuff[]): void => {
  for (const skb of got.splice(0)) consumeSkb(net.cpu, skb, 'test')
}

describe('a veth pair', () => {
  it('hands over the very same skb through the backlog, and counts it on both ends', () => {
    const net = testNet()
    const [a, b] = pair(net)
    const got = collect(net, ETH_P_IP)
    send(net, a, udpFrame(100))
    expect(got.map((skb) => [skb.dev, skb.len, skb.truesize, skb.pktType])).toEqual([[b.id, 128, 832, 0]])
    expect(devStatistics(a)).toMatchObject({ tx_packets: 1, tx_bytes: 142, rx_packets: 0 })
    expect(devStatistics(b)).toMatchObject({ rx_packets: 1, rx_bytes: 142, tx_packets: 0 })
    release(net, got)
    finish(net, a, b)
  })

  it('drops towards an end that is down', () => {
    const net = testNet()
    const [a, b] = pair(net)
    devClose(b, net.cpu)
    send(net, a, udpFrame(100))
    expect(devStatistics(a)).toMatchObject({ tx_packets: 0, tx_dropped: 1 })
    expect(devStatistics(b)).toMatchObject({ rx_packets: 0, rx_dropped: 0 })
    finish(net, a, b)
  })

  it('goes through a NAPI only when the receiver merges and the sender does not segment', () => {
    const net = testNet()
    const [a, b] = pair(net)
    const got = collect(net, ETH_P_IP)
    const napi = () => (b.priv as VethPriv).rq[0]!.napi
    expect(napi()).toBeNull()
    netdevSetFeature(b, NETIF_F_GRO, true, net.cpu)
    expect(napi()).not.toBeNull()
    send(net, a, udpFrame(100))
    expect(napi()!.polls).toBe(0)
    netdevSetFeature(a, NETIF_F_ALL_TSO, false, net.cpu)
    send(net, a, udpFrame(100))
    expect(napi()!.polls).toBe(1)
    expect(got).toHaveLength(2)
    release(net, got)
    netdevSetFeature(b, NETIF_F_GRO, false, net.cpu)
    expect(napi()).toBeNull()
    finish(net, a, b)
  })

  it('drops when the ring to the NAPI is full', () => {
    const net = testNet()
    const [a, b] = pair(net)
    const got = collect(net, ETH_P_IP)
    expect(b.ops.xdpSet!(b, verdict(XDP_PASS), net.cpu)).toBe(0)
    localBhDisable(net.cpu)
    for (let i = 0; i < 300; i++) send(net, a, udpFrame(100))
    localBhEnable(net.env, net.cpu)
    expect(got).toHaveLength(256)
    expect(devStatistics(a)).toMatchObject({ tx_packets: 256, tx_dropped: 44 })
    release(net, got)
    finish(net, a, b)
  })

  it('limits the MTU of the peer while a program runs, to what a page holds', () => {
    const net = testNet()
    const [a, b] = pair(net)
    expect(b.ops.xdpSet!(b, verdict(XDP_PASS), net.cpu)).toBe(0)
    expect([devSetMtu(a, 3506, net.cpu), devSetMtu(a, 3507, net.cpu), devSetMtu(b, 9000, net.cpu)]).toEqual([0, -22, 0])
    expect(b.ops.xdpSet!(b, null, net.cpu)).toBe(0)
    expect(devSetMtu(a, 9000, net.cpu)).toBe(0)
    expect(b.ops.xdpSet!(b, verdict(XDP_PASS), net.cpu)).toBe(-34)
    expect(
      b.ops.xdpSet!(
        b,
        program(() => XDP_PASS, true),
        net.cpu,
      ),
    ).toBe(0)
    finish(net, a, b)
  })
})

describe.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('XDP on a veth of %s', (profile) => {
  const start = (prog: XdpProgram, native: boolean) => {
    const net = testNet({ profile })
    const [a, b] = pair(net)
    if (native) expect(b.ops.xdpSet!(b, prog, net.cpu)).toBe(0)
    else b.xdpProg = prog
    return { net, a, b, got: collect(net, ETH_P_IP) }
  }

  it.each([true, false])('passes, drops and aborts (native %s)', (native) => {
    for (const act of [XDP_PASS, XDP_DROP, XDP_ABORTED, 77]) {
      const { net, a, b, got } = start(verdict(act), native)
      const reasons: string[] = []
      net.trace.kfreeSkb = (_c, _s, _l, _p, reason) => reasons.push(reason)
      const warnings: string[] = []
      net.trace.warn = (site) => warnings.push(site)
      send(net, a, udpFrame(100))
      expect(got).toHaveLength(act === XDP_PASS ? 1 : 0)
      expect(reasons).toEqual(act === XDP_PASS ? [] : ['NOT_SPECIFIED'])
      expect(warnings).toEqual(act === 77 ? ['bpf_warn_invalid_xdp_action'] : [])
      release(net, got)
      finish(net, a, b)
    }
  })

  it.each([true, false])(
    'shows the program the real bytes, and the stack what the program made of them (native %s)',
    (native) => {
      const f = udpFrame(100)
      const { net, a, b, got } = start(
        program((xdp) => {
          expect([xdpLoadHalf(xdp, 12), xdpLoadByte(xdp, 42 + 7), xdpLoadByte(xdp, 142), xdpLoadByte(xdp, -1)]).toEqual(
            [0x800, 7, -1, -1],
          )
          expect([xdpStoreByte(xdp, 42, 99), xdpStoreByte(xdp, 142, 1)]).toEqual([true, false])
          // Four bytes of room for metadata, two bytes off the end.
          expect([bpfXdpAdjustMeta(xdp, -4), bpfXdpAdjustMeta(xdp, -3), bpfXdpAdjustTail(xdp, -2)]).toEqual([0, -13, 0])
          return XDP_PASS
        }),
        native,
      )
      send(net, a, f)
      const skb = got[0]!
      expect(skb.len).toBe(126)
      expect([...net.mem.u8.subarray(skb.data >>> 0, (skb.data >>> 0) + 126)]).toEqual([
        ...f.subarray(14, 42),
        99,
        ...f.subarray(43, 140),
      ])
      release(net, got)
      finish(net, a, b)
    },
  )

  it.each([true, false])('takes a header that the program pushed (native %s)', (native) => {
    const { net, a, b, got } = start(
      program((xdp) => {
        expect(bpfXdpAdjustHead(xdp, -4)).toBe(0)
        const u8 = xdp.mem.u8
        u8.copyWithin(xdp.data >>> 0, (xdp.data + 4) >>> 0, (xdp.data + 16) >>> 0)
        xdpStoreByte(xdp, 12, 0x08)
        xdpStoreByte(xdp, 13, 0x00)
        return XDP_PASS
      }),
      native,
    )
    send(net, a, udpFrame(100))
    expect(got.map((skb) => skb.len)).toEqual([132])
    release(net, got)
    finish(net, a, b)
  })

  it('sends back what the program bounces, when the other end has a NAPI', () => {
    const { net, a, b, got } = start(verdict(XDP_TX), true)
    for (let i = 0; i < 5; i++) send(net, a, udpFrame(100))
    expect(devStatistics(b)).toMatchObject({ rx_packets: 5, tx_packets: 0, tx_dropped: 5 })
    expect(devStatistics(a)).toMatchObject({ tx_packets: 5, rx_dropped: 5 })
    expect(a.ops.xdpSet!(a, verdict(XDP_PASS), net.cpu)).toBe(0)
    for (let i = 0; i < 20; i++) send(net, a, udpFrame(100))
    expect(got.map((skb) => [skb.dev, skb.len])).toEqual(Array(20).fill([a.id, 128]))
    release(net, got)
    finish(net, a, b)
  })

  it.each([true, false])('redirects to another device (native %s)', (native) => {
    const net = testNet({ profile })
    const [a, b] = pair(net)
    const others = vethCreate(net.env, { name: 'w0', ns: 1 }, { name: 'w1', ns: 2 }, net.cpu) as [NetDevice, NetDevice]
    for (const dev of others) devOpen(dev, net.cpu)
    others[1].ops.xdpSet!(others[1], verdict(XDP_PASS), net.cpu)
    const prog = program((xdp) => bpfRedirect(xdp, others[0]))
    if (native) b.ops.xdpSet!(b, prog, net.cpu)
    else b.xdpProg = prog
    const got = collect(net, ETH_P_IP)
    for (let i = 0; i < 40; i++) send(net, a, udpFrame(100))
    expect(got.map((skb) => skb.dev)).toEqual(Array(40).fill(others[1].id))
    release(net, got)
    finish(net, a, b, ...others)
  })

  it.each([true, false])('redirects to an AF_XDP socket, with a fallback where there is none (native %s)', (native) => {
    const seen: number[][] = []
    let flushed = 0
    let refuse = false
    const take = (_cpu: unknown, xdp: XdpBuff): number => {
      if (refuse) return -12
      seen.push([...xdp.mem.u8.subarray(xdp.data >>> 0, xdp.dataEnd >>> 0)])
      return 0
    }
    const xsk: XskSlot = { rcv: take, genericRcv: take, flush: () => flushed++ }
    const map = { slots: [{ dev: null, xsk }, null] }
    let key = 0
    const { net, a, b, got } = start(
      program((xdp) => {
        const act = bpfRedirectMap(xdp, map, key, XDP_PASS)
        expect(act).toBe(key === 0 ? XDP_REDIRECT : XDP_PASS)
        return act
      }),
      native,
    )
    const f = udpFrame(64)
    send(net, a, f)
    expect(seen).toEqual([[...f]])
    // What comes in an skb is published by the socket itself.
    expect(flushed).toBe(native ? 1 : 0)
    key = 1
    send(net, a, f)
    expect(got).toHaveLength(1)
    key = 0
    refuse = true
    send(net, a, f)
    expect(seen).toHaveLength(1)
    release(net, got)
    finish(net, a, b)
  })

  it('gives everything back whichever allocation fails, for every verdict', () => {
    for (const act of [XDP_PASS, XDP_DROP, XDP_TX])
      for (let n = 1; n < 40; n++) {
        const net = testNet({ profile, bytes: 16 << 20 })
        const [a, b] = pair(net)
        const got = collect(net, ETH_P_IP)
        net.mem.fault = failNth(n)
        const rc = b.ops.xdpSet!(
          b,
          program(() => act, true),
          net.cpu,
        )
        for (let i = 0; i < 20; i++) send(net, a, udpFrame(i % 4 === 0 ? 1400 : 50))
        net.mem.fault = null
        if (rc === 0) {
          send(net, a, udpFrame(10))
          expect(got.length > 0).toBe(act === XDP_PASS)
        }
        release(net, got)
        finish(net, a, b)
      }
  })

  it('does not switch GRO on or off when a program comes or goes', () => {
    const net = testNet()
    const [a, b] = pair(net)
    expect(b.features & NETIF_F_GRO).toBe(0)
    expect(b.ops.xdpSet!(b, verdict(XDP_PASS), net.cpu)).toBe(0)
    expect(b.features & NETIF_F_GRO).toBe(0)
    expect(netdevSetFeature(b, NETIF_F_GRO, true, net.cpu)).toBe(0)
    expect(b.ops.xdpSet!(b, null, net.cpu)).toBe(0)
    expect(b.features & NETIF_F_GRO).toBe(NETIF_F_GRO)
    finish(net, a, b)
  })
})
