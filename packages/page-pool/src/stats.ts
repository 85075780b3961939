/** A pool's counters, under the names that `ethtool -S` and netlink give them. */
import type { PagePool, PagePoolStats } from './types.js'

/** Counters of the fast path are small integers; before they could leave that range they move to doubles. */
export const STAT_FOLD = 0x3fffffff

/** Moves the three fast counters to `folded`. */
export function statFold(pool: PagePool): void {
  pool.folded[0]! += pool.statFast
  pool.folded[1]! += pool.statCached
  pool.folded[2]! += pool.statRing
  pool.statFast = 0
  pool.statCached = 0
  pool.statRing = 0
}

/** Models `page_pool_get_stats` (net/core/page_pool.c): events since the pool was made. */
export function pagePoolGetStats(pool: PagePool): PagePoolStats {
  statFold(pool)
  return {
    fast: pool.folded[0]!,
    slow: pool.statSlow,
    slowHighOrder: pool.statSlowHighOrder,
    empty: pool.statEmpty,
    refill: pool.statRefill,
    waive: pool.statWaive,
    cached: pool.folded[1]!,
    cacheFull: pool.statCacheFull,
    ring: pool.folded[2]!,
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
