/** Options that every socket has: limits, doublings, rights, the order of refusals, and what reading them tells. */
import { describe, expect, it } from 'vitest'
import {
  OptVal,
  SK_MEMINFO_NAMES,
  SK_MEMINFO_VARS,
  SO,
  type Sock,
  skMeminfo,
  sockGetsockopt,
  sockSetsockopt,
} from './index.js'
import { type TestSockets, testSock, testSockets } from './testing.js'

const EPERM = -1
const EINVAL = -22
const ENOPROTOOPT = -92
const ENOTSUP = -95

function set(t: TestSockets, sk: Sock, opt: number, int: number, len = 4): number {
  const val = new OptVal()
  val.int = int
  val.len = len
  val.words[0] = int
  return sockSetsockopt(t.cpu, t.task, sk, opt, val)
}

function get(t: TestSockets, sk: Sock, opt: number): number {
  const val = new OptVal()
  const err = sockGetsockopt(t.cpu, sk, opt, val)
  return err < 0 ? err : val.int
}

describe.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('buffer sizes on %s', (profile) => {
  it.each([
    [SO.SO_SNDBUF, 0, 4608],
    [SO.SO_SNDBUF, 2304, 4608],
    [SO.SO_SNDBUF, 2305, 4610],
    [SO.SO_SNDBUF, 212992, 425984],
    [SO.SO_SNDBUF, 1e9, 425984],
    [SO.SO_SNDBUF, -1, 425984],
    [SO.SO_RCVBUF, 0, 2304],
    [SO.SO_RCVBUF, 1152, 2304],
    [SO.SO_RCVBUF, 5000, 10000],
    [SO.SO_RCVBUF, -1, 425984],
    [SO.SO_SNDBUFFORCE, 1e9, 2e9],
    [SO.SO_SNDBUFFORCE, 0x7fffffff, 0x7ffffffe],
    [SO.SO_SNDBUFFORCE, -1, 4608],
    [SO.SO_RCVBUFFORCE, 1e9, 2e9],
    [SO.SO_RCVBUFFORCE, -1, 2304],
  ])('option %i set to %i reads %i', (opt, value, expected) => {
    const t = testSockets({ profile })
    t.env.rmemMax[0] = 212992
    t.env.wmemMax[0] = 212992
    const sk = testSock(t, t.dgram)
    expect(set(t, sk, opt, value)).toBe(0)
    expect(get(t, sk, opt === SO.SO_SNDBUF || opt === SO.SO_SNDBUFFORCE ? SO.SO_SNDBUF : SO.SO_RCVBUF)).toBe(expected)
  })

  it('start at the defaults of sysctl and are locked once set', () => {
    const t = testSockets({ profile })
    t.env.rmemDefault[0] = 50_000
    t.env.wmemDefault[0] = 60_000
    const sk = testSock(t, t.dgram)
    expect([sk.rcvbuf, sk.sndbuf, get(t, sk, SO.SO_BUF_LOCK)]).toEqual([50_000, 60_000, 0])
    set(t, sk, SO.SO_RCVBUF, 1000)
    expect(get(t, sk, SO.SO_BUF_LOCK)).toBe(2)
    set(t, sk, SO.SO_SNDBUF, 1000)
    expect(get(t, sk, SO.SO_BUF_LOCK)).toBe(3)
    expect(set(t, sk, SO.SO_BUF_LOCK, 4)).toBe(EINVAL)
    expect(set(t, sk, SO.SO_BUF_LOCK, 0)).toBe(0)
    expect(get(t, sk, SO.SO_BUF_LOCK)).toBe(0)
  })
})

describe('rights and refusals', () => {
  it('forcing a buffer, debugging, marks and high priorities need the right to administer', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    t.task.caps = 0
    expect(set(t, sk, SO.SO_RCVBUFFORCE, 1)).toBe(EPERM)
    expect(set(t, sk, SO.SO_SNDBUFFORCE, 1)).toBe(EPERM)
    expect(set(t, sk, SO.SO_MARK, 1)).toBe(EPERM)
    expect(set(t, sk, SO.SO_DEBUG, 1)).toBe(-13)
    expect(set(t, sk, SO.SO_PRIORITY, 7)).toBe(EPERM)
    expect(set(t, sk, SO.SO_PRIORITY, 6)).toBe(0)
  })

  it('a value shorter than a number is invalid, an unknown option unknown', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    expect(set(t, sk, SO.SO_RCVBUF, 1, 3)).toBe(EINVAL)
    expect(set(t, sk, 999, 1)).toBe(ENOPROTOOPT)
    expect(set(t, sk, SO.SO_TYPE, 1)).toBe(ENOPROTOOPT)
    expect(get(t, sk, 999)).toBe(ENOPROTOOPT)
    expect(set(t, sk, SO.SO_ZEROCOPY, 1)).toBe(-95)
    expect(set(t, sk, SO.SO_RESERVE_MEM, -1)).toBe(EINVAL)
    expect(set(t, sk, SO.SO_LINGER, 1, 4)).toBe(EINVAL)
    expect(set(t, sk, SO.SO_BUSY_POLL, -1)).toBe(EINVAL)
    expect(set(t, sk, SO.SO_BUSY_POLL_BUDGET, 0x10000)).toBe(EINVAL)
    expect(get(t, sk, SO.SO_PEEK_OFF)).toBe(ENOTSUP)
  })

  it('SO_TXREHASH is for TCP alone on 6.18 and for everybody on 6.1', () => {
    for (const [profile, err] of [
      ['linux-6.18-x86_64', ENOTSUP],
      ['linux-6.1-x86_64', 0],
    ] as const) {
      const t = testSockets({ profile })
      expect(set(t, testSock(t, t.dgram), SO.SO_TXREHASH, 1)).toBe(err)
    }
  })

  it.each([
    'SO_REUSEADDR',
    'SO_DONTROUTE',
    'SO_BROADCAST',
    'SO_OOBINLINE',
    'SO_NO_CHECK',
    'SO_TIMESTAMP',
    'SO_RXQ_OVFL',
    'SO_KEEPALIVE',
    'SO_SELECT_ERR_QUEUE',
    'SO_NOFCS',
  ] as const)('%s is off, on for any number but 0, and off again', (name) => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const seen = [get(t, sk, SO[name])]
    for (const value of [7, 0]) {
      expect(set(t, sk, SO[name], value)).toBe(0)
      seen.push(get(t, sk, SO[name]))
    }
    expect(seen).toEqual([0, 1, 0])
  })

  it.each([
    ['SO_PRIORITY', 3],
    ['SO_MARK', 99],
    ['SO_RCVLOWAT', 17],
    ['SO_BUSY_POLL', 50],
    ['SO_BUSY_POLL_BUDGET', 8],
    ['SO_INCOMING_CPU', 1],
    ['SO_MAX_PACING_RATE', 1000],
    ['SO_BINDTOIFINDEX', 4],
  ] as const)('%s reads what was written: %i', (name, value) => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    expect(set(t, sk, SO[name], value)).toBe(0)
    expect(get(t, sk, SO[name])).toBe(value)
  })

  it('SO_ERROR is told once, the soft one after the hard one', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.err = 111
    sk.errSoft = 113
    expect([1, 2, 3].map(() => get(t, sk, SO.SO_ERROR))).toEqual([111, 113, 0])
  })

  it('a time-out is kept in ticks and read back in seconds and microseconds', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const val = new OptVal()
    val.len = 16
    val.words[0] = 2
    val.words[2] = 500_000
    expect(sockSetsockopt(t.cpu, t.task, sk, SO.SO_RCVTIMEO, val)).toBe(0)
    expect(sk.rcvtimeo).toBe(2.5 * t.profile.HZ)
    val.words.fill(0)
    expect(sockGetsockopt(t.cpu, sk, SO.SO_RCVTIMEO, val)).toBe(0)
    expect([val.words[0], val.words[2]]).toEqual([2, 500_000])
    val.words[2] = 1_000_000
    expect(sockSetsockopt(t.cpu, t.task, sk, SO.SO_RCVTIMEO, val)).toBe(-33)
  })
})

describe('SO_MEMINFO', () => {
  it("gives nine numbers, the sender's without the socket's own unit", () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.rmemAlloc = 1
    sk.rcvbuf = 2
    sk.wmemAlloc = 4
    sk.sndbuf = 4
    sk.forwardAlloc = 5
    sk.wmemQueued = 6
    sk.omemAlloc = 7
    sk.backlogLen = 8
    sk.drops = 9
    expect([...skMeminfo(sk, new Int32Array(SK_MEMINFO_VARS))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(SK_MEMINFO_NAMES).toHaveLength(SK_MEMINFO_VARS)
    const val = new OptVal()
    val.len = 100
    expect(sockGetsockopt(t.cpu, sk, SO.SO_MEMINFO, val)).toBe(0)
    expect([val.len, ...val.words.slice(0, 9)]).toEqual([36, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })
})
