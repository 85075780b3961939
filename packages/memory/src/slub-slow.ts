/**
 * SLUB beyond the CPU's free list: where the next slab comes from, and where objects of other slabs go. The order
 * of every choice is the kernel's.
 */
import { assert, type Cpu } from '@netmem/base'
import { gfpPfmemallocAllowed } from './alloc-slow.js'
import { type KmemCacheCpu, SLAB_CPU, SLAB_FULL, SLAB_NODE_PARTIAL, type SlabCore } from './slab-core.js'
import { discardSlab, newSlab } from './slab-pages.js'
import { addPartial, putCpuPartial, putPartial, removePartial } from './slab-partial.js'

/**
 * Models `___slab_alloc`: the CPU's list is empty, or a node was asked for.
 *
 * @returns an object number, -1 when no slab could be had.
 */
export function slabAllocSlow(core: SlabCore, cpu: Cpu, gfp: number, node: number): number {
  const c = core.cpus[cpu.id]!
  const current = c.slab
  if (current >= 0) {
    if (slabFits(core, cpu, current, gfp, node)) {
      const obj = c.freelist >= 0 ? c.freelist : takeFreelist(core, current)
      if (obj >= 0) return load(core, c, obj)
      c.slab = -1
      core.slabState[current] = SLAB_FULL
    } else deactivateCpu(core, cpu, c)
  }
  while (c.partialHead >= 0) {
    const slot = c.partialHead
    c.partialHead = core.slabNext[slot]!
    c.partialCount--
    if (slabFits(core, cpu, slot, gfp, node)) return useSlab(core, c, slot)
    putPartial(core, cpu, slot)
  }
  let slot = getPartial(core, cpu, gfp, node)
  if (slot < 0) slot = newSlab(core, cpu, gfp, node)
  return slot < 0 ? -1 : useSlab(core, c, slot)
}

/** Models `node_match` and `pfmemalloc_match`: slabs from the reserves are only for those entitled to them. */
function slabFits(core: SlabCore, cpu: Cpu, slot: number, gfp: number, node: number): boolean {
  if (node >= 0 && core.slabNode[slot] !== node) return false
  return core.slabPfmemalloc[slot] === 0 || gfpPfmemallocAllowed(core.mem, cpu, gfp)
}

function load(core: SlabCore, c: KmemCacheCpu, obj: number): number {
  c.freelist = core.next[obj]!
  return obj
}

/** Models `get_freelist`: all free objects of the slab at once; from now on all its objects count as used. */
function takeFreelist(core: SlabCore, slot: number): number {
  const obj = core.slabFreelist[slot]!
  core.slabFreelist[slot] = -1
  core.slabInuse[slot] = core.slabCount[slot]!
  return obj
}

function useSlab(core: SlabCore, c: KmemCacheCpu, slot: number): number {
  if (__ASSERT__) assert(c.freelist < 0 && c.slab < 0, 'the CPU has a slab already')
  c.slab = slot
  core.slabState[slot] = SLAB_CPU
  return load(core, c, takeFreelist(core, slot))
}

/** Models `get_partial`: the wanted node's partial slabs, then, if any node will do, the others'. */
function getPartial(core: SlabCore, cpu: Cpu, gfp: number, node: number): number {
  const mem = core.mem
  const first = node < 0 ? cpu.node : node
  const slot = getPartialNode(core, cpu, gfp, first)
  if (slot >= 0 || node >= 0 || (gfp & mem.gfp.THISNODE) !== 0) return slot
  for (let step = 1; step < mem.nodes.length; step++) {
    const other = (first + step) % mem.nodes.length
    // Another node's slabs are only borrowed while it has more than it must keep.
    if (core.nodePartialCount[other]! <= core.minPartial) continue
    const found = getPartialNode(core, cpu, gfp, other)
    if (found >= 0) return found
  }
  return -1
}

/** Models `get_partial_node`: one slab to use, and some more for the CPU's partial list while the node is at hand. */
function getPartialNode(core: SlabCore, cpu: Cpu, gfp: number, node: number): number {
  let found = -1
  let extra = 0
  let slot = core.nodePartialHead[node]!
  while (slot >= 0) {
    const next = core.slabNext[slot]!
    if (slabFits(core, cpu, slot, gfp, -1)) {
      removePartial(core, slot)
      if (found < 0) found = slot
      else {
        putCpuPartial(core, cpu, slot, false)
        extra++
        if (extra > core.cpuPartialSlabs >> 1) break
      }
    }
    slot = next
  }
  return found
}

/** Models `put_partials_cpu` and `flush_slab`: the CPU gives up its slab and its partial slabs. */
export function flushCpuSlab(core: SlabCore, cpu: Cpu, id: number): void {
  const c = core.cpus[id]!
  if (c.slab >= 0) deactivateCpu(core, cpu, c)
  let slot = c.partialHead
  c.partialHead = -1
  c.partialCount = 0
  while (slot >= 0) {
    const next = core.slabNext[slot]!
    putPartial(core, cpu, slot)
    slot = next
  }
}

/** Models `deactivate_slab`: the CPU's free objects return to the slab, and the slab to where its fullness puts it. */
function deactivateCpu(core: SlabCore, cpu: Cpu, c: KmemCacheCpu): void {
  const slot = c.slab
  let obj = c.freelist
  c.slab = -1
  c.freelist = -1
  const hadFree = obj >= 0
  while (obj >= 0) {
    const next = core.next[obj]!
    core.next[obj] = core.slabFreelist[slot]!
    core.slabFreelist[slot] = obj
    core.slabInuse[slot]!--
    obj = next
  }
  core.slabState[slot] = SLAB_FULL
  const node = core.slabNode[slot]!
  if (core.slabInuse[slot] === 0 && core.nodePartialCount[node]! >= core.minPartial) discardSlab(core, cpu, slot)
  else if (core.slabFreelist[slot]! >= 0) addPartial(core, slot, !hadFree)
}

/**
 * Models `__slab_free`: objects `head … tail` (linked in `next`, `count` of them) go back to a slab that is not
 * this CPU's current one.
 */
export function slabFreeSlow(core: SlabCore, cpu: Cpu, slot: number, head: number, tail: number, count: number): void {
  const prior = core.slabFreelist[slot]!
  core.next[tail] = prior
  core.slabFreelist[slot] = head
  const inuse = core.slabInuse[slot]! - count
  core.slabInuse[slot] = inuse
  if (__ASSERT__) assert(inuse >= 0, 'slab: more objects freed than used')
  const state = core.slabState[slot]!
  if (state === SLAB_CPU) return
  if (prior < 0) {
    // Full until now, so on no list. The CPU that frees is likely to allocate from it next.
    putCpuPartial(core, cpu, slot, true)
    return
  }
  if (inuse !== 0 || state !== SLAB_NODE_PARTIAL) return
  if (core.nodePartialCount[core.slabNode[slot]!]! < core.minPartial) return
  removePartial(core, slot)
  discardSlab(core, cpu, slot)
}

/** Models `__kmem_cache_shrink`: CPUs give up their slabs, empty slabs go back. @returns slabs given back. */
export function shrinkCore(core: SlabCore, cpu: Cpu): number {
  const before = core.slabsFreed
  for (let id = 0; id < core.cpus.length; id++) flushCpuSlab(core, cpu, id)
  for (let node = 0; node < core.nodePartialHead.length; node++) {
    let slot = core.nodePartialHead[node]!
    while (slot >= 0) {
      const next = core.slabNext[slot]!
      if (core.slabInuse[slot] === 0) {
        removePartial(core, slot)
        discardSlab(core, cpu, slot)
      }
      slot = next
    }
  }
  return core.slabsFreed - before
}
