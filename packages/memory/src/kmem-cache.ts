/**
 * Slab caches by name: how one is made, how several names come to share one, and how its objects are numbered
 * for layers that keep something of their own per object.
 */
import { type Addr, assert } from '@netmem/base'
import type { Memory } from './memory.js'
import { objOf, SLAB_UNUSED, SLAB_WORD_SLOTS, SlabCore, slabWordCache } from './slab-core.js'
import { calculateAlignment, SLAB_ACCOUNT, SLAB_MERGE_SAME, SLAB_NEVER_MERGE, slabStride } from './slab-geometry.js'

/** What `kmemCacheCreate` is asked for beyond name and size; bytes. */
export interface KmemCacheArgs {
  readonly align?: number
  /** `SLAB_*` bits. */
  readonly flags?: number
  /** The window that may be copied to and from user space. */
  readonly useroffset?: number
  readonly usersize?: number
  /** Runs once per object when its slab is taken. */
  readonly ctor?: (addr: Addr) => void
  /** Models `use_freeptr_offset`: an RCU-typesafe object that has room for the link after all. */
  readonly freeptrInside?: boolean
}

/** A slab cache as its user knows it: a name, and the real cache behind it. */
export class KmemCache {
  constructor(
    readonly name: string,
    /** Bytes its user asked for. */
    readonly askedSize: number,
    readonly core: SlabCore,
    /** Models `SLAB_ACCOUNT` of the real cache. */
    readonly accounted: boolean,
  ) {}

  get mem(): Memory {
    return this.core.mem
  }

  /** Models `kmem_cache_size`: usable bytes of an object, the largest of all merged names. */
  get objectSize(): number {
    return this.core.objectSize
  }

  /** Bytes from one object to the next: what one object costs. */
  get size(): number {
    return this.core.size
  }

  /** True when other names share the real cache. */
  get merged(): boolean {
    return this.core.refcount > 1
  }

  /**
   * Called when a slab is taken, with its first object's number and count, so that a layer with one JavaScript
   * object per slab object can make them. Setting it reports the slabs that exist already.
   */
  set onSlab(hook: (firstObj: number, count: number) => void) {
    const { core } = this
    const earlier = core.onSlab
    core.onSlab =
      earlier === null
        ? hook
        : (firstObj, count) => {
            earlier(firstObj, count)
            hook(firstObj, count)
          }
    for (let slot = 0; slot < core.slots; slot++)
      if (core.slabState[slot] !== SLAB_UNUSED) hook(slot << core.shift, core.slabCount[slot]!)
  }
}

/**
 * Models `kmem_cache_create_usercopy` (mm/slab_common.c).
 *
 * @param size bytes of one object.
 * @returns a cache, which shares its slabs with an earlier one when the two are alike enough.
 * @throws RangeError for a size that no slab can hold.
 */
export function kmemCacheCreate(mem: Memory, name: string, size: number, args: KmemCacheArgs = {}): KmemCache {
  if (!Number.isInteger(size) || size < 8 || size > 4 << 20)
    throw new RangeError(`slab cache ${name}: ${size} bytes must be 8 to 4 MiB`)
  const flags = args.flags ?? 0
  let { useroffset = 0, usersize = 0 } = args
  if (useroffset + usersize > size || (usersize === 0 && useroffset !== 0)) {
    if (mem.trace.warn !== null)
      mem.trace.warn('__kmem_cache_create_args', `${name}: usercopy window outside the object`)
    useroffset = 0
    usersize = 0
  }
  const align = calculateAlignment(flags, args.align ?? 0, size, mem.profile.SMP_CACHE_BYTES)
  const twin = usersize === 0 && args.ctor === undefined ? findMergeable(mem, size, align, flags) : null
  const core = twin ?? newCore(mem, name, size, align, flags, useroffset, usersize, args)
  if (twin !== null) {
    twin.refcount++
    twin.objectSize = Math.max(twin.objectSize, size)
  }
  const cache = new KmemCache(name, size, core, (core.flags & SLAB_ACCOUNT) !== 0)
  mem.kmemCaches.push(cache)
  return cache
}

function newCore(
  mem: Memory,
  name: string,
  size: number,
  align: number,
  flags: number,
  useroffset: number,
  usersize: number,
  args: KmemCacheArgs,
): SlabCore {
  const stride = slabStride(size, align, flags, args.ctor !== undefined, args.freeptrInside ?? false)
  const id = mem.slabCores.length
  assert(id < 2048, 'too many slab caches')
  const core = new SlabCore(mem, id, name, stride, size, align, flags, useroffset, usersize, args.ctor ?? null)
  mem.slabCores.push(core)
  return core
}

/** Models `find_mergeable`: the oldest cache whose objects are of nearly the same size and treated the same way. */
export function findMergeable(mem: Memory, size: number, align: number, flags: number): SlabCore | null {
  if (mem.profile.config.SLAB_MERGE_DEFAULT !== 'y' || (flags & SLAB_NEVER_MERGE) !== 0) return null
  const stride = Math.ceil((Math.ceil(size / 8) * 8) / align) * align
  for (const core of mem.slabCores) {
    if (core === null || unmergeable(core)) continue
    if ((flags & SLAB_MERGE_SAME) !== (core.flags & SLAB_MERGE_SAME)) continue
    if (stride > core.size || core.size - stride >= 8 || core.size % align !== 0) continue
    return core
  }
  return null
}

/** Models `slab_unmergeable`. A user-copy window is a promise about one kind of object. */
const unmergeable = (core: SlabCore): boolean =>
  (core.flags & SLAB_NEVER_MERGE) !== 0 || core.ctor !== null || core.usersize !== 0

/** Models `kmem_cache_size`. */
export const kmemCacheSize = (cache: KmemCache): number => cache.core.objectSize

/** @returns the object's address; object numbers come from `kmemCacheAllocObj`. */
export const kmemCacheObjAddr = (cache: KmemCache, obj: number): Addr => cache.core.addr[obj]! as Addr

/** @returns the number of the object at this address, which must be the start of one of the cache's objects. */
export function kmemCacheObjOf(cache: KmemCache, addr: Addr): number {
  return objOf(cache.core, addr)
}

/** @returns the number of the object that holds this address, anywhere inside it; -1 when it is in no slab of the cache. */
export function kmemCacheObjAt(cache: KmemCache, addr: Addr): number {
  const { core } = cache
  const word = core.mem.pages.slab[addr >>> 12]!
  if (word === 0 || slabWordCache(word) !== core.id) return -1
  const slot = word & SLAB_WORD_SLOTS
  const index = Math.floor(((addr - core.slabBase[slot]!) | 0) / core.size)
  return index < core.slabCount[slot]! ? (slot << core.shift) | index : -1
}
