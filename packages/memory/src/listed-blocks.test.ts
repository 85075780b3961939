import type { Pfn } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { allocPages, compoundOrder, drainAllPages, freePages, type Memory, splitPage } from './index.js'
import { auditMemory, testMachine } from './testing.js'

const SITE = 'test'
const heads = (mem: Memory, pfn: Pfn, order: number): number[] =>
  Array.from({ length: 1 << order }, (_, page) => mem.pages.head[pfn + page]! - pfn)
const OWN = [0, 1, 2, 3, 4, 5, 6, 7]
const LINKED = [0, 0, 0, 0, 0, 0, 0, 0]

describe.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('a compound page on the list of a CPU (%s)', (profile) => {
  const setup = () => {
    const machine = testMachine({ profile })
    const { mem, cpu } = machine
    const compound = mem.gfp.GFP_ATOMIC | mem.gfp.COMP
    const pfn = allocPages(mem, cpu, compound, 3, -1, SITE)
    expect(heads(mem, pfn, 3)).toEqual(LINKED)
    freePages(mem, cpu, pfn, 3, SITE)
    auditMemory(mem)
    return { ...machine, pfn, compound }
  }

  it('is a compound page again for the next who wants one', () => {
    const { mem, cpu, pfn, compound } = setup()
    expect(allocPages(mem, cpu, compound, 3, -1, SITE)).toBe(pfn)
    expect([heads(mem, pfn, 3), compoundOrder(mem, pfn)]).toEqual([LINKED, 3])
    auditMemory(mem)
  })

  it('is eight plain pages for who wants no compound page', () => {
    const { mem, cpu, pfn } = setup()
    expect(allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 3, -1, SITE)).toBe(pfn)
    expect([heads(mem, pfn, 3), compoundOrder(mem, pfn)]).toEqual([OWN, 0])
    splitPage(mem, pfn, 3)
    for (let page = 0; page < 8; page++) freePages(mem, cpu, (pfn + page) as Pfn, 0, SITE)
    auditMemory(mem)
  })

  it('comes back zeroed where zeroes were asked for', () => {
    const { mem, cpu, pfn, compound } = setup()
    mem.u8.fill(0xee, pfn << 12, (pfn + 8) << 12)
    expect(allocPages(mem, cpu, compound | mem.gfp.ZERO, 3, -1, SITE)).toBe(pfn)
    expect(mem.u8.subarray(pfn << 12, (pfn + 8) << 12).every((byte) => byte === 0)).toBe(true)
    auditMemory(mem)
  })

  it('is taken apart on its way to the buddy', () => {
    const { mem, cpu, pfn } = setup()
    drainAllPages(mem, cpu)
    expect(heads(mem, pfn, 3)).toEqual(OWN)
    auditMemory(mem)
  })
})
