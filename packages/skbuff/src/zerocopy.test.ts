import { ERRNO, EventQueue, type Gfp, type Pfn } from '@netmem/base'
import { allocPages, failNth, IovIter, iovIterBvec, iovIterInit, userAlloc, userFree, userWrite } from '@netmem/memory'
import { pagePoolAllocPages, pagePoolCreate, pagePoolGetStats, pagePoolsInit } from '@netmem/page-pool'
import { describe, expect, it } from 'vitest'
import {
  allocSkb,
  buildSkb,
  consumeSkb,
  fragLen,
  napiAllocSkb,
  napiConsumeSkb,
  netZcopyPut,
  nrFrags,
  pskbCopy,
  pskbExpandHead,
  registerUbufOps,
  SKBFL_DONT_ORPHAN,
  SKBFL_ZEROCOPY_FRAG,
  type SkBuff,
  skbAddRxFrag,
  skbClone,
  skbOrphanFrags,
  skbOrphanFragsRx,
  skbPut,
  skbReserve,
  skbSpliceBits,
  skbSpliceFromIter,
  skbZcopy,
  skbZcopyClear,
  skbZcopySet,
  type UbufOps,
  ubufOf,
  zerocopyFillSkbFromIter,
} from './index.js'
import { readSkb, type SkbTestMachine, skbTestMachine } from './testing.js'

/** An owner that counts its references and remembers how they ended. */
class Owner implements UbufOps {
  refs = 1
  readonly ends: boolean[] = []

  constructor(readonly flags: number) {}

  get(): void {
    this.refs++
  }

  complete(_cpu: unknown, _skb: unknown, _ubuf: number, success: boolean): void {
    this.ends.push(success)
    this.refs--
  }
}

function setup(flags: number, bytes = 10000) {
  const m = skbTestMachine()
  const owner = new Owner(flags)
  const ubuf = ubufOf(registerUbufOps(m.env, owner), 77)
  const user = userAlloc(m.mem, m.cpu, bytes)!
  userWrite(
    m.mem,
    user,
    0,
    Uint8Array.from({ length: bytes }, (_, i) => i * 13),
  )
  const skb = allocSkb(m.env, m.cpu, 100, m.mem.gfp.GFP_ATOMIC)!
  const iter = new IovIter()
  iovIterInit(iter, user, 100, bytes - 100)
  const charged = zerocopyFillSkbFromIter(skb, iter, bytes - 100, new Int32Array(17))
  skbZcopySet(skb, ubuf, false)
  return { ...m, m, owner, ubuf, user, skb, charged }
}

describe('user pages in a packet', () => {
  it('cost whole pages, whatever part of them is sent', () => {
    const { m, skb, charged, user, owner, ubuf } = setup(SKBFL_ZEROCOPY_FRAG)
    expect([skb.len, skb.truesize - 832, charged]).toEqual([9900, 12288, 12288])
    expect(skbZcopy(skb)).toBe(ubuf)
    expect([owner.refs, [...readSkb(skb)].slice(0, 3)]).toEqual([2, [1300 & 255, 1313 & 255, 1326 & 255]])
    consumeSkb(m.cpu, skb, 'x')
    netZcopyPut(m.env, m.cpu, ubuf)
    expect([owner.refs, owner.ends]).toEqual([0, [true, true]])
    userFree(m.mem, m.cpu, user)
    m.finish()
  })

  it('are copied before a clone, unless their owner may wait for it', () => {
    for (const flags of [SKBFL_ZEROCOPY_FRAG, SKBFL_ZEROCOPY_FRAG | SKBFL_DONT_ORPHAN]) {
      const { m, skb, user, owner } = setup(flags)
      const bytes = readSkb(skb)
      const clone = skbClone(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)!
      const waits = (flags & SKBFL_DONT_ORPHAN) !== 0
      expect([skbZcopy(skb) !== 0, owner.ends]).toEqual([waits, waits ? [] : [false]])
      if (!waits) {
        // The application may write its buffer again: the packet has bytes of its own.
        userWrite(m.mem, user, 0, new Uint8Array(10000))
        expect(readSkb(skb)).toEqual(bytes)
        // The copy fills the pages in whole.
        expect(Array.from({ length: nrFrags(skb) }, (_, i) => fragLen(skb, i))).toEqual([4096, 4096, 1708])
      }
      for (const one of [skb, clone]) consumeSkb(m.cpu, one, 'x')
      userFree(m.mem, m.cpu, user)
      m.finish()
    }
  })

  it('are always copied before a packet loops back to a receiver', () => {
    const { m, skb, user, owner } = setup(SKBFL_ZEROCOPY_FRAG | SKBFL_DONT_ORPHAN)
    const bytes = readSkb(skb)
    expect(skbOrphanFrags(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)).toBe(0)
    expect(owner.ends).toEqual([])
    expect(skbOrphanFragsRx(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)).toBe(0)
    expect([owner.ends, skbZcopy(skb)]).toEqual([[false], 0])
    expect(readSkb(skb)).toEqual(bytes)
    consumeSkb(m.cpu, skb, 'x')
    userFree(m.mem, m.cpu, user)
    m.finish()
  })

  it('stay with their owner when the n-th page of the copy is not to be had', () => {
    for (let n = 1; n <= 3; n++) {
      const { m, skb, user, owner, ubuf } = setup(SKBFL_ZEROCOPY_FRAG)
      const bytes = readSkb(skb)
      m.mem.fault = failNth(n)
      expect(skbOrphanFragsRx(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)).toBe(-ERRNO.ENOMEM)
      m.mem.fault = null
      expect([owner.ends, skbZcopy(skb)]).toEqual([[], ubuf])
      expect(readSkb(skb)).toEqual(bytes)
      consumeSkb(m.cpu, skb, 'x')
      userFree(m.mem, m.cpu, user)
      m.finish()
    }
  })

  it('count one more user when the head is made private, or the header copied', () => {
    const { m, skb, user, owner } = setup(SKBFL_ZEROCOPY_FRAG | SKBFL_DONT_ORPHAN)
    const copy = pskbCopy(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)!
    expect(owner.refs).toBe(3)
    const clone = skbClone(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)!
    expect(owner.refs).toBe(3)
    expect(pskbExpandHead(m.cpu, clone, 0, 0, m.mem.gfp.GFP_ATOMIC)).toBe(0)
    expect(owner.refs).toBe(4)
    skbZcopyClear(m.cpu, clone, true)
    expect([owner.refs, skbZcopy(clone)]).toEqual([3, 0])
    for (const one of [skb, copy, clone]) consumeSkb(m.cpu, one, 'x')
    expect(owner.refs).toBe(1)
    userFree(m.mem, m.cpu, user)
    m.finish()
  })

  it('refuse to be copied in a shared packet', () => {
    const { m, skb, user } = setup(SKBFL_ZEROCOPY_FRAG)
    skb.users = 2
    expect(skbOrphanFragsRx(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)).toBe(-ERRNO.EINVAL)
    skb.users = 1
    consumeSkb(m.cpu, skb, 'x')
    userFree(m.mem, m.cpu, user)
    m.finish()
  })
})

it('splices the pages of a pipe into a packet, joining what continues, up to the slots there are', () => {
  const m = skbTestMachine()
  const user = userAlloc(m.mem, m.cpu, 20 * 4096)!
  const skb = allocSkb(m.env, m.cpu, 10, m.mem.gfp.GFP_ATOMIC)!
  const iter = new IovIter()
  const count = 19
  // Every other page, so that nothing continues; the first two pieces are of one page.
  const pages = Int32Array.from({ length: count }, (_, i) => user.pfns[i === 0 ? 0 : i - 1]!)
  const offsets = Int32Array.from({ length: count }, (_, i) => (i === 0 ? 0 : i === 1 ? 100 : 8))
  iovIterBvec(iter, pages, offsets, new Int32Array(count).fill(100), count)
  expect(skbSpliceFromIter(skb, iter, 250)).toBe(250)
  expect([nrFrags(skb), fragLen(skb, 0), skb.len, skb.dataLen]).toEqual([2, 200, 250, 250])
  expect(skbSpliceFromIter(skb, iter, 1e6)).toBe(1550)
  expect(nrFrags(skb)).toBe(17)
  expect(skbSpliceFromIter(skb, iter, 1e6)).toBe(-ERRNO.EMSGSIZE)
  consumeSkb(m.cpu, skb, 'x')
  userFree(m.mem, m.cpu, user)
  m.finish()
})

it('lends pages to a pipe and copies a head that is not its own, from any offset on', () => {
  const m = skbTestMachine()
  const { env, cpu, mem } = m
  for (const lent of [true, false]) {
    const skb = lent ? napiAllocSkb(env, cpu, 1, 1500)! : allocSkb(env, cpu, 1000, mem.gfp.GFP_ATOMIC)!
    const at = skbPut(skb, 700) >>> 0
    for (let i = 0; i < 700; i++) mem.u8[at + i] = i * 3
    const pages = allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 0, -1, 'test')
    for (let i = 0; i < 4096; i++) mem.u8[(pages << 12) + i] = i * 5
    skbAddRxFrag(skb, 0, pages, 50, 900, 4096)
    const bytes = [...readSkb(skb)]
    for (const [offset, len, room] of [
      [0, 1600, 99],
      [10, 100, 99],
      [699, 2, 99],
      [700, 900, 99],
      [1000, 600, 99],
      [0, 1600, 1],
      [0, 1600, 0],
    ]) {
      const got: number[] = []
      let slots = room!
      const add = (from: number, count: number): void => void got.push(...mem.u8.subarray(from, from + count))
      const taken = skbSpliceBits(skb, offset!, len!, {
        page: (pfn, off, count) => {
          if (slots-- <= 0) return false
          add((pfn << 12) + off, count)
          return true
        },
        copy: (from, count) => {
          expect(lent).toBe(false)
          if (slots-- <= 0) return 0
          add(from >>> 0, Math.min(count, 300))
          return Math.min(count, 300)
        },
      })
      expect(got).toEqual(bytes.slice(offset!, offset! + taken))
      if (room === 99) expect(taken).toBe(len)
      if (room === 1) expect(taken).toBe(lent ? 700 : 300)
    }
    consumeSkb(cpu, skb, 'x')
  }
  m.finish()
})

describe('pages of a page pool', () => {
  const setupPool = () => {
    const m: SkbTestMachine = skbTestMachine({
      pagePools: ({ mem, profile, trace, cpus }) =>
        pagePoolsInit({ mem, profile, trace, events: new EventQueue(), cpus }),
    })
    const pool = pagePoolCreate(m.env.pagePools!, m.cpu, { poolSize: 64 })
    if (typeof pool === 'number') throw new Error(`page_pool_create: ${pool}`)
    const page = (): Pfn => pagePoolAllocPages(m.cpu, pool, m.mem.gfp.GFP_ATOMIC as Gfp)
    return { ...m, m, pool, page }
  }
  const poolSkb = (m: SkbTestMachine, head: Pfn): SkBuff => {
    const skb = buildSkb(m.env, m.cpu, (head << 12) as never, 4096)!
    skbReserve(skb, 256)
    skbPut(skb, 1000)
    skb.ppRecycle = true
    return skb
  }

  it('go back to the pool with the packet, head and fragments alike', () => {
    const { m, pool, page } = setupPool()
    const skb = poolSkb(m, page())
    skbAddRxFrag(skb, 0, page(), 0, 500, 4096)
    const before = pagePoolGetStats(pool)
    napiConsumeSkb(m.cpu, skb, 64)
    const after = pagePoolGetStats(pool)
    expect(after.ring + after.cached - before.ring - before.cached).toBe(2)
    expect(after.releasedRefcnt).toBe(0)
  })

  it('go back once, with the last clone', () => {
    const { m, pool, page } = setupPool()
    const skb = poolSkb(m, page())
    const clone = skbClone(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)!
    expect(clone.ppRecycle).toBe(true)
    const before = pagePoolGetStats(pool).ring
    consumeSkb(m.cpu, skb, 'x')
    expect(pagePoolGetStats(pool).ring - before).toBe(0)
    consumeSkb(m.cpu, clone, 'x')
    expect(pagePoolGetStats(pool).ring - before).toBe(1)
  })

  it('count pool references when two packets share a page', () => {
    const { m, pool, page } = setupPool()
    const skb = poolSkb(m, page())
    const shared = page()
    skbAddRxFrag(skb, 0, shared, 0, 500, 4096)
    const copy = pskbCopy(m.cpu, skb, m.mem.gfp.GFP_ATOMIC)!
    expect([m.mem.pages.ppRefCount[shared], m.mem.pages.refcount[shared]]).toEqual([2, 1])
    consumeSkb(m.cpu, skb, 'x')
    const before = pagePoolGetStats(pool).ring
    consumeSkb(m.cpu, copy, 'x')
    expect(pagePoolGetStats(pool).ring - before).toBe(1)
    expect(pagePoolGetStats(pool).releasedRefcnt).toBe(0)
  })

  it('return to the pool when the packet gets a head from the slab', () => {
    const { m, page } = setupPool()
    const head = page()
    const skb = poolSkb(m, head)
    expect(pskbExpandHead(m.cpu, skb, 0, 0, m.mem.gfp.GFP_ATOMIC)).toBe(0)
    expect([skb.headFrag, skb.ppRecycle]).toEqual([false, true])
    consumeSkb(m.cpu, skb, 'x')
  })
})
