/**
 * Idle heads that a CPU's softirq keeps at hand. Only bottom halves of that CPU touch them, so there is no
 * lock; the slab sees them in bulk and no tracepoint sees them at all.
 */
import type { Cpu } from '@netmem/base'
import { kmemCacheAllocObjBulk, kmemCacheFreeObjBulk } from '@netmem/memory'
import type { Skbuffs } from './env.js'
import {
  NAPI_SKB_CACHE_BULK,
  NAPI_SKB_CACHE_HALF,
  NAPI_SKB_CACHE_SIZE,
  type NapiAllocCache,
} from './napi-alloc-cache.js'
import type { SkBuff } from './sk-buff.js'

/** Models `napi_skb_cache_get` (net/core/skbuff.c). @returns a head with undefined fields, or null. */
export function napiSkbCacheGet(env: Skbuffs, cpu: Cpu): SkBuff | null {
  const nc = env.napi[cpu.id]!
  if (nc.skbCount === 0 && napiSkbCacheRefill(env, cpu, nc) === 0) return null
  return env.headBodies[nc.skbCache[--nc.skbCount]!]!
}

/** Models `napi_skb_cache_put`: the count goes 63, 32 and never rests at 64. */
export function napiSkbCachePut(env: Skbuffs, cpu: Cpu, skb: SkBuff): void {
  const nc = env.napi[cpu.id]!
  nc.skbCache[nc.skbCount++] = skb.obj
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
    const bulk = Math.min(NAPI_SKB_CACHE_SIZE - nc.skbCount, NAPI_SKB_CACHE_BULK)
    const gfp = env.gfpAtomic
    nc.skbCount += kmemCacheAllocObjBulk(env.skbuffCache, cpu, gfp, bulk, nc.skbCache, nc.skbCount, '')
    if (nc.skbCount < count) {
      const missing = count - nc.skbCount
      const direct = new Int32Array(missing)
      const taken = kmemCacheAllocObjBulk(env.skbuffCache, cpu, gfp, missing, direct, 0, '')
      for (; got < taken; got++) out[got] = env.headBodies[direct[got]!]!
    }
  }
  while (got < count && nc.skbCount > 0) out[got++] = env.headBodies[nc.skbCache[--nc.skbCount]!]!
  return got
}

// Cold path: once per 16 gets or 32 puts.

/** Takes `NAPI_SKB_CACHE_BULK` heads, all or nothing. @returns how many there are now. */
export function napiSkbCacheRefill(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache): number {
  nc.skbCount = kmemCacheAllocObjBulk(env.skbuffCache, cpu, env.gfpAtomic, NAPI_SKB_CACHE_BULK, nc.skbCache, 0, '')
  return nc.skbCount
}

/** Gives the upper half, the most recent heads, back to the slab in one go. */
export function napiSkbCacheFlush(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache): void {
  kmemCacheFreeObjBulk(env.skbuffCache, cpu, NAPI_SKB_CACHE_HALF, nc.skbCache, NAPI_SKB_CACHE_HALF, '')
  nc.skbCount = NAPI_SKB_CACHE_HALF
}
