/**
 * The debug facility watches every call of the DMA API and says what a driver did wrong, which on most machines
 * would go unnoticed until the driver meets hardware that minds. It never changes what a call does, except that an
 * unmap of something never mapped, or mapped with another function, stops here instead of damaging the back end's books.
 */

import type { DmaDebugRef } from './debug-entries.js'
import { verifyContents } from './debug-owner.js'
import type { Device } from './device.js'
import { type DmaDebug, hex, ref } from './dma-debug.js'
import type { Scatterlist } from './sg.js'
import { DMA_BIDIRECTIONAL, DMA_MAPPING_ERROR, type DmaDirection, dmaDirName } from './types.js'

/** Models `debug_dma_map_single` (kernel/dma/debug.c): before the mapping, is this memory that may be mapped at all? */
export function debugDmaMapSingle(debug: DmaDebug, dev: Device, phys: number, bytes: number, site: string): void {
  if (phys !== 0 && phys + bytes <= debug.env.mem.bytes) return
  debug.report(
    'bad-area',
    dev,
    { dma: phys, bytes, site },
    null,
    `device driver maps memory from invalid area [addr=${hex(phys)}] [len=${bytes}]`,
  )
}

/** Models `debug_dma_map_phys` (`debug_dma_map_page` before 6.18). */
export function debugDmaMapPhys(
  debug: DmaDebug,
  dev: Device,
  phys: number,
  bytes: number,
  dir: DmaDirection,
  dma: number,
  attrs: number,
  site: string,
): void {
  if (dma === DMA_MAPPING_ERROR) return
  debug.add(dev, 'single', phys, dma, bytes, dir, attrs, 0, site)
}

/** Models `debug_dma_mapping_error`. */
export function debugDmaMappingError(debug: DmaDebug, dev: Device, dma: number): void {
  const entry = debug.entries.findUnchecked(dev, dma)
  if (entry !== null) entry.mapErrChecked = true
}

/** Models `debug_dma_unmap_phys` (`debug_dma_unmap_page`). @returns false when nothing is mapped there: then nothing may be unmapped. */
export function debugDmaUnmapPhys(
  debug: DmaDebug,
  dev: Device,
  dma: number,
  bytes: number,
  dir: DmaDirection,
  site: string,
): boolean {
  return checkUnmap(debug, ref(dev, 'single', dma, bytes, dir), -1, site)
}

/** Models `debug_dma_map_sg`: one entry per piece. */
export function debugDmaMapSg(
  debug: DmaDebug,
  dev: Device,
  sgl: readonly Scatterlist[],
  dir: DmaDirection,
  attrs: number,
  site: string,
): void {
  for (const sg of sgl) {
    const phys = sg.pfn * debug.env.pageBytes + sg.offset
    debug.add(dev, 'scather-gather', phys, sg.dmaAddress, sg.dmaBytes, dir, attrs, sgl.length, site)
  }
}

/** Models `debug_dma_unmap_sg`. @returns false when a piece is not mapped. */
export function debugDmaUnmapSg(
  debug: DmaDebug,
  dev: Device,
  sgl: readonly Scatterlist[],
  dir: DmaDirection,
  site: string,
): boolean {
  let known = true
  for (const sg of sgl)
    known =
      checkUnmap(debug, ref(dev, 'scather-gather', sg.dmaAddress, sg.dmaBytes, dir, sgl.length), -1, site) && known
  return known
}

/** Models `debug_dma_alloc_coherent`. */
export function debugDmaAllocCoherent(
  debug: DmaDebug,
  dev: Device,
  bytes: number,
  dma: number,
  phys: number,
  site: string,
): void {
  debug.add(dev, 'coherent', phys, dma, bytes, DMA_BIDIRECTIONAL, 0, 0, site)
}

/** Models `debug_dma_free_coherent`. @returns false when there is no such block. */
export function debugDmaFreeCoherent(
  debug: DmaDebug,
  dev: Device,
  bytes: number,
  dma: number,
  phys: number,
  site: string,
): boolean {
  return checkUnmap(debug, ref(dev, 'coherent', dma, bytes, DMA_BIDIRECTIONAL), phys, site)
}

/** Models `check_unmap`: everything about the unmap must be as it was at the map. */
function checkUnmap(debug: DmaDebug, r: DmaDebugRef, phys: number, site: string): boolean {
  const { dev } = r
  const entry = debug.entries.findExact(r)
  const at = { dma: r.dma, bytes: r.bytes, site }
  if (entry === null) {
    const words =
      r.dma === DMA_MAPPING_ERROR
        ? 'device driver tries to free an invalid DMA memory address'
        : `device driver tries to free DMA memory it has not allocated [device address=${hex(r.dma)}] [size=${r.bytes} bytes]`
    debug.report('unmap-unknown', dev, at, null, words)
    return false
  }
  const here = `[device address=${hex(r.dma)}]`
  if (r.bytes !== entry.bytes)
    debug.report(
      'unmap-size',
      dev,
      at,
      entry,
      `device driver frees DMA memory with different size ${here} [map size=${entry.bytes} bytes] [unmap size=${r.bytes} bytes]`,
    )
  if (r.type !== entry.type) {
    debug.report(
      'unmap-kind',
      dev,
      at,
      entry,
      `device driver frees DMA memory with wrong function ${here} [size=${r.bytes} bytes] [mapped as ${entry.type}] [unmapped as ${r.type}]`,
    )
    // What was taken with one function cannot be given back with another: it stays, and will show up as a leak.
    return false
  }
  if (entry.type === 'coherent' && phys !== entry.phys)
    debug.report(
      'unmap-address',
      dev,
      at,
      entry,
      `device driver frees DMA memory with different CPU address ${here} [size=${r.bytes} bytes] [cpu alloc address=${hex(entry.phys)}] [cpu free address=${hex(phys)}]`,
    )
  if (r.type === 'scather-gather' && r.sgCallEnts !== entry.sgCallEnts)
    debug.report(
      'unmap-entries',
      dev,
      at,
      entry,
      `device driver frees DMA sg list with different entry count [map count=${entry.sgCallEnts}] [unmap count=${r.sgCallEnts}]`,
    )
  if (r.dir !== entry.dir)
    debug.report(
      'unmap-direction',
      dev,
      at,
      entry,
      `device driver frees DMA memory with different direction ${here} [size=${r.bytes} bytes] [mapped with ${dmaDirName(entry.dir)}] [unmapped with ${dmaDirName(r.dir)}]`,
    )
  if (!entry.mapErrChecked)
    debug.report(
      'error-unchecked',
      dev,
      at,
      entry,
      `device driver failed to check map error${here} [size=${r.bytes} bytes] [mapped as ${entry.type}]`,
    )
  verifyContents(debug, entry, 0, entry.bytes, site)
  debug.remove(entry)
  return true
}

/** Models `dma_debug_device_change` at the unbinding of a driver. @returns entries still there. */
export function debugDmaDeviceRemoved(debug: DmaDebug, dev: Device, site: string): number {
  const left = debug.entries.ofDevice(dev)
  const last = left.at(-1)
  if (last === undefined) return 0
  debug.report(
    'leak',
    dev,
    { dma: last.dma, bytes: last.bytes, site },
    last,
    `device driver has pending DMA allocations while released from device [count=${left.length}] ` +
      `One of leaked entries details: [device address=${hex(last.dma)}] [size=${last.bytes} bytes] ` +
      `[mapped with ${dmaDirName(last.dir)}] [mapped as ${last.type}]`,
  )
  return left.length
}
