/**
 * The debug facility: it watches every call of the DMA API and says what a driver did wrong, which on most machines
 * would go unnoticed until the driver meets hardware that minds. It never changes what a call does, except that an
 * unmap of something never mapped, or mapped with another function, stops here instead of damaging the back end's books.
 */

import { DmaDebugEntries, type DmaDebugEntry, type DmaDebugRef, type DmaDebugType } from './debug-entries.js'
import type { Device } from './device.js'
import type { Dma } from './dma.js'
import type { Scatterlist } from './sg.js'
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_MAPPING_ERROR,
  DMA_TO_DEVICE,
  type DmaDirection,
  dmaDirName,
} from './types.js'

/** How the facility is switched. */
export interface DmaDebugParams {
  /** Models `dma-api/all_errors`: log every finding, not only the first `numErrors`. Findings are always kept. */
  readonly allErrors?: boolean
  /** Models `dma-api/num_errors`. */
  readonly numErrors?: number
  /** Ours: keep a copy of what the device owns, to find CPU writes in it at the next sync or unmap. Dear. */
  readonly verifyContents?: boolean
}

/** What kind of misuse. */
export type DmaMisuse =
  | 'leak'
  | 'unmap-unknown'
  | 'unmap-size'
  | 'unmap-kind'
  | 'unmap-address'
  | 'unmap-entries'
  | 'unmap-direction'
  | 'error-unchecked'
  | 'sync-unknown'
  | 'sync-size'
  | 'sync-direction'
  | 'overlap'
  | 'cpu-access'
  | 'bad-area'

/** One finding: which device, which address, where the mapping was made, and the kernel's sentence. */
export interface DmaDebugError {
  readonly misuse: DmaMisuse
  readonly device: string
  readonly dma: number
  readonly bytes: number
  /** The kernel function that misused, and the step of the scenario. */
  readonly site: string
  readonly step: string
  /** Who made the mapping, and in which step; null when there is none. */
  readonly mappedAt: { readonly site: string; readonly step: string } | null
  readonly text: string
}

/** The facility of one machine: `env.debug`. Entries = live mappings + live coherent blocks. */
export class DmaDebug {
  readonly entries = new DmaDebugEntries()
  readonly errors: DmaDebugError[] = []
  /** Cache line number -> live mappings through which a device may write it. */
  readonly activeLines = new Map<number, number>()
  private logged = 0

  constructor(
    readonly env: Dma,
    readonly params: DmaDebugParams,
  ) {}

  /** Models `err_printk`: counts and keeps every finding; logs the first, or all. */
  report(
    misuse: DmaMisuse,
    dev: Device,
    ref: { dma: number; bytes: number; site: string },
    entry: DmaDebugEntry | null,
    words: string,
  ): void {
    const { trace, step } = this.env
    const mappedAt = entry === null ? null : { site: entry.site, step: entry.step }
    const text = `DMA-API: ${dev.driver} ${dev.name}: ${words}`
    this.errors.push({ misuse, device: dev.name, dma: ref.dma, bytes: ref.bytes, site: ref.site, step, mappedAt, text })
    if (trace.warn === null) return
    if (!this.params.allErrors && this.logged >= (this.params.numErrors ?? 1)) return
    this.logged++
    const where =
      mappedAt === null ? '' : ` Mapped at: ${mappedAt.site}${mappedAt.step === '' ? '' : ` (${mappedAt.step})`}`
    trace.warn('check', text + where)
  }

  add(
    dev: Device,
    type: DmaDebugType,
    phys: number,
    dma: number,
    bytes: number,
    dir: DmaDirection,
    attrs: number,
    sgCallEnts: number,
    site: string,
  ): void {
    const entry: DmaDebugEntry = {
      dev,
      type,
      dma,
      bytes,
      dir,
      phys,
      sgCallEnts,
      mapErrChecked: type !== 'single',
      site,
      step: this.env.step,
      cpuOwned: [],
      shadow: null,
    }
    this.addLines(entry, attrs)
    this.entries.add(entry)
    if (this.params.verifyContents && type !== 'coherent') snapshot(this, entry)
  }

  remove(entry: DmaDebugEntry): void {
    this.entries.remove(entry)
    eachLine(this.env, entry, (line) => {
      const count = this.activeLines.get(line)! - 1
      if (count === 0) this.activeLines.delete(line)
      else this.activeLines.set(line, count)
    })
  }

  /**
   * Models `active_cacheline_insert`: two mappings through which devices write must not share a cache line.
   *
   * Differs: the kernel compares only the first line of each mapping, we compare all.
   */
  private addLines(entry: DmaDebugEntry, attrs: number): void {
    let overlap = false
    eachLine(this.env, entry, (line) => {
      const count = this.activeLines.get(line) ?? 0
      if (count > 0) overlap = true
      this.activeLines.set(line, count + 1)
    })
    if (overlap && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0)
      this.report(
        'overlap',
        entry.dev,
        entry,
        entry,
        "cacheline tracking EEXIST, overlapping mappings aren't supported",
      )
  }

  syncSg(dev: Device, sgl: readonly Scatterlist[], dir: DmaDirection, toCpu: boolean): void {
    for (const sg of sgl)
      checkSync(this, ref(dev, 'scather-gather', sg.dmaAddress, sg.dmaBytes, dir, sgl.length), toCpu, 'dma_sync_sg')
  }
}

const hex = (n: number): string => `0x${n.toString(16).padStart(16, '0')}`

const ref = (
  dev: Device,
  type: DmaDebugType,
  dma: number,
  bytes: number,
  dir: DmaDirection,
  sgCallEnts = 0,
): DmaDebugRef => ({ dev, type, dma, bytes, dir, sgCallEnts })

// A device that only reads leaves no stale lines behind, so its mappings may overlap.
function eachLine(env: Dma, entry: DmaDebugEntry, visit: (line: number) => void): void {
  if (entry.dir === DMA_TO_DEVICE) return
  const line = env.profile.SMP_CACHE_BYTES
  const last = Math.floor((entry.phys + entry.bytes - 1) / line)
  for (let l = Math.floor(entry.phys / line); l <= last; l++) visit(l)
}

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
  verify(debug, entry, 0, entry.bytes, site)
  debug.remove(entry)
  return true
}

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
  if (toCpu) entry.cpuOwned.push([from, from + r.bytes])
  else {
    entry.cpuOwned = without(entry.cpuOwned, from, from + r.bytes)
    if (entry.shadow !== null) snapshot(debug, entry)
  }
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
  if (entry !== null) verify(debug, entry, dma - entry.dma, dma - entry.dma + bytes, site)
}

function verify(debug: DmaDebug, entry: DmaDebugEntry, from: number, to: number, site: string): void {
  if (entry.shadow === null || entry.dir === DMA_TO_DEVICE) return
  const { u8 } = debug.env.mem
  for (let i = from; i < to; i++) {
    if (u8[entry.phys + i] === entry.shadow[i] || ownedByCpu(entry, i, i + 1)) continue
    const words = `cpu wrote device-owned memory [device address=${hex(entry.dma + i)}] [mapped with ${dmaDirName(entry.dir)}]`
    debug.report('cpu-access', entry.dev, { dma: entry.dma + i, bytes: 1, site }, entry, words)
    return
  }
}

function snapshot(debug: DmaDebug, entry: DmaDebugEntry): void {
  entry.shadow = debug.env.mem.u8.slice(entry.phys, entry.phys + entry.bytes)
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
