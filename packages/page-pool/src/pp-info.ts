/** What ties a page to its pool: a few words of `struct page`, set when the pool takes it and cleared when it leaves. */
import type { Cpu, Pfn } from '@netmem/base'
import { pageIsPfmemalloc } from '@netmem/memory'
import { assertNetIovFree, netIovToNetmem, netmemToNetIov } from './net-iov.js'
import type { Netmem, PagePool, PagePools } from './types.js'

/** Models `page_pool_set_pp_info`: the pool's mark, one reference, the driver's own initialisation. */
export function pagePoolSetPpInfo(pool: PagePool, netmem: Netmem): void {
  const { env } = pool
  if (netmem > 0) {
    env.mem.pages.pp[netmem] = pool.slot
    env.mem.pages.ppRefCount[netmem] = 1
    if (pageIsPfmemalloc(env.mem, netmem as Pfn)) pool.reservePages++
  } else {
    const index = netmemToNetIov(netmem)
    env.niovs.pp[index] = pool.slot
    env.niovs.ppRefCount[index] = 1
  }
  if (pool.initCallback !== null) pool.initCallback(netmem)
  if (env.takenAt !== null) env.takenAt.set(netmem, env.step)
}

/** Models `page_pool_clear_pp_info`. */
export function pagePoolClearPpInfo(pool: PagePool, netmem: Netmem): void {
  const { env } = pool
  if (netmem > 0) {
    env.mem.pages.pp[netmem] = 0
    if (pageIsPfmemalloc(env.mem, netmem as Pfn)) pool.reservePages--
  } else env.niovs.pp[netmemToNetIov(netmem)] = 0
  if (env.takenAt !== null) env.takenAt.delete(netmem)
}

/** Models `netmem_get_pp`. @returns the pool that a page or net_iov belongs to, null for none. */
export function netmemGetPp(env: PagePools, netmem: Netmem): PagePool | null {
  const slot = netmem > 0 ? env.mem.pages.pp[netmem]! : env.niovs.pp[netmemToNetIov(netmem)]!
  return env.pools[slot]!
}

/** Models `page_pool_get_dma_addr_netmem`. @returns the device address that the pool mapped, bytes; 0 when it did not. */
export function pagePoolGetDmaAddr(pool: PagePool, netmem: Netmem): number {
  const { env } = pool
  return netmem > 0 ? env.mem.pages.dmaAddr[netmem]! : env.niovs.dmaAddr[netmemToNetIov(netmem)]!
}

/** Models `net_mp_niov_set_page_pool`: a provider lends a net_iov to a pool. */
export function netMpNiovSetPagePool(cpu: Cpu, pool: PagePool, index: number): Netmem {
  const { trace } = pool.env
  if (__ASSERT__) assertNetIovFree(pool, index)
  const netmem = netIovToNetmem(index)
  pagePoolSetPpInfo(pool, netmem)
  pool.holdCnt = (pool.holdCnt + 1) | 0
  if (trace.pagePoolStateHold !== null) trace.pagePoolStateHold(cpu, pool.id, netmem as Pfn, pool.holdCnt >>> 0)
  return netmem
}

/** Models `net_mp_niov_clear_page_pool`: the provider has it back; only called while it releases. */
export function netMpNiovClearPagePool(pool: PagePool, index: number): void {
  pagePoolClearPpInfo(pool, netIovToNetmem(index))
}
