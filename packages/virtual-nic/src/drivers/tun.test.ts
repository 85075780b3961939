import {
  failNth,
  IovIter,
  iovIterInit,
  iovIterVec,
  type UserBuffer,
  userAlloc,
  userFree,
  userRead,
  userWrite,
} from '@netmem/memory'
import { PageFrag, pageFragRelease } from '@netmem/page-frag'
import { allocSkb, consumeSkb, gsoSize, nrFrags, type SkBuff, skbOrphan, skbPut, skbReserve } from '@netmem/skbuff'
import { assertSkbsQuiescent } from '@netmem/skbuff/testing'
import { describe, expect, it } from 'vitest'
import {
  devClose,
  devOpen,
  devQueueXmit,
  devStatistics,
  ETH_P_IP,
  ethHwAddrSet,
  IFF_MULTI_QUEUE,
  IFF_NAPI,
  IFF_NAPI_FRAGS,
  IFF_NO_PI,
  IFF_TAP,
  IFF_TUN,
  IFF_VNET_HDR,
  type NetDevice,
  type TunDriver,
  type TunFile,
  tunChrClose,
  tunChrOpen,
  tunDoRead,
  tunGetUser,
  tunInit,
  tunSetIff,
  tunSetQueue,
  tunSetSndbuf,
  tunSetVnetHdrSz,
  XDP_DROP,
  XDP_PASS,
  XDP_TX,
} from '../index.js'
import { assertNetDevsQuiescent, auditNetDevs, collect, type TestNet, testNet, udpFrame } from '../testing.js'

/** A tap of a fresh machine, and a process that reads and writes it. */
class Tap {
  readonly net: TestNet
  readonly driver: TunDriver
  readonly file: TunFile
  readonly dev: NetDevice
  readonly frag = new PageFrag()
  readonly buffer: UserBuffer
  readonly got: SkBuff[]
  private readonly iter = new IovIter()

  constructor(flags: number, options: Parameters<typeof testNet>[0] = {}) {
    this.net = testNet(options)
    this.driver = tunInit(this.net.env)
    this.file = tunChrOpen(this.driver)
    expect(tunSetIff(this.file, 'tap0', flags)).toBe(0)
    this.dev = this.file.tun!.dev
    ethHwAddrSet(this.dev, '02:00:00:00:00:01')
    this.dev.mtu = 9000
    expect(devOpen(this.dev, this.net.cpu)).toBe(0)
    this.buffer = userAlloc(this.net.mem, this.net.cpu, 70_000)!
    this.got = collect(this.net, ETH_P_IP)
  }

  write(bytes: Uint8Array, cuts: number[] = [], file = this.file): number {
    const { mem, cpu } = this.net
    userWrite(mem, this.buffer, 0, bytes)
    if (cuts.length === 0) iovIterInit(this.iter, this.buffer, 0, bytes.length)
    else {
      const lens = Int32Array.from([...cuts, bytes.length - cuts.reduce((a, b) => a + b, 0)])
      const offsets = Int32Array.from(lens.map((_, i) => lens.subarray(0, i).reduce((a, b) => a + b, 0)))
      iovIterVec(this.iter, Array(lens.length).fill(this.buffer), offsets, lens, lens.length)
    }
    const rc = tunGetUser(cpu, file, this.frag, this.iter, true)
    auditNetDevs(this.net.env)
    return rc
  }

  read(size = 70_000): Uint8Array | number {
    const { mem, cpu } = this.net
    iovIterInit(this.iter, this.buffer, 0, size)
    const rc = tunDoRead(cpu, this.file, this.iter)
    return rc < 0 ? rc : userRead(mem, this.buffer, 0, rc)
  }

  send(frame: Uint8Array): number {
    const { net } = this
    const skb = allocSkb(net.skbs, net.cpu, frame.length + 16, net.mem.gfp.GFP_KERNEL)!
    skbReserve(skb, 16)
    net.mem.u8.set(frame, skbPut(skb, frame.length) >>> 0)
    skb.dev = this.dev.id
    skb.protocol = ETH_P_IP
    skb.networkHeader = 30
    return devQueueXmit(net.env, net.cpu, skb)
  }

  release(): void {
    for (const skb of this.got.splice(0)) {
      skbOrphan(this.net.cpu, skb)
      consumeSkb(this.net.cpu, skb, 'test')
    }
  }

  finish(): void {
    const { mem, cpu, env, skbs } = this.net
    mem.fault = null
    this.release()
    expect(this.file.wmemAlloc).toBe(1)
    expect(tunChrClose(cpu, this.file)).toBe(this.dev)
    pageFragRelease(mem, cpu, this.frag, 'exit')
    userFree(mem, cpu, this.buffer)
    assertNetDevsQuiescent(env)
    assertSkbsQuiescent(skbs)
  }
}

const TAP = IFF_TAP | IFF_NO_PI

describe('what is written to a TAP', () => {
  it.each([
    [
      'linux-6.18-x86_64',
      [
        [60, 704],
        [1514, 2176],
        [3456, 4096],
        [3457, 4352],
        [3712, 4352],
        [3713, 8448],
        [9014, 12544],
      ],
    ],
    [
      'linux-6.1-x86_64',
      [
        [60, 704],
        [1514, 2176],
        [3456, 4096],
        [3457, 4352],
        [3713, 8448],
        [9014, 16640],
      ],
    ],
  ] as const)('is charged by how its memory was taken, on %s', (profile, table) => {
    const tap = new Tap(TAP, { profile })
    for (const [bytes, truesize] of table) {
      expect(tap.write(udpFrame(bytes - 42))).toBe(bytes)
      expect([bytes, tap.got.at(-1)!.truesize]).toEqual([bytes, truesize])
      expect(tap.file.wmemAlloc).toBe(1 + truesize)
      tap.release()
    }
    tap.finish()
  })

  it('is allocated like a socket\u2019s packet once there is a send buffer, and waits for room', () => {
    const tap = new Tap(TAP)
    expect(tunSetSndbuf(tap.file, 3000)).toBe(0)
    const rcs = Array.from({ length: 5 }, () => tap.write(udpFrame(18)))
    // 832 each: the fourth finds less than 3000 charged and overshoots, the fifth does not.
    expect(rcs).toEqual([60, 60, 60, 60, -11])
    expect(devStatistics(tap.dev).rx_dropped).toBe(0)
    tap.release()
    expect(tap.write(udpFrame(18))).toBe(60)
    expect(tunSetSndbuf(tap.file, 0)).toBe(-22)
    tap.finish()
  })

  it('is a head and a fragment per buffer with IFF_NAPI_FRAGS', () => {
    const tap = new Tap(TAP | IFF_NAPI | IFF_NAPI_FRAGS)
    expect(tap.write(udpFrame(1000), [64, 300])).toBe(1042)
    expect(tap.got.map((skb) => [skb.len, skb.dataLen, nrFrags(skb), skb.truesize])).toEqual([
      [1028, 978, 2, 832 + 978],
    ])
    expect(tap.write(udpFrame(200))).toBe(242)
    expect(tap.got[1]!.truesize).toBe(1280)
    expect(tap.write(udpFrame(6000), [64])).toBe(-22)
    expect(tap.write(udpFrame(100), Array(18).fill(2))).toBe(-90)
    expect([...tap.net.mem.u8.subarray((tap.got[0]!.data + 28) >>> 0, (tap.got[0]!.data + 36) >>> 0)]).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7,
    ])
    tap.finish()
  })

  it('waits for the softirq with IFF_NAPI, and is there when the write returns', () => {
    const tap = new Tap(TAP | IFF_NAPI)
    const context: number[] = []
    tap.net.trace.netifReceiveSkb = (cpu) => context.push(cpu.servingSoftirq)
    expect(tap.write(udpFrame(100))).toBe(142)
    expect([tap.got.length, context]).toEqual([1, [1]])
    tap.finish()
  })

  it('must be a frame, for a device that is up', () => {
    const tap = new Tap(TAP)
    expect([tap.write(udpFrame(0).subarray(0, 13)), tap.write(new Uint8Array(0))]).toEqual([-22, -22])
    devClose(tap.dev, tap.net.cpu)
    expect(tap.write(udpFrame(10))).toBe(-5)
    expect(devStatistics(tap.dev)).toMatchObject({ rx_packets: 0, rx_dropped: 1 })
    tap.finish()
  })

  it('may come with a virtio header, which is checked', () => {
    const tap = new Tap(TAP | IFF_VNET_HDR)
    expect(tunSetVnetHdrSz(tap.file, 9)).toBe(-22)
    expect(tunSetVnetHdrSz(tap.file, 20)).toBe(0)
    const frame = udpFrame(2000, { checksum: true })
    const write = (o: {
      flags?: number
      type?: number
      hdrLen?: number
      size?: number
      start?: number
      offset?: number
    }): number => {
      const bytes = new Uint8Array(20 + frame.length)
      const dv = new DataView(bytes.buffer)
      bytes[0] = o.flags ?? 0
      bytes[1] = o.type ?? 0
      dv.setUint16(2, o.hdrLen ?? 0, true)
      dv.setUint16(4, o.size ?? 0, true)
      dv.setUint16(6, o.start ?? 0, true)
      dv.setUint16(8, o.offset ?? 0, true)
      bytes.set(frame, 20)
      return tap.write(bytes)
    }
    const udp = { flags: 1, start: 34, offset: 6, hdrLen: 42 }
    expect(write({})).toBe(2062)
    // Measured: what is left of a longer header counts as room for hdr_len.
    expect([write({ hdrLen: 2052 }), write({ hdrLen: 2053 }), write({ hdrLen: 5 })]).toEqual([2062, -22, -22])
    expect([write({ ...udp, type: 5, size: 1000 }), gsoSize(tap.got.at(-1)!)]).toEqual([2062, 1000])
    expect([write({ ...udp, type: 5, size: 4000 }), gsoSize(tap.got.at(-1)!)]).toEqual([2062, 0])
    expect(write({ ...udp, type: 5, size: 0 })).toBe(-22)
    expect(write({ ...udp, type: 5, size: 15 })).toBe(-22)
    expect(write({ ...udp, type: 5, size: 1000, flags: 0 })).toBe(-22)
    expect(write({ ...udp, type: 5, size: 1000, offset: 16 })).toBe(-22)
    expect(write({ ...udp, type: 5, size: 65535 })).toBe(-22)
    expect(write({ ...udp, type: 4, size: 1000 })).toBe(-22)
    expect(write({ type: 99, size: 1 })).toBe(-22)
    expect(write({ flags: 1, start: 10, offset: 6 })).toBe(-22)
    expect(write({ flags: 1, start: 2041, offset: 6 })).toBe(-22)
    expect(tap.file.tun!.rxFrameErrors).toBe(9)
    // A TAP keeps that to itself; a TUN tells (measured).
    expect(devStatistics(tap.dev).rx_frame_errors).toBe(0)
    tap.finish()
  })

  it('is seen by a native XDP program before there is an skb', () => {
    const tap = new Tap(TAP)
    let act = XDP_DROP
    tap.dev.ops.xdpSet!(tap.dev, { name: 'p', hasFrags: false, run: () => act }, tap.net.cpu)
    expect([tap.write(udpFrame(100)), tap.got.length]).toEqual([142, 0])
    act = XDP_PASS
    tap.write(udpFrame(100))
    expect(tap.got.map((skb) => skb.truesize)).toEqual([832 + 256])
    act = XDP_TX
    tap.write(udpFrame(100))
    expect(tap.read()).toEqual(udpFrame(100))
    tap.finish()
  })

  it.each([TAP, TAP | IFF_NAPI, TAP | IFF_NAPI | IFF_NAPI_FRAGS, IFF_TUN | IFF_NO_PI])(
    'leaves nothing behind whichever allocation fails (flags %i)',
    (flags) => {
      for (let n = 1; n < 30; n++) {
        const tap = new Tap(flags, { bytes: 16 << 20 })
        tap.net.mem.fault = failNth(n)
        for (let i = 0; i < 6; i++) {
          const bytes = udpFrame(i % 2 === 0 ? 100 : 5000).subarray((flags & IFF_TAP) !== 0 ? 0 : 14)
          const rc = tap.write(bytes, (flags & IFF_NAPI_FRAGS) !== 0 ? [64, 78] : [])
          if (rc !== bytes.length) expect([-12, -22, -105]).toContain(rc)
        }
        tap.finish()
      }
    },
  )
})

describe('what the host sends through a TAP', () => {
  it('waits in the queue, no longer charged to the sender, and comes out by reading', () => {
    const tap = new Tap(TAP)
    tap.dev.txQueueLen = 4
    const reasons: string[] = []
    tap.net.trace.kfreeSkb = (_c, _s, _l, _p, reason) => reasons.push(reason)
    for (let i = 0; i < 6; i++) expect(tap.send(udpFrame(10 + i))).toBe(0)
    expect(reasons).toEqual(['FULL_RING', 'FULL_RING'])
    expect(devStatistics(tap.dev)).toMatchObject({ tx_packets: 0, tx_dropped: 2 })
    expect(tap.read()).toEqual(udpFrame(10))
    expect((tap.read(20) as Uint8Array).length).toBe(20)
    expect([tap.read(), tap.read(), tap.read()].map((r) => (typeof r === 'number' ? r : r.length))).toEqual([
      54, 55, -11,
    ])
    expect(devStatistics(tap.dev)).toMatchObject({ tx_packets: 4, tx_bytes: 52 + 53 + 54 + 55 })
    tap.finish()
  })

  it('tells a reader with packet information that a packet was cut, and refuses one without room for it', () => {
    const tap = new Tap(IFF_TAP)
    for (let i = 0; i < 3; i++) tap.send(udpFrame(100))
    expect([...(tap.read() as Uint8Array).subarray(0, 4)]).toEqual([0, 0, 8, 0])
    expect([...(tap.read(50) as Uint8Array).subarray(0, 4)]).toEqual([1, 0, 8, 0])
    expect(tap.read(3)).toBe(-22)
    tap.finish()
  })

  it('goes to the queue on which the other direction of the flow was written', () => {
    const tap = new Tap(TAP | IFF_MULTI_QUEUE)
    const second = tunChrOpen(tap.driver)
    expect(tunSetIff(second, 'tap0', TAP)).toBe(-22)
    expect(tunSetIff(second, 'tap0', TAP | IFF_MULTI_QUEUE)).toBe(0)
    for (const file of [tap.file, second]) {
      tap.write(udpFrame(10, { sport: 1234, dport: 4321 }), [], file)
      const back = udpFrame(10, { sport: 4321, dport: 1234 })
      // The way back has the addresses the other way round too.
      back.copyWithin(100, 26, 30)
      const [src, dst] = [back.slice(26, 30), back.slice(30, 34)]
      back.set(dst, 26)
      back.set(src, 30)
      tap.send(back)
      expect(file.txRing).toHaveLength(1)
      for (const ring of [tap.file.txRing, second.txRing])
        for (const skb of ring.splice(0)) consumeSkb(tap.net.cpu, skb as SkBuff, 'test')
    }
    expect([tunSetQueue(tap.net.cpu, second, false), tunSetQueue(tap.net.cpu, second, false)]).toEqual([0, -22])
    tap.send(udpFrame(10))
    expect([tap.file.txRing.length, second.txRing.length]).toEqual([1, 0])
    expect(tunSetQueue(tap.net.cpu, second, true)).toBe(0)
    tap.release()
    expect(tunChrClose(tap.net.cpu, second)).toBeNull()
    tap.finish()
  })
})
