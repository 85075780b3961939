/**
 * Buffers for sending that are charged from birth: to the send buffer, or to option memory.
 */
import { type Cpu, ERRNO, type Gfp } from '@netmem/base'
import { allocSkb, allocSkbWithFrags, type SkBuff, skbTruesize } from '@netmem/skbuff'
import { SEND_SHUTDOWN, SOCKF_NOSPACE } from './constants.js'
import { skbSetOwnerW } from './owner.js'
import { type Sock, sockError } from './sock.js'

/** Models `sk_wmem_alloc_get`: bytes in flight below the socket, without its own unit. */
export const skWmemAllocGet = (sk: Sock): number => sk.wmemAlloc - 1

/** Models `sk_rmem_alloc_get`. */
export const skRmemAllocGet = (sk: Sock): number => sk.rmemAlloc

/**
 * Models `sock_alloc_send_pskb` (net/core/sock.c): a packet charged to the sender once there is room. Room is asked for
 * before, so the last packet may go over. A caller that would sleep gets -EAGAIN and calls again later.
 *
 * @param headerBytes linear bytes; @param dataBytes bytes in pages; @param maxPageOrder of those pages.
 * @returns null with the errno in `env.lastError`: a waiting error, -EPIPE, -EAGAIN, -ENOBUFS or -EMSGSIZE.
 */
export function sockAllocSendPskb(
  cpu: Cpu,
  sk: Sock,
  headerBytes: number,
  dataBytes: number,
  maxPageOrder: number,
): SkBuff | null {
  const { env } = sk
  const err = sendRefused(sk)
  if (err !== 0) {
    env.lastError = err
    return null
  }
  const skb =
    dataBytes === 0
      ? allocSkb(env.skbs, cpu, headerBytes, sk.allocation as Gfp, 0, -1)
      : allocSkbWithFrags(env.skbs, cpu, headerBytes, dataBytes, maxPageOrder, sk.allocation as Gfp, env.allocError)
  if (skb === null) {
    env.lastError = dataBytes === 0 ? -ERRNO.ENOBUFS : env.allocError.errno
    return null
  }
  skbSetOwnerW(cpu, skb, sk)
  return skb
}

/** Models `sock_alloc_send_skb`. */
export const sockAllocSendSkb = (cpu: Cpu, sk: Sock, bytes: number): SkBuff | null =>
  sockAllocSendPskb(cpu, sk, bytes, 0, 0)

function sendRefused(sk: Sock): number {
  if (sk.err !== 0) return sockError(sk)
  if ((sk.shutdown & SEND_SHUTDOWN) !== 0) return -ERRNO.EPIPE
  if (sk.wmemAlloc - 1 < sk.sndbuf) return 0
  sk.flags |= SOCKF_NOSPACE
  return -ERRNO.EAGAIN
}

/**
 * Models `sock_wmalloc` (net/core/sock.c).
 *
 * @param force skips the question whether there is room.
 */
export function sockWmalloc(cpu: Cpu, sk: Sock, bytes: number, force: boolean, gfp: Gfp): SkBuff | null {
  if (!force && sk.wmemAlloc >= sk.sndbuf) return null
  const skb = allocSkb(sk.env.skbs, cpu, bytes, gfp, 0, -1)
  if (skb !== null) skbSetOwnerW(cpu, skb, sk)
  return skb
}

/** Models `sock_omalloc` (net/core/sock.c): a packet charged to option memory, as zero-copy notifications are. */
export function sockOmalloc(cpu: Cpu, sk: Sock, bytes: number, gfp: Gfp): SkBuff | null {
  const { env } = sk
  // The test uses what a packet of that size ought to cost; what it does cost is charged.
  if (sk.omemAlloc + skbTruesize(env.skbs.sizes, bytes) > sk.net.optmemMax[0]) return null
  const skb = allocSkb(env.skbs, cpu, bytes, gfp, 0, -1)
  if (skb === null) return null
  sk.omemAlloc += skb.truesize
  skb.sk = sk.id
  skb.destructor = env.sockOfree
  return skb
}
