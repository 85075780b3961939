/** Scatter-gather lists: many pieces, mapped and unmapped as one. */
import { assert, type Cpu, type DmaAddr, ERRNO, type Pfn } from '@netmem/base'
import { debugDmaMapSg, debugDmaUnmapSg } from './debug.js'
import { debugDmaSyncSg } from './debug-sync.js'
import type { Device } from './device.js'
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
import { checkDmaAttrs, DMA_ATTR_SKIP_CPU_SYNC, type DmaDirection, validDmaDirection } from './types.js'

/** Models `struct scatterlist`: where the piece is for the CPU, and, once mapped, for the device. Bytes. */
export interface Scatterlist {
  readonly pfn: Pfn
  readonly offset: number
  readonly bytes: number
  dmaAddress: DmaAddr
  dmaBytes: number
}

/** @returns a piece that is not mapped yet. */
export const sgSetPage = (pfn: Pfn, bytes: number, offset: number): Scatterlist => ({
  pfn,
  offset,
  bytes,
  dmaAddress: 0 as DmaAddr,
  dmaBytes: 0,
})

/**
 * Models `dma_map_sg_attrs` (kernel/dma/mapping.c): all pieces or none.
 *
 * Differs: the IOMMU back end gives every piece a range of its own and never merges pieces.
 *
 * @returns pieces for the device, or 0 when one could not be mapped; the earlier ones are undone then.
 */
export function dmaMapSg(
  cpu: Cpu,
  dev: Device,
  sgl: readonly Scatterlist[],
  dir: DmaDirection,
  attrs: number,
  site: string,
): number {
  const rc = dmaMapSgtable(cpu, dev, sgl, dir, attrs, site)
  return rc < 0 ? 0 : sgl.length
}

/** Models `dma_map_sgtable`. @returns 0, or a negative errno (-EIO: one piece could not be mapped). */
export function dmaMapSgtable(
  cpu: Cpu,
  dev: Device,
  sgl: readonly Scatterlist[],
  dir: DmaDirection,
  attrs: number,
  site: string,
): number {
  assert(validDmaDirection(dir), 'kernel BUG at kernel/dma/mapping.c: dma_map_sg direction')
  checkDmaAttrs(attrs)
  const { env } = dev
  if (dev.dmaLimit < 0 || dev.removed) return -ERRNO.EINVAL
  const map = dev.dmaIommu ? iommuDmaMapPhys : (dev.dmaOps?.mapPhys ?? dmaDirectMapPhys)
  for (let i = 0; i < sgl.length; i++) {
    const sg = sgl[i]!
    const dma = map(cpu, dev, sg.pfn * env.pageBytes + sg.offset, sg.bytes, dir, attrs)
    if (dma < 0) {
      unmapPieces(cpu, dev, sgl.slice(0, i), dir, attrs | DMA_ATTR_SKIP_CPU_SYNC)
      return -ERRNO.EIO
    }
    sg.dmaAddress = dma
    sg.dmaBytes = sg.bytes
    if (env.trace.dmaMap !== null) env.trace.dmaMap(dev.name, sg.pfn * env.pageBytes + sg.offset, dma, sg.bytes, dir)
  }
  if (env.debug !== null) debugDmaMapSg(env.debug, dev, sgl, dir, attrs, site)
  return 0
}

/** Models `dma_unmap_sg_attrs`: the list as it was mapped, with its full number of pieces. */
export function dmaUnmapSg(
  cpu: Cpu,
  dev: Device,
  sgl: readonly Scatterlist[],
  dir: DmaDirection,
  attrs: number,
  site: string,
): void {
  const { env } = dev
  if (env.debug !== null && !debugDmaUnmapSg(env.debug, dev, sgl, dir, site)) return
  unmapPieces(cpu, dev, sgl, dir, attrs)
  if (env.trace.dmaUnmap !== null) for (const sg of sgl) env.trace.dmaUnmap(dev.name, sg.dmaAddress, sg.dmaBytes, dir)
}

function unmapPieces(cpu: Cpu, dev: Device, sgl: readonly Scatterlist[], dir: DmaDirection, attrs: number): void {
  const unmap = dev.dmaIommu ? iommuDmaUnmapPhys : (dev.dmaOps?.unmapPhys ?? dmaDirectUnmapPhys)
  for (const sg of sgl) unmap(cpu, dev, sg.dmaAddress, sg.dmaBytes, dir, attrs)
}

/** Models `dma_sync_sg_for_cpu`. */
export function dmaSyncSgForCpu(cpu: Cpu, dev: Device, sgl: readonly Scatterlist[], dir: DmaDirection): void {
  const sync = dev.dmaIommu ? iommuDmaSyncSingleForCpu : (dev.dmaOps?.syncSingleForCpu ?? dmaDirectSyncSingleForCpu)
  for (const sg of sgl) sync(cpu, dev, sg.dmaAddress, sg.dmaBytes, dir)
  if (dev.env.debug !== null) debugDmaSyncSg(dev.env.debug, dev, sgl, dir, true)
}

/** Models `dma_sync_sg_for_device`. */
export function dmaSyncSgForDevice(cpu: Cpu, dev: Device, sgl: readonly Scatterlist[], dir: DmaDirection): void {
  const sync = dev.dmaIommu
    ? iommuDmaSyncSingleForDevice
    : (dev.dmaOps?.syncSingleForDevice ?? dmaDirectSyncSingleForDevice)
  for (const sg of sgl) sync(cpu, dev, sg.dmaAddress, sg.dmaBytes, dir)
  if (dev.env.debug !== null) debugDmaSyncSg(dev.env.debug, dev, sgl, dir, false)
}
