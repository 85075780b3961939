/**
 * Congestion control: the table of algorithms, Reno, and what is common to all: slow start, the reduction of
 * the window after a loss (proportional, PRR), and the pacing rate.
 */
import { SOCKF_NOSPACE, type Sock } from '@netmem/sockmem'
import { after } from './seq.js'
import type { RateSample } from './tcp-rate.js'
import {
  TCP_CA_CWR,
  TCP_CA_OPEN,
  TCP_INFINITE_SSTHRESH,
  type TcpSock,
  tcpInCwndReduction,
  tcpPacketsInFlight,
} from './tcp-sock.js'
import { tcpJiffies } from './tcp-time.js'

// Models `enum tcp_ca_event`.
export const CA_EVENT_TX_START = 0
export const CA_EVENT_CWND_RESTART = 1
export const CA_EVENT_COMPLETE_CWR = 2
export const CA_EVENT_LOSS = 3

/** Models `struct tcp_congestion_ops`. */
export interface TcpCongestionOps {
  readonly name: string
  /** Models `sndbuf_expand`: how many windows the send buffer holds. */
  readonly sndbufExpand: number
  /** Models `min_tso_segs`; 0 leaves it to `net.ipv4.tcp_min_tso_segs`. */
  minTsoSegs(tp: TcpSock): number
  init(tp: TcpSock): void
  ssthresh(tp: TcpSock): number
  congAvoid(tp: TcpSock, ack: number, acked: number): void
  undoCwnd(tp: TcpSock): number
  /** Models `set_state`. */
  setState(tp: TcpSock, state: number): void
  cwndEvent(tp: TcpSock, event: number): void
  pktsAcked(tp: TcpSock, pkts: number, rttUs: number): void
  /** Models `cong_control`: takes over window and pacing altogether; null for the classical ones. */
  readonly congControl: ((tp: TcpSock, flag: number, rs: RateSample) => void) | null
  /** Packets are spread in time by TCP itself (`sk_pacing_status`). */
  readonly pacing: boolean
}

/** Models `tcp_slow_start`: one segment per segment acknowledged. @returns what is left over. */
export function tcpSlowStart(tp: TcpSock, acked: number): number {
  const cwnd = Math.min(tp.sndCwnd + acked, tp.sndSsthresh)
  const left = acked - (cwnd - tp.sndCwnd)
  tp.sndCwnd = Math.min(cwnd, tp.sndCwndClamp)
  return left
}

/** Models `tcp_cong_avoid_ai`: one segment per `w` acknowledged. */
export function tcpCongAvoidAi(tp: TcpSock, w: number, acked: number): void {
  if (tp.sndCwndCnt >= w) {
    tp.sndCwndCnt = 0
    tp.sndCwnd++
  }
  tp.sndCwndCnt += acked
  if (tp.sndCwndCnt >= w) {
    const delta = Math.floor(tp.sndCwndCnt / w)
    tp.sndCwndCnt -= delta * w
    tp.sndCwnd += delta
  }
  tp.sndCwnd = Math.min(tp.sndCwnd, tp.sndCwndClamp)
}

/** Models `tcp_in_slow_start`. */
export const tcpInSlowStart = (tp: TcpSock): boolean => tp.sndCwnd < tp.sndSsthresh

/** Models `tcp_is_cwnd_limited`. */
export function tcpIsCwndLimited(tp: TcpSock): boolean {
  if (tp.isCwndLimited !== 0) return true
  if (tcpInSlowStart(tp)) return tp.sndCwnd < 2 * tp.maxPacketsOut
  return false
}

/** Models `tcp_reno` (net/ipv4/tcp_cong.c). */
export const tcpReno: TcpCongestionOps = {
  name: 'reno',
  sndbufExpand: 2,
  minTsoSegs: () => 0,
  init: () => {},
  ssthresh: (tp) => Math.max(tp.sndCwnd >> 1, 2),
  congAvoid: (tp, _ack, acked) => {
    if (!tcpIsCwndLimited(tp)) return
    let left = acked
    if (tcpInSlowStart(tp)) {
      left = tcpSlowStart(tp, left)
      if (left === 0) return
    }
    tcpCongAvoidAi(tp, tp.sndCwnd, left)
  },
  undoCwnd: (tp) => Math.max(tp.sndCwnd, tp.priorCwnd),
  setState: () => {},
  cwndEvent: () => {},
  pktsAcked: () => {},
  congControl: null,
  pacing: false,
}

/** Models `tcp_ca_event(CA_EVENT_TX_START)`. */
export const tcpCaEventTxStart = (tp: TcpSock): void => tp.caOps.cwndEvent(tp, CA_EVENT_TX_START)

/** Models `tcp_set_ca_state`. */
export function tcpSetCaState(tp: TcpSock, state: number): void {
  tp.caOps.setState(tp, state)
  tp.caState = state
}

/** Models `tcp_current_ssthresh`. */
export const tcpCurrentSsthresh = (tp: TcpSock): number =>
  tcpInCwndReduction(tp) ? tp.sndSsthresh : Math.max(tp.sndSsthresh, (tp.sndCwnd >> 1) + (tp.sndCwnd >> 2))

/** @returns bytes per second: the option's largest 32-bit number stands for no limit. */
export const tcpMaxPacingRate = (sk: Sock): number => (sk.maxPacingRate === 0xffffffff ? Infinity : sk.maxPacingRate)

/** Models `tcp_update_pacing_rate` (net/ipv4/tcp_input.c): twice the current rate in slow start, else 1.2 times. */
export function tcpUpdatePacingRate(tp: TcpSock): void {
  const percent = tp.sndCwnd < tp.sndSsthresh / 2 ? tp.ctl.pacingSsRatio[0]! : tp.ctl.pacingCaRatio[0]!
  let rate = tp.mssCache * (1e6 / 100) * 8 * percent * Math.max(tp.sndCwnd, tp.packetsOut)
  if (tp.srttUs !== 0) rate = Math.floor(rate / tp.srttUs)
  tp.sk.pacingRate = Math.min(rate, tcpMaxPacingRate(tp.sk))
}

// Reduction after a loss: PRR (RFC 6937).

/** Models `tcp_init_cwnd_reduction`. */
export function tcpInitCwndReduction(tp: TcpSock): void {
  tp.highSeq = tp.sndNxt
  tp.tlpHighSeq = 0
  tp.sndCwndCnt = 0
  tp.priorCwnd = tp.sndCwnd
  tp.prrDelivered = 0
  tp.prrOut = 0
  tp.sndSsthresh = tp.caOps.ssthresh(tp)
}

/** Models `tcp_cwnd_reduction` (net/ipv4/tcp_input.c). */
export function tcpCwndReduction(tp: TcpSock, newlyAckedSacked: number, newlyLost: number, undoOrSafe: boolean): void {
  if (newlyAckedSacked <= 0 || tp.priorCwnd === 0) return
  const delta = tp.sndSsthresh - tcpPacketsInFlight(tp)
  tp.prrDelivered += newlyAckedSacked
  let sndcnt: number
  if (delta < 0) {
    sndcnt = Math.floor((tp.sndSsthresh * tp.prrDelivered + tp.priorCwnd - 1) / tp.priorCwnd) - tp.prrOut
  } else {
    sndcnt = Math.max(tp.prrDelivered - tp.prrOut, newlyAckedSacked)
    if (undoOrSafe && newlyLost === 0) sndcnt++
    sndcnt = Math.min(delta, sndcnt)
  }
  // One segment always goes out with the first retransmission.
  sndcnt = Math.max(sndcnt, tp.prrOut !== 0 ? 0 : 1)
  tp.sndCwnd = tcpPacketsInFlight(tp) + sndcnt
}

/** Models `tcp_end_cwnd_reduction`. */
export function tcpEndCwndReduction(tp: TcpSock): void {
  if (tp.caOps.congControl !== null) return
  if (tp.sndSsthresh < TCP_INFINITE_SSTHRESH && (tp.caState === TCP_CA_CWR || tp.undoMarker !== 0)) {
    tp.sndCwnd = tp.sndSsthresh
    tp.sndCwndStamp = tcpJiffies(tp)
  }
  tp.caOps.cwndEvent(tp, CA_EVENT_COMPLETE_CWR)
}

/** Models `tcp_enter_cwr`: congestion without loss, such as a full queue below us. */
export function tcpEnterCwr(sk: { priv: unknown }): void {
  const tp = sk.priv as TcpSock
  tp.priorSsthresh = 0
  if (tp.caState >= TCP_CA_CWR) return
  tp.undoMarker = 0
  tcpInitCwndReduction(tp)
  tcpSetCaState(tp, TCP_CA_CWR)
}

/** Models `tcp_cwnd_restart`: after idling longer than the timeout, the window starts small again. */
export function tcpCwndRestart(tp: TcpSock, idle: number): void {
  const restart = Math.min(10, tp.sndCwnd)
  let cwnd = tp.sndCwnd
  let left = idle
  tp.caOps.cwndEvent(tp, CA_EVENT_CWND_RESTART)
  tp.sndSsthresh = tcpCurrentSsthresh(tp)
  for (left -= tp.rto; left > 0 && cwnd > restart; left -= tp.rto) cwnd >>= 1
  tp.sndCwnd = Math.max(cwnd, restart)
  tp.sndCwndStamp = tcpJiffies(tp)
  tp.sndCwndUsed = 0
}

/** Models `tcp_slow_start_after_idle_check`. */
export function tcpSlowStartAfterIdleCheck(tp: TcpSock): void {
  if (tp.ctl.slowStartAfterIdle[0] === 0 || tp.packetsOut !== 0 || tp.caOps.congControl !== null) return
  const idle = (tcpJiffies(tp) - tp.lsndtime) | 0
  if (idle > tp.rto) tcpCwndRestart(tp, idle)
}

/** Models `tcp_cwnd_application_limited`: a window that is not used shrinks towards what is. */
function tcpCwndApplicationLimited(tp: TcpSock): void {
  if (tp.caState === TCP_CA_OPEN && tp.sk.socket !== 0 && (tp.sk.flags & SOCKF_NOSPACE) === 0) {
    const used = Math.max(tp.sndCwndUsed, 10)
    if (used < tp.sndCwnd) {
      tp.sndSsthresh = tcpCurrentSsthresh(tp)
      tp.sndCwnd = (tp.sndCwnd + used) >> 1
    }
    tp.sndCwndUsed = 0
  }
  tp.sndCwndStamp = tcpJiffies(tp)
}

/** Models `tcp_cwnd_validate` (net/ipv4/tcp_output.c): was the window really the limit? */
export function tcpCwndValidate(tp: TcpSock, limited: boolean): void {
  if (!after(tp.cwndUsageSeq, tp.sndUna) || limited || (tp.isCwndLimited === 0 && tp.packetsOut > tp.maxPacketsOut)) {
    tp.isCwndLimited = limited ? 1 : 0
    tp.maxPacketsOut = tp.packetsOut
    tp.cwndUsageSeq = tp.sndNxt
  }
  if (tcpIsCwndLimited(tp)) {
    tp.sndCwndUsed = 0
    tp.sndCwndStamp = tcpJiffies(tp)
    return
  }
  if (tp.packetsOut > tp.sndCwndUsed) tp.sndCwndUsed = tp.packetsOut
  if (
    tp.ctl.slowStartAfterIdle[0] !== 0 &&
    ((tcpJiffies(tp) - tp.sndCwndStamp) | 0) >= tp.rto &&
    tp.caOps.congControl === null
  )
    tcpCwndApplicationLimited(tp)
}

/** Models `tcp_init_congestion_control`. */
export function tcpInitCongestionControl(tp: TcpSock): void {
  tp.priorSsthresh = 0
  tp.ca.fill(0)
  tp.caOps.init(tp)
}
