/**
 * Benchmarks of the allocators. A case makes a machine, its `run(n)` does n operations and returns a checksum of
 * its work; one operation is one allocation with its free (per object for bulk cases).
 */
import { type Addr, Cpu, kernelProfile, type Pfn, Trace } from '@netmem/base'
import {
  allocPages,
  allocPagesBulk,
  freePages,
  type KmemCache,
  kfree,
  kmalloc,
  kmemCacheAlloc,
  kmemCacheAllocObj,
  kmemCacheAllocObjBulk,
  kmemCacheCreate,
  kmemCacheFree,
  kmemCacheFreeObj,
  kmemCacheFreeObjBulk,
  type Memory,
  memoryCreate,
  SLAB_HWCACHE_ALIGN,
} from '../src/index.js'

/** One case, on a machine of its own. */
export interface BenchCase {
  readonly unit: string
  run(n: number): number
}

class Bench {
  readonly mem: Memory = memoryCreate({
    profile: kernelProfile('linux-6.18-x86_64'),
    bytes: 256 << 20,
    cpus: 2,
    trace: new Trace(),
  })
  readonly cpu = new Cpu(0, 0)
  readonly cache: KmemCache = kmemCacheCreate(this.mem, 'bench-256', 256, {
    flags: SLAB_HWCACHE_ALIGN,
    useroffset: 40,
    usersize: 48,
  })
  readonly ring = new Int32Array(1024)
}

function benchCase(
  unit: string,
  run: (bench: Bench, n: number) => number,
  prepare?: (bench: Bench) => void,
): () => BenchCase {
  return () => {
    const bench = new Bench()
    prepare?.(bench)
    return { unit, run: (n) => run(bench, n) }
  }
}

const SITE = 'bench'

export const cases: Readonly<Record<string, () => BenchCase>> = {
  'buddy order-0': benchCase('ns/page', ({ mem, cpu }, n) => {
    const gfp = mem.gfp.GFP_ATOMIC
    let sum = 0
    for (let i = 0; i < n; i++) {
      const pfn = allocPages(mem, cpu, gfp, 0, -1, SITE)
      sum ^= pfn
      freePages(mem, cpu, pfn, 0, SITE)
    }
    return sum
  }),
  'buddy order-0, 1024 live': benchCase(
    'ns/page',
    ({ mem, cpu, ring }, n) => {
      const gfp = mem.gfp.GFP_ATOMIC
      let sum = 0
      for (let i = 0; i < n; i++) {
        const at = i & 1023
        freePages(mem, cpu, ring[at]! as Pfn, 0, SITE)
        const pfn = allocPages(mem, cpu, gfp, 0, -1, SITE)
        ring[at] = pfn
        sum ^= pfn
      }
      return sum
    },
    ({ mem, cpu, ring }) => {
      for (let i = 0; i < 1024; i++) ring[i] = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, SITE)
    },
  ),
  'buddy order-3 compound': benchCase('ns/block', ({ mem, cpu }, n) => {
    const gfp = mem.gfp.GFP_ATOMIC | mem.gfp.COMP
    let sum = 0
    for (let i = 0; i < n; i++) {
      const pfn = allocPages(mem, cpu, gfp, 3, -1, SITE)
      sum ^= pfn
      freePages(mem, cpu, pfn, 3, SITE)
    }
    return sum
  }),
  'alloc_pages_bulk 64': benchCase('ns/page', ({ mem, cpu, ring }, n) => {
    const gfp = mem.gfp.GFP_ATOMIC
    let sum = 0
    for (let i = 0; i < n; i += 64) {
      ring.fill(0, 0, 64)
      allocPagesBulk(mem, cpu, gfp, -1, 64, ring, 0, SITE)
      sum ^= ring[63]!
      for (let j = 0; j < 64; j++) freePages(mem, cpu, ring[j]! as Pfn, 0, SITE)
    }
    return sum
  }),
  'slub 256': benchCase('ns/object', ({ mem, cpu, cache }, n) => {
    const gfp = mem.gfp.GFP_ATOMIC
    let sum = 0
    for (let i = 0; i < n; i++) {
      const addr = kmemCacheAlloc(cache, cpu, gfp, SITE)
      sum ^= addr
      kmemCacheFree(cache, cpu, addr, SITE)
    }
    return sum
  }),
  'slub 256, by number': benchCase('ns/object', ({ mem, cpu, cache }, n) => {
    const gfp = mem.gfp.GFP_ATOMIC
    let sum = 0
    for (let i = 0; i < n; i++) {
      const obj = kmemCacheAllocObj(cache, cpu, gfp, -1, SITE)
      sum ^= obj
      kmemCacheFreeObj(cache, cpu, obj, SITE)
    }
    return sum
  }),
  'slub 256, 1024 live': benchCase(
    'ns/object',
    ({ mem, cpu, cache, ring }, n) => {
      const gfp = mem.gfp.GFP_ATOMIC
      let sum = 0
      for (let i = 0; i < n; i++) {
        const at = i & 1023
        kmemCacheFree(cache, cpu, ring[at]! as Addr, SITE)
        const addr = kmemCacheAlloc(cache, cpu, gfp, SITE)
        ring[at] = addr
        sum ^= addr
      }
      return sum
    },
    ({ mem, cpu, cache, ring }) => {
      for (let i = 0; i < 1024; i++) ring[i] = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_KERNEL, SITE)
    },
  ),
  'slub 256, bulk 16 by number': benchCase('ns/object', ({ mem, cpu, cache, ring }, n) =>
    bulk(mem, cpu, cache, ring, n, 16),
  ),
  'slub 256, bulk 32 by number': benchCase('ns/object', ({ mem, cpu, cache, ring }, n) =>
    bulk(mem, cpu, cache, ring, n, 32),
  ),
  'kmalloc 256': benchCase('ns/block', ({ mem, cpu }, n) => {
    const gfp = mem.gfp.GFP_ATOMIC
    let sum = 0
    for (let i = 0; i < n; i++) {
      const addr = kmalloc(mem, cpu, 256, gfp, SITE)
      sum ^= addr
      kfree(mem, cpu, addr, SITE)
    }
    return sum
  }),
  'kmalloc 2048': benchCase('ns/block', ({ mem, cpu }, n) => {
    const gfp = mem.gfp.GFP_ATOMIC
    let sum = 0
    for (let i = 0; i < n; i++) {
      const addr = kmalloc(mem, cpu, 1800, gfp, SITE)
      sum ^= addr
      kfree(mem, cpu, addr, SITE)
    }
    return sum
  }),
}

function bulk(mem: Memory, cpu: Cpu, cache: KmemCache, ring: Int32Array, n: number, size: number): number {
  const gfp = mem.gfp.GFP_ATOMIC
  let sum = 0
  for (let i = 0; i < n; i += size) {
    kmemCacheAllocObjBulk(cache, cpu, gfp, size, ring, 0, SITE)
    sum ^= ring[0]!
    kmemCacheFreeObjBulk(cache, cpu, size, ring, 0, SITE)
  }
  return sum
}
