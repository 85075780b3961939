/** What one CPU's softirq has at hand: a page to cut fragments from, and idle heads. */
import { type Addr, assert } from '@netmem/base'
import type { PageFragCache } from '@netmem/page-frag'

/** Models `NAPI_SKB_CACHE_SIZE`: a put that makes so many sends the upper half back. */
export const NAPI_SKB_CACHE_SIZE = 64
/** Models `NAPI_SKB_CACHE_BULK`: heads taken at once when the cache is empty. */
export const NAPI_SKB_CACHE_BULK = 16
/** Models `NAPI_SKB_CACHE_HALF`. */
export const NAPI_SKB_CACHE_HALF = 32
assert(NAPI_SKB_CACHE_HALF * 2 === NAPI_SKB_CACHE_SIZE, 'half of the cache is not half')
assert(NAPI_SKB_CACHE_BULK < NAPI_SKB_CACHE_SIZE, 'a refill would overflow the cache')

/** Models `struct napi_alloc_cache`: what one CPU's softirq has at hand. */
export class NapiAllocCache {
  /** Object numbers of idle heads; `[0, skbCount)`, the hottest last. */
  readonly skbCache = new Int32Array(NAPI_SKB_CACHE_SIZE)
  skbCount = 0
  /** Models `page_small` of 6.1: the page that is cut into slices of 1 KiB. */
  smallVirt = 0 as Addr
  smallOffset = 0
  smallPfmemalloc = false

  constructor(
    readonly page: PageFragCache,
    readonly cpu: number,
  ) {}
}
