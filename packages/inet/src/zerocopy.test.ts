/** MSG_ZEROCOPY: what is told of which send, what is pinned and charged meanwhile, and what a late write does. */
import { ERRNO, Prng } from '@netmem/base'
import { failNth, iovIterInit, type UserBuffer, userAlloc, userFree, userWrite } from '@netmem/memory'
import { consumeSkb, eachFrag, type SkBuff } from '@netmem/skbuff'
import { AF_INET, AF_INET6, CAP_IPC_LOCK, MSG_ERRQUEUE, MSG_ZEROCOPY, type Sock, SockAddr } from '@netmem/sockmem'
import {
  devOpen,
  NETIF_F_HW_CSUM,
  NETIF_F_SG,
  type NetDevice,
  netdevRegister,
  netdevUnregister,
} from '@netmem/virtual-nic'
import { ZerocopyHazards } from '@netmem/zerocopy'
import { assertMsgZerocopyQuiescent } from '@netmem/zerocopy/testing'
import { describe, expect, it } from 'vitest'
import { inetAddrAdd, inetDevDown, neighAdd } from './route.js'
import { streamByte, streamBytes, tcpPair } from './tcp/test-tcp.js'
import { type TestInet, testInet } from './testing.js'

const KERNELS = ['linux-6.18-x86_64', 'linux-6.1-x86_64']
const SOL_SOCKET = 1
const SO_SNDBUF = 7
const SO_RCVBUF = 8
const SO_ZEROCOPY = 60
const MSG_MORE = 0x8000
const EAGAIN = -ERRNO.EAGAIN
const HERE = 0x0a000001
const THERE = 0x0a000002
const COPIED = 1

/** What a notification says: first and last send, and whether bytes were copied. */
type Told = readonly [number, number, number]

function readErrors(m: TestInet, sk: Sock): Told[] {
  const told: Told[] = []
  while (m.recv(sk, 100, MSG_ERRQUEUE) !== EAGAIN) {
    const { err } = m.msg
    expect([err.eeErrno, err.eeOrigin]).toEqual([0, 5])
    told.push([err.eeInfo, err.eeData, err.eeCode])
  }
  return told
}

/** Sends from a buffer of its own that the caller frees, by reference unless told otherwise. */
function sendFrom(
  m: TestInet,
  sk: Sock,
  buffer: UserBuffer,
  offset: number,
  bytes: number,
  flags = MSG_ZEROCOPY,
): number {
  m.msg.reset(flags)
  iovIterInit(m.msg.iter, buffer, offset, bytes)
  const ret = sk.ops.sendmsg(m.cpu, m.task, sk, m.msg, bytes)
  m.passTime(0)
  return ret
}

function bufferOf(m: TestInet, bytes: Uint8Array, offset = 0): UserBuffer {
  const buffer = userAlloc(m.net.mem, m.cpu, bytes.length + offset)!
  userWrite(m.net.mem, buffer, offset, bytes)
  return buffer
}

const zerocopy = (m: TestInet, sk: Sock): number => m.setsockopt(sk, SOL_SOCKET, SO_ZEROCOPY, 1)

function end(m: TestInet, ...socks: Sock[]): void {
  for (const sk of socks) m.close(sk)
  m.audit()
  m.passTime(1e9)
  assertMsgZerocopyQuiescent(m.inet.zerocopy)
  m.end()
}

/** A card that keeps what it is given until it is told to be done. */
function slowCard(
  m: TestInet,
  features = NETIF_F_SG | NETIF_F_HW_CSUM,
): { waiting: SkBuff[]; done(): void; remove(): void } {
  const waiting: SkBuff[] = []
  const dev = netdevRegister(m.net.env, {
    name: 'card',
    ops: {
      startXmit: (_cpu, skb) => {
        waiting.push(skb)
        return 0
      },
    },
    setup: (card) => {
      card.features = features
      card.hwFeatures = features
      card.noQueue = true
    },
  }) as NetDevice
  devOpen(dev, m.cpu)
  inetAddrAdd(m.inet, dev, HERE, 24)
  neighAdd(m.inet, dev, THERE, null, 0x0200, 1)
  return {
    waiting,
    done: () => {
      for (const skb of waiting.splice(0)) consumeSkb(m.cpu, skb, 'card')
    },
    remove: () => {
      inetDevDown(m.inet, dev)
      netdevUnregister(m.net.env, dev, m.cpu)
    },
  }
}

function udpTo(m: TestInet): Sock {
  const sk = m.udp()
  const to = new SockAddr()
  to.family = AF_INET
  to.addr = THERE
  to.port = 9
  expect(sk.ops.connect(m.cpu, m.task, sk, to, 0)).toBe(0)
  return sk
}

describe.each(KERNELS)('sends by reference on %s', (profile) => {
  it.each([
    ['IPv4', AF_INET],
    ['IPv6', AF_INET6],
  ])('over loopback are copied, and the notification says so, in bytes too (UDP, %s)', (_name, family) => {
    const m = testInet({ profile })
    const rx = m.udp(7000, family)
    const tx = m.udp(-1, family)
    m.connect(tx, 7000)
    expect(zerocopy(m, tx)).toBe(0)
    const buffer = bufferOf(m, streamBytes(0, 9000), 100)
    for (const bytes of [9000, 1, 0]) expect(sendFrom(m, tx, buffer, 100, bytes)).toBe(bytes)
    m.audit()
    for (const bytes of [9000, 1, 0]) expect(m.recv(rx)).toEqual(streamBytes(0, bytes))
    m.msg.reset(MSG_ERRQUEUE)
    m.msg.wantControl = true
    iovIterInit(m.msg.iter, buffer, 0, 0)
    expect(tx.ops.recvmsg(m.cpu, m.task, tx, m.msg, 0, MSG_ERRQUEUE)).toBe(0)
    const [cmsg] = m.msg.control!
    expect([cmsg!.level, cmsg!.type]).toEqual(family === AF_INET ? [0, 11] : [41, 25])
    const want = new Uint8Array(family === AF_INET ? 32 : 44)
    want.set([0, 0, 0, 0, 5, 0, COPIED, 0, 0, 0, 0, 0, 2])
    expect(cmsg!.data).toEqual(want)
    userFree(m.net.mem, m.cpu, buffer)
    end(m, rx, tx)
  })

  it('leave without a copy through a card that can gather; what is written too early goes out, and is found', () => {
    const m = testInet({ profile })
    const card = slowCard(m)
    const tx = udpTo(m)
    zerocopy(m, tx)
    const hazards = new ZerocopyHazards()
    m.inet.zerocopy.hazards = hazards
    let copies = 0
    m.net.trace.copy = () => void copies++
    const buffer = bufferOf(m, streamBytes(0, 1200))
    for (let i = 0; i < 3; i++) expect(sendFrom(m, tx, buffer, 400 * i, 400)).toBe(400)
    expect([copies, readErrors(m, tx)]).toEqual([0, []])
    m.audit()
    userWrite(m.net.mem, buffer, 500, Uint8Array.of(~streamByte(500), ~streamByte(501)))
    const wire: number[] = []
    eachFrag(card.waiting[1]!, (from, bytes) => wire.push(...m.net.mem.u8.subarray(from >>> 0, (from >>> 0) + bytes)))
    expect(wire[100]).toBe(~streamByte(500) & 255)
    card.done()
    m.net.trace.copy = null
    expect(readErrors(m, tx)).toEqual([[0, 2, 0]])
    expect(hazards.found).toMatchObject([{ sock: tx.id, send: 1, firstByte: 100, bytes: 2 }])
    expect(hazards.found[0]!.words).toContain(`send 1 of socket ${tx.id}`)
    userFree(m.net.mem, m.cpu, buffer)
    card.remove()
    end(m, tx)
  })

  it('through a card that cannot gather are copied at once', () => {
    const m = testInet({ profile })
    const card = slowCard(m, NETIF_F_HW_CSUM)
    const tx = udpTo(m)
    zerocopy(m, tx)
    const buffer = bufferOf(m, streamBytes(0, 1000))
    expect(sendFrom(m, tx, buffer, 0, 1000)).toBe(1000)
    expect(m.net.mem.pages.refcount[buffer.pfns[0]!]).toBe(1)
    card.done()
    expect(readErrors(m, tx)).toEqual([[0, 0, COPIED]])
    userFree(m.net.mem, m.cpu, buffer)
    card.remove()
    end(m, tx)
  })

  it('pin no more than the limit of the user, all its sockets together, unless it may lock memory', () => {
    const m = testInet({ profile })
    const card = slowCard(m)
    const [a, b] = [udpTo(m), udpTo(m)]
    for (const sk of [a, b]) zerocopy(m, sk)
    m.task.caps &= ~CAP_IPC_LOCK
    m.task.rlimitMemlock = 4 * 4096 + 4095
    const buffer = bufferOf(m, streamBytes(0, 1000))
    const omem = a.omemAlloc
    // Two pages each, whatever part of them is sent.
    expect(sendFrom(m, a, buffer, 0, 1000)).toBe(1000)
    expect(sendFrom(m, b, buffer, 0, 1000)).toBe(1000)
    expect(sendFrom(m, a, buffer, 0, 1000)).toBe(-ERRNO.ENOBUFS)
    m.audit()
    card.done()
    expect(sendFrom(m, a, buffer, 0, 1000)).toBe(1000)
    m.task.caps |= CAP_IPC_LOCK
    expect(sendFrom(m, a, buffer, 0, 1000)).toBe(1000)
    card.done()
    // The send that failed gave its id back.
    expect([readErrors(m, a), readErrors(m, b)]).toEqual([[[0, 2, 0]], [[0, 0, 0]]])
    expect(a.omemAlloc).toBe(omem)
    userFree(m.net.mem, m.cpu, buffer)
    card.remove()
    end(m, a, b)
  })

  it('of a socket that was closed meanwhile are told to nobody', () => {
    const m = testInet({ profile })
    const card = slowCard(m)
    const tx = udpTo(m)
    zerocopy(m, tx)
    const buffer = bufferOf(m, streamBytes(0, 1000))
    expect(sendFrom(m, tx, buffer, 0, 1000)).toBe(1000)
    m.close(tx)
    userFree(m.net.mem, m.cpu, buffer)
    m.audit()
    card.done()
    card.remove()
    end(m)
  })

  it.each([1, 2, 3, 4])('and copies in any mix make the stream, each send told once, seed %i', (seed) => {
    const rng = new Prng(seed)
    const m = testInet({ profile, seed })
    if (seed > 2) m.mtu(1500)
    const pair = tcpPair(m, seed % 2 === 0 ? AF_INET6 : AF_INET, (sk) => {
      if (seed > 1) for (const opt of [SO_SNDBUF, SO_RCVBUF]) m.setsockopt(sk, SOL_SOCKET, opt, 20_000 * seed)
    })
    const tx = pair.client
    zerocopy(m, tx)
    let [sent, received, told, sends] = [0, 0, 0, 0]
    for (let step = 0; step < 250; step++) {
      const kind = rng.below(8)
      if (kind < 4) {
        const offset = rng.below(5000)
        const bytes = 1 + rng.below(rng.below(2) === 0 ? 6000 : 80_000)
        const buffer = bufferOf(m, streamBytes(sent, bytes), offset)
        const reference = rng.below(3) > 0 ? MSG_ZEROCOPY : 0
        const ret = sendFrom(m, tx, buffer, offset, bytes, reference | (rng.below(3) === 0 ? MSG_MORE : 0))
        if (ret > 0) sent += ret
        else expect(ret).toBe(EAGAIN)
        if (ret > 0 && reference !== 0) sends += 1
        // What the kernel still needs of it stays.
        userFree(m.net.mem, m.cpu, buffer)
      } else if (kind < 6) {
        const got = m.recv(pair.server, 1 + rng.below(100_000))
        if (typeof got === 'number') continue
        for (const [i, byte] of got.entries())
          if (byte !== streamByte(received + i)) expect(`byte ${received + i}`).toBe('right')
        received += got.length
      } else if (kind === 6) m.passTime(rng.below(50e6))
      else
        for (const [lo, hi] of readErrors(m, tx)) {
          expect(lo).toBe(told)
          told = hi + 1
        }
      m.audit()
    }
    expect(sends).toBeGreaterThan(20)
    for (let i = 0; i < 1000 && received < sent; i++) {
      const got = m.recv(pair.server, 1_000_000)
      if (typeof got !== 'number') received += got.length
      m.passTime(50e6)
    }
    m.passTime(1e9)
    expect(received).toBe(sent)
    for (const [lo, hi] of readErrors(m, tx)) {
      expect(lo).toBe(told)
      told = hi + 1
    }
    expect(told).toBe(sends)
    end(m, ...Object.values(pair))
  })

  it.each(['TCP', 'UDP'])('survive each allocation of theirs that fails (%s)', (kind) => {
    let whole = 0
    for (let n = 1; ; n += 1) {
      const m = testInet({ profile })
      const pair = kind === 'TCP' ? tcpPair(m) : null
      const [tx, rx] = pair === null ? [m.udp(), m.udp(7000)] : [pair.client, pair.server]
      if (pair === null) m.connect(tx, 7000)
      zerocopy(m, tx)
      const bytes = streamBytes(0, 20_000)
      const buffer = bufferOf(m, bytes)
      const fault = failNth(n)
      m.net.mem.fault = fault
      const ret = sendFrom(m, tx, buffer, 0, bytes.length)
      m.net.mem.fault = null
      m.audit()
      userFree(m.net.mem, m.cpu, buffer)
      // TCP sends again what was lost.
      m.passTime(2e9)
      const got = m.recv(rx)
      if (ret > 0 && typeof got !== 'number') {
        expect(got).toEqual(bytes.subarray(0, got.length))
        whole += 1
      }
      end(m, ...(pair === null ? [tx, rx] : Object.values(pair)))
      if (fault.failed === 0) break
      expect(n).toBeLessThan(60)
    }
    expect(whole).toBeGreaterThan(0)
  })
})
