/**
 * The area as a device sees it: every page mapped once for both directions, for as long as a pool of that device wants
 * it. Two queues of a card on one area share the mapping.
 */
import { type Cpu, type DmaAddr, ERRNO, type Pfn } from '@netmem/base'
import { type Device, DMA_BIDIRECTIONAL, dmaDevNeedSync, dmaMapPage, dmaMappingError, dmaUnmapPage } from '@netmem/dma'
import { PAGE_SIZE } from '@netmem/memory'
import { type XskBuffPool, xpInitHead } from './xsk-buff-pool.js'

/** Models `struct xsk_dma_map`. Law: `users` pools name it, and every entry of `pages` is one mapping. */
export class XskDmaMap {
  users = 1
  /** By page of the area: the device's address. */
  readonly pages: Float64Array
  needSync = false

  constructor(
    readonly device: Device,
    count: number,
  ) {
    this.pages = new Float64Array(count)
  }
}

/** Models `xp_find_dma_map`. */
function findDmaMap(pool: XskBuffPool, device: Device): XskDmaMap | null {
  for (const other of pool.env.pools) {
    const map = other.dmaMapping
    if (other.umem === pool.umem && map !== null && map.device === device) return map
  }
  return null
}

/** Models `xp_dma_map` (net/xdp/xsk_buff_pool.c). @returns 0 or -ENOMEM, with nothing mapped. */
export function xpDmaMap(cpu: Cpu, pool: XskBuffPool, device: Device): number {
  const shared = findDmaMap(pool, device)
  if (shared !== null) {
    shared.users++
    pool.dmaMapping = shared
  } else {
    const { pfns } = pool.umem
    const map = new XskDmaMap(device, pfns.length)
    for (let i = 0; i < pfns.length; i++) {
      const dma = dmaMapPage(cpu, device, pfns[i]! as Pfn, 0, PAGE_SIZE, DMA_BIDIRECTIONAL, 'xp_dma_map')
      if (dmaMappingError(device, dma) !== 0) {
        unmapPages(cpu, map, i)
        return -ERRNO.ENOMEM
      }
      map.pages[i] = dma
    }
    map.needSync = dmaDevNeedSync(device)
    pool.dmaMapping = map
  }
  if (!pool.unaligned) for (let i = 0; i < pool.origAddr.length; i++) xpInitHead(pool, i, pool.origAddr[i]!)
  return 0
}

/** Models `xp_dma_unmap`. */
export function xpDmaUnmap(cpu: Cpu, pool: XskBuffPool): void {
  const map = pool.dmaMapping
  if (map === null) return
  pool.dmaMapping = null
  map.users--
  if (map.users === 0) unmapPages(cpu, map, map.pages.length)
}

function unmapPages(cpu: Cpu, map: XskDmaMap, count: number): void {
  for (let i = 0; i < count; i++)
    dmaUnmapPage(cpu, map.device, map.pages[i]! as DmaAddr, PAGE_SIZE, DMA_BIDIRECTIONAL, 'xp_dma_unmap')
}

/** Models `xp_raw_get_dma`. @param offset bytes into the area. */
export const xpRawGetDma = (map: XskDmaMap, offset: number): number => map.pages[offset >>> 12]! + (offset & 4095)
