/**
 * The pages of one file that are in memory. The cache owns one reference on each; whoever splices a page out
 * takes another, so that a page lives on in a pipe or a packet when the file is gone.
 *
 * Pages are found by index through chunks, as the kernel's xarray does by nodes: a sparse file costs what it holds.
 */
import { assert, type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, type Memory, PG_LRU, putPage } from '@netmem/memory'

const CHUNK_SHIFT = 9
const CHUNK_PAGES = 1 << CHUNK_SHIFT
const MAX_INT = 0x7fffffff

/** Models `struct address_space`. Invariant: every page in it is held by one reference of the cache. */
export class AddressSpace {
  /** Models `nrpages`. */
  nrPages = 0
  private readonly chunks = new Map<number, Int32Array>()
  // The chunk used last: files are read in order.
  private lastChunk = -1
  private last: Int32Array | null = null

  /** @param index page number; beyond 2^31 for sparse files. @returns the frame, or NO_PFN. */
  load(index: number): Pfn {
    // Shifts are for numbers of 31 bits; a remainder of doubles would cost more than all the rest.
    const number = index <= MAX_INT ? index >>> CHUNK_SHIFT : Math.floor(index / CHUNK_PAGES)
    const chunk = number === this.lastChunk ? this.last : this.chunk(number)
    return chunk === null ? NO_PFN : (chunk[index - number * CHUNK_PAGES]! as Pfn)
  }

  private chunk(number: number): Int32Array | null {
    if (number === this.lastChunk) return this.last
    this.lastChunk = number
    this.last = this.chunks.get(number) ?? null
    return this.last
  }

  /** Puts a page in an empty place, or NO_PFN over a page. References are the caller's business. */
  store(index: number, pfn: Pfn): void {
    const number = Math.floor(index / CHUNK_PAGES)
    let chunk = this.chunk(number)
    if (chunk === null) {
      chunk = new Int32Array(CHUNK_PAGES)
      this.chunks.set(number, chunk)
      this.last = chunk
    }
    const slot = index % CHUNK_PAGES
    const had = chunk[slot] !== NO_PFN
    assert(pfn === NO_PFN ? had : !had, 'page cache: the place is taken, or empty already')
    chunk[slot] = pfn
    this.nrPages += pfn === NO_PFN ? -1 : 1
  }

  /** Calls back for each page, by ascending index. */
  forEach(visit: (index: number, pfn: Pfn) => void): void {
    for (const number of [...this.chunks.keys()].sort((a, b) => a - b)) {
      const chunk = this.chunks.get(number)!
      for (let slot = 0; slot < CHUNK_PAGES; slot++)
        if (chunk[slot] !== NO_PFN) visit(number * CHUNK_PAGES + slot, chunk[slot]! as Pfn)
    }
  }

  /** Lowest index from `from` on that has no page, at most `limit`. Models `page_cache_next_miss`. */
  nextMiss(from: number, limit: number): number {
    let index = from
    while (index < limit && this.load(index) !== NO_PFN) index++
    return index
  }

  /** Models `page_cache_prev_miss`: pages that are there right before `index`, at most `most`. */
  pagesBefore(index: number, most: number): number {
    let count = 0
    while (count < most && index - count > 0 && this.load(index - count - 1) !== NO_PFN) count++
    return count
  }
}

/** Models `filemap_add_folio` of a new page. @param zero whether it must be cleared. @returns NO_PFN without memory. */
export function filemapAddFolio(mem: Memory, cpu: Cpu, mapping: AddressSpace, index: number, zero: boolean): Pfn {
  const { gfp } = mem
  const mask = gfp.GFP_HIGHUSER_MOVABLE | (zero ? gfp.ZERO : 0)
  const pfn = allocPages(mem, cpu, mask, 0, -1, 'filemap_alloc_folio')
  if (pfn === NO_PFN) return NO_PFN
  mem.pages.flags[pfn]! |= PG_LRU
  mapping.store(index, pfn)
  return pfn
}

/** Models `filemap_remove_folio`: the cache lets go; a pipe or packet that holds the page keeps it. */
export function filemapRemoveFolio(mem: Memory, cpu: Cpu, mapping: AddressSpace, index: number): void {
  const pfn = mapping.load(index)
  mapping.store(index, NO_PFN)
  putPage(mem, cpu, pfn, 'filemap_remove_folio')
}
