/**
 * Idle heads that a CPU's softirq keeps at hand. Only bottom halves of that CPU touch them, so there is no
 * lock; the slab sees them in bulk and no tracepoint sees them at all.
 */
import { assert, type Cpu } from '@netmem/base'
import { kmemCacheAllocObjBulk, kmemCacheFreeObjBulk } from '@netmem/memory'
import type { Skbuffs } from './env.js'
import {
  NAPI_SKB_CACHE_BULK,
  NAPI_SKB_CACHE_HALF,
  NAPI_SKB_CACHE_SIZE,
  type NapiAllocCache,
} from './napi-alloc-cache.js'
import type { SkBuff } from './sk-buff.js'

/** Models `this_cpu_ptr(&napi_alloc_cache)`; remembers the answer, as the next question is from the same CPU. */
export function thisCpuNapi(env: Skbuffs, cpu: Cpu): NapiAllocCache {
  if (cpu !== env.lastCpu) {
    env.lastCpu = cpu
    env.lastNapi = env.napi[cpu.id]!
  }
  return env.lastNapi
}

/** Models `napi_skb_cache_get` (net/core/skbuff.c). @returns a head with undefined fields, or null. */
export function napiSkbCacheGet(env: Skbuffs, cpu: Cpu): SkBuff | null {
  const nc = env.napi[cpu.id]!
  if (nc.skbCount === 0 && napiSkbCacheRefill(env, cpu, nc) === 0) return null
  return nc.skbCache[--nc.skbCount]!
}

/** Models `napi_skb_cache_put`: the count goes 63, 32 and never rests at 64. */
export function napiSkbCachePut(env: Skbuffs, cpu: Cpu, skb: SkBuff): void {
  const nc = env.napi[cpu.id]!
  nc.skbCache[nc.skbCount++] = skb
  if (nc.skbCount === NAPI_SKB_CACHE_SIZE) napiSkbCacheFlush(env, cpu, nc)
}

/**
 * Models `napi_skb_cache_get_bulk` (6.15 on): `count` heads with undefined fields, topping the cache up first.
 *
 * @returns how many are in `out[0, n)`; fewer only when the slab is out of memory.
 */
export function napiSkbCacheGetBulk(env: Skbuffs, cpu: Cpu, out: SkBuff[], count: number): number {
  const nc = env.napi[cpu.id]!
  let got = 0
  if (nc.skbCount < count) {
    take(env, cpu, nc, Math.min(NAPI_SKB_CACHE_SIZE - nc.skbCount, NAPI_SKB_CACHE_BULK))
    const missing = count - nc.skbCount
    if (missing > 0) {
      const direct = new Int32Array(missing)
      const taken = kmemCacheAllocObjBulk(env.skbuffCache, cpu, env.gfpAtomic, missing, direct, 0, SITE)
      for (; got < taken; got++) out[got] = env.headBodies[direct[got]!]!
    }
  }
  while (got < count && nc.skbCount > 0) out[got++] = nc.skbCache[--nc.skbCount]!
  return got
}

/** Ours: brings a CPU's cache to exactly `count` heads, as silently as the kernel does; for recorders and players. */
export function napiSkbCacheResize(env: Skbuffs, cpu: Cpu, count: number): void {
  assert(count >= 0 && count < NAPI_SKB_CACHE_SIZE, 'a napi cache rests at 0 to 63 heads')
  const nc = env.napi[cpu.id]!
  while (nc.skbCount > count) giveBack(env, cpu, nc, Math.max(count, nc.skbCount - NAPI_SKB_CACHE_HALF))
  if (nc.skbCount < count) assert(take(env, cpu, nc, count - nc.skbCount), 'no memory for heads')
}

// Cold path: once per 16 gets or 32 puts.

/** What failure injection sees; no tracepoint names a bulk call. */
const SITE = 'napi_skb_cache_get'

/** Takes `NAPI_SKB_CACHE_BULK` heads, all or nothing. @returns how many there are now. */
export function napiSkbCacheRefill(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache): number {
  take(env, cpu, nc, NAPI_SKB_CACHE_BULK)
  return nc.skbCount
}

/** Gives the upper half, the most recent heads, back to the slab in one go. */
export function napiSkbCacheFlush(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache): void {
  giveBack(env, cpu, nc, NAPI_SKB_CACHE_HALF)
}

function take(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache, count: number): boolean {
  const objs = env.bulkObjs
  const taken = kmemCacheAllocObjBulk(env.skbuffCache, cpu, env.gfpAtomic, count, objs, 0, SITE)
  const { skbCache } = nc
  const base = nc.skbCount
  for (let i = 0; i < taken; i++) skbCache[base + i] = env.headBodies[objs[i]!]!
  nc.skbCount = base + taken
  return taken > 0
}

function giveBack(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache, from: number): void {
  const objs = env.bulkObjs
  const { skbCache } = nc
  const count = nc.skbCount - from
  for (let i = 0; i < count; i++) objs[i] = skbCache[from + i]!.obj
  kmemCacheFreeObjBulk(env.skbuffCache, cpu, count, objs, 0, SITE)
  nc.skbCount = from
}

/**
 * Models `xdp_alloc_skb_bulk` (net/core/xdp.c, until 6.14): `count` heads straight from the slab, all or nothing.
 * Later kernels take them from the napi cache: `napiSkbCacheGetBulk`.
 *
 * @returns how many are in `out[0, n)`: `count` or 0.
 */
export function allocSkbHeadBulk(env: Skbuffs, cpu: Cpu, out: SkBuff[], count: number, site: string): number {
  const objs = new Int32Array(count)
  const taken = kmemCacheAllocObjBulk(env.skbuffCache, cpu, env.gfpAtomic, count, objs, 0, site)
  for (let i = 0; i < taken; i++) out[i] = env.headBodies[objs[i]!]!
  return taken
}
