/** Proves for one slab cache that each object is in exactly one place and each slab on the list its state says. */

import { PG_SLAB } from './pages.js'
import {
  SLAB_CPU,
  SLAB_CPU_PARTIAL,
  SLAB_FULL,
  SLAB_NODE_PARTIAL,
  SLAB_UNUSED,
  SLAB_WORD_SLOTS,
  type SlabCore,
  slabWordCache,
} from './slab-core.js'

/** @throws Error naming the first broken law. */
export function auditSlab(core: SlabCore): void {
  const fail = (words: string): never => {
    throw new Error(`audit of slab cache ${core.name}: ${words}`)
  }
  const seen = new Uint8Array(core.slots << core.shift)
  const walk = (first: number, slot: number): number => {
    let count = 0
    for (let obj = first; obj >= 0; obj = core.next[obj]!) {
      if (obj >> core.shift !== slot) fail(`object ${obj} is on the list of slab ${slot}`)
      if (seen[obj] !== 0) fail(`object ${obj} is on two lists`)
      if (core.live[obj] !== 0) fail(`object ${obj} is on a list and handed out`)
      seen[obj] = 1
      count++
    }
    return count
  }
  const listed = new Uint8Array(core.slots)
  const expectState = (slot: number, state: number, where: string): void => {
    if (core.slabState[slot] !== state) fail(`slab ${slot} is ${where} and has state ${core.slabState[slot]}`)
    if (listed[slot] !== 0) fail(`slab ${slot} is on two lists`)
    listed[slot] = 1
  }
  for (let cpu = 0; cpu < core.cpus.length; cpu++) {
    const c = core.cpus[cpu]!
    const slot = c.slab
    if (slot >= 0) {
      expectState(slot, SLAB_CPU, `current on CPU ${cpu}`)
      walk(c.freelist, slot)
    } else if (c.freelist >= 0) fail(`CPU ${cpu} has free objects and no slab`)
    let partial = 0
    for (let s = c.partialHead; s >= 0; s = core.slabNext[s]!) {
      expectState(s, SLAB_CPU_PARTIAL, `partial on CPU ${cpu}`)
      partial++
    }
    if (partial !== c.partialCount) fail(`CPU ${cpu} counts ${c.partialCount} partial slabs and has ${partial}`)
  }
  for (let node = 0; node < core.nodePartialHead.length; node++) {
    let partial = 0
    for (let s = core.nodePartialHead[node]!; s >= 0; s = core.slabNext[s]!) {
      expectState(s, SLAB_NODE_PARTIAL, `partial on node ${node}`)
      if (core.slabNode[s] !== node) fail(`slab ${s} is on the list of another node`)
      partial++
    }
    if (partial !== core.nodePartialCount[node]) fail(`node ${node} counts its partial slabs wrong`)
  }
  const slabs = new Int32Array(core.nodeSlabs.length)
  for (let slot = 0; slot < core.slots; slot++) {
    const state = core.slabState[slot]!
    if (state === SLAB_UNUSED) continue
    slabs[core.slabNode[slot]!]!++
    if (state === SLAB_FULL && core.slabFreelist[slot]! >= 0) fail(`slab ${slot} is full and has free objects`)
    const free = walk(core.slabFreelist[slot]!, slot)
    const { pages } = core.mem
    const pfn = core.slabBase[slot]! >>> 12
    if (core.slabInuse[slot]! + free !== core.slabCount[slot])
      fail(`slab ${slot}: ${core.slabInuse[slot]} in use + ${free} free is not ${core.slabCount[slot]}`)
    if (
      (pages.flags[pfn]! & PG_SLAB) === 0 ||
      slabWordCache(pages.slab[pfn]!) !== core.id ||
      (pages.slab[pfn]! & SLAB_WORD_SLOTS) !== slot
    )
      fail(`slab ${slot}: its pages do not know it`)
    if (__ASSERT__) {
      const first = slot << core.shift
      for (let obj = first; obj < first + core.slabCount[slot]!; obj++)
        if (seen[obj] === core.live[obj]) fail(`object ${obj} is neither free nor handed out`)
    }
  }
  for (let node = 0; node < slabs.length; node++)
    if (slabs[node] !== core.nodeSlabs[node])
      fail(`node ${node} counts ${core.nodeSlabs[node]} slabs, has ${slabs[node]}`)
}
