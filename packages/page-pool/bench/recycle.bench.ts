/**
 * Goals G4 and G5: a page from the pool and back. One op is one allocation and one return. The pool maps its pages for
 * a coherent device, as most drivers do.
 */
import { Cpu, EventQueue, type Gfp, kernelProfile, Trace } from '@netmem/base'
import { DMA_FROM_DEVICE, deviceCreate, dmaInit } from '@netmem/dma'
import { memoryCreate } from '@netmem/memory'
import {
  type PagePool,
  PP_FLAG_DMA_MAP,
  PP_FLAG_DMA_SYNC_DEV,
  pagePoolAllocPages,
  pagePoolCreate,
  pagePoolPutFullPage,
  pagePoolRecycleDirect,
  pagePoolsInit,
} from '@netmem/page-pool'

export interface BenchCase {
  /** Performs `n` operations and returns a checksum of the work. */
  run(n: number): number
}

interface Bench {
  cpu: Cpu
  pool: PagePool
  gfp: Gfp
}

function bench(bytes = 64 << 20): Bench {
  const profile = kernelProfile('linux-6.18-x86_64')
  const trace = new Trace()
  const cpus = [new Cpu(0, 0)]
  const cpu = cpus[0]!
  const mem = memoryCreate({ profile, bytes, cpus: 1, trace })
  const events = new EventQueue()
  const dev = deviceCreate(dmaInit({ mem, profile, trace, cpus, events }), { name: 'eth0' })
  const pools = pagePoolsInit({ mem, profile, trace, cpus, events })
  const flags = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV
  const pool = pagePoolCreate(pools, cpu, { flags, dev, dmaDir: DMA_FROM_DEVICE, maxLen: 1536 })
  if (typeof pool === 'number') throw new Error(`page_pool_create: ${pool}`)
  cpu.servingSoftirq = 1
  return { cpu, pool, gfp: mem.gfp.GFP_ATOMIC }
}

/** The page comes back before the next is taken: always the cache's top. */
export function fastPath(): BenchCase {
  const { cpu, pool, gfp } = bench()
  return {
    run(n) {
      let sum = 0
      for (let i = 0; i < n; i++) {
        const pfn = pagePoolAllocPages(cpu, pool, gfp)
        sum ^= pfn
        pagePoolRecycleDirect(cpu, pool, pfn)
      }
      return sum
    },
  }
}

/** `live` pages are out; the oldest comes back, the next goes out. */
export function fifo(live: number): BenchCase {
  const { cpu, pool, gfp } = bench()
  const window = new Int32Array(live)
  for (let i = 0; i < live; i++) window[i] = pagePoolAllocPages(cpu, pool, gfp)
  let at = 0
  return {
    run(n) {
      for (let i = 0; i < n; i++) {
        pagePoolRecycleDirect(cpu, pool, window[at] as never)
        window[at] = pagePoolAllocPages(cpu, pool, gfp)
        at = at + 1 === live ? 0 : at + 1
      }
      return window[0]!
    },
  }
}

/** The page comes back from another context, through the ring. */
export function throughRing(): BenchCase {
  const { cpu, pool, gfp } = bench()
  return {
    run(n) {
      let sum = 0
      for (let i = 0; i < n; i++) {
        const pfn = pagePoolAllocPages(cpu, pool, gfp)
        sum ^= pfn
        pagePoolPutFullPage(cpu, pool, pfn, false)
      }
      return sum
    },
  }
}

/** All out, then all back: cache and ring spill. */
export function sawtooth(live: number): BenchCase {
  const { cpu, pool, gfp } = bench()
  const window = new Int32Array(live)
  return {
    run(n) {
      for (let i = 0; i < n; i += live) {
        for (let j = 0; j < live; j++) window[j] = pagePoolAllocPages(cpu, pool, gfp)
        for (let j = 0; j < live; j++) pagePoolRecycleDirect(cpu, pool, window[j] as never)
      }
      return window[0]!
    },
  }
}

export const cases = {
  'page_pool fast path': fastPath,
  'page_pool, 1024 live': () => fifo(1024),
  'page_pool through the ring': throughRing,
  'page_pool, 1024 out and back': () => sawtooth(1024),
}
