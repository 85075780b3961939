/** The caches that exist before anybody asks for one: the kmalloc families, and those that network caches merge with. */
import { KMALLOC_SIZES } from './kmalloc.js'
import { type KmemCache, kmemCacheCreate } from './kmem-cache.js'
import type { Memory } from './memory.js'
import {
  SLAB_ACCOUNT,
  SLAB_CACHE_DMA,
  SLAB_HWCACHE_ALIGN,
  SLAB_NO_MERGE,
  SLAB_RECLAIM_ACCOUNT,
} from './slab-geometry.js'

/** Name before the size, family number (-1: `kmem_buckets` that nothing here allocates from), flags. */
const FAMILIES: readonly (readonly [prefix: string, family: number, flags: number])[] = [
  ['kmalloc-rcl-', 1, SLAB_RECLAIM_ACCOUNT],
  ['dma-kmalloc-', 2, SLAB_CACHE_DMA],
  ['kmalloc-cg-', 3, SLAB_NO_MERGE | SLAB_ACCOUNT],
  ['memdup_user-', -1, SLAB_NO_MERGE],
  ['msg_msg-', -1, SLAB_NO_MERGE],
  ['kmalloc-', 0, 0],
]

/** Models `create_kmalloc_caches`, in the order that this kernel's /proc/slabinfo shows, and some early caches. */
export function bootCaches(mem: Memory): void {
  // slabinfo lists the newest cache first.
  for (const name of Object.keys(mem.profile.kmalloc).reverse()) {
    const [prefix, family, flags] = FAMILIES.find(([start]) => name.startsWith(start))!
    const size = bytesOf(name.slice(prefix.length))
    const cache = kmallocCache(mem, name, size, flags)
    if (family >= 0)
      mem.kmallocCaches[(family << 4) | KMALLOC_SIZES.indexOf(size as (typeof KMALLOC_SIZES)[number])] = cache
  }
  for (const { name, size, align, hwcache_align, account } of mem.profile.boot_caches)
    kmemCacheCreate(mem, name, size, {
      align,
      flags: (hwcache_align ? SLAB_HWCACHE_ALIGN : 0) | (account ? SLAB_ACCOUNT : 0),
    })
}

/** Models `create_kmalloc_cache`: powers of two are aligned to their size, and all of it may be copied to user space. */
function kmallocCache(mem: Memory, name: string, size: number, flags: number): KmemCache {
  return kmemCacheCreate(mem, name, size, { align: size & -size, flags, useroffset: 0, usersize: size })
}

const bytesOf = (text: string): number => (text.endsWith('k') ? Number.parseInt(text, 10) * 1024 : Number(text))
