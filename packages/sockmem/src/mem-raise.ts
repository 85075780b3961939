/**
 * The decision whether a socket may take more pages from its protocol: everything that can say yes or no is
 * in one function, in the kernel's order, because the order is the behaviour.
 */
import { type Cpu, inSoftirq } from '@netmem/base'
import { SK_MEM_RECV, SK_MEM_SEND, SOCK_STREAM } from './constants.js'
import { memCgroupChargeSkmem, memCgroupSocketsEnabled, memCgroupUncharge } from './memcg.js'
import {
  skMemoryAllocated,
  skMemoryAllocatedAdd,
  skMemoryAllocatedSub,
  skMemPages,
  skSocketsAllocatedReadPositive,
} from './memory-allocated.js'
import {
  skEnterMemoryPressure,
  skHasMemoryPressure,
  skLeaveMemoryPressure,
  skUnderGlobalMemoryPressure,
  skUnderMemoryPressure,
} from './pressure.js'
import type { Sock } from './sock.js'
import { skStreamModerateSndbuf } from './stream-space.js'

/**
 * Models `__sk_mem_raise_allocated` (net/core/sock.c): takes `pages` from the protocol and from the socket's
 * memory group, or nothing.
 *
 * @param size the bytes that made it necessary, for the exception of streams at their send buffer.
 * @param kind SK_MEM_SEND or SK_MEM_RECV.
 * @returns true when the pages are the socket's.
 */
export function skMemRaiseAllocated(cpu: Cpu, sk: Sock, size: number, pages: number, kind: number): boolean {
  const { env, proto } = sk
  const limits = proto.sysctlMem
  const memcg = sk.memcg !== null && memCgroupSocketsEnabled(env) ? sk.memcg : null
  const charges = memcg !== null
  // Older kernels start from "charged", which shows only in whether a refused receive is traced.
  let charged = !env.profile.features.raiseChecksGlobalPressure

  skMemoryAllocatedAdd(cpu, sk, pages)
  const allocated = skMemoryAllocated(sk)

  let refused = false
  if (charges) {
    charged = memCgroupChargeSkmem(
      cpu,
      env,
      memcg,
      pages,
      inSoftirq(cpu) ? env.mem.gfp.GFP_ATOMIC : env.mem.gfp.GFP_KERNEL,
    )
    refused = !charged
  }

  if (!refused) {
    if (allocated <= limits[0]) {
      skLeaveMemoryPressure(cpu, sk)
      return true
    }
    if (allocated > limits[1]) skEnterMemoryPressure(cpu, sk)
    if (allocated <= limits[2] && (skHasMinimum(sk, kind) || skMayTakeFairShare(sk))) return true
  }

  if (kind === SK_MEM_SEND && sk.type === SOCK_STREAM) {
    skStreamModerateSndbuf(sk)
    // A stream above its send buffer will block anyway; refusing it here would make it fail instead.
    if (sk.wmemQueued + size >= sk.sndbuf) {
      if (charges && !charged) memCgroupChargeSkmem(cpu, env, memcg, pages, gfpNofail(cpu, sk))
      return true
    }
  }
  if (env.trace.sockExceedBufLimit !== null && (kind === SK_MEM_SEND || (kind === SK_MEM_RECV && charged)))
    env.trace.sockExceedBufLimit(cpu, sk.id, proto.name, allocated, kind)
  skMemoryAllocatedSub(cpu, sk, pages)
  if (charges && charged) memCgroupUncharge(cpu, env, memcg, pages)
  return false
}

/** The guarantee of `tcp_rmem[0]` and its siblings: whoever holds less than the minimum may take more. */
function skHasMinimum(sk: Sock, kind: number): boolean {
  if (kind === SK_MEM_RECV) return sk.rmemAlloc < skGetRmem0(sk)
  return (sk.type === SOCK_STREAM ? sk.wmemQueued : sk.wmemAlloc) < skGetWmem0(sk)
}

/** Above the first limit a socket may still grow while it holds less than an equal share of the third. */
function skMayTakeFairShare(sk: Sock): boolean {
  if (!skHasMemoryPressure(sk)) return false
  const pressed = sk.env.profile.features.raiseChecksGlobalPressure
    ? skUnderGlobalMemoryPressure(sk)
    : skUnderMemoryPressure(sk)
  if (!pressed) return true
  const held = skMemPages(sk.env, sk.wmemQueued + sk.rmemAlloc + sk.forwardAlloc)
  return sk.proto.sysctlMem[2] > skSocketsAllocatedReadPositive(sk) * held
}

/** Models `sk_get_rmem0`: receive memory that is never refused, in bytes. */
export const skGetRmem0 = (sk: Sock): number => sk.proto.rmemMin?.(sk.net) ?? 0

/** Models `sk_get_wmem0`: send memory that is never refused, in bytes. */
export const skGetWmem0 = (sk: Sock): number => sk.proto.wmemMin?.(sk.net) ?? 0

function gfpNofail(cpu: Cpu, sk: Sock) {
  const gfp = sk.env.mem.gfp
  return ((inSoftirq(cpu) ? gfp.GFP_ATOMIC : gfp.GFP_KERNEL) | gfp.NOFAIL) as typeof gfp.GFP_ATOMIC
}
