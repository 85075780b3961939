/**
 * How many pages are out. Both counters only grow and wrap at 2^32; their distance, read as a signed number, is right
 * as long as fewer than 2^31 pages are out. Pages resting in cache and ring count as out until the pool is destroyed.
 */
import type { PagePool } from './types.js'

/**
 * Models `page_pool_inflight` (net/core/page_pool.c).
 *
 * @param strict for shutdown: fires the tracepoint and warns of a negative count; else negative reads as 0.
 * @returns pages.
 */
export function pagePoolInflight(pool: PagePool, strict: boolean): number {
  const inflight = (pool.holdCnt - pool.releaseCnt) | 0
  if (!strict) return Math.max(0, inflight)
  const { trace } = pool.env
  if (trace.pagePoolRelease !== null)
    trace.pagePoolRelease(pool.id, inflight, pool.holdCnt >>> 0, pool.releaseCnt >>> 0)
  if (inflight < 0) trace.warn?.('page_pool_inflight', `Negative(${inflight}) inflight packet-pages`)
  return inflight
}
