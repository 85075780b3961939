/**
 * Option memory: what a socket may hold for options, filters and control messages, at most
 * `net.core.optmem_max` bytes.
 */
import { type Addr, type Cpu, type Gfp, NULL } from '@netmem/base'
import { kfree, kmalloc } from '@netmem/memory'
import type { Sock } from './sock.js'

/** Models `sock_kmalloc` (net/core/sock.c). The limit is strict: what would reach it is refused. @returns NULL when refused. */
export function sockKmalloc(cpu: Cpu, sk: Sock, bytes: number, gfp: Gfp): Addr {
  const max = sk.net.optmemMax[0]
  if (bytes > max || sk.omemAlloc + bytes >= max) return NULL
  const addr = kmalloc(sk.env.mem, cpu, bytes, gfp, 'sock_kmalloc')
  if (addr !== NULL) sk.omemAlloc += bytes
  return addr
}

/** Models `sock_kfree_s`. @param bytes as given to `sockKmalloc`. */
export function sockKfreeS(cpu: Cpu, sk: Sock, addr: Addr, bytes: number): void {
  kfree(sk.env.mem, cpu, addr, 'sock_kfree_s')
  sk.omemAlloc -= bytes
}
