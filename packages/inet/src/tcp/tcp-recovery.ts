/**
 * Loss recovery: when is a packet lost, what does the sender do then, and what if it was not lost after all.
 * Packets are judged by time (RACK): what was sent well before something that has arrived is lost. Without SACK,
 * three duplicate ACKs are.
 */
import type { Cpu, Gfp } from '@netmem/base'
import { type SkBuff, skbPeek } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { FLAG_LOST_RETRANS, FLAG_SACK_RENEGING, FLAG_SET_XMIT_TIMER, FLAG_SND_UNA_ADVANCED } from './tcp-ack-flags.js'
import { tcpCwndReduction, tcpEndCwndReduction, tcpSetCaState } from './tcp-cong.js'
import { tcpFragmentRtx } from './tcp-fragment.js'
import { tcpEnterRecovery, tcpProcessLoss, tcpTryUndoDsack, tcpTryUndoPartial, tcpTryUndoRecovery } from './tcp-loss.js'
import { addStats, MIB } from './tcp-mib.js'
import { tcpMtupProbeFailed } from './tcp-mtu-probe.js'
import type { RateSample } from './tcp-rate.js'
import { TCP_TIMEOUT_MIN_US, tcpXmitRetransmitQueue } from './tcp-retransmit.js'
import { tcpAddRenoSack, tcpResetRenoSack } from './tcp-sack.js'
import { TCPCB_LOST, TCPCB_RETRANS, TCPCB_SACKED_ACKED, TCPCB_SACKED_RETRANS, tcpSkbPcount } from './tcp-skb.js'
import {
  ICSK_TIME_REO_TIMEOUT,
  ICSK_TIME_RETRANS,
  TCP_CA_CWR,
  TCP_CA_DISORDER,
  TCP_CA_LOSS,
  TCP_CA_OPEN,
  TCP_CA_RECOVERY,
  type TcpSock,
  tcpIsSack,
  tcpLeftOut,
  tcpPacketsInFlight,
  tcpSk,
} from './tcp-sock.js'
import { tcpStampUsDelta, usecsToJiffies } from './tcp-time.js'
import { tcpRearmRto } from './tcp-timer.js'
import { tcpResetXmitTimer } from './tcp-timer-arm.js'

/** In and out of `tcpFastretransAlert`: the ACK's flags, and what is to be sent. One per machine. */
export class Alert {
  flag = 0
  rexmit = 0
}

const REXMIT_LOST = 1

// RACK (RFC 8985): time is the judge.

/** Models `tcp_rack_sent_after`. */
const rackSentAfter = (t1: number, t2: number, seq1: number, seq2: number): boolean =>
  ((t1 - t2) | 0) > 0 || (t1 === t2 && after(seq1, seq2))

/** Models `tcp_rack_advance`: the latest packet, by sending time, that is known to have arrived. */
export function tcpRackAdvance(tp: TcpSock, sacked: number, endSeq: number, xmitTime: number): void {
  const rtt = tcpStampUsDelta(tp.mstamp, xmitTime)
  // Faster than light: the ACK was for the first transmission.
  if (rtt < tp.minRttUs >>> 0 && (sacked & TCPCB_RETRANS) !== 0) return
  tp.rackAdvanced = 1
  tp.rackRttUs = rtt
  if (tp.rackMstamp === 0 || rackSentAfter(xmitTime, tp.rackMstamp, endSeq, tp.rackEndSeq)) {
    tp.rackMstamp = xmitTime
    tp.rackEndSeq = endSeq
  }
}

/** Models `tcp_rack_reo_wnd`: how long a packet may be overtaken before it counts as lost. µs. */
function rackReoWnd(tp: TcpSock): number {
  if (tp.reordSeen === 0) {
    if (tp.caState >= TCP_CA_RECOVERY) return 0
    if (tp.sackedOut >= tp.reordering) return 0
  }
  const min = tp.minRttUs === -1 ? 0 : tp.minRttUs >>> 0
  return Math.min((min >>> 2) * tp.rackReoWndSteps, tp.srttUs >>> 3)
}

/** Models `tcp_rack_detect_loss`. @returns µs until the next packet will count as lost, 0 none. */
function rackDetectLoss(sk: Sock, tp: TcpSock): number {
  const { skbs } = tp.env.skbs
  const reoWnd = rackReoWnd(tp)
  let timeout = 0
  for (let skb = skbPeek(tp.rtxQueue); skb !== null; skb = skb.next === 0 ? null : skbs[skb.next]!) {
    if ((skb.cb2 & TCPCB_LOST) !== 0 && (skb.cb2 & TCPCB_SACKED_RETRANS) === 0) continue
    if ((skb.cb2 & TCPCB_SACKED_ACKED) !== 0) continue
    if (!rackSentAfter(tp.rackMstamp, skb.cb4, tp.rackEndSeq, skb.cb1)) continue
    const remaining = tp.rackRttUs + reoWnd - tcpStampUsDelta(tp.mstamp, skb.cb4)
    if (remaining <= 0) tcpMarkSkbLost(sk, skb)
    else timeout = Math.max(timeout, remaining)
  }
  return timeout
}

/** Models `tcp_rack_mark_lost`. @returns true when the timer was set for packets that may still come. */
function tcpRackMarkLost(sk: Sock, tp: TcpSock): boolean {
  if (tp.rackAdvanced === 0) return false
  tp.rackAdvanced = 0
  const timeout = rackDetectLoss(sk, tp)
  if (timeout === 0) return false
  const { hz } = tp.env
  tcpResetXmitTimer(tp, ICSK_TIME_REO_TIMEOUT, usecsToJiffies(timeout + TCP_TIMEOUT_MIN_US, hz))
  return true
}

/** Models `tcp_rack_reo_timeout`: the overtaken packets did not come. */
export function tcpRackReoTimeout(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const lost = tp.lost
  const inFlight = tcpPacketsInFlight(tp)
  rackDetectLoss(sk, tp)
  if (inFlight !== tcpPacketsInFlight(tp)) {
    if (tp.caState !== TCP_CA_RECOVERY) {
      tcpEnterRecovery(sk)
      if (tp.caOps.congControl === null) tcpCwndReduction(tp, 1, tp.lost - lost, false)
    }
    tcpXmitRetransmitQueue(cpu, sk)
  }
  if (tp.pending !== ICSK_TIME_RETRANS) tcpRearmRto(tp)
}

/** Models `tcp_rack_update_reo_wnd`: duplicate reports widen the tolerance for a while. */
export function tcpRackUpdateReoWnd(tp: TcpSock, rs: RateSample): void {
  if (rs.priorDelivered === 0) return
  if (((rs.priorDelivered - tp.rackLastDelivered) | 0) < 0) tp.rackDsackSeen = 0
  if (tp.rackDsackSeen !== 0) {
    tp.rackReoWndSteps = Math.min(255, tp.rackReoWndSteps + 1)
    tp.rackDsackSeen = 0
    tp.rackLastDelivered = tp.delivered
    tp.rackReoWndPersist = 16
  } else if (tp.rackReoWndPersist === 0) tp.rackReoWndSteps = 1
}

// Marks.

/** Models `tcp_mark_skb_lost` with `tcp_verify_retransmit_hint`. */
export function tcpMarkSkbLost(sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  if ((skb.cb2 & TCPCB_SACKED_ACKED) !== 0) return
  const { skbs } = tp.env.skbs
  if (
    (tp.retransmitSkbHint === 0 && tp.retransOut >= tp.lostOut) ||
    (tp.retransmitSkbHint !== 0 && before(skb.cb0, skbs[tp.retransmitSkbHint]!.cb0))
  )
    tp.retransmitSkbHint = skb.id
  const pcount = tcpSkbPcount(skb)
  if ((skb.cb2 & TCPCB_LOST) !== 0) {
    if ((skb.cb2 & TCPCB_SACKED_RETRANS) !== 0) {
      // The retransmission was lost as well.
      skb.cb2 &= ~TCPCB_SACKED_RETRANS
      tp.retransOut -= pcount
      addStats(sk, MIB.TCPLostRetransmit, pcount)
      tp.lost += pcount
    }
  } else {
    tp.lostOut += pcount
    skb.cb2 |= TCPCB_LOST
    tp.lost += pcount
  }
}

/** Models `tcp_mark_head_lost` and `tcp_newreno_mark_lost`: without SACK, only the first packet can be named. */
function tcpNewrenoMarkLost(cpu: Cpu, sk: Sock, tp: TcpSock, una: boolean): void {
  const recover = tp.caState < TCP_CA_RECOVERY && tp.sackedOut >= tp.reordering
  if (!recover && !(tp.caState === TCP_CA_RECOVERY && una)) return
  const skb = skbPeek(tp.rtxQueue)
  if (skb === null || (skb.cb2 & TCPCB_LOST) !== 0) return
  if (tcpSkbPcount(skb) > 1 && skb.len > tp.mssCache)
    tcpFragmentRtx(cpu, sk, skb, tp.mssCache, tp.mssCache, tp.env.mem.gfp.GFP_ATOMIC as Gfp)
  tcpMarkSkbLost(sk, skb)
}

/** Models `tcp_identify_packet_loss`. */
function tcpIdentifyPacketLoss(cpu: Cpu, sk: Sock, tp: TcpSock, alert: Alert): void {
  if (tp.packetsOut === 0) return
  if (!tcpIsSack(tp)) {
    tcpNewrenoMarkLost(cpu, sk, tp, (alert.flag & FLAG_SND_UNA_ADVANCED) !== 0)
    return
  }
  const prior = tp.retransOut
  if (tcpRackMarkLost(sk, tp)) alert.flag &= ~FLAG_SET_XMIT_TIMER
  if (prior > tp.retransOut) alert.flag |= FLAG_LOST_RETRANS
}

/** Models `tcp_time_to_recover`. */
const tcpTimeToRecover = (tp: TcpSock): boolean => tp.lostOut !== 0

/** Models `tcp_try_keep_open`. */
export function tcpTryKeepOpen(tp: TcpSock): void {
  const state = tcpLeftOut(tp) !== 0 || tp.retransOut !== 0 || tp.undoMarker !== 0 ? TCP_CA_DISORDER : TCP_CA_OPEN
  if (tp.caState !== state) {
    tcpSetCaState(tp, state)
    tp.highSeq = tp.sndNxt
  }
}

/** Models `tcp_try_to_open`. */
function tcpTryToOpen(tp: TcpSock): void {
  if (tp.retransOut === 0) tp.retransStamp = 0
  if (tp.caState !== TCP_CA_CWR) tcpTryKeepOpen(tp)
}

/** Models `tcp_check_sack_reneging`: the peer threw away what it had SACKed. */
function tcpCheckSackReneging(tp: TcpSock, alert: Alert): boolean {
  if ((alert.flag & FLAG_SACK_RENEGING) === 0 || (alert.flag & FLAG_SND_UNA_ADVANCED) === 0) return false
  const delay = Math.max(usecsToJiffies(tp.srttUs >>> 4, tp.env.hz), Math.ceil(tp.env.hz / 100))
  tcpResetXmitTimer(tp, ICSK_TIME_RETRANS, delay)
  alert.flag &= ~FLAG_SET_XMIT_TIMER
  return true
}

/**
 * Models `tcp_fastretrans_alert` (net/ipv4/tcp_input.c): the state machine of congestion, on every ACK that is
 * not plain progress.
 */
export function tcpFastretransAlert(cpu: Cpu, sk: Sock, dupacks: number, alert: Alert): void {
  const tp = tcpSk(sk)
  const { flag } = alert
  if (tp.packetsOut === 0 && tp.sackedOut !== 0) tp.sackedOut = 0
  if (tcpCheckSackReneging(tp, alert)) return
  const advanced = (flag & FLAG_SND_UNA_ADVANCED) !== 0
  if (tp.caState === TCP_CA_OPEN) tp.retransStamp = 0
  else if (!before(tp.sndUna, tp.highSeq)) {
    if (tp.caState === TCP_CA_CWR) {
      if (tp.sndUna !== tp.highSeq) {
        tcpEndCwndReduction(tp)
        tcpSetCaState(tp, TCP_CA_OPEN)
      }
    } else if (tp.caState === TCP_CA_RECOVERY) {
      tcpResetRenoSack(tp)
      if (tcpTryUndoRecovery(sk)) return
      tcpEndCwndReduction(tp)
    }
  }
  if (tp.caState === TCP_CA_RECOVERY) {
    if (!advanced) {
      if (!tcpIsSack(tp)) tcpAddRenoSack(sk, dupacks)
    } else if (tcpTryUndoPartial(sk)) return
    if (tcpTryUndoDsack(sk)) tcpTryToOpen(tp)
    tcpIdentifyPacketLoss(cpu, sk, tp, alert)
    if ((tp.caState as number) !== TCP_CA_RECOVERY) {
      if (!tcpTimeToRecover(tp)) return
      tcpEnterRecovery(sk)
    }
  } else {
    if (tp.caState === TCP_CA_LOSS) {
      tcpProcessLoss(sk, flag, dupacks, alert)
      tcpIdentifyPacketLoss(cpu, sk, tp, alert)
      if (!((tp.caState as number) === TCP_CA_OPEN || (alert.flag & FLAG_LOST_RETRANS) !== 0)) return
    }
    if (!tcpIsSack(tp)) {
      if (advanced) tcpResetRenoSack(tp)
      tcpAddRenoSack(sk, dupacks)
    }
    if (tp.caState <= TCP_CA_DISORDER) tcpTryUndoDsack(sk)
    tcpIdentifyPacketLoss(cpu, sk, tp, alert)
    if (!tcpTimeToRecover(tp)) {
      tcpTryToOpen(tp)
      return
    }
    if (tp.caState < TCP_CA_CWR && tp.mtupProbeSize !== 0 && tp.sndUna === tp.mtupProbeSeqStart) {
      tcpMtupProbeFailed(sk)
      tp.sndCwnd++
      const skb = skbPeek(tp.rtxQueue)
      if (skb !== null) tcpMarkSkbLost(sk, skb)
      tcpXmitRetransmitQueue(cpu, sk)
      return
    }
    tcpEnterRecovery(sk)
  }
  alert.rexmit = REXMIT_LOST
}
