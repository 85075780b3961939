import { type Cpu, NO_PFN } from '@netmem/base'
import { failNth, getPage, putPage, trackAllocations } from '@netmem/memory'
import { assertNoLeaks, testMachine } from '@netmem/memory/testing'
import { expect, it } from 'vitest'
import { PageFrag, pageFragRelease, skbPageFragRefill, skPageFragRefill } from './index.js'

const setup = () => {
  const machine = testMachine()
  trackAllocations(machine.mem)
  return { ...machine, frag: new PageFrag(), gfp: machine.mem.gfp.GFP_KERNEL }
}

it('starts again at offset 0 while nobody else holds the page', () => {
  const { mem, cpu, frag, gfp } = setup()
  expect(skbPageFragRefill(mem, cpu, 32, frag, gfp, false)).toBe(true)
  expect([frag.offset, frag.size]).toEqual([0, 32768])
  frag.offset = 30000
  expect(skbPageFragRefill(mem, cpu, 32, frag, gfp, false)).toBe(true)
  expect(frag.offset).toBe(0)
  pageFragRelease(mem, cpu, frag, 'test')
  assertNoLeaks(mem)
})

it('goes on behind the offset while a packet holds the page, and takes another when there is no room', () => {
  const { mem, cpu, frag, gfp } = setup()
  skbPageFragRefill(mem, cpu, 32, frag, gfp, false)
  const first = frag.page
  getPage(mem, first)
  frag.offset = 32736
  expect(skbPageFragRefill(mem, cpu, 32, frag, gfp, false)).toBe(true)
  expect([frag.page, frag.offset]).toEqual([first, 32736])
  frag.offset = 32737
  expect(skbPageFragRefill(mem, cpu, 32, frag, gfp, false)).toBe(true)
  expect(frag.page).not.toBe(first)
  expect(frag.offset).toBe(0)
  expect(mem.pages.refcount[first]).toBe(1)
  putPage(mem, cpu, first, 'test')
  pageFragRelease(mem, cpu, frag, 'test')
  assertNoLeaks(mem)
})

it('takes single pages when high orders are switched off or not to be had', () => {
  const { mem, cpu, frag, gfp } = setup()
  expect(skbPageFragRefill(mem, cpu, 32, frag, gfp, true)).toBe(true)
  expect(frag.size).toBe(4096)
  pageFragRelease(mem, cpu, frag, 'test')
  mem.fault = failNth(1)
  expect(skbPageFragRefill(mem, cpu, 32, frag, gfp, false)).toBe(true)
  expect(frag.size).toBe(4096)
  mem.fault = null
  pageFragRelease(mem, cpu, frag, 'test')
  assertNoLeaks(mem)
})

it('asks for the chunk without reclaim, and for the single page with the mask as it is', () => {
  const { mem, cpu, frag, gfp, trace } = setup()
  const asked: string[] = []
  trace.mmPageAlloc = (_cpu: Cpu, _pfn, order, mask, _type, site) =>
    asked.push(`${site} ${order} ${(mask & mem.gfp.DIRECT_RECLAIM) !== 0}`)
  mem.fault = failNth(1)
  skbPageFragRefill(mem, cpu, 32, frag, gfp, false)
  mem.fault = null
  pageFragRelease(mem, cpu, frag, 'test')
  skbPageFragRefill(mem, cpu, 32, frag, gfp, false)
  pageFragRelease(mem, cpu, frag, 'test')
  expect(asked.filter((line) => line.startsWith('skb_page_frag_refill'))).toEqual([
    'skb_page_frag_refill 0 true',
    'skb_page_frag_refill 3 false',
  ])
})

it('puts the protocol under pressure and lowers the send buffer when a socket gets no page', () => {
  const { mem, cpu, frag, gfp } = setup()
  const calls: string[] = []
  const ops = {
    skEnterMemoryPressure: (_cpu: Cpu, sk: string) => void calls.push(`pressure ${sk}`),
    skStreamModerateSndbuf: (sk: string) => void calls.push(`moderate ${sk}`),
  }
  expect(skPageFragRefill(mem, cpu, 'a', frag, gfp, false, ops)).toBe(true)
  expect(calls).toEqual([])
  pageFragRelease(mem, cpu, frag, 'test')
  mem.fault = failNth(1)
  const fault = mem.fault
  fault.shouldFail = () => true
  expect(skPageFragRefill(mem, cpu, 'a', frag, gfp, false, ops)).toBe(false)
  expect(calls).toEqual(['pressure a', 'moderate a'])
  expect(frag.page).toBe(NO_PFN)
  mem.fault = null
  assertNoLeaks(mem)
})
