/** Whatever a wire does to segments: the stream arrives as it was sent, and every step leaves the books balanced. */
import { Prng } from '@netmem/base'
import { AF_INET, AF_INET6 } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { type TestInet, testInet } from '../testing.js'
import { streamByte, streamBytes, type TcpPair, tcpPair, tcpWire, type Wire } from './test-tcp.js'

const KERNELS = ['linux-6.18-x86_64', 'linux-6.1-x86_64']
const SOL_SOCKET = 1
const SO_SNDBUF = 7
const SO_RCVBUF = 8
const EAGAIN = -11
const MSG_MORE = 0x8000
/** Virtual time in which any of these transfers must be over. */
const PATIENCE_NS = 3600e9

interface Direction {
  readonly from: TcpPair['client']
  readonly to: TcpPair['server']
  sent: number
  received: number
}

/** Moves `total` bytes each way in random pieces. @returns what went wrong first, or null. */
function exchange(m: TestInet, pair: TcpPair, total: number, rng: Prng, auditEvery: number): string | null {
  const ways: Direction[] = [
    { from: pair.client, to: pair.server, sent: 0, received: 0 },
    { from: pair.server, to: pair.client, sent: 0, received: 0 },
  ]
  const end = m.net.clock.nowNs + PATIENCE_NS
  for (let step = 0; ways.some((way) => way.received < total); step++) {
    if (m.net.clock.nowNs > end) return `stuck at ${ways.map((way) => `${way.sent}/${way.received}`).join(', ')}`
    const way = ways[rng.below(2)]!
    const kind = rng.below(4)
    if (kind < 2 && way.sent < total) {
      const bytes = Math.min(total - way.sent, 1 + rng.below(rng.below(2) === 0 ? 200 : 60_000))
      const ret = m.send(way.from, streamBytes(way.sent, bytes), -1, rng.below(8) === 0 ? MSG_MORE : 0)
      if (ret > 0) way.sent += ret
      else if (ret !== EAGAIN) return `send: ${ret}`
    } else if (kind === 2) {
      const got = m.recv(way.to, 1 + rng.below(80_000))
      if (typeof got === 'number') {
        if (got !== EAGAIN) return `recv: ${got}`
      } else {
        for (let i = 0; i < got.length; i++)
          if (got[i] !== streamByte(way.received + i)) return `byte ${way.received + i} is ${got[i]}`
        way.received += got.length
      }
    } else m.passTime(rng.below(50e6))
    if (step % auditEvery === 0) m.audit()
  }
  return null
}

const WIRES: readonly (readonly [string, Wire])[] = [
  ['a clean wire', { loss: 0, twice: 0, minNs: 1e5, maxNs: 1e5 }],
  ['a lossy wire', { loss: 0.03, twice: 0, minNs: 1e6, maxNs: 1e6 }],
  ['a wire that loses a fifth', { loss: 0.2, twice: 0, minNs: 2e6, maxNs: 3e6 }],
  ['a wire that reorders', { loss: 0, twice: 0, minNs: 1e6, maxNs: 2e7 }],
  ['a wire that does everything', { loss: 0.05, twice: 0.05, minNs: 1e6, maxNs: 1.5e7 }],
]

describe.each(KERNELS)('streams on %s', (profile) => {
  for (const [name, wire] of WIRES)
    for (const [family, mtu, gso] of [
      [AF_INET, 65536, true],
      [AF_INET, 1500, false],
      [AF_INET6, 9000, true],
    ] as const)
      it.each([1, 2])(`arrive whole over ${name}, IPv${family === AF_INET ? 4 : 6}, MTU ${mtu}, seed %i`, (seed) => {
        const rng = new Prng(seed * 1000 + mtu)
        const m = testInet({ profile, seed })
        m.mtu(mtu)
        if (!gso) m.lo.features = 0
        const pair = tcpPair(m, family)
        tcpWire(m, wire, rng)
        const problem = exchange(m, pair, 300_000, rng, 16)
        expect(problem, `seed ${seed}`).toBeNull()
        for (const sk of Object.values(pair)) m.close(sk)
        m.audit()
        m.end()
      })

  it.each([1, 2, 3])('arrive whole with tiny buffers, seed %i', (seed) => {
    const rng = new Prng(seed)
    const m = testInet({ profile, seed })
    m.mtu(1500)
    const pair = tcpPair(m, AF_INET, (sk) => {
      m.setsockopt(sk, SOL_SOCKET, SO_SNDBUF, 1)
      m.setsockopt(sk, SOL_SOCKET, SO_RCVBUF, 1)
    })
    tcpWire(m, { loss: 0.05, twice: 0.02, minNs: 1e6, maxNs: 1e7 }, rng)
    expect(exchange(m, pair, 40_000, rng, 4), `seed ${seed}`).toBeNull()
    for (const sk of Object.values(pair)) m.close(sk)
    m.end()
  })

  it.each(['reno', 'cubic', 'bbr'])('arrive whole with %s', (algorithm) => {
    const rng = new Prng(5)
    const m = testInet({ profile, seed: 5 })
    m.mtu(1500)
    m.socks.initNet.sysctls.setText('net.ipv4.tcp_congestion_control', algorithm)
    const pair = tcpPair(m)
    tcpWire(m, { loss: 0.02, twice: 0, minNs: 5e6, maxNs: 6e6 }, rng)
    expect(exchange(m, pair, 400_000, rng, 64)).toBeNull()
    for (const sk of Object.values(pair)) m.close(sk)
    m.end()
  })
})
