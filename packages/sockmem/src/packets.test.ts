/** Packets and who pays for them: sending, receiving, the backlog, the error queue, and the end of a socket. */
import { failNth, trackAllocations } from '@netmem/memory'
import { assertNoLeaks, auditMemory } from '@netmem/memory/testing'
import { PageFrag } from '@netmem/page-frag'
import { allocSkb, consumeSkb, kfreeSkb, type SkBuff, skbClone, skbPut, skbQueuePurge } from '@netmem/skbuff'
import { assertSkbsQuiescent, auditSkbs } from '@netmem/skbuff/testing'
import { describe, expect, it } from 'vitest'
import {
  datagramPoll,
  EPOLLERR,
  EPOLLIN,
  EPOLLOUT,
  GRACE_PERIOD_NS,
  lockSock,
  MSG_PEEK,
  Proto,
  protoRegister,
  queueRcvDropReason,
  releaseSock,
  SEND_SHUTDOWN,
  SK_MEM_QUANTUM,
  SO_EE_ORIGIN_ICMP,
  SO_EE_ORIGIN_TIMESTAMPING,
  SOCKF_RCU_FREE,
  SOCKF_RXQ_OVFL,
  type Sock,
  SockExtendedErr,
  setSkbExtErr,
  skAddBacklog,
  skbExtErr,
  skbKillDatagram,
  skbRecvDatagram,
  skbSetOwnerW,
  skMemReclaimFinal,
  skStreamAllocSkb,
  skTxSkbCache,
  sockAllocSendPskb,
  sockAllocSendSkb,
  sockAllocSocket,
  sockDequeueErrSkb,
  sockOmalloc,
  sockOrphan,
  sockPageFragRefill,
  sockPut,
  sockQueueErrSkb,
  sockQueueRcvSkb,
  sockWmalloc,
} from './index.js'
import { auditSocks, type TestSockets, testSock, testSockets } from './testing.js'

const EPIPE = -32
const EAGAIN = -11
const ENOMEM = -12
const ENOBUFS = -105

function packet(t: TestSockets, bytes: number): SkBuff {
  const skb = allocSkb(t.skbs, t.cpu, bytes, t.mem.gfp.GFP_KERNEL, 0, -1)!
  skbPut(skb, bytes)
  return skb
}

// Failing assertions print what they compare, and a socket leads to everything: tests compare truths about it.
const alive = (t: TestSockets, sk: Sock): boolean => t.env.socks[sk.id] === sk

function audit(t: TestSockets): void {
  auditSocks(t.env)
  auditSkbs(t.skbs)
  auditMemory(t.mem)
}

/** Puts away a socket of the test protocols as their `close` would, and proves that nothing is left of it. */
function end(t: TestSockets, ...socks: Sock[]): void {
  for (const sk of socks) {
    sk.destruct = (cpu, dying) => {
      skbQueuePurge(cpu, dying.receiveQueue, 'QUEUE_PURGE')
      skbQueuePurge(cpu, dying.errorQueue, 'QUEUE_PURGE')
      skMemReclaimFinal(cpu, dying)
    }
    sockPut(t.cpu, sk)
  }
  t.clock.runUntil(t.clock.nowNs + 2 * GRACE_PERIOD_NS)
  audit(t)
  expect(t.env.socks.filter((sk) => sk !== null).length).toBe(0)
  assertSkbsQuiescent(t.skbs)
}

describe('sending', () => {
  it('asks for room before it takes memory, so that the last packet goes over', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.sndbuf = 5000
    const sent: SkBuff[] = []
    for (let skb = sockAllocSendSkb(t.cpu, sk, 1000); skb !== null; skb = sockAllocSendSkb(t.cpu, sk, 1000))
      sent.push(skb)
    expect([sent.length, sk.wmemAlloc - 1, t.env.lastError]).toEqual([3, 3 * 2304, EAGAIN])
    audit(t)
    for (const skb of sent) consumeSkb(t.cpu, skb, 'test')
    end(t, sk)
  })

  it('answers with the waiting error, then with the end of sending', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.err = 111
    sk.shutdown = SEND_SHUTDOWN
    expect([sockAllocSendSkb(t.cpu, sk, 10) === null, t.env.lastError]).toEqual([true, -111])
    expect([sockAllocSendSkb(t.cpu, sk, 10) === null, t.env.lastError]).toEqual([true, EPIPE])
    end(t, sk)
  })

  it('wakes the writer when a packet is freed, and once half of the buffer is free says so', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sockAllocSocket(t.cpu, sk)
    sk.sndbuf = 8 * 2304
    const woken: number[] = []
    t.env.wake = (_cpu, _sk, events) => woken.push(events & EPOLLOUT)
    const sent = Array.from({ length: 8 }, () => sockAllocSendSkb(t.cpu, sk, 1000)!)
    expect(datagramPoll(sk) & EPOLLOUT).toBe(0)
    for (const skb of sent.splice(0, 4)) consumeSkb(t.cpu, skb, 'test')
    expect([woken.length, datagramPoll(sk) & EPOLLOUT]).toEqual([0, 0])
    consumeSkb(t.cpu, sent.pop()!, 'test')
    expect([woken.length, datagramPoll(sk) & EPOLLOUT]).toEqual([1, EPOLLOUT])
    for (const skb of sent) consumeSkb(t.cpu, skb, 'test')
    sockOrphan(t.cpu, sk)
    end(t, sk)
  })

  it('keeps a closed socket until its last packet is gone', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const [a, b] = [sockWmalloc(t.cpu, sk, 100, false, t.mem.gfp.GFP_KERNEL)!, sockAllocSendSkb(t.cpu, sk, 100)!]
    sockPut(t.cpu, sk)
    expect(alive(t, sk)).toBe(true)
    audit(t)
    consumeSkb(t.cpu, a, 'test')
    expect(alive(t, sk)).toBe(true)
    consumeSkb(t.cpu, b, 'test')
    expect(alive(t, sk)).toBe(false)
    end(t)
  })

  it('leaves the charge with the first of two owners when ownership moves, and with none for a clone', () => {
    const t = testSockets()
    const [a, b] = [testSock(t, t.dgram), testSock(t, t.dgram)]
    const skb = packet(t, 100)
    skbSetOwnerW(t.cpu, skb, a)
    const clone = skbClone(t.cpu, skb, t.mem.gfp.GFP_KERNEL)!
    skbSetOwnerW(t.cpu, skb, b)
    expect([a.wmemAlloc, b.wmemAlloc]).toEqual([1, 1 + skb.truesize])
    consumeSkb(t.cpu, skb, 'test')
    consumeSkb(t.cpu, clone, 'test')
    expect(b.wmemAlloc).toBe(1)
    end(t, a, b)
  })

  it.each([
    [200, 0],
    [200, 60_000],
  ])('with %i + %i bytes survives each allocation that fails', (linear, paged) => {
    for (let n = 1; ; n += 1) {
      const t = testSockets()
      const sk = testSock(t, t.dgram)
      const fault = failNth(n)
      t.mem.fault = fault
      const skb = sockAllocSendPskb(t.cpu, sk, linear, paged, 0)
      t.mem.fault = null
      if (fault.failed === 0) {
        expect(n).toBeGreaterThan(paged === 0 ? 2 : 15)
        consumeSkb(t.cpu, skb!, 'test')
        end(t, sk)
        return
      }
      if (skb === null) expect([t.env.lastError, sk.wmemAlloc]).toEqual([ENOBUFS, 1])
      else consumeSkb(t.cpu, skb, 'test')
      end(t, sk)
    }
  })

  it('gives a stream a buffer with room for headers, charged to nobody yet, or shrinks its send buffer', () => {
    const t = testSockets()
    const sk = testSock(t, t.stream)
    const skb = skStreamAllocSkb(t.cpu, sk, t.mem.gfp.GFP_KERNEL, false)!
    expect([skb.truesize, sk.forwardAlloc, sk.wmemQueued]).toEqual([832, 4096, 0])
    consumeSkb(t.cpu, skb, 'test')
    sk.wmemQueued = 20_000
    sk.sndbuf = 100_000
    t.mem.fault = failNth(1)
    expect(skStreamAllocSkb(t.cpu, sk, t.mem.gfp.GFP_KERNEL, false) === null).toBe(true)
    t.mem.fault = null
    expect([sk.sndbuf, t.stream.pressure!.jiffies !== 0]).toEqual([10_000, true])
    sk.wmemQueued = 0
    end(t, sk)
  })

  it('has no page for a stream when there is none: pressure and a smaller buffer', () => {
    const t = testSockets()
    const sk = testSock(t, t.stream)
    sk.wmemQueued = 20_000
    sk.sndbuf = 100_000
    const frag = new PageFrag()
    t.mem.fault = failNth(1).byKind('page')
    expect(sockPageFragRefill(t.cpu, sk, frag)).toBe(true)
    expect([frag.size, sk.sndbuf]).toEqual([4096, 100_000])
    sk.wmemQueued = 0
    end(t, sk)
  })
})

describe('receiving', () => {
  it('takes packets while it holds less than its buffer, then drops and says why', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.rcvbuf = 5000
    const full: number[] = []
    t.trace.sockRcvqueueFull = (_cpu, _id, rmem, truesize, rcvbuf) => full.push(rmem, truesize, rcvbuf)
    const errs = Array.from({ length: 4 }, () => {
      const skb = packet(t, 1000)
      const err = sockQueueRcvSkb(t.cpu, sk, skb)
      if (err !== 0) kfreeSkb(t.cpu, skb, queueRcvDropReason(err), 'test')
      return err
    })
    expect(errs).toEqual([0, 0, 0, ENOMEM])
    expect([sk.rmemAlloc, sk.drops, sk.forwardAlloc]).toEqual([6912, 1, 1280])
    expect(full).toEqual([6912, 2304, 5000])
    audit(t)
    end(t, sk)
  })

  it('is refused by the protocol with another error', () => {
    const t = testSockets({ limits: [0, 0, 0] })
    t.env.memPcpuRsv[0] = 1
    const sk = testSock(t, t.dgram)
    const skb = packet(t, 1000)
    expect(sockQueueRcvSkb(t.cpu, sk, skb)).toBe(ENOBUFS)
    expect(queueRcvDropReason(ENOBUFS)).toBe('PROTO_MEM')
    kfreeSkb(t.cpu, skb, 'PROTO_MEM', 'test')
    end(t, sk)
  })

  it('peeks without taking, skips what a peek offset has passed, and gives the memory back at the read', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    for (const bytes of [100, 200, 300]) sockQueueRcvSkb(t.cpu, sk, packet(t, bytes))
    const off = { offset: 150 }
    const peeked = skbRecvDatagram(sk, MSG_PEEK, off)!
    expect([peeked.len, off.offset, sk.receiveQueue.qlen]).toEqual([200, 50, 3])
    consumeSkb(t.cpu, peeked, 'test')
    const read = skbRecvDatagram(sk, 0, { offset: -1 })!
    expect([read.len, sk.receiveQueue.qlen]).toEqual([100, 2])
    consumeSkb(t.cpu, read, 'test')
    audit(t)
    const bad = skbRecvDatagram(sk, MSG_PEEK, { offset: -1 })!
    expect(skbKillDatagram(t.cpu, sk, bad, MSG_PEEK)).toBe(0)
    expect([sk.receiveQueue.qlen, sk.drops]).toEqual([1, 1])
    const last = skbRecvDatagram(sk, 0, { offset: -1 })!
    consumeSkb(t.cpu, last, 'test')
    expect([skbRecvDatagram(sk, 0, { offset: -1 }) === null, t.env.lastError]).toEqual([true, EAGAIN])
    end(t, sk)
  })

  it('tells with each packet how many were dropped before it, once asked to', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.drops = 5
    sockQueueRcvSkb(t.cpu, sk, packet(t, 10))
    sk.flags |= SOCKF_RXQ_OVFL
    sockQueueRcvSkb(t.cpu, sk, packet(t, 10))
    const { skbs } = t.skbs
    expect([skbs[sk.receiveQueue.first]!.cb11, skbs[sk.receiveQueue.last]!.cb11]).toEqual([0, 5])
    end(t, sk)
  })
})

describe('the backlog', () => {
  function backlogged(t: TestSockets): { sk: Sock; seen: number[] } {
    const seen: number[] = []
    const proto = new Proto({ name: 'TESTBACKLOG', objSize: 512 })
    proto.backlogRcv = (cpu, sk, skb) => {
      seen.push(skb.len)
      // One more arrives while the backlog is worked off.
      if (skb.len === 2) skAddBacklog(sk, packet(t, 9), 1e6)
      consumeSkb(cpu, skb, 'test')
    }
    proto.releaseCb = () => seen.push(-1)
    protoRegister(t.env, proto)
    return { sk: testSock(t, proto), seen }
  }

  it('is worked off in order when the user lets go, with what arrives meanwhile, then deferred work', () => {
    const t = testSockets()
    const { sk, seen } = backlogged(t)
    lockSock(sk)
    for (const bytes of [1, 2, 3]) expect(skAddBacklog(sk, packet(t, bytes), 1e6)).toBe(0)
    expect(sk.backlogLen).toBe(3 * 832)
    releaseSock(t.cpu, sk)
    expect(seen).toEqual([1, 2, 3, 9, -1])
    expect([sk.backlogLen, sk.owned]).toEqual([0, 0])
    end(t, sk)
  })

  it('counts both queues against its limit, which is asked before the packet is added', () => {
    const t = testSockets()
    const { sk } = backlogged(t)
    lockSock(sk)
    sk.rmemAlloc = 500
    expect(skAddBacklog(sk, packet(t, 1), 500)).toBe(0)
    const refused = packet(t, 1)
    expect(skAddBacklog(sk, refused, 1331)).toBe(ENOBUFS)
    kfreeSkb(t.cpu, refused, 'SOCKET_BACKLOG', 'test')
    sk.rmemAlloc = 0
    releaseSock(t.cpu, sk)
    end(t, sk)
  })
})

describe('the error queue', () => {
  it('keeps what an entry tells, charges the receive buffer and not the protocol', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const skb = packet(t, 100)
    setSkbExtErr(skb, 111, SO_EE_ORIGIN_ICMP, 3, 2, 0xfffffff0, 7)
    expect(sockQueueErrSkb(t.cpu, sk, skb)).toBe(0)
    expect([sk.rmemAlloc, sk.forwardAlloc, datagramPoll(sk) & (EPOLLERR | EPOLLIN)]).toEqual([832, 0, EPOLLERR])
    audit(t)
    const entry = new SockExtendedErr()
    skbExtErr(skb, entry)
    expect({ ...entry }).toMatchObject({
      eeErrno: 111,
      eeOrigin: SO_EE_ORIGIN_ICMP,
      eeType: 3,
      eeCode: 2,
      eeInfo: 0xfffffff0,
      eeData: 7,
    })
    consumeSkb(t.cpu, sockDequeueErrSkb(t.cpu, sk)!, 'test')
    expect(sk.rmemAlloc).toBe(0)
    end(t, sk)
  })

  it('makes the ICMP error behind the one taken the error of the socket, and clears it after the last', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    for (const [errno, origin] of [
      [111, SO_EE_ORIGIN_ICMP],
      [113, SO_EE_ORIGIN_ICMP],
      [42, SO_EE_ORIGIN_TIMESTAMPING],
    ] as const) {
      const skb = packet(t, 10)
      setSkbExtErr(skb, errno, origin, 0, 0, 0, 0)
      sockQueueErrSkb(t.cpu, sk, skb)
    }
    sk.err = 111
    const errs = [1, 2, 3].map(() => {
      consumeSkb(t.cpu, sockDequeueErrSkb(t.cpu, sk)!, 'test')
      return sk.err
    })
    expect(errs).toEqual([113, 0, 0])
    expect(sockDequeueErrSkb(t.cpu, sk) === null).toBe(true)
    end(t, sk)
  })

  it('has no room beyond the receive buffer', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.rcvbuf = 832
    const skb = packet(t, 10)
    expect(sockQueueErrSkb(t.cpu, sk, skb)).toBe(ENOMEM)
    kfreeSkb(t.cpu, skb, 'NOT_SPECIFIED', 'test')
    end(t, sk)
  })
})

describe('the end of a socket', () => {
  it('comes after a grace period where others may still look it up', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.flags |= SOCKF_RCU_FREE
    sockPut(t.cpu, sk)
    expect([alive(t, sk), t.env.rcu.pending]).toEqual([true, 1])
    t.clock.runUntil(t.clock.nowNs + GRACE_PERIOD_NS)
    expect([alive(t, sk), t.env.rcu.pending]).toEqual([false, 0])
    expect(testSock(t, t.dgram).id).toBe(sk.id)
  })

  it('gives option memory that packets hold back first', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const skb = sockOmalloc(t.cpu, sk, 0, t.mem.gfp.GFP_KERNEL)!
    expect(sk.omemAlloc).toBe(skb.truesize)
    consumeSkb(t.cpu, skb, 'test')
    expect(sk.omemAlloc).toBe(0)
    const warned: string[] = []
    t.trace.warn = (where) => warned.push(where)
    sk.omemAlloc = 5
    sockPut(t.cpu, sk)
    expect(warned).toEqual(['__sk_destruct'])
  })

  it('leaves no memory behind', () => {
    const t = testSockets()
    trackAllocations(t.mem)
    const sk = testSock(t, t.stream)
    sockAllocSocket(t.cpu, sk)
    sockQueueRcvSkb(t.cpu, sk, packet(t, 5000))
    sockOrphan(t.cpu, sk)
    end(t, sk)
    assertNoLeaks(t.mem)
  })
})

describe('names that are gone', () => {
  it('say what took their place', () => {
    expect(() => SK_MEM_QUANTUM()).toThrow('gone since 6.0')
    expect(() => skTxSkbCache()).toThrow('gone since 5.16')
  })
})
