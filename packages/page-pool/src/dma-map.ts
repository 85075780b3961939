/**
 * The pool's own mappings: a page is mapped once, when it joins, and stays mapped until it leaves. In between only
 * the bytes that the device may have dirtied are synced, when the page is recycled.
 */
import type { Cpu, DmaAddr, Pfn } from '@netmem/base'
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_ATTR_WEAK_ORDERING,
  dmaDevNeedSync,
  dmaMapPageAttrs,
  dmaMappingError,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapPageAttrs,
} from '@netmem/dma'
import { pagePoolGetDmaAddr } from './pp-info.js'
import type { Netmem, PagePool } from './types.js'

const ATTRS = DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_WEAK_ORDERING

/** Models `page_pool_dma_map` (net/core/page_pool.c). @returns false when the device cannot have the page; nothing is left behind. */
export function pagePoolDmaMap(cpu: Cpu, pool: PagePool, pfn: Pfn): boolean {
  const dev = pool.dev!
  const bytes = pool.pageBytes
  const dma = dmaMapPageAttrs(cpu, dev, pfn, 0, bytes, pool.dmaDir, ATTRS, 'page_pool_dma_map')
  if (dmaMappingError(dev, dma) !== 0) return false
  pool.env.mem.pages.dmaAddr[pfn] = dma
  pagePoolDmaSyncForDevice(cpu, pool, pfn, pool.maxLen)
  return true
}

/** Models `page_pool_dma_sync_for_device`: `bytes` from the pool's offset, at most `maxLen`; -1 means all of it. */
export function pagePoolDmaSyncForDevice(cpu: Cpu, pool: PagePool, netmem: Netmem, bytes: number): void {
  const dev = pool.syncDev
  if (dev === null || !dmaDevNeedSync(dev)) return
  const size = bytes < 0 || bytes > pool.maxLen ? pool.maxLen : bytes
  const dma = pagePoolGetDmaAddr(pool, netmem) + pool.offset
  dmaSyncSingleForDevice(cpu, dev, dma as DmaAddr, size, pool.dmaDir, 'page_pool_dma_sync_for_device')
}

/** Models `page_pool_dma_sync_for_cpu`: before a driver reads a frame that lies `offset` bytes behind the pool's own offset. */
export function pagePoolDmaSyncForCpu(cpu: Cpu, pool: PagePool, netmem: Netmem, offset: number, bytes: number): void {
  const dma = pagePoolGetDmaAddr(pool, netmem) + pool.offset + offset
  dmaSyncSingleForCpu(cpu, pool.dev!, dma as DmaAddr, bytes, pool.dmaDir, 'page_pool_dma_sync_for_cpu')
}

/**
 * Models `__page_pool_release_netmem_dma`: undoes the mapping, once. Where the kernel keeps an index of mapped pages
 * (feature `pagePoolDmaIndex`) the pool may do so while the page is still out; a zero address says that it has.
 */
export function pagePoolReleaseDma(cpu: Cpu, pool: PagePool, pfn: Pfn): void {
  if (!pool.dmaMap) return
  const { dmaAddr } = pool.env.mem.pages
  const dma = dmaAddr[pfn]!
  if (dma === 0) return
  dmaAddr[pfn] = 0
  dmaUnmapPageAttrs(cpu, pool.dev!, dma as DmaAddr, pool.pageBytes, pool.dmaDir, ATTRS, 'page_pool_release_netmem_dma')
}
