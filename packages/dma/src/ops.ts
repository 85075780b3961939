/**
 * The table through which a device's mappings go when its back end is neither direct nor called by name. Since
 * 6.12 the IOMMU is called by name (profile feature `iommuDmaDirectCall`); before, it was such a table too.
 */
import type { Addr, Cpu, DmaAddr, Gfp } from '@netmem/base'
import type { Device } from './device.js'
import type { DmaDirection, DmaHandle } from './types.js'

/** Models the part of `struct dma_map_ops` (include/linux/dma-map-ops.h) that network drivers reach. */
export interface DmaMapOps {
  readonly name: string
  alloc(cpu: Cpu, dev: Device, bytes: number, handle: DmaHandle, gfp: Gfp, attrs: number): Addr
  free(cpu: Cpu, dev: Device, bytes: number, addr: Addr, dma: DmaAddr, attrs: number): void
  mapPhys(cpu: Cpu, dev: Device, phys: number, bytes: number, dir: DmaDirection, attrs: number): DmaAddr
  unmapPhys(cpu: Cpu, dev: Device, dma: DmaAddr, bytes: number, dir: DmaDirection, attrs: number): void
  syncSingleForCpu(cpu: Cpu, dev: Device, dma: DmaAddr, bytes: number, dir: DmaDirection): void
  syncSingleForDevice(cpu: Cpu, dev: Device, dma: DmaAddr, bytes: number, dir: DmaDirection): void
}

/** Models `get_dma_ops` (include/linux/dma-map-ops.h). @returns null for the direct back end, and for one called by name. */
export const getDmaOps = (dev: Device): DmaMapOps | null => dev.dmaOps
