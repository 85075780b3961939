/** A page leaves the pool for good: its mapping goes, its mark goes, and the page allocator (or the provider) has it. */
import type { Cpu, Pfn } from '@netmem/base'
import { putPage } from '@netmem/memory'
import { pagePoolReleaseDma } from './dma-map.js'
import { pagePoolClearPpInfo } from './pp-info.js'
import type { Netmem, PagePool } from './types.js'

/**
 * Models `page_pool_release_page` (until 6.5): the page leaves the pool's books and stays with whoever holds it, as an
 * skb's memory of kernels whose skbs do not know the way back to a pool.
 */
export function pagePoolReleasePage(cpu: Cpu, pool: PagePool, pfn: Pfn): void {
  const { env } = pool
  pagePoolReleaseDma(cpu, pool, pfn)
  pagePoolClearPpInfo(pool, pfn)
  pool.releaseCnt = (pool.releaseCnt + 1) | 0
  if (env.trace.pagePoolStateRelease !== null) env.trace.pagePoolStateRelease(cpu, pool.id, pfn, pool.releaseCnt >>> 0)
}

/** Models `page_pool_return_netmem` (`page_pool_return_page` before 6.12; net/core/page_pool.c). Takes the pool's reference. */
export function pagePoolReturnNetmem(cpu: Cpu, pool: PagePool, netmem: Netmem): void {
  const { env } = pool
  let put = true
  if (pool.mpOps !== null) put = pool.mpOps.releaseNetmem(cpu, pool, netmem)
  else pagePoolReleaseDma(cpu, pool, netmem as Pfn)
  pool.releaseCnt = (pool.releaseCnt + 1) | 0
  if (env.trace.pagePoolStateRelease !== null)
    env.trace.pagePoolStateRelease(cpu, pool.id, netmem as Pfn, pool.releaseCnt >>> 0)
  if (!put) return
  pagePoolClearPpInfo(pool, netmem)
  const site = env.profile.features.pagePoolNetlink ? 'page_pool_return_netmem' : 'page_pool_return_page'
  putPage(env.mem, cpu, netmem as Pfn, site)
}
