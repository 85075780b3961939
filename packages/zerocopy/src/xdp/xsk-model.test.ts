import { kernelProfile, Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { assertXskQuiescent, auditXsk, auditXskFrames } from './audit.js'
import { XdpMachine, XdpUser } from './test-xdp.js'
import { XDP_COPY, XDP_UMEM_UNALIGNED_CHUNK_FLAG, XDP_USE_NEED_WAKEUP, XDP_ZEROCOPY } from './uapi.js'
import {
  type XskRing,
  xskRingConsCompAddr,
  xskRingConsPeek,
  xskRingConsRelease,
  xskRingConsRxAddr,
  xskRingConsRxLen,
  xskRingProdFillAddr,
  xskRingProdReserve,
  xskRingProdSubmit,
  xskRingProdTxDesc,
} from './xsk.js'

const SEEDS = [1, 2, 3, 4]
const STEPS = 250
const CHUNK = 2048

/** What the naive model knows: frames that are under way to the user, in order, and what was sent. */
class Naive {
  readonly arriving: number[][] = []
  readonly hands: Set<number>
  readonly sent: number[][] = []

  constructor(chunks: number) {
    this.hands = new Set(Array.from({ length: chunks }, (_, i) => i))
  }

  take(prng: Prng): number {
    const all = [...this.hands]
    const chunk = all[prng.below(all.length)]!
    this.hands.delete(chunk)
    return chunk
  }
}

describe.each([
  ['zero copy', XDP_ZEROCOPY],
  ['zero copy, woken', XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP],
  ['copy mode', XDP_COPY],
] as const)('AF_XDP in %s against a naive model', (_name, bind) => {
  it.each(SEEDS)('delivers, completes and keeps every chunk in one place (seed %i)', (seed) => {
    const prng = new Prng(seed)
    const m = new XdpMachine({ nic: { rxRing: 16, txRing: 64 } })
    const u = new XdpUser(m, { bind, chunks: 48, entries: { rx: 16, fill: 32, tx: 16, comp: 32 } })
    expect(u.err).toBe(0)
    m.attach()
    const naive = new Naive(48)
    const wire: number[][] = []
    m.nic.hw.wire = { receive: (bytes, at, len) => wire.push([...bytes.subarray(at, at + len)]) }
    const { rx, fill, tx, comp } = u.rings
    let delivered = 0
    for (let step = 0; step < STEPS; step++) {
      const op = prng.below(6)
      if (op === 0 && naive.hands.size > 0 && xskRingProdReserve(fill, 1) === 1) {
        xskRingProdFillAddr(fill, fill.at, naive.take(prng) * CHUNK)
        xskRingProdSubmit(fill, 1)
      } else if (op === 1) {
        const bytes = Uint8Array.from({ length: 60 + prng.below(900) }, () => prng.below(256))
        const before = rx.i32[rx.producerWord]!
        m.nic.hw.receive(bytes, 0, bytes.length)
        m.run(1000)
        if (rx.i32[rx.producerWord] !== before) naive.arriving.push([...bytes])
      } else if (op === 2) {
        const n = xskRingConsPeek(rx, 1 + prng.below(8))
        for (let i = 0; i < n; i++) {
          const addr = xskRingConsRxAddr(rx, rx.at + i)
          const from = u.at(addr) >>> 0
          const len = xskRingConsRxLen(rx, rx.at + i)
          expect([...m.mem.u8.subarray(from, from + len)]).toEqual(naive.arriving.shift())
          naive.hands.add(addr >>> 11)
          delivered++
        }
        xskRingConsRelease(rx, n)
      } else if (op === 3 && naive.hands.size > 0 && xskRingProdReserve(tx, 1) === 1) {
        const chunk = naive.take(prng)
        const len = 60 + prng.below(600)
        const from = u.at(chunk * CHUNK) >>> 0
        for (let i = 0; i < len; i++) m.mem.u8[from + i] = prng.below(256)
        naive.sent.push([...m.mem.u8.subarray(from, from + len)])
        xskRingProdTxDesc(tx, tx.at, chunk * CHUNK, len)
        xskRingProdSubmit(tx, 1)
      } else if (op === 4) {
        u.kick()
        m.run(1000)
      } else {
        const n = xskRingConsPeek(comp, 1 + prng.below(8))
        for (let i = 0; i < n; i++) naive.hands.add(xskRingConsCompAddr(comp, comp.at + i) >>> 11)
        xskRingConsRelease(comp, n)
        u.wake()
      }
      auditXsk(m.xsk)
      auditXskFrames(u.xs.pool!, naive.hands)
    }
    expect(wire).toEqual(naive.sent.slice(0, wire.length))
    expect(delivered).toBeGreaterThan(3)
    expect(wire.length).toBeGreaterThan(3)
    m.detach()
    u.close()
    assertXskQuiescent(m.xsk)
  })
})

describe('rings that the user has spoilt', () => {
  const garbage = (ring: XskRing, prng: Prng): void => {
    const { i32 } = ring
    const any = (): number => (prng.below(4) === 0 ? prng.below(64) : prng.below(0x7fffffff) * 2 - 0x7fffffff) | 0
    if (prng.below(2) === 0) i32[ring.producerWord] = any()
    // A completion ring that looks endlessly empty would keep a zero-copy driver sending for ever, here as there.
    if (ring.kind !== 'comp' && prng.below(2) === 0) i32[ring.consumerWord] = any()
    for (let i = 0; i < 8; i++) {
      const byte =
        320 + ((prng.below(ring.entries) & ring.mask) << ring.descShift) + 4 * prng.below(1 << (ring.descShift - 2))
      i32[(ring.pfns[byte >>> 12]! << 10) | ((byte & 4095) >>> 2)] = any()
    }
  }

  it.each(
    (['linux-6.18-x86_64', 'linux-6.1-x86_64'] as const).flatMap((profile) =>
      [XDP_ZEROCOPY, XDP_COPY].flatMap((bind) =>
        [0, XDP_UMEM_UNALIGNED_CHUNK_FLAG].map((flags) => ({ profile, bind, flags })),
      ),
    ),
  )('lose packets and nothing else (%j)', ({ profile, bind, flags }) => {
    for (const seed of SEEDS) {
      const prng = new Prng(seed)
      const m = new XdpMachine({ profile: kernelProfile(profile), nic: { rxRing: 16, txRing: 16 } })
      const u = new XdpUser(m, { bind, umemFlags: flags, entries: { rx: 8, fill: 16, tx: 8, comp: 8 } })
      expect(u.err).toBe(0)
      m.attach()
      const frame = new Uint8Array(100)
      const before = m.mem.u8.slice(0, 4096)
      for (let step = 0; step < 120; step++) {
        for (const ring of Object.values(u.rings)) if (prng.below(3) === 0) garbage(ring, prng)
        m.nic.hw.receive(frame, 0, frame.length)
        u.kick()
        u.wake()
        u.sk.ops.poll(m.cpu, u.sk)
        m.run(1000)
        auditXsk(m.xsk)
      }
      expect(m.mem.u8.subarray(0, 4096)).toEqual(before)
      m.detach()
      u.close()
      assertXskQuiescent(m.xsk)
    }
  })
})
