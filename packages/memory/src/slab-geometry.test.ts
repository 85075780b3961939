import { kernelProfiles } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { kmemCacheCreate, SLAB_ACCOUNT, SLAB_HWCACHE_ALIGN, SLAB_TYPESAFE_BY_RCU, slabInfo } from './index.js'
import {
  calculateAlignment,
  calculateOrder,
  cpuPartialObjects,
  cpuPartialSlabs,
  minPartial,
  orderObjects,
  slabStride,
  slubMinObjects,
} from './slab-geometry.js'
import { testMachine } from './testing.js'

describe.each(Object.values(kernelProfiles))('slab geometry of $name', (profile) => {
  const keeps = profile.features.slabKeepsMinObjects
  const check = (size: number, objects: number, pages: number) => {
    const order = calculateOrder(size, profile.nr_cpus, keeps)
    expect([orderObjects(order, size), 1 << order]).toEqual([objects, pages])
  }

  it.each(Object.entries(profile.slab_caches))('%s has the recorded slabs', (_name, cache) => {
    check(cache.object_size!, cache.objects_per_slab!, cache.pages_per_slab!)
  })

  it.each(Object.entries(profile.slab_sysfs))('%s has the recorded slabs (sysfs)', (_name, cache) => {
    check(Number(cache.slab_size), Number(cache.objects_per_slab), Number(cache.pages_per_slab))
  })

  it('has the recorded kmalloc caches, in the order of slabinfo', () => {
    const { mem } = testMachine({ profile: profile.name })
    const recorded = Object.entries(profile.kmalloc).map(
      ([name, { object_size, objects_per_slab, pages_per_slab }]) => [
        name,
        object_size,
        objects_per_slab,
        pages_per_slab,
      ],
    )
    const ours = slabInfo(mem)
      .filter(({ name }) => name in profile.kmalloc)
      .map(({ name, objSize, objPerSlab, pagesPerSlab }) => [name, objSize, objPerSlab, pagesPerSlab])
    expect(ours).toEqual(recorded)
  })

  // How the kernel asks for the caches whose layout the profile records: flags and window, sizes from the profile.
  it.each([
    ['skbuff_head_cache', SLAB_HWCACHE_ALIGN, 48],
    ['TCP', SLAB_HWCACHE_ALIGN | SLAB_ACCOUNT | SLAB_TYPESAFE_BY_RCU, 0],
    ['TCPv6', SLAB_HWCACHE_ALIGN | SLAB_ACCOUNT | SLAB_TYPESAFE_BY_RCU, 0],
    ['UDP', SLAB_HWCACHE_ALIGN | SLAB_ACCOUNT, 0],
    ['RAW', SLAB_HWCACHE_ALIGN | SLAB_ACCOUNT, 4],
    ['request_sock_TCP', SLAB_TYPESAFE_BY_RCU, 0],
    ['tw_sock_TCP', SLAB_TYPESAFE_BY_RCU, 0],
    ['ip4-frags', 0, 0],
  ])('%s has the recorded distance between objects', (name, flags, usersize) => {
    const { mem } = testMachine({ profile: profile.name })
    const recorded = profile.slab_sysfs[name]!
    const cache = kmemCacheCreate(mem, name, Number(recorded.object_size), { flags, usersize })
    expect(cache.size).toBe(recorded.slab_size)
    expect(cache.core.align).toBe(recorded.align)
    expect(cache.core.usersize).toBe(recorded.usersize)
    expect(cache.core.objects).toBe(recorded.objects_per_slab)
    expect(1 << cache.core.order).toBe(recorded.pages_per_slab)
  })
})

describe('slab geometry', () => {
  it('depends on the number of CPUs', () => {
    expect([1, 2, 4, 8, 64].map(slubMinObjects)).toEqual([8, 12, 16, 20, 32])
    expect([1, 2, 16].map((cpus) => calculateOrder(1024, cpus, true))).toEqual([1, 2, 3])
  })

  it('takes one object of any order when it fits no ordinary slab, and refuses what fits none', () => {
    expect(calculateOrder(40000, 2, true)).toBe(4)
    expect(calculateOrder(40000, 2, false)).toBe(4)
    expect(calculateOrder(8 << 20, 2, true)).toBe(-1)
  })

  it('never wastes more than half of a slab of several objects', () => {
    for (const keeps of [true, false])
      for (let size = 8; size <= 16384; size += 8) {
        const order = calculateOrder(size, 2, keeps)
        expect(order).toBeLessThanOrEqual(3)
        expect(orderObjects(order, size) * size * 2).toBeGreaterThan(4096 << order)
      }
  })

  it('aligns to a cache line, or to the part of one that the object fits in', () => {
    expect([8, 16, 17, 32, 33, 64, 65, 200].map((size) => calculateAlignment(SLAB_HWCACHE_ALIGN, 0, size, 64))).toEqual(
      [8, 16, 32, 32, 64, 64, 64, 64],
    )
    expect(calculateAlignment(0, 0, 200, 64)).toBe(8)
    expect(calculateAlignment(0, 256, 200, 64)).toBe(256)
  })

  it('puts the free pointer outside only where a free object must stay as it is', () => {
    expect(slabStride(312, 8, 0, false, false)).toBe(312)
    expect(slabStride(312, 8, SLAB_TYPESAFE_BY_RCU, false, false)).toBe(320)
    expect(slabStride(184, 64, SLAB_TYPESAFE_BY_RCU, false, true)).toBe(192)
    expect(slabStride(768, 64, 0, true, false)).toBe(832)
  })

  it('sizes the partial lists by object size', () => {
    expect([8192, 4096, 1024, 1023, 256, 255].map(cpuPartialObjects)).toEqual([6, 6, 24, 52, 52, 120])
    expect(cpuPartialSlabs(52, 16)).toBe(7)
    expect([8, 256, 2048, 4096, 8192, 1 << 20].map(minPartial)).toEqual([5, 5, 5, 6, 6, 10])
  })
})

describe('merging', () => {
  it('makes one cache of two that are alike, and shows the larger size asked for', () => {
    const { mem } = testMachine()
    const first = kmemCacheCreate(mem, 'alpha', 696, { flags: SLAB_HWCACHE_ALIGN })
    const second = kmemCacheCreate(mem, 'beta', 700, { flags: SLAB_HWCACHE_ALIGN })
    expect(second.core).toBe(first.core)
    expect(second.merged).toBe(true)
    expect(first.objectSize).toBe(700)
    const lines = slabInfo(mem).filter(({ name }) => name === 'alpha' || name === 'beta')
    expect(lines.map(({ name, aliases }) => [name, aliases])).toEqual([['alpha', ['alpha', 'beta']]])
  })

  it.each([
    ['a user-copy window', { usersize: 8 }],
    ['a constructor', { ctor: () => undefined }],
    ['another accounting', { flags: SLAB_ACCOUNT }],
    ['RCU-typesafe objects', { flags: SLAB_TYPESAFE_BY_RCU }],
    ['a stricter alignment', { align: 256 }],
  ])('keeps a cache with %s apart', (_what, args) => {
    const { mem } = testMachine()
    const plain = kmemCacheCreate(mem, 'plain', 704)
    expect(kmemCacheCreate(mem, 'other', 704, args).core).not.toBe(plain.core)
    expect(kmemCacheCreate(mem, 'same', 700).core).toBe(plain.core)
  })

  it.each([
    ['linux-6.18-x86_64', true],
    ['linux-6.1-x86_64', false],
  ])('hides skbuff_fclone_cache behind a 512-byte cache (%s), but not the head caches', (name) => {
    const { mem, profile } = testMachine({ profile: name })
    const fclone = kmemCacheCreate(mem, 'skbuff_fclone_cache', profile.structs.sk_buff_fclones!.size, {
      flags: SLAB_HWCACHE_ALIGN,
    })
    expect(fclone.merged).toBe(true)
    expect([fclone.objectSize, fclone.size]).toEqual([512, 512])
    kmemCacheCreate(mem, 'skbuff_head_cache', profile.structs.sk_buff!.size, {
      flags: SLAB_HWCACHE_ALIGN,
      useroffset: 40,
      usersize: 48,
    })
    expect(
      slabInfo(mem)
        .filter((info) => info.name.includes('skbuff'))
        .map((info) => info.name),
    ).toEqual(['skbuff_head_cache'])
  })

  it('drops a window that lies outside the object, and says so', () => {
    const { mem, trace } = testMachine()
    const warnings: string[] = []
    trace.warn = (_site, words) => warnings.push(words)
    const cache = kmemCacheCreate(mem, 'odd', 100, { useroffset: 60, usersize: 48 })
    expect([cache.core.useroffset, cache.core.usersize]).toEqual([0, 0])
    expect(warnings).toEqual(['odd: usercopy window outside the object'])
  })
})
