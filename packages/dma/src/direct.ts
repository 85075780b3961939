/**
 * The direct back end: the device's address is the physical one. Where the device cannot reach it, or must not
 * have it as it is, the mapping goes through the bounce pool.
 */
import { assert, type Cpu, type DmaAddr } from '@netmem/base'
import { ksize } from '@netmem/memory'
import { type Device, dmaCapable, grantPages, physToDma, revokePages } from './device.js'
import { lineClean, lineInvalidate, lineMap, lineUnmap } from './noncoherent.js'
import {
  isSwiotlbActive,
  isSwiotlbBuffer,
  isSwiotlbForceBounce,
  swiotlbMap,
  swiotlbSyncSingleForCpu,
  swiotlbSyncSingleForDevice,
  swiotlbTblUnmapSingle,
} from './swiotlb.js'
import {
  DMA_ATTR_NO_WARN,
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_MAPPING_ERROR,
  DMA_TO_DEVICE,
  type DmaDirection,
} from './types.js'

/**
 * Models `dma_direct_map_phys` (kernel/dma/direct.h; `dma_direct_map_page` before 6.18).
 *
 * @returns the device address, or DMA_MAPPING_ERROR; then the device was given nothing.
 */
export function dmaDirectMapPhys(
  cpu: Cpu,
  dev: Device,
  phys: number,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
): DmaAddr {
  if (isSwiotlbForceBounce(dev)) return bounce(cpu, dev, phys, bytes, dir, attrs)
  if (!dmaCapable(dev, phys, bytes) || dmaKmallocNeedsBounce(dev, phys, bytes, dir)) {
    if (isSwiotlbActive(dev)) return bounce(cpu, dev, phys, bytes, dir, attrs)
    if ((attrs & DMA_ATTR_NO_WARN) === 0) warnOverflow(dev, phys, bytes)
    return DMA_MAPPING_ERROR
  }
  if (!dev.coherent) {
    lineMap(dev.env, phys, bytes)
    if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) lineClean(dev.env, phys, bytes)
  }
  grantPages(dev, phys, bytes, dir)
  return physToDma(phys)
}

/** Models `dma_direct_unmap_phys`: gives the bytes back to the CPU, then the bounce slots to the pool. */
export function dmaDirectUnmapPhys(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
): void {
  if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) dmaDirectSyncSingleForCpu(cpu, dev, dma, bytes, dir)
  if (isSwiotlbBuffer(dev, dma)) swiotlbTblUnmapSingle(cpu, dev, dma, bytes, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC)
  if (!dev.coherent) lineUnmap(dev.env, dma, bytes)
  revokePages(dev, dma, bytes, dir)
}

/** Models `dma_direct_sync_single_for_device`. */
export function dmaDirectSyncSingleForDevice(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
): void {
  if (isSwiotlbBuffer(dev, dma)) swiotlbSyncSingleForDevice(cpu, dev, dma, bytes, dir)
  if (!dev.coherent) lineClean(dev.env, dma, bytes)
}

/** Models `dma_direct_sync_single_for_cpu`. */
export function dmaDirectSyncSingleForCpu(cpu: Cpu, dev: Device, dma: DmaAddr, bytes: number, dir: DmaDirection): void {
  if (!dev.coherent && dir !== DMA_TO_DEVICE) lineInvalidate(dev.env, dma, bytes)
  if (isSwiotlbBuffer(dev, dma)) swiotlbSyncSingleForCpu(cpu, dev, dma, bytes, dir)
}

function bounce(cpu: Cpu, dev: Device, phys: number, bytes: number, dir: DmaDirection, attrs: number): DmaAddr {
  const dma = swiotlbMap(cpu, dev, phys, bytes, dir, attrs)
  if (dma >= 0 && !dev.coherent) {
    // The bounce copy was made through the CPU's cache; memory takes it over whatever the attributes say.
    lineMap(dev.env, dma, bytes)
    lineClean(dev.env, dma, bytes)
  }
  return dma
}

/**
 * Models `dma_kmalloc_needs_bounce`: a small kmalloc object shares its cache lines with neighbours, and an
 * invalidate for a device that does not snoop would throw their bytes away.
 */
function dmaKmallocNeedsBounce(dev: Device, phys: number, bytes: number, dir: DmaDirection): boolean {
  const { env } = dev
  if (!env.bounceUnalignedKmalloc || dev.coherent || dir === DMA_TO_DEVICE) return false
  const line = env.profile.SMP_CACHE_BYTES
  if (phys % line === 0 && bytes % line === 0) return false
  // An object whose bucket is a whole number of lines has them to itself.
  return ksize(env.mem, (phys | 0) as never) % line !== 0
}

function warnOverflow(dev: Device, phys: number, bytes: number): void {
  const { trace } = dev.env
  if (trace.warn === null) return
  assert(bytes > 0, 'mapping of no bytes')
  trace.warn(
    'dma_direct_map_phys',
    `${dev.driver} ${dev.name}: DMA addr 0x${phys.toString(16)}+${bytes} overflow ` +
      `(mask ${dev.dmaMask.toString(16)}, bus limit ${dev.busDmaLimit.toString(16)}).`,
  )
}
