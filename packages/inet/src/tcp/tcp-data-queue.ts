/**
 * Received data finds its place: in order into the receive queue, merged with the packet before it where the
 * memory allows, or out of order behind the hole; and refused when the socket or the protocol has no room.
 */
import type { Cpu } from '@netmem/base'
import {
  kfreeSkbPartial,
  kfreeSkbUnchecked,
  type SkBuff,
  type SkbDropReason,
  skbPeekTail,
  skbPullUnchecked,
  skbQueueEmpty,
  skbQueueLen,
  skbQueueTail,
  skbTryCoalesce,
} from '@netmem/skbuff'
import {
  SOCKF_DEAD,
  SOCKF_DONE,
  type Sock,
  skbSetOwnerR,
  skForcedMemSchedule,
  skMemCharge,
  skRmemSchedule,
  skUnderMemoryPressure,
  sockFlag,
} from '@netmem/sockmem'
import { after, before } from './seq.js'
import { tcpDropReason } from './tcp-challenge.js'
import { tcpDsackSet, tcpSackRemove } from './tcp-dsack.js'
import { tcpFastPathCheck } from './tcp-fast-path.js'
import { tcpFin } from './tcp-fin.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpDataQueueOfo, tcpOfoQueue } from './tcp-ofo.js'
import { tcpPruneOfoQueue, tcpPruneQueue } from './tcp-prune.js'
import { TCP_MAX_QUICKACKS, tcpEnterQuickackMode, tcpEventDataRecv } from './tcp-rcvbuf.js'
import { TCPCB_EOR, TCPHDR_FIN, tcpFlags, thBytes } from './tcp-skb.js'
import {
  BYTES_RECEIVED,
  ICSK_ACK_NOMEM,
  ICSK_ACK_NOW,
  inetCskScheduleAck,
  type TcpSock,
  tcpReceiveWindow,
  tcpSk,
} from './tcp-sock.js'

/** Models `tcp_rcv_nxt_update`. */
export function tcpRcvNxtUpdate(tp: TcpSock, seq: number): void {
  tp.counts[BYTES_RECEIVED]! += (seq - tp.rcvNxt) >>> 0
  tp.rcvNxt = seq
}

/** Models `tcp_can_ingest`: equality is fine, and the incoming packet's own size is not counted. */
export const tcpCanIngest = (sk: Sock): boolean => sk.rmemAlloc <= sk.rcvbuf

/** Models `tcp_try_rmem_schedule` (net/ipv4/tcp_input.c). @returns true when the packet may be queued. */
export function tcpTryRmemSchedule(cpu: Cpu, sk: Sock, skb: SkBuff, size: number): boolean {
  if (tcpCanIngest(sk) && skRmemSchedule(cpu, sk, skb, size)) return true
  if (!tcpPruneQueue(cpu, sk, skb)) return false
  while (!skRmemSchedule(cpu, sk, skb, size)) if (!tcpPruneOfoQueue(cpu, sk, skb)) return false
  return true
}

/**
 * Models `tcp_try_coalesce` (net/ipv4/tcp_input.c): appends `from` to `to` and charges what that costs.
 *
 * @returns true when the caller has only to free what is left of `from` (`kfreeSkbPartial`).
 */
export function tcpTryCoalesce(cpu: Cpu, sk: Sock, to: SkBuff, from: SkBuff): boolean {
  const { coalesced } = tcpSk(sk).env
  coalesced.fragstolen = false
  if (from.cb0 !== to.cb1 || (to.cb2 & TCPCB_EOR) !== 0) return false
  if (!skbTryCoalesce(cpu, to, from, coalesced)) return false
  sk.rmemAlloc += coalesced.deltaTruesize
  skMemCharge(sk, coalesced.deltaTruesize)
  incStats(sk, MIB.TCPRcvCoalesce)
  to.cb1 = from.cb1
  to.cb3 = from.cb3
  to.cb2 |= tcpFlags(from)
  return true
}

/** Models `tcp_queue_rcv`. @returns true when the packet was merged into the one before it. */
export function tcpQueueRcv(cpu: Cpu, sk: Sock, skb: SkBuff): boolean {
  const tail = skbPeekTail(sk.receiveQueue)
  const eaten = tail !== null && tcpTryCoalesce(cpu, sk, tail, skb)
  tcpRcvNxtUpdate(tcpSk(sk), skb.cb1)
  if (!eaten) {
    skbQueueTail(sk.receiveQueue, skb)
    skbSetOwnerR(cpu, skb, sk)
  }
  return eaten
}

/** Models `tcp_epollin_ready`: enough to read, or no room to wait for more. */
export function tcpEpollinReady(sk: Sock, target: number): boolean {
  const tp = tcpSk(sk)
  const avail = (tp.rcvNxt - tp.copiedSeq) | 0
  if (avail <= 0) return false
  return avail >= target || tcpRmemPressure(sk) || tcpReceiveWindow(tp) <= tp.rcvMss
}

/** Models `tcp_rmem_pressure`. */
export const tcpRmemPressure = (sk: Sock): boolean =>
  skUnderMemoryPressure(sk) || sk.rmemAlloc > sk.rcvbuf - (sk.rcvbuf >> 3)

/** Models `tcp_data_ready`. */
export function tcpDataReady(cpu: Cpu, sk: Sock): void {
  if (tcpEpollinReady(sk, sk.rcvlowat) || sockFlag(sk, SOCKF_DONE)) sk.dataReady(cpu, sk)
}

/** Models `tcp_data_queue` (net/ipv4/tcp_input.c). Takes the skb, whose data still begins at the TCP header. @param caller the calling kernel function. */
export function tcpDataQueue(cpu: Cpu, sk: Sock, skb: SkBuff, caller: string): void {
  const tp = tcpSk(sk)
  if (skb.cb0 === skb.cb1) {
    kfreeSkbUnchecked(cpu, skb, tp.env.freeSite(caller) ?? 'tcp_data_queue')
    return
  }
  skbPullUnchecked(skb, thBytes(skb.env.u8, skb.data >>> 0))
  tp.rx.dsack = 0
  if (skb.cb0 === tp.rcvNxt) {
    if (tcpReceiveWindow(tp) === 0 && !(skb.len === 0 && (tcpFlags(skb) & TCPHDR_FIN) !== 0)) {
      incStats(sk, MIB.TCPZeroWindowDrop)
      outOfWindow(cpu, sk, skb, 'TCP_ZEROWINDOW')
    } else queueInOrder(cpu, sk, tp, skb)
    return
  }
  if (!after(skb.cb1, tp.rcvNxt)) {
    // All of it is old: the peer missed our ACK.
    incStats(sk, MIB.DelayedACKLost)
    tcpDsackSet(sk, skb.cb0, skb.cb1)
    outOfWindow(cpu, sk, skb, 'TCP_OLD_DATA')
    return
  }
  if (!before(skb.cb0, (tp.rcvNxt + tcpReceiveWindow(tp)) | 0)) {
    outOfWindow(cpu, sk, skb, 'TCP_OVERWINDOW')
    return
  }
  if (before(skb.cb0, tp.rcvNxt)) {
    tcpDsackSet(sk, skb.cb0, tp.rcvNxt)
    if (tcpReceiveWindow(tp) === 0) {
      incStats(sk, MIB.TCPZeroWindowDrop)
      outOfWindow(cpu, sk, skb, 'TCP_ZEROWINDOW')
    } else queueInOrder(cpu, sk, tp, skb)
    return
  }
  tcpDataQueueOfo(cpu, sk, skb)
}

function outOfWindow(cpu: Cpu, sk: Sock, skb: SkBuff, reason: SkbDropReason): void {
  const tp = tcpSk(sk)
  tcpEnterQuickackMode(tp, TCP_MAX_QUICKACKS)
  inetCskScheduleAck(tp)
  tcpDropReason(cpu, sk, skb, reason, 'tcp_data_queue')
}

function queueInOrder(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff): void {
  if (!tcpTryRmemSchedule(cpu, sk, skb, skb.truesize)) {
    tp.ackPending |= ICSK_ACK_NOMEM | ICSK_ACK_NOW
    inetCskScheduleAck(tp)
    sk.dataReady(cpu, sk)
    if (skbQueueLen(sk.receiveQueue) !== 0 && skb.len !== 0) {
      incStats(sk, MIB.TCPRcvQDrop)
      tcpDropReason(cpu, sk, skb, 'PROTO_MEM', 'tcp_data_queue')
      return
    }
    // One packet always gets in, or the connection could never go on.
    skForcedMemSchedule(cpu, sk, skb.truesize)
  }
  const eaten = tcpQueueRcv(cpu, sk, skb)
  const stolen = tp.env.coalesced.fragstolen
  if (skb.len !== 0) tcpEventDataRecv(sk, skb)
  if ((tcpFlags(skb) & TCPHDR_FIN) !== 0) tcpFin(cpu, sk)
  if (!skbQueueEmpty(tp.outOfOrderQueue)) {
    tcpOfoQueue(cpu, sk)
    if (skbQueueEmpty(tp.outOfOrderQueue)) tp.ackPending |= ICSK_ACK_NOW
  }
  if (tp.rx.numSacks !== 0) tcpSackRemove(tp)
  tcpFastPathCheck(sk)
  if (eaten) kfreeSkbPartial(cpu, skb, stolen, 'tcp_data_queue')
  if (!sockFlag(sk, SOCKF_DEAD)) tcpDataReady(cpu, sk)
}
