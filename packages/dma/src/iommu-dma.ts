/**
 * The IOMMU back end: takes device addresses, makes the translations, and undoes both in strict or lazy order.
 *
 *     strict   unmap -> invalidate -> address free          each unmap waits for the hardware
 *     lazy     unmap -> address queued ... one flush for many -> addresses free
 */
import { type Addr, type Cpu, type DmaAddr, type Gfp, NULL, type Pfn } from '@netmem/base'
import { allocPages, freePages } from '@netmem/memory'
import { type Device, setupNeedSync } from './device.js'
import type { Dma } from './dma.js'
import { IOMMU_READ, IOMMU_WRITE, IommuDomain } from './iommu.js'
import { IovaDomain, putIovaDomain, reserveIova } from './iova.js'
import { drainFlushQueues, IovaFlushQueues, queueIova } from './iova-fq.js'
import { allocIovaFast, freeIovaFast, freeIovaRcaches, IovaRcaches } from './iova-rcache.js'
import { lineClean, lineInvalidate, lineMap, lineUnmap } from './noncoherent.js'
import type { DmaMapOps } from './ops.js'
import {
  isSwiotlbActive,
  isSwiotlbBuffer,
  swiotlbSyncSingleForCpu,
  swiotlbSyncSingleForDevice,
  swiotlbTblMapSingle,
  swiotlbTblUnmapSingle,
} from './swiotlb.js'
import {
  DMA_ATTR_NO_WARN,
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_BIT_MASK,
  DMA_FROM_DEVICE,
  DMA_MAPPING_ERROR,
  DMA_TO_DEVICE,
  type DmaDirection,
  type DmaHandle,
} from './types.js'

/** What the `iommu.` boot parameters and the hardware say. */
export interface IommuParams {
  /** Models `iommu.strict`: invalidate at each unmap. Default false: lazily, 10 ms at most. */
  readonly strict?: boolean
  /** One flush queue for all CPUs with a longer timeout, as for emulated IOMMUs. */
  readonly singleQueue?: boolean
  /** Models `iommu.forcedac`: PCI devices do not prefer addresses below 4 GiB. */
  readonly forcedac?: boolean
  /** Last device address that the hardware translates, bytes. Default 2^48 - 1. */
  readonly apertureEnd?: number
  /** Ranges (first and last byte) that are never handed out. Default: the interrupt window of x86. */
  readonly reserved?: readonly (readonly [number, number])[]
}

const X86_MSI_WINDOW = [[0xfee00000, 0xfeefffff]] as const

/** Models `struct iommu_dma_cookie`: the address space of one device and what unmapping needs. */
export class IommuDma {
  readonly iovad: IovaDomain
  readonly rcaches: IovaRcaches
  readonly fqs: IovaFlushQueues | null
  readonly apertureEnd: number
  readonly forcedac: boolean

  constructor(env: Dma, dev: Device, domain: IommuDomain, p: IommuParams) {
    this.iovad = new IovaDomain(env, env.pageBytes, 1)
    this.apertureEnd = p.apertureEnd ?? DMA_BIT_MASK(48)
    this.forcedac = p.forcedac ?? false
    for (const [first, last] of p.reserved ?? X86_MSI_WINDOW)
      reserveIova(this.iovad, Math.floor(first / env.pageBytes), Math.floor(last / env.pageBytes))
    this.rcaches = new IovaRcaches(this.iovad)
    // An untrusted device must never reach a page after its unmap.
    const lazy = !(p.strict ?? false) && !dev.untrusted
    this.fqs = lazy ? new IovaFlushQueues(this.rcaches, p.singleQueue ?? false, () => domain.flushIotlbAll()) : null
  }
}

/** Models `iommu_setup_dma_ops`: from now on the device's addresses are translated. */
export function iommuAttachDevice(env: Dma, dev: Device, p: IommuParams): void {
  const domain = new IommuDomain(env, dev)
  dev.domain = domain
  dev.iommuDma = new IommuDma(env, dev, domain, p)
  if (env.profile.features.iommuDmaDirectCall) dev.dmaIommu = true
  else dev.dmaOps = IOMMU_DMA_OPS
  setupNeedSync(dev)
}

/** Ends the domain of a removed device: whatever it still had mapped stops working. */
export function iommuDetachDevice(cpu: Cpu, dev: Device): void {
  const cookie = dev.iommuDma
  if (cookie === null) return
  if (cookie.fqs !== null) drainFlushQueues(cpu, cookie.fqs)
  freeIovaRcaches(cpu, cookie.rcaches)
  putIovaDomain(cpu, cookie.iovad)
  dev.domain!.free(cpu)
  dev.iommuDma = null
}

/** Models `dma_info_to_prot`. */
const protOf = (dir: DmaDirection): number =>
  dir === DMA_TO_DEVICE ? IOMMU_READ : dir === DMA_FROM_DEVICE ? IOMMU_WRITE : IOMMU_READ | IOMMU_WRITE

/** Models `iommu_dma_map_page` (`iommu_dma_map_phys` since 6.18; drivers/iommu/dma-iommu.c). */
export function iommuDmaMapPhys(
  cpu: Cpu,
  dev: Device,
  phys: number,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
): DmaAddr {
  let at = phys
  // A device that is not trusted must not see what shares the first or last page with the buffer.
  if (dev.untrusted && ((phys | bytes) & dev.env.pageMask) !== 0) {
    if (!isSwiotlbActive(dev)) {
      if ((attrs & DMA_ATTR_NO_WARN) === 0)
        dev.env.trace.warn?.(
          'iommu_dma_map_phys',
          `${dev.name}: DMA bounce buffers are inactive, unable to map unaligned transaction.`,
        )
      return DMA_MAPPING_ERROR
    }
    if (dev.env.trace.swiotlbBounced !== null) dev.env.trace.swiotlbBounced(dev.name, phys, bytes, false)
    const tlb = swiotlbTblMapSingle(cpu, dev, phys, bytes, attrs)
    if (tlb < 0) return DMA_MAPPING_ERROR
    at = tlb
  }
  if (!dev.coherent) {
    lineMap(dev.env, at, bytes)
    if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) lineClean(dev.env, at, bytes)
  }
  const dma = mapRange(cpu, dev, at, bytes, protOf(dir), dev.dmaLimit)
  if (dma >= 0) {
    dev.mappings++
    return dma
  }
  if (!dev.coherent) lineUnmap(dev.env, at, bytes)
  if (at !== phys) swiotlbTblUnmapSingle(cpu, dev, at, bytes, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC)
  return DMA_MAPPING_ERROR
}

/** Models `iommu_dma_unmap_page` (`iommu_dma_unmap_phys` since 6.18). */
export function iommuDmaUnmapPhys(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
): void {
  const phys = iovaToPhys(dev, dma)
  if (phys === 0) {
    dev.env.trace.warn?.('iommu_dma_unmap_phys', `${dev.name}: nothing is mapped at 0x${dma.toString(16)}`)
    return
  }
  if (!dev.coherent) {
    if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0 && dir !== DMA_TO_DEVICE) lineInvalidate(dev.env, phys, bytes)
    lineUnmap(dev.env, phys, bytes)
  }
  unmapRange(cpu, dev, dma, bytes)
  dev.mappings--
  if (isSwiotlbBuffer(dev, phys)) swiotlbTblUnmapSingle(cpu, dev, phys, bytes, dir, attrs)
}

/** Models `iommu_dma_sync_single_for_cpu`. */
export function iommuDmaSyncSingleForCpu(cpu: Cpu, dev: Device, dma: DmaAddr, bytes: number, dir: DmaDirection): void {
  if (dev.coherent && dev.ioTlb === null) return
  const phys = iovaToPhys(dev, dma)
  if (phys === 0) return
  if (!dev.coherent && dir !== DMA_TO_DEVICE) lineInvalidate(dev.env, phys, bytes)
  if (isSwiotlbBuffer(dev, phys)) swiotlbSyncSingleForCpu(cpu, dev, phys, bytes, dir)
}

/** Models `iommu_dma_sync_single_for_device`. */
export function iommuDmaSyncSingleForDevice(
  cpu: Cpu,
  dev: Device,
  dma: DmaAddr,
  bytes: number,
  dir: DmaDirection,
): void {
  if (dev.coherent && dev.ioTlb === null) return
  const phys = iovaToPhys(dev, dma)
  if (phys === 0) return
  if (isSwiotlbBuffer(dev, phys)) swiotlbSyncSingleForDevice(cpu, dev, phys, bytes, dir)
  if (!dev.coherent) lineClean(dev.env, phys, bytes)
}

/**
 * Models `iommu_dma_alloc`: pages in a row and one mapping of them.
 *
 * Differs: the kernel may gather single pages and make them contiguous for the CPU too; here the direct map is the
 * only address space, so they are contiguous in memory.
 */
export function iommuDmaAlloc(cpu: Cpu, dev: Device, bytes: number, handle: DmaHandle, gfp: Gfp): Addr {
  const { mem, pageBytes } = dev.env
  const order = orderOf(bytes, pageBytes)
  const pfn = allocPages(mem, cpu, gfp, order, dev.node, 'iommu_dma_alloc_pages')
  if (pfn === 0) return NULL
  const phys = pfn * pageBytes
  const dma = mapRange(cpu, dev, phys, bytes, IOMMU_READ | IOMMU_WRITE, dev.coherentLimit)
  if (dma < 0) {
    freePages(mem, cpu, pfn, order, 'iommu_dma_alloc')
    return NULL
  }
  mem.u8.fill(0, phys, phys + (pageBytes << order))
  handle.dma = dma
  return phys as Addr
}

/** Models `iommu_dma_free`. */
export function iommuDmaFree(cpu: Cpu, dev: Device, bytes: number, addr: Addr, dma: DmaAddr): void {
  unmapRange(cpu, dev, dma, bytes)
  const { mem, pageBytes, pageShift } = dev.env
  freePages(mem, cpu, (addr >>> pageShift) as Pfn, orderOf(bytes, pageBytes), 'iommu_dma_free')
}

/** Models `get_order`. */
export function orderOf(bytes: number, pageBytes: number): number {
  let order = 0
  while (pageBytes * 2 ** order < bytes) order++
  return order
}

/** Models `__iommu_dma_map`: whole pages around the range, at a new device address. @returns -1 when it cannot be. */
function mapRange(cpu: Cpu, dev: Device, phys: number, bytes: number, prot: number, limit: number): DmaAddr {
  const { env } = dev
  const offset = phys & env.pageMask
  const pages = Math.ceil((bytes + offset) / env.pageBytes)
  const iovaPfn = iommuDmaAllocIova(cpu, dev, pages, limit)
  if (iovaPfn === 0) return DMA_MAPPING_ERROR
  if (dev.domain!.map(cpu, iovaPfn, Math.floor(phys / env.pageBytes), pages, prot) !== 0) {
    freeIovaFast(cpu, dev.iommuDma!.rcaches, iovaPfn, pages)
    return DMA_MAPPING_ERROR
  }
  return (iovaPfn * env.pageBytes + offset) as DmaAddr
}

/** Models `__iommu_dma_unmap` with `iommu_dma_free_iova`. */
function unmapRange(cpu: Cpu, dev: Device, dma: number, bytes: number): void {
  const { env } = dev
  const { fqs, rcaches } = dev.iommuDma!
  const offset = dma % env.pageBytes
  const pages = Math.ceil((bytes + offset) / env.pageBytes)
  const iovaPfn = (dma - offset) / env.pageBytes
  const cleared = dev.domain!.unmap(iovaPfn, pages, fqs !== null)
  if (cleared !== pages)
    env.trace.warn?.('__iommu_dma_unmap', `${dev.name}: unmapped ${cleared} of ${pages} pages at 0x${dma.toString(16)}`)
  if (fqs !== null) queueIova(cpu, fqs, iovaPfn, pages)
  else freeIovaFast(cpu, rcaches, iovaPfn, pages)
}

/** Models `iommu_dma_alloc_iova`: below 4 GiB first for PCI, until that fails once; then up to the device's limit. */
function iommuDmaAllocIova(cpu: Cpu, dev: Device, pages: number, deviceLimit: number): number {
  const cookie = dev.iommuDma!
  const limit = Math.min(deviceLimit, cookie.apertureEnd)
  const pageBytes = dev.env.pageBytes
  const below4g = DMA_BIT_MASK(32)
  if (limit > below4g && dev.pci && dev.sac32 && !cookie.forcedac) {
    const pfn = allocIovaFast(cpu, cookie.rcaches, pages, Math.floor(below4g / pageBytes), false)
    if (pfn !== 0) return pfn
    dev.sac32 = false
    dev.env.trace.printk?.(`${dev.driver} ${dev.name}: Using ${Math.ceil(Math.log2(limit + 1))}-bit DMA addresses`)
  }
  return allocIovaFast(cpu, cookie.rcaches, pages, Math.floor(limit / pageBytes), true)
}

/** Models `iommu_iova_to_phys`. @returns 0 when nothing is mapped there. */
function iovaToPhys(dev: Device, dma: number): number {
  const { pageBytes } = dev.env
  const pfn = dev.domain!.iovaToPfn(Math.floor(dma / pageBytes))
  return pfn === 0 ? 0 : pfn * pageBytes + (dma % pageBytes)
}

/** Models `iommu_dma_ops`: how the IOMMU was reached before 6.12 called it by name. */
const IOMMU_DMA_OPS: DmaMapOps = {
  name: 'iommu_dma_ops',
  alloc: iommuDmaAlloc,
  free: iommuDmaFree,
  mapPhys: iommuDmaMapPhys,
  unmapPhys: iommuDmaUnmapPhys,
  syncSingleForCpu: iommuDmaSyncSingleForCpu,
  syncSingleForDevice: iommuDmaSyncSingleForDevice,
}
