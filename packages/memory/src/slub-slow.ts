/**
 * SLUB beyond the CPU's free list: where the next slab comes from, where objects of other slabs go, and when
 * slabs are taken from and given back to the page allocator. The order of every choice is the kernel's.
 */
import { type Addr, assert, type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, freePages } from './alloc-pages.js'
import { gfpPfmemallocAllowed } from './alloc-slow.js'
import {
  type KmemCacheCpu,
  SLAB_CPU,
  SLAB_CPU_PARTIAL,
  SLAB_FULL,
  SLAB_NODE_PARTIAL,
  SLAB_UNUSED,
  SLAB_WORD_ODD,
  SLAB_WORD_SHIFT,
  type SlabCore,
} from './kmem-cache.js'
import { SLAB_GROWTH_SITE } from './leaks.js'
import { PG_PFMEMALLOC, PG_SLAB } from './pages.js'

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

/** Models `add_partial`. */
function addPartial(core: SlabCore, slot: number, toTail: boolean): void {
  const node = core.slabNode[slot]!
  core.slabState[slot] = SLAB_NODE_PARTIAL
  core.nodePartialCount[node]!++
  const head = core.nodePartialHead[node]!
  const tail = core.nodePartialTail[node]!
  if (head < 0) {
    core.slabNext[slot] = -1
    core.slabPrev[slot] = -1
    core.nodePartialHead[node] = slot
    core.nodePartialTail[node] = slot
  } else if (toTail) {
    core.slabPrev[slot] = tail
    core.slabNext[slot] = -1
    core.slabNext[tail] = slot
    core.nodePartialTail[node] = slot
  } else {
    core.slabNext[slot] = head
    core.slabPrev[slot] = -1
    core.slabPrev[head] = slot
    core.nodePartialHead[node] = slot
  }
}

/** Models `remove_partial`. */
function removePartial(core: SlabCore, slot: number): void {
  const node = core.slabNode[slot]!
  const next = core.slabNext[slot]!
  const prev = core.slabPrev[slot]!
  if (prev < 0) core.nodePartialHead[node] = next
  else core.slabNext[prev] = next
  if (next < 0) core.nodePartialTail[node] = prev
  else core.slabPrev[next] = prev
  core.nodePartialCount[node]!--
  core.slabState[slot] = SLAB_FULL
}

/**
 * Models `put_cpu_partial`: the slab goes first on the CPU's partial list. A full list is first moved to the
 * node as a whole, when `drain` says so.
 */
function putCpuPartial(core: SlabCore, cpu: Cpu, slot: number, drain: boolean): void {
  const c = core.cpus[cpu.id]!
  let old = -1
  if (drain && c.partialCount >= core.cpuPartialSlabs) {
    old = c.partialHead
    c.partialHead = -1
    c.partialCount = 0
  }
  core.slabState[slot] = SLAB_CPU_PARTIAL
  core.slabNext[slot] = c.partialHead
  c.partialHead = slot
  c.partialCount++
  while (old >= 0) {
    const next = core.slabNext[old]!
    putPartial(core, cpu, old)
    old = next
  }
}

/** Models `__put_partials` for one slab: to its node's list, or back to the page allocator when empty and not needed. */
function putPartial(core: SlabCore, cpu: Cpu, slot: number): void {
  const node = core.slabNode[slot]!
  if (core.slabInuse[slot] === 0 && core.nodePartialCount[node]! >= core.minPartial) discardSlab(core, cpu, slot)
  else addPartial(core, slot, true)
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

/** Models `allocate_slab` and `new_slab`. @returns a slot whose objects are all free, -1 when there are no pages. */
function newSlab(core: SlabCore, cpu: Cpu, gfp: number, node: number): number {
  const mem = core.mem
  const g = mem.gfp
  const keep =
    g.DIRECT_RECLAIM |
    g.KSWAPD_RECLAIM |
    g.HIGH |
    g.ATOMIC |
    g.IO |
    g.FS |
    g.NOWARN |
    g.RETRY_MAYFAIL |
    g.NOFAIL |
    g.NORETRY |
    g.MEMALLOC |
    g.NOMEMALLOC |
    g.HARDWALL |
    g.THISNODE
  const flags = (gfp & keep) | core.allocGfp
  // The large slab is a wish: no warning, no second try. The smallest slab that will do is asked for in earnest.
  let wish = (flags | g.NOWARN | g.NORETRY) & ~g.NOFAIL
  if ((wish & g.DIRECT_RECLAIM) !== 0 && core.order > core.minOrder) wish = (wish | g.NOMEMALLOC) & ~g.DIRECT_RECLAIM
  let order = core.order
  let pfn = allocPages(mem, cpu, wish, order, node, SLAB_GROWTH_SITE)
  if (pfn === NO_PFN) {
    order = core.minOrder
    pfn = allocPages(mem, cpu, flags, order, node, SLAB_GROWTH_SITE)
    if (pfn === NO_PFN) return -1
  }
  return initSlab(core, pfn, order)
}

function initSlab(core: SlabCore, pfn: Pfn, order: number): number {
  const { pages } = core.mem
  const slot = takeSlot(core)
  const count = order === core.order ? core.objects : core.minObjects
  const base = pfn << 12
  const first = slot << core.shift
  for (let i = 0; i < count; i++) {
    core.next[first + i] = first + i + 1
    core.addr[first + i] = (base + i * core.size) | 0
    if (core.ctor !== null) core.ctor(core.addr[first + i]! as Addr)
  }
  core.next[first + count - 1] = -1
  core.slabBase[slot] = base
  core.slabFreelist[slot] = first
  core.slabInuse[slot] = 0
  core.slabCount[slot] = count
  core.slabOrder[slot] = order
  const node = core.mem.zones[pages.blockZone[pfn >>> 9]!]!.node
  core.slabNode[slot] = node
  core.slabState[slot] = SLAB_FULL
  core.slabPfmemalloc[slot] = (pages.flags[pfn]! & PG_PFMEMALLOC) !== 0 ? 1 : 0
  pages.flags[pfn]! |= PG_SLAB
  const word = (core.id << SLAB_WORD_SHIFT) | slot | (order === core.order ? 0 : SLAB_WORD_ODD)
  pages.slab.fill(word, pfn, pfn + (1 << order))
  core.nodeSlabs[node]!++
  core.nodeObjects[node]! += count
  core.slabsAllocated++
  if (core.onSlab !== null) core.onSlab(first, count)
  return slot
}

/** Models `discard_slab` and `free_slab`. */
export function discardSlab(core: SlabCore, cpu: Cpu, slot: number): void {
  const { mem } = core
  const pfn = (core.slabBase[slot]! >>> 12) as Pfn
  const order = core.slabOrder[slot]!
  const node = core.slabNode[slot]!
  core.nodeSlabs[node]!--
  core.nodeObjects[node]! -= core.slabCount[slot]!
  core.slabsFreed++
  core.slabState[slot] = SLAB_UNUSED
  core.slabNext[slot] = core.freeSlot
  core.freeSlot = slot
  mem.pages.slab.fill(0, pfn, pfn + (1 << order))
  mem.pages.flags[pfn]! &= ~PG_SLAB
  freePages(mem, cpu, pfn, order, '__free_slab')
}

function takeSlot(core: SlabCore): number {
  if (core.freeSlot >= 0) {
    const slot = core.freeSlot
    core.freeSlot = core.slabNext[slot]!
    return slot
  }
  if (core.slots === core.slabBase.length) growTables(core, Math.max(4, core.slots * 2))
  const slot = core.slots
  core.slots++
  assert(slot < 1 << 20, 'too many slabs in one cache')
  return slot
}

function growTables(core: SlabCore, slots: number): void {
  const objects = slots << core.shift
  core.next = grown(core.next, new Int32Array(objects))
  core.addr = grown(core.addr, new Int32Array(objects))
  core.live = grown(core.live, new Uint8Array(objects))
  core.slabBase = grown(core.slabBase, new Int32Array(slots))
  core.slabFreelist = grown(core.slabFreelist, new Int32Array(slots))
  core.slabInuse = grown(core.slabInuse, new Int32Array(slots))
  core.slabCount = grown(core.slabCount, new Int32Array(slots))
  core.slabOrder = grown(core.slabOrder, new Uint8Array(slots))
  core.slabNode = grown(core.slabNode, new Uint8Array(slots))
  core.slabState = grown(core.slabState, new Uint8Array(slots))
  core.slabPfmemalloc = grown(core.slabPfmemalloc, new Uint8Array(slots))
  core.slabNext = grown(core.slabNext, new Int32Array(slots))
  core.slabPrev = grown(core.slabPrev, new Int32Array(slots))
}

function grown<T extends Int32Array | Uint8Array>(old: T, larger: T): T {
  larger.set(old)
  return larger
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
