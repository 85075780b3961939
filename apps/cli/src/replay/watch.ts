/**
 * What the replay learns by watching tracepoints: allocations by cache and by the kernel function that
 * asked, copies, DMA, drops. Every event adds to typed counters; names become numbers by identity, as sites
 * are string literals and so always the same object.
 */
import type { Trace } from '@netmem/base'
import { traceSubscribe } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import type { PagePoolStats } from '@netmem/page-pool'
import { gsoSegs, type SkBuff, type Skbuffs } from '@netmem/skbuff'
import type { AllocationFacts, CacheFacts, CopyFacts, DmaFacts, PoolFacts } from './result.js'

/** Counts by a pair of names: a short list that is searched from where it hit last, since events come in runs. */
class PairCounts {
  private readonly first: string[] = []
  private readonly second: string[] = []
  readonly counts: number[] = []
  readonly bytes: number[] = []
  private last = 0

  add(a: string, b: string, bytes: number): void {
    const { first, second } = this
    const n = first.length
    let at = this.last
    for (let i = 0; i < n; i++) {
      if (first[at] === a && second[at] === b) {
        this.counts[at] += 1
        this.bytes[at] += bytes
        // The next event is most often the one that followed this one before.
        this.last = at + 1 < n ? at + 1 : 0
        return
      }
      at = at + 1 < n ? at + 1 : 0
    }
    first.push(a)
    second.push(b)
    this.counts.push(1)
    this.bytes.push(bytes)
    this.last = 0
  }

  /** As `add` with one name, where the same comes again and again: once a packet. */
  addSame(a: string, bytes: number): void {
    const { first, last } = this
    if (last < first.length && first[last] === a) {
      this.counts[last] += 1
      this.bytes[last] += bytes
      return
    }
    this.add(a, '', bytes)
    this.last = first.indexOf(a)
  }

  entries(): { a: string; b: string; count: number; bytes: number }[] {
    return this.first.map((a, i) => ({ a, b: this.second[i], count: this.counts[i], bytes: this.bytes[i] }))
  }
}

export class Watch {
  private readonly allocs = new PairCounts()
  private readonly copied = new PairCounts()
  private readonly dropped = new PairCounts()
  /** Frames of the capture in dropped packets, by reason; a packet that GRO made stands for several. */
  dropFrames = 0
  maps = 0
  unmaps = 0
  syncs = 0
  bounces = 0
  private readonly bounced = new Float64Array(1)
  iommuMaps = 0
  iommuUnmaps = 0
  readonly warnings: string[] = []
  private readonly end: () => void
  /** Slabs that each cache had taken before the replay, by its number. */
  private readonly slabsBefore = new Map<number, number>()

  constructor(
    trace: Trace,
    private readonly mem: Memory,
    private readonly skbs: Skbuffs,
  ) {
    const { allocs, copied } = this
    const pageBytes = 4096
    for (const core of mem.slabCores) if (core !== null) this.slabsBefore.set(core.id, core.slabsAllocated)
    this.end = traceSubscribe(trace, {
      kmalloc: (_cpu, site, _addr, _req, alloc) => allocs.add(kmallocName(alloc), site, alloc),
      kmemCacheAlloc: (_cpu, site, _addr, cache, _req, alloc) => allocs.add(cache, site, alloc),
      mmPageAlloc: (_cpu, _pfn, order, _gfp, _type, site) =>
        allocs.add(pageNames[order] ?? 'pages', site, pageBytes << order),
      copy: (_cpu, site, bytes) => copied.addSame(site, bytes),
      dmaMap: () => {
        this.maps += 1
      },
      dmaUnmap: () => {
        this.unmaps += 1
      },
      dmaSyncSingleForCpu: () => {
        this.syncs += 1
      },
      dmaSyncSingleForDevice: () => {
        this.syncs += 1
      },
      swiotlbBounced: (_dev, _dma, bytes) => {
        this.bounces += 1
        this.bounced[0] += bytes
      },
      iommuMap: () => {
        this.iommuMaps += 1
      },
      iommuUnmap: () => {
        this.iommuUnmaps += 1
      },
      kfreeSkb: (_cpu, addr, _location, _protocol, reason) => this.drop(addr, reason),
      printk: (words) => this.warn(words),
      warn: (site, words) => this.warn(`${site}: ${words}`),
    })
  }

  stop(): void {
    this.end()
  }

  private warn(words: string): void {
    if (this.warnings.length < 8 && !this.warnings.includes(words)) this.warnings.push(words)
  }

  /** Only what came in over a device counts: the host's own packets are not the capture's. */
  private drop(addr: number, reason: string): void {
    const skb = this.received(addr)
    if (skb === null) return
    const frames = Math.max(1, gsoSegs(skb))
    this.dropFrames += frames
    this.dropped.add(reason, '', frames)
  }

  private received(addr: number): SkBuff | null {
    const { skbs, mem } = this
    const core = skbs.skbuffCache.core
    const word = mem.pages.slab[addr >>> 12]
    if (word >>> 20 !== core.id) return null
    const slot = word & 0xfffff
    const words = ((addr - core.slabBase[slot]) | 0) >>> 3
    const obj = (slot << core.shift) | (Math.imul(words, core.reciprocal) >>> 22)
    const skb = skbs.headBodies[obj]
    return skb === undefined || skb.skbIif === 0 ? null : skb
  }

  allocations(): AllocationFacts[] {
    return this.allocs
      .entries()
      .filter(({ b }) => b !== PROGRAM_PAGES)
      .map(({ a, b, count, bytes }) => ({ cache: a, path: b, count, bytes }))
      .sort((x, y) => y.bytes - x.bytes)
  }

  /** Slab caches that were asked for objects: those requests that did not make a cache grow are hits. */
  slabFacts(): CacheFacts[] {
    const requests = new Map<string, number>()
    for (const { a, count } of this.allocs.entries()) if (!isPages(a)) requests.set(a, (requests.get(a) ?? 0) + count)
    return [...requests].map(([cache, count]) => {
      const core = this.mem.kmemCaches.find((candidate) => candidate.name === cache)?.core
      const grown = core === undefined ? 0 : core.slabsAllocated - (this.slabsBefore.get(core.id) ?? 0)
      return { cache, requests: count, hits: Math.max(0, count - grown), about: slabAbout(cache) }
    })
  }

  drops(): Record<string, number> {
    return Object.fromEntries(this.dropped.entries().map(({ a, bytes }) => [a, bytes]))
  }

  copies(): CopyFacts {
    const bySite: Record<string, { bytes: number; calls: number }> = {}
    let bytes = 0
    let calls = 0
    for (const entry of this.copied.entries()) {
      bySite[entry.a] = { bytes: entry.bytes, calls: entry.count }
      bytes += entry.bytes
      calls += entry.count
    }
    return { bytes, calls, bySite }
  }

  dma(toMemoryBytes: number, fromMemoryBytes: number, pools: readonly PagePoolStats[]): DmaFacts {
    const { maps, unmaps, syncs, bounces, iommuMaps, iommuUnmaps } = this
    return {
      toMemoryBytes,
      fromMemoryBytes,
      maps,
      unmaps,
      syncs,
      bounces,
      bouncedBytes: this.bounced[0],
      iommuMaps,
      iommuUnmaps,
      pools: pools.map(poolFacts),
    }
  }
}

/** A pool's own statistics, in the words of the report. */
function poolFacts(stats: PagePoolStats): PoolFacts {
  const { fast, refill, slow, cached, ring, ringFull, releasedRefcnt } = stats
  const requests = fast + refill + slow
  const hitRate = requests === 0 ? 1 : (fast + refill) / requests
  return { fast, refill, slow, cached, ring, released: ringFull + releasedRefcnt, hitRate }
}

/** Pages of the programs' own buffers come from here: they are no network memory. */
const PROGRAM_PAGES = 'do_anonymous_page'

const isPages = (name: string): boolean => name.startsWith('page')

function slabAbout(cache: string): string {
  if (cache === 'skbuff_head_cache') return 'struct sk_buff'
  if (cache === 'skbuff_fclone_cache') return 'struct sk_buff for sending, with its clone'
  if (cache === 'skbuff_small_head' || cache.startsWith('kmalloc')) return 'packet data: heads'
  return 'sockets and what they need'
}

const pageNames = ['page', 'pages of order 1', 'pages of order 2', 'pages of order 3', 'pages of order 4']

const kmallocNames = new Map<number, string>(
  [8, 16, 32, 64, 96, 128, 192, 256, 512]
    .map((bytes): [number, string] => [bytes, `kmalloc-${bytes}`])
    .concat([
      [1024, 'kmalloc-1k'],
      [2048, 'kmalloc-2k'],
      [4096, 'kmalloc-4k'],
      [8192, 'kmalloc-8k'],
    ]),
)

const kmallocName = (bytes: number): string => kmallocNames.get(bytes) ?? 'kmalloc-large'
