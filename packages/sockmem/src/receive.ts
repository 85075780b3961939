/**
 * Queueing a received packet the plain way, as raw, ICMP, packet and netlink sockets do. UDP and TCP have
 * rules of their own.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { type SkBuff, type SkbDropReason, skbQueueTail } from '@netmem/skbuff'
import { SOCKF_DEAD, SOCKF_RXQ_OVFL } from './constants.js'
import { skRmemSchedule } from './mem-schedule.js'
import { skbSetOwnerR } from './owner.js'
import { skFilter } from './sk-filter.js'
import type { Sock } from './sock.js'

/**
 * Models `__sock_queue_rcv_skb` (net/core/sock.c).
 *
 * @returns 0 and takes the skb; -ENOMEM when the receive buffer is full, -ENOBUFS when the protocol is, and the skb stays
 * the caller's.
 */
export function sockQueueRcvSkbUnfiltered(cpu: Cpu, sk: Sock, skb: SkBuff): number {
  if (sk.rmemAlloc >= sk.rcvbuf) {
    sk.drops += 1
    const { trace } = sk.env
    if (trace.sockRcvqueueFull !== null) trace.sockRcvqueueFull(cpu, sk.id, sk.rmemAlloc, skb.truesize, sk.rcvbuf)
    return -ERRNO.ENOMEM
  }
  if (!skRmemSchedule(cpu, sk, skb, skb.truesize)) {
    sk.drops += 1
    return -ERRNO.ENOBUFS
  }
  skb.dev = 0
  skbSetOwnerR(cpu, skb, sk)
  sockSkbSetDropcount(sk, skb)
  skbQueueTail(sk.receiveQueue, skb)
  if ((sk.flags & SOCKF_DEAD) === 0) sk.dataReady(cpu, sk)
  return 0
}

/** Models `sock_queue_rcv_skb_reason`: the filter first. */
export function sockQueueRcvSkb(cpu: Cpu, sk: Sock, skb: SkBuff): number {
  const err = skFilter(cpu, sk, skb)
  return err !== 0 ? err : sockQueueRcvSkbUnfiltered(cpu, sk, skb)
}

/** The reason that goes with a refusal of `sockQueueRcvSkb`. */
export const queueRcvDropReason = (err: number): SkbDropReason =>
  err === -ERRNO.ENOMEM ? 'SOCKET_RCVBUFF' : err === -ERRNO.ENOBUFS ? 'PROTO_MEM' : 'SOCKET_FILTER'

/** Models `sock_skb_set_dropcount`: SO_RXQ_OVFL tells the drops as they were when this packet was queued. */
export function sockSkbSetDropcount(sk: Sock, skb: SkBuff): void {
  skb.cb11 = (sk.flags & SOCKF_RXQ_OVFL) !== 0 ? sk.drops : 0
}
