import { describe, expect, it } from 'vitest'
import {
  allocSkbFclone,
  consumeSkb,
  dataref,
  fragList,
  gsoSegs,
  gsoSize,
  gsoType,
  metaLen,
  napiAllocSkb,
  nrFrags,
  pskbExpandHead,
  SKB_SHINFO_USED,
  setGsoSegs,
  setGsoSize,
  setGsoType,
  shinfoFlags,
  skbClone,
  skbCopy,
  skbHeaderRelease,
  skbPut,
  skbShinfo,
  tskey,
  txFlags,
} from './index.js'
import type { SkBuff } from './sk-buff.js'
import { skbTestMachine } from './testing.js'

/** A received packet in memory where somebody else's bytes still lie. */
function dirty() {
  const machine = skbTestMachine()
  machine.env.u8.fill(0xff, machine.env.u8.length >> 2)
  const skb = napiAllocSkb(machine.env, machine.cpu, 1, 1500)!
  machine.env.u8.fill(0xff, skb.end >>> 0, (skb.end >>> 0) + machine.env.sizes.sharedInfoBytes)
  skbPut(skb, 100)
  return { ...machine, skb, atomic: machine.mem.gfp.GFP_ATOMIC }
}

const read = (skb: SkBuff) => [
  shinfoFlags(skb),
  metaLen(skb),
  nrFrags(skb),
  txFlags(skb),
  gsoSize(skb),
  gsoSegs(skb),
  gsoType(skb),
  tskey(skb),
  fragList(skb),
  dataref(skb),
]
const FRESH = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]

describe('the shared info of a fresh packet', () => {
  it('reads as clear whatever lies in its memory, and touches none of it', () => {
    const { skb, cpu, env, audit, finish } = dirty()
    expect(read(skb)).toEqual(FRESH)
    expect(env.u8[skb.end >>> 0]).toBe(0xff)
    audit()
    consumeSkb(cpu, skb, 'test')
    finish()
  })

  it.each([
    ['setGsoSize', (skb: SkBuff) => setGsoSize(skb, 7), 4, 7],
    ['setGsoSegs', (skb: SkBuff) => setGsoSegs(skb, 7), 5, 7],
    ['setGsoType', (skb: SkBuff) => setGsoType(skb, 7), 6, 7],
    ['skbShinfo', (skb: SkBuff) => skbShinfo(skb), 9, 1],
    ['skbHeaderRelease', (skb: SkBuff) => skbHeaderRelease(skb), 9, 0x10001],
  ] as const)('is clear but for what its first writer wrote: %s', (_name, write, at, value) => {
    const { skb, audit } = dirty()
    write(skb)
    expect(read(skb)).toEqual(FRESH.map((fresh, i) => (i === at ? value : fresh)))
    audit()
  })

  it('is shared from the first clone on', () => {
    const { skb, cpu, atomic, audit, finish } = dirty()
    const clone = skbClone(cpu, skb, atomic)!
    expect([dataref(skb), dataref(clone)]).toEqual([2, 2])
    setGsoSize(clone, 9)
    expect(gsoSize(skb)).toBe(9)
    audit()
    consumeSkb(cpu, skb, 'test')
    expect(dataref(clone)).toBe(1)
    consumeSkb(cpu, clone, 'test')
    finish()
  })

  it('stays fresh in a larger head, and moves there once it counts', () => {
    const { skb, cpu, atomic, env, finish } = dirty()
    expect(pskbExpandHead(cpu, skb, 64, 64, atomic)).toBe(0)
    expect(skb.flags & SKB_SHINFO_USED).toBe(0)
    env.u8.fill(0xff, skb.end >>> 0, (skb.end >>> 0) + env.sizes.sharedInfoBytes)
    expect(read(skb)).toEqual(FRESH)
    setGsoSize(skb, 5)
    expect(pskbExpandHead(cpu, skb, 64, 64, atomic)).toBe(0)
    expect([gsoSize(skb), dataref(skb), nrFrags(skb)]).toEqual([5, 1, 0])
    consumeSkb(cpu, skb, 'test')
    finish()
  })

  it('is copied as far as a copy takes it', () => {
    const { skb, cpu, atomic, finish } = dirty()
    const plain = skbCopy(cpu, skb, atomic)!
    expect(read(plain)).toEqual(FRESH)
    setGsoSize(skb, 1400)
    setGsoSegs(skb, 3)
    setGsoType(skb, 1)
    const copy = skbCopy(cpu, skb, atomic)!
    expect([gsoSize(copy), gsoSegs(copy), gsoType(copy), dataref(copy)]).toEqual([1400, 3, 1, 1])
    for (const one of [plain, copy, skb]) consumeSkb(cpu, one, 'test')
    finish()
  })
})

describe('what a clone takes along', () => {
  it('is cb when somebody has written to it, for a pair and for a head of its own', () => {
    const { skb, cpu, env, atomic, finish } = dirty()
    const pair = allocSkbFclone(env, cpu, 200, atomic)!
    for (const original of [skb, pair]) {
      original.cb0 = 17
      original.cb11 = -3
      const clone = skbClone(cpu, original, atomic)!
      expect([clone.cb0, clone.cb11]).toEqual([17, -3])
      clone.cb0 = 18
      expect(original.cb0).toBe(17)
      consumeSkb(cpu, clone, 'test')
      consumeSkb(cpu, original, 'test')
    }
    finish()
  })

  it('is the checksum, the tag and the mark when its flags say that there are any', () => {
    const { skb, cpu, atomic, finish } = dirty()
    skb.ipSummed = 3
    skb.csumStart = 34
    skb.csumOffset = 16
    skb.mark = 5
    skb.vlanTci = 6
    skb.hdrLen = 54
    const clone = skbClone(cpu, skb, atomic)!
    expect([clone.ipSummed, clone.csumStart, clone.csumOffset]).toEqual([3, 34, 16])
    expect([clone.mark, clone.vlanTci, clone.hdrLen]).toEqual([5, 6, 54])
    consumeSkb(cpu, clone, 'test')
    consumeSkb(cpu, skb, 'test')
    finish()
  })
})
