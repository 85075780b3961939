/** UDP over loopback: bytes arrive as they were sent, buffers are charged and given back, errors come home. */
import { Prng } from '@netmem/base'
import { failNth } from '@netmem/memory'
import {
  EPOLLERR,
  EPOLLIN,
  MSG_ERRQUEUE,
  MSG_MORE,
  MSG_PEEK,
  MSG_TRUNC,
  mibIndex,
  SIOCINQ,
  SIOCOUTQ,
  type Sock,
} from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { type TestInet, testInet } from '../testing.js'

const AF_INET = 2
const AF_INET6 = 10
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const SOL_IP = 0
const IP_RECVERR = 11
const SOL_UDP = 17
const UDP_SEGMENT = 103
const UDP_GRO = 104
const EAGAIN = -11
const ECONNREFUSED = -111
const EMSGSIZE = -90
const KERNELS = ['linux-6.18-x86_64', 'linux-6.1-x86_64']

function randomBytes(rng: Prng, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, () => rng.below(256))
}

const counting = (count: number, first = 0): Uint8Array => Uint8Array.from({ length: count }, (_, i) => first + i)

/** Bytes as a number that fails readably: how many, and a sum that depends on their order. */
function digest(bytes: Uint8Array | number): string {
  if (typeof bytes === 'number') return `error ${bytes}`
  let h = 0x811c9dc5
  for (const byte of bytes) h = Math.imul(h ^ byte, 0x01000193)
  return `${bytes.length} bytes, ${h >>> 0}`
}

function pair(m: TestInet, family = AF_INET): { rx: Sock; tx: Sock } {
  const rx = m.udp(7000, family)
  const tx = m.udp(-1, family)
  expect(m.connect(tx, 7000)).toBe(0)
  return { rx, tx }
}

describe.each(KERNELS)('datagrams on %s', (profile) => {
  it.each([
    ['IPv4', AF_INET, 1],
    ['IPv4', AF_INET, 2],
    ['IPv6', AF_INET6, 3],
    ['IPv6', AF_INET6, 4],
  ])(
    'over %s arrive whole, in order and with their bytes, at any length and MTU (family %i, seed %i)',
    (_name, family, seed) => {
      const rng = new Prng(seed)
      const m = testInet({ profile })
      const { rx, tx } = pair(m, family)
      const queued: string[] = []
      let dropped = 0
      for (let step = 0; step < 250; step += 1) {
        if (rng.below(20) === 0) m.mtu([1280, 1500, 4000, 9000, 16436, 65536][rng.below(6)]!)
        if (rng.below(3) !== 0) {
          const most = [100, 1500, 9000, 65507][rng.below(4)]!
          const bytes = randomBytes(rng, rng.below(most + 1))
          const before = m.counter(mibIndex(family === AF_INET ? 'Udp.RcvbufErrors' : 'Udp6.RcvbufErrors'))
          expect(m.send(tx, bytes)).toBe(bytes.length)
          if (m.counter(mibIndex(family === AF_INET ? 'Udp.RcvbufErrors' : 'Udp6.RcvbufErrors')) > before) dropped += 1
          else queued.push(digest(bytes))
        } else {
          const want = queued.shift() ?? `error ${EAGAIN}`
          expect(digest(m.recv(rx)), `step ${step}`).toBe(want)
        }
        m.audit()
      }
      for (const want of queued) expect(digest(m.recv(rx))).toBe(want)
      expect(rx.drops).toBe(dropped)
      m.close(tx)
      m.close(rx)
      m.end()
    },
    60_000,
  )

  it('are put together from the parts of a corked send', () => {
    const m = testInet({ profile })
    const { rx, tx } = pair(m)
    const all = counting(5000)
    m.mtu(1500)
    for (let at = 0; at < 5000; at += 500) {
      m.send(tx, all.subarray(at, at + 500), -1, at < 4500 ? MSG_MORE : 0)
      m.audit()
    }
    expect(digest(m.recv(rx))).toBe(digest(all))
    m.close(tx)
    m.close(rx)
    m.end()
  })

  it('that are corked and never sent are thrown away with the socket', () => {
    const m = testInet({ profile })
    const tx = m.udp()
    m.connect(tx, 7000)
    expect(m.send(tx, counting(3000), -1, MSG_MORE)).toBe(3000)
    m.audit()
    m.close(tx)
    m.end()
  })

  it('are cut into segments by the sender and joined again for a receiver that asks for it', () => {
    const m = testInet({ profile })
    const { rx, tx } = pair(m)
    const all = counting(10_000)
    expect(m.setsockopt(tx, SOL_UDP, UDP_SEGMENT, 1200)).toBe(0)
    expect(m.send(tx, all)).toBe(10_000)
    for (let at = 0; at < 10_000; at += 1200)
      expect(digest(m.recv(rx))).toBe(digest(all.subarray(at, Math.min(at + 1200, 10_000))))
    expect(m.setsockopt(rx, SOL_UDP, UDP_GRO, 1)).toBe(0)
    expect(m.send(tx, all)).toBe(10_000)
    m.audit()
    expect(digest(m.recv(rx))).toBe(digest(all))
    m.close(tx)
    m.close(rx)
    m.end()
  })

  it('longer than 65507 bytes are refused, and so are more than 128 segments', () => {
    const m = testInet({ profile })
    const { rx, tx } = pair(m)
    expect(m.send(tx, new Uint8Array(65508))).toBe(EMSGSIZE)
    m.setsockopt(tx, SOL_UDP, UDP_SEGMENT, 10)
    expect(m.send(tx, new Uint8Array(1280))).toBe(1280)
    expect(m.send(tx, new Uint8Array(1281))).toBe(-22)
    expect(tx.wmemAlloc).toBe(1)
    m.close(tx)
    m.close(rx)
    m.end()
  })

  it('are peeked at any number of times, cut to the room, and told at their whole length', () => {
    const m = testInet({ profile })
    const { rx, tx } = pair(m)
    m.send(tx, counting(1000, 3))
    for (let i = 0; i < 3; i += 1) expect(digest(m.recv(rx, 100, MSG_PEEK))).toBe(digest(counting(100, 3)))
    expect(m.msg.msgFlags & MSG_TRUNC).toBe(MSG_TRUNC)
    expect(rx.ops.ioctl(m.cpu, m.task, rx, SIOCINQ)).toBe(1000)
    expect(rx.ops.poll(m.cpu, rx) & EPOLLIN).toBe(EPOLLIN)
    expect((m.recv(rx, 70_000, MSG_PEEK | MSG_TRUNC) as Uint8Array).length).toBe(1000)
    expect(digest(m.recv(rx, 400))).toBe(digest(counting(400, 3)))
    expect(digest(m.recv(rx))).toBe(`error ${EAGAIN}`)
    m.close(tx)
    m.close(rx)
    m.end()
  })

  it('tell where they come from', () => {
    const m = testInet({ profile })
    const rx = m.udp(7000)
    const tx = m.udp(6000)
    m.send(tx, counting(10), 7000)
    m.recv(rx)
    expect([m.msg.name.family, m.msg.name.port, m.msg.name.addr]).toEqual([AF_INET, 6000, 0x7f000001])
    m.close(tx)
    m.close(rx)
    m.end()
  })

  it('fill the receive buffer past its size by one, and then are dropped and counted', () => {
    const m = testInet({ profile })
    const { rx, tx } = pair(m)
    m.setsockopt(rx, SOL_SOCKET, SO_RCVBUF, 5000)
    for (let i = 0; i < 20; i += 1) expect(m.send(tx, counting(1000))).toBe(1000)
    m.audit()
    const held = 20 - rx.drops
    expect(rx.drops).toBeGreaterThan(0)
    expect(m.counter(mibIndex('Udp.RcvbufErrors'))).toBe(rx.drops)
    for (let i = 0; i < held; i += 1) expect(digest(m.recv(rx))).toBe(digest(counting(1000)))
    expect(digest(m.recv(rx))).toBe(`error ${EAGAIN}`)
    m.close(tx)
    m.close(rx)
    m.end()
  })

  it('that nobody has read go when the socket is closed, after the grace period', () => {
    const m = testInet({ profile })
    const { rx, tx } = pair(m)
    for (let i = 0; i < 5; i += 1) m.send(tx, counting(3000))
    m.close(rx)
    m.audit()
    m.close(tx)
    m.end()
  })

  it('leave no charge with the sender once they are in the receiver', () => {
    const m = testInet({ profile })
    const { rx, tx } = pair(m)
    m.send(tx, counting(2000))
    expect(tx.ops.ioctl(m.cpu, m.task, tx, SIOCOUTQ)).toBe(0)
    expect(rx.rmemAlloc).toBeGreaterThan(2000)
    m.close(tx)
    m.close(rx)
    m.end()
  })
})

describe.each(KERNELS)('a port without a socket on %s', (profile) => {
  it.each([
    ['IPv4', AF_INET],
    ['IPv6', AF_INET6],
  ])('over %s becomes the error of a connected sender, once', (_name, family) => {
    const m = testInet({ profile })
    const tx = m.udp(-1, family)
    m.connect(tx, 7000)
    expect(m.send(tx, counting(10))).toBe(10)
    expect(tx.ops.poll(m.cpu, tx) & EPOLLERR).toBe(EPOLLERR)
    expect(m.send(tx, counting(10))).toBe(ECONNREFUSED)
    expect(m.counter(mibIndex(family === AF_INET ? 'Udp.NoPorts' : 'Udp6.NoPorts'))).toBe(1)
    m.audit()
    m.close(tx)
    m.end()
  })

  it('is told to an unconnected sender only through the error queue, if it asks', () => {
    const m = testInet({ profile })
    const tx = m.udp(6000)
    expect(m.send(tx, counting(10), 7000)).toBe(10)
    expect(m.send(tx, counting(10), 7000)).toBe(10)
    m.setsockopt(tx, SOL_IP, IP_RECVERR, 1)
    expect(m.send(tx, counting(50, 9), 7000)).toBe(50)
    expect(m.send(tx, counting(50, 9), 7000)).toBe(ECONNREFUSED)
    m.audit()
    expect(digest(m.recv(tx, 1000, MSG_ERRQUEUE))).toBe(digest(counting(50, 9)))
    expect(m.msg.hasErr).toBe(true)
    expect([m.msg.err.eeErrno, m.msg.err.eeOrigin, m.msg.err.eeType, m.msg.err.eeCode]).toEqual([111, 2, 3, 3])
    m.audit()
    m.close(tx)
    m.end()
  })
})

describe.each(KERNELS)('with an allocation that fails on %s', (profile) => {
  const cases: readonly [string, number, number, number, number][] = [
    ['a short datagram', AF_INET, 100, 65536, 0],
    ['a long datagram', AF_INET, 40_000, 65536, 0],
    ['an IPv6 datagram', AF_INET6, 3000, 65536, 0],
    ['fragments', AF_INET, 6000, 1500, 0],
    ['IPv6 fragments', AF_INET6, 6000, 1500, 0],
    ['segments', AF_INET, 6000, 65536, 1000],
  ]
  it.each(cases)(
    '%s is sent or refused, received or lost, and the books balance',
    (_name, family, length, mtu, segment) => {
      let delivered = 0
      for (let n = 1; ; n += 1) {
        const m = testInet({ profile })
        m.mtu(mtu)
        const { rx, tx } = pair(m, family)
        if (segment > 0) m.setsockopt(tx, SOL_UDP, UDP_SEGMENT, segment)
        const fault = failNth(n)
        m.net.mem.fault = fault
        const sent = m.send(tx, counting(length))
        const seen = `allocation ${n} at ${fault.lastSite}: ${sent}`
        let got = 0
        for (let bytes = m.recv(rx); typeof bytes !== 'number'; bytes = m.recv(rx)) got += bytes.length
        m.net.mem.fault = null
        expect(sent === length || (sent < 0 && got < length), seen).toBe(true)
        expect(got === length || fault.failed > 0, seen).toBe(true)
        if (got === length) delivered += 1
        expect([tx.wmemAlloc, rx.receiveQueue.qlen], seen).toEqual([1, 0])
        m.close(tx)
        m.close(rx)
        m.end()
        if (fault.failed === 0) break
        expect(n).toBeLessThan(300)
      }
      expect(delivered).toBeGreaterThan(0)
    },
    60_000,
  )

  it('a port without a socket is answered or not', () => {
    for (let n = 1; ; n += 1) {
      const m = testInet({ profile })
      const tx = m.udp()
      m.connect(tx, 7000)
      m.setsockopt(tx, SOL_IP, IP_RECVERR, 1)
      const fault = failNth(n)
      m.net.mem.fault = fault
      m.send(tx, counting(100))
      m.recv(tx, 100, MSG_ERRQUEUE)
      m.net.mem.fault = null
      m.audit()
      m.close(tx)
      m.end()
      if (fault.failed === 0) break
      expect(n).toBeLessThan(100)
    }
  })

  it('a socket is made or not', () => {
    for (let n = 1; ; n += 1) {
      const m = testInet({ profile })
      const fault = failNth(n)
      m.net.mem.fault = fault
      let sk: Sock | null = null
      try {
        sk = m.udp(7000)
      } catch (error) {
        expect(String(error)).toMatch(/socket: -(12|23|105)/)
      }
      m.net.mem.fault = null
      if (sk !== null) m.close(sk)
      m.end()
      if (fault.failed === 0) break
    }
  })
})
