/**
 * The recorder of allocation traces: listens to the tracepoints while one operation runs, keeps the events
 * that are network memory, and gives addresses and pages the labels by which a trace tells them apart.
 */
import {
  type Addr,
  type Cpu,
  type Gfp,
  inServingSoftirq,
  type Pfn,
  type TraceEvents,
  traceSubscribe,
} from '@netmem/base'
import { gfpText } from '@netmem/memory'
import type { Kernel } from '../kernel.js'
import type { Json } from '../trace/json.js'
import { NETWORK_CACHES, NETWORK_SITES } from './allow-list.js'

/** One event as a trace writes it. */
export type AllocEvent = { ev: string; [field: string]: Json }

const KMALLOC_LARGE = 8192

/**
 * Caches that share their slabs with another of the same purpose: the tracepoint prints one name for both, and
 * nothing else in the event tells them apart.
 */
const RECORDED_NAMES: Readonly<Record<string, string>> = { 'UNIX-STREAM': 'UNIX' }

/** Two unix caches are one merged cache; whoever recorded could not tell them apart and wrote the first one's name. */
const recordedName = (cache: string): string => (cache === 'UNIX-STREAM' ? 'UNIX' : cache)

/** @returns the name of the kmalloc cache whose objects have so many bytes. */
const bucketName = (bytes: number, accounted: boolean): string => {
  if (bytes > KMALLOC_LARGE) return 'kmalloc-large'
  return `kmalloc-${accounted ? 'cg-' : ''}${bytes >= 1024 ? `${bytes / 1024}k` : bytes}`
}

/**
 * Caches that share their slabs with one outside of networking: a free prints that one's name, so the recorder
 * names the cache only when it saw the allocation.
 */
const FOREIGN_CACHES: ReadonlySet<string> = new Set(['tcp_bind_bucket', 'tcp_bind2_bucket'])

export class AllocRecorder {
  /** Events of the latest operation: what there was to read out after it. */
  latestCount = 0
  private events: AllocEvent[] | null = null
  private readonly unsubscribe: () => void
  // Objects by address: their label and size, so that a pointer into an object is recognised.
  private readonly labels = new Map<number, { label: string; bytes: number }>()
  private readonly counts: Record<'a' | 'u', number> = { a: 0, u: 0 }
  // Pages by frame number.
  private readonly pages = new Map<number, { label: string; order: number }>()
  private pageCount = 0
  private readonly pools = new Map<number, string>()
  /** Which cache an object came from, while its allocation is known. */
  private readonly cacheOf = new Map<number, string>()

  constructor(private readonly kernel: Kernel) {
    this.unsubscribe = traceSubscribe(kernel.trace, this.handlers())
  }

  /** Begins to measure one operation. */
  start(): void {
    this.events = []
  }

  /** @returns the events since `start`, in order. */
  stop(): AllocEvent[] {
    const events = this.events ?? []
    this.latestCount = events.length
    this.events = null
    return events
  }

  /** Ends the subscription. */
  detach(): void {
    this.unsubscribe()
  }

  /** What runs under an RCU callback belongs to no operation: it never appears. */
  private get recording(): boolean {
    return this.events !== null && this.kernel.socks.rcu.running === 0
  }

  private emit(cpu: Cpu, event: AllocEvent): void {
    if (inServingSoftirq(cpu)) event.ctx = 'softirq'
    this.events!.push(event)
  }

  private newLabel(prefix: 'a' | 'u', addr: number, bytes: number): string {
    const label = `${prefix}${this.counts[prefix]}`
    this.counts[prefix] += 1
    this.labels.set(addr, { label, bytes })
    return label
  }

  private labelOf(addr: number): string {
    const known = this.labels.get(addr)
    if (known !== undefined) return known.label
    for (const [base, object] of this.labels) {
      const offset = ((addr >>> 0) - (base >>> 0)) | 0
      if (offset > 0 && offset < object.bytes) return `${object.label}+${offset}`
    }
    return this.newLabel('u', addr, 1)
  }

  private newPage(pfn: number, order: number): string {
    const label = `p${this.pageCount}`
    this.pageCount += 1
    this.pages.set(pfn, { label, order })
    return label
  }

  private pageOf(pfn: number): string {
    const known = this.pages.get(pfn)
    if (known !== undefined) return known.label
    for (const [base, page] of this.pages)
      if (pfn > base && pfn < base + (1 << page.order)) return `${page.label}+${(pfn - base) * 4096}`
    const label = `up${this.pageCount}`
    this.pageCount += 1
    this.pages.set(pfn, { label, order: 0 })
    return label
  }

  private allocated(
    cpu: Cpu,
    ev: string,
    cache: string,
    site: string,
    addr: Addr,
    req: number,
    alloc: number,
    gfp: Gfp,
    accounted: boolean,
  ): void {
    this.cacheOf.set(addr, cache)
    const event: AllocEvent = { ev, cache, site, req, alloc, gfp: gfpText(this.kernel.mem, gfp) }
    if (accounted) event.accounted = true
    event.id = this.newLabel('a', addr, alloc)
    this.emit(cpu, event)
  }

  private freed(cpu: Cpu, ev: string, site: string, addr: Addr, name: string | null): void {
    const seen = this.cacheOf.get(addr)
    this.cacheOf.delete(addr)
    const known = name !== null && NETWORK_CACHES.has(name) && !FOREIGN_CACHES.has(name)
    const cache = seen ?? (known ? name : null)
    const event: AllocEvent = { ev }
    if (cache !== null) event.cache = cache
    event.site = site
    event.id = this.labelOf(addr)
    this.labels.delete(addr)
    this.emit(cpu, event)
  }

  private handlers(): Partial<TraceEvents> {
    return {
      kmemCacheAlloc: (cpu, site, addr, asked, req, alloc, gfp, _node, accounted) => {
        const cache = RECORDED_NAMES[asked] ?? asked
        if (!this.recording || !(NETWORK_CACHES.has(cache) || NETWORK_SITES.has(site))) return
        this.allocated(cpu, 'kmem_cache_alloc', recordedName(cache), site, addr, req, alloc, gfp, accounted)
      },
      kmalloc: (cpu, site, addr, req, alloc, gfp, _node, accounted) => {
        if (!this.recording || !NETWORK_SITES.has(site)) return
        this.allocated(cpu, 'kmalloc', bucketName(alloc, accounted), site, addr, req, alloc, gfp, accounted)
      },
      kmemCacheFree: (cpu, site, addr, cache) => {
        if (!this.recording) return
        if (NETWORK_CACHES.has(cache) || NETWORK_SITES.has(site))
          this.freed(cpu, 'kmem_cache_free', site, addr, recordedName(cache))
        else this.labels.delete(addr)
      },
      kfree: (cpu, site, addr) => {
        if (!this.recording || addr === 0) return
        if (NETWORK_SITES.has(site)) this.freed(cpu, 'kfree', site, addr, null)
        else this.labels.delete(addr)
      },
      mmPageAlloc: (cpu, pfn, order, gfp, _migratetype, site) => {
        if (!this.recording || !NETWORK_SITES.has(site)) return
        const id = this.newPage(pfn, order)
        this.emit(cpu, { ev: 'page_alloc', site, order, gfp: gfpText(this.kernel.mem, gfp), id })
      },
      mmPageFree: (cpu, pfn, order, site) => {
        if (!this.recording || !NETWORK_SITES.has(site)) return
        this.emit(cpu, { ev: 'page_free', site, order, id: this.pageOf(pfn) })
        this.pages.delete(pfn)
      },
      mmPageFreeBatched: (cpu, pfn, site) => {
        if (!this.recording || !NETWORK_SITES.has(site)) return
        this.emit(cpu, { ev: 'page_free_batched', site, order: 0, id: this.pageOf(pfn) })
      },
      consumeSkb: (cpu, skb, site) => {
        if (this.recording) this.emit(cpu, { ev: 'consume_skb', site, id: this.labelOf(skb) })
      },
      kfreeSkb: (cpu, skb, site, protocol, reason) => {
        if (this.recording) this.emit(cpu, { ev: 'kfree_skb', site, id: this.labelOf(skb), reason, protocol })
      },
      pagePoolStateHold: (cpu, pool, pfn, hold) => {
        if (this.recording) this.held(cpu, pool, pfn, hold)
      },
      pagePoolStateRelease: (cpu, pool, pfn, release) => {
        if (!this.recording) return
        const id = this.pageOf(pfn)
        this.pages.delete(pfn)
        this.emit(cpu, { ev: 'page_pool_release', pool: this.poolOf(pool), id, release, count: 1 })
      },
    }
  }

  private poolOf(pool: number): string {
    const known = this.pools.get(pool)
    if (known !== undefined) return known
    const label = `pp${this.pools.size}`
    this.pools.set(pool, label)
    return label
  }

  /** A run of consecutive holds of one pool is one event. */
  private held(cpu: Cpu, pool: number, pfn: Pfn, hold: number): void {
    const label = this.poolOf(pool)
    const id = this.newPage(pfn, 0)
    const last = this.events!.at(-1)
    if (last?.ev === 'page_pool_hold' && last.pool === label && (last.hold as number) + 1 === hold) {
      last.hold = hold
      last.count = (last.count as number) + 1
      last.id = `${(last.id as string).split('..')[0]}..${id}`
      return
    }
    this.emit(cpu, { ev: 'page_pool_hold', pool: label, id, hold, count: 1 })
  }
}

/** @returns how often each kind of event occurred, by its distinguishing fields, sorted as a trace writes it. */
export function summarise(events: readonly AllocEvent[]): { [kind: string]: number } {
  const counts = new Map<string, number>()
  for (const event of events) {
    const fields = ['ev', 'cache', 'site', 'alloc', 'order', 'reason'].filter((field) => event[field] !== undefined)
    const kind = fields.map((field) => String(event[field])).join(' ')
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
}
