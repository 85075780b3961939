/**
 * The other page fragment: `struct page_frag`, by which a task or a socket fills pages with the bytes that it
 * sends. The owner holds exactly one reference; every skb that points into the page holds its own. When the
 * owner's is the only one left, everything sent has been freed and the page starts again at offset 0.
 */
import { assert, type Cpu, type Gfp, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, type Memory, putPage } from '@netmem/memory'

/** Models `SKB_FRAG_PAGE_ORDER`: get_order(32768). */
export const SKB_FRAG_PAGE_ORDER = 3

const PAGE_SIZE = 4096

/** Models `struct page_frag`: `offset` is where the next piece may start; both in bytes. */
export class PageFrag {
  page: Pfn = NO_PFN
  offset = 0
  size = 0
}

/** What a socket does when it gets no page: the upcalls of `sk_page_frag_refill`, filled by sockmem. */
export interface SkPageFragOps<Sk> {
  /** Models what `sk_enter_memory_pressure` does. */
  skEnterMemoryPressure(cpu: Cpu, sk: Sk): void
  /** Models what `sk_stream_moderate_sndbuf` does. */
  skStreamModerateSndbuf(sk: Sk): void
}

/**
 * Models `skb_page_frag_refill` (net/core/sock.c).
 *
 * @param bytes room wanted behind `offset`; at most a page.
 * @param highOrderDisabled the switch `net.core.high_order_alloc_disable`.
 * @returns false with an empty fragment when there is no page.
 */
export function skbPageFragRefill(
  mem: Memory,
  cpu: Cpu,
  bytes: number,
  pfrag: PageFrag,
  gfp: Gfp,
  highOrderDisabled: boolean,
): boolean {
  if (pfrag.page !== NO_PFN) {
    if (mem.pages.refcount[pfrag.page] === 1) {
      pfrag.offset = 0
      return true
    }
    if (pfrag.offset + bytes <= pfrag.size) return true
    putPage(mem, cpu, pfrag.page, 'skb_page_frag_refill')
  }
  return pageFragTakePage(mem, cpu, pfrag, gfp, highOrderDisabled)
}

/** How much room a socket asks for before it copies: whatever is left beyond, the copy loop takes. */
export const SK_PAGE_FRAG_BYTES = 32

/**
 * Models `sk_page_frag_refill` (net/core/sock.c): as above for a socket; failure puts the protocol under
 * memory pressure and lowers the socket's send buffer.
 */
export function skPageFragRefill<Sk>(
  mem: Memory,
  cpu: Cpu,
  sk: Sk,
  pfrag: PageFrag,
  gfp: Gfp,
  highOrderDisabled: boolean,
  ops: SkPageFragOps<Sk>,
): boolean {
  if (skbPageFragRefill(mem, cpu, SK_PAGE_FRAG_BYTES, pfrag, gfp, highOrderDisabled)) return true
  ops.skEnterMemoryPressure(cpu, sk)
  ops.skStreamModerateSndbuf(sk)
  return false
}

/** Drops the owner's reference, as a task's exit and a socket's destruction do. */
export function pageFragRelease(mem: Memory, cpu: Cpu, pfrag: PageFrag, site: string): void {
  if (pfrag.page === NO_PFN) return
  putPage(mem, cpu, pfrag.page, site)
  pfrag.page = NO_PFN
  pfrag.offset = 0
  pfrag.size = 0
}

// Cold path: once per 32 KiB sent.

function pageFragTakePage(mem: Memory, cpu: Cpu, pfrag: PageFrag, gfp: Gfp, highOrderDisabled: boolean): boolean {
  const { COMP, NOWARN, NORETRY, DIRECT_RECLAIM } = mem.gfp
  pfrag.offset = 0
  if (!highOrderDisabled) {
    const mask = ((gfp & ~DIRECT_RECLAIM) | COMP | NOWARN | NORETRY) as Gfp
    pfrag.page = allocPages(mem, cpu, mask, SKB_FRAG_PAGE_ORDER, -1, 'skb_page_frag_refill')
    if (pfrag.page !== NO_PFN) {
      pfrag.size = PAGE_SIZE << SKB_FRAG_PAGE_ORDER
      if (__ASSERT__) assert(mem.pages.refcount[pfrag.page] === 1, 'a fresh page has one reference')
      return true
    }
  }
  pfrag.page = allocPages(mem, cpu, gfp, 0, -1, 'skb_page_frag_refill')
  pfrag.size = pfrag.page === NO_PFN ? 0 : PAGE_SIZE
  return pfrag.page !== NO_PFN
}
