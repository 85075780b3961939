/** Fragments put together: any order, duplicates, overlaps, a limit on memory, and the time that they wait. */
import { Prng } from '@netmem/base'
import { failNth } from '@netmem/memory'
import { allocSkb, skbPut, skbReserve } from '@netmem/skbuff'
import { MSG_ERRQUEUE, mibIndex, type Sock } from '@netmem/sockmem'
import { ETH_P_IP, ETH_P_IPV6, localBhEnable, netifReceiveSkb } from '@netmem/virtual-nic'
import { describe, expect, it } from 'vitest'
import { type TestInet, testInet } from '../testing.js'

const SECOND = 1e9
const AF_INET = 2
const AF_INET6 = 10
const KERNELS = ['linux-6.18-x86_64', 'linux-6.1-x86_64']

/** A UDP datagram to be cut up: from port 6000 to port 7000, its checksum right for the loopback address of IPv6. */
function datagram(payload: Uint8Array): Uint8Array {
  const even = (8 + payload.length + 1) & ~1
  const bytes = new Uint8Array(even).subarray(0, 8 + payload.length)
  const dv = new DataView(bytes.buffer)
  dv.setUint16(0, 6000)
  dv.setUint16(2, 7000)
  dv.setUint16(4, bytes.length)
  bytes.set(payload, 8)
  dv.setUint16(6, sum16(dv, 0, even, 1 + 1 + 17 + bytes.length) || 0xffff)
  return bytes
}

function sum16(dv: DataView, at: number, len: number, start = 0): number {
  let sum = start
  for (let i = 0; i < len; i += 2) sum += dv.getUint16(at + i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** One fragment as it comes from a wire: from the loopback address to itself. */
function fragment(family: number, id: number, whole: Uint8Array, from: number, to: number): Uint8Array {
  // Over IPv4 a checksum may be left out.
  if (family === AF_INET) whole.fill(0, 6, 8)
  const hlen = family === AF_INET ? 20 : 48
  const more = to < whole.length
  const bytes = new Uint8Array(hlen + to - from)
  const dv = new DataView(bytes.buffer)
  if (family === AF_INET) {
    bytes[0] = 0x45
    dv.setUint16(2, bytes.length)
    dv.setUint16(4, id)
    dv.setUint16(6, (from >> 3) | (more ? 0x2000 : 0))
    bytes[8] = 64
    bytes[9] = 17
    dv.setUint32(12, 0x7f000001)
    dv.setUint32(16, 0x7f000001)
    dv.setUint16(10, sum16(dv, 0, 20))
  } else {
    bytes[0] = 0x60
    dv.setUint16(4, bytes.length - 40)
    bytes[6] = 44
    bytes[7] = 64
    bytes[23] = 1
    bytes[39] = 1
    bytes[40] = 17
    dv.setUint16(42, from | (more ? 1 : 0))
    dv.setUint32(44, id)
  }
  bytes.set(whole.subarray(from, to), hlen)
  return bytes
}

/** Lets a packet come in at the loopback device. */
function inject(m: TestInet, family: number, bytes: Uint8Array): void {
  const { skbs, mem, env } = m.net
  const skb = allocSkb(skbs, m.cpu, bytes.length + 64, mem.gfp.GFP_ATOMIC, 0, -1)
  if (skb === null) return
  skbReserve(skb, 64)
  mem.u8.set(bytes, skbPut(skb, bytes.length) >>> 0)
  skb.protocol = family === AF_INET ? ETH_P_IP : ETH_P_IPV6
  skb.dev = m.lo.id
  m.cpu.bhDisabled += 1
  m.cpu.servingSoftirq += 1
  netifReceiveSkb(env, m.cpu, skb)
  m.cpu.servingSoftirq -= 1
  localBhEnable(env, m.cpu)
}

/** Fragments of random lengths (multiples of 8), as [from, to]. */
function cuts(rng: Prng, length: number, most: number): [number, number][] {
  const list: [number, number][] = []
  for (let at = 0; at < length; ) {
    const to = Math.min(at + 8 * (1 + rng.below(most / 8)), length)
    list.push([at, to])
    at = to
  }
  return list
}

function shuffle<T>(rng: Prng, list: T[]): T[] {
  for (let i = list.length - 1; i > 0; i -= 1) {
    const j = rng.below(i + 1)
    ;[list[i], list[j]] = [list[j]!, list[i]!]
  }
  return list
}

const text = (bytes: Uint8Array | number): string =>
  typeof bytes === 'number' ? `error ${bytes}` : `${bytes.length}: ${bytes.reduce((h, b) => (h * 31 + b) >>> 0, 7)}`

const stat = (m: TestInet, name: string): number => m.counter(mibIndex(name))

function machine(profile: string, family: number): { m: TestInet; rx: Sock } {
  const m = testInet({ profile })
  const rx = m.udp(7000, family)
  m.setsockopt(rx, 1, 33, 1 << 24)
  return { m, rx }
}

describe.each(KERNELS)('fragments on %s', (profile) => {
  it.each([
    ['IPv4', AF_INET, 1],
    ['IPv4', AF_INET, 2],
    ['IPv4', AF_INET, 3],
    ['IPv6', AF_INET6, 4],
    ['IPv6', AF_INET6, 5],
    ['IPv6', AF_INET6, 6],
  ])(
    'of several %s datagrams at once make them whole, in any order and with duplicates (family %i, seed %i)',
    (_name, family, seed) => {
      const rng = new Prng(seed)
      const { m, rx } = machine(profile, family)
      for (let round = 0; round < 12; round += 1) {
        const wholes = Array.from({ length: 1 + rng.below(3) }, () =>
          datagram(Uint8Array.from({ length: 1 + rng.below(9000) }, () => rng.below(256))),
        )
        const pieces = wholes.flatMap((whole, at) =>
          cuts(rng, whole.length, rng.below(2) === 0 ? 64 : 1480).map((cut) => ({ whole, id: round * 8 + at, cut })),
        )
        const lasts = new Map(
          wholes.map((whole, at) => [round * 8 + at, pieces.filter((p) => p.whole === whole).length]),
        )
        const twice = pieces.filter(() => rng.below(4) === 0)
        for (const { whole, id, cut } of shuffle(rng, [...pieces, ...twice])) {
          // A duplicate that comes after the datagram is whole would begin a queue of its own.
          if (lasts.get(id) === 0) continue
          const before = stat(m, family === AF_INET ? 'Ip.ReasmOKs' : 'Ip6.ReasmOKs')
          inject(m, family, fragment(family, id, whole, cut[0], cut[1]))
          if (stat(m, family === AF_INET ? 'Ip.ReasmOKs' : 'Ip6.ReasmOKs') > before) lasts.set(id, 0)
          m.audit()
        }
        const want = wholes.map((whole) => text(whole.subarray(8))).sort()
        // A datagram of one piece was never a fragment for anybody.
        const got = wholes.map(() => text(m.recv(rx))).sort()
        expect(got, `round ${round}`).toEqual(want)
        expect(m.recv(rx)).toBe(-11)
      }
      const net = m.inet.nets[0]!
      expect([net.frags.mem, net.frags6.mem]).toEqual([0, 0])
      m.close(rx)
      m.end()
    },
  )

  it.each([
    ['IPv4', AF_INET],
    ['IPv6', AF_INET6],
  ])('that overlap take the whole %s datagram with them', (_name, family) => {
    const { m, rx } = machine(profile, family)
    const whole = datagram(new Uint8Array(3000))
    inject(m, family, fragment(family, 1, whole, 0, 1480))
    inject(m, family, fragment(family, 1, whole, 2000, 3008))
    expect(m.inet.nets[0]![family === AF_INET ? 'frags' : 'frags6'].queues).toBe(1)
    inject(m, family, fragment(family, 1, whole, 1472, 2000))
    expect(m.inet.nets[0]![family === AF_INET ? 'frags' : 'frags6'].queues).toBe(0)
    expect(stat(m, family === AF_INET ? 'Ip.ReasmFails' : 'Ip6.ReasmFails')).toBe(1)
    expect(m.recv(rx)).toBe(-11)
    m.close(rx)
    m.end()
  })

  it('that lie within what came in a row are duplicates, those that reach across rows overlap', () => {
    const { m, rx } = machine(profile, AF_INET)
    const whole = datagram(new Uint8Array(4000))
    const drops: string[] = []
    m.net.trace.kfreeSkb = (_cpu, _skb, site) => drops.push(site)
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 0, 800))
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 800, 1600))
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 400, 1200))
    expect(drops).toEqual(['ip_defrag'])
    expect(m.inet.nets[0]!.frags.queues).toBe(1)
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 2400, 4008))
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 1200, 2400))
    expect(m.inet.nets[0]!.frags.queues).toBe(0)
    // The same bytes, but each of the first two began a row of its own.
    const consumed: string[] = []
    m.net.trace.consumeSkb = (_cpu, _skb, site) => consumed.push(site)
    drops.length = 0
    inject(m, AF_INET, fragment(AF_INET, 2, whole, 800, 1600))
    inject(m, AF_INET, fragment(AF_INET, 2, whole, 0, 800))
    inject(m, AF_INET, fragment(AF_INET, 2, whole, 400, 1200))
    expect(m.inet.nets[0]!.frags.queues).toBe(0)
    const purged = ['inet_frag_rbtree_purge', 'inet_frag_rbtree_purge']
    // A whole queue that is thrown away for an overlap counts as consumed since kernels know that word.
    if (profile.includes('6.18')) expect([drops, consumed]).toEqual([['ip_defrag'], purged])
    else expect([drops, consumed]).toEqual([['ip_defrag', ...purged], []])
    m.net.trace.consumeSkb = null
    m.close(rx)
    m.end()
  })

  it('are given up after 30 and 60 seconds, and the sender is told when the first one came', () => {
    const m = testInet({ profile })
    const tx = m.udp(6000)
    m.setsockopt(tx, 0, 11, 1)
    const whole = datagram(new Uint8Array(3000))
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 0, 1480))
    inject(m, AF_INET, fragment(AF_INET, 2, whole, 1480, 2960))
    inject(m, AF_INET6, fragment(AF_INET6, 3, whole, 0, 1480))
    const net = m.inet.nets[0]!
    m.passTime(29 * SECOND)
    expect([net.frags.queues, net.frags6.queues]).toEqual([2, 1])
    m.passTime(2 * SECOND)
    expect([net.frags.queues, net.frags.mem, net.frags6.queues]).toEqual([0, 0, 1])
    expect([stat(m, 'Ip.ReasmTimeout'), stat(m, 'Icmp.OutTimeExcds')]).toEqual([2, 1])
    m.audit()
    m.passTime(30 * SECOND)
    expect([net.frags6.queues, stat(m, 'Ip6.ReasmTimeout')]).toEqual([0, 1])
    expect(m.recv(tx, 100, MSG_ERRQUEUE)).toBeInstanceOf(Uint8Array)
    expect([m.msg.err.eeType, m.msg.err.eeCode]).toEqual([11, 1])
    m.close(tx)
    m.end()
  })

  it('are refused once all queues hold more than the limit, until those have gone', () => {
    const { m, rx } = machine(profile, AF_INET)
    const net = m.inet.nets[0]!
    net.frags.highThresh[0] = 10_000
    const whole = datagram(new Uint8Array(3000))
    for (let id = 1; id <= 10; id += 1) inject(m, AF_INET, fragment(AF_INET, id, whole, 0, 1480))
    const { queues } = net.frags
    expect(queues).toBeLessThan(10)
    expect(net.frags.mem).toBeGreaterThan(10_000)
    expect(stat(m, 'Ip.ReasmFails')).toBe(10 - queues)
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 1480, 3008))
    expect([net.frags.queues, stat(m, 'Ip.ReasmFails'), stat(m, 'Ip.ReasmOKs')]).toEqual([queues, 11 - queues, 0])
    m.passTime(31 * SECOND)
    expect([net.frags.queues, net.frags.mem]).toEqual([0, 0])
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 0, 1480))
    inject(m, AF_INET, fragment(AF_INET, 1, whole, 1480, 3008))
    expect(stat(m, 'Ip.ReasmOKs')).toBe(1)
    m.close(rx)
    m.end()
  })

  it('of a datagram longer than any may be are thrown away', () => {
    const { m, rx } = machine(profile, AF_INET)
    const whole = datagram(new Uint8Array(65_520))
    for (let at = 0; at < whole.length; at += 8000)
      inject(m, AF_INET, fragment(AF_INET, 1, whole, at, Math.min(at + 8000, whole.length)))
    expect(m.recv(rx)).toBe(-11)
    m.audit()
    m.close(rx)
    m.end()
  })

  it.each([
    ['IPv4', AF_INET],
    ['IPv6', AF_INET6],
  ])('survive each allocation of theirs that fails (%s)', (_name, family) => {
    let whole = 0
    for (let n = 1; ; n += 1) {
      const { m, rx } = machine(profile, family)
      const bytes = datagram(Uint8Array.from({ length: 3000 }, (_, i) => i))
      const fault = failNth(n)
      m.net.mem.fault = fault
      for (const [from, to] of [
        [1480, 2960],
        [2960, 3008],
        [0, 1480],
      ] as const)
        inject(m, family, fragment(family, 1, bytes, from, to))
      m.net.mem.fault = null
      m.audit()
      if (text(m.recv(rx)) === text(bytes.subarray(8))) whole += 1
      m.close(rx)
      m.end()
      if (fault.failed === 0) break
      expect(n).toBeLessThan(60)
    }
    expect(whole).toBeGreaterThan(0)
  })
})
