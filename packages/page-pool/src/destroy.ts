/**
 * The end of a pool. Its user lets go at once; the pool itself stays until the last page that is still out has come
 * back, looks for that once a second, and complains once a minute.
 */
import { assert, type Cpu, ERRNO } from '@netmem/base'
import { kfree } from '@netmem/memory'
import { pagePoolReleaseDma } from './dma-map.js'
import { pagePoolFreeFrag } from './frag.js'
import { pagePoolInflight } from './inflight.js'
import { NetIovs } from './net-iov.js'
import { ptrRingConsume } from './ptr-ring.js'
import { pagePoolReturnNetmem } from './return.js'
import { type PagePool, type PagePoolNapi, PagePools, PP_COUNT } from './types.js'

/** Models `DEFER_TIME` and `DEFER_WARN_INTERVAL` (net/core/page_pool.c). */
const DEFER_TIME_NS = 1e9
const DEFER_WARN_INTERVAL_NS = 60e9

/** The interface number of a pool whose net device, and the loopback that stood in for it, are both gone. */
export const NETDEV_GONE = -1

/** What page pools need from the machine. */
export type PagePoolsParams = Pick<PagePools, 'mem' | 'profile' | 'trace' | 'events' | 'cpus'>

/** Sets up the page pools of one machine; `struct page` of that machine names pools by their slot here. */
export function pagePoolsInit(p: PagePoolsParams): PagePools {
  return new PagePools(p.mem, p.profile, p.trace, p.events, p.cpus, new NetIovs(), pagePoolReleaseRetry)
}

/** Models `page_pool_destroy`. Pages still out stay valid; the pool ends when the last has come back. */
export function pagePoolDestroy(cpu: Cpu, pool: PagePool | null): void {
  if (pool === null) return
  assert(!pool.freed && pool.userCnt > 0, 'page_pool_destroy: the pool is gone already')
  pool.userCnt--
  if (pool.userCnt !== 0) return
  pagePoolDisableDirectRecycling(pool)
  pagePoolFreeFrag(cpu, pool)
  if (release(cpu, pool) === 0) return
  const { env } = pool
  const now = env.events.nowNs
  pool.detachNs = now
  if (pool.netdev !== 0) env.notify?.('change', pool)
  pool.deferStartNs = now
  pool.deferWarnNs = now + DEFER_WARN_INTERVAL_NS
  pool.retryEvent = env.events.schedule(now + DEFER_TIME_NS, env.retryHandler, pool.slot, cpu.id)
}

/** Models `page_pool_release_retry`: the delayed work that looks whether the pages have come back. */
export function pagePoolReleaseRetry(env: PagePools, slot: number, cpuId: number): void {
  const pool = env.pools[slot]
  const cpu = env.cpus[cpuId]!
  if (pool === null || pool === undefined) return
  pool.retryEvent = 0
  const inflight = release(cpu, pool)
  // 0: gone. Negative: a page was returned twice, and waiting will not help.
  if (inflight <= 0) return
  const now = env.events.nowNs
  if (now >= pool.deferWarnNs && (pool.netdev === 0 || pool.netdev === NETDEV_GONE)) {
    const seconds = Math.trunc((now - pool.deferStartNs) / 1e9)
    const id = env.profile.features.pagePoolNetlink ? `: id ${pool.id},` : ''
    env.trace.printk?.(`page_pool_release_retry() stalled pool shutdown${id} ${inflight} inflight ${seconds} sec`)
    pool.deferWarnNs = now + DEFER_WARN_INTERVAL_NS
  }
  pool.retryEvent = env.events.schedule(now + DEFER_TIME_NS, env.retryHandler, slot, cpuId)
}

/** Models `page_pool_release`: scrub, count, and free the pool when nothing is out. @returns pages out. */
function release(cpu: Cpu, pool: PagePool): number {
  scrub(cpu, pool)
  const inflight = pagePoolInflight(pool, true)
  if (inflight === 0) free(cpu, pool)
  return inflight
}

/** Models `page_pool_scrub`. */
function scrub(cpu: Cpu, pool: PagePool): void {
  if (pool.destroyCnt === 0) emptyAllocCache(cpu, pool)
  if (pool.destroyCnt++ === 0 && pool.dmaMap && pool.env.profile.features.pagePoolDmaIndex) {
    // The device may go before the pages come back, so its mappings must not outlive the pool's user.
    pool.syncDev = null
    unmapAll(cpu, pool)
  }
  for (let netmem = ptrRingConsume(pool.ring); netmem !== 0; netmem = ptrRingConsume(pool.ring)) {
    if (netmem > 0 && pool.refcount[netmem] !== 1)
      pool.env.trace.printk?.(`page_pool_empty_ring() page_pool refcnt ${pool.refcount[netmem]} violation`)
    pagePoolReturnNetmem(cpu, pool, netmem)
  }
}

function emptyAllocCache(cpu: Cpu, pool: PagePool): void {
  const { cache } = pool
  while (cache[PP_COUNT]! > 0) {
    cache[PP_COUNT]!--
    pagePoolReturnNetmem(cpu, pool, cache[cache[PP_COUNT]!]!)
  }
}

function unmapAll(cpu: Cpu, pool: PagePool): void {
  const { pp } = pool.env.mem.pages
  for (let pfn = 1; pfn < pp.length; pfn++) if (pp[pfn] === pool.slot) pagePoolReleaseDma(cpu, pool, pfn as never)
}

/** Models `__page_pool_destroy`. */
function free(cpu: Cpu, pool: PagePool): void {
  const { env } = pool
  pool.disconnect?.()
  if (pool.netdev !== 0) env.notify?.('del', pool)
  env.pools[pool.slot] = null
  env.freeSlots.push(pool.slot)
  kfree(env.mem, cpu, pool.ringAddr, 'ptr_ring_cleanup')
  pool.mpOps?.destroy(pool)
  kfree(env.mem, cpu, pool.structAddr, '__page_pool_destroy')
  pool.freed = true
}

/** Models `page_pool_use_xdp_mem`: an XDP memory model uses the pool too, and is told when it ends. */
export function pagePoolUseXdpMem(pool: PagePool, memId: number, disconnect: () => void): void {
  pool.userCnt++
  pool.xdpMemId = memId
  pool.disconnect = disconnect
}

/** Models `page_pool_enable_direct_recycling`: hands a pool to a NAPI that runs already. */
export function pagePoolEnableDirectRecycling(pool: PagePool, napi: PagePoolNapi): void {
  if (pool.napi === napi) return
  if (pool.napi !== null)
    pool.env.trace.warn?.('page_pool_enable_direct_recycling', `pool ${pool.id} belongs to a NAPI already`)
  pool.napi = napi
}

/** Models `page_pool_disable_direct_recycling` (`page_pool_unlink_napi` before 6.12). */
export function pagePoolDisableDirectRecycling(pool: PagePool): void {
  pool.cpuid = -1
  pool.napi = null
}

/**
 * Models `page_pool_update_nid`: the queue's interrupt moved to another node. Cached pages go back at once; those in
 * the ring are waived one by one as the refill meets them.
 */
export function pagePoolUpdateNid(cpu: Cpu, pool: PagePool, nid: number): void {
  if (pool.env.trace.pagePoolUpdateNid !== null) pool.env.trace.pagePoolUpdateNid(pool.id, nid)
  pool.nid = nid
  emptyAllocCache(cpu, pool)
}

/** Models `page_pool_nid_changed`: updates only when the node differs. */
export function pagePoolNidChanged(cpu: Cpu, pool: PagePool, nid: number): void {
  if (pool.nid !== nid) pagePoolUpdateNid(cpu, pool, nid)
}

/**
 * Models `page_pool_unreg_netdev`: the device goes, its pools move to the namespace's loopback, or to nobody
 * (`loIfindex` 0) when that goes too; only then does a stalled shutdown complain.
 */
export function pagePoolUnregNetdev(env: PagePools, netdev: number, loIfindex: number): void {
  for (const pool of env.pools) {
    if (pool === null || pool.netdev !== netdev || netdev === 0) continue
    env.notify?.('del', pool)
    pool.netdev = loIfindex === 0 ? NETDEV_GONE : loIfindex
  }
}

/** Models `page_pool_check_memory_provider`: does a pool of that queue use the provider? @returns 0 or -ENODATA's place, -ENOENT. */
export function pagePoolCheckMemoryProvider(env: PagePools, netdev: number, queueIdx: number): number {
  for (const pool of env.pools) {
    if (pool !== null && pool.netdev === netdev && pool.queueIdx === queueIdx && pool.mpOps !== null) return 0
  }
  return -ERRNO.ENOENT
}
