/**
 * A device as the DMA layer sees it: how far it can address, whether its accesses snoop the CPU's caches,
 * and which of the three back ends serves it. The driver that owns the device is the only one who changes it.
 */
import { assert, type DmaAddr, ERRNO, type Pfn } from '@netmem/base'
import type { CoherentPool } from './coherent-pool.js'
import type { Dma } from './dma.js'
import type { DmaPool } from './dma-pool.js'
import type { IommuDomain } from './iommu.js'
import type { IommuDma } from './iommu-dma.js'
import type { DmaMapOps } from './ops.js'
import type { IoTlbMem } from './swiotlb.js'
import { IO_TLB_SEGSIZE, IO_TLB_SIZE } from './swiotlb-slots.js'
import { DMA_BIT_MASK } from './types.js'

/** What a device is made of; everything but the name has the value that most PCI devices have. */
export interface DeviceParams {
  readonly name: string
  readonly driver?: string
  /** NUMA node, -1 for none. */
  readonly node?: number
  /** Whether device accesses snoop the CPU caches, as on x86. */
  readonly coherent?: boolean
  /** Models `dev->bus_dma_limit`: highest bus address, 0 for no limit. */
  readonly busDmaLimit?: number
  /** Models `pci_dev->untrusted`: an external port; partial granules are bounced. */
  readonly untrusted?: boolean
  /** PCI devices get IOVAs below 4 GiB first. */
  readonly pci?: boolean
  /** False exempts the device from the machine's IOMMU (identity domain). */
  readonly iommu?: boolean
}

/** Models the parts of `struct device` that DMA decisions read. One shape; numbers are bytes unless named otherwise. */
export class Device {
  readonly id: number
  readonly env: Dma
  readonly name: string
  readonly driver: string
  readonly node: number
  readonly coherent: boolean
  readonly busDmaLimit: number
  readonly untrusted: boolean
  readonly pci: boolean
  /** Models `*dev->dma_mask`; 0 stands for a device without a mask, which cannot map at all. */
  dmaMask = DMA_BIT_MASK(32)
  coherentDmaMask = DMA_BIT_MASK(32)
  /** The smaller of mask and bus limit: the last byte that a streaming mapping may reach. */
  dmaLimit = DMA_BIT_MASK(32)
  coherentLimit = DMA_BIT_MASK(32)
  minAlignMask = 0
  segBoundaryMask = DMA_BIT_MASK(32)
  maxSegBytes = 65536
  /**
   * Models `!dev->dma_skip_sync`: whether a sync can be any work. False for a device that snoops, until its first
   * bounce; with the debug facility on, and on kernels without the flag (feature `dmaNeedSyncFlag`), always true.
   */
  needSync = true
  /** Models `dev->dma_iommu`: the IOMMU back end is called without a table. */
  dmaIommu = false
  dmaOps: DmaMapOps | null = null
  /** Its translations, and where its addresses come from; null without an IOMMU. */
  domain: IommuDomain | null = null
  iommuDma: IommuDma | null = null
  ioTlb: IoTlbMem | null
  coherentPool: CoherentPool | null = null
  readonly pools: DmaPool[] = []
  /** Models `dev->iommu->pci_32bit_workaround`: still tries below 4 GiB first. */
  sac32 = true
  removed = false
  /** Mappings by page that let the device read or write; what the engine obeys where no IOMMU stands in between. */
  readonly readable: Uint16Array
  readonly writable: Uint16Array
  /** Live mappings and coherent blocks; faults that its engine took. */
  mappings = 0
  coherentBlocks = 0
  faults = 0
  /** Accesses that only worked because the IOTLB had not been flushed since the unmap. */
  staleAccesses = 0

  constructor(env: Dma, id: number, p: DeviceParams) {
    this.id = id
    this.env = env
    this.name = p.name
    this.driver = p.driver ?? p.name
    this.node = p.node ?? -1
    this.coherent = p.coherent ?? true
    this.busDmaLimit = p.busDmaLimit ?? 0
    this.untrusted = p.untrusted ?? false
    this.pci = p.pci ?? true
    this.ioTlb = env.ioTlb
    const pages = Math.ceil(env.mem.bytes / env.pageBytes)
    this.readable = new Uint16Array(pages)
    this.writable = new Uint16Array(pages)
    updateLimits(this)
    setupNeedSync(this)
  }
}

const minNotZero = (a: number, b: number): number => (b === 0 ? a : a === 0 ? b : Math.min(a, b))

function updateLimits(dev: Device): void {
  dev.dmaLimit = dev.dmaMask === 0 ? -1 : minNotZero(dev.dmaMask, dev.busDmaLimit)
  dev.coherentLimit = minNotZero(dev.coherentDmaMask, dev.busDmaLimit)
}

/** Models `dma_setup_need_sync` (kernel/dma/mapping.c): coherent devices skip syncs until they bounce. */
export function setupNeedSync(dev: Device): void {
  dev.needSync = !dev.env.profile.features.dmaNeedSyncFlag || !dev.coherent || dev.env.debug !== null
}

/** Models `dma_reset_need_sync`: the first bounce makes every later sync real, for ever. */
export function dmaResetNeedSync(dev: Device): void {
  dev.needSync = true
}

/** Models `dma_dev_need_sync`. */
export const dmaDevNeedSync = (dev: Device): boolean => dev.needSync

/** Models `dma_supported`: a mask that cannot reach the lowest memory a driver might be given is refused. */
export function dmaSupported(dev: Device, mask: number): boolean {
  // dma_direct_supported: below 32 bits only when the zone for such devices lies inside the mask.
  if (dev.domain !== null) return true
  const minimum = Math.min(dev.env.zoneDmaLimit, dev.env.mem.bytes - 1)
  return mask >= minimum
}

/** Models `dma_set_mask` (kernel/dma/mapping.c). @returns 0, or -EIO when the mask is not supported; then nothing changes. */
export function dmaSetMask(dev: Device, mask: number): number {
  if (!dmaSupported(dev, mask)) return -ERRNO.EIO
  dev.dmaMask = mask
  updateLimits(dev)
  setupNeedSync(dev)
  return 0
}

/** Models `dma_set_coherent_mask`. @returns 0 or -EIO. */
export function dmaSetCoherentMask(dev: Device, mask: number): number {
  if (!dmaSupported(dev, mask)) return -ERRNO.EIO
  dev.coherentDmaMask = mask
  updateLimits(dev)
  return 0
}

/** Models `dma_set_mask_and_coherent`. @returns 0 or -EIO; the coherent mask is left alone when the first fails. */
export function dmaSetMaskAndCoherent(dev: Device, mask: number): number {
  const rc = dmaSetMask(dev, mask)
  return rc === 0 ? dmaSetCoherentMask(dev, mask) : rc
}

/** Takes the mask away, as on a device whose bus never gave it one: every mapping then fails. */
export function dmaClearMask(dev: Device): void {
  dev.dmaMask = 0
  updateLimits(dev)
}

/** Models `dma_set_min_align_mask`: low bits of an address that a bounce slot must keep (at most a slot's). */
export function dmaSetMinAlignMask(dev: Device, mask: number): void {
  assert(mask >= 0 && (mask & (mask + 1)) === 0, 'min_align_mask is not of the form 2^n - 1')
  dev.minAlignMask = mask
}

/** Models `dma_set_seg_boundary`. */
export function dmaSetSegBoundary(dev: Device, mask: number): void {
  dev.segBoundaryMask = mask
}

/** Models `dma_set_max_seg_size`. */
export function dmaSetMaxSegSize(dev: Device, bytes: number): void {
  dev.maxSegBytes = bytes
}

/** Models `dma_get_required_mask`: the smallest mask of the form 2^n - 1 that reaches all of memory. */
export function dmaGetRequiredMask(dev: Device): number {
  return DMA_BIT_MASK(Math.max(32, Math.ceil(Math.log2(dev.env.mem.bytes))))
}

/** Models `dma_max_mapping_size`: bytes; infinite unless the mapping may have to bounce. */
export function dmaMaxMappingSize(dev: Device): number {
  const bounces = dev.ioTlb !== null && (dev.ioTlb.forceBounce || dev.dmaLimit < dev.env.mem.bytes - 1)
  if (!bounces || (dev.domain !== null && !dev.untrusted)) return Number.POSITIVE_INFINITY
  const minAlign = dev.minAlignMask === 0 ? 0 : Math.ceil(dev.minAlignMask / IO_TLB_SIZE) * IO_TLB_SIZE
  return IO_TLB_SIZE * IO_TLB_SEGSIZE - minAlign
}

/** Models `dma_capable`: does the whole range lie below what the device can address? */
export const dmaCapable = (dev: Device, dma: number, bytes: number): boolean => dma + bytes - 1 <= dev.dmaLimit

// What the device may touch without an IOMMU in between. Per page, as an IOMMU would: a counter, because a page may be mapped twice.

/** Gives the device the pages of a range. `dir` as in the mapping call. */
export function grantPages(dev: Device, phys: number, bytes: number, dir: number): void {
  const shift = dev.env.pageShift
  const last = (phys + bytes - 1) >>> shift
  for (let pfn = phys >>> shift; pfn <= last; pfn++) {
    if (dir !== 2) dev.readable[pfn]!++
    if (dir !== 1) dev.writable[pfn]!++
  }
  dev.mappings++
}

/** Takes them back. */
export function revokePages(dev: Device, phys: number, bytes: number, dir: number): void {
  const shift = dev.env.pageShift
  const last = (phys + bytes - 1) >>> shift
  for (let pfn = phys >>> shift; pfn <= last; pfn++) {
    if (dir !== 2 && dev.readable[pfn]! > 0) dev.readable[pfn]!--
    if (dir !== 1 && dev.writable[pfn]! > 0) dev.writable[pfn]!--
  }
  dev.mappings--
}

/** @returns whether the device's engine may touch that page; for reports. */
export const devicePageGranted = (dev: Device, pfn: Pfn, write: boolean): boolean =>
  (write ? dev.writable : dev.readable)[pfn]! > 0

/** @returns the device address of a physical one without an IOMMU: they are the same on PCI. */
export const physToDma = (phys: number): DmaAddr => phys as DmaAddr
