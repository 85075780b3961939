/** Names that look like page-pool functions and are none: each says what to call instead. */
import { bug } from '@netmem/base'

/** Absent: `page_pool_alloc_cached`. The kernel's lookup in the cache is a static part of the allocator. */
export function pagePoolAllocCached(): never {
  bug('page_pool_alloc_cached does not exist: pagePoolAllocPages looks in the cache first')
}

/** Absent: `page_pool_alloc_new`. The kernel's slow allocator is a static part of the allocator. */
export function pagePoolAllocNew(): never {
  bug('page_pool_alloc_new does not exist: pagePoolAllocPages takes new pages when cache and ring are empty')
}

/** Absent: `page_pool_stats_percpu`. Statistics are a build option, not a parameter. */
export function pagePoolStatsPercpu(): never {
  bug('page_pool_stats_percpu does not exist: pagePoolGetStats sums the per-CPU counters (CONFIG_PAGE_POOL_STATS)')
}
