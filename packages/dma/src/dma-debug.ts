/**
 * The debug facility itself: what it knows, and what it found. The calls that feed it are in `debug.ts` (map and
 * unmap), `debug-sync.ts` and `debug-owner.ts`.
 */
import { DmaDebugEntries, type DmaDebugEntry, type DmaDebugRef, type DmaDebugType } from './debug-entries.js'
import type { Device } from './device.js'
import type { Dma } from './dma.js'
import { DMA_ATTR_SKIP_CPU_SYNC, DMA_TO_DEVICE, type DmaDirection } from './types.js'

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
    if (this.params.verifyContents && type !== 'coherent') entry.shadow = this.env.mem.u8.slice(phys, phys + bytes)
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
}

/** An address as the kernel prints it. */
export const hex = (n: number): string => `0x${n.toString(16).padStart(16, '0')}`

/** What a caller says about a mapping. */
export const ref = (
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
