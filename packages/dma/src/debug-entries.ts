/** What the debug facility remembers: one entry per live mapping, found by device address. */
import type { Device } from './device.js'
import type { DmaDirection } from './types.js'

/** Models the `dma_debug_` kinds: with which function it was mapped, and so must be unmapped. */
export type DmaDebugType = 'single' | 'scather-gather' | 'coherent'

/** Models `struct dma_debug_entry` (kernel/dma/debug.c). Addresses and sizes in bytes. */
export interface DmaDebugEntry {
  readonly dev: Device
  readonly type: DmaDebugType
  readonly dma: number
  readonly bytes: number
  readonly dir: DmaDirection
  readonly phys: number
  readonly sgCallEnts: number
  mapErrChecked: boolean
  readonly site: string
  readonly step: string
  /** Byte ranges `[from, to)` of the mapping that the CPU owns just now, by its syncs. */
  cpuOwned: [number, number][]
  /** The bytes as the device left them; null unless contents are verified. */
  shadow: Uint8Array | null
}

/** What a caller claims about a mapping; the closest entry is looked for. */
export type DmaDebugRef = Pick<DmaDebugEntry, 'dev' | 'type' | 'dma' | 'bytes' | 'dir' | 'sgCallEnts'>

// Models `HASH_FN_SHIFT`: one bucket per 8 KiB of device addresses.
const BUCKET_BYTES = 8192

/** All entries. Each is in the bucket of its first byte. */
export class DmaDebugEntries {
  private readonly buckets = new Map<number, DmaDebugEntry[]>()
  count = 0
  private longest = 0

  add(entry: DmaDebugEntry): void {
    const key = Math.floor(entry.dma / BUCKET_BYTES)
    const bucket = this.buckets.get(key)
    if (bucket === undefined) this.buckets.set(key, [entry])
    else bucket.push(entry)
    this.count++
    if (entry.bytes > this.longest) this.longest = entry.bytes
  }

  remove(entry: DmaDebugEntry): void {
    const key = Math.floor(entry.dma / BUCKET_BYTES)
    const bucket = this.buckets.get(key)!
    bucket.splice(bucket.indexOf(entry), 1)
    if (bucket.length === 0) this.buckets.delete(key)
    this.count--
  }

  /** Models `bucket_find_exact`: same device, same first byte. */
  findExact(ref: DmaDebugRef): DmaDebugEntry | null {
    const bucket = this.buckets.get(Math.floor(ref.dma / BUCKET_BYTES)) ?? []
    return bestFit(
      bucket.filter((entry) => entry.dev === ref.dev && entry.dma === ref.dma),
      ref,
    )
  }

  /** Models `bucket_find_contain`: an entry that holds the whole range, in this bucket or one before. */
  findContaining(ref: DmaDebugRef): DmaDebugEntry | null {
    const back = Math.ceil(this.longest / BUCKET_BYTES)
    const key = Math.floor(ref.dma / BUCKET_BYTES)
    for (let k = key; k >= Math.max(0, key - back); k--) {
      const found = bestFit(
        (this.buckets.get(k) ?? []).filter(
          (e) => e.dev === ref.dev && e.dma <= ref.dma && e.dma + e.bytes >= ref.dma + ref.bytes,
        ),
        ref,
      )
      if (found !== null) return found
    }
    return null
  }

  /** Models `debug_dma_mapping_error`'s search: the first entry there that was not checked yet. */
  findUnchecked(dev: Device, dma: number): DmaDebugEntry | null {
    const bucket = this.buckets.get(Math.floor(dma / BUCKET_BYTES)) ?? []
    return bucket.find((entry) => entry.dev === dev && entry.dma === dma && !entry.mapErrChecked) ?? null
  }

  /** Models `device_dma_allocations`. */
  ofDevice(dev: Device): DmaDebugEntry[] {
    return [...this.all()].filter((entry) => entry.dev === dev)
  }

  *all(): Generator<DmaDebugEntry> {
    for (const bucket of this.buckets.values()) yield* bucket
  }
}

// Without an IOMMU the same address may be mapped several times: the entry that fits best counts, if one fits better
// than all others or is the only one.
function bestFit(candidates: readonly DmaDebugEntry[], ref: DmaDebugRef): DmaDebugEntry | null {
  const score = (e: DmaDebugEntry): number =>
    Number(e.bytes === ref.bytes) +
    Number(e.type === ref.type) +
    Number(e.dir === ref.dir) +
    Number(e.sgCallEnts === ref.sgCallEnts)
  const perfect = candidates.find((entry) => score(entry) === 4)
  if (perfect !== undefined) return perfect
  return candidates.length === 1 ? candidates[0]! : null
}
