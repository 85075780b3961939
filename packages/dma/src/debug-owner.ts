/** Whose bytes are they? The device's from the map on, the CPU's between its syncs: touching the other's is a finding. */

import type { DmaDebugEntry } from './debug-entries.js'
import type { Device } from './device.js'
import { type DmaDebug, hex, ref } from './dma-debug.js'
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE, dmaDirName } from './types.js'

/** A sync hands bytes `[from, to)` of a mapping over. */
export function takeOwnership(debug: DmaDebug, entry: DmaDebugEntry, from: number, to: number, toCpu: boolean): void {
  if (toCpu) {
    entry.cpuOwned.push([from, to])
    return
  }
  entry.cpuOwned = without(entry.cpuOwned, from, to)
  if (entry.shadow !== null) entry.shadow = debug.env.mem.u8.slice(entry.phys, entry.phys + entry.bytes)
}

/**
 * Models `debug_dma_assert_idle` (until 5.8), for reads too: the CPU touches `[phys, phys + bytes)`; does a device own
 * any of it? Reading what a device only reads is fine.
 *
 * @returns false, with a finding, when it must not.
 */
export function debugDmaAssertIdle(
  debug: DmaDebug,
  phys: number,
  bytes: number,
  write: boolean,
  site: string,
): boolean {
  for (const entry of debug.entries.all()) {
    if (entry.type === 'coherent' || (!write && entry.dir === DMA_TO_DEVICE)) continue
    const from = Math.max(phys, entry.phys) - entry.phys
    const to = Math.min(phys + bytes, entry.phys + entry.bytes) - entry.phys
    if (from >= to || ownedByCpu(entry, from, to)) continue
    const line = Math.floor((entry.phys + from) / debug.env.profile.SMP_CACHE_BYTES)
    debug.report(
      'cpu-access',
      entry.dev,
      { dma: entry.dma + from, bytes: to - from, site },
      entry,
      `cpu ${write ? 'writes' : 'reads'} an active dma mapped cacheline [cln=${hex(line)}] [device address=${hex(entry.dma)}] [mapped with ${dmaDirName(entry.dir)}]`,
    )
    return false
  }
  return true
}

/** The engine wrote memory itself: what it left there is no CPU write. */
export function debugDmaDeviceWrote(debug: DmaDebug, dev: Device, phys: number, bytes: number): void {
  if (!debug.params.verifyContents) return
  for (const entry of debug.entries.all()) {
    const from = Math.max(phys, entry.phys)
    const to = Math.min(phys + bytes, entry.phys + entry.bytes)
    if (entry.dev !== dev || entry.shadow === null || from >= to) continue
    entry.shadow.set(debug.env.mem.u8.subarray(from, to), from - entry.phys)
  }
}

/** Before a sync for the CPU brings the device's bytes: did the CPU write while it did not own them? */
export function debugDmaVerify(debug: DmaDebug, dev: Device, dma: number, bytes: number, site: string): void {
  if (!debug.params.verifyContents) return
  const entry = debug.entries.findContaining(ref(dev, 'single', dma, bytes, DMA_BIDIRECTIONAL))
  if (entry !== null) verifyContents(debug, entry, dma - entry.dma, dma - entry.dma + bytes, site)
}

/** Compares with what the device left there. */
export function verifyContents(debug: DmaDebug, entry: DmaDebugEntry, from: number, to: number, site: string): void {
  if (entry.shadow === null || entry.dir === DMA_TO_DEVICE) return
  const { u8 } = debug.env.mem
  for (let i = from; i < to; i++) {
    if (u8[entry.phys + i] === entry.shadow[i] || ownedByCpu(entry, i, i + 1)) continue
    const words = `cpu wrote device-owned memory [device address=${hex(entry.dma + i)}] [mapped with ${dmaDirName(entry.dir)}]`
    debug.report('cpu-access', entry.dev, { dma: entry.dma + i, bytes: 1, site }, entry, words)
    return
  }
}

function ownedByCpu(entry: DmaDebugEntry, from: number, to: number): boolean {
  let at = from
  for (let grew = true; grew && at < to; ) {
    grew = false
    for (const [a, b] of entry.cpuOwned) {
      if (a > at || b <= at) continue
      at = b
      grew = true
    }
  }
  return at >= to
}

function without(ranges: readonly [number, number][], from: number, to: number): [number, number][] {
  return ranges.flatMap(([a, b]): [number, number][] => {
    const left: [number, number][] = a < from ? [[a, Math.min(b, from)]] : []
    return b > to ? [...left, [Math.max(a, to), b]] : left
  })
}
