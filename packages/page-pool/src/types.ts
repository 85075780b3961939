/**
 * A page pool: pages that one receive queue takes, lends to the stack, and gets back without the page allocator
 * seeing them. Only the NAPI that owns a pool allocates from it; anybody may return a page.
 *
 *     page allocator --hold--> [ cache (128, lockless) <- ring (ptr_ring) ] --alloc--> out --put--> cache | ring
 *                    <--release------------------------------------------------------------- when it cannot come back
 *
 * The law that `auditPagePool` proves: hold - release (mod 2^32) = cached + in the ring + lent.
 */
import type { Addr, Cpu, EventQueue, KernelProfile, Pfn, Trace } from '@netmem/base'
import type { Device, DmaDirection } from '@netmem/dma'
import type { Memory } from '@netmem/memory'
import type { NetIovs } from './net-iov.js'
import type { PtrRing } from './ptr-ring.js'

/**
 * Models `netmem_ref` (include/net/netmem.h): a page when positive (its frame number), a `net_iov` when negative
 * (`-1 - index`), 0 for none. Pages of a high-order pool are named by their head.
 */
export type Netmem = number

export const PP_FLAG_DMA_MAP = 1
export const PP_FLAG_DMA_SYNC_DEV = 2
/** Models `PP_FLAG_PAGE_FRAG`: up to 6.6 (feature `pagePoolFragFlag`), the same bit that `PP_FLAG_SYSTEM_POOL` has since. */
export const PP_FLAG_PAGE_FRAG = 4
export const PP_FLAG_SYSTEM_POOL = 4
export const PP_FLAG_ALLOW_UNREADABLE_NETMEM = 8

/** Models `PP_ALLOC_CACHE_SIZE` and `PP_ALLOC_CACHE_REFILL` (include/net/page_pool/types.h). */
export const PP_ALLOC_CACHE_SIZE = 128
export const PP_ALLOC_CACHE_REFILL = 64

/**
 * Words behind the cache's slots in the same array: how many slots are filled, and the counters that the fast path
 * bumps. They live there and not in fields because an `Int32Array` word is incremented in place, where a field is
 * untagged and tagged again: half of the fast path's time (`bench/recycle.bench.ts`).
 */
export const PP_COUNT = 128
export const PP_STAT_FAST = 129
export const PP_STAT_CACHED = 130
export const PP_STAT_RING = 131

/**
 * Models `BIAS_MAX`: the references that a page which is cut into fragments starts with, more than it can ever have
 * users. The kernel takes half of a `long`; here `pp_ref_count` is a 32-bit word of `struct page`, so it is half of
 * that, which is the value of a 32-bit kernel. Nothing observable depends on it: only `BIAS_MAX - users` is ever
 * subtracted, and a page has at most 2^22 fragments.
 */
export const BIAS_MAX = 0x7fffffff >> 1

/** What a pool needs from the NAPI instance that owns it: which CPU polls it now (-1: none), and its number. */
export interface PagePoolNapi {
  readonly napiId: number
  /** Models `napi->list_owner`. */
  listOwner: number
}

/** Models `struct page_pool_params` (fast and slow part together); 0 and null are the kernel's zeroes. */
export interface PagePoolParams {
  readonly order?: number
  /** Ring entries; 0 for 1024. Clamped to 16384. */
  readonly poolSize?: number
  /** NUMA node, -1 for "where the CPU is". */
  readonly nid?: number
  readonly dev?: Device | null
  readonly napi?: PagePoolNapi | null
  readonly dmaDir?: DmaDirection
  /** Bytes that a full sync covers, from `offset`. */
  readonly maxLen?: number
  readonly offset?: number
  readonly flags?: number
  /** Interface number of the net device, 0 for none. */
  readonly netdev?: number
  readonly queueIdx?: number
  /** Called with every page that joins the pool. */
  readonly initCallback?: ((netmem: Netmem) => void) | null
  /** Our name for reports; `pool <id>` when absent. */
  readonly label?: string
}

/**
 * Models `struct memory_provider_ops` (include/net/page_pool/memory_provider.h): where a pool's memory comes from
 * when it is not the page allocator.
 */
export interface MemoryProviderOps {
  readonly name: string
  /** @returns 0 or a negative errno, which pool creation then returns. */
  init(pool: PagePool): number
  destroy(pool: PagePool): void
  /** Takes memory and associates it with the pool (`netMpNiovSetPagePool`). @returns 0 when there is none. */
  allocNetmems(cpu: Cpu, pool: PagePool, gfp: number): Netmem
  /** @returns whether the pool should put the page itself; a provider of net_iovs returns false. */
  releaseNetmem(cpu: Cpu, pool: PagePool, netmem: Netmem): boolean
}

/** Models `struct pp_memory_provider_params`: what an rx queue was told to take its memory from. */
export interface MemoryProvider {
  readonly ops: MemoryProviderOps
  readonly priv: unknown
}

/** Models `struct page_pool_stats`: `page_pool_alloc_stats` and the sum of the per-CPU `page_pool_recycle_stats`. Events. */
export interface PagePoolStats {
  fast: number
  slow: number
  slowHighOrder: number
  empty: number
  refill: number
  waive: number
  cached: number
  cacheFull: number
  ring: number
  ringFull: number
  releasedRefcnt: number
}

/** Who holds a page, in the words of the layer that holds it: `{kind: 'skb', name: '17', queue: 'tcp 5 receive'}`. */
export interface PageHolder {
  readonly kind: string
  readonly name: string
  /** Where it waits: a ring, a socket's queue. */
  readonly where?: string
  /** What the scenario did when it came there. */
  readonly step?: string
}

/** A layer that holds pages says which: called only when somebody asks. */
export type HolderWalk = (visit: (netmem: Netmem, holder: PageHolder) => void) => void

/** All page pools of one machine, and what they share. */
export class PagePools {
  /** By slot, which is what `struct page` remembers; 0 is none. */
  readonly pools: (PagePool | null)[] = [null]
  readonly freeSlots: number[] = []
  /** Models the cyclic allocation of `pool->user.id`. */
  nextId = 1
  readonly niovs: NetIovs
  /** Filled by the owner of rx queues: which provider a queue has. */
  rxQueueProvider: ((netdev: number, queueIdx: number) => MemoryProvider | null) | null = null
  /** Models the netlink multicast group `page-pool`: add, del and change notifications. */
  notify: ((event: 'add' | 'del' | 'change', pool: PagePool) => void) | null = null
  readonly holderWalks: HolderWalk[] = []
  /** What the scenario is doing now; `trackHolders` remembers it per page. */
  step = ''
  /** Page -> step that took it; null while nobody tracks. */
  takenAt: Map<Netmem, string> | null = null
  /** Scratch of `pagePoolPutNetmemBulk`. */
  readonly bulk = new Int32Array(16)
  readonly retryHandler: number

  constructor(
    readonly mem: Memory,
    readonly profile: KernelProfile,
    readonly trace: Trace,
    readonly events: EventQueue,
    readonly cpus: readonly Cpu[],
    niovs: NetIovs,
    retry: (env: PagePools, slot: number, cpuId: number) => void,
  ) {
    this.niovs = niovs
    this.retryHandler = events.register((slot, cpuId) => retry(this, slot, cpuId))
  }
}

/** Models `struct page_pool`. One shape; the first fields are those of the fast path. */
export class PagePool {
  /** Models `struct pp_alloc_cache`: slots `[0, cache[PP_COUNT])` hold idle pages, the hottest last. */
  readonly cache = new Int32Array(PP_ALLOC_CACHE_SIZE + 4)
  readonly refcount: Int32Array
  readonly pageFlags: Int32Array
  readonly ppRefCount: Int32Array
  /** Models `pages_state_hold_cnt` and `pages_state_release_cnt`: unsigned 32-bit, kept as signed words. */
  holdCnt = 0
  releaseCnt = 0
  dmaMap = false
  /** Models `dma_sync`: the device to sync recycled pages for, null when the driver does that itself. */
  syncDev: Device | null = null
  /** Pages of the pool that came from the memory reserves; they do not come back into it. */
  reservePages = 0
  /** Whether this kernel finds out itself that it runs in the pool's context (feature `pagePoolNapiDirect`). */
  readonly napiDirect: boolean
  /** How often `PP_STAT_FAST`, `_CACHED` and `_RING` wrapped. */
  readonly statWraps = [0, 0, 0]
  statSlow = 0
  statSlowHighOrder = 0
  statEmpty = 0
  statRefill = 0
  statWaive = 0
  statCacheFull = 0
  statRingFull = 0
  statReleasedRefcnt = 0
  // Models `frag_users`, `frag_page`, `frag_offset`.
  fragUsers = 0
  fragPage: Netmem = 0
  fragOffset = 0
  /** Out-parameters of the frag allocators (`*offset`, `*size`), bytes; valid until the next call. */
  outOffset = 0
  outBytes = 0
  /** Models `user_cnt`, `destroy_cnt`. */
  userCnt = 1
  destroyCnt = 0
  /** Models `user.detach_time`; -1 while attached. Nanoseconds. */
  detachNs = -1
  deferStartNs = 0
  deferWarnNs = 0
  retryEvent = 0
  xdpMemId = 0
  disconnect: (() => void) | null = null
  /** The object itself is gone: any use is a use after free. */
  freed = false
  mpOps: MemoryProviderOps | null = null
  mpPriv: unknown = null

  constructor(
    readonly env: PagePools,
    readonly slot: number,
    readonly id: number,
    readonly label: string,
    readonly order: number,
    readonly pageBytes: number,
    public nid: number,
    readonly dev: Device | null,
    public napi: PagePoolNapi | null,
    readonly dmaDir: DmaDirection,
    readonly maxLen: number,
    readonly offset: number,
    readonly flags: number,
    public netdev: number,
    readonly queueIdx: number,
    readonly initCallback: ((netmem: Netmem) => void) | null,
    /** Models `cpuid`: the CPU that may recycle directly whatever NAPI runs; -1 for ordinary pools. */
    public cpuid: number,
    readonly ring: PtrRing,
    /** The pool's own memory: `struct page_pool` and the ring's array. */
    readonly structAddr: Addr,
    readonly ringAddr: Addr,
  ) {
    const { pages } = env.mem
    this.refcount = pages.refcount
    this.pageFlags = pages.flags
    this.ppRefCount = pages.ppRefCount
    this.napiDirect = env.profile.features.pagePoolNapiDirect
  }
}

/** Models `netmem_is_net_iov`. */
export const netmemIsNetIov = (netmem: Netmem): boolean => netmem < 0

/** Models `netmem_to_page`: what a caller that wants a page gets. */
export const netmemToPage = (netmem: Netmem): Pfn => netmem as Pfn
