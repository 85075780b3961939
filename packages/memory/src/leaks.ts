/**
 * Who allocated what is live: an optional record per block, switched on with `trackAllocations`. It costs a
 * map entry per allocation, so it is for tests and leak reports, not for measuring.
 */
import type { Addr, Pfn } from '@netmem/base'
import type { Memory } from './memory.js'

/** One live block. */
export interface LiveAllocation {
  readonly kind: 'page' | 'slab'
  /** First byte of the block. */
  readonly addr: Addr
  readonly bytes: number
  /** Slab cache name as its user knows it; `''` for pages. */
  readonly cache: string
  /** The kernel function that allocated. */
  readonly site: string
  /** Number of the allocation, counted from when tracking began. */
  readonly serial: number
  /** Whatever `tracker.step` was at that moment: the trace step or packet number. */
  readonly step: number
}

export class AllocTracker {
  /** Set by whoever runs the machine; stored with each allocation. */
  step = 0
  private serial = 0
  private readonly pages = new Map<number, LiveAllocation>()
  private readonly objects = new Map<number, LiveAllocation>()

  pageAlloc(pfn: Pfn, order: number, site: string): void {
    this.pages.set(pfn, this.entry('page', (pfn << 12) as Addr, 4096 << order, '', site))
  }

  pageFree(pfn: Pfn): void {
    this.pages.delete(pfn)
  }

  /** The block's pages now live and die one by one. */
  pageSplit(pfn: Pfn, order: number): void {
    const whole = this.pages.get(pfn)
    if (whole === undefined) return
    for (let page = pfn; page < pfn + (1 << order); page++)
      this.pages.set(page, { ...whole, addr: (page << 12) as Addr, bytes: 4096 })
  }

  slabAlloc(addr: Addr, bytes: number, cache: string, site: string): void {
    this.objects.set(addr, this.entry('slab', addr, bytes, cache, site))
  }

  slabFree(addr: Addr): void {
    this.objects.delete(addr)
  }

  private entry(kind: 'page' | 'slab', addr: Addr, bytes: number, cache: string, site: string): LiveAllocation {
    this.serial++
    return { kind, addr, bytes, cache, site, serial: this.serial, step: this.step }
  }

  /** @returns everything allocated since tracking began and not freed, oldest first; slab pages are left out. */
  live(): LiveAllocation[] {
    return [...this.pages.values(), ...this.objects.values()]
      .filter((block) => block.site !== SLAB_GROWTH_SITE)
      .sort((a, b) => a.serial - b.serial)
  }
}

/** Models the caller of the page allocator when a slab cache grows. */
export const SLAB_GROWTH_SITE = 'allocate_slab'

/** Starts to record allocations, from now on. What is live already is not known to the tracker. */
export function trackAllocations(mem: Memory): AllocTracker {
  mem.tracker = new AllocTracker()
  return mem.tracker
}

/** @returns one line per site and cache, most bytes first: `3 x kmalloc-1k = 3072 bytes from __alloc_skb`. */
export function leakReport(live: readonly LiveAllocation[]): string[] {
  const groups = new Map<string, { count: number; bytes: number; what: string; site: string }>()
  for (const { cache, bytes, site, kind } of live) {
    const what = kind === 'page' ? `pages of ${bytes}` : cache
    const group = groups.get(`${what} ${site}`) ?? { count: 0, bytes: 0, what, site }
    group.count++
    group.bytes += bytes
    groups.set(`${what} ${site}`, group)
  }
  return [...groups.values()]
    .sort((a, b) => b.bytes - a.bytes)
    .map(({ count, bytes, what, site }) => `${count} x ${what} = ${bytes} bytes from ${site}`)
}
