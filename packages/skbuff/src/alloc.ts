/**
 * `__alloc_skb`: a head from a slab (or from the CPU's napi cache), data from the small-head cache or from
 * kmalloc. The data block is rounded up to what the allocator gives, and truesize tells the truth about it.
 */
import { type Addr, type Cpu, type Gfp, NULL } from '@netmem/base'
import {
  gfpPfmemallocAllowed,
  KMALLOC_MAX_SIZE,
  kmallocNode,
  kmallocSizeRoundup,
  kmemCacheAllocNode,
  kmemCacheAllocObj,
  kmemCacheFreeObj,
} from '@netmem/memory'
import { buildSkbBlock } from './birth.js'
import type { Skbuffs } from './env.js'
import { napiSkbCacheGet } from './napi-skb-cache.js'
import { skbHeadAlign } from './sizes.js'
import { SKB_FCLONE_CLONE, SKB_FCLONE_ORIG, SKB_FCLONE_SHIFT, SKB_PFMEMALLOC, type SkBuff } from './sk-buff.js'

/** Models `SKB_ALLOC_FCLONE`: make a pair, so that the one clone that is sure to come costs nothing. */
export const SKB_ALLOC_FCLONE = 1
/** Models `SKB_ALLOC_RX`: for a received packet, which may use the reserves if some socket may. */
export const SKB_ALLOC_RX = 2
/** Models `SKB_ALLOC_NAPI`: softirq context, so the head may come from the CPU's cache. */
export const SKB_ALLOC_NAPI = 4

export const NUMA_NO_NODE = -1

/**
 * Models `__alloc_skb` (net/core/skbuff.c).
 *
 * @param size linear bytes wanted; `data` and `tail` start at `head`.
 * @returns an skb with one holder, or null: no memory, nothing changed.
 */
export function allocSkb(
  env: Skbuffs,
  cpu: Cpu,
  size: number,
  gfp: Gfp,
  flags = 0,
  node = NUMA_NO_NODE,
): SkBuff | null {
  let mask = gfp as number
  if (env.memallocSocks && (flags & SKB_ALLOC_RX) !== 0) mask |= env.mem.gfp.MEMALLOC
  const skb = allocHead(env, cpu, mask, flags, node)
  if (skb === null) return null
  const bytes = kmallocReserveBytes(env, size, mask)
  const data = kmallocReserve(env, cpu, bytes, mask, node, '__alloc_skb')
  if (data === NULL) {
    // The head goes back to its cache, not to the napi cache: the kernel's order under memory shortage.
    if ((flags & SKB_ALLOC_FCLONE) !== 0) kmemCacheFreeObj(env.fcloneCache, cpu, skb.obj, '__alloc_skb')
    else kmemCacheFreeObj(env.skbuffCache, cpu, skb.obj, '__alloc_skb')
    return null
  }
  let born = env.reservesUsed ? SKB_PFMEMALLOC : 0
  if ((flags & SKB_ALLOC_FCLONE) !== 0) {
    born |= SKB_FCLONE_ORIG << SKB_FCLONE_SHIFT
    skb.fcloneRef = 1
    skb.twin!.flags = SKB_FCLONE_CLONE << SKB_FCLONE_SHIFT
  }
  return buildSkbBlock(env, skb, data, bytes, born, cpu, 0, 0)
}

/** Models `alloc_skb_fclone` (include/linux/skbuff.h): a pair, for packets that will be cloned once. */
export const allocSkbFclone = (env: Skbuffs, cpu: Cpu, size: number, gfp: Gfp): SkBuff | null =>
  allocSkb(env, cpu, size, gfp, SKB_ALLOC_FCLONE, NUMA_NO_NODE)

function allocHead(env: Skbuffs, cpu: Cpu, mask: number, flags: number, node: number): SkBuff | null {
  const local = node === NUMA_NO_NODE || node === cpu.node
  if ((flags & (SKB_ALLOC_FCLONE | SKB_ALLOC_NAPI)) === SKB_ALLOC_NAPI && local) return napiSkbCacheGet(env, cpu)
  const headMask = (mask & ~env.mem.gfp.DMA) as Gfp
  if ((flags & SKB_ALLOC_FCLONE) !== 0) {
    const pair = kmemCacheAllocObj(env.fcloneCache, cpu, headMask, node, '__alloc_skb')
    return pair < 0 ? null : env.fcloneBodies[2 * pair]!
  }
  const obj = kmemCacheAllocObj(env.skbuffCache, cpu, headMask, node, '__alloc_skb')
  return obj < 0 ? null : env.headBodies[obj]!
}

/** @returns bytes of the block that `kmallocReserve` will take for so many linear bytes. */
export function kmallocReserveBytes(env: Skbuffs, size: number, mask: number): number {
  const bytes = skbHeadAlign(env.sizes, size)
  if (bytes <= env.sizes.smallHeadBytes && (mask & env.notNormal) === 0) return env.sizes.smallHeadBytes
  return kmallocSizeRoundup(env.mem, bytes)
}

/**
 * Models `kmalloc_reserve` (net/core/skbuff.c): the data block, first without touching the reserves; if that
 * fails and the context is entitled to them, with. `env.reservesUsed` says which it was.
 *
 * @param bytes what `kmallocReserveBytes` said.
 * @param site the function that kmalloc events name: the caller of the kernel's inlined wrapper.
 */
export function kmallocReserve(env: Skbuffs, cpu: Cpu, bytes: number, mask: number, node: number, site: string): Addr {
  const mem = env.mem
  const first = (mask | mem.gfp.NOMEMALLOC | mem.gfp.NOWARN) as Gfp
  env.reservesUsed = false
  const small = bytes === env.sizes.smallHeadBytes ? env.smallHeadCache : null
  if (small === null && (bytes > KMALLOC_MAX_SIZE || bytes < 0)) return NULL
  const data =
    small !== null
      ? kmemCacheAllocNode(small, cpu, first, node, 'kmalloc_reserve')
      : kmallocNode(mem, cpu, bytes, first, node, site, 'kmalloc_reserve')
  if (data !== NULL || !gfpPfmemallocAllowed(mem, cpu, mask)) return data
  env.reservesUsed = true
  return small !== null
    ? kmemCacheAllocNode(small, cpu, mask as Gfp, node, 'kmalloc_reserve')
    : kmallocNode(mem, cpu, bytes, mask as Gfp, node, site, 'kmalloc_reserve')
}
