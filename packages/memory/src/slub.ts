/**
 * Taking and returning slab objects, one at a time: two loads and a store while the CPU's free list lasts.
 * `slub-slow.ts` has the rest, `slub-bulk.ts` many at a time. By address for kernel code that keeps pointers,
 * by object number for layers with one JavaScript object per slab object (`…Obj`).
 */
import { type Addr, assert, bug, type Cpu, type Gfp, NULL } from '@netmem/base'
import type { KmemCache } from './kmem-cache.js'
import { objOf, type SlabCore } from './slab-core.js'
import { slabAllocSlow, slabFreeSlow } from './slub-slow.js'

/** No object: what `kmemCacheAllocObj` returns when there is no memory. */
export const NO_OBJ = -1

/**
 * Models `slab_alloc_node` for a caller that wants the object's number.
 *
 * @param node NUMA node, or -1 for any.
 * @returns the object, NO_OBJ when there is no memory.
 */
export function kmemCacheAllocObj(cache: KmemCache, cpu: Cpu, gfp: number, node: number, site: string): number {
  const core = cache.core
  const mem = core.mem
  if (mem.fault?.shouldFail('slab', core.objectSize, gfp, site)) return NO_OBJ
  const c = core.cpus[cpu.id]!
  let obj = c.freelist
  if (obj >= 0 && node < 0) c.freelist = core.next[obj]!
  else {
    obj = slabAllocSlow(core, cpu, gfp, node)
    if (obj < 0) {
      traceAlloc(cache, cpu, gfp, node, site, NULL)
      return NO_OBJ
    }
  }
  if (__ASSERT__) markLive(core, obj)
  if ((gfp & core.zeroBit) !== 0) zeroObject(core, obj)
  if (mem.trace.kmemCacheAlloc !== null) traceAlloc(cache, cpu, gfp, node, site, core.addr[obj]!)
  if (mem.tracker !== null) mem.tracker.slabAlloc(core.addr[obj]! as Addr, core.size, cache.name, site)
  return obj
}

/** Models `kmem_cache_alloc_node`. @returns the object's address, NULL when there is no memory. */
export function kmemCacheAllocNode(cache: KmemCache, cpu: Cpu, gfp: number, node: number, site: string): Addr {
  const obj = kmemCacheAllocObj(cache, cpu, gfp, node, site)
  return obj < 0 ? NULL : (cache.core.addr[obj]! as Addr)
}

/** Models `kmem_cache_alloc`. @returns the object's address, NULL when there is no memory. */
export function kmemCacheAlloc(cache: KmemCache, cpu: Cpu, gfp: number, site: string): Addr {
  const obj = kmemCacheAllocObj(cache, cpu, gfp, -1, site)
  return obj < 0 ? NULL : (cache.core.addr[obj]! as Addr)
}

/** Models `kmem_cache_zalloc`. */
export const kmemCacheZalloc = (cache: KmemCache, cpu: Cpu, gfp: number, site: string): Addr =>
  kmemCacheAlloc(cache, cpu, gfp | cache.core.zeroBit, site)

/** Models `kmem_cache_free`: takes the object. */
export function kmemCacheFree(cache: KmemCache, cpu: Cpu, addr: Addr, site: string): void {
  kmemCacheFreeObj(cache, cpu, objOf(cache.core, addr), site)
}

/** Models `kmem_cache_free` for an object given by its number. */
export function kmemCacheFreeObj(cache: KmemCache, cpu: Cpu, obj: number, site: string): void {
  const core = cache.core
  const trace = core.mem.trace
  if (trace.kmemCacheFree !== null) trace.kmemCacheFree(cpu, site, core.addr[obj]! as Addr, cache.name)
  if (core.mem.tracker !== null) core.mem.tracker.slabFree(core.addr[obj]! as Addr)
  slabFree(core, cpu, obj)
}

/** Models `do_slab_free`: back to the CPU's free list when the object is of its current slab. */
export function slabFree(core: SlabCore, cpu: Cpu, obj: number): void {
  if (__ASSERT__) markFree(core, obj)
  const slot = obj >> core.shift
  const c = core.cpus[cpu.id]!
  if (slot === c.slab) {
    const first = c.freelist
    if (first === obj) doubleFree(core, obj)
    core.next[obj] = first
    c.freelist = obj
  } else slabFreeSlow(core, cpu, slot, obj, obj, 1)
}

/** Models the check in `set_freepointer`, all that a kernel without slab debugging notices. */
export function doubleFree(core: SlabCore, obj: number): never {
  bug(`double free or corruption: object ${obj} of ${core.name}`)
}

/** Kept while assertions are on: which objects are handed out. */
export function markLive(core: SlabCore, obj: number): void {
  assert(core.live[obj] === 0, 'slab object handed out twice')
  core.live[obj] = 1
}

/** Kept while assertions are on. */
export function markFree(core: SlabCore, obj: number): void {
  assert(obj >= 0 && core.live[obj] === 1, `Object already free, or never allocated: ${core.name}`)
  core.live[obj] = 0
}

/** Models `__GFP_ZERO`: bytes up to the object's size. In words, as a call of `fill` costs more than small objects. */
export function zeroObject(core: SlabCore, obj: number): void {
  const words = core.mem.i32
  const from = core.addr[obj]! >>> 2
  const to = from + ((core.objectSize + 3) >>> 2)
  if (to - from > 64) words.fill(0, from, to)
  else for (let word = from; word < to; word++) words[word] = 0
}

function traceAlloc(cache: KmemCache, cpu: Cpu, gfp: number, node: number, site: string, addr: number): void {
  const core = cache.core
  const accounted = cache.accounted || (gfp & core.mem.gfp.ACCOUNT) !== 0
  core.mem.trace.kmemCacheAlloc?.(
    cpu,
    site,
    addr as Addr,
    cache.name,
    core.objectSize,
    core.size,
    gfp as Gfp,
    node,
    accounted,
  )
}
