/**
 * Streaming mappings: a driver lends bytes to its device and takes them back.
 *
 *     map          the device owns the bytes
 *     sync_for_cpu / sync_for_device     the CPU owns them in between
 *     unmap        the CPU owns them again; address, size and direction as at the map
 *
 * These functions check, choose the back end, tell the debug facility and the tracepoints, and do nothing else.
 */
import { type Addr, assert, bug, type Cpu, type DmaAddr, ERRNO, type Pfn } from '@netmem/base'
import { debugDmaMapPhys, debugDmaMappingError, debugDmaMapSingle, debugDmaUnmapPhys } from './debug.js'
import { debugDmaVerify } from './debug-owner.js'
import { debugDmaSyncSingleForCpu, debugDmaSyncSingleForDevice } from './debug-sync.js'
import { type Device, dmaDevNeedSync } from './device.js'
import {
  dmaDirectMapPhys,
  dmaDirectSyncSingleForCpu,
  dmaDirectSyncSingleForDevice,
  dmaDirectUnmapPhys,
} from './direct.js'
import {
  iommuDmaMapPhys,
  iommuDmaSyncSingleForCpu,
  iommuDmaSyncSingleForDevice,
  iommuDmaUnmapPhys,
} from './iommu-dma.js'
import { checkDmaAttrs, DMA_MAPPING_ERROR, type DmaDirection, validDmaDirection } from './types.js'

// Hot path: once or twice per packet.

/**
 * Models `dma_map_phys` (kernel/dma/mapping.c; `dma_map_page_attrs` before 6.18).
 *
 * @param phys physical address, bytes. @param site the kernel function that maps, for reports.
 * @returns the device's address of the first byte, or DMA_MAPPING_ERROR; then nothing was taken.
 */
export function dmaMapPhys(
  cpu: Cpu,
  dev: Device,
  phys: number,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
  site: string,
): DmaAddr {
  const { env } = dev
  if (__ASSERT__) {
    if (!validDmaDirection(dir)) bug(`kernel BUG at kernel/dma/mapping.c: direction ${dir} maps nothing`)
    assert(bytes > 0, 'dma_map_phys: a mapping of no bytes')
    checkDmaAttrs(attrs)
  }
  if (dev.dmaLimit < 0 || dev.removed) return refuse(dev, 'a device without a DMA mask cannot map')
  const dma = dev.dmaIommu
    ? iommuDmaMapPhys(cpu, dev, phys, bytes, dir, attrs)
    : dev.dmaOps === null
      ? dmaDirectMapPhys(cpu, dev, phys, bytes, dir, attrs)
      : dev.dmaOps.mapPhys(cpu, dev, phys, bytes, dir, attrs)
  if (env.trace.dmaMap !== null) env.trace.dmaMap(dev.name, phys, dma, bytes, dir)
  if (env.debug !== null) debugDmaMapPhys(env.debug, dev, phys, bytes, dir, dma, attrs, site)
  return dma
}

/** Models `dma_unmap_phys` (`dma_unmap_page_attrs` before 6.18). Arguments as they were at the map. */
export function dmaUnmapPhys(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
  site: string,
): void {
  const { env } = dev
  if (__ASSERT__ && !validDmaDirection(dir)) bug(`kernel BUG at kernel/dma/mapping.c: direction ${dir} unmaps nothing`)
  // The debug facility speaks first: after it, a wrong unmap may already have done its damage.
  if (env.debug !== null && !debugDmaUnmapPhys(env.debug, dev, dma, bytes, dir, site)) return
  if (dev.dmaIommu) iommuDmaUnmapPhys(cpu, dev, dma, bytes, dir, attrs)
  else if (dev.dmaOps === null) dmaDirectUnmapPhys(cpu, dev, dma, bytes, dir, attrs)
  else dev.dmaOps.unmapPhys(cpu, dev, dma, bytes, dir, attrs)
  if (env.trace.dmaUnmap !== null) env.trace.dmaUnmap(dev.name, dma, bytes, dir)
}

/** Models `dma_map_single`: `addr` in the direct map, no attributes. See `dmaMapPhys`. */
export function dmaMapSingle(
  cpu: Cpu,
  dev: Device,
  addr: Addr,
  bytes: number,
  dir: DmaDirection,
  site: string,
): DmaAddr {
  return dmaMapSingleAttrs(cpu, dev, addr, bytes, dir, 0, site)
}

/** Models `dma_map_single_attrs`: refuses what is not in the direct map (the kernel: vmalloc memory). */
export function dmaMapSingleAttrs(
  cpu: Cpu,
  dev: Device,
  addr: Addr,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
  site: string,
): DmaAddr {
  const phys = addr >>> 0
  const { env } = dev
  if (env.debug !== null) debugDmaMapSingle(env.debug, dev, phys, bytes, site)
  if (phys + bytes > env.mem.bytes || addr === 0) return refuse(dev, 'rejecting DMA map of vmalloc memory')
  return dmaMapPhys(cpu, dev, phys, bytes, dir, attrs, site)
}

/** Models `dma_unmap_single`. */
export function dmaUnmapSingle(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
  site: string,
): void {
  dmaUnmapPhys(cpu, dev, dma, bytes, dir, 0, site)
}

/** Models `dma_unmap_single_attrs`. */
export const dmaUnmapSingleAttrs = dmaUnmapPhys

/** Models `dma_map_page`: `offset` bytes into a page, which may run on into the pages of its compound block. */
export function dmaMapPage(
  cpu: Cpu,
  dev: Device,
  pfn: Pfn,
  offset: number,
  bytes: number,
  dir: DmaDirection,
  site: string,
): DmaAddr {
  return dmaMapPhys(cpu, dev, pfn * dev.env.pageBytes + offset, bytes, dir, 0, site)
}

/** Models `dma_map_page_attrs`. */
export function dmaMapPageAttrs(
  cpu: Cpu,
  dev: Device,
  pfn: Pfn,
  offset: number,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
  site: string,
): DmaAddr {
  return dmaMapPhys(cpu, dev, pfn * dev.env.pageBytes + offset, bytes, dir, attrs, site)
}

/** Models `dma_unmap_page`. */
export const dmaUnmapPage = dmaUnmapSingle
/** Models `dma_unmap_page_attrs`. */
export const dmaUnmapPageAttrs = dmaUnmapPhys

/** Models `dma_mapping_error` (include/linux/dma-mapping.h). @returns 0, or -ENOMEM for DMA_MAPPING_ERROR. */
export function dmaMappingError(dev: Device, dma: DmaAddr): number {
  if (dev.env.debug !== null) debugDmaMappingError(dev.env.debug, dev, dma)
  return dma === DMA_MAPPING_ERROR ? -ERRNO.ENOMEM : 0
}

/** Models `dma_sync_single_for_cpu`: the CPU may read (and write) these bytes until it syncs them back. */
export function dmaSyncSingleForCpu(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
  site = 'dma_sync_single_for_cpu',
): void {
  if (!dmaDevNeedSync(dev)) return
  const { env } = dev
  if (__ASSERT__ && !validDmaDirection(dir)) bug(`kernel BUG at kernel/dma/mapping.c: direction ${dir} syncs nothing`)
  if (env.debug !== null) debugDmaVerify(env.debug, dev, dma, bytes, site)
  if (dev.dmaIommu) iommuDmaSyncSingleForCpu(cpu, dev, dma, bytes, dir)
  else if (dev.dmaOps === null) dmaDirectSyncSingleForCpu(cpu, dev, dma, bytes, dir)
  else dev.dmaOps.syncSingleForCpu(cpu, dev, dma, bytes, dir)
  if (env.trace.dmaSyncSingleForCpu !== null) env.trace.dmaSyncSingleForCpu(dev.name, dma, bytes, dir)
  if (env.debug !== null) debugDmaSyncSingleForCpu(env.debug, dev, dma, bytes, dir, site)
}

/** Models `dma_sync_single_for_device`: the device owns these bytes again. */
export function dmaSyncSingleForDevice(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
  site = 'dma_sync_single_for_device',
): void {
  if (!dmaDevNeedSync(dev)) return
  const { env } = dev
  if (__ASSERT__ && !validDmaDirection(dir)) bug(`kernel BUG at kernel/dma/mapping.c: direction ${dir} syncs nothing`)
  if (dev.dmaIommu) iommuDmaSyncSingleForDevice(cpu, dev, dma, bytes, dir)
  else if (dev.dmaOps === null) dmaDirectSyncSingleForDevice(cpu, dev, dma, bytes, dir)
  else dev.dmaOps.syncSingleForDevice(cpu, dev, dma, bytes, dir)
  if (env.trace.dmaSyncSingleForDevice !== null) env.trace.dmaSyncSingleForDevice(dev.name, dma, bytes, dir)
  if (env.debug !== null) debugDmaSyncSingleForDevice(env.debug, dev, dma, bytes, dir, site)
}

/** Models `dma_sync_single_range_for_cpu`. */
export const dmaSyncSingleRangeForCpu = (
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  offset: number,
  bytes: number,
  dir: DmaDirection,
): void => dmaSyncSingleForCpu(cpu, dev, (dma + offset) as DmaAddr, bytes, dir)

/** Models `dma_sync_single_range_for_device`. */
export const dmaSyncSingleRangeForDevice = (
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  offset: number,
  bytes: number,
  dir: DmaDirection,
): void => dmaSyncSingleForDevice(cpu, dev, (dma + offset) as DmaAddr, bytes, dir)

/** Models `dma_need_sync`: could syncing this mapping be any work? */
export const dmaNeedSync = (dev: Device, _dma: DmaAddr): boolean => dmaDevNeedSync(dev)

function refuse(dev: Device, words: string): DmaAddr {
  dev.env.trace.warn?.('dma_map_phys', `${dev.driver} ${dev.name}: ${words}`)
  return DMA_MAPPING_ERROR
}
