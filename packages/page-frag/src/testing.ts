/** Audits: throw an `Error` that says what is wrong, in words. */
import { NO_PFN } from '@netmem/base'
import type { PageFragCache } from './page-frag-cache.js'

/**
 * Proves the law of a cache: *reference of the page = bias + live pieces*.
 *
 * @param live pieces of the cached chunk that are out; omitted, only what must hold anyway is checked.
 */
export function auditPageFragCache(nc: PageFragCache, live?: number): void {
  if (nc.pfn === NO_PFN) {
    if (nc.size !== 0 || nc.pagecntBias !== 0) throw new Error('page_frag_cache: empty, yet it holds references')
    return
  }
  if (nc.offset < 0 || nc.offset > nc.size) throw new Error(`page_frag_cache: offset ${nc.offset} of ${nc.size}`)
  if (nc.virt >>> 12 !== nc.pfn) throw new Error('page_frag_cache: address and frame disagree')
  const pieces = nc.refcount[nc.pfn]! - nc.pagecntBias
  if (pieces < 0) throw new Error(`page_frag_cache: ${-pieces} references fewer than the bias`)
  if (live !== undefined && pieces !== live)
    throw new Error(`page_frag_cache: ${pieces} references beyond the bias, ${live} pieces are out`)
}
