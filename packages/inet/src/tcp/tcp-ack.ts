/**
 * An acknowledgement arrives: the send window moves, packets leave the retransmit queue and give back their
 * memory, the round trip is measured, and congestion control decides how much may follow.
 */
import { assert, type Cpu } from '@netmem/base'
import { gsoSegs, type SkBuff, skbPeek, skbQueueEmpty } from '@netmem/skbuff'
import { type Sock, TCP_SYN_SENT } from '@netmem/sockmem'
import { after, before, between } from './seq.js'
import {
  FLAG_ACK_MAYBE_DELAYED,
  FLAG_ACKED,
  FLAG_CA_ALERT,
  FLAG_DATA,
  FLAG_DATA_ACKED,
  FLAG_DATA_SACKED,
  FLAG_DSACK_TLP,
  FLAG_DSACKING_ACK,
  FLAG_FORWARD_PROGRESS,
  FLAG_NO_CHALLENGE_ACK,
  FLAG_NOT_DUP,
  FLAG_ORIG_SACK_ACKED,
  FLAG_RETRANS_DATA_ACKED,
  FLAG_SACK_RENEGING,
  FLAG_SET_XMIT_TIMER,
  FLAG_SLOWPATH,
  FLAG_SND_UNA_ADVANCED,
  FLAG_SYN_ACKED,
  FLAG_UPDATE_TS_RECENT,
  FLAG_WIN_UPDATE,
} from './tcp-ack-flags.js'
import { tcpSendChallengeAck } from './tcp-challenge.js'
import {
  tcpCwndReduction,
  tcpEndCwndReduction,
  tcpInitCwndReduction,
  tcpSetCaState,
  tcpSlowStartAfterIdleCheck,
  tcpUpdatePacingRate,
} from './tcp-cong.js'
import { tcpFastPathCheck } from './tcp-fast-path.js'
import { tcpTrimHead } from './tcp-fragment.js'
import { addStats, incStats, MIB } from './tcp-mib.js'
import { tcpCurrentMss, tcpSyncMss } from './tcp-mss.js'
import { tcpMtupProbeSuccess } from './tcp-mtu-probe.js'
import { tcpRtxQueueUnlinkAndFree } from './tcp-queue.js'
import { type RateSample, tcpRateGen, tcpRateSkbDelivered } from './tcp-rate.js'
import { tcpFastretransAlert, tcpRackAdvance, tcpRackUpdateReoWnd, tcpTryKeepOpen } from './tcp-recovery.js'
import { tcpScheduleLossProbe, tcpXmitRetransmitQueue } from './tcp-retransmit.js'
import {
  type SacktagState,
  tcpCheckSackReordering,
  tcpHighestSackSeq,
  tcpRemoveRenoSacks,
  tcpSacktagWriteQueue,
} from './tcp-sack.js'
import {
  TCPCB_LOST,
  TCPCB_RETRANS,
  TCPCB_SACKED_ACKED,
  TCPCB_SACKED_RETRANS,
  TCPHDR_SYN,
  tcpFlags,
  tcpSackOffset,
  tcpSkbPcount,
  thFlags,
  thWindow,
} from './tcp-skb.js'
import {
  BYTES_ACKED,
  ICSK_TIME_PROBE0,
  TCP_CA_CWR,
  TCP_CA_OPEN,
  TCP_NAGLE_OFF,
  type TcpSock,
  tcpInCwndReduction,
  tcpIsSack,
  tcpPacketsInFlight,
  tcpSk,
  tcpWndEnd,
} from './tcp-sock.js'
import { tcpJiffies, tcpStampUsDelta } from './tcp-time.js'
import { tcpProbe0When, tcpRearmRto, tcpSetRto } from './tcp-timer.js'
import { tcpClearXmitTimer, tcpResetXmitTimer } from './tcp-timer-arm.js'
import { tcpPushPendingFramesNow } from './tcp-xmit.js'

/** What the losses that an ACK reveals call for. */
export const REXMIT_NONE = 0
export const REXMIT_LOST = 1
export const REXMIT_NEW = 2

// Outcomes of `tcpAck` that end the segment: negative, by name.
export const ACK_TOO_OLD = -1
export const ACK_UNSENT_DATA = -2

/** Models `tcp_may_update_window`. */
const tcpMayUpdateWindow = (tp: TcpSock, ack: number, seq: number, nwin: number): boolean =>
  after(ack, tp.sndUna) || after(seq, tp.sndWl1) || (seq === tp.sndWl1 && (nwin > tp.sndWnd || nwin === 0))

/** Models `tcp_snd_una_update`. */
function tcpSndUnaUpdate(tp: TcpSock, ack: number): void {
  tp.counts[BYTES_ACKED]! += (ack - tp.sndUna) >>> 0
  tp.sndUna = ack
}

/** Models `tcp_ack_update_window` (net/ipv4/tcp_input.c). @returns `FLAG_WIN_UPDATE` or 0. */
function tcpAckUpdateWindow(sk: Sock, tp: TcpSock, skb: SkBuff, ack: number, seq: number): number {
  const u8 = skb.env.u8
  const th = (skb.head + skb.transportHeader) >>> 0
  let flag = 0
  let nwin = thWindow(u8, th)
  if ((thFlags(u8, th) & TCPHDR_SYN) === 0) nwin <<= tp.rx.sndWscale
  if (tcpMayUpdateWindow(tp, ack, seq, nwin)) {
    flag = FLAG_WIN_UPDATE
    tp.sndWl1 = seq
    if (tp.sndWnd !== nwin) {
      tp.sndWnd = nwin
      tp.predFlags = 0
      tcpFastPathCheck(sk)
      if (!skbQueueEmpty(sk.writeQueue)) tcpSlowStartAfterIdleCheck(tp)
      if (nwin > tp.maxWindow) {
        tp.maxWindow = nwin
        tcpSyncMss(sk, tp.pmtuCookie)
      }
    }
  }
  tcpSndUnaUpdate(tp, ack)
  return flag
}

/** Models `tcp_rtt_estimator` (net/ipv4/tcp_input.c): Jacobson's smoothed mean and deviation. @param us the sample. */
function tcpRttEstimator(tp: TcpSock, us: number): void {
  const rtoMin = tp.ctl.rtoMinUs[0]!
  let srtt = tp.srttUs
  if (srtt !== 0) {
    let m = us - (srtt >> 3)
    srtt += m
    if (m < 0) {
      m = -m - (tp.mdevUs >> 2)
      // A shorter round trip should not look like a wilder one.
      if (m > 0) m >>= 3
    } else m -= tp.mdevUs >> 2
    tp.mdevUs += m
    if (tp.mdevUs > tp.mdevMaxUs) {
      tp.mdevMaxUs = tp.mdevUs
      if (tp.mdevMaxUs > tp.rttvarUs) tp.rttvarUs = tp.mdevMaxUs
    }
    if (after(tp.sndUna, tp.rttSeq)) {
      if (tp.mdevMaxUs < tp.rttvarUs) tp.rttvarUs -= (tp.rttvarUs - tp.mdevMaxUs) >> 2
      tp.rttSeq = tp.sndNxt
      tp.mdevMaxUs = rtoMin
    }
  } else {
    srtt = us << 3
    tp.mdevUs = us << 1
    tp.rttvarUs = Math.max(tp.mdevUs, rtoMin)
    tp.mdevMaxUs = tp.rttvarUs
    tp.rttSeq = tp.sndNxt
  }
  tp.srttUs = Math.max(1, srtt)
}

/** Models `tcp_update_rtt_min` with a plain minimum over five minutes. */
function tcpUpdateRttMin(tp: TcpSock, us: number, flag: number): void {
  const min = tp.minRttUs >>> 0
  if ((flag & FLAG_ACK_MAYBE_DELAYED) !== 0 && us > min) return
  const now = tcpJiffies(tp)
  const value = us === 0 ? Math.floor(1e6 / tp.env.hz) : us
  if (value <= min || ((now - tp.minRttStamp) | 0) > 300 * tp.env.hz) {
    tp.minRttUs = value
    tp.minRttStamp = now
  }
}

/** Models `tcp_ack_update_rtt`. Samples in µs, -1 none. @returns whether there was one. */
export function tcpAckUpdateRtt(
  tp: TcpSock,
  flag: number,
  seqUs: number,
  sackUs: number,
  caUs: number,
  rs: RateSample,
): boolean {
  let seqRtt = seqUs < 0 ? sackUs : seqUs
  let caRtt = caUs
  if (seqRtt < 0 && tp.rx.sawTstamp && tp.rx.rcvTsecr !== 0 && (flag & FLAG_ACKED) !== 0) {
    const delta = (tp.tsStamp - tp.rx.rcvTsecr) >>> 0
    seqRtt = delta < 0x7fffffff / 1000 ? Math.max(delta, 1) * 1000 : -1
    caRtt = seqRtt
  }
  rs.rttUs = caRtt
  if (seqRtt < 0) return false
  tcpUpdateRttMin(tp, caRtt, flag)
  tcpRttEstimator(tp, seqRtt)
  tcpSetRto(tp)
  tp.backoff = 0
  return true
}

/** Models `tcp_clean_rtx_queue` (net/ipv4/tcp_input.c): frees what was acknowledged. @returns flags. */
function tcpCleanRtxQueue(
  cpu: Cpu,
  sk: Sock,
  tp: TcpSock,
  priorFack: number,
  priorUna: number,
  sack: SacktagState,
): number {
  const rs = tp.env.rs
  const skbs = tp.env.skbs.skbs
  const priorSacked = tp.sackedOut
  let reord = tp.sndNxt
  let flag = 0
  let pktsAcked = 0
  let haveStamp = false
  let firstStamp = 0
  let lastStamp = 0
  let fullyAcked = true
  let skb = skbPeek(tp.rtxQueue)
  while (skb !== null) {
    const startSeq = skb.cb0
    const sacked = skb.cb2
    let pcount: number
    if (after(skb.cb1, tp.sndUna)) {
      if (tcpSkbPcount(skb) === 1 || !after(tp.sndUna, skb.cb0)) break
      // Part of a segmentation packet: its front goes.
      const before = tcpSkbPcount(skb)
      if (tcpTrimHead(cpu, sk, skb, (tp.sndUna - skb.cb0) | 0) !== 0) break
      pcount = before - tcpSkbPcount(skb)
      if (pcount === 0) break
      fullyAcked = false
    } else pcount = tcpSkbPcount(skb)

    if ((sacked & TCPCB_RETRANS) !== 0) {
      if ((sacked & TCPCB_SACKED_RETRANS) !== 0) tp.retransOut -= pcount
      flag |= FLAG_RETRANS_DATA_ACKED
    } else if ((sacked & TCPCB_SACKED_ACKED) === 0) {
      lastStamp = skb.cb4
      if (!haveStamp) firstStamp = lastStamp
      haveStamp = true
      if (before(startSeq, reord)) reord = startSeq
      if (!after(skb.cb1, tp.highSeq)) flag |= FLAG_ORIG_SACK_ACKED
    }
    if ((sacked & TCPCB_SACKED_ACKED) !== 0) tp.sackedOut -= pcount
    else if (tcpIsSack(tp)) {
      tp.delivered += pcount
      tcpRackAdvance(tp, sacked, skb.cb1, skb.cb4)
    }
    if ((sacked & TCPCB_LOST) !== 0) tp.lostOut -= pcount
    tp.packetsOut -= pcount
    pktsAcked += pcount
    tcpRateSkbDelivered(tp, skb, rs)
    if ((tcpFlags(skb) & TCPHDR_SYN) === 0) flag |= FLAG_DATA_ACKED
    else {
      flag |= FLAG_SYN_ACKED
      tp.retransStamp = 0
    }
    if (!fullyAcked) break
    const next = skb.next === 0 ? null : skbs[skb.next]!
    if (tp.retransmitSkbHint === skb.id) tp.retransmitSkbHint = 0
    if (tp.highestSack === skb.id) tp.highestSack = next === null ? 0 : next.id
    tcpRtxQueueUnlinkAndFree(cpu, sk, skb, 'tcp_ack')
    skb = next
  }
  if (between(tp.sndUp, priorUna, tp.sndUna)) tp.sndUp = tp.sndUna
  if (skb !== null && (skb.cb2 & TCPCB_SACKED_ACKED) !== 0) flag |= FLAG_SACK_RENEGING

  let seqRtt = -1
  let caRtt = -1
  let sackRtt = -1
  if (haveStamp && (flag & FLAG_RETRANS_DATA_ACKED) === 0) {
    seqRtt = tcpStampUsDelta(tp.mstamp, firstStamp)
    caRtt = tcpStampUsDelta(tp.mstamp, lastStamp)
    if (
      pktsAcked === 1 &&
      fullyAcked &&
      priorSacked === 0 &&
      (tp.sndUna - priorUna) >>> 0 < tp.mssCache &&
      rs.priorDelivered + 1 === tp.delivered &&
      (flag & (FLAG_CA_ALERT | FLAG_SYN_ACKED)) === 0
    )
      flag |= FLAG_ACK_MAYBE_DELAYED
  }
  if (sack.haveSackt) {
    sackRtt = tcpStampUsDelta(tp.mstamp, sack.firstSackt)
    caRtt = tcpStampUsDelta(tp.mstamp, sack.lastSackt)
  }
  const measured = tcpAckUpdateRtt(tp, flag, seqRtt, sackRtt, caRtt, rs)
  if ((flag & FLAG_ACKED) !== 0) {
    flag |= FLAG_SET_XMIT_TIMER
    if (tp.mtupProbeSize !== 0 && !after(tp.mtupProbeSeqEnd, tp.sndUna)) tcpMtupProbeSuccess(sk)
    if (!tcpIsSack(tp)) {
      tcpRemoveRenoSacks(tp, pktsAcked)
      if ((flag & FLAG_RETRANS_DATA_ACKED) !== 0) flag &= ~FLAG_ORIG_SACK_ACKED
    } else if (before(reord, priorFack)) tcpCheckSackReordering(sk, reord, false)
  } else if (skb !== null && measured && sackRtt >= 0 && sackRtt > tcpStampUsDelta(tp.mstamp, skb.cb4))
    flag |= FLAG_SET_XMIT_TIMER
  tp.caOps.pktsAcked(tp, pktsAcked, rs.rttUs)
  // A packet whose loss was taken back may be sent again while its first retransmission still counts: the kernel
  // puts that right only here, when nothing is in flight.
  if (tp.packetsOut === 0 && tcpIsSack(tp)) {
    tp.lostOut = 0
    tp.sackedOut = 0
    tp.retransOut = 0
  }
  if (__ASSERT__)
    assert(
      tp.packetsOut >= 0 && tp.sackedOut >= 0 && tp.lostOut >= 0 && tp.retransOut >= 0,
      'segment counts went negative',
    )
  return flag
}

/** Models `tcp_ack_probe`: an ACK while the window was shut. */
function tcpAckProbe(sk: Sock, tp: TcpSock): void {
  const head = skbPeek(sk.writeQueue)
  if (head === null) return
  if (!after(head.cb1, tcpWndEnd(tp))) {
    tp.backoff = 0
    tp.probesTstamp = 0
    tcpClearXmitTimer(tp, ICSK_TIME_PROBE0)
  } else {
    const max = Math.floor((tp.ctl.rtoMaxMs[0]! * tp.env.hz) / 1000)
    tcpResetXmitTimer(tp, ICSK_TIME_PROBE0, tcpProbe0When(tp, max))
  }
}

/** Models `tcp_process_tlp_ack`: the end of a tail loss probe's episode. */
function tcpProcessTlpAck(sk: Sock, tp: TcpSock, ack: number, flag: number): void {
  if (before(ack, tp.tlpHighSeq)) return
  if (tp.tlpRetrans === 0 || (flag & FLAG_DSACK_TLP) !== 0) tp.tlpHighSeq = 0
  else if (after(ack, tp.tlpHighSeq)) {
    // The probe repaired a loss, so the window must pay for it.
    tcpInitCwndReduction(tp)
    tcpSetCaState(tp, TCP_CA_CWR)
    tcpEndCwndReduction(tp)
    tcpTryKeepOpen(tp)
    incStats(sk, MIB.TCPLossProbeRecovery)
  } else if ((flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED)) === 0) tp.tlpHighSeq = 0
}

/** Models `tcp_cong_control`: the algorithm's turn, or reduction while the state demands it. */
function tcpCongControl(tp: TcpSock, ack: number, acked: number, flag: number, rs: RateSample): void {
  if (tp.caOps.congControl !== null) {
    tp.caOps.congControl(tp, flag, rs)
    return
  }
  if (tcpInCwndReduction(tp)) tcpCwndReduction(tp, acked, rs.losses, (flag & FLAG_SND_UNA_ADVANCED) !== 0)
  else {
    const wanted = tp.reordering > tp.ctl.reordering[0]! ? FLAG_FORWARD_PROGRESS : FLAG_DATA_ACKED
    if ((flag & wanted) !== 0) {
      tp.caOps.congAvoid(tp, ack, acked)
      tp.sndCwndStamp = tcpJiffies(tp)
    }
  }
  tcpUpdatePacingRate(tp)
}

/** Models `tcp_replace_ts_recent`. */
function tcpReplaceTsRecent(tp: TcpSock, seq: number): void {
  if (!tp.rx.sawTstamp || after(seq, tp.rcvWup)) return
  if (((tp.rx.tsRecent - tp.rx.rcvTsval) | 0) <= 0 || tp.rx.tsRecent === 0) tcpStoreTsRecent(tp)
}

/** Models `tcp_store_ts_recent`. */
export function tcpStoreTsRecent(tp: TcpSock): void {
  tp.rx.tsRecent = tp.rx.rcvTsval
  tp.rx.tsRecentStamp = Math.floor(tp.env.clock.nowNs / 1e9) + 1
}

/** Models `tcp_xmit_recovery`: after congestion control spoke, sends what was lost, or new data in its place. */
function tcpXmitRecovery(cpu: Cpu, sk: Sock, tp: TcpSock, rexmit: number): void {
  if (rexmit === REXMIT_NONE || sk.state === TCP_SYN_SENT) return
  if (rexmit === REXMIT_NEW) {
    tcpPushPendingFramesNow(cpu, sk, tcpCurrentMss(sk), TCP_NAGLE_OFF)
    if (after(tp.sndNxt, tp.highSeq)) return
    tp.frto = 0
  }
  tcpXmitRetransmitQueue(cpu, sk)
}

/**
 * Models `tcp_ack` (net/ipv4/tcp_input.c). The skb stays the caller's.
 *
 * @returns 1 for an ACK that was taken, 0 for an old one, `ACK_TOO_OLD` or `ACK_UNSENT_DATA`.
 */
export function tcpAck(cpu: Cpu, sk: Sock, skb: SkBuff, initial: number): number {
  const tp = tcpSk(sk)
  const { rs, sacktag } = tp.env
  const priorUna = tp.sndUna
  const reneg = tp.isSackReneg !== 0
  const seq = skb.cb0
  const ack = skb.cb3
  const priorPackets = tp.packetsOut
  const priorDelivered = tp.delivered
  const priorLost = tp.lost
  let flag = initial
  let numDupack = 0
  rs.reset()
  sacktag.reset()

  if (before(ack, priorUna)) {
    const reach = Math.min(tp.maxWindow, tp.counts[BYTES_ACKED]!)
    if (before(ack, (priorUna - reach) | 0)) {
      if ((flag & FLAG_NO_CHALLENGE_ACK) === 0) tcpSendChallengeAck(cpu, sk)
      return ACK_TOO_OLD
    }
    // An old ACK may still carry news in its SACK blocks.
    if (tcpSackOffset(skb) !== 0) {
      flag |= tcpSacktagWriteQueue(cpu, sk, skb, priorUna, sacktag)
      const before = tp.delivered
      tp.delivered += sacktag.sackDelivered
      tp.env.alert.flag = flag
      tp.env.alert.rexmit = REXMIT_NONE
      tcpFastretransAlert(cpu, sk, 0, tp.env.alert)
      addStats(sk, MIB.TCPDelivered, tp.delivered - before)
      tcpXmitRecovery(cpu, sk, tp, tp.env.alert.rexmit)
    }
    return 0
  }
  if (after(ack, tp.sndNxt)) return ACK_UNSENT_DATA
  if (after(ack, priorUna)) {
    flag |= FLAG_SND_UNA_ADVANCED
    if (tp.cleanAcked !== null) tp.cleanAcked(cpu, sk, ack)
    tp.retransmits = 0
  }
  const priorFack = tcpIsSack(tp) ? tcpHighestSackSeq(tp) : tp.sndUna
  rs.priorInFlight = tcpPacketsInFlight(tp)
  if ((flag & FLAG_UPDATE_TS_RECENT) !== 0) tcpReplaceTsRecent(tp, seq)

  if ((flag & (FLAG_SLOWPATH | FLAG_SND_UNA_ADVANCED)) === FLAG_SND_UNA_ADVANCED) {
    // The window stays, the ACK moves on: nothing else can have changed.
    tp.sndWl1 = seq
    tcpSndUnaUpdate(tp, ack)
    flag |= FLAG_WIN_UPDATE
    incStats(sk, MIB.TCPHPAcks)
  } else {
    if (seq !== skb.cb1) flag |= FLAG_DATA
    else incStats(sk, MIB.TCPPureAcks)
    flag |= tcpAckUpdateWindow(sk, tp, skb, ack, seq)
    if (tcpSackOffset(skb) !== 0) flag |= tcpSacktagWriteQueue(cpu, sk, skb, priorUna, sacktag)
    if (sacktag.sackDelivered !== 0) tp.delivered += sacktag.sackDelivered
  }
  sk.errSoft = 0
  tp.probesOut = 0
  tp.rcvTstamp = tcpJiffies(tp)
  if (priorPackets === 0) {
    // Nothing was in flight: a window update, or the answer to a probe.
    if ((flag & FLAG_DSACKING_ACK) !== 0) {
      tp.env.alert.flag = flag
      tp.env.alert.rexmit = REXMIT_NONE
      tcpFastretransAlert(cpu, sk, 0, tp.env.alert)
      addStats(sk, MIB.TCPDelivered, tp.delivered - priorDelivered)
    }
    tcpAckProbe(sk, tp)
    if (tp.tlpHighSeq !== 0) tcpProcessTlpAck(sk, tp, ack, flag)
    return 1
  }

  flag |= tcpCleanRtxQueue(cpu, sk, tp, priorFack, priorUna, sacktag)
  tcpRackUpdateReoWnd(tp, rs)
  flag |= sacktag.flag
  if (tp.tlpHighSeq !== 0) tcpProcessTlpAck(sk, tp, ack, flag)
  let rexmit = REXMIT_NONE
  if ((flag & FLAG_NOT_DUP) === 0 || (flag & FLAG_CA_ALERT) !== 0 || tp.caState !== TCP_CA_OPEN) {
    if ((flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK)) === 0) {
      numDupack = 1
      if ((flag & FLAG_DATA) === 0) numDupack = Math.max(1, gsoSegs(skb))
    }
    tp.env.alert.flag = flag
    tp.env.alert.rexmit = rexmit
    tcpFastretransAlert(cpu, sk, numDupack, tp.env.alert)
    flag = tp.env.alert.flag
    rexmit = tp.env.alert.rexmit
  }
  if ((flag & FLAG_SET_XMIT_TIMER) !== 0 && !tcpScheduleLossProbe(tp, true)) tcpRearmRto(tp)
  const delivered = tp.delivered - priorDelivered
  addStats(sk, MIB.TCPDelivered, delivered)
  rs.isAckDelayed = (flag & FLAG_ACK_MAYBE_DELAYED) !== 0
  tcpRateGen(tp, delivered, tp.lost - priorLost, reneg, rs)
  tcpCongControl(tp, ack, delivered, flag, rs)
  tcpXmitRecovery(cpu, sk, tp, rexmit)
  return 1
}
