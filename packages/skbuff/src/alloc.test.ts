import type { Gfp } from '@netmem/base'
import { failNever, failNth, kmalloc } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import {
  allocSkb,
  allocSkbFclone,
  buildSkb,
  consumeSkb,
  dataref,
  kfreeSkb,
  napiAllocSkb,
  napiBuildSkb,
  napiConsumeSkb,
  netdevAllocSkb,
  netdevAllocSkbIpAlign,
  SKB_ALLOC_NAPI,
  SKB_ALLOC_RX,
  type SkBuff,
  skbEndOffset,
  skbHeadroom,
  skbMaxAlloc,
  skbMaxHead,
  skbPut,
  slabBuildSkb,
} from './index.js'
import { skbTestMachine } from './testing.js'

const KERNELS = ['linux-6.18-x86_64', 'linux-6.1-x86_64']
const NEW = KERNELS[0]!

/** Last length of each step of the ladder, block, and the least length of the step. */
const LADDER: Record<string, readonly (readonly [from: number, to: number, block: number])[]> = {
  'linux-6.18-x86_64': [
    [0, 256, 576],
    [257, 704, 1024],
    [705, 1728, 2048],
    [1729, 3776, 4096],
    [3777, 7872, 8192],
    [7873, 16064, 16384],
    [16065, 32448, 32768],
  ],
  'linux-6.1-x86_64': [
    [0, 192, 512],
    [193, 704, 1024],
    [705, 1728, 2048],
    [1729, 3776, 4096],
    [3777, 7872, 8192],
    [7873, 16064, 16384],
    [16065, 32448, 32768],
  ],
}

describe.each(KERNELS)('__alloc_skb on %s', (profile) => {
  it('climbs the truesize ladder: each length gets the block that the allocator rounds up to', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu, mem } = machine
    for (const [from, to, block] of LADDER[profile]!)
      for (const len of [from, to]) {
        const skb = allocSkb(env, cpu, len, mem.gfp.GFP_KERNEL)!
        expect([len, skb.truesize, skbEndOffset(skb)]).toEqual([len, block + 256, block - 320])
        expect([skb.len, skb.dataLen, skb.users, dataref(skb), skbHeadroom(skb), skb.headFrag]).toEqual([
          0,
          0,
          1,
          1,
          0,
          false,
        ])
        expect([skb.macHeader, skb.transportHeader, skb.allocCpu]).toEqual([0xffff, 0xffff, 0])
        machine.audit()
        consumeSkb(cpu, skb, 'test')
      }
    machine.finish()
  })

  it('does not use small heads for accounted, reclaimable or DMA memory', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu, mem } = machine
    for (const extra of [mem.gfp.ACCOUNT, mem.gfp.RECLAIMABLE, mem.gfp.DMA])
      for (const [len, truesize] of [
        [0, 768],
        [192, 768],
        [193, 1280],
        [704, 1280],
      ]) {
        const skb = allocSkb(env, cpu, len!, (mem.gfp.GFP_KERNEL | extra) as Gfp)!
        expect([len, skb.truesize]).toEqual([len, truesize])
        consumeSkb(cpu, skb, 'test')
      }
    machine.finish()
  })

  it('fails beyond 4 MiB, and gives the head back', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu, mem } = machine
    expect(allocSkb(env, cpu, 4 << 20, mem.gfp.GFP_KERNEL)).toBeNull()
    machine.finish()
  })

  it('gives everything back when the n-th allocation fails, for every n and every kind of skb', () => {
    const kinds: Record<string, (m: ReturnType<typeof skbTestMachine>) => SkBuff | null> = {
      alloc: ({ env, cpu, mem }) => allocSkb(env, cpu, 1000, mem.gfp.GFP_ATOMIC),
      small: ({ env, cpu, mem }) => allocSkb(env, cpu, 10, mem.gfp.GFP_ATOMIC),
      fclone: ({ env, cpu, mem }) => allocSkbFclone(env, cpu, 200, mem.gfp.GFP_ATOMIC),
      napiSlab: ({ env, cpu, mem }) => allocSkb(env, cpu, 5, mem.gfp.GFP_ATOMIC, SKB_ALLOC_RX | SKB_ALLOC_NAPI),
      netdev: ({ env, cpu }) => netdevAllocSkb(env, cpu, 1, 1500),
      napi: ({ env, cpu }) => napiAllocSkb(env, cpu, 1, 1500),
      napiSmall: ({ env, cpu }) => napiAllocSkb(env, cpu, 1, 100),
      napiBig: ({ env, cpu }) => napiAllocSkb(env, cpu, 1, 9000),
    }
    for (const [kind, make] of Object.entries(kinds)) {
      let survived = false
      for (let n = 1; !survived; n++) {
        const machine = skbTestMachine({ profile })
        machine.mem.fault = failNth(n)
        const skb = make(machine)
        survived = machine.mem.fault.failed === 0
        machine.mem.fault = null
        machine.audit()
        // A failed order-3 page falls back to a single one, so a failure may still give an skb.
        if (survived) expect(skb, kind).not.toBeNull()
        if (skb !== null) kfreeSkb(machine.cpu, skb, 'NOT_SPECIFIED', 'test')
        machine.finish()
        expect(n).toBeLessThan(10)
      }
    }
  })

  it('uses the reserves only where the context is entitled to them, and says so', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu, mem } = machine
    const fail = (only: number) => {
      const fault = failNever()
      fault.shouldFail = (kind, _bytes, gfp, site) =>
        (kind === 'kmalloc' || site === 'kmalloc_reserve') && (gfp & mem.gfp.NOMEMALLOC) !== 0 && only === 1
      mem.fault = fault
    }
    fail(1)
    expect(allocSkb(env, cpu, 1000, mem.gfp.GFP_ATOMIC)).toBeNull()
    const skb = allocSkb(env, cpu, 1000, (mem.gfp.GFP_ATOMIC | mem.gfp.MEMALLOC) as Gfp)!
    expect(skb.pfmemalloc).toBe(true)
    env.memallocSocks = true
    const received = allocSkb(env, cpu, 10, mem.gfp.GFP_ATOMIC, SKB_ALLOC_RX)!
    expect(received.pfmemalloc).toBe(true)
    mem.fault = null
    for (const one of [skb, received]) consumeSkb(cpu, one, 'test')
    machine.finish()
  })

  it('names the sites that this kernel names', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu, mem, trace } = machine
    const seen: string[] = []
    trace.kmemCacheAlloc = (_cpu, site, _addr, cache) => seen.push(`${cache} ${site}`)
    trace.kmalloc = (_cpu, site, _addr, bytes) => seen.push(`kmalloc ${bytes} ${site}`)
    const skbs = [
      allocSkb(env, cpu, 10, mem.gfp.GFP_KERNEL)!,
      allocSkb(env, cpu, 1000, mem.gfp.GFP_KERNEL)!,
      allocSkbFclone(env, cpu, 1000, mem.gfp.GFP_KERNEL)!,
      netdevAllocSkb(env, cpu, 1, 1500)!,
    ]
    const small = profile === NEW ? 'skbuff_small_head kmalloc_reserve' : 'kmalloc 512 __alloc_skb'
    expect(seen).toEqual([
      'skbuff_head_cache __alloc_skb',
      small,
      'skbuff_head_cache __alloc_skb',
      'kmalloc 2048 __alloc_skb',
      'skbuff_fclone_cache __alloc_skb',
      'kmalloc 2048 __alloc_skb',
      'skbuff_head_cache __build_skb',
    ])
    for (const skb of skbs) consumeSkb(cpu, skb, 'test')
    machine.finish()
  })
})

describe.each(KERNELS)('received packets on %s', (profile) => {
  const low = profile === NEW ? 256 : 704

  it('takes small and large ones from the slab and middling ones from page fragments, on both sides of each bound', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu } = machine
    const cases: [len: number, frag: boolean][] = [
      [low - 64, false],
      [low - 63, true],
      [3776 - 64, true],
      [3776 - 63, false],
    ]
    for (const [len, frag] of cases) {
      const napi = napiAllocSkb(env, cpu, 7, len)!
      const netdev = netdevAllocSkb(env, cpu, 7, len)!
      // 6.1 cuts the small heads of polls from pages too, a kilobyte each.
      const slice = profile !== NEW && len + 64 <= 704
      expect([len, netdev.headFrag, napi.headFrag]).toEqual([len, frag, frag || slice])
      for (const skb of [napi, netdev]) {
        expect([skb.dev, skbHeadroom(skb), skb.len]).toEqual([7, 64, 0])
        if (skb.headFrag && !slice) expect(skb.truesize).toBe(((len + 64 + 63) & ~63) + 320 + 256)
      }
      if (slice) expect(napi.truesize).toBe(1280)
      machine.audit()
      napiConsumeSkb(cpu, napi, 64)
      consumeSkb(cpu, netdev, 'test')
    }
    machine.finish()
  })

  it('goes to the slab when the mask may block or wants DMA memory', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu, mem } = machine
    for (const gfp of [mem.gfp.GFP_KERNEL, (mem.gfp.GFP_ATOMIC | mem.gfp.DMA) as Gfp]) {
      const skb = netdevAllocSkb(env, cpu, 1, 1500, gfp)!
      expect([skb.headFrag, skb.truesize]).toEqual([false, 2304])
      consumeSkb(cpu, skb, 'test')
    }
    machine.finish()
  })

  it('cuts from the netdev cache in interrupt context and from the napi cache elsewhere', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu } = machine
    const one = netdevAllocSkbIpAlign(env, cpu, 1, 1500)!
    cpu.hardirq = 1
    const two = netdevAllocSkb(env, cpu, 1, 1500)!
    cpu.hardirq = 0
    expect(env.fragCaches.napi[0]!.pfn).toBe(one.headPage)
    expect(env.fragCaches.netdev[0]!.pfn).toBe(two.headPage)
    for (const skb of [one, two]) consumeSkb(cpu, skb, 'test')
    machine.finish()
  })

  it('reports a page from the reserves', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu } = machine
    const first = napiAllocSkb(env, cpu, 1, 1500)!
    env.napi[0]!.page.pfmemalloc = true
    env.napi[0]!.page.fastSize = 0
    const second = napiAllocSkb(env, cpu, 1, 1500)!
    const third = netdevAllocSkb(env, cpu, 1, 1500)!
    expect([first, second, third].map((skb) => skb.pfmemalloc)).toEqual([false, true, true])
    for (const skb of [first, second, third]) napiConsumeSkb(cpu, skb, 64)
    machine.finish()
  })

  it('builds around memory that is there: page fragments, and kmalloc blocks by their real size', () => {
    const machine = skbTestMachine({ profile })
    const { env, cpu, mem } = machine
    const warned: string[] = []
    machine.trace.warn = (site, words) => warned.push(`${site}: ${words}`)
    const donor = napiAllocSkb(env, cpu, 1, 1500)!
    const page = donor.headPage
    mem.pages.refcount[page]! += 2
    const built = buildSkb(env, cpu, donor.head, 1920)!
    const napi = napiBuildSkb(env, cpu, donor.head, 1920)!
    for (const skb of [built, napi])
      expect([skb.truesize, skbEndOffset(skb), skb.headFrag, skbHeadroom(skb)]).toEqual([2176, 1600, true, 0])
    for (const skb of [donor, built, napi]) napiConsumeSkb(cpu, skb, 64)
    const block = kmalloc(mem, cpu, 1500, mem.gfp.GFP_ATOMIC, 'test')
    const slab = slabBuildSkb(env, cpu, block)!
    expect([slab.truesize, skbEndOffset(slab), slab.headFrag]).toEqual([2304, 1728, false])
    consumeSkb(cpu, slab, 'test')
    const old = buildSkb(env, cpu, kmalloc(mem, cpu, 1500, mem.gfp.GFP_ATOMIC, 'test'), 0)!
    expect(warned).toEqual(['__build_skb_around: Use slab_build_skb() instead'])
    consumeSkb(cpu, old, 'test')
    machine.finish()
  })
})

it('cuts small heads of polls on 6.1 from one page, a kilobyte each, from the back', () => {
  const machine = skbTestMachine({ profile: KERNELS[1]! })
  const { env, cpu } = machine
  const skbs = Array.from({ length: 5 }, () => napiAllocSkb(env, cpu, 1, 100)!)
  expect(skbs.slice(0, 4).map((skb) => skb.head & 4095)).toEqual([3072, 2048, 1024, 0])
  expect(new Set(skbs.slice(0, 4).map((skb) => skb.headPage)).size).toBe(1)
  expect(skbs[4]!.headPage).not.toBe(skbs[0]!.headPage)
  for (const skb of skbs) napiConsumeSkb(cpu, skb, 64)
  machine.finish()
})

it('knows the size macros of the reference kernel', () => {
  const { env } = skbTestMachine()
  expect([skbMaxHead(env.sizes, 0), skbMaxAlloc(env.sizes), env.sizes.smallHeadRoom]).toEqual([3776, 16064, 256])
})

describe('the napi head cache', () => {
  it('refills by 16 when empty: 0 is followed by 15', () => {
    const machine = skbTestMachine()
    const { env, cpu } = machine
    const nc = env.napi[0]!
    const live: SkBuff[] = []
    const counts: number[] = []
    for (let i = 0; i < 18; i++) {
      live.push(napiAllocSkb(env, cpu, 1, 1500)!)
      counts.push(nc.skbCount)
    }
    expect(counts).toEqual([15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14])
    machine.audit()
    for (const skb of live) napiConsumeSkb(cpu, skb, 64)
    machine.finish()
  })

  it('flushes 32 when it reaches 64: 63 is followed by 32', () => {
    const machine = skbTestMachine()
    const { env, cpu, mem } = machine
    const nc = env.napi[0]!
    const live = Array.from({ length: 70 }, () => allocSkb(env, cpu, 10, mem.gfp.GFP_ATOMIC)!)
    const counts = live.map((skb) => {
      napiConsumeSkb(cpu, skb, 64)
      machine.audit()
      return nc.skbCount
    })
    expect(counts.slice(0, 63)).toEqual(Array.from({ length: 63 }, (_, i) => i + 1))
    expect(counts.slice(63)).toEqual([32, 33, 34, 35, 36, 37, 38])
    machine.finish()
  })

  it('is silent: refills and flushes print no event', () => {
    const machine = skbTestMachine()
    const { env, cpu, trace } = machine
    const seen: string[] = []
    trace.kmemCacheAlloc = (_c, site, _a, cache) => seen.push(`${site} ${cache}`)
    trace.kmemCacheFree = (_c, site, _a, cache) => seen.push(`${site} ${cache}`)
    const live = Array.from({ length: 200 }, () => napiAllocSkb(env, cpu, 1, 1500)!)
    for (const skb of live) {
      skbPut(skb, 10)
      napiConsumeSkb(cpu, skb, 64)
    }
    expect(seen).toEqual([])
    machine.finish()
  })
})
