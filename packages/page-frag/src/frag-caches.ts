/**
 * The per-CPU caches of the network stack and who may use which: interrupt context has `netdev`, everything
 * that runs with bottom halves off shares `napi`. A cache belongs to its context, so neither needs a lock.
 */
import { type Addr, type Cpu, type Gfp, inHardirq, irqsDisabled } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { type PageFragCache, pageFragAllocAlign, pageFragCacheCreate } from './page-frag-cache.js'

/** Models the per-CPU variables `netdev_alloc_cache` and `napi_alloc_cache.page`, by CPU number. */
export class FragCaches {
  /** What a fragment asks for: `GFP_ATOMIC`, on 6.18 without a warning. */
  readonly gfp: Gfp
  readonly netdev: readonly PageFragCache[]
  readonly napi: readonly PageFragCache[]
  /** Cache line of the profile, to which pieces are rounded, in bytes. */
  readonly lineBytes: number

  constructor(mem: Memory, cpus: number) {
    const caches = () => Array.from({ length: cpus }, () => pageFragCacheCreate(mem))
    this.netdev = caches()
    this.napi = caches()
    this.lineBytes = mem.profile.SMP_CACHE_BYTES
    const { GFP_ATOMIC, NOWARN } = mem.gfp
    this.gfp = (mem.profile.features.pageFragCountsUp ? GFP_ATOMIC | NOWARN : GFP_ATOMIC) as Gfp
  }
}

/** @returns the caches of a machine with that many CPUs, all empty. */
export const fragCachesCreate = (mem: Memory, cpus: number): FragCaches => new FragCaches(mem, cpus)

/** Models `__napi_alloc_frag_align` (net/core/skbuff.c). Bottom halves must be off. @returns a piece or `NULL`. */
export function napiAllocFragAlign(caches: FragCaches, cpu: Cpu, bytes: number, align: number): Addr {
  const line = caches.lineBytes
  return pageFragAllocAlign(caches.napi[cpu.id]!, cpu, (bytes + line - 1) & -line, caches.gfp, align)
}

/** Models `napi_alloc_frag`: no alignment of its own; the size is still rounded to a cache line. */
export const napiAllocFrag = (caches: FragCaches, cpu: Cpu, bytes: number): Addr =>
  napiAllocFragAlign(caches, cpu, bytes, 1)

/** Models `__netdev_alloc_frag_align` (net/core/skbuff.c): any context. @returns a piece or `NULL`. */
export function netdevAllocFragAlign(caches: FragCaches, cpu: Cpu, bytes: number, align: number): Addr {
  const line = caches.lineBytes
  const nc = (inHardirq(cpu) || irqsDisabled(cpu) ? caches.netdev : caches.napi)[cpu.id]!
  return pageFragAllocAlign(nc, cpu, (bytes + line - 1) & -line, caches.gfp, align)
}

/** Models `netdev_alloc_frag`. */
export const netdevAllocFrag = (caches: FragCaches, cpu: Cpu, bytes: number): Addr =>
  netdevAllocFragAlign(caches, cpu, bytes, 1)
