/**
 * Many slab objects in one call. No tracepoint fires for them, in the kernel neither; that is why the refill
 * of a NAPI skb cache is silent.
 */
import type { Addr, Cpu } from '@netmem/base'
import type { KmemCache } from './kmem-cache.js'
import { objOf, type SlabCore } from './slab-core.js'
import { doubleFree, markFree, markLive, slabFree, zeroObject } from './slub.js'
import { slabAllocSlow, slabFreeSlow } from './slub-slow.js'

/**
 * Models `kmem_cache_alloc_bulk` for object numbers: all or nothing.
 *
 * @param out receives `n` numbers from index `at`.
 * @returns n, or 0 when there is no memory for all of them.
 */
export function kmemCacheAllocObjBulk(
  cache: KmemCache,
  cpu: Cpu,
  gfp: number,
  n: number,
  out: Int32Array,
  at: number,
  site: string,
): number {
  const core = cache.core
  const mem = core.mem
  if (mem.fault?.shouldFail('slab', core.objectSize * n, gfp, site)) return 0
  const c = core.cpus[cpu.id]!
  const end = at + n
  let i = at
  for (;;) {
    // Two loops, so that the inner one keeps the table, which grows only in the slow path, in registers.
    const next = core.next
    let obj = c.freelist
    while (obj >= 0 && i < end) {
      out[i++] = obj
      obj = next[obj]!
    }
    c.freelist = obj
    if (i === end) break
    const more = slabAllocSlow(core, cpu, gfp, -1)
    if (more < 0) return undoBulk(core, cpu, out, at, i)
    out[i++] = more
  }
  if (__ASSERT__) for (let i = at; i < end; i++) markLive(core, out[i]!)
  if ((gfp & core.zeroBit) !== 0) for (let i = at; i < end; i++) zeroObject(core, out[i]!)
  if (mem.tracker !== null)
    for (let i = at; i < end; i++) mem.tracker.slabAlloc(core.addr[out[i]!]! as Addr, core.size, cache.name, site)
  return n
}

function undoBulk(core: SlabCore, cpu: Cpu, out: Int32Array, at: number, to: number): 0 {
  for (let i = at; i < to; i++) {
    if (__ASSERT__) markLive(core, out[i]!)
    slabFree(core, cpu, out[i]!)
  }
  return 0
}

/** Models `kmem_cache_alloc_bulk`: the same with addresses. */
export function kmemCacheAllocBulk(
  cache: KmemCache,
  cpu: Cpu,
  gfp: number,
  n: number,
  out: Int32Array,
  at: number,
  site: string,
): number {
  if (kmemCacheAllocObjBulk(cache, cpu, gfp, n, out, at, site) === 0) return 0
  const addr = cache.core.addr
  for (let i = at; i < at + n; i++) out[i] = addr[out[i]!]!
  return n
}

/**
 * Models `kmem_cache_free_bulk` for object numbers: takes `objs[at .. at+n)`. Neighbours of one slab go back
 * together.
 */
export function kmemCacheFreeObjBulk(
  cache: KmemCache,
  cpu: Cpu,
  n: number,
  objs: Int32Array,
  at: number,
  _site: string,
): void {
  const core = cache.core
  if (core.mem.tracker !== null)
    for (let i = at; i < at + n; i++) core.mem.tracker.slabFree(core.addr[objs[i]!]! as Addr)
  if (__ASSERT__) for (let i = at; i < at + n; i++) markFree(core, objs[i]!)
  const { next, shift } = core
  const c = core.cpus[cpu.id]!
  const current = c.slab
  let first = c.freelist
  // The kernel starts at the end of the array.
  let i = at + n - 1
  while (i >= at) {
    const obj = objs[i]!
    const slot = obj >> shift
    if (slot === current) {
      if (obj === first) doubleFree(core, obj)
      next[obj] = first
      first = obj
      i--
      continue
    }
    let head = obj
    let count = 1
    i--
    while (i >= at && objs[i]! >> shift === slot) {
      next[objs[i]!] = head
      head = objs[i]!
      count++
      i--
    }
    slabFreeSlow(core, cpu, slot, head, obj, count)
  }
  c.freelist = first
}

/** Models `kmem_cache_free_bulk`: the same with addresses; the array's content is used up. */
export function kmemCacheFreeBulk(
  cache: KmemCache,
  cpu: Cpu,
  n: number,
  addrs: Int32Array,
  at: number,
  site: string,
): void {
  const core = cache.core
  for (let i = at; i < at + n; i++) addrs[i] = objOf(core, addrs[i]! as Addr)
  kmemCacheFreeObjBulk(cache, cpu, n, addrs, at, site)
}
