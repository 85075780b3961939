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
  const nc = thisCpuNapi(env, cpu)
  const hottest = nc.hottest
  if (hottest !== null) {
    nc.hottest = null
    return hottest
  }
  return napiSkbCacheGetStacked(env, cpu, nc)
}

/** As above once the hottest is gone: an empty stack takes `NAPI_SKB_CACHE_BULK` heads from the slab, all or nothing. */
export function napiSkbCacheGetStacked(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache): SkBuff | null {
  if (nc.stacked === 0 && !take(env, cpu, nc, NAPI_SKB_CACHE_BULK)) return null
  return nc.stack[--nc.stacked]!
}

/** Models `napi_skb_cache_put`: the count goes 63, 32 and never rests at 64. */
export function napiSkbCachePut(env: Skbuffs, cpu: Cpu, skb: SkBuff): void {
  const nc = thisCpuNapi(env, cpu)
  if (nc.hottest === null) nc.hottest = skb
  else napiSkbCachePush(env, cpu, nc, skb)
}

/**
 * Models `napi_skb_cache_get_bulk` (6.15 on): `count` heads with undefined fields, topping the cache up first.
 *
 * @returns how many are in `out[0, n)`; fewer only when the slab is out of memory.
 */
export function napiSkbCacheGetBulk(env: Skbuffs, cpu: Cpu, out: SkBuff[], count: number): number {
  const nc = thisCpuNapi(env, cpu)
  let got = 0
  settle(nc)
  if (nc.stacked < count) {
    take(env, cpu, nc, Math.min(NAPI_SKB_CACHE_SIZE - nc.stacked, NAPI_SKB_CACHE_BULK))
    const missing = count - nc.stacked
    if (missing > 0) {
      const direct = new Int32Array(missing)
      const taken = kmemCacheAllocObjBulk(env.skbuffCache, cpu, env.gfpAtomic, missing, direct, 0, SITE)
      for (; got < taken; got++) out[got] = env.headBodies[direct[got]!]!
    }
  }
  while (got < count && nc.stacked > 0) out[got++] = nc.stack[--nc.stacked]!
  unsettle(nc)
  return got
}

/** Ours: brings a CPU's cache to exactly `count` heads, as silently as the kernel does; for recorders and players. */
export function napiSkbCacheResize(env: Skbuffs, cpu: Cpu, count: number): void {
  assert(count >= 0 && count < NAPI_SKB_CACHE_SIZE, 'a napi cache rests at 0 to 63 heads')
  const nc = thisCpuNapi(env, cpu)
  settle(nc)
  if (nc.stacked > count) giveBack(env, cpu, nc, count)
  else if (nc.stacked < count) assert(take(env, cpu, nc, count - nc.stacked), 'no memory for heads')
  unsettle(nc)
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

// Cold path: bursts, and once per 16 gets or 32 puts.

/** What failure injection sees; no tracepoint names a bulk call. */
const SITE = 'napi_skb_cache_get'

/** The head put before goes on the stack; a full cache gives its upper half, the most recent heads, to the slab. */
export function napiSkbCachePush(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache, skb: SkBuff): void {
  nc.stack[nc.stacked++] = nc.hottest
  nc.hottest = skb
  if (nc.stacked === NAPI_SKB_CACHE_SIZE - 1) {
    settle(nc)
    giveBack(env, cpu, nc, NAPI_SKB_CACHE_HALF)
    unsettle(nc)
  }
}

/** Puts all idle heads on the stack, where bulk calls find them; `unsettle` undoes it. */
function settle(nc: NapiAllocCache): void {
  if (nc.hottest === null) return
  nc.stack[nc.stacked++] = nc.hottest
  nc.hottest = null
}

function unsettle(nc: NapiAllocCache): void {
  if (nc.stacked > 0) nc.hottest = nc.stack[--nc.stacked]!
}

function take(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache, count: number): boolean {
  const objs = env.bulkObjs
  const taken = kmemCacheAllocObjBulk(env.skbuffCache, cpu, env.gfpAtomic, count, objs, 0, SITE)
  const { stack } = nc
  const base = nc.stacked
  for (let i = 0; i < taken; i++) stack[base + i] = env.headBodies[objs[i]!]!
  nc.stacked = base + taken
  return taken > 0
}

function giveBack(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache, from: number): void {
  const objs = env.bulkObjs
  const { stack } = nc
  const count = nc.stacked - from
  for (let i = 0; i < count; i++) objs[i] = stack[from + i]!.obj
  kmemCacheFreeObjBulk(env.skbuffCache, cpu, count, objs, 0, SITE)
  nc.stacked = from
}
