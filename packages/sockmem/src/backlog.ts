/**
 * Packets that arrive while a task is inside a call on the socket wait on the backlog, and are processed when
 * the task lets go.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { type SkBuff, skbPfmemalloc } from '@netmem/skbuff'
import { SOCKF_MEMALLOC } from './constants.js'
import type { Sock } from './sock.js'

/** Models `lock_sock`: the caller owns the socket until `releaseSock`. */
export function lockSock(sk: Sock): void {
  sk.owned += 1
}

/** Models `release_sock` (net/core/sock.c): processes the backlog, then the protocol's deferred work. */
export function releaseSock(cpu: Cpu, sk: Sock): void {
  if (sk.owned === 1) {
    if (sk.backlogTail !== 0) releaseBacklog(cpu, sk)
    if (sk.proto.releaseCb !== null) sk.proto.releaseCb(cpu, sk)
  }
  sk.owned -= 1
}

/** Models `sock_owned_by_user`. */
export const sockOwnedByUser = (sk: Sock): boolean => sk.owned !== 0

/** Models `sk_rcvqueues_full`: both queues together over `limit` bytes. */
export const skRcvqueuesFull = (sk: Sock, limit: number): boolean => sk.backlogLen + sk.rmemAlloc > limit

/**
 * Models `sk_add_backlog` (include/net/sock.h).
 *
 * @returns 0 and takes the skb; -ENOBUFS when full, -ENOMEM for a packet from emergency reserves.
 */
export function skAddBacklog(sk: Sock, skb: SkBuff, limit: number): number {
  if (skRcvqueuesFull(sk, limit)) return -ERRNO.ENOBUFS
  if (skbPfmemalloc(skb) && (sk.flags & SOCKF_MEMALLOC) === 0) return -ERRNO.ENOMEM
  skb.next = 0
  if (sk.backlogTail === 0) sk.backlogHead = skb.id
  else sk.env.skbs.skbs[sk.backlogTail].next = skb.id
  sk.backlogTail = skb.id
  sk.backlogLen += skb.truesize
  return 0
}

/** Models `__release_sock`: new arrivals during the work are processed too; only then the length is zeroed. */
export function releaseBacklog(cpu: Cpu, sk: Sock): void {
  while (sk.backlogHead !== 0) {
    let id = sk.backlogHead
    sk.backlogHead = 0
    sk.backlogTail = 0
    while (id !== 0) {
      const skb = sk.env.skbs.skbs[id]
      id = skb.next
      skb.next = 0
      ;(sk.proto.backlogRcv as (cpu: Cpu, sk: Sock, skb: SkBuff) => void)(cpu, sk, skb)
    }
  }
  sk.backlogLen = 0
}

/** Models `__sk_flush_backlog` and `sk_flush_backlog`: processes what waits, in the middle of a long call. */
export function skFlushBacklog(cpu: Cpu, sk: Sock): boolean {
  if (sk.backlogTail === 0) return false
  releaseBacklog(cpu, sk)
  return true
}
