import { kernelProfile } from '@netmem/base'
import { auditDmaQuiescent } from '@netmem/dma/testing'
import { failNth } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { assertSkbsQuiescent } from '@netmem/skbuff/testing'
import { EPOLLIN, EPOLLOUT } from '@netmem/sockmem'
import { devClose, devOpen, devStatistics, netdevUnregister, XDP_DROP, XDP_PASS, XDP_TX } from '@netmem/virtual-nic'
import { describe, expect, it } from 'vitest'
import { assertXskQuiescent, auditXsk, auditXskFrames } from './audit.js'
import { XdpMachine, type XdpMachineParams, XdpUser, type XdpUserParams } from './test-xdp.js'
import { XDP_COPY, XDP_PKT_CONTD, XDP_USE_NEED_WAKEUP, XDP_USE_SG, XDP_ZEROCOPY } from './uapi.js'
import {
  xskRingConsCompAddr,
  xskRingConsPeek,
  xskRingConsRelease,
  xskRingConsRxAddr,
  xskRingConsRxLen,
  xskRingConsRxOptions,
  xskRingProdNeedsWakeup,
  xskRingProdReserve,
  xskRingProdSubmit,
  xskRingProdTxDesc,
} from './xsk.js'

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)

function frame(len: number, seed = 1): Uint8Array {
  const bytes = Uint8Array.from({ length: len }, (_, i) => (i * 7 + seed) & 255)
  bytes[12] = 0x88
  bytes[13] = 0xb5
  return bytes
}

function start(user: XdpUserParams = {}, machine: XdpMachineParams = {}, frags = false): [XdpMachine, XdpUser] {
  const m = new XdpMachine({ nic: { rxRing: 32, txRing: 32 }, ...machine })
  const u = new XdpUser(m, { bind: XDP_ZEROCOPY, ...user })
  expect(u.err).toBe(0)
  m.attach(true, frags)
  return [m, u]
}

const receive = (m: XdpMachine, bytes: Uint8Array): void => m.nic.hw.receive(bytes, 0, bytes.length)

/** Takes what came: address, length, options, and the bytes that are there. */
function take(m: XdpMachine, u: XdpUser): { addr: number; len: number; options: number; bytes: number[] }[] {
  const { rx } = u.rings
  const n = xskRingConsPeek(rx, 64)
  const got = range(0, n).map((i) => {
    const addr = xskRingConsRxAddr(rx, rx.at + i)
    const len = xskRingConsRxLen(rx, rx.at + i)
    const from = u.at(addr) >>> 0
    return { addr, len, options: xskRingConsRxOptions(rx, rx.at + i), bytes: [...m.mem.u8.subarray(from, from + len)] }
  })
  xskRingConsRelease(rx, n)
  return got
}

function send(u: XdpUser, descs: readonly (readonly [number, number, number])[]): void {
  const { tx } = u.rings
  expect(xskRingProdReserve(tx, descs.length)).toBe(descs.length)
  for (const [i, [addr, len, options]] of descs.entries()) xskRingProdTxDesc(tx, tx.at + i, addr, len, options)
  xskRingProdSubmit(tx, descs.length)
}

function completed(u: XdpUser): number[] {
  const { comp } = u.rings
  const n = xskRingConsPeek(comp, 64)
  const got = range(0, n).map((i) => xskRingConsCompAddr(comp, comp.at + i))
  xskRingConsRelease(comp, n)
  return got
}

function finish(m: XdpMachine, ...users: XdpUser[]): void {
  m.detach()
  for (const user of users) user.close()
  assertNothingLeft(m)
}

/** Nothing of AF_XDP is left, and with the card down no packet and no mapping. */
function assertNothingLeft(m: XdpMachine): void {
  m.run()
  assertXskQuiescent(m.xsk)
  devClose(m.dev, m.cpu)
  m.run()
  assertSkbsQuiescent(m.skbs)
  auditDmaQuiescent(m.dma)
  auditMemory(m.mem)
}

describe('zero copy on the page-pool driver', () => {
  it('lets the card write into the chunk that the user reads', () => {
    const [m, u] = start()
    u.fill(range(0, 64))
    m.run()
    auditXskFrames(u.xs.pool!, [])
    receive(m, frame(100))
    receive(m, frame(60, 9))
    const got = take(m, u)
    expect(got.map(({ len }) => len)).toEqual([100, 60])
    expect(got[0]!.bytes).toEqual([...frame(100)])
    expect(got[1]!.bytes).toEqual([...frame(60, 9)])
    expect(got.map(({ addr }) => addr % 2048)).toEqual([256, 256])
    auditXskFrames(
      u.xs.pool!,
      got.map(({ addr }) => addr >>> 11),
    )
    finish(m, u)
  })

  it('counts frames for which the user has posted no chunk as missed by the card', () => {
    const [m, u] = start({ bind: XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP })
    expect(xskRingProdNeedsWakeup(u.rings.fill)).toBe(true)
    receive(m, frame(64))
    expect(devStatistics(m.dev).rx_missed_errors).toBe(1)
    u.fill(range(0, 64))
    expect(u.wake()).toBe(0)
    receive(m, frame(64))
    expect(take(m, u)).toHaveLength(1)
    finish(m, u)
  })

  it('clears the wakeup flag while the ring is full of chunks', () => {
    const [m, u] = start({ bind: XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP })
    u.fill(range(0, 64))
    u.wake()
    expect(xskRingProdNeedsWakeup(u.rings.fill)).toBe(false)
    finish(m, u)
  })

  it('gives chunks back to the pool when the rx ring is full, and counts it once a frame', () => {
    const [m, u] = start({ entries: { rx: 2 } })
    u.fill(range(0, 64))
    m.run()
    for (let i = 0; i < 5; i++) receive(m, frame(64))
    expect(u.xs.rxQueueFull).toBe(3)
    expect(devStatistics(m.dev).rx_dropped).toBe(3)
    auditXskFrames(u.xs.pool!, [])
    expect(take(m, u)).toHaveLength(2)
    finish(m, u)
  })

  it.each([
    ['drop', XDP_DROP],
    ['pass', XDP_PASS],
    ['transmit', XDP_TX],
  ] as const)('keeps the chunk when the program says %s', (_name, verdict) => {
    const m = new XdpMachine({ nic: { rxRing: 32, txRing: 32 } })
    const u = new XdpUser(m, { bind: XDP_ZEROCOPY })
    m.dev.ops.xdpSet!(m.dev, { name: 'verdict', hasFrags: false, run: () => verdict }, m.cpu)
    u.fill(range(0, 64))
    m.run()
    const sent: number[] = []
    m.nic.hw.wire = { receive: (_bytes, _at, len) => sent.push(len) }
    for (let i = 0; i < 40; i++) {
      receive(m, frame(80))
      m.run(1000)
      auditXskFrames(u.xs.pool!, [])
    }
    expect(sent).toHaveLength(verdict === XDP_TX ? 40 : 0)
    expect(take(m, u)).toEqual([])
    finish(m, u)
  })

  it('cuts long packets into chunks for a user who takes several', () => {
    const [m, u] = start({ bind: XDP_ZEROCOPY | XDP_USE_SG }, {}, true)
    u.fill(range(0, 64))
    m.run()
    const long = frame(4000)
    receive(m, long)
    const got = take(m, u)
    // Chunks of several-buffer packets leave room for the shared info: 2048 - 256 - 320.
    expect(got.map(({ len, options }) => [len, options])).toEqual([
      [1472, XDP_PKT_CONTD],
      [1472, XDP_PKT_CONTD],
      [1056, 0],
    ])
    expect(got.flatMap(({ bytes }) => bytes)).toEqual([...long])
    finish(m, u)
  })

  it('drops long packets for a user who does not', () => {
    const [m, u] = start()
    u.fill(range(0, 64))
    m.run()
    receive(m, frame(4000))
    expect(take(m, u)).toEqual([])
    auditXskFrames(u.xs.pool!, [])
    finish(m, u)
  })

  it('refuses zero copy where a packet does not fit a chunk, and copies then unless told not to', () => {
    const m = new XdpMachine({ nic: { rxRing: 32 } })
    m.dev.mtu = 3000
    const forced = new XdpUser(m, { bind: XDP_ZEROCOPY })
    expect(forced.err).toBe(-22)
    forced.close()
    const free = new XdpUser(m, { bind: 0 })
    expect([free.err, free.xs.zc]).toEqual([0, false])
    free.close()
    assertXskQuiescent(m.xsk)
  })

  it('sends from the chunk and completes in order', () => {
    const [m, u] = start()
    const sent: number[][] = []
    m.nic.hw.wire = { receive: (bytes, at, len) => sent.push([...bytes.subarray(at, at + len)]) }
    m.mem.u8.set(frame(100), u.at(2048) >>> 0)
    m.mem.u8.set(frame(70, 5), u.at(4096) >>> 0)
    send(u, [
      [2048, 100, 0],
      [4096, 70, 0],
    ])
    expect(u.kick()).toBe(0)
    m.run()
    expect(sent).toEqual([[...frame(100)], [...frame(70, 5)]])
    expect(completed(u)).toEqual([2048, 4096])
    finish(m, u)
  })

  it('sends a packet of several descriptors as one, and leaves half a packet in the ring', () => {
    const [m, u] = start({ bind: XDP_ZEROCOPY | XDP_USE_SG })
    const sent: number[] = []
    m.nic.hw.wire = { receive: (_bytes, _at, len) => sent.push(len) }
    send(u, [
      [0, 1000, XDP_PKT_CONTD],
      [2048, 500, 0],
      [4096, 200, XDP_PKT_CONTD],
    ])
    u.kick()
    m.run()
    expect(sent).toEqual([1500])
    expect(completed(u)).toEqual([0, 2048])
    send(u, [[6144, 100, 0]])
    u.kick()
    m.run()
    expect(sent).toEqual([1500, 300])
    finish(m, u)
  })

  it('says in poll what may be read and written', () => {
    const [m, u] = start()
    u.fill(range(0, 64))
    m.run()
    expect(u.sk.ops.poll(m.cpu, u.sk) & (EPOLLIN | EPOLLOUT)).toBe(EPOLLOUT)
    receive(m, frame(64))
    expect(u.sk.ops.poll(m.cpu, u.sk) & (EPOLLIN | EPOLLOUT)).toBe(EPOLLIN | EPOLLOUT)
    finish(m, u)
  })

  it('survives the device going down and up, with the chunks in the pool meanwhile', () => {
    const [m, u] = start()
    u.fill(range(0, 64))
    m.run()
    devClose(m.dev, m.cpu)
    auditXskFrames(u.xs.pool!, [])
    devOpen(m.dev, m.cpu)
    receive(m, frame(64))
    expect(take(m, u)).toHaveLength(1)
    finish(m, u)
  })

  it('leaves sockets behind when the device goes, and they can be closed', () => {
    const [m, u] = start()
    u.fill(range(0, 10))
    m.detach()
    netdevUnregister(m.devs, m.dev, m.cpu)
    expect(u.sk.err).toBe(100)
    expect(u.kick()).toBe(-6)
    u.close()
    assertXskQuiescent(m.xsk)
  })

  it.each([{ swiotlb: { force: true } }, { iommu: { strict: true } }])(
    'works behind what stands between card and memory (%j)',
    (dma) => {
      const [m, u] = start({}, { dma, bytes: 128 << 20 })
      u.fill(range(0, 64))
      m.run()
      for (let i = 0; i < 40; i++) {
        receive(m, frame(64 + i, i))
        const [got] = take(m, u)
        expect(got!.bytes).toEqual([...frame(64 + i, i)])
        u.fill([got!.addr >>> 11])
        m.run(1000)
      }
      finish(m, u)
    },
  )

  it.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'] as const)(
    'leaves nothing behind whichever allocation fails, from socket to close (%s)',
    (name) => {
      for (const bind of [XDP_ZEROCOPY, XDP_COPY]) {
        let n = 1
        for (; ; n++) {
          const m = new XdpMachine({ profile: kernelProfile(name), nic: { rxRing: 32, txRing: 32 } })
          m.mem.fault = failNth(n)
          let user: XdpUser | null = null
          try {
            user = new XdpUser(m, { bind })
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError)
          }
          if (user?.err === 0) {
            m.attach()
            user.fill(range(0, 32))
            m.run()
            for (let i = 0; i < 8; i++) receive(m, frame(200))
            m.run()
            send(user, [
              [0, 100, 0],
              [2048, 100, 0],
            ])
            user.kick()
            m.run()
            auditXsk(m.xsk)
          }
          const { failed } = m.mem.fault
          m.mem.fault = null
          if (user?.err === 0) m.detach()
          user?.close()
          assertNothingLeft(m)
          if (failed === 0) break
        }
        expect(n).toBeGreaterThan(6)
      }
    },
  )
})
