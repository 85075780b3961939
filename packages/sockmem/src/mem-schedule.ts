/**
 * Scheduling, charging and giving back: a socket takes whole pages from its protocol, spends them byte by
 * byte, and returns every whole page it no longer needs.
 *
 * Invariant after each uncharge: `forwardAlloc < 4096 + reserved` (UDP keeps its own rule).
 */
import { assert, type Cpu, inSoftirq } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import { skbPfmemalloc } from '@netmem/skbuff'
import { SK_MEM_RECV, SK_MEM_SEND } from './constants.js'
import { skMemRaiseAllocated } from './mem-raise.js'
import { memCgroupChargeSkmem, memCgroupSocketsEnabled, memCgroupUncharge } from './memcg.js'
import { skMemoryAllocated, skMemoryAllocatedAdd, skMemoryAllocatedSub, skMemPages } from './memory-allocated.js'
import { skLeaveMemoryPressure, skUnderGlobalMemoryPressure } from './pressure.js'
import type { Sock } from './sock.js'
import { skUnusedReservedMem } from './unused-reserved.js'

// Hot path: nearly every charge is paid from forwardAlloc.

/** Models `sk_wmem_schedule`: makes sure that `size` bytes can be charged for sending. */
export function skWmemSchedule(cpu: Cpu, sk: Sock, size: number): boolean {
  if (sk.proto.memory === null) return true
  const delta = size - sk.forwardAlloc
  return delta <= 0 || skMemSchedule(cpu, sk, delta, SK_MEM_SEND)
}

/** Models `sk_rmem_schedule`: the same for receiving; packets from emergency reserves always may. */
export function skRmemSchedule(cpu: Cpu, sk: Sock, skb: SkBuff | null, size: number): boolean {
  if (sk.proto.memory === null) return true
  const delta = size - sk.forwardAlloc
  return delta <= 0 || skMemSchedule(cpu, sk, delta, SK_MEM_RECV) || (skb !== null && skbPfmemalloc(skb))
}

/** Models `sk_mem_charge`: spends `size` bytes of what was scheduled. */
export function skMemCharge(sk: Sock, size: number): void {
  if (sk.proto.memory !== null) sk.forwardAlloc -= size
}

/** Models `sk_mem_uncharge`: `size` bytes are free again; whole pages go back. */
export function skMemUncharge(cpu: Cpu, sk: Sock, size: number): void {
  if (sk.proto.memory === null) return
  sk.forwardAlloc += size
  skMemReclaim(cpu, sk)
}

/** Models `sk_mem_reclaim` (include/net/sock.h): gives back whole pages beyond what SO_RESERVE_MEM keeps. */
export function skMemReclaim(cpu: Cpu, sk: Sock): void {
  if (sk.proto.memory === null) return
  const reclaimable = sk.forwardAlloc - skUnusedReservedMem(sk)
  if (reclaimable >= sk.env.pageSize) skMemReclaimPages(cpu, sk, reclaimable)
}

// Cold path: once per page and more.

/**
 * Models `__sk_mem_schedule` (net/core/sock.c).
 *
 * @param size bytes that are lacking, not the size of the packet.
 */
export function skMemSchedule(cpu: Cpu, sk: Sock, size: number, kind: number): boolean {
  const { env, proto } = sk
  const pages = skMemPages(env, size)
  const memory = proto.memory
  // By hand where nothing can refuse: no group, no flag of pressure, and this CPU's part takes it. Benchmark: `rx.64B`.
  if (sk.memcg === null && proto.pressure === null && memory !== null) {
    const local = (memory.perCpu[cpu.id] + pages) | 0
    if (local < env.memPcpuRsv[0] && memory.pages <= proto.sysctlMem[0]) {
      memory.perCpu[cpu.id] = local
      sk.forwardAlloc += pages << env.pageShift
      return true
    }
  }
  sk.forwardAlloc += pages << env.pageShift
  if (skMemRaiseAllocated(cpu, sk, size, pages, kind)) return true
  sk.forwardAlloc -= pages << env.pageShift
  return false
}

/**
 * Models `__sk_mem_reclaim` (net/core/sock.c).
 *
 * @param amount bytes; only whole pages of it are given back.
 */
export function skMemReclaimPages(cpu: Cpu, sk: Sock, amount: number): void {
  const pages = amount >> sk.env.pageShift
  sk.forwardAlloc -= pages << sk.env.pageShift
  skMemReduceAllocated(cpu, sk, pages)
}

/** Models `__sk_mem_reduce_allocated` (net/core/sock.c); leaves pressure only below the first limit. */
export function skMemReduceAllocated(cpu: Cpu, sk: Sock, pages: number): void {
  skMemoryAllocatedSub(cpu, sk, pages)
  if (sk.memcg !== null && memCgroupSocketsEnabled(sk.env)) memCgroupUncharge(cpu, sk.env, sk.memcg, pages)
  if (skUnderGlobalMemoryPressure(sk) && skMemoryAllocated(sk) < sk.proto.sysctlMem[0]) skLeaveMemoryPressure(cpu, sk)
}

/** Models `sk_forced_mem_schedule` (net/core/sock.c): charges without asking any limit; for packets that must not fail. */
export function skForcedMemSchedule(cpu: Cpu, sk: Sock, size: number): void {
  const delta = size - sk.forwardAlloc
  if (delta <= 0) return
  const pages = skMemPages(sk.env, delta)
  sk.forwardAlloc += pages << sk.env.pageShift
  if (sk.proto.memory === null) return
  skMemoryAllocatedAdd(cpu, sk, pages)
  if (sk.memcg !== null && memCgroupSocketsEnabled(sk.env)) {
    const gfp = sk.env.mem.gfp
    const mask = ((inSoftirq(cpu) ? gfp.GFP_ATOMIC : gfp.GFP_KERNEL) | gfp.NOFAIL) as typeof gfp.GFP_ATOMIC
    memCgroupChargeSkmem(cpu, sk.env, sk.memcg, pages, mask)
  }
}

/** Models `sk_mem_reclaim_final`: what a socket that goes away still holds. */
export function skMemReclaimFinal(cpu: Cpu, sk: Sock): void {
  sk.reservedMem = 0
  skMemReclaim(cpu, sk)
  if (__ASSERT__) assert(sk.forwardAlloc < sk.env.pageSize, 'a page is left after the final reclaim')
}
