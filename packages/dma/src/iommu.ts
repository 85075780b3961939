/**
 * An IOMMU domain: what a device's addresses mean. A page table from IOVA frames to memory frames, and a memory of what
 * the IOTLB may still hold: translations that were taken out of the table but not yet flushed keep working.
 */
import { assert, type Cpu, ERRNO, type Gfp, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, freePages } from '@netmem/memory'
import type { Device } from './device.js'
import type { Dma } from './dma.js'

/** Models `IOMMU_READ` and `IOMMU_WRITE`: what the device may do, plus ours: taken out, not yet flushed. */
export const IOMMU_READ = 1
export const IOMMU_WRITE = 2
const STALE = 4
const PTE_SHIFT = 3

/** Entries of a table page, and how many bits of the frame number each level takes. */
const TABLE_ENTRIES = 512
const LEVEL_BITS = 9

/**
 * Models `struct iommu_domain` of one device group. A table page is taken from memory when its first entry is written
 * and stays until the domain ends, as with a hardware walker that may have it cached.
 *
 * Differs: entries are kept beside the modelled memory, not in it; only the pages that hold them are real.
 */
export class IommuDomain {
  /** Leaf tables by the upper bits of the IOVA frame. */
  readonly tables = new Map<number, Int32Array>()
  readonly tablePages: Pfn[] = []
  private readonly upper = new Set<number>()
  readonly stale: number[] = []
  mappedPages = 0
  /** Invalidations sent to the hardware, of a range (strict) or of the whole domain (lazy). */
  iotlbInvalidations = 0
  maps = 0
  unmaps = 0

  constructor(
    readonly env: Dma,
    readonly dev: Device,
  ) {}

  /** Models `iommu_map` (drivers/iommu/iommu.c). @returns 0, or -ENOMEM when no table page is to be had: then nothing is mapped. */
  map(cpu: Cpu, iovaPfn: number, pfn: number, pages: number, prot: number): number {
    for (let i = 0; i < pages; i++) {
      const table = this.table(cpu, iovaPfn + i)
      if (table === null) {
        this.clear(iovaPfn, i, false)
        return -ERRNO.ENOMEM
      }
      const at = (iovaPfn + i) % TABLE_ENTRIES
      assert(table[at] === 0, `iommu: PTE for iova 0x${(iovaPfn + i).toString(16)} is set already`)
      table[at] = ((pfn + i) << PTE_SHIFT) | prot
    }
    this.mappedPages += pages
    this.maps++
    const { trace, pageBytes } = this.env
    if (trace.iommuMap !== null) trace.iommuMap(this.dev.name, iovaPfn * pageBytes, pfn * pageBytes, pages * pageBytes)
    return 0
  }

  /**
   * Models `iommu_unmap`. @param queued lazy: the IOTLB keeps the translations until `flushIotlbAll`.
   * @returns pages unmapped; fewer than asked means that something else was mapped there.
   */
  unmap(iovaPfn: number, pages: number, queued: boolean): number {
    const cleared = this.clear(iovaPfn, pages, queued)
    this.mappedPages -= cleared
    this.unmaps++
    if (!queued) this.iotlbInvalidations++
    const { trace, pageBytes } = this.env
    if (trace.iommuUnmap !== null) trace.iommuUnmap(this.dev.name, iovaPfn * pageBytes, pages * pageBytes)
    return cleared
  }

  private clear(iovaPfn: number, pages: number, queued: boolean): number {
    let cleared = 0
    for (let i = 0; i < pages; i++) {
      const table = this.tables.get(Math.floor((iovaPfn + i) / TABLE_ENTRIES))
      const at = (iovaPfn + i) % TABLE_ENTRIES
      const pte = table === undefined ? 0 : table[at]!
      if (pte === 0 || (pte & STALE) !== 0) continue
      table![at] = queued ? pte | STALE : 0
      if (queued) this.stale.push(iovaPfn + i)
      cleared++
    }
    return cleared
  }

  /** Models `iommu_flush_iotlb_all`: nothing that was unmapped works any more. */
  flushIotlbAll(): void {
    this.iotlbInvalidations++
    for (const iovaPfn of this.stale) {
      const table = this.tables.get(Math.floor(iovaPfn / TABLE_ENTRIES))!
      if ((table[iovaPfn % TABLE_ENTRIES]! & STALE) !== 0) table[iovaPfn % TABLE_ENTRIES] = 0
    }
    this.stale.length = 0
  }

  /** Models `iommu_iova_to_phys`: of live mappings only. @returns the memory frame, 0 for none. */
  iovaToPfn(iovaPfn: number): Pfn {
    const pte = this.pte(iovaPfn)
    return ((pte & STALE) !== 0 ? 0 : pte >>> PTE_SHIFT) as Pfn
  }

  /** What the hardware finds for a device access: memory frame and permissions, stale entries included; 0 for none. */
  pte(iovaPfn: number): number {
    return this.tables.get(Math.floor(iovaPfn / TABLE_ENTRIES))?.[iovaPfn % TABLE_ENTRIES] ?? 0
  }

  // Models `pfn_to_dma_pte`: makes the missing levels on the way down, one page each.
  private table(cpu: Cpu, iovaPfn: number): Int32Array | null {
    const key = Math.floor(iovaPfn / TABLE_ENTRIES)
    const table = this.tables.get(key)
    if (table !== undefined) return table
    for (let level = 4; level >= 1; level--) {
      const id = Math.floor(iovaPfn / 2 ** (LEVEL_BITS * level)) * 8 + level
      if (this.upper.has(id)) continue
      if (!this.takeTablePage(cpu)) return null
      this.upper.add(id)
    }
    const made = new Int32Array(TABLE_ENTRIES)
    this.tables.set(key, made)
    return made
  }

  private takeTablePage(cpu: Cpu): boolean {
    const { mem } = this.env
    const pfn = allocPages(
      mem,
      cpu,
      (mem.gfp.GFP_ATOMIC | mem.gfp.ZERO) as Gfp,
      0,
      this.dev.node,
      'iommu_alloc_pages_node',
    )
    if (pfn === NO_PFN) return false
    this.tablePages.push(pfn)
    return true
  }

  /** Gives the table pages back; the domain is empty then. */
  free(cpu: Cpu): void {
    for (const pfn of this.tablePages.splice(0)) freePages(this.env.mem, cpu, pfn, 0, 'iommu_free_pages')
    this.tables.clear()
    this.upper.clear()
    this.stale.length = 0
  }
}

/** @returns the memory frame of a page-table entry. */
export const pteToPfn = (pte: number): Pfn => (pte >>> PTE_SHIFT) as Pfn

/** @returns whether the entry works only because the IOTLB has not been flushed since its unmap. */
export const pteIsStale = (pte: number): boolean => (pte & STALE) !== 0
