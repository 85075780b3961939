import crypto from 'node:crypto'
import { ERRNO, kernelProfile, Prng } from '@netmem/base'
import { failNever, failNth, userRead, userWrite } from '@netmem/memory'
import { AF_INET, MSG_EOR, MSG_MORE, MSG_PEEK, SO, SOCK_STREAM, SOL_SOCKET } from '@netmem/sockmem'
import { SOL_TLS, TLS_RX, TLS_SET_RECORD_TYPE, TLS_TX, tlsCryptoFromNode } from '@netmem/zerocopy'
import { describe, expect, it } from 'vitest'
import { bootKernel } from './boot.js'
import type { Kernel } from './kernel.js'
import { boundAddress, loopback, setInt } from './player/calls.js'
import type { Process } from './process.js'
import {
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysListen,
  sysPoll,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysSocket,
} from './syscalls.js'
import { assertQuiescent, auditKernel, trackSteps } from './testing.js'
import { SOL_TCP, TCP_OPTIONS } from './uapi.js'

const PROFILES = ['linux-6.1-x86_64', 'linux-6.18-x86_64'] as const
const ROOM = 1 << 17
const RECORD = 16384

const boot = (profile: string, withCrypto = true): Kernel =>
  bootKernel({
    profile: kernelProfile(profile),
    cpus: 1,
    memoryBytes: 32 << 20,
    ...(withCrypto ? { crypto: tlsCryptoFromNode(crypto) } : {}),
  })

/** A connection over loopback. @returns both descriptors, or a negative errno. */
function connect(process: Process, sndbuf = 0, rcvbuf = 0): readonly [number, number] | number {
  const listener = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  if (listener < 0) return listener
  if (rcvbuf > 0) setInt(process, listener, SOL_SOCKET, SO.SO_RCVBUF, rcvbuf)
  let err = sysBind(process, listener, loopback(false)) || sysListen(process, listener, 1)
  const client = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  if (client >= 0 && sndbuf > 0) setInt(process, client, SOL_SOCKET, SO.SO_SNDBUF, sndbuf)
  if (err === 0 && client >= 0) err = sysConnect(process, client, boundAddress(process, listener))
  const server = sysAccept(process, listener, SOCK_NONBLOCK)
  sysClose(process, listener)
  if (client >= 0 && server >= 0) {
    for (const fd of [client, server]) setInt(process, fd, SOL_TCP, TCP_OPTIONS.TCP_NODELAY, 1)
    return [client, server]
  }
  for (const fd of [client, server]) if (fd >= 0) sysClose(process, fd)
  return Math.min(client, server)
}

function attach(process: Process, fd: number): number {
  process.val.text = 'tls'
  process.val.len = 3
  return sysSetsockopt(process, fd, SOL_TCP, TCP_OPTIONS.TCP_ULP, process.val)
}

/** AES-GCM-128 with a key of `fill`. */
function setKey(process: Process, fd: number, opt: number, tls13 = false, fill = 7): number {
  const { val } = process
  const bytes = new Uint8Array(val.words.buffer)
  bytes.fill(0)
  bytes.set([tls13 ? 4 : 3, 3, 51, 0])
  bytes.fill(fill, 4, 32)
  val.len = 40
  return sysSetsockopt(process, fd, SOL_TLS, opt, val)
}

/** A connection with keys: the first sends, the second receives. */
function tlsPair(process: Process, tls13: boolean, sndbuf = 0, rcvbuf = 0): readonly [number, number] {
  const pair = connect(process, sndbuf, rcvbuf)
  if (typeof pair === 'number') throw new Error(`no connection: ${pair}`)
  expect(attach(process, pair[0]) || attach(process, pair[1])).toBe(0)
  expect(setKey(process, pair[0], TLS_TX, tls13) || setKey(process, pair[1], TLS_RX, tls13)).toBe(0)
  return pair
}

function send(process: Process, fd: number, data: Uint8Array, flags = 0, type?: number): number {
  userWrite(process.kernel.mem, process.buffer('send', Math.max(data.length, 1)), 0, data)
  const control = type === undefined ? {} : { control: [{ level: SOL_TLS, type: TLS_SET_RECORD_TYPE, value: type }] }
  return sysSendmsg(process, fd, data.length, { flags, ...control })
}

/** Bytes short enough for a message of a test that failed. */
const brief = (data: Uint8Array): string =>
  data.length <= 16 ? Buffer.from(data).toString('hex') : crypto.createHash('sha256').update(data).digest('hex')

/** All bytes of the latest receive. */
const got: { bytes: Uint8Array } = { bytes: new Uint8Array(0) }

interface Got {
  readonly ret: number
  readonly type: number
  readonly eor: boolean
  readonly data: string
}

function recv(process: Process, fd: number, len: number, flags = 0): Got {
  const ret = sysRecvmsg(process, fd, len, { flags, wantControl: true })
  const { msg } = process
  const data = userRead(process.kernel.mem, process.buffer('recv', Math.max(len, 1)), 0, Math.max(ret, 0))
  const type = ret < 0 ? 0 : (msg.control?.[0]?.value ?? 0)
  got.bytes = data
  return { ret, type, eor: ret >= 0 && (msg.msgFlags & MSG_EOR) !== 0, data: brief(data) }
}

/** Receives `len` bytes, or all there are: what had no room in the window comes once there is some. */
function recvPatiently(process: Process, fd: number, len: number): Got | null {
  const parts: Uint8Array[] = []
  let all: Got | null = null
  let seen = false
  let left = len
  for (let tries = 0; tries < 4 && left > 0; tries += 1) {
    // Whether what came meanwhile belongs to the same receive, is seen before it is taken.
    if (all !== null && (all.type !== 23 || recv(process, fd, left, MSG_PEEK).type !== 23)) break
    const part = recv(process, fd, left)
    if (part.ret <= 0) break
    parts.push(got.bytes)
    left -= part.ret
    seen ||= part.eor
    all = { ...part, ret: len - left, eor: part.eor || seen, data: '' }
    process.kernel.passTime(1e9)
  }
  return all === null ? null : { ...all, data: brief(Buffer.concat(parts)) }
}

/** What a record layer is, told naively: a list of records, each of a type. */
class NaiveRecords {
  private open: number[] = []
  private readonly records: { type: number; bytes: number[] }[] = []

  send(data: Uint8Array, more: boolean, type?: number): void {
    if (type !== undefined) this.close()
    for (const byte of data) {
      this.open.push(byte)
      if (this.open.length === RECORD) this.close(type)
    }
    if (!more && data.length > 0) this.close(type)
  }

  private close(type = 23): void {
    if (this.open.length > 0) this.records.push({ type, bytes: this.open })
    this.open = []
  }

  get waiting(): number {
    return this.records.length
  }

  recv(len: number): Got | null {
    const first = this.records[0]
    if (first === undefined) return null
    const out: number[] = []
    let eor = false
    let used = 0
    for (; used < this.records.length && out.length < len; used += 1) {
      const record = this.records[used]!
      if (record.type !== first.type || (used > 0 && first.type !== 23)) break
      const chunk = record.bytes.slice(0, len - out.length)
      out.push(...chunk)
      if (chunk.length === record.bytes.length) eor = true
      record.bytes = record.bytes.slice(chunk.length)
    }
    while (this.records[0]?.bytes.length === 0) this.records.shift()
    return { ret: out.length, type: first.type, eor, data: brief(Uint8Array.from(out)) }
  }
}

describe.each(PROFILES)('kTLS on %s', (profile) => {
  it.each([1, 2])('random sends and receives give the bytes, types and ends of a list of records (seed %i)', (seed) => {
    const kernel = boot(profile)
    const step = trackSteps(kernel)
    const process = kernel.spawn()
    const prng = new Prng(seed)
    const [tx, rx] = tlsPair(process, seed % 2 === 0)
    const naive = new NaiveRecords()
    for (let i = 0; i < 100; i += 1) {
      step(i)
      if (prng.below(2) === 0 || naive.waiting > 3) {
        // What is corked may or may not have left; the next send without MSG_MORE takes it along.
        const closing = send(process, tx, Uint8Array.of(i))
        expect(closing).toBe(1)
        naive.send(Uint8Array.of(i), false)
        kernel.passTime(1e6)
        const len = 1 + prng.below([4, 300, 40000][prng.below(3)]!)
        expect(recvPatiently(process, rx, len), `seed ${seed} step ${i}: recv ${len}`).toEqual(naive.recv(len))
      } else {
        const size = prng.below([3, 200, 5000, 18000][prng.below(4)]!)
        const data = Uint8Array.from({ length: size }, (_, j) => (i + j) % 251)
        const type = prng.below(6) === 0 ? 21 + prng.below(2) : undefined
        const more = type === undefined && prng.below(3) === 0
        expect(send(process, tx, data, more ? MSG_MORE : 0, type)).toBe(size)
        naive.send(data, more, type)
      }
      auditKernel(kernel)
    }
    sysClose(process, tx)
    sysClose(process, rx)
    kernel.exit(process)
    auditKernel(kernel)
    assertQuiescent(kernel)
  })

  it('peeking gives the same bytes again, and then reading does', () => {
    const kernel = boot(profile)
    const process = kernel.spawn()
    const [tx, rx] = tlsPair(process, false)
    for (const size of [100, 20000, 5])
      send(
        process,
        tx,
        Uint8Array.from({ length: size }, (_, j) => j % 251),
      )
    for (const len of [1, 100, 101, 16500, ROOM]) {
      const peeked = recv(process, rx, len, MSG_PEEK)
      expect(peeked.ret).toBe(Math.min(len, 20105))
      expect(recv(process, rx, len, MSG_PEEK).data).toBe(peeked.data)
      auditKernel(kernel)
    }
    const all = recv(process, rx, ROOM)
    expect(all.ret).toBe(20105)
    expect(recv(process, rx, ROOM).ret).toBe(-ERRNO.EAGAIN)
    sysClose(process, tx)
    sysClose(process, rx)
    kernel.exit(process)
    auditKernel(kernel)
  })

  it('a record longer than the receive buffer is copied out, so that the rest of it can come', () => {
    const kernel = boot(profile)
    const step = trackSteps(kernel)
    const process = kernel.spawn()
    const [tx, rx] = tlsPair(process, false, 0, 2048)
    const data = Uint8Array.from({ length: 50000 }, (_, j) => j % 251)
    let sent = 0
    const parts: Uint8Array[] = []
    let bytes = 0
    for (let i = 0; i < 400 && bytes < data.length; i += 1) {
      step(i)
      if (sent < data.length) sent += Math.max(0, send(process, tx, data.subarray(sent)))
      kernel.passTime(50e6)
      bytes += Math.max(0, recv(process, rx, 7000).ret)
      parts.push(got.bytes)
      auditKernel(kernel)
    }
    expect(Buffer.concat(parts).equals(data)).toBe(true)
    sysClose(process, tx)
    sysClose(process, rx)
    kernel.exit(process)
    assertQuiescent(kernel)
  })

  it('records whose pages lie apart are closed when they have no room for another piece', () => {
    const kernel = boot(profile)
    const step = trackSteps(kernel)
    const process = kernel.spawn()
    const pairs = [tlsPair(process, false), tlsPair(process, true)]
    // The two take turns at the task's page, so that no piece continues the one before.
    const turns = 45
    for (let i = 0; i < turns; i += 1) {
      step(i)
      for (const [tx, rx] of pairs) {
        const size = 100 + i
        expect(send(process, tx, new Uint8Array(size).fill(i), i < turns - 1 ? MSG_MORE : 0)).toBe(size)
        // Far from 16 KiB, and nobody said that it ends.
        if (i === turns - 2) expect(recv(process, rx, ROOM, MSG_PEEK).ret).toBeGreaterThan(0)
        auditKernel(kernel)
      }
    }
    const all = Buffer.concat(Array.from({ length: turns }, (_, i) => new Uint8Array(100 + i).fill(i)))
    for (const [tx, rx] of pairs) {
      expect(recv(process, rx, ROOM).ret).toBe(all.length)
      expect(all.equals(got.bytes)).toBe(true)
      sysClose(process, tx)
      sysClose(process, rx)
    }
    kernel.exit(process)
    auditKernel(kernel)
    assertQuiescent(kernel)
  })

  it('a full send buffer holds the rest of a record back, which leaves when there is room', () => {
    const kernel = boot(profile)
    const process = kernel.spawn()
    const [tx, rx] = tlsPair(process, true, 4608, 4608)
    const data = new Uint8Array(16384).fill(9)
    let sent = 0
    for (let ret = 0; ret >= 0; sent += Math.max(ret, 0)) {
      ret = send(process, tx, data)
      auditKernel(kernel)
    }
    expect(sent).toBeGreaterThan(0)
    let read = 0
    for (let i = 0; i < 300 && read < sent; i += 1) {
      kernel.passTime(50e6)
      read += Math.max(0, recv(process, rx, ROOM).ret)
      auditKernel(kernel)
    }
    expect(read).toBe(sent)
    sysClose(process, tx)
    sysClose(process, rx)
    kernel.exit(process)
    auditKernel(kernel)
  })

  it('without a provider, a key is refused as by a kernel without the cipher, and the socket stays a plain one', () => {
    const kernel = boot(profile, false)
    const process = kernel.spawn()
    const [a, b] = connect(process) as readonly [number, number]
    expect(attach(process, a)).toBe(0)
    expect(setKey(process, a, TLS_TX)).toBe(-ERRNO.ENOENT)
    expect(setKey(process, a, TLS_RX)).toBe(-ERRNO.ENOENT)
    expect(send(process, a, Uint8Array.of(1, 2, 3))).toBe(3)
    expect(recv(process, b, 10).data).toBe('010203')
    sysClose(process, a)
    sysClose(process, b)
    kernel.exit(process)
    auditKernel(kernel)
  })

  it('the n-th allocation fails, for every n: the call says so, nothing is lost and nothing leaks', () => {
    let failures = 0
    for (let n = 1; ; n += 1) {
      const kernel = boot(profile)
      trackSteps(kernel)
      const process = kernel.spawn()
      process.buffer('send', ROOM)
      process.buffer('recv', ROOM)
      const pair = connect(process)
      if (typeof pair === 'number') throw new Error('no connection')
      kernel.mem.fault = failNth(n)
      const failed = exchange(process, pair)
      const calls = kernel.mem.fault.calls
      kernel.mem.fault = failNever()
      auditKernel(kernel)
      // What failed for want of memory works when there is some.
      if (failed) finish(process, pair)
      for (const fd of pair) sysClose(process, fd)
      kernel.exit(process)
      auditKernel(kernel)
      assertQuiescent(kernel)
      if (failed) failures += 1
      if (n > calls) break
    }
    expect(failures).toBeGreaterThan(3)
  }, 60_000)
})

/** Keys, then records of all ways to send and receive. @returns whether any call said that memory was short. */
function exchange(process: Process, [tx, rx]: readonly [number, number]): boolean {
  const short = (ret: number): boolean => ret < 0 && ret !== -ERRNO.EAGAIN
  if (short(attach(process, tx)) || short(attach(process, rx))) return true
  if (short(setKey(process, tx, TLS_TX)) || short(setKey(process, rx, TLS_RX))) return true
  const wants = [40, 20000, 100]
  let less = false
  for (const [i, size] of wants.entries())
    less ||= send(process, tx, new Uint8Array(size).fill(i), i === 0 ? MSG_MORE : 0) !== size
  for (const [len, flags] of [
    [10, 0],
    [30, MSG_PEEK],
    [ROOM, 0],
  ] as const)
    less ||= recv(process, rx, len, flags).ret !== Math.min(len, 20140 - (flags === 0 && len === ROOM ? 10 : 0))
  return less
}

/** The rest of an exchange that was cut short: it must be possible to go on, unless the connection is over. */
function finish(process: Process, [tx, rx]: readonly [number, number]): void {
  for (const [fd, opt] of [
    [tx, TLS_TX],
    [rx, TLS_RX],
  ] as const) {
    const ret = attach(process, fd)
    expect([0, -ERRNO.EEXIST]).toContain(ret)
    expect([0, -ERRNO.EBUSY]).toContain(setKey(process, fd, opt))
  }
  const sent = send(process, tx, Uint8Array.of(1, 2, 3))
  expect([3, -ERRNO.EBADMSG]).toContain(sent)
  for (let i = 0; i < 20; i += 1) recv(process, rx, ROOM)
  expect(sysPoll(process, rx)).toBeGreaterThanOrEqual(0)
}

describe('what 6.14 and later do', () => {
  it('a TLS 1.3 direction takes a new key; TLS 1.2 and older kernels say EBUSY', () => {
    for (const [profile, tls13, want] of [
      ['linux-6.18-x86_64', true, 0],
      ['linux-6.18-x86_64', false, -ERRNO.EBUSY],
      ['linux-6.1-x86_64', true, -ERRNO.EBUSY],
    ] as const) {
      const kernel = boot(profile)
      const process = kernel.spawn()
      const [tx, rx] = tlsPair(process, tls13)
      expect(setKey(process, tx, TLS_TX, tls13, 8)).toBe(want)
      expect(kernel.initNet.ns.counter('Tls.TlsTxRekeyError')).toBe(profile.includes('6.18') && !tls13 ? 1 : 0)
      if (want === 0) {
        expect(setKey(process, rx, TLS_RX, tls13, 8)).toBe(0)
        expect(send(process, tx, Uint8Array.of(5))).toBe(1)
        expect(recv(process, rx, 10).data).toBe('05')
        expect(setKey(process, tx, TLS_TX, false, 8)).toBe(-ERRNO.EINVAL)
      }
      for (const fd of [tx, rx]) sysClose(process, fd)
      kernel.exit(process)
      auditKernel(kernel)
    }
  })
})
