/** What one CPU's softirq has at hand: a page to cut fragments from, and idle heads. */
import { type Addr, assert } from '@netmem/base'
import type { PageFragCache } from '@netmem/page-frag'
import type { SkBuff } from './sk-buff.js'

/** Models `NAPI_SKB_CACHE_SIZE`: a put that makes so many sends the upper half back. */
export const NAPI_SKB_CACHE_SIZE = 64
/** Models `NAPI_SKB_CACHE_BULK`: heads taken at once when the cache is empty. */
export const NAPI_SKB_CACHE_BULK = 16
/** Models `NAPI_SKB_CACHE_HALF`. */
export const NAPI_SKB_CACHE_HALF = 32
assert(NAPI_SKB_CACHE_HALF * 2 === NAPI_SKB_CACHE_SIZE, 'half of the cache is not half')
assert(NAPI_SKB_CACHE_BULK < NAPI_SKB_CACHE_SIZE, 'a refill would overflow the cache')

/**
 * Models `struct napi_alloc_cache`: what one CPU's softirq has at hand. The idle head that was put last lies
 * apart from the stack of the others: put and get in turn, as a poll does them, then touch one field.
 */
export class NapiAllocCache {
  declare readonly page: PageFragCache
  declare readonly cpu: number
  /** The sizes of the latest allocation: a driver asks for the same again and again. Length asked for, and for it */
  sameLen = -1
  /** bytes of the block, */
  sameBytes = 0
  /** bytes of it before the shared info, */
  sameRoom = 0
  /** and truesize. */
  sameTruesize = 0
  /** The head put last, null when it has been taken. */
  hottest: SkBuff | null = null
  /** The other idle heads in `[0, stacked)`, the hottest last; what is above is left over. */
  readonly stack: (SkBuff | null)[] = Array.from({ length: NAPI_SKB_CACHE_SIZE }, () => null)
  /** At most `NAPI_SKB_CACHE_SIZE - 2`, so there is always room for the hottest. */
  stacked = 0
  /** Models `page_small` of 6.1: the page that is cut into slices of 1 KiB. */
  smallVirt = 0 as Addr
  smallOffset = 0
  smallPfmemalloc = false

  constructor(page: PageFragCache, cpu: number) {
    this.page = page
    this.cpu = cpu
  }

  /** Models `skb_count`: idle heads. */
  get skbCount(): number {
    return this.hottest === null ? this.stacked : this.stacked + 1
  }
}
