/**
 * What a slab cache is made of. The free lists are chains of object numbers in `next`, not pointers inside the
 * objects, so the allocator never touches object memory.
 *
 * Object numbers: slab slot `s` owns `[s << shift, (s << shift) + count)`. Numbers are dense enough to index an
 * array, and an object keeps its number as long as its slab lives.
 *
 * Invariants, per cache: each object of a slab is in exactly one place: handed out, on a CPU's free list, or on
 * its slab's free list. A slab is the current slab of one CPU, or on one CPU's partial list, or on its node's
 * partial list, or full and on no list. `inuse` counts a current slab's objects as used, as the kernel does.
 */
import { type Addr, assert, bug } from '@netmem/base'
import type { Memory } from './memory.js'
import {
  calculateOrder,
  cpuPartialObjects,
  cpuPartialSlabs,
  minPartial,
  orderObjects,
  SLAB_CACHE_DMA,
  SLAB_CACHE_DMA32,
  SLAB_RECLAIM_ACCOUNT,
} from './slab-geometry.js'
import { getOrder } from './zone-types.js'

/**
 * What `pages.slab` holds for each page of a slab: the slot in the low 20 bits, the cache's id in the next 11,
 * and the sign for a slab that is smaller than the cache's usual ones. 0: not a slab page.
 */
export const SLAB_WORD_SHIFT = 20
export const SLAB_WORD_SLOTS = 0xfffff
export const SLAB_WORD_ODD = -0x80000000

/** @returns the id of the cache that owns the page, 0 for none. */
export const slabWordCache = (word: number): number => (word >>> SLAB_WORD_SHIFT) & 0x7ff

export const SLAB_UNUSED = 0
/** The current slab of a CPU (frozen). */
export const SLAB_CPU = 1
export const SLAB_CPU_PARTIAL = 2
export const SLAB_NODE_PARTIAL = 3
export const SLAB_FULL = 4

/** Models `struct kmem_cache_cpu`: what one CPU has of a cache. -1 is none. */
export class KmemCacheCpu {
  /** First free object of the current slab, as far as this CPU has taken them over. */
  freelist = -1
  slab = -1
  /** Slabs with free objects that the CPU keeps for later, linked in `slabNext`. */
  partialHead = -1
  partialCount = 0
}

/** Models `struct kmem_cache` with its per-CPU and per-node parts: one real cache, shared by merged names. */
export class SlabCore {
  /** Names that share the cache: 1 is not merged. Models `refcount`. */
  refcount = 1
  /** Largest size asked for under any of its names. Models `object_size`. */
  objectSize: number
  align: number
  readonly order: number
  readonly objects: number
  readonly minOrder: number
  readonly minObjects: number
  readonly cpuPartial: number
  readonly cpuPartialSlabs: number
  readonly minPartial: number
  /** Models `allocflags`: added to the mask when the cache grows. */
  readonly allocGfp: number
  /** `mem.gfp.ZERO`. */
  readonly zeroBit: number
  /** Object number to slab slot and back. */
  readonly shift: number
  /** Bytes of a slab less one. */
  readonly slabMask: number
  /** Multiplier and shift of 22 that divide an offset (in words of 8) by the stride. */
  readonly reciprocal: number

  /** By CPU number. */
  readonly cpus: readonly KmemCacheCpu[]
  // One entry per node.
  readonly nodePartialHead: Int32Array
  readonly nodePartialTail: Int32Array
  readonly nodePartialCount: Int32Array
  readonly nodeSlabs: Int32Array
  readonly nodeObjects: Int32Array

  // One entry per object.
  next = new Int32Array(0)
  addr = new Int32Array(0)
  /** 1 while handed out; kept while assertions are on. */
  live = new Uint8Array(0)

  // One entry per slab slot.
  slabBase = new Int32Array(0)
  slabFreelist = new Int32Array(0)
  slabInuse = new Int32Array(0)
  slabCount = new Int32Array(0)
  slabOrder = new Uint8Array(0)
  slabNode = new Uint8Array(0)
  slabState = new Uint8Array(0)
  slabPfmemalloc = new Uint8Array(0)
  slabNext = new Int32Array(0)
  slabPrev = new Int32Array(0)
  /** Slots ever used; the unused ones below form a chain in `slabNext`. */
  slots = 0
  freeSlot = -1
  /** Called with the first object's number and the count when a slab is taken. */
  onSlab: ((firstObj: number, count: number) => void) | null = null
  /** Slabs taken and given back since boot. */
  slabsAllocated = 0
  slabsFreed = 0

  constructor(
    readonly mem: Memory,
    readonly id: number,
    readonly name: string,
    /** Bytes from one object to the next. Models `size`. */
    readonly size: number,
    objectSize: number,
    align: number,
    readonly flags: number,
    readonly useroffset: number,
    readonly usersize: number,
    readonly ctor: ((addr: Addr) => void) | null,
  ) {
    this.objectSize = objectSize
    this.align = align
    const { gfp, cpus, nodes, profile } = mem
    this.order = calculateOrder(size, cpus, profile.features.slabKeepsMinObjects)
    this.minOrder = getOrder(size)
    this.objects = orderObjects(this.order, size)
    this.minObjects = orderObjects(this.minOrder, size)
    this.cpuPartial = cpuPartialObjects(size)
    this.cpuPartialSlabs = cpuPartialSlabs(this.cpuPartial, this.objects)
    this.minPartial = minPartial(size)
    this.allocGfp =
      (this.order > 0 ? gfp.COMP : 0) |
      (flags & SLAB_CACHE_DMA ? gfp.GFP_DMA : 0) |
      (flags & SLAB_CACHE_DMA32 ? gfp.GFP_DMA32 : 0) |
      (flags & SLAB_RECLAIM_ACCOUNT ? gfp.RECLAIMABLE : 0)
    this.zeroBit = gfp.ZERO
    this.shift = this.objects <= 1 ? 0 : 32 - Math.clz32(this.objects - 1)
    this.slabMask = (4096 << this.order) - 1
    this.reciprocal = this.objects <= 1 ? 0 : Math.ceil(4194304 / (size >>> 3))
    this.cpus = Array.from({ length: cpus }, () => new KmemCacheCpu())
    this.nodePartialHead = new Int32Array(nodes.length).fill(-1)
    this.nodePartialTail = new Int32Array(nodes.length).fill(-1)
    this.nodePartialCount = new Int32Array(nodes.length)
    this.nodeSlabs = new Int32Array(nodes.length)
    this.nodeObjects = new Int32Array(nodes.length)
  }
}

/** Models `cache_from_obj` and `obj_to_index`: from an address to an object number without a division. */
export function objOf(core: SlabCore, addr: Addr): number {
  const word = core.mem.pages.slab[addr >>> 12]!
  if (word >>> SLAB_WORD_SHIFT !== core.id) return objOfOddSlab(core, addr, word)
  return objOfWord(core, addr, word)
}

/** The same when the page's slab word is at hand and known to be of this cache. A slab is aligned to its size. */
export function objOfWord(core: SlabCore, addr: Addr, word: number): number {
  const words = (addr & core.slabMask) >>> 3
  const obj = ((word & SLAB_WORD_SLOTS) << core.shift) | (Math.imul(words, core.reciprocal) >>> 22)
  if (__ASSERT__) assert(core.addr[obj] === addr, 'invalid object pointer: not the start of an object')
  return obj
}

/** A slab of the smallest order, taken when there was no larger block, has less to mask away. */
export function objOfOddSlab(core: SlabCore, addr: Addr, word: number): number {
  if (word >= 0 || slabWordCache(word) !== core.id) wrongCache(core, addr)
  const slot = word & SLAB_WORD_SLOTS
  const obj = (slot << core.shift) | (((addr - core.slabBase[slot]!) | 0) / core.size)
  assert(core.addr[obj] === addr, 'invalid object pointer: not the start of an object')
  return obj
}

function wrongCache(core: SlabCore, addr: Addr): never {
  bug(`cache_from_obj: Wrong slab cache. ${core.name} but 0x${(addr >>> 0).toString(16)} is not in it`)
}
