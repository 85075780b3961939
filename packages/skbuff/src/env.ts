/**
 * The skb subsystem of one machine: its four slab caches, the per-CPU caches in front of them, and one
 * `SkBuff` object per slab object. Everything that differs between kernels is decided here, once.
 *
 * Conservation: every object of the head cache is free in the slab, in some CPU's napi cache, or held by
 * somebody (`users` ≥ 1); the same for pairs and small heads. `auditSkbs` proves it.
 */
import { type Addr, Cpu, type Gfp, type KernelProfile, type Trace } from '@netmem/base'
import {
  type KmemCache,
  kmemCacheCreate,
  kmemCacheObjAddr,
  type Memory,
  SLAB_HWCACHE_ALIGN,
  SLAB_PANIC,
} from '@netmem/memory'
import { FragCaches } from '@netmem/page-frag'
import type { PagePools } from '@netmem/page-pool'
import type { SkbDropReason } from './drop-reason.js'
import { skbExtBytes } from './extensions.js'
import { skbRegisterHolders } from './holders.js'
import { NAPI_SKB_CACHE_SIZE, NapiAllocCache } from './napi-alloc-cache.js'
import { SkbQueue } from './queue.js'
import { checkSharedInfoLayout } from './shared-info.js'
import { checkSkbSizes, type SkbSizes, skbSizes } from './sizes.js'
import { SkBuff } from './sk-buff.js'
import { SkBuffRare } from './sk-buff-rare.js'
import type { UbufOps } from './zerocopy.js'

/** Models the deferral part of `softnet_data` (6.1) and `struct skb_defer_node` (6.18): skbs on their way home. */
export class SkbDeferNode {
  /** Id of the latest; a list through `next`. */
  first = 0
  count = 0
  /** A kick is under way. */
  ipiScheduled = false
}

/** Called when the last holder lets go: uncharges the owner. Must not free the skb. */
export type SkbDestructor = (cpu: Cpu, skb: SkBuff) => void

/** What upper layers fill in; each slot says what the kernel does there. */
export interface SkbSlots {
  /** Models `dst_release` of the route that an skb held. */
  dstRelease(cpu: Cpu, refdst: number): void
  /** Models `dst_hold` when an skb is cloned. */
  dstClone(refdst: number): void
  /** Models `kick_defer_list_purge`: make that CPU run its receive softirq. */
  kickDeferListPurge(cpu: Cpu, target: number): void
  /** Models `raise_softirq_irqoff(NET_TX_SOFTIRQ)` after a free in hard interrupt context. */
  raiseNetTxSoftirq(cpu: Cpu): void
  /** Models `cpu_online`. */
  cpuOnline(cpu: number): boolean
  /** Models `netdev->name` for the panic line. */
  devName(dev: number): string
  /** Models `net_device::type` of a device id, for filters that ask. */
  devType(dev: number): number
  /** Models `get_random_u32`, for filters that ask. @returns 32 bits, signed. */
  random(): number
}

export interface SkbInitParams {
  readonly mem: Memory
  readonly cpus: number
  readonly nodes?: number
  readonly trace: Trace
  readonly profile: KernelProfile
  /** The page pools that received pages may belong to; null where nobody has any. */
  readonly pagePools?: PagePools | null
  readonly slots?: Partial<SkbSlots>
  /** Reads sysctls `net.core.skb_defer_max` and `net.core.max_skb_frags`; the profile's values if absent. */
  readonly sysctl?: { skbDeferMax(): number; maxSkbFrags(): number }
}

/** Where tracepoints say that things happen, where kernels inline differently. */
export interface SkbSites {
  /** Heads of the `__build_skb` family. */
  readonly buildSkb: string
  /** What `consume_skb` prints for `__consume_stateless_skb`: 6.1 shows that function, 6.18 its caller (null). */
  readonly statelessConsume: string | null
  /** Who frees the skbs of a purged queue. */
  readonly queuePurge: string
}

/** One machine's skb subsystem. Hot members first. */
export class Skbuffs {
  /** The machine's memory as words, bytes and double words. */
  declare readonly i32: Int32Array
  declare readonly u8: Uint8Array
  declare readonly f64: Float64Array
  /** The sizes that every allocation asks for, from `sizes`; bytes. */
  declare readonly sharedInfoBytes: number
  declare readonly headBytes: number
  declare readonly lineBytes: number
  declare readonly rxSlabRoom: number
  declare readonly rxPageRoom: number
  /** `NET_SKB_PAD + NET_IP_ALIGN`. */
  declare readonly napiPad: number
  declare readonly refcount: Int32Array
  declare readonly pageHead: Int32Array
  declare readonly napi: readonly NapiAllocCache[]
  /** The CPU that asked for its napi cache last, and that cache; see `thisCpuNapi`. */
  declare lastCpu: Cpu
  declare lastNapi: NapiAllocCache
  /** One object per slab object, by the slab's number. */
  readonly headBodies: SkBuff[] = []
  /** Pairs: `2 * obj` the original, `2 * obj + 1` its companion. */
  readonly fcloneBodies: SkBuff[] = []
  /** By id; `skbs[0]` is a filler that nobody may touch. */
  readonly skbs: SkBuff[] = []
  declare readonly trace: Trace
  declare readonly mem: Memory
  declare readonly profile: KernelProfile
  declare readonly sizes: SkbSizes
  declare readonly fragCaches: FragCaches
  declare readonly pagePools: PagePools | null
  /** Models `net_hotdata.skbuff_cache`, "skbuff_head_cache". */
  declare readonly skbuffCache: KmemCache
  /** Models `net_hotdata.skbuff_fclone_cache`, "skbuff_fclone_cache". */
  declare readonly fcloneCache: KmemCache
  /** Models `net_hotdata.skb_small_head_cache`, "skbuff_small_head"; null where the kernel has none. */
  declare readonly smallHeadCache: KmemCache | null
  /** Models `skbuff_ext_cache`. */
  declare readonly extCache: KmemCache
  /** `tstamp` by id: doubles live here, not in the objects. */
  tstamps = new Float64Array(1024)
  readonly destructors: (SkbDestructor | null)[] = [null]
  /** Number of `sock_edemux`, 0 while nobody registered it: a socket found early is not charged. */
  edemuxDestructor = 0
  readonly ubufOps: (UbufOps | null)[] = [null]
  /** Models the completion queue of `softnet_data`, by CPU: skbs freed where nothing may be freed. */
  declare readonly completionQueue: SkbQueue[]
  /** By CPU (6.1), by CPU × node (6.18). */
  declare readonly deferNodes: readonly SkbDeferNode[][]
  declare readonly slots: SkbSlots
  declare readonly sysctl: { skbDeferMax(): number; maxSkbFrags(): number }
  declare readonly sites: SkbSites
  /** Why the skbs of a purged queue went. */
  declare readonly dropReasonPurge: SkbDropReason
  /** Reasons of skbs on completion queues, by id. */
  readonly irqReasons: SkbDropReason[] = []
  /** Scratch for bulk calls of the napi cache: object numbers. */
  readonly bulkObjs = new Int32Array(NAPI_SKB_CACHE_SIZE)
  /** Scratch of `kfree_skb_list_reason`, one per level of nesting. */
  readonly bulkBuffers: Int32Array[] = []
  /** Models `sk_memalloc_socks()`: some socket may use the reserves. */
  memallocSocks = false
  /** Models `KMALLOC_NOT_NORMAL_BITS`. */
  declare readonly notNormal: number
  /** The mask of everything that softirq allocates: GFP_ATOMIC, with NOWARN where the kernel says so. */
  declare readonly gfpAtomic: Gfp
  /** GFP_ATOMIC as it is, for heads that grow. */
  declare readonly gfpPull: Gfp
  /** What the latest `kmallocReserve` reported as `pfmemalloc`. */
  reservesUsed = false

  constructor(p: SkbInitParams) {
    const { mem, profile } = p
    this.mem = mem
    this.i32 = mem.i32
    this.u8 = mem.u8
    this.f64 = new Float64Array(mem.buffer)
    this.refcount = mem.pages.refcount
    this.pageHead = mem.pages.head
    this.trace = p.trace
    this.profile = profile
    checkSharedInfoLayout(profile)
    this.sizes = skbSizes(profile)
    checkSkbSizes(this.sizes)
    this.sharedInfoBytes = this.sizes.sharedInfoBytes
    this.headBytes = this.sizes.headBytes
    this.lineBytes = this.sizes.lineBytes
    this.rxSlabRoom = this.sizes.rxSlabRoom
    this.rxPageRoom = this.sizes.rxPageRoom
    this.napiPad = this.sizes.netSkbPad + this.sizes.netIpAlign
    this.fragCaches = new FragCaches(mem, p.cpus)
    this.pagePools = p.pagePools ?? null
    this.napi = this.fragCaches.napi.map((page, cpu) => new NapiAllocCache(page, cpu))
    this.lastCpu = new Cpu(0, 0)
    this.lastNapi = this.napi[0]!
    const { GFP_ATOMIC, NOWARN, RECLAIMABLE, DMA, ACCOUNT } = mem.gfp
    this.gfpAtomic = (profile.features.skbDeferLockless ? GFP_ATOMIC | NOWARN : GFP_ATOMIC) as Gfp
    this.gfpPull = GFP_ATOMIC
    this.notNormal = RECLAIMABLE | DMA | ACCOUNT
    const layout = profile.structs.sk_buff!
    const flags = SLAB_HWCACHE_ALIGN | SLAB_PANIC
    this.skbuffCache = kmemCacheCreate(mem, 'skbuff_head_cache', layout.size, {
      flags,
      useroffset: layout.offsets.cb!,
      usersize: layout.sizes.cb!,
    })
    this.fcloneCache = kmemCacheCreate(mem, 'skbuff_fclone_cache', profile.structs.sk_buff_fclones!.size, { flags })
    this.smallHeadCache =
      this.sizes.smallHeadBytes === 0
        ? null
        : kmemCacheCreate(mem, 'skbuff_small_head', this.sizes.smallHeadBytes, {
            flags,
            useroffset: 0,
            usersize: this.sizes.smallHeadRoom,
          })
    this.extCache = kmemCacheCreate(mem, 'skbuff_ext_cache', skbExtBytes(profile), { flags })
    this.skbs.push(new SkBuff(this, 0, -1, 0 as Addr, new SkBuffRare()))
    this.skbuffCache.onSlab = (first, count) => skbBodies(this, first, count)
    const pairBytes = profile.structs.sk_buff_fclones!.offsets.skb2!
    this.fcloneCache.onSlab = (first, count) => fcloneBodies(this, first, count, pairBytes)
    this.completionQueue = Array.from({ length: p.cpus }, () => new SkbQueue(this))
    const lists = profile.features.skbDeferLockless ? (p.nodes ?? 1) : 1
    this.deferNodes = Array.from({ length: p.cpus }, () => Array.from({ length: lists }, () => new SkbDeferNode()))
    this.slots = {
      dstRelease: () => {},
      dstClone: () => {},
      kickDeferListPurge: () => {},
      raiseNetTxSoftirq: () => {},
      cpuOnline: (cpu) => cpu < p.cpus,
      devName: (dev) => `dev${dev}`,
      devType: () => 0,
      random: () => 0,
      ...p.slots,
    }
    this.sysctl = p.sysctl ?? {
      skbDeferMax: () => Number(profile.sysctl['net.core.skb_defer_max'] ?? 64),
      maxSkbFrags: () => Number(profile.sysctl['net.core.max_skb_frags'] ?? profile.MAX_SKB_FRAGS),
    }
    const consumed = profile.features.dropReasonConsumed
    this.dropReasonPurge = consumed ? 'QUEUE_PURGE' : 'NOT_SPECIFIED'
    this.sites = {
      buildSkb: '__build_skb',
      statelessConsume: consumed ? null : '__consume_stateless_skb',
      queuePurge: consumed ? 'skb_queue_purge_reason' : 'skb_queue_purge',
    }
  }
}

/** Models `skb_init` (net/core/skbuff.c): creates `skbuff_head_cache`, `skbuff_fclone_cache`, `skbuff_small_head` and `skbuff_ext_cache`. */
export function skbInit(params: SkbInitParams): Skbuffs {
  const env = new Skbuffs(params)
  skbRegisterHolders(env)
  return env
}

/** @returns the number to store in `skb.destructor`. */
export function registerSkbDestructor(env: Skbuffs, destructor: SkbDestructor): number {
  env.destructors.push(destructor)
  return env.destructors.length - 1
}

// Cold path: once per slab page.

function newBody(env: Skbuffs, obj: number, addr: Addr): SkBuff {
  const skb = new SkBuff(env, env.skbs.length, obj, addr, new SkBuffRare())
  env.skbs.push(skb)
  if (skb.id >= env.tstamps.length) {
    const bigger = new Float64Array(env.tstamps.length * 2)
    bigger.set(env.tstamps)
    env.tstamps = bigger
  }
  return skb
}

function skbBodies(env: Skbuffs, first: number, count: number): void {
  for (let obj = first; obj < first + count; obj++) {
    const addr = kmemCacheObjAddr(env.skbuffCache, obj)
    const body = env.headBodies[obj]
    // The slab may come back to a number at another place.
    if (body !== undefined) body.addr = addr
    else env.headBodies[obj] = newBody(env, obj, addr)
  }
}

function fcloneBodies(env: Skbuffs, first: number, count: number, pairBytes: number): void {
  for (let obj = first; obj < first + count; obj++) {
    const addr = kmemCacheObjAddr(env.fcloneCache, obj)
    const second = ((addr + pairBytes) | 0) as Addr
    const body = env.fcloneBodies[2 * obj]
    if (body !== undefined) {
      body.addr = addr
      env.fcloneBodies[2 * obj + 1]!.addr = second
    } else {
      const orig = newBody(env, obj, addr)
      const clone = newBody(env, obj, second)
      orig.twin = clone
      clone.twin = orig
      env.fcloneBodies[2 * obj] = orig
      env.fcloneBodies[2 * obj + 1] = clone
    }
  }
}
