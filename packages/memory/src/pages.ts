/**
 * `struct page` as parallel arrays: the frame number is the index. Only the page allocator changes
 * `next`/`prev`, `order` and `head`; owners of a page may use `private` and, for a page pool, `pp*`.
 *
 * Invariants: a page on a free list or a per-CPU list has refcount 0. `head[pfn]` is the first frame of the
 * compound page that holds `pfn`, and `pfn` itself when there is none. `order[pfn]` is the order of the block
 * that starts at `pfn`, free or allocated; for frames inside a block it means nothing.
 */
import { type Addr, assert, type Pfn } from '@netmem/base'
import { PAGE_SHIFT, PAGEBLOCK_ORDER } from './zone-types.js'

/** Models `PG_head`: the first page of a compound page. */
export const PG_HEAD = 1
/** Models `PG_reserved`: never handed out. */
export const PG_RESERVED = 2
/** Models `PGTY_buddy`: starts a block on a free list. */
export const PG_BUDDY = 4
/** Models `PGTY_slab`. */
export const PG_SLAB = 8
/** Models `page_is_pfmemalloc`: taken from the reserves. */
export const PG_PFMEMALLOC = 16
/** Ours, kept while assertions are on: the block rests on a per-CPU list. Otherwise such pages have no flag but `PG_HEAD`. */
export const PG_PCP = 32
/** Models `PGTY_large_kmalloc`. */
export const PG_LARGE_KMALLOC = 64
/** Models `PG_lru`: user or page cache memory, which could be moved elsewhere. */
export const PG_LRU = 128

const INT_COLUMNS = 9
const STAGGER_BYTES = 320

export class Pages {
  /** Models `_refcount`. */
  readonly refcount: Int32Array
  /** `PG_*` bits of the block's first page. */
  readonly flags: Int32Array
  readonly order: Uint8Array
  readonly head: Int32Array
  readonly private: Int32Array
  /** Models `pp` with `pp_magic`: the page pool that owns the page, 0 for none. */
  readonly pp: Int32Array
  readonly ppRefCount: Int32Array
  /** Models `dma_addr`, bytes; 0 when not mapped. */
  readonly dmaAddr: Float64Array
  /** Slab page: cache id in the upper 12 bits, slab slot in the lower 20; 0 for none. Every page of a slab has it. */
  readonly slab: Int32Array
  readonly next: Int32Array
  readonly prev: Int32Array
  /** Index into `mem.zones` per page block; zones end on block limits. Fixed at boot. */
  readonly blockZone: Uint8Array
  /** Per page block: the same zone from bit 3, the migrate type below. One load tells a free where a page belongs. */
  readonly block: Uint8Array

  /** @param count frames, rounded up by the caller to a whole number of largest blocks. */
  constructor(readonly count: number) {
    // One buffer, and columns that begin at different places within a 4 KiB page: when the same index lay at the
    // same offset in every column, a load after a store to another column would wait for it (4 KiB aliasing).
    const buffer = new ArrayBuffer(count * 4 * INT_COLUMNS + count * 9 + STAGGER_BYTES * (INT_COLUMNS + 2))
    let at = 0
    const column = (bytes: number): number => {
      const start = at
      at += bytes + STAGGER_BYTES
      return start
    }
    const ints = (): Int32Array => new Int32Array(buffer, column(count * 4), count)
    this.dmaAddr = new Float64Array(buffer, column(count * 8), count)
    this.refcount = ints()
    this.flags = ints()
    this.head = ints()
    this.private = ints()
    this.pp = ints()
    this.ppRefCount = ints()
    this.slab = ints()
    this.next = ints()
    this.prev = ints()
    this.order = new Uint8Array(buffer, column(count), count)
    this.blockZone = new Uint8Array(count >>> PAGEBLOCK_ORDER)
    this.block = new Uint8Array(count >>> PAGEBLOCK_ORDER)
    const head = this.head
    for (let pfn = 0; pfn < count; pfn++) head[pfn] = pfn
  }
}

/** Models `page_address`: where the frame's bytes start. */
export const pageAddress = (pfn: Pfn): Addr => (pfn << PAGE_SHIFT) as Addr

/** Models `virt_to_page`, without going to the head of a compound page. */
export const virtToPfn = (addr: Addr): Pfn => (addr >>> PAGE_SHIFT) as Pfn

/** Models `offset_in_page`. */
export const offsetInPage = (addr: Addr): number => addr & 4095

interface HasPages {
  readonly pages: Pages
}

/** Models `virt_to_head_page`. */
export const compoundHead = (mem: HasPages, addr: Addr): Pfn => mem.pages.head[addr >>> PAGE_SHIFT]! as Pfn

/** Models `compound_order` of the compound page that holds `pfn`: 0 for a plain page. */
export function compoundOrder(mem: HasPages, pfn: Pfn): number {
  const head = mem.pages.head[pfn]!
  return mem.pages.flags[head]! & PG_HEAD ? mem.pages.order[head]! : 0
}

/** Models `page_size`: bytes of the compound page that holds `pfn`. */
export const pageSize = (mem: HasPages, pfn: Pfn): number => 4096 << compoundOrder(mem, pfn)

/** Models `page_is_pfmemalloc`: the page came from the reserves, so only traffic that frees memory may use it. */
export const pageIsPfmemalloc = (mem: HasPages, pfn: Pfn): boolean =>
  (mem.pages.flags[mem.pages.head[pfn]!]! & PG_PFMEMALLOC) !== 0

/** Models `page_count`: references of the compound page that holds `pfn`. */
export const pageCount = (mem: HasPages, pfn: Pfn): number => mem.pages.refcount[mem.pages.head[pfn]!]!

/** Models `get_page`: one more reference on the compound page that holds `pfn`. */
export function getPage(mem: HasPages, pfn: Pfn): void {
  const refcount = mem.pages.refcount
  const head = mem.pages.head[pfn]!
  const was = refcount[head]!
  assert(was > 0, 'get_page: the page is free')
  refcount[head] = was + 1
}

/** Models `page_ref_add`: `count` more references at once. */
export function pageRefAdd(mem: HasPages, pfn: Pfn, count: number): void {
  const head = mem.pages.head[pfn]!
  assert(mem.pages.refcount[head]! > 0, 'page_ref_add: the page is free')
  mem.pages.refcount[head] = (mem.pages.refcount[head]! + count) | 0
}

/**
 * Models `page_ref_sub_and_test`: `count` references fewer.
 *
 * @returns true when none is left: the caller then frees the page with `freeFrozenPages`.
 */
export function pageRefSubAndTest(mem: HasPages, pfn: Pfn, count: number): boolean {
  const head = mem.pages.head[pfn]!
  const left = mem.pages.refcount[head]! - count
  assert(left >= 0, 'page_ref_sub_and_test: more references dropped than held')
  mem.pages.refcount[head] = left
  return left === 0
}

/** Models `set_page_count`: for an allocator that hands out references itself; the page must be its own. */
export function setPageCount(mem: HasPages, pfn: Pfn, count: number): void {
  mem.pages.refcount[mem.pages.head[pfn]!] = count
}
