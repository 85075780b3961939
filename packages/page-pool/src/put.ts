/**
 * Giving pages back. Each reference on a page is dropped once; who drops the last decides where the page goes:
 * into the cache when it runs where the pool's own poll runs, else into the ring, else out of the pool.
 */
import { assert, type Cpu, inServingSoftirq, inSoftirq, type Pfn } from '@netmem/base'
import { PG_PFMEMALLOC } from '@netmem/memory'
import { pagePoolDmaSyncForDevice } from './dma-map.js'
import { netmemToNetIov } from './net-iov.js'
import { ptrRingProduce } from './ptr-ring.js'
import { pagePoolReturnNetmem } from './return.js'
import { statWrapped } from './stats.js'
import {
  type Netmem,
  type PagePool,
  type PagePools,
  PP_ALLOC_CACHE_SIZE,
  PP_COUNT,
  PP_FLAG_PAGE_FRAG,
  PP_STAT_CACHED,
  PP_STAT_RING,
} from './types.js'

// Hot path.

/** Models `page_pool_recycle_direct`: the caller runs where the pool allocates, e.g. in its poll. Takes the reference. */
export function pagePoolRecycleDirect(cpu: Cpu, pool: PagePool, pfn: Pfn): void {
  // The usual case in line: one holder, as `page_pool_unref_netmem` has it too.
  if (pool.ppRefCount[pfn] === 1 || pagePoolUnrefAndTest(pool, pfn)) pagePoolPutUnrefedNetmem(cpu, pool, pfn, -1, true)
}

/** Models `page_pool_put_full_page`: syncs all of `maxLen` for the device. Takes the reference. */
export function pagePoolPutFullPage(cpu: Cpu, pool: PagePool, pfn: Pfn, allowDirect: boolean): void {
  if (pagePoolUnrefAndTest(pool, pfn)) pagePoolPutUnrefedNetmem(cpu, pool, pfn, -1, allowDirect)
}

/** Models `page_pool_put_page`: syncs `dmaSyncSize` bytes (-1: all). Takes the reference. */
export function pagePoolPutPage(cpu: Cpu, pool: PagePool, pfn: Pfn, dmaSyncSize: number, allowDirect: boolean): void {
  if (pagePoolUnrefAndTest(pool, pfn)) pagePoolPutUnrefedNetmem(cpu, pool, pfn, dmaSyncSize, allowDirect)
}

/** Models `page_pool_put_full_netmem`. */
export function pagePoolPutFullNetmem(cpu: Cpu, pool: PagePool, netmem: Netmem, allowDirect: boolean): void {
  if (pagePoolUnrefAndTest(pool, netmem)) pagePoolPutUnrefedNetmem(cpu, pool, netmem, -1, allowDirect)
}

/**
 * Models `page_pool_put_unrefed_netmem` (`page_pool_put_defragged_page` in 6.1; net/core/page_pool.c): the last
 * reference on `netmem` is gone already.
 */
export function pagePoolPutUnrefedNetmem(
  cpu: Cpu,
  pool: PagePool,
  netmem: Netmem,
  dmaSyncSize: number,
  allowDirect: boolean,
): void {
  if (__ASSERT__) {
    assert(cpu.hardirq === 0, 'page_pool_put_unrefed_netmem: in hardirq')
    assert(!pool.freed, 'page_pool: page returned to a pool that is gone')
  }
  if ((netmem < 0 || pool.refcount[netmem] === 1) && (pool.reservePages === 0 || !fromReserves(pool, netmem))) {
    const dev = pool.syncDev
    if (dev !== null && dev.needSync) pagePoolDmaSyncForDevice(cpu, pool, netmem, dmaSyncSize)
    // 6.1 believes the caller, but only in softirq; later kernels find out themselves when the caller does not know.
    if (pool.napiDirect ? allowDirect || pagePoolNapiLocal(cpu, pool) : allowDirect && inServingSoftirq(cpu)) {
      const cache = pool.cache
      const count = cache[PP_COUNT]!
      if (count < PP_ALLOC_CACHE_SIZE) {
        if (__ASSERT__) assert(!cache.subarray(0, count).includes(netmem), 'page_pool: page recycled twice')
        cache[count] = netmem
        cache[PP_COUNT] = count + 1
        if (++cache[PP_STAT_CACHED]! === 0) statWrapped(pool, PP_STAT_CACHED)
        return
      }
      pool.statCacheFull++
    }
    recycleInRing(cpu, pool, netmem)
  } else releaseReferenced(cpu, pool, netmem)
}

/** Models `page_pool_put_unrefed_page`. */
export const pagePoolPutUnrefedPage: (
  cpu: Cpu,
  pool: PagePool,
  pfn: Pfn,
  dmaSyncSize: number,
  allowDirect: boolean,
) => void = pagePoolPutUnrefedNetmem

/**
 * Models `page_pool_unref_netmem(netmem, 1) == 0` (`page_pool_is_last_frag` in 6.1): drops one reference.
 *
 * @returns true when it was the last; the count is then 1 again, as the next user of the page expects.
 */
export function pagePoolUnrefAndTest(pool: PagePool, netmem: Netmem): boolean {
  if (netmem > 0) {
    const left = pool.ppRefCount[netmem]! - 1
    if (left === 0) return true
    return unrefShared(pool, netmem, left)
  }
  return pagePoolUnrefNetmem(pool, netmem, 1) === 0
}

function unrefShared(pool: PagePool, netmem: Netmem, left: number): boolean {
  // Without fragments 6.1 does not count: pool pages are shared through the page's own reference count.
  if (pool.env.profile.features.pagePoolFragFlag && (pool.flags & PP_FLAG_PAGE_FRAG) === 0) return true
  if (left < 0) {
    pool.env.trace.warn?.('page_pool_unref_netmem', `pool ${pool.id}: page ${netmem} has no references left to drop`)
  }
  pool.ppRefCount[netmem] = left
  return false
}

/**
 * Models `page_pool_unref_netmem`: drops `count` references at once.
 *
 * @returns how many are left; at 0 the count is set to 1 for the next user.
 */
export function pagePoolUnrefNetmem(pool: PagePool, netmem: Netmem, count: number): number {
  const counts = netmem > 0 ? pool.ppRefCount : pool.env.niovs.ppRefCount
  const at = netmem > 0 ? netmem : netmemToNetIov(netmem)
  const left = counts[at]! - count
  if (left < 0) {
    pool.env.trace.warn?.('page_pool_unref_netmem', `pool ${pool.id}: netmem ${netmem} has no references left to drop`)
  }
  counts[at] = left === 0 ? 1 : left
  return left
}

/** Models `page_pool_ref_netmem` (`skb_pp_frag_ref`'s half): one more holder of the same page. */
export function pagePoolRefNetmem(pool: PagePool, netmem: Netmem): void {
  if (netmem > 0) pool.ppRefCount[netmem]!++
  else pool.env.niovs.ppRefCount[netmemToNetIov(netmem)]!++
}

/** Models `page_pool_fragment_netmem`: the caller will hand out `count` pieces of a page that it holds alone. */
export function pagePoolFragmentNetmem(pool: PagePool, netmem: Netmem, count: number): void {
  if (netmem > 0) pool.ppRefCount[netmem] = count
  else pool.env.niovs.ppRefCount[netmemToNetIov(netmem)] = count
}

// Where direct recycling is safe: in the context that also allocates from the pool.

/** Models `page_pool_napi_local`: is this softirq the one that polls the pool's queue? */
export function pagePoolNapiLocal(cpu: Cpu, pool: PagePool): boolean {
  if (!inSoftirq(cpu)) return false
  if (pool.cpuid === cpu.id) return true
  return pool.napi !== null && pool.napi.listOwner === cpu.id
}

// Cold path.

/** Models `page_is_pfmemalloc` of a pool's page; the pool counts such pages, so that it need not look when it has none. */
function fromReserves(pool: PagePool, netmem: Netmem): boolean {
  return netmem > 0 && (pool.pageFlags[netmem]! & PG_PFMEMALLOC) !== 0
}

function recycleInRing(cpu: Cpu, pool: PagePool, netmem: Netmem): void {
  if (ptrRingProduce(pool.ring, netmem)) {
    if (++pool.cache[PP_STAT_RING]! === 0) statWrapped(pool, PP_STAT_RING)
    return
  }
  pool.statRingFull++
  pagePoolReturnNetmem(cpu, pool, netmem)
}

// Somebody else still refers to the page, or it came from the reserves: the pool lets go of it.
function releaseReferenced(cpu: Cpu, pool: PagePool, netmem: Netmem): void {
  pool.statReleasedRefcnt++
  pagePoolReturnNetmem(cpu, pool, netmem)
}

/** Models `XDP_BULK_QUEUE_SIZE`. */
const XDP_BULK_QUEUE_SIZE = 16

/**
 * Models `page_pool_put_netmem_bulk` (`page_pool_put_page_bulk` before 6.13): drops one reference of each entry, and
 * gives those that were last back with one visit of the ring per pool. A full ring counts once, whatever is left over.
 *
 * @param data entries `[0, count)`; overwritten.
 */
export function pagePoolPutNetmemBulk(env: PagePools, cpu: Cpu, data: Int32Array, count: number): void {
  const { pages } = env.mem
  let left = 0
  for (let i = 0; i < count; i++) {
    const netmem = data[i]! > 0 ? pages.head[data[i]!]! : data[i]!
    if (pagePoolUnrefAndTest(poolOf(env, netmem), netmem)) data[left++] = netmem
  }
  while (left > 0) {
    // Never more than a bulk at once: what the kernel's callers collect, and its buffer on the stack.
    const round = Math.min(left, XDP_BULK_QUEUE_SIZE)
    const pool = poolOf(env, data[0]!)
    let foreign = 0
    let bulk = 0
    for (let i = 0; i < left; i++) {
      const netmem = data[i]!
      if (i >= round || poolOf(env, netmem) !== pool) data[foreign++] = netmem
      else if (putForBulk(cpu, pool, netmem)) env.bulk[bulk++] = netmem
    }
    recycleRingBulk(cpu, pool, env.bulk, bulk)
    left = foreign
  }
}

function poolOf(env: PagePools, netmem: Netmem): PagePool {
  const slot = netmem > 0 ? env.mem.pages.pp[netmem]! : env.niovs.pp[netmemToNetIov(netmem)]!
  const pool = env.pools[slot]!
  assert(pool !== null, 'page_pool_put_netmem_bulk: not a page of a pool')
  return pool
}

// Models `__page_pool_put_page` for the bulk: true when the entry is to go into the ring.
function putForBulk(cpu: Cpu, pool: PagePool, netmem: Netmem): boolean {
  if (netmem > 0 && (pool.refcount[netmem] !== 1 || fromReserves(pool, netmem))) {
    releaseReferenced(cpu, pool, netmem)
    return false
  }
  if (pool.syncDev !== null) pagePoolDmaSyncForDevice(cpu, pool, netmem, -1)
  if (pool.napiDirect && pagePoolNapiLocal(cpu, pool)) {
    const { cache } = pool
    if (cache[PP_COUNT]! < PP_ALLOC_CACHE_SIZE) {
      cache[cache[PP_COUNT]!++] = netmem
      if (++cache[PP_STAT_CACHED]! === 0) statWrapped(pool, PP_STAT_CACHED)
      return false
    }
    pool.statCacheFull++
  }
  return true
}

function recycleRingBulk(cpu: Cpu, pool: PagePool, bulk: Int32Array, count: number): void {
  let i = 0
  for (; i < count; i++) {
    if (!ptrRingProduce(pool.ring, bulk[i]!)) {
      pool.statRingFull++
      break
    }
    if (++pool.cache[PP_STAT_RING]! === 0) statWrapped(pool, PP_STAT_RING)
  }
  for (; i < count; i++) pagePoolReturnNetmem(cpu, pool, bulk[i]!)
}

/**
 * Models `napi_pp_put_page` (`page_pool_return_skb_page` in 6.1): what freeing an skb does with each of its pages.
 *
 * @returns false when the page is not a pool's; the caller then puts it itself.
 */
export function napiPpPutPage(env: PagePools, cpu: Cpu, netmem: Netmem): boolean {
  const { pages } = env.mem
  const head = netmem > 0 ? pages.head[netmem]! : netmem
  const slot = head > 0 ? pages.pp[head]! : env.niovs.pp[netmemToNetIov(head)]!
  if (slot === 0) return false
  const pool = env.pools[slot]!
  if (head > 0 ? pool.ppRefCount[head] === 1 || pagePoolUnrefAndTest(pool, head) : pagePoolUnrefAndTest(pool, head))
    pagePoolPutUnrefedNetmem(cpu, pool, head, -1, false)
  return true
}

/** Models `page_pool_return_skb_page`, the name that `napi_pp_put_page` had until 6.5. */
export const pagePoolReturnSkbPage = napiPpPutPage
