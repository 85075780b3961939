/** Syncs as the debug facility sees them: of a live mapping, inside it, and in a direction that moves something. */

import type { DmaDebugEntry, DmaDebugRef } from './debug-entries.js'
import { takeOwnership } from './debug-owner.js'
import type { Device } from './device.js'
import { type DmaDebug, hex, ref } from './dma-debug.js'
import type { Scatterlist } from './sg.js'
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDirection, dmaDirName } from './types.js'

/** Models `debug_dma_sync_single_for_cpu`. */
export function debugDmaSyncSingleForCpu(
  debug: DmaDebug,
  dev: Device,
  dma: number,
  bytes: number,
  dir: DmaDirection,
  site: string,
): void {
  checkSync(debug, ref(dev, 'single', dma, bytes, dir), true, site)
}

/** Models `debug_dma_sync_single_for_device`. */
export function debugDmaSyncSingleForDevice(
  debug: DmaDebug,
  dev: Device,
  dma: number,
  bytes: number,
  dir: DmaDirection,
  site: string,
): void {
  checkSync(debug, ref(dev, 'single', dma, bytes, dir), false, site)
}

/** Models `check_sync`; then the bytes have a new owner. */
function checkSync(debug: DmaDebug, r: DmaDebugRef, toCpu: boolean, site: string): void {
  const { dev } = r
  const at = { dma: r.dma, bytes: r.bytes, site }
  const entry = debug.entries.findContaining(r)
  if (entry === null) {
    // A range that starts inside a mapping and leaves it gets the more helpful sentence.
    const start = debug.entries.findContaining({ ...r, bytes: 1 })
    if (start === null)
      debug.report(
        'sync-unknown',
        dev,
        at,
        null,
        `device driver tries to sync DMA memory it has not allocated [device address=${hex(r.dma)}] [size=${r.bytes} bytes]`,
      )
    else
      debug.report(
        'sync-size',
        dev,
        at,
        start,
        `device driver syncs DMA memory outside allocated range [device address=${hex(start.dma)}] [allocation size=${start.bytes} bytes] [sync offset+size=${r.dma - start.dma + r.bytes}]`,
      )
    return
  }
  checkSyncDirection(debug, r, entry, toCpu, site)
  const from = r.dma - entry.dma
  takeOwnership(debug, entry, from, from + r.bytes, toCpu)
}

function checkSyncDirection(debug: DmaDebug, r: DmaDebugRef, entry: DmaDebugEntry, toCpu: boolean, site: string): void {
  if (entry.dir === DMA_BIDIRECTIONAL) return
  const at = { dma: r.dma, bytes: r.bytes, site }
  const tail = `[device address=${hex(r.dma)}] [size=${entry.bytes} bytes] [mapped with ${dmaDirName(entry.dir)}] [synced with ${dmaDirName(r.dir)}]`
  const say = (words: string): void =>
    debug.report('sync-direction', r.dev, at, entry, `device driver syncs ${words} ${tail}`)
  if (r.dir !== entry.dir) say('DMA memory with different direction')
  if (toCpu && entry.dir !== DMA_FROM_DEVICE && r.dir !== DMA_TO_DEVICE) say('device read-only DMA memory for cpu')
  if (!toCpu && entry.dir !== DMA_TO_DEVICE && r.dir !== DMA_FROM_DEVICE) say('device write-only DMA memory to device')
}

/** Models `debug_dma_sync_sg_for_cpu` and `debug_dma_sync_sg_for_device`. */
export function debugDmaSyncSg(
  debug: DmaDebug,
  dev: Device,
  sgl: readonly Scatterlist[],
  dir: DmaDirection,
  toCpu: boolean,
): void {
  for (const sg of sgl)
    checkSync(debug, ref(dev, 'scather-gather', sg.dmaAddress, sg.dmaBytes, dir, sgl.length), toCpu, 'dma_sync_sg')
}
