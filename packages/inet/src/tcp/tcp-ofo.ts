/**
 * The out-of-order queue: packets beyond a hole, by sequence, overlaps cut out as they come in. When the hole
 * is filled they follow into the receive queue.
 *
 * Differs: the kernel keeps a tree with a pointer to its last packet, here it is a list searched from the end.
 * The order, and so every decision, is the same.
 */
import type { Cpu } from '@netmem/base'
import {
  gsoSegs,
  kfreeSkbPartial,
  type SkBuff,
  setGsoSegs,
  skbCondense,
  skbPeek,
  skbPeekTail,
  skbQueueAfter,
  skbQueueBefore,
  skbQueueEmpty,
  skbQueueHead,
  skbQueueTail,
  skbUnlink,
} from '@netmem/skbuff'
import { type Sock, skbSetOwnerR } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { tcpDropReason } from './tcp-challenge.js'
import { tcpRcvNxtUpdate, tcpTryCoalesce, tcpTryRmemSchedule } from './tcp-data-queue.js'
import { tcpDsackExtend, tcpDsackSet, tcpSackNewOfoSkb } from './tcp-dsack.js'
import { tcpFin } from './tcp-fin.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpGrowWindow, tcpMeasureRcvMss, tcpRcvbufGrow } from './tcp-rcvbuf.js'
import { TCPHDR_FIN, tcpFlags } from './tcp-skb.js'
import { inetCskScheduleAck, type TcpSock, tcpIsSack, tcpSk } from './tcp-sock.js'

/** Models `tcp_ofo_queue` (net/ipv4/tcp_input.c): the hole is filled, what follows becomes readable. */
export function tcpOfoQueue(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const dsackHigh = tp.rcvNxt
  for (let skb = skbPeek(tp.outOfOrderQueue); skb !== null; skb = skbPeek(tp.outOfOrderQueue)) {
    if (after(skb.cb0, tp.rcvNxt)) break
    if (before(skb.cb0, dsackHigh)) tcpDsackExtend(sk, skb.cb0, before(skb.cb1, dsackHigh) ? skb.cb1 : dsackHigh)
    skbUnlink(tp.outOfOrderQueue, skb)
    if (!after(skb.cb1, tp.rcvNxt)) {
      tcpDropReason(cpu, sk, skb, 'TCP_OFO_DROP', 'tcp_ofo_queue')
      continue
    }
    const tail = skbPeekTail(sk.receiveQueue)
    const eaten = tail !== null && tcpTryCoalesce(cpu, sk, tail, skb)
    tcpRcvNxtUpdate(tp, skb.cb1)
    const fin = (tcpFlags(skb) & TCPHDR_FIN) !== 0
    if (eaten) kfreeSkbPartial(cpu, skb, tp.env.coalesced.fragstolen, 'tcp_ofo_queue')
    else skbQueueTail(sk.receiveQueue, skb)
    if (fin) {
      // The rest of the queue went with it.
      tcpFin(cpu, sk)
      break
    }
  }
}

/** Models `tcp_ooo_try_coalesce`: a later drop must count the segments of both. */
function oooTryCoalesce(cpu: Cpu, sk: Sock, to: SkBuff, from: SkBuff): boolean {
  if (!tcpTryCoalesce(cpu, sk, to, from)) return false
  setGsoSegs(to, Math.min(Math.max(1, gsoSegs(to)) + Math.max(1, gsoSegs(from)), 0xffff))
  return true
}

/** Models `tcp_data_queue_ofo` (net/ipv4/tcp_input.c). Takes the skb. */
export function tcpDataQueueOfo(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  if (!tcpTryRmemSchedule(cpu, sk, skb, skb.truesize)) {
    incStats(sk, MIB.TCPOFODrop)
    sk.dataReady(cpu, sk)
    tcpDropReason(cpu, sk, skb, 'PROTO_MEM', 'tcp_data_queue_ofo')
    return
  }
  tcpMeasureRcvMss(sk, skb)
  tp.predFlags = 0
  inetCskScheduleAck(tp)
  tp.rcvOoopack += Math.max(1, gsoSegs(skb))
  incStats(sk, MIB.TCPOFOQueue)
  const seq = skb.cb0
  const endSeq = skb.cb1
  if (skbQueueEmpty(tp.outOfOrderQueue)) {
    if (tcpIsSack(tp)) {
      tp.rx.numSacks = 1
      tp.selectiveAcks[0] = seq
      tp.selectiveAcks[1] = endSeq
    }
    skbQueueTail(tp.outOfOrderQueue, skb)
    ofoQueued(cpu, sk, tp, skb)
  } else {
    const queued = ofoInsert(cpu, sk, tp, skb)
    if (tcpIsSack(tp)) tcpSackNewOfoSkb(cpu, sk, seq, endSeq)
    if (queued) ofoQueued(cpu, sk, tp, skb)
  }
  // A connection that nobody accepted yet, or an orphan, gets no larger buffer.
  if (tp.env.features.tcpRcvQueueAware && sk.socket !== 0) tcpRcvbufGrow(sk, tp.rcvqSpace)
}

function ofoQueued(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff): void {
  if (tcpIsSack(tp)) tcpGrowWindow(sk, skb, false)
  skbCondense(cpu, skb)
  skbSetOwnerR(cpu, skb, sk)
}

function ofoCoalesced(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff): void {
  if (tcpIsSack(tp)) tcpGrowWindow(sk, skb, true)
  kfreeSkbPartial(cpu, skb, tp.env.coalesced.fragstolen, 'tcp_data_queue_ofo')
}

/** @returns true when the packet is in the queue; false when it was merged or dropped. */
function ofoInsert(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff): boolean {
  const list = tp.outOfOrderQueue
  const { skbs } = tp.env.skbs
  const seq = skb.cb0
  const endSeq = skb.cb1
  const last = skbPeekTail(list)!
  if (oooTryCoalesce(cpu, sk, last, skb)) {
    ofoCoalesced(cpu, sk, tp, skb)
    return false
  }
  // The last packet that begins before this one, or with it.
  let prev: SkBuff | null = last
  if (before(seq, last.cb1))
    while (prev !== null && before(seq, prev.cb0)) prev = prev.prev === 0 ? null : skbs[prev.prev]!
  if (prev !== null && before(seq, prev.cb1)) {
    if (!after(endSeq, prev.cb1)) {
      // Nothing new in it.
      incStats(sk, MIB.TCPOFOMerge)
      tcpDropReason(cpu, sk, skb, 'TCP_OFOMERGE', 'tcp_data_queue_ofo')
      tcpDsackSet(sk, seq, endSeq)
      return false
    }
    if (after(seq, prev.cb0)) tcpDsackSet(sk, seq, prev.cb1)
    else {
      // It covers the one that began with it.
      tcpDsackExtend(sk, prev.cb0, prev.cb1)
      incStats(sk, MIB.TCPOFOMerge)
      skbQueueBefore(list, prev, skb)
      skbUnlink(list, prev)
      tcpDropReason(cpu, sk, prev, 'TCP_OFOMERGE', 'tcp_data_queue_ofo')
      mergeRight(cpu, sk, tp, skb, endSeq)
      return true
    }
  } else if (prev !== null && prev !== last && oooTryCoalesce(cpu, sk, prev, skb)) {
    ofoCoalesced(cpu, sk, tp, skb)
    return false
  }
  if (prev === null) skbQueueHead(list, skb)
  else skbQueueAfter(list, prev, skb)
  mergeRight(cpu, sk, tp, skb, endSeq)
  return true
}

/** Drops packets behind that the new one covers. */
function mergeRight(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, endSeq: number): void {
  const { skbs } = tp.env.skbs
  while (skb.next !== 0) {
    const next = skbs[skb.next]!
    if (!after(endSeq, next.cb0)) return
    if (before(endSeq, next.cb1)) {
      tcpDsackExtend(sk, next.cb0, endSeq)
      return
    }
    skbUnlink(tp.outOfOrderQueue, next)
    tcpDsackExtend(sk, next.cb0, next.cb1)
    incStats(sk, MIB.TCPOFOMerge)
    tcpDropReason(cpu, sk, next, 'TCP_OFOMERGE', 'tcp_data_queue_ofo')
  }
}
