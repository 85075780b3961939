import {
  type PageInFlight,
  type PagePool,
  pagePoolHoldersReport,
  pagePoolRegisterHolders,
  pagePoolTrackHolders,
} from '@netmem/page-pool'
import { consumeSkb, type SkBuff, skbHolders } from '@netmem/skbuff'
import { type Sock, SockAddr } from '@netmem/sockmem'
import { NETIF_F_GRO, NETIF_F_RXCSUM, netdevSetFeature } from '@netmem/virtual-nic'
import { ppCard, tcpFrame, udpFrame } from '@netmem/virtual-nic/testing'
import { describe, expect, it } from 'vitest'
import { inetAddrAdd } from './route.js'
import { type TestInet, testInet } from './test-machine.js'
import { udpOf } from './udp/udp-env.js'
import { skbRecvUdp } from './udp/udp-recvmsg.js'

const HOST = 0x0a000001
const RING = 32

function machine() {
  const t = testInet()
  const { dev, nic } = ppCard(t.net, { rxRing: RING, rxChecksum: 'trust', features: NETIF_F_RXCSUM })
  inetAddrAdd(t.inet, dev, HOST, 24)
  // GRO keeps what it has until a timer comes.
  dev.groFlushTimeoutNs = 10e9
  netdevSetFeature(dev, NETIF_F_GRO, true, t.cpu)
  const pool = nic.queues[0]!.rx.pool as PagePool
  pagePoolTrackHolders(t.net.pools, true)
  const feed = (frame: Uint8Array) => nic.hw.receive(frame, 0, frame.length)
  return { t, pool, feed }
}

/** A UDP socket on port 7000 of every address. */
function socket(t: TestInet): Sock {
  const sk = t.udp()
  const any = new SockAddr()
  any.family = 2
  any.port = 7000
  expect(sk.ops.bind(t.cpu, t.task, sk, any)).toBe(0)
  return sk
}

/** Who has how many pages, with numbers that differ from run to run left out. */
function tally(report: readonly PageInFlight[]): Record<string, number> {
  const count: Record<string, number> = {}
  for (const { holders } of report) {
    const words = holders.map(({ kind, where }) => `${kind}: ${(where ?? '').replace(/\d+$/, 'n')}`).join(' + ')
    count[words] = (count[words] ?? 0) + 1
  }
  return count
}

describe('who still holds these pages?', () => {
  it('names ring, GRO, socket and reader for every page that is out of its pool', () => {
    const { t, pool, feed } = machine()
    const sk = socket(t)
    // Two stay in the socket, one is with a reader inside the kernel, and GRO has the begin of a TCP train.
    for (let i = 0; i < 3; i++) feed(udpFrame(100))
    t.net.pools.step = 'the train'
    feed(tcpFrame(1000, { flags: 0x10 }))
    const read = skbRecvUdp(t.cpu, sk, 0, udpOf(t.inet)) as SkBuff
    const forget = pagePoolRegisterHolders(t.net.pools, (visit) => skbHolders(read, 'the reader', visit))
    const report = pagePoolHoldersReport(pool)
    expect(tally(report)).toEqual({
      // Buffers are posted again eight at a time.
      'device: rx ring 0, descriptor n': RING - 1 - 4,
      [`skb: UDP socket ${sk.id}, port 7000: reader queue`]: 2,
      'skb: the reader': 1,
      'skb: NAPI 1 of eth0: GRO': 1,
    })
    expect(report.every(({ holders, ppRefCount }) => holders.length === 1 && ppRefCount === 1)).toBe(true)
    forget()
    consumeSkb(t.cpu, read, 'test')
    expect(tally(pagePoolHoldersReport(pool))['skb: the reader']).toBeUndefined()
    // Closing the socket sends its pages home, after a grace period.
    t.close(sk)
    t.passTime(1e9)
    expect(Object.keys(tally(pagePoolHoldersReport(pool)))).toEqual([
      'device: rx ring 0, descriptor n',
      'skb: NAPI 1 of eth0: GRO',
    ])
  })

  it('names fragments that wait for their rest, and queues that nobody has read yet', () => {
    const { t, pool, feed } = machine()
    const sk = socket(t)
    feed(udpFrame(100))
    const first = udpFrame(64)
    const view = new DataView(first.buffer)
    // More fragments follow; the header's sum changes by as much.
    view.setUint16(14 + 6, 0x2000)
    view.setUint16(14 + 10, 0)
    let sum = 0
    for (let i = 0; i < 20; i += 2) sum += view.getUint16(14 + i)
    view.setUint16(14 + 10, ~((sum & 0xffff) + (sum >> 16)) & 0xffff)
    feed(first)
    expect(tally(pagePoolHoldersReport(pool))).toMatchObject({
      [`skb: UDP socket ${sk.id}, port 7000: receive queue`]: 1,
      'skb: fragments of datagram n': 1,
    })
    t.close(sk)
    t.passTime(60e9)
    expect(Object.keys(tally(pagePoolHoldersReport(pool)))).toEqual(['device: rx ring 0, descriptor n'])
  })

  it('says when nobody that it knows has a page, which is what a leak looks like, and which step took it', () => {
    const { t, pool, feed } = machine()
    const sk = socket(t)
    t.net.pools.step = 'refill'
    for (let i = 0; i < 70; i++) feed(udpFrame(10))
    let last: SkBuff | null = null
    for (let skb = skbRecvUdp(t.cpu, sk, 0, udpOf(t.inet)); skb !== null; ) {
      if (last !== null) consumeSkb(t.cpu, last, 'test')
      last = skb
      skb = skbRecvUdp(t.cpu, sk, 0, udpOf(t.inet))
    }
    const lost = pagePoolHoldersReport(pool).filter(({ holders }) => holders.length === 0)
    expect(lost).toHaveLength(1)
    expect(lost[0]).toMatchObject({ ppRefCount: 1, pageRefCount: 1 })
    expect(pagePoolHoldersReport(pool).some(({ takenAt }) => takenAt === 'refill')).toBe(true)
    consumeSkb(t.cpu, last as SkBuff, 'test')
    t.close(sk)
  })
})
