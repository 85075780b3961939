import { KernelBug, NULL } from '@netmem/base'
import { allocPages } from '@netmem/memory'
import { expect, it } from 'vitest'
import {
  allocSkb,
  consumeSkb,
  pskbExpandHead,
  type SkBuff,
  skbAddRxFrag,
  skbHeadroom,
  skbPull,
  skbPullUnchecked,
  skbPush,
  skbPut,
  skbPutZero,
  skbReserve,
  skbSetLength,
  skbTailroom,
  skbTrim,
} from './index.js'
import { skbTestMachine } from './testing.js'

const setup = (len = 256) => {
  const machine = skbTestMachine()
  return { ...machine, skb: allocSkb(machine.env, machine.cpu, len, machine.mem.gfp.GFP_ATOMIC)! }
}

/** After a panic the machine is dead; only the words count. */
const panics = (act: () => unknown): string => {
  try {
    act()
  } catch (error) {
    expect(error).toBeInstanceOf(KernelBug)
    return (error as KernelBug).message
  }
  throw new Error('no panic')
}

it('puts up to the last byte before the shared info, and panics one byte later in the words of the kernel', () => {
  const { skb } = setup()
  skbPut(skb, 256)
  expect(skbTailroom(skb)).toBe(0)
  const words = panics(() => skbPut(skb, 1))
  expect(words).toMatch(
    /^skb_over_panic: len:257 put:1 head:0x[0-9a-f]+ data:0x[0-9a-f]+ tail:0x101 end:0x100 dev:<NULL>$/,
  )
})

it('pushes down to the head, and panics one byte further', () => {
  const { skb } = setup()
  skb.dev = 3
  skbReserve(skb, 10)
  skbPush(skb, 10)
  expect(skbHeadroom(skb)).toBe(0)
  expect(panics(() => skbPush(skb, 1))).toMatch(/^skb_under_panic: len:11 put:1 .* dev:dev3$/)
})

it('refuses to put behind fragments', () => {
  const { skb, mem, cpu } = setup()
  const page = allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 0, -1, 'test')
  skbAddRxFrag(skb, 0, page, 0, 100, 4096)
  expect(panics(() => skbPut(skb, 1))).toMatch(/SKB_LINEAR_ASSERT/)
})

it('pulls what is there and says NULL to more', () => {
  const { skb, cpu } = setup()
  skbPut(skb, 100)
  const start = skb.data
  expect(skbPull(skb, 101)).toBe(NULL)
  expect(skbPull(skb, 100)).toBe((start + 100) | 0)
  expect(skb.len).toBe(0)
  consumeSkb(cpu, skb, 'test')
})

it('panics when an unchecked pull reaches into the fragments', () => {
  const { skb, mem, cpu } = setup()
  skbPut(skb, 10)
  skbAddRxFrag(skb, 0, allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 0, -1, 'test'), 0, 100, 4096)
  expect(panics(() => skbPullUnchecked(skb, 11))).toMatch(/^skb_pull/)
})

it('trims a linear skb and panics on any other', () => {
  const { skb, mem, cpu } = setup()
  skbPutZero(skb, 50)
  skbTrim(skb, 60)
  expect(skb.len).toBe(50)
  skbTrim(skb, 20)
  expect([skb.len, (skb.tail - skb.data) | 0]).toEqual([20, 20])
  skbSetLength(skb, 30)
  expect(skb.len).toBe(30)
  skbAddRxFrag(skb, 0, allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 0, -1, 'test'), 0, 100, 4096)
  expect(panics(() => skbTrim(skb, 5))).toMatch(/nonlinear/)
})

it('refuses to expand a shared skb or by a negative headroom', () => {
  const { skb, mem, cpu } = setup()
  expect(panics(() => pskbExpandHead(cpu, skb, -1, 0, mem.gfp.GFP_ATOMIC))).toMatch(/negative/)
  skb.users = 2
  expect(panics(() => pskbExpandHead(cpu, skb, 0, 0, mem.gfp.GFP_ATOMIC))).toMatch(/shared/)
})

it('packs the bit fields without letting them run into one another', () => {
  const { skb, cpu } = setup()
  const fields: (keyof SkBuff)[] = [
    'cloned',
    'nohdr',
    'peeked',
    'csumValid',
    'encapsulation',
    'unreadable',
    'decrypted',
  ]
  for (const field of fields) {
    ;(skb as unknown as Record<string, unknown>)[field] = true
    skb.pktType = 5
    skb.ipSummed = 3
    skb.csumLevel = 2
    expect([skb[field], skb.pktType, skb.ipSummed, skb.csumLevel]).toEqual([true, 5, 3, 2])
    ;(skb as unknown as Record<string, unknown>)[field] = false
    skb.pktType = 0
    skb.ipSummed = 0
    skb.csumLevel = 0
    expect([skb[field], skb.pktType, skb.ipSummed, skb.csumLevel]).toEqual([false, 0, 0, 0])
  }
  expect(skb.flags & ~0x20000000).toBe(0)
  expect([skb.mark, skb.vlanTci, skb.tstamp]).toEqual([0, 0, 0])
  skb.mark = 7
  skb.vlanTci = 9
  skb.tstamp = 2 ** 40
  expect([skb.mark, skb.vlanTci, skb.tstamp]).toEqual([7, 9, 2 ** 40])
  skb.cloned = false
  consumeSkb(cpu, skb, 'test')
})
