/**
 * Slabs that are neither full nor in use by a CPU: on the partial list of the CPU that freed into them, or on
 * that of their node.
 */
import type { Cpu } from '@netmem/base'
import { SLAB_CPU_PARTIAL, SLAB_FULL, SLAB_NODE_PARTIAL, type SlabCore } from './slab-core.js'
import { discardSlab } from './slab-pages.js'

/** Models `add_partial`. */
export function addPartial(core: SlabCore, slot: number, toTail: boolean): void {
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
export function removePartial(core: SlabCore, slot: number): void {
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
export function putCpuPartial(core: SlabCore, cpu: Cpu, slot: number, drain: boolean): void {
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
export function putPartial(core: SlabCore, cpu: Cpu, slot: number): void {
  const node = core.slabNode[slot]!
  if (core.slabInuse[slot] === 0 && core.nodePartialCount[node]! >= core.minPartial) discardSlab(core, cpu, slot)
  else addPartial(core, slot, true)
}
