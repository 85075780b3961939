/**
 * The memory under a ring: whole pages that the kernel sees as one range and that user programs map. They need not be
 * neighbours; a ring finds its words through the list of its pages.
 */
import { type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, getOrder, MAX_PAGE_ORDER, type Memory, PAGE_SIZE, putPage, splitPage } from '@netmem/memory'

/** The function that tracepoints name when the pages come and go. */
const ALLOC_SITE = '__vmalloc_node_range_noprof'
const FREE_SITE = 'vfree'

/**
 * Models `vmalloc_user` (mm/vmalloc.c), and where the kernel takes one block instead, its rounding.
 *
 * @param block the range is one block, and so a power of two pages.
 * @returns the zeroed pages in order, one reference each; null when there is not that much memory.
 */
export function ringMemoryAlloc(mem: Memory, cpu: Cpu, bytes: number, block: boolean): Int32Array | null {
  const wanted = Math.ceil(bytes / PAGE_SIZE)
  const count = block ? 1 << getOrder(wanted * PAGE_SIZE) : wanted
  if (count * PAGE_SIZE > mem.bytes || (block && getOrder(wanted * PAGE_SIZE) > MAX_PAGE_ORDER)) return null
  const pages = new Int32Array(count)
  let filled = 0
  while (filled < count) {
    const added = addPages(mem, cpu, pages, filled)
    if (added === 0) {
      ringMemoryFree(mem, cpu, pages.subarray(0, filled))
      return null
    }
    filled += added
  }
  return pages
}

/** Models `vm_area_alloc_pages`: the largest block that still fits is taken and split. @returns pages added. */
function addPages(mem: Memory, cpu: Cpu, pages: Int32Array, at: number): number {
  const { gfp } = mem
  const left = pages.length - at
  let order = Math.min(31 - Math.clz32(left), MAX_PAGE_ORDER)
  let pfn: Pfn = NO_PFN
  for (; order > 0 && pfn === NO_PFN; order--)
    pfn = allocPages(mem, cpu, gfp.GFP_KERNEL | gfp.ZERO | gfp.NOWARN | gfp.NORETRY, order, -1, ALLOC_SITE)
  if (pfn === NO_PFN) pfn = allocPages(mem, cpu, gfp.GFP_KERNEL | gfp.ZERO | gfp.NOWARN, 0, -1, ALLOC_SITE)
  else order++
  if (pfn === NO_PFN) return 0
  if (order > 0) splitPage(mem, pfn, order)
  for (let i = 0; i < 1 << order; i++) pages[at + i] = pfn + i
  return 1 << order
}

/** Models `vfree`: gives the kernel's references back; pages that a user has mapped live on. */
export function ringMemoryFree(mem: Memory, cpu: Cpu, pages: Int32Array): void {
  for (const pfn of pages) putPage(mem, cpu, pfn as Pfn, FREE_SITE)
}
