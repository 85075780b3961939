/** The SACK state of a receiver: what it tells the sender about packets beyond a hole, and about duplicates. */
import type { Cpu } from '@netmem/base'
import { skbQueueEmpty } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { incStats, MIB } from './tcp-mib.js'
import { TCP_NUM_SACKS, type TcpSock, tcpIsSack, tcpSk } from './tcp-sock.js'
import { tcpSackCompressSendAck } from './tcp-timer.js'

/** Models `TCP_SACK_BLOCKS_EXPECTED`: more ranges than this and the ACK does not wait. */
const TCP_SACK_BLOCKS_EXPECTED = 2

/** Models `tcp_sack_extend`: do the ranges touch? Then range `i` of `sp` takes both. */
function sackExtend(sp: Int32Array, i: number, seq: number, endSeq: number): boolean {
  if (after(seq, sp[2 * i + 1]!) || after(sp[2 * i]!, endSeq)) return false
  if (before(seq, sp[2 * i]!)) sp[2 * i] = seq
  if (after(endSeq, sp[2 * i + 1]!)) sp[2 * i + 1] = endSeq
  return true
}

/** Models `tcp_dsack_set`: the next ACK reports this range as received twice. */
export function tcpDsackSet(sk: Sock, seq: number, endSeq: number): void {
  const tp = tcpSk(sk)
  if (!tcpIsSack(tp) || tp.ctl.dsack[0] === 0) return
  incStats(sk, before(seq, tp.rcvNxt) ? MIB.TCPDSACKOldSent : MIB.TCPDSACKOfoSent)
  tp.rx.dsack = 1
  tp.duplicateSackSeq = seq
  tp.duplicateSackEnd = endSeq
}

/** Models `tcp_dsack_extend`. */
export function tcpDsackExtend(sk: Sock, seq: number, endSeq: number): void {
  const tp = tcpSk(sk)
  if (tp.rx.dsack === 0) tcpDsackSet(sk, seq, endSeq)
  else if (!after(seq, tp.duplicateSackEnd) && !after(tp.duplicateSackSeq, endSeq)) {
    if (before(seq, tp.duplicateSackSeq)) tp.duplicateSackSeq = seq
    if (after(endSeq, tp.duplicateSackEnd)) tp.duplicateSackEnd = endSeq
  }
}

/** Models `tcp_sack_new_ofo_skb`: the latest range comes first. */
export function tcpSackNewOfoSkb(cpu: Cpu, sk: Sock, seq: number, endSeq: number): void {
  const tp = tcpSk(sk)
  const sp = tp.selectiveAcks
  const count = tp.rx.numSacks
  for (let i = 0; i < count; i++) {
    if (!sackExtend(sp, i, seq, endSeq)) continue
    if (i >= TCP_SACK_BLOCKS_EXPECTED) tcpSackCompressSendAck(cpu, sk)
    moveToFront(sp, i)
    if (count > 1) maybeCoalesce(tp)
    return
  }
  if (count >= TCP_SACK_BLOCKS_EXPECTED) tcpSackCompressSendAck(cpu, sk)
  // No room: the oldest report is forgotten.
  const kept = Math.min(count, TCP_NUM_SACKS - 1)
  sp.copyWithin(2, 0, 2 * kept)
  sp[0] = seq
  sp[1] = endSeq
  tp.rx.numSacks = kept + 1
}

function moveToFront(sp: Int32Array, i: number): void {
  const start = sp[2 * i]!
  const end = sp[2 * i + 1]!
  sp.copyWithin(2, 0, 2 * i)
  sp[0] = start
  sp[1] = end
}

/** Models `tcp_sack_maybe_coalesce`: the first range may have grown into others. */
function maybeCoalesce(tp: TcpSock): void {
  const sp = tp.selectiveAcks
  for (let i = 1; i < tp.rx.numSacks; ) {
    if (sackExtend(sp, 0, sp[2 * i]!, sp[2 * i + 1]!)) removeRange(tp, i)
    else i++
  }
}

function removeRange(tp: TcpSock, i: number): void {
  tp.selectiveAcks.copyWithin(2 * i, 2 * i + 2, 2 * tp.rx.numSacks)
  tp.rx.numSacks--
}

/** Models `tcp_sack_remove`: `rcv_nxt` moved over some ranges. */
export function tcpSackRemove(tp: TcpSock): void {
  if (skbQueueEmpty(tp.outOfOrderQueue)) {
    tp.rx.numSacks = 0
    return
  }
  for (let i = 0; i < tp.rx.numSacks; ) {
    if (!before(tp.rcvNxt, tp.selectiveAcks[2 * i]!)) removeRange(tp, i)
    else i++
  }
}

/** Models `tcp_sack_reset`. */
export function tcpSackReset(tp: TcpSock): void {
  tp.rx.dsack = 0
  tp.rx.numSacks = 0
}
