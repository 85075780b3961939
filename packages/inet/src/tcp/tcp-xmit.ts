/**
 * What leaves the write queue, and when: congestion window, the peer's window, Nagle, corking, the size of a
 * segmentation packet, and how much of ours may wait in the layers below.
 */
import { assert, type Cpu, type Gfp } from '@netmem/base'
import {
  type SkBuff,
  skbPeek,
  skbPeekTail,
  skbQueueEmpty,
  skbQueueIsLast,
  skbQueueTail,
  skbShift,
  skbUnlink,
} from '@netmem/skbuff'
import { type Sock, TCP_CLOSE } from '@netmem/sockmem'
import { after } from './seq.js'
import { tcpCwndValidate } from './tcp-cong.js'
import { TCP_TIMER_PACING } from './tcp-env.js'
import { tsoFragment } from './tcp-fragment.js'
import { addStats, MIB } from './tcp-mib.js'
import { tcpCurrentMss } from './tcp-mss.js'
import { tcpMtuProbe } from './tcp-mtu-probe.js'
import { tcpTransmitSkb } from './tcp-output.js'
import { tcpWmemFreeSkb } from './tcp-queue.js'
import { tcpScheduleLossProbe } from './tcp-retransmit.js'
import { TCPCB_EOR, TCPHDR_FIN, tcpFlags, tcpSetSkbTsoSegs, tcpSkbCanCollapse, tcpSkbPcount } from './tcp-skb.js'
import {
  ICSK_TIME_LOSS_PROBE,
  ICSK_TIME_PROBE0,
  TCP_CA_RECOVERY,
  TCP_NAGLE_CORK,
  TCP_NAGLE_PUSH,
  type TcpSock,
  TSQ_THROTTLED,
  tcpInCwndReduction,
  tcpPacketsInFlight,
  tcpSk,
  tcpWndEnd,
} from './tcp-sock.js'
import { tcpCheckSpace } from './tcp-space.js'
import { tcpClockAtLimit, tcpMstampRefresh, tcpStampUsDelta } from './tcp-time.js'
import { tcpProbe0Base, tcpRearmRto } from './tcp-timer.js'
import { tcpArmHrtimer, tcpResetXmitTimer } from './tcp-timer-arm.js'

/** Models `tcp_send_head`. */
export const tcpSendHead = (sk: Sock): SkBuff | null => skbPeek(sk.writeQueue)

/** Models `tcp_nagle_check`: is this packet to wait for company? */
const tcpNagleCheck = (partial: boolean, tp: TcpSock, nonagle: number): boolean =>
  partial && ((nonagle & TCP_NAGLE_CORK) !== 0 || (nonagle === 0 && tp.packetsOut !== 0 && tcpMinshallCheck(tp)))

/** Models `tcp_minshall_check`: a small packet of ours is still on its way. */
const tcpMinshallCheck = (tp: TcpSock): boolean => after(tp.sndSml, tp.sndUna) && !after(tp.sndSml, tp.sndNxt)

/** Models `tcp_nagle_test`. */
function tcpNagleTest(tp: TcpSock, skb: SkBuff, mss: number, nonagle: number): boolean {
  if ((nonagle & TCP_NAGLE_PUSH) !== 0) return true
  if (tp.sndUna !== tp.sndUp || (tcpFlags(skb) & TCPHDR_FIN) !== 0) return true
  return !tcpNagleCheck(skb.len < mss, tp, nonagle)
}

/** Models `tcp_snd_wnd_test`: does at least the first segment fit into the peer's window? */
export function tcpSndWndTest(tp: TcpSock, skb: SkBuff, mss: number): boolean {
  const end = skb.len > mss ? (skb.cb0 + mss) | 0 : skb.cb1
  return !after(end, tcpWndEnd(tp))
}

/** Models `tcp_tso_segs`: segments we want in one packet, from the pacing rate and how near the peer is. */
export function tcpTsoSegs(tp: TcpSock, mss: number): number {
  const wanted = tp.caOps.minTsoSegs(tp)
  const min = wanted !== 0 ? wanted : tp.ctl.minTsoSegs[0]!
  let bytes = tp.sk.pacingRate / 1024
  const r = (tp.minRttUs >>> 0) / 2 ** tp.ctl.tsoRttLog[0]!
  if (r < 32) bytes += Math.floor(tp.gsoMaxSize / 2 ** Math.floor(r))
  bytes = Math.min(bytes, tp.gsoMaxSize)
  return Math.min(Math.max(Math.floor(bytes / mss), min), tp.gsoMaxSegs)
}

/** Models `tcp_cwnd_test`: segments that the congestion window lets go now, at most half of it in one packet. */
function tcpCwndTest(tp: TcpSock): number {
  const inFlight = tcpPacketsInFlight(tp)
  if (inFlight >= tp.sndCwnd) return 0
  return Math.min(Math.max(tp.sndCwnd >> 1, 1), tp.sndCwnd - inFlight)
}

/** Models `tcp_mss_split_point`: how much of a packet may go now. */
function tcpMssSplitPoint(sk: Sock, tp: TcpSock, skb: SkBuff, mss: number, maxSegs: number, nonagle: number): number {
  const window = (tcpWndEnd(tp) - skb.cb0) | 0
  const maxLen = mss * maxSegs
  if (maxLen <= window && !skbQueueIsLast(sk.writeQueue, skb)) return maxLen
  const needed = Math.min(skb.len, window)
  if (maxLen <= needed) return maxLen
  const partial = needed % mss
  return tcpNagleCheck(partial !== 0, tp, nonagle) ? needed - partial : needed
}

// What `tcpTsoShouldDefer` says about why it waits.
const DEFER_CWND = 1
const DEFER_RWND = 2
const DEFER_APP = 3

/** Models `tcp_tso_should_defer`: an ACK that will allow a larger packet is about to come. @returns 0 to send now. */
function tcpTsoShouldDefer(sk: Sock, tp: TcpSock, skb: SkBuff, maxSegs: number): number {
  if (tp.caState >= TCP_CA_RECOVERY) return 0
  // Deferring is for writers that have just written: 1 ms.
  if (tcpStampUsDelta(tp.mstamp, tp.wstamp) > 1000) return 0
  const inFlight = tcpPacketsInFlight(tp)
  const sendWin = (tcpWndEnd(tp) - skb.cb0) | 0
  const congWin = (tp.sndCwnd - inFlight) * tp.mssCache
  const limit = Math.min(sendWin, congWin)
  if (limit >= maxSegs * tp.mssCache) return 0
  if (!skbQueueIsLast(sk.writeQueue, skb) && limit >= skb.len) return 0
  const divisor = tp.ctl.tsoWinDivisor[0]!
  if (divisor !== 0) {
    if (limit >= Math.floor(Math.min(tp.sndWnd, tp.sndCwnd * tp.mssCache) / divisor)) return 0
  } else if (limit > 3 * tp.mssCache) return 0
  const head = skbPeek(tp.rtxQueue)
  if (head === null) return 0
  const srttUs = tp.srttUs >> 3
  const ackInUs = (head.cb4 + srttUs - tp.mstamp) | 0
  if (ackInUs > Math.min(srttUs >> 1, 1000)) return 0
  if (congWin < sendWin) {
    if (congWin <= skb.len) return DEFER_CWND
  } else if (sendWin <= skb.len) return DEFER_RWND
  return (skb.cb2 & (TCPHDR_FIN | TCPCB_EOR)) !== 0 ? 0 : DEFER_APP
}

/** Models `tcp_small_queue_check`: enough of ours waits below us already. */
export function tcpSmallQueueCheck(sk: Sock, tp: TcpSock, skb: SkBuff, factor: number): boolean {
  let limit = Math.max(2 * skb.truesize, sk.pacingRate / 1024)
  // Packets that TCP spreads in time itself cannot pile up.
  if (!tp.caOps.pacing) limit = Math.min(limit, tp.ctl.limitOutputBytes[0]!)
  limit *= 2 ** factor
  if (sk.wmemAlloc <= limit) return false
  // A lone packet always goes: nobody else would call us back soon.
  if (tp.rtxQueue.qlen <= 1) return false
  tp.tsqFlags |= TSQ_THROTTLED
  return true
}

/** Models `tcp_pacing_check`: is it too early for the next packet? */
export function tcpPacingCheck(tp: TcpSock): boolean {
  if (!tp.caOps.pacing) return false
  const at = tp.wstampNs
  if (at <= tp.clockNs || tcpClockAtLimit(tp)) return false
  if (tp.events[TCP_TIMER_PACING] === 0) tcpArmHrtimer(tp, TCP_TIMER_PACING, Math.ceil(at))
  return true
}

/** Models `tcp_update_skb_after_send`: when the next packet may go, if packets are spread in time. */
function tcpPaceAfterSend(tp: TcpSock, skb: SkBuff): void {
  tp.wstamp = tp.mstamp
  if (!tp.caOps.pacing) return
  const prior = tp.wstampNs
  let at = Math.max(prior, tp.clockNs)
  const rate = tp.sk.pacingRate
  // The first ten segments are never spread.
  if (rate > 0 && tp.dataSegsOut >= 10) {
    const ns = (skb.len * 1e9) / rate
    at += ns - Math.min(ns / 2, at - prior)
  }
  tp.wstampNs = at
}

/** Models `tcp_grow_skb`: a packet shorter than it may be takes bytes from the one behind it. */
function tcpGrowSkb(cpu: Cpu, sk: Sock, skb: SkBuff, amount: number): void {
  if (skb.next === 0) return
  const next = skb.env.skbs[skb.next]!
  if (!tcpSkbCanCollapse(skb)) return
  const bytes = Math.min(amount, next.len)
  if (bytes === 0 || skbShift(cpu, skb, next, bytes) === 0) return
  skb.cb1 = (skb.cb1 + bytes) | 0
  next.cb0 = (next.cb0 + bytes) | 0
  if (next.len !== 0) return
  skb.cb1 = next.cb1
  tcpEatOneSkb(cpu, sk, skb, next)
}

/** Models `tcp_eat_one_skb`: all of `from` is in `to` now. */
export function tcpEatOneSkb(cpu: Cpu, sk: Sock, to: SkBuff, from: SkBuff): void {
  to.cb2 = ((to.cb2 | tcpFlags(from)) & ~TCPCB_EOR) | (from.cb2 & TCPCB_EOR)
  skbUnlink(sk.writeQueue, from)
  tcpWmemFreeSkb(cpu, sk, from, 'tcp_write_xmit')
}

/** Models `tcp_event_new_data_sent`: the packet moves from the write queue to the retransmit queue. */
export function tcpEventNewDataSent(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  const prior = tp.packetsOut
  tp.sndNxt = skb.cb1
  skbUnlink(sk.writeQueue, skb)
  skbQueueTail(tp.rtxQueue, skb)
  if (tp.highestSack === 0) tp.highestSack = skb.id
  tp.packetsOut += tcpSkbPcount(skb)
  if (prior === 0 || tp.pending === ICSK_TIME_LOSS_PROBE) tcpRearmRto(tp)
  addStats(sk, MIB.TCPOrigDataSent, tcpSkbPcount(skb))
  tcpCheckSpace(cpu, sk)
}

/**
 * Models `tcp_write_xmit` (net/ipv4/tcp_output.c).
 *
 * @param pushOne 1: at most one packet; 2: one packet whatever the congestion window says (a loss probe).
 * @returns true when nothing is in flight and something waits: then the window must be probed.
 */
export function tcpWriteXmit(cpu: Cpu, sk: Sock, mss: number, nonagle: number, pushOne: number, gfp: Gfp): boolean {
  const tp = tcpSk(sk)
  let cwndLimited = false
  let sent = 0
  tcpMstampRefresh(tp)
  if (pushOne === 0 && tp.mtupEnabled !== 0) {
    const probe = tcpMtuProbe(cpu, sk)
    if (probe === 0) return false
    if (probe > 0) sent = 1
  }
  const maxSegs = tcpTsoSegs(tp, mss)
  for (let skb = tcpSendHead(sk); skb !== null; skb = tcpSendHead(sk)) {
    if (tcpPacingCheck(tp)) break
    let quota = tcpCwndTest(tp)
    if (quota === 0) {
      if (pushOne !== 2) break
      quota = 1
    }
    quota = Math.min(quota, maxSegs)
    if (tp.env.features.tcpGrowSkb) {
      const missing = quota * mss - skb.len
      if (missing > 0) tcpGrowSkb(cpu, sk, skb, missing)
    }
    const segs = tcpSetSkbTsoSegs(skb, mss)
    if (!tcpSndWndTest(tp, skb, mss)) break
    if (segs === 1) {
      if (!tcpNagleTest(tp, skb, mss, skbQueueIsLast(sk.writeQueue, skb) ? nonagle : TCP_NAGLE_PUSH)) break
    } else if (pushOne === 0) {
      const defer = tcpTsoShouldDefer(sk, tp, skb, maxSegs)
      if (defer !== 0) {
        if (defer === DEFER_CWND) cwndLimited = true
        break
      }
    }
    let limit = mss
    if (segs > 1 && tp.sndUna === tp.sndUp) limit = tcpMssSplitPoint(sk, tp, skb, mss, quota, nonagle)
    if (skb.len > limit && tsoFragment(cpu, sk, skb, limit, mss, gfp) !== 0) break
    if (tcpSmallQueueCheck(sk, tp, skb, 0)) break
    // An empty packet belongs to a writer that waits for memory.
    if (skb.cb0 === skb.cb1) break
    if (tcpTransmitSkb(cpu, sk, skb, true, gfp) !== 0) break
    tcpPaceAfterSend(tp, skb)
    tcpEventNewDataSent(cpu, sk, skb)
    if (skb.len < tcpSkbPcount(skb) * mss) tp.sndSml = skb.cb1
    sent += tcpSkbPcount(skb)
    if (pushOne !== 0) break
  }
  cwndLimited ||= tcpPacketsInFlight(tp) >= tp.sndCwnd
  if (sent !== 0 || cwndLimited) tcpCwndValidate(tp, cwndLimited)
  if (sent !== 0) {
    if (tcpInCwndReduction(tp)) tp.prrOut += sent
    if (pushOne !== 2) tcpScheduleLossProbe(tp, false)
    return false
  }
  return tp.packetsOut === 0 && !skbQueueEmpty(sk.writeQueue)
}

/** Models `__tcp_push_pending_frames`: sends what may go, and probes the window when nothing may. */
export function tcpPushPendingFramesNow(cpu: Cpu, sk: Sock, mss: number, nonagle: number): void {
  if (sk.state === TCP_CLOSE) return
  const tp = tcpSk(sk)
  if (tcpWriteXmit(cpu, sk, mss, nonagle, 0, tp.env.mem.gfp.GFP_ATOMIC as Gfp)) tcpCheckProbeTimer(tp)
}

/** Models `tcp_push_pending_frames`. */
export function tcpPushPendingFrames(cpu: Cpu, sk: Sock): void {
  if (tcpSendHead(sk) !== null) tcpPushPendingFramesNow(cpu, sk, tcpCurrentMss(sk), tcpSk(sk).nonagle)
}

/** Models `tcp_push_one`: sends the packet at the head while its writer is still filling the next. */
export function tcpPushOne(cpu: Cpu, sk: Sock, mss: number): void {
  const skb = tcpSendHead(sk)
  assert(skb !== null && skb.len >= mss, 'tcp_push_one: nothing to push')
  tcpWriteXmit(cpu, sk, mss, TCP_NAGLE_PUSH, 1, sk.allocation as Gfp)
}

/** Models `tcp_check_probe_timer`: nothing in flight, something to send, and the window shut. */
export function tcpCheckProbeTimer(tp: TcpSock): void {
  if (tp.packetsOut === 0 && tp.pending === 0) tcpResetXmitTimer(tp, ICSK_TIME_PROBE0, tcpProbe0Base(tp))
}

/** Models `tcp_mark_push` and `forced_push`. */
export const tcpForcedPush = (tp: TcpSock): boolean => after(tp.writeSeq, (tp.pushedSeq + (tp.maxWindow >>> 1)) | 0)

/** Models `tcp_write_queue_tail`. */
export const tcpWriteQueueTail = (sk: Sock): SkBuff | null => skbPeekTail(sk.writeQueue)
