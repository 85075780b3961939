import { Cpu, ERRNO, EventQueue, kernelProfile, Trace } from '@netmem/base'
import { failNth, iovIterInit, memoryCreate, userAlloc, userFree } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { pagePoolsInit } from '@netmem/page-pool'
import { skbInit } from '@netmem/skbuff'
import { auditSkbs } from '@netmem/skbuff/testing'
import {
  MSG_PEEK,
  MSG_TRUNC,
  Msg,
  SIOCINQ,
  SIOCOUTQ,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  type Sock,
  SockAddr,
  Sysctls,
  sockCreate,
  sockEnvCreate,
  sockSocketpair,
  Task,
} from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { unixInit } from './unix-ops.js'

const AF_UNIX = 1
const BYTES = 1 << 19

function machine(name = 'linux-6.18-x86_64') {
  const profile = kernelProfile(name)
  const trace = new Trace()
  const clock = new EventQueue()
  const cpus = [new Cpu(0, 0), new Cpu(1, 0)]
  const cpu = cpus[0]!
  const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 2, trace })
  const pagePools = pagePoolsInit({ mem, profile, trace, events: clock, cpus })
  const sysctl = { skbDeferMax: () => 64, maxSkbFrags: () => 17 }
  const skbs = skbInit({ mem, pagePools, cpus: 2, nodes: 1, trace, profile, sysctl })
  const socks = sockEnvCreate({ mem, skbs, cpus, clock, trace, profile, sysctls: new Sysctls(profile) })
  unixInit(socks)
  const task = new Task(1, cpu, socks.initNet)
  const user = userAlloc(mem, cpu, BYTES)!
  const msg = new Msg()
  const sk = (id: number): Sock => {
    if (id <= 0) throw new Error(`no socket: ${id}`)
    return socks.socks[id]!
  }
  return {
    socks,
    mem,
    cpu,
    skbs,
    clock,
    sk,
    create: (type: number) => sk(sockCreate(socks, cpu, task, AF_UNIX, type, 0)),
    pair(type: number): [Sock, Sock] {
      const out = new Int32Array(2)
      const err = sockSocketpair(socks, cpu, task, type, 0, out)
      if (err < 0) throw new Error(`socketpair: ${err}`)
      return [sk(out[0]!), sk(out[1]!)]
    },
    /** Sends `len` bytes that count up from `first`. */
    send(s: Sock, len: number, first = 0, to = ''): number {
      for (let i = 0; i < len; i++) mem.u8[(user.pfns[i >> 12]! << 12) + (i & 4095)] = first + i
      msg.reset(0)
      iovIterInit(msg.iter, user, 0, len)
      if (to !== '') {
        msg.name.family = AF_UNIX
        msg.name.path = to
      }
      return s.ops.sendmsg(cpu, task, s, msg, len)
    },
    recv(s: Sock, len: number, flags = 0): number {
      msg.reset(flags)
      iovIterInit(msg.iter, user, 0, len)
      return s.ops.recvmsg(cpu, task, s, msg, len, flags)
    },
    byte: (i: number) => mem.u8[(user.pfns[i >> 12]! << 12) + (i & 4095)]!,
    addr(path: string): SockAddr {
      const addr = new SockAddr()
      addr.family = AF_UNIX
      addr.path = path
      return addr
    },
    task,
    close: (s: Sock) => s.ops.release(cpu, task, s),
    audit() {
      auditSkbs(skbs)
      auditMemory(mem)
    },
    /** Everything closed: nothing may be left but what the boot made. */
    end() {
      clock.runUntil(clock.nowNs + 1e9)
      expect(socks.socks.filter((s) => s != null)).toEqual([])
      userFree(mem, cpu, user)
      this.audit()
    },
  }
}

describe.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('AF_UNIX on %s', (profile) => {
  it('charges the sender until the reader has taken the last byte of a buffer', () => {
    const m = machine(profile)
    const [a, b] = m.pair(SOCK_STREAM)
    expect(m.send(a, 1000, 7)).toBe(1000)
    expect([a.wmemAlloc - 1, b.rmemAlloc, b.ops.ioctl(m.cpu, m.task, b, SIOCINQ)]).toEqual([2304, 0, 1000])
    expect(m.recv(b, 400)).toBe(400)
    expect([m.byte(0), m.byte(399)]).toEqual([7, (7 + 399) & 255])
    expect(a.ops.ioctl(m.cpu, m.task, a, SIOCOUTQ)).toBe(2304)
    expect(m.recv(b, 4000)).toBe(600)
    expect(m.byte(0)).toBe((7 + 400) & 255)
    expect(a.wmemAlloc).toBe(1)
    expect(m.recv(b, 1)).toBe(-ERRNO.EAGAIN)
    m.close(a)
    expect(m.recv(b, 1)).toBe(0)
    m.close(b)
    m.end()
  })

  it('cuts a large stream write into buffers of a page of head and 32 KiB of pages', () => {
    const m = machine(profile)
    const [a, b] = m.pair(SOCK_STREAM)
    expect(m.send(a, 100_000, 3)).toBe(100_000)
    expect(b.receiveQueue.qlen).toBe(3)
    m.audit()
    expect(m.recv(b, 100_000, MSG_PEEK)).toBe(100_000)
    expect(b.receiveQueue.qlen).toBe(3)
    expect(m.recv(b, 100_000)).toBe(100_000)
    for (let i = 0; i < 100_000; i += 997) expect(m.byte(i)).toBe((3 + i) & 255)
    m.close(b)
    expect(m.send(a, 1)).toBe(-ERRNO.EPIPE)
    m.close(a)
    m.end()
  })

  it('stops a stream that is full, and tells a writer whose bytes were never read', () => {
    const m = machine(profile)
    const [a, b] = m.pair(SOCK_STREAM)
    let total = 0
    for (let sent = m.send(a, 100_000); sent > 0; sent = m.send(a, 100_000)) total += sent
    expect(total).toBe(236_544)
    expect(a.wmemAlloc - 1).toBe(243_456)
    m.close(b)
    expect([a.err, a.wmemAlloc]).toEqual([ERRNO.ECONNRESET, 1])
    m.close(a)
    m.end()
  })

  it('keeps datagrams whole, truncates what does not fit, and refuses more than the send buffer', () => {
    const m = machine(profile)
    const [a, b] = m.pair(SOCK_DGRAM)
    expect(m.send(a, 100)).toBe(100)
    expect(m.send(a, 50)).toBe(50)
    expect(b.ops.ioctl(m.cpu, m.task, b, SIOCINQ)).toBe(100)
    expect(m.recv(b, 10, MSG_TRUNC | MSG_PEEK)).toBe(100)
    expect(m.recv(b, 10)).toBe(10)
    expect(m.recv(b, 100)).toBe(50)
    expect(m.send(a, a.sndbuf - 32)).toBe(a.sndbuf - 32)
    expect(m.send(a, a.sndbuf - 31)).toBe(-ERRNO.EMSGSIZE)
    m.close(b)
    expect(m.send(a, 1)).toBe(-ERRNO.ECONNREFUSED)
    expect(m.send(a, 1)).toBe(-ERRNO.ENOTCONN)
    m.close(a)
    m.end()
  })

  it('limits datagrams to a named receiver by max_dgram_qlen, and not those between peers', () => {
    const m = machine(profile)
    const rx = m.create(SOCK_DGRAM)
    const tx = m.create(SOCK_DGRAM)
    expect(rx.ops.bind(m.cpu, m.task, rx, m.addr('\0rx'))).toBe(0)
    expect(tx.ops.bind(m.cpu, m.task, tx, m.addr('\0rx'))).toBe(-ERRNO.EADDRINUSE)
    let sent = 0
    while (m.send(tx, 1, 0, '\0rx') === 1) sent++
    // One more than the limit fits, as the test is on what waits already.
    expect(sent).toBe(11)
    expect(m.send(tx, 1, 0, '\0nobody')).toBe(-ERRNO.ECONNREFUSED)
    m.close(tx)
    m.close(rx)
    m.end()
  })

  it('connects streams and sequenced packets through a listener, and drops who was never accepted', () => {
    const m = machine(profile)
    for (const type of [SOCK_STREAM, SOCK_SEQPACKET]) {
      const listener = m.create(type)
      const client = m.create(type)
      const late = m.create(type)
      expect(client.ops.connect(m.cpu, m.task, client, m.addr('/run/x'), 0)).toBe(-ERRNO.ECONNREFUSED)
      expect(listener.ops.bind(m.cpu, m.task, listener, m.addr('/run/x'))).toBe(0)
      expect(listener.ops.listen(m.cpu, m.task, listener, 1)).toBe(0)
      expect(client.ops.connect(m.cpu, m.task, client, m.addr('/run/x'), 0)).toBe(0)
      expect(late.ops.connect(m.cpu, m.task, late, m.addr('/run/x'), 0)).toBe(0)
      const server = m.sk(listener.ops.accept(m.cpu, m.task, listener, 0))
      expect(m.send(client, 300, 9)).toBe(300)
      expect(m.recv(server, 300)).toBe(300)
      expect(m.byte(5)).toBe(14)
      m.close(listener)
      // A sequenced send reports the waiting error first, a stream finds itself shut down.
      expect(m.send(late, 1)).toBe(type === SOCK_STREAM ? -ERRNO.EPIPE : -ERRNO.ECONNRESET)
      for (const s of [client, server, late]) m.close(s)
      m.audit()
    }
    m.end()
  })

  it('survives the failure of every allocation of a pair, a send and a receive', () => {
    for (let nth = 1; nth < 40; nth++) {
      const m = machine(profile)
      m.mem.fault = failNth(nth)
      const open: Sock[] = []
      try {
        open.push(...m.pair(SOCK_STREAM))
      } catch {
        // The pair itself failed: nothing of it may be left.
      }
      if (open.length === 2) {
        m.send(open[0]!, 50_000)
        m.recv(open[1]!, 60_000)
      }
      m.mem.fault = null
      for (const s of open) m.close(s)
      m.end()
    }
  })
})
