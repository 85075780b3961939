/** Slabs as pages: how a cache gets one from the page allocator, and how it gives it back. */
import { type Addr, assert, type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, freePages } from './alloc-pages.js'
import { SLAB_GROWTH_SITE } from './leaks.js'
import { PG_PFMEMALLOC, PG_SLAB } from './pages.js'
import { SLAB_FULL, SLAB_UNUSED, SLAB_WORD_ODD, SLAB_WORD_SHIFT, type SlabCore } from './slab-core.js'

/** Models `allocate_slab` and `new_slab`. @returns a slot whose objects are all free, -1 when there are no pages. */
export function newSlab(core: SlabCore, cpu: Cpu, gfp: number, node: number): number {
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
