/**
 * Unix datagrams and sequenced packets: one packet a message. A datagram may be refused because its receiver
 * has too many waiting (`net.unix.max_dgram_qlen`), but not between two sockets that are each other's peer.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  consumeSkb,
  kfreeSkb,
  type SkBuff,
  skbCopyDatagramIter,
  skbMaxAlloc,
  skbQueuePurge,
  skbQueueTail,
} from '@netmem/skbuff'
import {
  AF_UNIX,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  type Msg,
  type PeekOffset,
  RCV_SHUTDOWN,
  SOCK_SEQPACKET,
  SOCKF_DEAD,
  type Sock,
  skbRecvDatagram,
  skErrorReport,
  sockAllocSendPskb,
  sockError,
  TCP_CLOSE,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import { type UnixEnv, unixFindOther, unixPeer, unixPutPeer, unixRecvqFull, unixSk } from './unix-sock.js'
import { fillFromUser, unixFilterPasses } from './unix-stream.js'

const COSTLY_ORDER = 3

/** Models `unix_dgram_sendmsg` (net/unix/af_unix.c). @returns `len` or a negative errno; nothing is taken then. */
export function unixDgramSendmsg(unix: UnixEnv, cpu: Cpu, sk: Sock, msg: Msg, len: number): number {
  const { env } = sk
  const named = msg.name.family !== 0
  if ((msg.flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  if (named && msg.name.family !== AF_UNIX) return -ERRNO.EINVAL
  // Newer kernels look for the receiver only when the packet is made.
  const allocatesFirst = env.profile.features.unixDgramAllocatesFirst
  if (!allocatesFirst && !named && unixPeer(sk) === null) return -ERRNO.ENOTCONN
  if (len > sk.sndbuf - 32) return -ERRNO.EMSGSIZE
  const { pageSize } = env
  const maxAlloc = skbMaxAlloc(env.skbs.sizes)
  const over = Math.min(len - maxAlloc, env.profile.MAX_SKB_FRAGS * pageSize)
  const paged = over > 0 ? Math.min(len, Math.ceil(over / pageSize) * pageSize) : 0
  const skb = sockAllocSendPskb(cpu, sk, len - paged, paged, COSTLY_ORDER)
  if (skb === null) return env.lastError
  let err = fillFromUser(cpu, skb, msg, len, paged)
  if (err === 0) err = deliver(unix, cpu, sk, skb, msg, named)
  if (err < 0) {
    if (allocatesFirst) consumeSkb(cpu, skb, 'unix_dgram_sendmsg')
    else kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'unix_dgram_sendmsg')
    return err
  }
  return len
}

// Takes the packet when it returns 0.
function deliver(unix: UnixEnv, cpu: Cpu, sk: Sock, skb: SkBuff, msg: Msg, named: boolean): number {
  const other = named ? unixFindOther(unix, sk, msg.name) : unixPeer(sk)
  if (other === null) return named ? unix.socks.lastError : -ERRNO.ENOTCONN
  if (!unixFilterPasses(cpu, other, skb)) {
    // A filter that says no is no error to the sender.
    consumeSkb(cpu, skb, 'unix_dgram_sendmsg')
    return 0
  }
  const otherPeer = unixSk(other).peer
  if (otherPeer !== 0 && otherPeer !== sk.id) return -ERRNO.EPERM
  if ((other.flags & SOCKF_DEAD) !== 0) {
    if (sk.type === SOCK_SEQPACKET) return -ERRNO.EPIPE
    if (named) return -ERRNO.ECONNREFUSED
    sk.state = TCP_CLOSE
    unixDgramDisconnected(cpu, sk, other)
    unixPutPeer(cpu, sk)
    return -ERRNO.ECONNREFUSED
  }
  if ((other.shutdown & RCV_SHUTDOWN) !== 0) return -ERRNO.EPIPE
  if (other !== sk && otherPeer !== sk.id && unixRecvqFull(other)) return -ERRNO.EAGAIN
  skb.cb0 = 0
  skb.cb1 = sk.id
  skbQueueTail(other.receiveQueue, skb)
  other.dataReady(cpu, other)
  return 0
}

/** Models `unix_dgram_disconnected`: what came from the old peer is worth nothing any more. */
export function unixDgramDisconnected(cpu: Cpu, sk: Sock, other: Sock): void {
  if (sk.receiveQueue.first === 0) return
  const reason = sk.env.profile.features.unixDgramAllocatesFirst ? 'UNIX_DISCONNECT' : 'QUEUE_PURGE'
  skbQueuePurge(cpu, sk.receiveQueue, reason, 'unix_dgram_disconnected')
  if ((other.flags & SOCKF_DEAD) === 0 && unixSk(other).peer === sk.id) {
    other.err = ERRNO.ECONNRESET
    skErrorReport(cpu, other)
  }
}

/** Models `unix_dgram_recvmsg`. @returns bytes (with MSG_TRUNC all of them), or a negative errno. */
export function unixDgramRecvmsg(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  if ((flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  const off: PeekOffset = { offset: (flags & MSG_PEEK) !== 0 ? sk.peekOff : -1 }
  const skb = skbRecvDatagram(sk, flags, off)
  if (skb === null) {
    // Only a sequenced connection that is shut for reading ends; a datagram socket just has nothing for now.
    const ended = sk.type === SOCK_SEQPACKET && (sk.shutdown & RCV_SHUTDOWN) !== 0
    return ended && sk.env.lastError === -ERRNO.EAGAIN ? 0 : sk.env.lastError
  }
  const skip = Math.max(0, off.offset)
  const there = skb.len - skip
  const copied = Math.min(len, there)
  if (len < there) msg.msgFlags |= MSG_TRUNC
  let err = skbCopyDatagramIter(cpu, skb, skip, msg.iter, copied)
  if (err === 0) {
    if ((flags & MSG_PEEK) !== 0 && sk.peekOff >= 0) sk.peekOff += copied
    if (msg.wantName) {
      const from = sk.env.socks[skb.cb1]
      msg.name.family = AF_UNIX
      msg.name.path = from != null && from.family === AF_UNIX ? unixSk(from).path : ''
    }
    err = (flags & MSG_TRUNC) !== 0 ? there : copied
  }
  consumeSkb(cpu, skb, sk.env.profile.features.unixDgramAllocatesFirst ? '__unix_dgram_recvmsg' : 'skb_free_datagram')
  return err
}

/** Models `unix_seqpacket_sendmsg`. */
export function unixSeqpacketSendmsg(unix: UnixEnv, cpu: Cpu, sk: Sock, msg: Msg, len: number): number {
  const err = sockError(sk)
  if (err !== 0) return err
  if (sk.state !== TCP_ESTABLISHED) return -ERRNO.ENOTCONN
  msg.name.family = 0
  return unixDgramSendmsg(unix, cpu, sk, msg, len)
}

/** Models `unix_seqpacket_recvmsg`. */
export function unixSeqpacketRecvmsg(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  if (sk.state !== TCP_ESTABLISHED) return -ERRNO.ENOTCONN
  return unixDgramRecvmsg(cpu, sk, msg, len, flags)
}
