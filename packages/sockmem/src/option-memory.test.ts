/** Option memory and what it is spent on: blocks of bytes, and filters in the classic instruction set. */
import { NULL, Prng } from '@netmem/base'
import { allocSkb, kfreeSkb, type SkBuff, skbPut } from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import {
  bpfCheckClassic,
  bpfConvertedLength,
  bpfRunClassic,
  OptVal,
  SO,
  skAttachFilter,
  skDetachFilter,
  skFilter,
  sockKfreeS,
  sockKmalloc,
  sockPut,
  sockSetsockopt,
} from './index.js'
import { type TestSockets, testSock, testSockets } from './testing.js'

// [code, jt, jf, k]
const RET = (k: number) => [0x06, 0, 0, k]
const RET_A = [0x16, 0, 0, 0]
const LD_W = (k: number) => [0x20, 0, 0, k]
const LD_B = (k: number) => [0x30, 0, 0, k]
const LD_LEN = [0x80, 0, 0, 0]
const JEQ = (k: number, jt: number, jf: number) => [0x15, jt, jf, k]

const program = (...insns: number[][]): Int32Array => Int32Array.from(insns.flat())

function packet(t: TestSockets, bytes: readonly number[]): SkBuff {
  const skb = allocSkb(t.skbs, t.cpu, bytes.length, t.mem.gfp.GFP_KERNEL, 0, -1)!
  const at = skbPut(skb, bytes.length)
  t.mem.u8.set(bytes, at >>> 0)
  return skb
}

describe('option memory', () => {
  it('is lent up to just below its limit', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    sk.net.optmemMax[0] = 1000
    const a = sockKmalloc(t.cpu, sk, 500, t.mem.gfp.GFP_KERNEL)
    expect(sockKmalloc(t.cpu, sk, 500, t.mem.gfp.GFP_KERNEL)).toBe(NULL)
    const b = sockKmalloc(t.cpu, sk, 499, t.mem.gfp.GFP_KERNEL)
    expect(sk.omemAlloc).toBe(999)
    sockKfreeS(t.cpu, sk, a, 500)
    sockKfreeS(t.cpu, sk, b, 499)
    expect(sk.omemAlloc).toBe(0)
  })
})

describe('filters', () => {
  it.each([
    ['no instruction', program(), false],
    ['no return at the end', program(LD_LEN), false],
    ['a jump past the end', program(JEQ(1, 1, 0), RET(0)), false],
    ['a jump to the last instruction', program(JEQ(1, 0, 0), RET(0)), true],
    ['a scratch word that does not exist', program([0x02, 0, 0, 16], RET(0)), false],
    ['a division by zero', program([0x34, 0, 0, 0], RET(0)), false],
    ['a shift by 32', program([0x64, 0, 0, 32], RET(0)), false],
  ])('with %s: %s', (_what, insns, ok) => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    expect(skAttachFilter(sk, insns)).toBe(ok ? 0 : -22)
    if (insns.length > 0) expect(bpfCheckClassic(insns)).toBe(ok)
    sockPut(t.cpu, sk)
  })

  it('cost what the kernel makes of them, and room for both while one replaces another', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const one = program(RET(0))
    const bytes = t.profile.structs.bpf_prog!.size + bpfConvertedLength(one) * 8
    expect(skAttachFilter(sk, one)).toBe(0)
    expect(sk.omemAlloc).toBe(bytes)
    sk.net.optmemMax[0] = 2 * bytes
    expect(skAttachFilter(sk, one)).toBe(-12)
    sk.net.optmemMax[0] = 2 * bytes + 1
    expect(skAttachFilter(sk, one)).toBe(0)
    expect(sk.omemAlloc).toBe(bytes)
    expect(skDetachFilter(sk)).toBe(0)
    expect([sk.omemAlloc, skDetachFilter(sk)]).toEqual([0, -2])
  })

  it('stay when they are locked', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const val = new OptVal()
    val.program = program(RET(5))
    expect(sockSetsockopt(t.cpu, t.task, sk, SO.SO_ATTACH_FILTER, val)).toBe(0)
    val.int = 1
    expect(sockSetsockopt(t.cpu, t.task, sk, SO.SO_LOCK_FILTER, val)).toBe(0)
    expect(sockSetsockopt(t.cpu, t.task, sk, SO.SO_DETACH_FILTER, val)).toBe(-1)
    expect(sockSetsockopt(t.cpu, t.task, sk, SO.SO_ATTACH_FILTER, val)).toBe(-1)
    val.int = 0
    expect(sockSetsockopt(t.cpu, t.task, sk, SO.SO_LOCK_FILTER, val)).toBe(-1)
    sockPut(t.cpu, sk)
  })

  it('refuse a packet, cut it, or let it pass', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const results = [0, 3, 100].map((keep) => {
      skAttachFilter(sk, program(RET(keep)))
      const skb = packet(t, [1, 2, 3, 4, 5])
      const result = [skFilter(t.cpu, sk, skb), skb.len]
      kfreeSkb(t.cpu, skb, 'NOT_SPECIFIED', 'test')
      return result
    })
    expect(results).toEqual([
      [-1, 5],
      [0, 3],
      [0, 5],
    ])
    sockPut(t.cpu, sk)
  })

  it('read the packet in network order and drop it when they read beyond', () => {
    const t = testSockets()
    const skb = packet(t, [0x81, 2, 3, 4, 5])
    const run = (...insns: number[][]) => bpfRunClassic(program(...insns), skb)
    expect(run(LD_W(0), RET_A)).toBe(0x81020304)
    expect(run(LD_B(4), RET_A)).toBe(5)
    expect(run(LD_W(2), RET_A)).toBe(0)
    expect(run(LD_LEN, RET_A)).toBe(5)
    expect(run(LD_B(1), JEQ(2, 0, 1), RET(7), RET(8))).toBe(7)
    expect(run(LD_B(0), JEQ(2, 0, 1), RET(7), RET(8))).toBe(8)
    kfreeSkb(t.cpu, skb, 'NOT_SPECIFIED', 'test')
  })

  it.each([1, 2, 3])('reckon like plain arithmetic on 32 bits (seed %i)', (seed) => {
    const rng = new Prng(seed)
    const t = testSockets()
    const skb = packet(t, [0])
    const ops: readonly [number, (a: bigint, k: bigint) => bigint][] = [
      [0x04, (a, k) => a + k],
      [0x14, (a, k) => a - k],
      [0x24, (a, k) => a * k],
      [0x34, (a, k) => a / k],
      [0x44, (a, k) => a | k],
      [0x54, (a, k) => a & k],
      [0x94, (a, k) => a % k],
      [0xa4, (a, k) => a ^ k],
    ]
    for (let i = 0; i < 300; i += 1) {
      const start = rng.below(2 ** 31) * 2 + rng.below(2)
      let want = BigInt(start)
      const insns = [[0x00, 0, 0, start | 0]]
      for (let op = 0; op < 6; op += 1) {
        const [code, reckon] = ops[rng.below(ops.length)]!
        const k = 1 + rng.below(2 ** 31)
        want = BigInt.asUintN(32, reckon(want, BigInt(k)))
        insns.push([code, 0, 0, k | 0])
      }
      // Scratch memory and the index register carry the result on.
      insns.push([0x02, 0, 0, 3], [0x00, 0, 0, 0], [0x61, 0, 0, 3], [0x87, 0, 0, 0], RET_A)
      const insnsFlat = program(...insns)
      expect(bpfCheckClassic(insnsFlat)).toBe(true)
      expect(bpfRunClassic(insnsFlat, skb), `program ${i}`).toBe(Number(want))
    }
    kfreeSkb(t.cpu, skb, 'NOT_SPECIFIED', 'test')
  })
})
