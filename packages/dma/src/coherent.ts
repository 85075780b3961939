/**
 * Memory that CPU and device share for long, such as descriptor rings: both see each other's writes at once, nothing is
 * synced, and the bytes start as zeros.
 */
import { type Addr, assert, type Cpu, type DmaAddr, type Gfp, NO_PFN, NULL, type Pfn } from '@netmem/base'
import { allocPages, freePages } from '@netmem/memory'
import { allocFromDevCoherent, dmaReleaseFromDevCoherent } from './coherent-pool.js'
import { debugDmaAllocCoherent, debugDmaFreeCoherent } from './debug.js'
import { type Device, grantPages, revokePages } from './device.js'
import { iommuDmaAlloc, iommuDmaFree, orderOf } from './iommu-dma.js'
import { checkDmaAttrs, DMA_BIDIRECTIONAL, type DmaHandle } from './types.js'

/**
 * Models `dma_alloc_coherent` (kernel/dma/mapping.c, `dma_alloc_attrs`).
 *
 * @param handle receives the device's address. @param site the calling function, for reports.
 * @returns the CPU's address of zeroed memory; NULL when there is none that the device reaches.
 */
export function dmaAllocCoherent(
  cpu: Cpu,
  dev: Device,
  bytes: number,
  handle: DmaHandle,
  gfp: Gfp,
  site: string,
): Addr {
  return dmaAllocAttrs(cpu, dev, bytes, handle, gfp, 0, site)
}

/** Models `dma_alloc_attrs`. Of the attributes only those that exist are taken; see `checkDmaAttrs`. */
export function dmaAllocAttrs(
  cpu: Cpu,
  dev: Device,
  bytes: number,
  handle: DmaHandle,
  gfp: Gfp,
  attrs: number,
  site: string,
): Addr {
  const { env } = dev
  const masks = env.mem.gfp
  checkDmaAttrs(attrs)
  assert(bytes > 0, 'dma_alloc_coherent: no bytes')
  if (dev.coherentDmaMask === 0 || dev.removed) {
    env.trace.warn?.('dma_alloc_attrs', `${dev.name}: device without a coherent mask`)
    return NULL
  }
  if (dev.coherentPool !== null) {
    const addr = allocFromDevCoherent(dev, bytes, handle)
    if (addr !== NULL) taken(dev, bytes, addr, handle, site)
    return addr
  }
  if ((gfp & masks.COMP) !== 0) {
    env.trace.warn?.('dma_alloc_attrs', `${dev.name}: __GFP_COMP in a coherent allocation`)
    return NULL
  }
  // The mask decides about the zone, not the caller.
  const mask = (gfp & ~(masks.DMA | masks.DMA32 | masks.HIGHMEM)) as Gfp
  const addr = dev.dmaIommu
    ? iommuDmaAlloc(cpu, dev, bytes, handle, mask)
    : dev.dmaOps === null
      ? dmaDirectAlloc(cpu, dev, bytes, handle, mask)
      : dev.dmaOps.alloc(cpu, dev, bytes, handle, mask, attrs)
  if (addr !== NULL) taken(dev, bytes, addr, handle, site)
  return addr
}

function taken(dev: Device, bytes: number, addr: Addr, handle: DmaHandle, site: string): void {
  dev.coherentBlocks++
  if (dev.domain === null) grant(dev, addr >>> 0, bytes, true)
  if (dev.env.debug !== null) debugDmaAllocCoherent(dev.env.debug, dev, bytes, handle.dma, addr >>> 0, site)
}

/** Models `dma_free_coherent` (`dma_free_attrs`). `bytes` and both addresses as they were allocated; NULL is ignored. */
export function dmaFreeCoherent(cpu: Cpu, dev: Device, bytes: number, addr: Addr, dma: DmaAddr, site: string): void {
  const { env } = dev
  // The CPU's view may have to be taken down, which cannot be done with interrupts off.
  if (cpu.irqsDisabled !== 0) env.trace.warn?.('dma_free_attrs', `${dev.name}: freed with interrupts off`)
  if (addr === NULL) return
  if (env.debug !== null && !debugDmaFreeCoherent(env.debug, dev, bytes, dma, addr >>> 0, site)) return
  dev.coherentBlocks--
  if (dev.domain === null) grant(dev, addr >>> 0, bytes, false)
  if (dmaReleaseFromDevCoherent(dev, bytes, addr)) return
  if (dev.dmaIommu) iommuDmaFree(cpu, dev, bytes, addr, dma)
  else if (dev.dmaOps === null) dmaDirectFree(cpu, dev, bytes, addr)
  else dev.dmaOps.free(cpu, dev, bytes, addr, dma, 0)
}

/**
 * Models `dma_direct_alloc` with `dma_direct_optimal_gfp_mask`: the zone comes from the coherent mask, and when the page
 * still lies too high, the next lower zone is tried.
 */
function dmaDirectAlloc(cpu: Cpu, dev: Device, bytes: number, handle: DmaHandle, gfp: Gfp): Addr {
  const { env } = dev
  const { mem, pageBytes } = env
  const masks = mem.gfp
  const order = orderOf(bytes, pageBytes)
  const limit = dev.coherentLimit
  let zone = limit <= env.zoneDmaLimit ? masks.DMA : limit <= env.zoneDma32Limit ? masks.DMA32 : 0
  for (;;) {
    const pfn = allocPages(mem, cpu, (gfp | zone) as Gfp, order, dev.node, 'dma_direct_alloc')
    if (pfn === NO_PFN) return NULL
    const phys = pfn * pageBytes
    if (phys + bytes - 1 <= limit) {
      mem.u8.fill(0, phys, phys + (pageBytes << order))
      handle.dma = phys as DmaAddr
      return phys as Addr
    }
    freePages(mem, cpu, pfn, order, 'dma_direct_alloc')
    if (zone === masks.DMA) return NULL
    zone = zone === masks.DMA32 ? masks.DMA : masks.DMA32
  }
}

function dmaDirectFree(cpu: Cpu, dev: Device, bytes: number, addr: Addr): void {
  const { mem, pageBytes, pageShift } = dev.env
  freePages(mem, cpu, (addr >>> pageShift) as Pfn, orderOf(bytes, pageBytes), 'dma_direct_free')
}

// Coherent memory is not a streaming mapping, so it does not count as one.
function grant(dev: Device, phys: number, bytes: number, on: boolean): void {
  if (on) grantPages(dev, phys, bytes, DMA_BIDIRECTIONAL)
  else revokePages(dev, phys, bytes, DMA_BIDIRECTIONAL)
  dev.mappings += on ? -1 : 1
}
