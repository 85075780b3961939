/** A pool's counters, under the names that `ethtool -S` and netlink give them. */
import { type PagePool, type PagePoolStats, PP_STAT_CACHED, PP_STAT_FAST, PP_STAT_RING } from './types.js'

/** Cold: a counter of the fast path has gone through all 2^32 values. @param word `PP_STAT_FAST` and so on. */
export function statWrapped(pool: PagePool, word: number): void {
  pool.statWraps[word - PP_STAT_FAST]!++
}

const wide = (pool: PagePool, word: number): number =>
  pool.statWraps[word - PP_STAT_FAST]! * 2 ** 32 + (pool.cache[word]! >>> 0)

/** Models `page_pool_get_stats` (net/core/page_pool.c): events since the pool was made. */
export function pagePoolGetStats(pool: PagePool): PagePoolStats {
  return {
    fast: wide(pool, PP_STAT_FAST),
    slow: pool.statSlow,
    slowHighOrder: pool.statSlowHighOrder,
    empty: pool.statEmpty,
    refill: pool.statRefill,
    waive: pool.statWaive,
    cached: wide(pool, PP_STAT_CACHED),
    cacheFull: pool.statCacheFull,
    ring: wide(pool, PP_STAT_RING),
    ringFull: pool.statRingFull,
    releasedRefcnt: pool.statReleasedRefcnt,
  }
}

const ethtoolNames: readonly (readonly [string, keyof PagePoolStats])[] = [
  ['rx_pp_alloc_fast', 'fast'],
  ['rx_pp_alloc_slow', 'slow'],
  ['rx_pp_alloc_slow_ho', 'slowHighOrder'],
  ['rx_pp_alloc_empty', 'empty'],
  ['rx_pp_alloc_refill', 'refill'],
  ['rx_pp_alloc_waive', 'waive'],
  ['rx_pp_recycle_cached', 'cached'],
  ['rx_pp_recycle_cache_full', 'cacheFull'],
  ['rx_pp_recycle_ring', 'ring'],
  ['rx_pp_recycle_ring_full', 'ringFull'],
  ['rx_pp_recycle_released_ref', 'releasedRefcnt'],
]

/** Models `page_pool_ethtool_stats_get_strings`. */
export const pagePoolEthtoolStatsGetStrings = (): string[] => ethtoolNames.map(([name]) => name)

/** Models `page_pool_ethtool_stats_get_count`. */
export const pagePoolEthtoolStatsGetCount = (): number => ethtoolNames.length

/** Models `page_pool_ethtool_stats_get`: the values in the order of the strings. */
export const pagePoolEthtoolStatsGet = (stats: PagePoolStats): number[] => ethtoolNames.map(([, key]) => stats[key])
