/**
 * A protocol's page count and this CPU's part of it. Charging touches only the CPU's own number until that
 * reaches the reserve; then all of it moves. Limits see the shared number alone, so up to one reserve per
 * CPU goes unnoticed.
 */
import type { Cpu } from '@netmem/base'
import type { ProtoMemory } from './proto.js'
import type { Sock } from './sock.js'
import type { SockEnv } from './sock-env.js'

/** Models `sk_has_account`: whether this socket's protocol counts memory at all. */
export const skHasAccount = (sk: Sock): boolean => sk.proto.memory !== null

/** Models `sk_mem_pages`: bytes in whole pages, rounded up. */
export const skMemPages = (env: SockEnv, bytes: number): number => (bytes + env.pageSize - 1) >> env.pageShift

/** Models `sk_prot_mem_limits`: a limit in pages; `index` 0 low, 1 pressure, 2 high. */
export const skProtMemLimits = (sk: Sock, index: number): number => sk.proto.sysctlMem[index]

/** Models `sk_memory_allocated`: pages, per-CPU parts left out, never negative. */
export function skMemoryAllocated(sk: Sock): number {
  const pages = (sk.proto.memory as ProtoMemory).pages
  return Math.max(pages, 0)
}

/** Models `sk_memory_allocated_add` (include/net/sock.h): all of this CPU's part moves once it reaches the reserve. */
export function skMemoryAllocatedAdd(cpu: Cpu, sk: Sock, pages: number): void {
  const memory = sk.proto.memory as ProtoMemory
  const local = memory.perCpu[cpu.id] + pages
  if (local >= sk.env.memPcpuRsv[0]) {
    memory.pages += local
    memory.perCpu[cpu.id] = 0
  } else memory.perCpu[cpu.id] = local
}

/** Models `sk_memory_allocated_sub` (include/net/sock.h). */
export function skMemoryAllocatedSub(cpu: Cpu, sk: Sock, pages: number): void {
  const memory = sk.proto.memory as ProtoMemory
  const local = memory.perCpu[cpu.id] - pages
  if (local <= -sk.env.memPcpuRsv[0]) {
    memory.pages += local
    memory.perCpu[cpu.id] = 0
  } else memory.perCpu[cpu.id] = local
}

/** Models `sk_sockets_allocated_inc`. */
export function skSocketsAllocatedInc(cpu: Cpu, sk: Sock): void {
  if (sk.proto.socketsAllocated !== null) sk.proto.socketsAllocated.add(cpu, 1, counterBatch(sk))
}

/** Models `sk_sockets_allocated_dec`. */
export function skSocketsAllocatedDec(cpu: Cpu, sk: Sock): void {
  if (sk.proto.socketsAllocated !== null) sk.proto.socketsAllocated.add(cpu, -1, counterBatch(sk))
}

/** Models `percpu_counter_batch`. */
const counterBatch = (sk: Sock): number => Math.max(32, 2 * sk.env.cpus.length)

/** Models `sk_sockets_allocated_read_positive`: what CPUs have folded in, which lags behind by up to a batch each. */
export const skSocketsAllocatedReadPositive = (sk: Sock): number => Math.max(sk.proto.socketsAllocated?.count ?? 0, 0)
