/**
 * Taking pages from a pool: the cache first, then the ring, then the page allocator (or the provider).
 * Only the pool's own NAPI context calls these, so nothing here is locked.
 */
import { type Cpu, type Gfp, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, allocPagesBulk, putPage } from '@netmem/memory'
import { pagePoolDmaMap } from './dma-map.js'
import { pagePoolSetPpInfo } from './pp-info.js'
import { ptrRingConsume, ptrRingEmpty } from './ptr-ring.js'
import { pagePoolReturnNetmem } from './return.js'
import { statWrapped } from './stats.js'
import { type Netmem, type PagePool, PP_ALLOC_CACHE_REFILL, PP_COUNT, PP_STAT_FAST } from './types.js'

// Hot path: one compare, one load.

/**
 * Models `page_pool_alloc_netmems` (net/core/page_pool.c).
 *
 * @returns a page (or net_iov) with `pp_ref_count` 1, which the caller now holds; 0 when there is none.
 */
export function pagePoolAllocNetmems(cpu: Cpu, pool: PagePool, gfp: Gfp): Netmem {
  const cache = pool.cache
  const count = cache[PP_COUNT]! - 1
  if (count < 0) return pagePoolAllocSlow(cpu, pool, gfp)
  cache[PP_COUNT] = count
  if (++cache[PP_STAT_FAST]! === 0) statWrapped(pool, PP_STAT_FAST)
  return cache[count]!
}

/** Models `page_pool_alloc_pages`. @returns a page that the caller now holds, NO_PFN when there is none. */
export function pagePoolAllocPages(cpu: Cpu, pool: PagePool, gfp: Gfp): Pfn {
  return pagePoolAllocNetmems(cpu, pool, gfp) as Pfn
}

/** Models `page_pool_dev_alloc_pages`: with the mask that drivers use in a poll. */
export function pagePoolDevAllocPages(cpu: Cpu, pool: PagePool): Pfn {
  const { gfp } = pool.env.mem
  return pagePoolAllocPages(cpu, pool, (gfp.GFP_ATOMIC | gfp.NOWARN) as Gfp)
}

// Cold path: once per PP_ALLOC_CACHE_REFILL pages.

function pagePoolAllocSlow(cpu: Cpu, pool: PagePool, gfp: Gfp): Netmem {
  const netmem = pagePoolRefillAllocCache(cpu, pool)
  if (netmem !== 0) return netmem
  if (pool.mpOps !== null) return pool.mpOps.allocNetmems(cpu, pool, gfp)
  return pool.order === 0 ? allocBulkSlow(cpu, pool, gfp) : allocPageOrder(cpu, pool, gfp)
}

/**
 * Models `page_pool_refill_alloc_cache`: moves up to 64 entries from the ring to the cache. The first page of a
 * foreign node goes back to the page allocator and ends the refill, so that a pool that moved drains slowly.
 *
 * @returns the last entry taken over, 0 when there was none.
 */
function pagePoolRefillAllocCache(cpu: Cpu, pool: PagePool): Netmem {
  const { ring, cache, env } = pool
  if (ptrRingEmpty(ring)) {
    pool.statEmpty++
    return 0
  }
  const nid = pool.nid < 0 ? cpu.node : pool.nid
  const manyNodes = env.mem.nodes.length > 1
  let count = 0
  while (count < PP_ALLOC_CACHE_REFILL) {
    const netmem = ptrRingConsume(ring)
    if (netmem === 0) break
    if (manyNodes && netmem > 0 && pageToNid(pool, netmem) !== nid) {
      pagePoolReturnNetmem(cpu, pool, netmem)
      pool.statWaive++
      break
    }
    cache[count++] = netmem
  }
  if (count === 0) return 0
  pool.statRefill++
  cache[PP_COUNT] = count - 1
  return cache[count - 1]!
}

/** Models `__page_pool_alloc_netmems_slow` (`__page_pool_alloc_pages_slow` before 6.12) for single pages: 64 at once. */
function allocBulkSlow(cpu: Cpu, pool: PagePool, gfp: Gfp): Netmem {
  const { env, cache } = pool
  const mask = quietGfp(pool, gfp)
  const site = env.profile.features.pagePoolNetlink ? '__page_pool_alloc_netmems_slow' : '__page_pool_alloc_pages_slow'
  cache.fill(0, 0, PP_ALLOC_CACHE_REFILL)
  const got = allocPagesBulk(env.mem, cpu, mask, pool.nid, PP_ALLOC_CACHE_REFILL, cache, 0, site)
  let count = 0
  for (let i = 0; i < got; i++) {
    const pfn = cache[i]! as Pfn
    if (pool.dmaMap && !pagePoolDmaMap(cpu, pool, pfn)) {
      putPage(env.mem, cpu, pfn, site)
      continue
    }
    hold(cpu, pool, pfn)
    cache[count++] = pfn
  }
  if (count === 0) return 0
  pool.statSlow++
  cache[PP_COUNT] = count - 1
  return cache[count - 1]!
}

/** Models `__page_pool_alloc_page_order`: one compound page. */
function allocPageOrder(cpu: Cpu, pool: PagePool, gfp: Gfp): Netmem {
  const { mem } = pool.env
  const site = '__page_pool_alloc_page_order'
  const pfn = allocPages(mem, cpu, (quietGfp(pool, gfp) | mem.gfp.COMP) as Gfp, pool.order, pool.nid, site)
  if (pfn === NO_PFN) return 0
  if (pool.dmaMap && !pagePoolDmaMap(cpu, pool, pfn)) {
    putPage(mem, cpu, pfn, site)
    return 0
  }
  pool.statSlowHighOrder++
  hold(cpu, pool, pfn)
  return pfn
}

function hold(cpu: Cpu, pool: PagePool, netmem: Netmem): void {
  const { trace } = pool.env
  pagePoolSetPpInfo(pool, netmem)
  pool.holdCnt = (pool.holdCnt + 1) | 0
  if (trace.pagePoolStateHold !== null) trace.pagePoolStateHold(cpu, pool.id, netmem as Pfn, pool.holdCnt >>> 0)
}

// An out-of-memory report for a receive page helps nobody: the poll simply comes back.
function quietGfp(pool: PagePool, gfp: Gfp): Gfp {
  const masks = pool.env.mem.gfp
  const quiet = pool.env.profile.features.pagePoolAtomicNowarn && (gfp & masks.GFP_ATOMIC) === masks.GFP_ATOMIC
  return quiet ? ((gfp | masks.NOWARN) as Gfp) : gfp
}

function pageToNid(pool: PagePool, pfn: Netmem): number {
  const { mem } = pool.env
  return mem.zones[mem.pages.blockZone[pfn >>> 9]!]!.node
}
