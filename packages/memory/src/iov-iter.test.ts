import type { Addr, Pfn } from '@netmem/base'
import { seeded } from '@netmem/base/testing'
import { describe, expect, it } from 'vitest'
import {
  allocPages,
  copyFromIter,
  copyFromIterFull,
  copyToIter,
  failEvery,
  getUserPages,
  IovIter,
  iovIterAdvance,
  iovIterBvec,
  iovIterGetPages2,
  iovIterInit,
  iovIterKvec,
  iovIterNpages,
  iovIterRevert,
  iovIterSingleSegCount,
  iovIterTruncate,
  iovIterVec,
  kmalloc,
  kmemCacheAlloc,
  kmemCacheCreate,
  memcmp,
  memcpy,
  memset,
  pageCount,
  putPage,
  readBytes,
  type UserBuffer,
  userAlloc,
  userFree,
  userRead,
  userWrite,
  writeBytes,
} from './index.js'
import { auditMemory, testMachine } from './testing.js'

const SITE = 'test'
const pattern = (bytes: number, from = 0) =>
  Uint8Array.from({ length: bytes }, (_, i) => (from + i * 7 + (i >>> 8)) & 255)

/** A buffer whose pages are no neighbours. */
function scattered(machine: ReturnType<typeof testMachine>, pages: number): UserBuffer {
  const { mem, cpu } = machine
  mem.fault = failEvery(1)
    .byKind('page')
    .bySize(8192, 4 << 20)
  const holes: Pfn[] = []
  const parts = Array.from({ length: pages }, () => {
    holes.push(allocPages(mem, cpu, mem.gfp.GFP_HIGHUSER_MOVABLE, 0, -1, SITE))
    return userAlloc(mem, cpu, 4096)!
  })
  mem.fault = null
  const pfns = Int32Array.from(parts.map((part) => part.pfns[0]!))
  return { bytes: pages * 4096, pfns, base: 0 as Addr, mappedBytes: pages * 4096 }
}

describe('user memory', () => {
  it('is zeroed, contiguous where it can be, and made of single pages', () => {
    const { mem, cpu } = testMachine()
    const buffer = userAlloc(mem, cpu, 100_000)!
    expect(buffer.pfns.length).toBe(25)
    expect(buffer.base).toBe(buffer.pfns[0]! << 12)
    expect(userRead(mem, buffer, 0, 100_000).every((byte) => byte === 0)).toBe(true)
    for (const pfn of buffer.pfns) expect(pageCount(mem, pfn as Pfn)).toBe(1)
    auditMemory(mem)
    userFree(mem, cpu, buffer)
    auditMemory(mem)
  })

  it('can be larger than the largest block', () => {
    const { mem, cpu } = testMachine()
    const buffer = userAlloc(mem, cpu, 9 << 20)!
    userWrite(mem, buffer, (4 << 20) - 3, pattern(10))
    expect(userRead(mem, buffer, (4 << 20) - 3, 10)).toEqual(pattern(10))
    userFree(mem, cpu, buffer)
    auditMemory(mem)
  })

  it('leaves nothing behind when memory runs out half way', () => {
    const { mem, cpu } = testMachine()
    expect(userAlloc(mem, cpu, 100 << 20)).toBe(null)
    auditMemory(mem)
    expect(userAlloc(mem, cpu, 10 << 20)).not.toBe(null)
  })

  it('lets a page outlive the buffer while somebody holds it', () => {
    const { mem, cpu } = testMachine()
    const buffer = userAlloc(mem, cpu, 8192)!
    const pinned = new Int32Array(4)
    expect(getUserPages(mem, buffer, 4000, 200, pinned, 1)).toBe(2)
    userFree(mem, cpu, buffer)
    expect([pageCount(mem, pinned[1]! as Pfn), pageCount(mem, pinned[2]! as Pfn)]).toEqual([1, 1])
    putPage(mem, cpu, pinned[1]! as Pfn, SITE)
    putPage(mem, cpu, pinned[2]! as Pfn, SITE)
    auditMemory(mem)
  })
})

describe('iov_iter', () => {
  it.each(['one buffer', 'scattered pages', 'several buffers', 'bvec', 'kvec'])(
    'copies both ways through %s, in any chunks',
    (kind) => {
      const machine = testMachine()
      const { mem, cpu } = machine
      const { rng, label } = seeded(kind.length)
      const total = 30_000
      const iter = new IovIter()
      const start = () => {
        if (kind === 'one buffer') iovIterInit(iter, userAlloc(mem, cpu, total + 100)!, 77, total)
        else if (kind === 'scattered pages') iovIterInit(iter, scattered(machine, 10), 77, total)
        else if (kind === 'several buffers') {
          const bufs = [userAlloc(mem, cpu, 9000)!, scattered(machine, 5), userAlloc(mem, cpu, 9000)!]
          iovIterVec(iter, bufs, Int32Array.of(500, 17, 0), Int32Array.of(8000, 14_000, 8000), 3)
        } else if (kind === 'bvec') {
          const pfns = Int32Array.from({ length: 8 }, () => allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE))
          iovIterBvec(
            iter,
            pfns,
            Int32Array.of(0, 96, 0, 0, 0, 0, 0, 0),
            Int32Array.of(4096, 4000, 4096, 4096, 4096, 4096, 4096, 4096),
            8,
            total,
          )
        } else {
          const addrs = [10_000, 12_000, 8000].map((bytes) => kmalloc(mem, cpu, bytes, mem.gfp.GFP_KERNEL, SITE))
          iovIterKvec(iter, Int32Array.from(addrs), Int32Array.of(10_000, 12_000, 8000), 3)
        }
      }
      start()
      expect(iter.count).toBe(total)
      const kernel = kmalloc(mem, cpu, total, mem.gfp.GFP_KERNEL, SITE)
      const data = pattern(total, 3)
      writeBytes(mem, kernel, data)
      for (let at = 0; at < total; ) {
        const chunk = Math.min(total - at, 1 + rng.below(6000))
        expect(copyToIter(mem, cpu, (kernel + at) as Addr, chunk, iter), label).toBe(chunk)
        at += chunk
      }
      expect(iter.count).toBe(0)
      expect(copyToIter(mem, cpu, kernel, 1, iter)).toBe(0)
      iovIterRevert(iter, total)
      memset(mem, kernel, 0, total)
      for (let at = 0; at < total; ) {
        const chunk = Math.min(total - at, 1 + rng.below(6000))
        expect(copyFromIter(mem, cpu, (kernel + at) as Addr, chunk, iter), label).toBe(chunk)
        at += chunk
      }
      expect(readBytes(mem, kernel, total)).toEqual(data)
      // Back and forth ends where it began.
      iovIterRevert(iter, total)
      iovIterAdvance(iter, 12_345)
      iovIterRevert(iter, 2345)
      expect(copyFromIter(mem, cpu, kernel, 5, iter)).toBe(5)
      expect(readBytes(mem, kernel, 5)).toEqual(data.subarray(10_000, 10_005))
    },
  )

  it('stops short where user memory is not mapped, and a full copy undoes itself', () => {
    const { mem, cpu } = testMachine()
    const buffer = userAlloc(mem, cpu, 8192)!
    buffer.mappedBytes = 5000
    const kernel = kmalloc(mem, cpu, 8192, mem.gfp.GFP_KERNEL, SITE)
    const iter = new IovIter()
    iovIterInit(iter, buffer, 1000, 7000)
    expect(copyFromIterFull(mem, cpu, kernel, 7000, iter)).toBe(false)
    expect(iter).toMatchObject({ count: 7000, iovOffset: 1000 })
    expect(copyFromIter(mem, cpu, kernel, 7000, iter)).toBe(4000)
    expect(copyFromIter(mem, cpu, kernel, 1, iter)).toBe(0)
  })

  it('can be cut short, counts its pages and its current segment', () => {
    const { mem, cpu } = testMachine()
    const iter = new IovIter()
    iovIterInit(iter, userAlloc(mem, cpu, 20_000)!, 4095, 4098)
    expect(iovIterNpages(iter, 16)).toBe(3)
    expect(iovIterNpages(iter, 2)).toBe(2)
    iovIterTruncate(iter, 1)
    expect(iovIterNpages(iter, 16)).toBe(1)
    expect(iovIterSingleSegCount(iter)).toBe(1)
  })

  it('takes references on the pages under the next bytes', () => {
    const machine = testMachine()
    const { mem } = machine
    const buffer = scattered(machine, 4)
    const iter = new IovIter()
    iovIterInit(iter, buffer, 100, 12_000)
    const pfns = new Int32Array(8)
    expect(iovIterGetPages2(mem, iter, pfns, 0, 100_000, 2)).toBe(8192 - 100)
    expect([pfns[0], pfns[1], pfns[2]]).toEqual([buffer.pfns[0], buffer.pfns[1], 0])
    expect(pageCount(mem, pfns[0]! as Pfn)).toBe(2)
    expect(iter.iovOffset).toBe(8192)
    expect(iovIterGetPages2(mem, iter, pfns, 0, 50, 8)).toBe(50)
  })

  it('reports what it copies', () => {
    const { mem, cpu, trace } = testMachine()
    const copies: unknown[] = []
    trace.copy = (_cpu, site, bytes) => copies.push([site, bytes])
    const iter = new IovIter()
    iovIterInit(iter, userAlloc(mem, cpu, 100)!, 0, 100)
    const kernel = kmalloc(mem, cpu, 100, mem.gfp.GFP_KERNEL, SITE)
    copyFromIter(mem, cpu, kernel, 60, iter)
    copyToIter(mem, cpu, kernel, 100, iter)
    expect(copies).toEqual([
      ['_copy_from_iter', 60],
      ['_copy_to_iter', 40],
    ])
  })

  it('never lets bytes outside of the user-copy window travel', () => {
    const { mem, cpu } = testMachine()
    const cache = kmemCacheCreate(mem, 'skbuff_head_cache', 224, { useroffset: 40, usersize: 48 })
    const head = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
    const iter = new IovIter()
    iovIterInit(iter, userAlloc(mem, cpu, 4096)!, 0, 4096)
    expect(copyToIter(mem, cpu, (head + 40) as Addr, 48, iter)).toBe(48)
    expect(() => copyToIter(mem, cpu, head, 48, iter)).toThrow('exposure attempt detected from SLUB object')
    expect(() => copyFromIter(mem, cpu, (head + 48) as Addr, 48, iter)).toThrow('overwrite attempt')
  })
})

describe('memcpy and its kind', () => {
  it('move bytes at every alignment, overlapping or not', () => {
    const { mem, cpu } = testMachine()
    const base = kmalloc(mem, cpu, 256, mem.gfp.GFP_KERNEL, SITE)
    for (let bytes = 0; bytes <= 40; bytes++)
      for (const [from, to] of [
        [0, 128],
        [3, 129],
        [8, 4],
        [4, 8],
        [7, 5],
        [5, 7],
      ] as const) {
        writeBytes(mem, base, pattern(256))
        const expected = pattern(256)
        expected.copyWithin(to, from, from + bytes)
        memcpy(mem, (base + to) as Addr, (base + from) as Addr, bytes)
        expect(readBytes(mem, base, 256)).toEqual(expected)
      }
    expect(memcmp(mem, base, base, 100)).toBe(0)
    memset(mem, base, 0, 4)
    memset(mem, (base + 4) as Addr, 9, 4)
    expect(memcmp(mem, base, (base + 4) as Addr, 4)).toBe(-9)
  })

  it('refuses to leave memory', () => {
    const { mem } = testMachine()
    expect(() => memcpy(mem, 0 as Addr, 8192 as Addr, 4)).toThrow('outside of memory')
    expect(() => memcpy(mem, 8192 as Addr, (mem.bytes - 4) as Addr, 8)).toThrow('outside of memory')
  })
})
