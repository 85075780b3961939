/** What the generic netlink family `netdev` tells about page pools: the listing, and the counters. */
import { ERRNO } from '@netmem/base'
import { NETDEV_GONE } from './destroy.js'
import { pagePoolInflight } from './inflight.js'
import { pagePoolGetStats } from './stats.js'
import type { PagePool, PagePools } from './types.js'

const LOOPBACK_IFINDEX = 1

/** One answer to `page-pool-get`, with the attribute names of the netlink specification. Absent attributes are left out. */
export interface PagePoolInfo {
  id: number
  ifindex?: number
  'napi-id'?: number
  inflight: number
  'inflight-mem': number
  'detach-time'?: number
}

/** Models `page_pool_nl_fill` (net/core/page_pool_user.c). */
function fill(pool: PagePool): PagePoolInfo {
  const inflight = pagePoolInflight(pool, false)
  const info: PagePoolInfo = { id: pool.id, inflight, 'inflight-mem': inflight * pool.pageBytes }
  if (pool.netdev > 0 && pool.netdev !== LOOPBACK_IFINDEX) info.ifindex = pool.netdev
  if (pool.napi !== null && pool.napi.napiId !== 0) info['napi-id'] = pool.napi.napiId
  if (pool.detachNs >= 0) info['detach-time'] = Math.floor(pool.detachNs / 1e9)
  return info
}

/**
 * Models `netdev_nl_page_pool_get_dumpit`: the pools of a device, or (0) of all devices; pools without a device are
 * not listed. @returns -EOPNOTSUPP on kernels without that family (before 6.8).
 */
export function netdevNlPagePoolGet(env: PagePools, ifindex: number): PagePoolInfo[] | number {
  if (!env.profile.features.pagePoolNetlink) return -ERRNO.ENOTSUP
  return env.pools
    .filter((pool): pool is PagePool => pool !== null && pool.netdev > 0 && pool.netdev !== NETDEV_GONE)
    .filter((pool) => ifindex === 0 || pool.netdev === ifindex)
    .sort((a, b) => a.id - b.id)
    .map(fill)
}

/**
 * Models `netdev_nl_page_pool_stats_get_dumpit`. @returns one record per pool; -EOPNOTSUPP unless the kernel was built
 * with `CONFIG_PAGE_POOL_STATS`, as the reference kernels were not.
 */
export function netdevNlPagePoolStatsGet(env: PagePools, ifindex: number): Record<string, number>[] | number {
  const infos = netdevNlPagePoolGet(env, ifindex)
  if (typeof infos === 'number' || env.profile.config.PAGE_POOL_STATS !== 'y') return -ERRNO.ENOTSUP
  return infos.map(({ id }) => {
    const pool = env.pools.find((p) => p !== null && p.id === id)!
    const s = pagePoolGetStats(pool)
    return {
      id,
      'alloc-fast': s.fast,
      'alloc-slow': s.slow,
      'alloc-slow-high-order': s.slowHighOrder,
      'alloc-empty': s.empty,
      'alloc-refill': s.refill,
      'alloc-waive': s.waive,
      'recycle-cached': s.cached,
      'recycle-cache-full': s.cacheFull,
      'recycle-ring': s.ring,
      'recycle-ring-full': s.ringFull,
      'recycle-released-refcnt': s.releasedRefcnt,
    }
  })
}
