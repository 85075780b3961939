import type { Addr } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import {
  kfree,
  kmalloc,
  kmallocCacheName,
  kmallocSizeRoundup,
  ksize,
  kzalloc,
  nrFreePages,
  nrPcpPages,
  ZERO_SIZE_PTR,
} from './index.js'
import { auditMemory, testMachine } from './testing.js'

const SITE = 'test'

describe('kmalloc', () => {
  it.each([
    [1, 8],
    [8, 8],
    [9, 16],
    [33, 64],
    [64, 64],
    [65, 96],
    [96, 96],
    [97, 128],
    [128, 128],
    [129, 192],
    [192, 192],
    [193, 256],
    [257, 512],
    [513, 1024],
    [4097, 8192],
    [8192, 8192],
    [8193, 16384],
    [16385, 32768],
    [4 << 20, 4 << 20],
    [(4 << 20) + 1, (4 << 20) + 1],
    [0, 0],
  ])('rounds %i up to %i', (size, rounded) => {
    const { mem, cpu } = testMachine({ bytes: 32 << 20 })
    expect(kmallocSizeRoundup(mem, size)).toBe(rounded)
    if (size === 0 || size > 4 << 20) return
    const addr = kmalloc(mem, cpu, size, mem.gfp.GFP_KERNEL, SITE)
    expect(ksize(mem, addr)).toBe(rounded)
    kfree(mem, cpu, addr, SITE)
    auditMemory(mem)
  })

  it('chooses the family by the mask: DMA before RECLAIMABLE before ACCOUNT', () => {
    const { mem, cpu } = testMachine()
    const { GFP_KERNEL, DMA, RECLAIMABLE, ACCOUNT } = mem.gfp
    const name = (gfp: number, size = 500) => kmallocCacheName(mem, kmalloc(mem, cpu, size, gfp, SITE))
    expect(name(GFP_KERNEL)).toBe('kmalloc-512')
    expect(name(GFP_KERNEL | ACCOUNT)).toBe('kmalloc-cg-512')
    expect(name(GFP_KERNEL | RECLAIMABLE | ACCOUNT)).toBe('kmalloc-rcl-512')
    expect(name(GFP_KERNEL | DMA | RECLAIMABLE | ACCOUNT)).toBe('dma-kmalloc-512')
    expect(name(GFP_KERNEL, 1025)).toBe('kmalloc-2k')
    expect(name(GFP_KERNEL, 8193)).toBe('kmalloc-large')
    auditMemory(mem)
  })

  it('takes DMA memory from the DMA zone', () => {
    const { mem, cpu } = testMachine()
    const addr = kmalloc(mem, cpu, 64, mem.gfp.GFP_KERNEL | mem.gfp.DMA, SITE)
    expect(mem.zones[mem.pages.blockZone[addr >>> 21]!]!.type).toBe(0)
  })

  it('returns the zero pointer for no bytes, and frees it and NULL without effect', () => {
    const { mem, cpu, trace } = testMachine()
    trace.kfree = () => {
      throw new Error('an event for nothing')
    }
    expect(kmalloc(mem, cpu, 0, mem.gfp.GFP_KERNEL, SITE)).toBe(ZERO_SIZE_PTR)
    kfree(mem, cpu, ZERO_SIZE_PTR, SITE)
    kfree(mem, cpu, 0 as Addr, SITE)
    expect([ksize(mem, ZERO_SIZE_PTR), ksize(mem, 0 as Addr)]).toEqual([0, 0])
  })

  it('gives whole compound pages above 8 KiB and takes them back', () => {
    const { mem, cpu } = testMachine()
    const pages = () => nrFreePages(mem) + nrPcpPages(mem)
    const before = pages()
    const addr = kmalloc(mem, cpu, 12000, mem.gfp.GFP_KERNEL, SITE)
    expect(before - pages()).toBe(4)
    expect(mem.pages.head[(addr >>> 12) + 3]).toBe(addr >>> 12)
    kfree(mem, cpu, addr, SITE)
    expect(pages()).toBe(before)
    auditMemory(mem)
  })

  it('refuses more than 4 MiB', () => {
    const { mem, cpu } = testMachine()
    expect(kmalloc(mem, cpu, (4 << 20) + 1, mem.gfp.GFP_KERNEL | mem.gfp.NOWARN, SITE)).toBe(0)
  })

  it('zeroes, in every size', () => {
    const { mem, cpu } = testMachine()
    for (const size of [8, 200, 2048, 9000]) {
      const dirty = kmalloc(mem, cpu, size, mem.gfp.GFP_KERNEL, SITE)
      mem.u8.fill(0x5a, dirty, dirty + size)
      kfree(mem, cpu, dirty, SITE)
      const clean = kzalloc(mem, cpu, size, mem.gfp.GFP_KERNEL, SITE)
      expect(clean).toBe(dirty)
      expect(mem.u8.subarray(clean, clean + size).every((byte) => byte === 0)).toBe(true)
    }
  })

  it('reports size asked, size given, mask, node and whether it is accounted', () => {
    const { mem, cpu, trace } = testMachine()
    const events: unknown[] = []
    trace.kmalloc = (_cpu, site, _addr, req, alloc, gfp, node, accounted) =>
      events.push([site, req, alloc, gfp, node, accounted])
    trace.kfree = (_cpu, site) => events.push([site])
    kfree(mem, cpu, kmalloc(mem, cpu, 700, mem.gfp.GFP_KERNEL_ACCOUNT, '__alloc_skb'), 'skb_free_head')
    kfree(mem, cpu, kmalloc(mem, cpu, 16000, mem.gfp.GFP_ATOMIC, 'kmalloc_reserve'), 'skb_free_head')
    expect(events).toEqual([
      ['__alloc_skb', 700, 1024, 0x400cc0, -1, true],
      ['skb_free_head'],
      ['kmalloc_reserve', 16000, 16384, 0x820, -1, false],
      ['skb_free_head'],
    ])
  })

  it('refuses to free what it never gave', () => {
    const { mem, cpu } = testMachine()
    expect(() => kfree(mem, cpu, 0x200000 as Addr, SITE)).toThrow('is no kmalloc memory')
    const addr = kmalloc(mem, cpu, 100, mem.gfp.GFP_KERNEL, SITE)
    expect(() => kfree(mem, cpu, (addr + 4) as Addr, SITE)).toThrow('invalid object pointer')
  })
})
