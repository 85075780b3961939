/**
 * From the receive queue to the reader, packet by packet; then the ACK that tells the peer of the room.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { iovIterAdvance, iovIterCount, iterAddr } from '@netmem/memory'
import { type SkBuff, skbCopyDatagramIter } from '@netmem/skbuff'
import {
  MSG_ERRQUEUE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  type Msg,
  RCV_SHUTDOWN,
  SOCKF_DONE,
  SOCKF_URGINLINE,
  type Sock,
  skFlushBacklog,
  sockError,
  sockFlag,
  TCP_CLOSE,
  TCP_LISTEN,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
} from '@netmem/sockmem'
import { ipRecvError } from '../ip/ip-sockglue.js'
import { after, before } from './seq.js'
import { tcpEatRecvSkb } from './tcp-close.js'
import { tcpFastPathCheck } from './tcp-fast-path.js'
import { TCP_URG_VALID } from './tcp-input.js'
import { lockSock, tcpReleaseSock } from './tcp-lock.js'
import { tcpSendAck } from './tcp-output.js'
import { tcpRcvSpaceAdjust } from './tcp-rcvbuf.js'
import { TCPHDR_FIN, tcpFlags } from './tcp-skb.js'
import {
  ICSK_ACK_PUSHED,
  ICSK_ACK_PUSHED2,
  inetCskAckScheduled,
  type TcpSock,
  tcpReceiveWindow,
  tcpSk,
} from './tcp-sock.js'
import { tcpMstampRefresh } from './tcp-time.js'
import { tcpSelectWindowUnchecked } from './tcp-window.js'

/** Models `tcp_recvmsg` (net/ipv4/tcp.c). @returns bytes, 0 at the end of the stream, or a negative errno; never sleeps. */
export function tcpRecvmsg(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  if ((flags & MSG_ERRQUEUE) !== 0) return ipRecvError(cpu, sk, msg, len)
  lockSock(sk)
  const ret = tcpRecvmsgLocked(cpu, sk, msg, len, flags)
  tcpReleaseSock(cpu, sk)
  return ret
}

/** Models `sock_rcvlowat`: what a reader wants at least. */
function readTarget(sk: Sock, waitAll: boolean, len: number): number {
  const target = waitAll ? len : Math.min(sk.rcvlowat, len)
  return target === 0 ? 1 : target
}

/** Models `tcp_recvmsg_locked`. */
function tcpRecvmsgLocked(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  const tp = tcpSk(sk)
  if (sk.state === TCP_LISTEN) return -ERRNO.ENOTCONN
  if ((flags & MSG_OOB) !== 0) return tcpRecvUrg(sk, tp, msg, len, flags)
  const peek = (flags & MSG_PEEK) !== 0
  const peekOffset = peek ? Math.max(sk.peekOff, 0) : 0
  const target = readTarget(sk, (flags & MSG_WAITALL) !== 0, len)
  let seq = (tp.copiedSeq + peekOffset) | 0
  let left = len
  let copied = 0
  while (left > 0) {
    if (tp.urgData !== 0 && tp.urgSeq === seq && copied !== 0) break
    const skb = findSkb(sk, seq)
    if (skb === null) {
      if (copied >= target && sk.backlogTail !== 0) {
        skFlushBacklog(cpu, sk)
        continue
      }
      if (copied === 0) copied = nothingToRead(sk)
      break
    }
    const offset = (seq - skb.cb0) | 0
    if (offset >= skb.len) {
      // Only its FIN is left.
      if (!peek) {
        tp.copiedSeq = (seq + 1) | 0
        tcpEatRecvSkb(cpu, sk, skb, 'tcp_recvmsg_locked')
      }
      break
    }
    let used = Math.min(skb.len - offset, left)
    let skip = 0
    if (tp.urgData !== 0) {
      const urg = (tp.urgSeq - seq) >>> 0
      if (urg === 0 && !sockFlag(sk, SOCKF_URGINLINE)) {
        // The byte that was read apart is not part of the stream.
        skip = 1
        used -= 1
      } else if (urg !== 0 && urg < used) used = urg
    }
    if (used > 0) {
      if ((flags & MSG_TRUNC) === 0 && skbCopyDatagramIter(cpu, skb, offset + skip, msg.iter, used) !== 0) {
        if (copied === 0) copied = -ERRNO.EFAULT
        break
      }
      copied += used
      left -= used
    }
    seq = (seq + used + skip) | 0
    if (!peek) tp.copiedSeq = seq
    if (used > 0) {
      if (peek) sk.peekOff = sk.peekOff >= 0 ? sk.peekOff + used : sk.peekOff
      else if (sk.peekOff >= 0) sk.peekOff = Math.max(sk.peekOff - used, 0)
      tcpRcvSpaceAdjust(sk)
    }
    if (tp.urgData !== 0 && after(tp.copiedSeq, tp.urgSeq)) {
      tp.urgData = 0
      tcpFastPathCheck(sk)
    }
    if (used + skip + offset < skb.len) continue
    if ((tcpFlags(skb) & TCPHDR_FIN) !== 0) {
      if (!peek) {
        tp.copiedSeq = (seq + 1) | 0
        tcpEatRecvSkb(cpu, sk, skb, 'tcp_recvmsg_locked')
      }
      break
    }
    if (!peek) tcpEatRecvSkb(cpu, sk, skb, 'tcp_recvmsg_locked')
  }
  tcpCleanupRbuf(cpu, sk, copied)
  return copied
}

/** @returns the packet that holds byte `seq`, or whose FIN it is; null when that has not come yet. */
function findSkb(sk: Sock, seq: number): SkBuff | null {
  const { skbs } = sk.env.skbs
  for (let id = sk.receiveQueue.first; id !== 0; ) {
    const skb = skbs[id]!
    const offset = (seq - skb.cb0) | 0
    if (offset < 0) return null
    if (offset < skb.len || (offset === skb.len && (tcpFlags(skb) & TCPHDR_FIN) !== 0)) return skb
    id = skb.next
  }
  return null
}

/** Why a reader that does not wait gets nothing: 0 at the end, or a negative errno. */
function nothingToRead(sk: Sock): number {
  if (sockFlag(sk, SOCKF_DONE)) return 0
  if (sk.err !== 0) return sockError(sk)
  if ((sk.shutdown & RCV_SHUTDOWN) !== 0) return 0
  if (sk.state === TCP_CLOSE) return -ERRNO.ENOTCONN
  return -ERRNO.EAGAIN
}

/** Models `tcp_cleanup_rbuf` (net/ipv4/tcp.c): is it time for an ACK, now that the reader took bytes? */
export function tcpCleanupRbuf(cpu: Cpu, sk: Sock, copied: number): void {
  const tp = tcpSk(sk)
  let timeToAck = false
  if (inetCskAckScheduled(tp)) {
    const { ackPending } = tp
    timeToAck =
      ((tp.rcvNxt - tp.rcvWup) | 0) > tp.rcvMss ||
      (copied > 0 &&
        ((ackPending & ICSK_ACK_PUSHED2) !== 0 || ((ackPending & ICSK_ACK_PUSHED) !== 0 && tp.ackPingpong === 0)) &&
        sk.rmemAlloc === 0)
  }
  if (copied > 0 && !timeToAck && (sk.shutdown & RCV_SHUTDOWN) === 0) {
    const now = tcpReceiveWindow(tp)
    if (2 * now <= tp.windowClamp) {
      const next = tcpSelectWindowUnchecked(sk)
      timeToAck = next !== 0 && next >= 2 * now
    }
  }
  if (!timeToAck) return
  tcpMstampRefresh(tp)
  tcpSendAck(cpu, sk)
}

/** Models `tcp_recv_urg`: the one urgent byte. */
function tcpRecvUrg(sk: Sock, tp: TcpSock, msg: Msg, len: number, flags: number): number {
  const read = 0x0400
  if (sockFlag(sk, SOCKF_URGINLINE) || tp.urgData === 0 || tp.urgData === read) return -ERRNO.EINVAL
  if (sk.state === TCP_CLOSE && !sockFlag(sk, SOCKF_DONE)) return -ERRNO.ENOTCONN
  if ((tp.urgData & TCP_URG_VALID) === 0) return (sk.shutdown & RCV_SHUTDOWN) !== 0 ? 0 : -ERRNO.EAGAIN
  const byte = tp.urgData & 0xff
  if ((flags & MSG_PEEK) === 0) tp.urgData = read
  msg.msgFlags |= MSG_OOB
  if (len <= 0) {
    msg.msgFlags |= MSG_TRUNC
    return 0
  }
  if ((flags & MSG_TRUNC) === 0) {
    if (iovIterCount(msg.iter) === 0) return -ERRNO.EFAULT
    tp.env.mem.u8[iterAddr(msg.iter) >>> 0] = byte
    iovIterAdvance(msg.iter, 1)
  }
  return 1
}

/** Models `tcp_inq` (include/net/tcp.h): bytes that can be read now. */
export function tcpInq(sk: Sock): number {
  const tp = tcpSk(sk)
  if (sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV) return 0
  const plain =
    sockFlag(sk, SOCKF_URGINLINE) ||
    tp.urgData === 0 ||
    before(tp.urgSeq, tp.copiedSeq) ||
    !before(tp.urgSeq, tp.rcvNxt)
  if (!plain) return (tp.urgSeq - tp.copiedSeq) | 0
  const bytes = (tp.rcvNxt - tp.copiedSeq) | 0
  // The FIN is a number, not a byte.
  return bytes !== 0 && sockFlag(sk, SOCKF_DONE) ? bytes - 1 : bytes
}
