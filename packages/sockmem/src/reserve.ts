/** SO_RESERVE_MEM: pages that a socket pays for in advance and keeps while it is idle. */
import { type Cpu, ERRNO, type Gfp } from '@netmem/base'
import { skMemReclaim } from './mem-schedule.js'
import { memCgroupChargeSkmem, memCgroupSocketsEnabled, memCgroupUncharge } from './memcg.js'
import { skMemoryAllocated, skMemoryAllocatedAdd, skMemoryAllocatedSub, skMemPages } from './memory-allocated.js'
import type { Sock } from './sock.js'

/**
 * Models `sock_reserve_memory` (net/core/sock.c).
 *
 * @param bytes more than before; rounded up to pages.
 * @returns 0, -EOPNOTSUPP without a memory group that counts, -ENOMEM when the group or the pressure line refuses.
 */
export function sockReserveMemory(cpu: Cpu, sk: Sock, bytes: number): number {
  const { env } = sk
  if (!memCgroupSocketsEnabled(env) || sk.memcg === null || sk.proto.memory === null) return -ERRNO.ENOTSUP
  if (bytes === 0) return 0
  const pages = skMemPages(env, bytes)
  const gfp = (env.mem.gfp.GFP_KERNEL | env.mem.gfp.RETRY_MAYFAIL) as Gfp
  if (!memCgroupChargeSkmem(cpu, env, sk.memcg, pages, gfp)) return -ERRNO.ENOMEM
  skMemoryAllocatedAdd(cpu, sk, pages)
  if (skMemoryAllocated(sk) > sk.proto.sysctlMem[1]) {
    skMemoryAllocatedSub(cpu, sk, pages)
    memCgroupUncharge(cpu, env, sk.memcg, pages)
    return -ERRNO.ENOMEM
  }
  sk.forwardAlloc += pages << env.pageShift
  sk.reservedMem += pages << env.pageShift
  return 0
}

/** Models `sock_release_reserved_memory` (net/core/sock.c): whole pages only; @param bytes less than before. */
export function sockReleaseReservedMemory(cpu: Cpu, sk: Sock, bytes: number): void {
  sk.reservedMem -= bytes & -sk.env.pageSize
  skMemReclaim(cpu, sk)
}
