/**
 * Receiving one message from a queue: finding it, peeking at it, letting it go. Used by every datagram family
 * except UDP, whose queues have two ends.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { consumeSkb, kfreeSkb, type SkBuff, type SkbQueue, skbGet, skbUnlink } from '@netmem/skbuff'
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDHUP,
  EPOLLRDNORM,
  EPOLLWRBAND,
  EPOLLWRNORM,
  MSG_PEEK,
  RCV_SHUTDOWN,
  SHUTDOWN_MASK,
  SOCK_SEQPACKET,
  SOCKF_NOSPACE,
  SOCKF_SELECT_ERR_QUEUE,
  TCP_CLOSE,
  TCP_SYN_SENT,
} from './constants.js'
import { type Sock, sockError } from './sock.js'
import { sockWriteable } from './wakeup.js'

/** A peek offset that `MSG_PEEK` with SO_PEEK_OFF has advanced to; written by `skbTryRecvFromQueue`. */
export interface PeekOffset {
  offset: number
}

/**
 * Models `__skb_try_recv_from_queue` (net/core/datagram.c).
 *
 * @param off peek offset in and out: bytes to skip, then the rest inside the packet found.
 * @returns the packet: unlinked, or for MSG_PEEK with one more reference; null when there is none.
 */
export function skbTryRecvFromQueue(queue: SkbQueue, flags: number, off: PeekOffset): SkBuff | null {
  const peekOffOn = (flags & MSG_PEEK) !== 0 && off.offset >= 0
  let skip = off.offset
  for (let id = queue.first; id !== 0; ) {
    const skb = queue.env.skbs[id]
    if ((flags & MSG_PEEK) !== 0) {
      if (peekOffOn && skip >= skb.len && (skip !== 0 || skb.peeked)) {
        skip -= skb.len
        id = skb.next
        continue
      }
      skb.peeked = true
      skbGet(skb)
    } else skbUnlink(queue, skb)
    off.offset = skip
    return skb
  }
  return null
}

/**
 * Models `skb_recv_datagram` (net/core/datagram.c) without the wait: a caller that would sleep gets -EAGAIN,
 * also when the socket is shut down for reading, which only sleepers notice.
 *
 * @returns null with the errno in `env.lastError`.
 */
export function skbRecvDatagram(sk: Sock, flags: number, off: PeekOffset): SkBuff | null {
  const { env } = sk
  const err = sockError(sk)
  if (err !== 0) {
    env.lastError = err
    return null
  }
  const skb = skbTryRecvFromQueue(sk.receiveQueue, flags, off)
  if (skb === null) env.lastError = -ERRNO.EAGAIN
  return skb
}

/** Models `skb_free_datagram` (net/core/datagram.c). */
export function skbFreeDatagram(cpu: Cpu, skb: SkBuff): void {
  consumeSkb(cpu, skb, 'skb_free_datagram')
}

/** Models `__sk_queue_drop_skb` and `skb_kill_datagram`: a packet found bad while reading leaves the queue. */
export function skbKillDatagram(cpu: Cpu, sk: Sock, skb: SkBuff, flags: number): number {
  let err = 0
  if ((flags & MSG_PEEK) !== 0) {
    if (inQueue(sk.receiveQueue, skb)) {
      skbUnlink(sk.receiveQueue, skb)
      skb.users -= 1
    } else err = -ERRNO.ENOENT
  }
  sk.drops += 1
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_kill_datagram')
  return err
}

function inQueue(queue: SkbQueue, skb: SkBuff): boolean {
  return skb.next !== 0 || skb.prev !== 0 || queue.first === skb.id
}

/** Models `datagram_poll` (net/core/datagram.c). */
export function datagramPoll(sk: Sock): number {
  let mask = 0
  if (sk.err !== 0 || sk.errorQueue.first !== 0)
    mask |= EPOLLERR | ((sk.flags & SOCKF_SELECT_ERR_QUEUE) !== 0 ? EPOLLPRI : 0)
  if ((sk.shutdown & RCV_SHUTDOWN) !== 0) mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM
  if (sk.shutdown === SHUTDOWN_MASK) mask |= EPOLLHUP
  if (sk.receiveQueue.first !== 0) mask |= EPOLLIN | EPOLLRDNORM
  if (sk.type === SOCK_SEQPACKET) {
    if (sk.state === TCP_CLOSE) mask |= EPOLLHUP
    if (sk.state === TCP_SYN_SENT) return mask
  }
  if (sockWriteable(sk)) mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
  else sk.flags |= SOCKF_NOSPACE
  return mask
}
