/** The end of a slab cache, and giving back what it does not need. */
import type { Cpu } from '@netmem/base'
import type { KmemCache } from './kmem-cache.js'
import { shrinkCore } from './slub-slow.js'
import { kmemCacheInuse } from './stats.js'

/** Models `kmem_cache_shrink`. @returns slabs given back to the page allocator. */
export const kmemCacheShrink = (cache: KmemCache, cpu: Cpu): number => shrinkCore(cache.core, cpu)

/**
 * Models `kmem_cache_destroy`: takes the cache. A real cache ends with the last name that shares it.
 *
 * @returns false, with a warning, when objects are still handed out: the cache then stays.
 */
export function kmemCacheDestroy(cache: KmemCache, cpu: Cpu): boolean {
  const { core } = cache
  const { mem } = core
  if (core.refcount === 1) {
    shrinkCore(core, cpu)
    const left = kmemCacheInuse(core)
    if (left > 0) {
      if (mem.trace.warn !== null)
        mem.trace.warn('kmem_cache_destroy', `${core.name}: Slab cache still has objects (${left})`)
      return false
    }
    shrinkAll(cache, cpu)
    mem.slabCores[core.id] = null
  }
  core.refcount--
  const at = mem.kmemCaches.indexOf(cache)
  if (at >= 0) mem.kmemCaches.splice(at, 1)
  return true
}

function shrinkAll(cache: KmemCache, cpu: Cpu): void {
  // Empty slabs that a node would keep go too: the second pass finds none on a CPU any more.
  shrinkCore(cache.core, cpu)
}
