/**
 * Skbs around memory that is there already: a driver's receive buffer, a page-pool page, a kmalloc'ed block.
 * On failure the data stays the caller's.
 */
import { type Addr, assert, type Cpu, type Pfn } from '@netmem/base'
import { kmemCacheAllocObj, ksize, pageIsPfmemalloc } from '@netmem/memory'
import { NUMA_NO_NODE } from './alloc.js'
import { buildSkbBlock } from './birth.js'
import type { Skbuffs } from './env.js'
import { napiSkbCacheGet } from './napi-skb-cache.js'
import { SKB_HEAD_FRAG, SKB_PFMEMALLOC, type SkBuff } from './sk-buff.js'

/**
 * Models `build_skb` (net/core/skbuff.c): any context. `data` is part of a page and `bytes` of it are the block;
 * 0 means a kmalloc'ed block, which is deprecated: `slabBuildSkb` is meant.
 *
 * @returns an skb with no headroom; reserve it. null: no memory for a head.
 */
export function buildSkb(env: Skbuffs, cpu: Cpu, data: Addr, bytes: number): SkBuff | null {
  const obj = kmemCacheAllocObj(env.skbuffCache, cpu, env.gfpAtomic, NUMA_NO_NODE, env.sites.buildSkb)
  return obj < 0 ? null : buildSkbAround(cpu, env.headBodies[obj]!, data, bytes)
}

/** Models `__napi_build_skb` and `napi_build_skb`: as above in softirq; the head comes from the CPU's cache. */
export function napiBuildSkb(env: Skbuffs, cpu: Cpu, data: Addr, bytes: number): SkBuff | null {
  const skb = napiSkbCacheGet(env, cpu)
  return skb === null ? null : buildSkbAround(cpu, skb, data, bytes)
}

/** Models `build_skb_around`: the caller brings the head too, straight from a head cache. */
export function buildSkbAround(cpu: Cpu, skb: SkBuff, data: Addr, bytes: number): SkBuff {
  const env = skb.env
  if (bytes === 0) {
    env.trace.warn?.('__build_skb_around', 'Use slab_build_skb() instead')
    buildSkbBlock(env, skb, data, ksize(env.mem, data), 0, cpu, 0, 0)
    return skb
  }
  if (__ASSERT__) assert(bytes > env.sizes.sharedInfoBytes, '__build_skb_around: no room for the shared info')
  const reserves = pageIsPfmemalloc(env.mem, (data >>> 12) as Pfn)
  buildSkbBlock(env, skb, data, bytes, reserves ? SKB_HEAD_FRAG | SKB_PFMEMALLOC : SKB_HEAD_FRAG, cpu, 0, 0)
  return skb
}

/** Models `slab_build_skb`: around a kmalloc'ed block, all of it. */
export function slabBuildSkb(env: Skbuffs, cpu: Cpu, data: Addr): SkBuff | null {
  const obj = kmemCacheAllocObj(env.skbuffCache, cpu, env.gfpAtomic, NUMA_NO_NODE, 'slab_build_skb')
  if (obj < 0) return null
  const skb = env.headBodies[obj]!
  buildSkbBlock(env, skb, data, ksize(env.mem, data), 0, cpu, 0, 0)
  return skb
}
