/**
 * TCP and pipes: received packets lend their pages, `splice_eof` sends what a sendfile held back, and before 6.5
 * `sendpage` queued one page at a time.
 */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import {
  MSG_SPLICE_PAGES,
  RCV_SHUTDOWN,
  type SkbSplicer,
  SOCKF_DONE,
  type Sock,
  sockError,
  sockFlag,
  type Task,
  TCP_CLOSE,
  TCP_LISTEN,
} from '@netmem/sockmem'
import { tcpEatRecvSkb } from './tcp-close.js'
import { lockSock, tcpReleaseSock } from './tcp-lock.js'
import { tcpRcvSpaceAdjust } from './tcp-rcvbuf.js'
import { tcpCleanupRbuf } from './tcp-recvmsg.js'
import { tcpPush, tcpSendMss, tcpSendmsgLocked } from './tcp-sendmsg.js'
import { TCPHDR_FIN, tcpFlags } from './tcp-skb.js'
import { type TcpSock, tcpSk } from './tcp-sock.js'
import { tcpWriteQueueTail } from './tcp-xmit.js'

/** Models `tcp_splice_read` (net/ipv4/tcp.c). @returns bytes, 0 at the end of the stream, or a negative errno; never sleeps. */
export function tcpSpliceRead(cpu: Cpu, task: Task, sk: Sock, splicer: SkbSplicer, len: number): number {
  lockSock(sk)
  let ret = len === 0 ? 0 : tcpReadSock(cpu, task, sk, splicer, len)
  if (ret === 0 && len > 0) ret = nothingToSplice(sk)
  tcpReleaseSock(cpu, sk)
  return ret
}

/** Why nothing came: 0 at the end, or a negative errno. */
function nothingToSplice(sk: Sock): number {
  if (sockFlag(sk, SOCKF_DONE)) return 0
  if (sk.err !== 0) return sockError(sk)
  if ((sk.shutdown & RCV_SHUTDOWN) !== 0) return 0
  return sk.state === TCP_CLOSE ? -ERRNO.ENOTCONN : -ERRNO.EAGAIN
}

/** Models `__tcp_read_sock` (net/ipv4/tcp.c) with `tcp_splice_data_recv`: packet by packet, as far as the pipe takes it. */
function tcpReadSock(cpu: Cpu, task: Task, sk: Sock, splicer: SkbSplicer, count: number): number {
  const tp = tcpSk(sk)
  if (sk.state === TCP_LISTEN) return -ERRNO.ENOTCONN
  let seq = tp.copiedSeq
  let left = count
  let copied = 0
  for (let skb = tcpRecvSkb(cpu, sk, seq); skb !== null; skb = tcpRecvSkb(cpu, sk, seq)) {
    const offset = (seq - skb.cb0) | 0
    if (offset < skb.len) {
      const len = untilUrgent(tp, seq, skb.len - offset)
      if (len === 0) break
      const used = splicer.skbSpliceBits(cpu, task, sk, skb, offset, Math.min(left, len))
      if (used <= 0) {
        if (copied === 0) copied = used
        break
      }
      left -= used
      seq = (seq + used) | 0
      copied += used
      if (offset + used !== skb.len) {
        if (left === 0) break
        continue
      }
    }
    const fin = (tcpFlags(skb) & TCPHDR_FIN) !== 0
    tcpEatRecvSkb(cpu, sk, skb, '__tcp_read_sock')
    if (fin) {
      seq = (seq + 1) | 0
      break
    }
    if (left === 0) break
    tp.copiedSeq = seq
  }
  tp.copiedSeq = seq
  tcpRcvSpaceAdjust(sk)
  if (copied > 0) {
    tcpRecvSkb(cpu, sk, seq)
    tcpCleanupRbuf(cpu, sk, copied)
  }
  return copied
}

/** Bytes before the urgent one, which a splice does not carry. */
function untilUrgent(tp: TcpSock, seq: number, len: number): number {
  if (tp.urgData === 0) return len
  return Math.min(len, (tp.urgSeq - seq) >>> 0)
}

/** Models `tcp_recv_skb`: the packet that holds byte `seq`, or whose FIN it is; packets before it are eaten. */
function tcpRecvSkb(cpu: Cpu, sk: Sock, seq: number): SkBuff | null {
  const { skbs } = sk.env.skbs
  while (sk.receiveQueue.first !== 0) {
    const skb = skbs[sk.receiveQueue.first]!
    if (((seq - skb.cb0) | 0) < skb.len || (tcpFlags(skb) & TCPHDR_FIN) !== 0) return skb
    tcpEatRecvSkb(cpu, sk, skb, 'tcp_recv_skb')
  }
  return null
}

/** Models `tcp_splice_eof` (net/ipv4/tcp.c). */
export function tcpSpliceEof(cpu: Cpu, sk: Sock): void {
  if (tcpWriteQueueTail(sk) === null) return
  const tp = tcpSk(sk)
  const state = tp.env.sendState
  lockSock(sk)
  tcpSendMss(sk, tp, state, 0)
  tcpPush(cpu, sk, tp, 0, state, tp.nonagle)
  tcpReleaseSock(cpu, sk)
}

/** Models `tcp_sendpage` and `do_tcp_sendpages` (net/ipv4/tcp.c, before 6.5). With MSG_SENDPAGE_NOTLAST nothing is pushed yet. */
export function tcpSendpage(
  cpu: Cpu,
  task: Task,
  sk: Sock,
  page: Pfn,
  offset: number,
  bytes: number,
  flags: number,
): number {
  const msg = tcpSk(sk).env.pageMsg.of(page, offset, bytes, flags | MSG_SPLICE_PAGES)
  lockSock(sk)
  const ret = tcpSendmsgLocked(cpu, task, sk, msg, true)
  tcpReleaseSock(cpu, sk)
  return ret
}
