/**
 * The words of the DMA API: directions, attributes, masks, and what a failed mapping looks like. An address
 * is seen from two sides, and they never mix: `Addr` is what the CPU uses, `DmaAddr` what the device uses.
 */
import { bug, type DmaAddr } from '@netmem/base'

/** Models `enum dma_data_direction` (include/linux/dma-direction.h): who may write, seen from memory. */
export type DmaDirection = 0 | 1 | 2 | 3

export const DMA_BIDIRECTIONAL = 0
export const DMA_TO_DEVICE = 1
export const DMA_FROM_DEVICE = 2
export const DMA_NONE = 3

const dirNames = ['DMA_BIDIRECTIONAL', 'DMA_TO_DEVICE', 'DMA_FROM_DEVICE', 'DMA_NONE'] as const

/** @returns the direction's name in the kernel's own spelling. */
export const dmaDirName = (dir: DmaDirection): string => dirNames[dir]

/** Models `valid_dma_direction`: `DMA_NONE` is for debugging and never maps anything. */
export const validDmaDirection = (dir: number): boolean => dir >= 0 && dir < DMA_NONE

/** Models the `DMA_ATTR_` bits that exist in both kernels (include/linux/dma-mapping.h). */
export const DMA_ATTR_WEAK_ORDERING = 1 << 1
export const DMA_ATTR_WRITE_COMBINE = 1 << 2
export const DMA_ATTR_NO_KERNEL_MAPPING = 1 << 4
export const DMA_ATTR_SKIP_CPU_SYNC = 1 << 5
export const DMA_ATTR_FORCE_CONTIGUOUS = 1 << 6
export const DMA_ATTR_ALLOC_SINGLE_PAGES = 1 << 7
export const DMA_ATTR_NO_WARN = 1 << 8
export const DMA_ATTR_PRIVILEGED = 1 << 9

const KNOWN_ATTRS =
  DMA_ATTR_WEAK_ORDERING |
  DMA_ATTR_WRITE_COMBINE |
  DMA_ATTR_NO_KERNEL_MAPPING |
  DMA_ATTR_SKIP_CPU_SYNC |
  DMA_ATTR_FORCE_CONTIGUOUS |
  DMA_ATTR_ALLOC_SINGLE_PAGES |
  DMA_ATTR_NO_WARN |
  DMA_ATTR_PRIVILEGED

/** Models `DMA_MAPPING_ERROR`: all ones, written here as the signed value, which no device address can be. */
export const DMA_MAPPING_ERROR = -1 as DmaAddr

/** Models `DMA_BIT_MASK`. Doubles hold 2^n - 1 exactly up to n = 53; wider masks reach further than any memory. */
export const DMA_BIT_MASK = (bits: number): number => 2 ** bits - 1

/** Where a call that returns a CPU address leaves the device's address of the same bytes (`dma_addr_t *`). */
export interface DmaHandle {
  dma: DmaAddr
}

/** @throws KernelBug when the attributes hold a bit that no kernel has, or that 5.10 took away. */
export function checkDmaAttrs(attrs: number): void {
  if ((attrs & ~KNOWN_ATTRS) === 0) return
  if ((attrs & (1 << 3)) !== 0) dmaAttrNonConsistent()
  bug(`dma attributes 0x${(attrs >>> 0).toString(16)} hold bits that do not exist`)
}

/**
 * Absent: `DMA_ATTR_NON_CONSISTENT`, removed in 5.10 together with `dma_cache_sync`.
 *
 * @throws KernelBug naming the replacement: `dma_alloc_noncoherent`, or streaming mappings with syncs.
 */
export function dmaAttrNonConsistent(): never {
  bug(
    'DMA_ATTR_NON_CONSISTENT was removed in 5.10: use streaming mappings (dmaMapSingle) with dmaSyncSingleForCpu/Device',
  )
}
