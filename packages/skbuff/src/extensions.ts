/**
 * Optional extras of an skb (bridge netfilter, IPsec path, connection-tracker chain, MPTCP ...) in a block of
 * their own, shared by clones and copied before it is written. Out of line because few packets carry any.
 *
 *     block: reference count (4), chunk offsets (1 each), chunk length (1), chunks...
 */
import { type Addr, type Cpu, type Gfp, type KernelProfile, NULL } from '@netmem/base'
import { kmemCacheAlloc, kmemCacheFree } from '@netmem/memory'
import type { Skbuffs } from './env.js'
import { SKB_HAS_EXTENSIONS, type SkBuff } from './sk-buff.js'

/** Bytes of each extension's chunk. Differs: sizes are of this model; which exist is a build option in the kernel. */
const CHUNK_BYTES = 24

/** Models `enum skb_ext_id`. */
export const SKB_EXT_IDS = ['BRIDGE_NF', 'SEC_PATH', 'TC', 'MPTCP', 'CAN', 'PSP'] as const
export type SkbExtId = (typeof SKB_EXT_IDS)[number]

const HEADER_BYTES = 16

/** Models the object size of `skbuff_ext_cache`: the sum of all chunks that were compiled in. */
export function skbExtBytes(profile: KernelProfile): number {
  return Number(profile.slab_sysfs.skbuff_ext_cache?.object_size ?? 192)
}

/** Models `skb_has_extensions`. */
export const skbHasExtensions = (skb: SkBuff): boolean => (skb.flags & SKB_HAS_EXTENSIONS) !== 0

const bit = (id: SkbExtId): number => 1 << SKB_EXT_IDS.indexOf(id)
const chunkAddr = (block: Addr, id: SkbExtId): Addr =>
  ((block + HEADER_BYTES + SKB_EXT_IDS.indexOf(id) * CHUNK_BYTES) | 0) as Addr

/** Models `skb_ext_find`. @returns the address of that extension's chunk, `NULL` when the skb has none. */
export function skbExtFind(skb: SkBuff, id: SkbExtId): Addr {
  if (!skbHasExtensions(skb) || (skb.activeExtensions & bit(id)) === 0) return NULL
  return chunkAddr(skb.extensions, id)
}

/**
 * Models `skb_ext_add` (net/core/skbuff.c): the chunk, which the caller fills; a block that clones share is
 * copied first. @returns `NULL` when there is no memory, and nothing has changed.
 */
export function skbExtAdd(cpu: Cpu, skb: SkBuff, id: SkbExtId): Addr {
  const env = skb.env
  if (!skbHasExtensions(skb)) {
    const block = skbExtAlloc(env, cpu, env.mem.gfp.GFP_ATOMIC)
    if (block === NULL) return NULL
    skb.extensions = block
    skb.activeExtensions = bit(id)
    skb.flags |= SKB_HAS_EXTENSIONS
    return chunkAddr(block, id)
  }
  const block = skbExtMaybeCow(env, cpu, skb.extensions)
  if (block === NULL) return NULL
  skb.extensions = block
  skb.activeExtensions |= bit(id)
  return chunkAddr(block, id)
}

/** Models `skb_ext_del`: the last one takes the block along. */
export function skbExtDel(cpu: Cpu, skb: SkBuff, id: SkbExtId): void {
  if (!skbHasExtensions(skb)) return
  skb.activeExtensions &= ~bit(id)
  if (skb.activeExtensions === 0) skbExtPut(cpu, skb)
}

/** Models `skb_ext_put` and `skb_ext_reset`: drops the skb's hold on its block. */
export function skbExtPut(cpu: Cpu, skb: SkBuff): void {
  const env = skb.env
  const at = skb.extensions >>> 2
  skb.flags &= ~SKB_HAS_EXTENSIONS
  const left = env.i32[at]! - 1
  if (left === 0) kmemCacheFree(env.extCache, cpu, skb.extensions, '__skb_ext_put')
  else env.i32[at] = left
}

/** Models `skb_ext_copy` without its release of the destination's: `to` shares the block of `from`. */
export function skbExtShare(to: SkBuff, from: SkBuff): void {
  to.activeExtensions = from.activeExtensions
  to.extensions = from.extensions
  to.flags |= SKB_HAS_EXTENSIONS
  from.env.i32[from.extensions >>> 2]!++
}

function skbExtAlloc(env: Skbuffs, cpu: Cpu, gfp: Gfp): Addr {
  const block = kmemCacheAlloc(env.extCache, cpu, gfp, '__skb_ext_alloc')
  if (block !== NULL) env.i32[block >>> 2] = 1
  return block
}

function skbExtMaybeCow(env: Skbuffs, cpu: Cpu, old: Addr): Addr {
  if (env.i32[old >>> 2] === 1) return old
  const block = skbExtAlloc(env, cpu, env.mem.gfp.GFP_ATOMIC)
  if (block === NULL) return NULL
  const bytes = HEADER_BYTES + SKB_EXT_IDS.length * CHUNK_BYTES
  env.u8.copyWithin(block >>> 0, old >>> 0, (old >>> 0) + bytes)
  env.i32[block >>> 2] = 1
  env.i32[old >>> 2]!--
  return block
}
