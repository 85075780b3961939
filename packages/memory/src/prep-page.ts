/** What a block goes through between the free lists and its new owner. */
import { assert, type Pfn } from '@netmem/base'
import type { Memory } from './memory.js'
import { PG_HEAD } from './pages.js'

/** Models `prep_new_page`: one reference, no flags; a compound page and zeroes where the mask asks for them. */
export function prepNewPage(mem: Memory, pfn: Pfn, order: number, gfp: number): void {
  const pages = mem.pages
  if (__ASSERT__) assert(pages.refcount[pfn] === 0, 'bad page state: a page from the lists has references')
  if ((pages.flags[pfn]! & PG_HEAD) !== 0) destroyCompoundPage(mem, pfn, order)
  pages.refcount[pfn] = 1
  pages.flags[pfn] = 0
  pages.order[pfn] = order
  prepByMask(mem, pfn, order, gfp)
}

/**
 * The same for a block of several pages straight from a CPU's list, which may still be the compound page that it was:
 * most such blocks are compound pages again, and linking seven pages to the first costs more than all the rest.
 */
export function prepListedBlock(mem: Memory, pfn: Pfn, order: number, gfp: number): void {
  const linked = mem.pages.flags[pfn] !== 0
  if ((gfp & mem.gfp.ZERO) !== 0) clearPages(mem, pfn, order)
  if ((gfp & mem.gfp.COMP) !== 0) {
    if (!linked) prepCompoundPage(mem, pfn, order)
  } else if (linked) {
    destroyCompoundPage(mem, pfn, order)
    mem.pages.flags[pfn] = 0
  }
}

/** The part of `prep_new_page` that the mask decides: zeroes, and a compound page. */
export function prepByMask(mem: Memory, pfn: Pfn, order: number, gfp: number): void {
  if ((gfp & mem.gfp.ZERO) !== 0) clearPages(mem, pfn, order)
  if (order !== 0 && (gfp & mem.gfp.COMP) !== 0) prepCompoundPage(mem, pfn, order)
}

function clearPages(mem: Memory, pfn: Pfn, order: number): void {
  // In 32-bit words: the byte address of the last frame's end would pass 2^32 in no case, but words are quicker.
  mem.i32.fill(0, pfn << 10, (pfn + (1 << order)) << 10)
}

/** Models `prep_compound_page`: every page of the block knows its head. */
export function prepCompoundPage(mem: Memory, pfn: Pfn, order: number): void {
  const { head, flags } = mem.pages
  flags[pfn]! |= PG_HEAD
  const end = pfn + (1 << order)
  for (let tail = pfn + 1; tail < end; tail++) head[tail] = pfn
}

/** What `free_tail_page_prepare` does for each page of the block: every page is its own head again. */
export function destroyCompoundPage(mem: Memory, pfn: number, order: number): void {
  const head = mem.pages.head
  const end = pfn + (1 << order)
  for (let tail = pfn + 1; tail < end; tail++) head[tail] = tail
}
