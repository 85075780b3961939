/**
 * BBR: models the path by its largest delivery rate and its smallest round-trip time, sends at that rate and
 * keeps about two of their products in flight. For memory it matters because its send buffer holds three
 * windows where others hold two.
 *
 * Rates are packets per microsecond, kept as doubles in `tp.ca`. Differs: the gain cycle starts at its first
 * phase (the kernel draws one at random), and long-term policer detection is left out.
 */
import { CA_EVENT_TX_START, type TcpCongestionOps, tcpMaxPacingRate } from './tcp-cong.js'
import type { RateSample } from './tcp-rate.js'
import { TCP_CA_LOSS, TCP_CA_RECOVERY, TCP_INFINITE_SSTHRESH, type TcpSock, tcpPacketsInFlight } from './tcp-sock.js'
import { tcpStampUsDelta } from './tcp-time.js'

const MODE = 0
const MIN_RTT_US = 1
const MIN_RTT_STAMP = 2
const PROBE_RTT_DONE = 3
const NEXT_RTT_DELIVERED = 4
const CYCLE_MSTAMP = 5
const CYCLE_IDX = 6
const FULL_BW = 7
const FULL_BW_CNT = 8
const BW0 = 9
const BW1 = 10
const BW_ROUND = 11
const ROUNDS = 12
const PRIOR_CWND = 13
const FLAGS = 14
const PREV_CA_STATE = 15

const STARTUP = 0
const DRAIN = 1
const PROBE_BW = 2
const PROBE_RTT = 3

const HAS_SEEN_RTT = 1
const PACKET_CONSERVATION = 2

const HIGH_GAIN = 2885 / 1000 + 1 / 256
const DRAIN_GAIN = 1000 / 2885
const PACING_GAINS = [1.25, 0.75, 1, 1, 1, 1, 1, 1]
const BW_ROUNDS = 10
const MIN_CWND = 4
const PROBE_RTT_US = 200_000
const MIN_RTT_WINDOW_US = 10_000_000

const bandwidth = (tp: TcpSock): number => Math.max(tp.ca[BW0]!, tp.ca[BW1]!)
const fullBwReached = (tp: TcpSock): boolean => tp.ca[FULL_BW_CNT]! >= 3

function pacingGain(tp: TcpSock): number {
  const mode = tp.ca[MODE]
  if (mode === STARTUP) return HIGH_GAIN
  if (mode === DRAIN) return DRAIN_GAIN
  return mode === PROBE_BW ? PACING_GAINS[tp.ca[CYCLE_IDX]!]! : 1
}
const cwndGain = (tp: TcpSock): number =>
  tp.ca[MODE] === STARTUP || tp.ca[MODE] === DRAIN ? HIGH_GAIN : tp.ca[MODE] === PROBE_BW ? 2 : 1

/** Models `bbr_init_pacing_rate_from_rtt` and `bbr_set_pacing_rate`. Bytes per second, one percent below the estimate. */
function setPacingRate(tp: TcpSock, bw: number, gain: number): void {
  if (tp.srttUs !== 0 && (tp.ca[FLAGS]! & HAS_SEEN_RTT) === 0) initPacingRate(tp)
  const rate = Math.min(Math.floor(bw * tp.mssCache * gain * 1e6 * 0.99), tcpMaxPacingRate(tp.sk))
  if (fullBwReached(tp) || rate > tp.sk.pacingRate) tp.sk.pacingRate = rate
}

function initPacingRate(tp: TcpSock): void {
  let rttUs = 1000
  if (tp.srttUs !== 0) {
    rttUs = Math.max(tp.srttUs >> 3, 1)
    tp.ca[FLAGS]! |= HAS_SEEN_RTT
  }
  tp.sk.pacingRate = Math.min(
    Math.floor((tp.sndCwnd / rttUs) * tp.mssCache * HIGH_GAIN * 1e6 * 0.99),
    tcpMaxPacingRate(tp.sk),
  )
}

/** Models `bbr_inflight`: packets that fill the path at this rate, with room for the ends' batching. */
function inflight(tp: TcpSock, bw: number, gain: number): number {
  const minRtt = tp.ca[MIN_RTT_US]!
  if (minRtt === Number.MAX_SAFE_INTEGER || bw === 0) return 10
  let cwnd = Math.ceil(bw * minRtt * gain)
  cwnd += 3 * tsoSegsGoal(tp)
  cwnd = (cwnd + 1) & ~1
  return tp.ca[MODE] === PROBE_BW && tp.ca[CYCLE_IDX] === 0 ? cwnd + 2 : cwnd
}

function tsoSegsGoal(tp: TcpSock): number {
  const bytes = Math.min(tp.sk.pacingRate / 1024, tp.gsoMaxSize - 1 - tp.env.maxTcpHeader)
  return Math.min(Math.max(Math.floor(bytes / tp.mssCache), minTsoSegs(tp)), 127)
}

const minTsoSegs = (tp: TcpSock): number => (tp.sk.pacingRate < 1200000 / 8 ? 1 : 2)

/** Models `bbr_update_bw` with a two-bucket maximum over about ten round trips. @returns true at the start of a round. */
function updateBw(tp: TcpSock, rs: RateSample): boolean {
  const { ca } = tp
  if (rs.delivered < 0 || rs.intervalUs <= 0) return false
  let roundStart = false
  if (((rs.priorDelivered - ca[NEXT_RTT_DELIVERED]!) | 0) >= 0) {
    ca[NEXT_RTT_DELIVERED] = tp.delivered
    ca[ROUNDS]! += 1
    roundStart = true
    ca[FLAGS]! &= ~PACKET_CONSERVATION
  }
  const bw = rs.delivered / rs.intervalUs
  if (rs.isAppLimited && bw < bandwidth(tp)) return roundStart
  if (ca[ROUNDS]! - ca[BW_ROUND]! > BW_ROUNDS / 2) {
    ca[BW1] = ca[BW0]!
    ca[BW0] = 0
    ca[BW_ROUND] = ca[ROUNDS]!
  }
  if (bw > ca[BW0]!) ca[BW0] = bw
  return roundStart
}

function checkFullBw(tp: TcpSock, rs: RateSample, roundStart: boolean): void {
  const { ca } = tp
  if (fullBwReached(tp) || !roundStart || rs.isAppLimited) return
  const bw = bandwidth(tp)
  if (bw >= ca[FULL_BW]! * 1.25) {
    ca[FULL_BW] = bw
    ca[FULL_BW_CNT] = 0
  } else ca[FULL_BW_CNT]! += 1
}

function updateMode(tp: TcpSock): void {
  const { ca } = tp
  if (ca[MODE] === STARTUP && fullBwReached(tp)) {
    ca[MODE] = DRAIN
    tp.sndSsthresh = inflight(tp, bandwidth(tp), 1)
  }
  if (ca[MODE] === DRAIN && tcpPacketsInFlight(tp) <= inflight(tp, bandwidth(tp), 1)) {
    ca[MODE] = PROBE_BW
    ca[CYCLE_IDX] = 2
    ca[CYCLE_MSTAMP] = tp.deliveredMstamp
  }
}

function updateCycle(tp: TcpSock, rs: RateSample): void {
  const { ca } = tp
  if (ca[MODE] !== PROBE_BW) return
  const full = tcpStampUsDelta(tp.deliveredMstamp, ca[CYCLE_MSTAMP]!) > ca[MIN_RTT_US]!
  const gain = pacingGain(tp)
  let next = full
  if (gain > 1) next = full && (rs.losses !== 0 || rs.priorInFlight >= inflight(tp, bandwidth(tp), gain))
  else if (gain < 1) next = full || rs.priorInFlight <= inflight(tp, bandwidth(tp), 1)
  if (!next) return
  ca[CYCLE_IDX] = (ca[CYCLE_IDX]! + 1) & 7
  ca[CYCLE_MSTAMP] = tp.deliveredMstamp
}

function updateMinRtt(tp: TcpSock, rs: RateSample): void {
  const { ca } = tp
  const expired = tcpStampUsDelta(tp.mstamp, ca[MIN_RTT_STAMP]!) > MIN_RTT_WINDOW_US
  if (rs.rttUs >= 0 && (rs.rttUs < ca[MIN_RTT_US]! || (expired && !rs.isAckDelayed))) {
    ca[MIN_RTT_US] = Math.max(rs.rttUs, 1)
    ca[MIN_RTT_STAMP] = tp.mstamp
  }
  if (expired && ca[MODE] !== PROBE_RTT) {
    ca[MODE] = PROBE_RTT
    ca[PRIOR_CWND] = tp.sndCwnd
    ca[PROBE_RTT_DONE] = 0
  }
  if (ca[MODE] !== PROBE_RTT) return
  tp.appLimited = tp.delivered + tcpPacketsInFlight(tp) || 1
  if (ca[PROBE_RTT_DONE] === 0) {
    if (tcpPacketsInFlight(tp) <= MIN_CWND) ca[PROBE_RTT_DONE] = (tp.mstamp + PROBE_RTT_US) | 0 || 1
  } else if (((tp.mstamp - ca[PROBE_RTT_DONE]!) | 0) >= 0) {
    ca[MIN_RTT_STAMP] = tp.mstamp
    tp.sndCwnd = Math.max(tp.sndCwnd, ca[PRIOR_CWND]!)
    ca[MODE] = fullBwReached(tp) ? PROBE_BW : STARTUP
    ca[CYCLE_IDX] = 2
  }
}

/** Models `bbr_set_cwnd`, with packet conservation in the first round of a recovery. */
function setCwnd(tp: TcpSock, rs: RateSample): void {
  const { ca } = tp
  const acked = rs.ackedSacked
  if (acked !== 0) {
    let cwnd = tp.sndCwnd
    if (rs.losses > 0) cwnd = Math.max(cwnd - rs.losses, 1)
    const prev = ca[PREV_CA_STATE]!
    if (tp.caState === TCP_CA_RECOVERY && prev !== TCP_CA_RECOVERY) {
      ca[FLAGS]! |= PACKET_CONSERVATION
      ca[NEXT_RTT_DELIVERED] = tp.delivered
      cwnd = tcpPacketsInFlight(tp) + acked
    } else if (prev >= TCP_CA_RECOVERY && tp.caState < TCP_CA_RECOVERY) {
      cwnd = Math.max(cwnd, ca[PRIOR_CWND]!)
      ca[FLAGS]! &= ~PACKET_CONSERVATION
    }
    ca[PREV_CA_STATE] = tp.caState
    if ((ca[FLAGS]! & PACKET_CONSERVATION) !== 0) cwnd = Math.max(cwnd, tcpPacketsInFlight(tp) + acked)
    else {
      const target = inflight(tp, bandwidth(tp), cwndGain(tp))
      if (fullBwReached(tp)) cwnd = Math.min(cwnd + acked, target)
      else if (cwnd < target || tp.delivered < 10) cwnd += acked
      cwnd = Math.max(cwnd, MIN_CWND)
    }
    tp.sndCwnd = Math.min(cwnd, tp.sndCwndClamp)
  }
  if (ca[MODE] === PROBE_RTT) tp.sndCwnd = Math.min(tp.sndCwnd, MIN_CWND)
}

/** Models `tcp_bbr_cong_ops` (net/ipv4/tcp_bbr.c). */
export const tcpBbr: TcpCongestionOps = {
  name: 'bbr',
  sndbufExpand: 3,
  minTsoSegs,
  init: (tp) => {
    tp.ca.fill(0)
    tp.sndSsthresh = TCP_INFINITE_SSTHRESH
    tp.ca[MIN_RTT_US] = tp.minRttUs === -1 ? Number.MAX_SAFE_INTEGER : tp.minRttUs >>> 0
    tp.ca[MIN_RTT_STAMP] = tp.mstamp
    tp.sk.pacingRate = 0
    initPacingRate(tp)
  },
  ssthresh: (tp) => {
    saveCwnd(tp)
    return tp.sndSsthresh
  },
  congAvoid: () => {},
  undoCwnd: (tp) => {
    tp.ca[FULL_BW] = 0
    tp.ca[FULL_BW_CNT] = 0
    return tp.sndCwnd
  },
  setState: (tp, state) => {
    if (state !== TCP_CA_LOSS) return
    tp.ca[PREV_CA_STATE] = TCP_CA_LOSS
    tp.ca[FULL_BW] = 0
  },
  cwndEvent: (tp, event) => {
    if (event !== CA_EVENT_TX_START || tp.appLimited === 0) return
    tp.ca[CYCLE_MSTAMP] = tp.mstamp
  },
  pktsAcked: () => {},
  congControl: (tp, _flag, rs) => {
    const roundStart = updateBw(tp, rs)
    updateCycle(tp, rs)
    checkFullBw(tp, rs, roundStart)
    updateMode(tp)
    updateMinRtt(tp, rs)
    setPacingRate(tp, bandwidth(tp), pacingGain(tp))
    setCwnd(tp, rs)
  },
  pacing: true,
}

/** Models `bbr_save_cwnd`. */
function saveCwnd(tp: TcpSock): void {
  if (tp.ca[PREV_CA_STATE]! < TCP_CA_RECOVERY && tp.ca[MODE] !== PROBE_RTT) tp.ca[PRIOR_CWND] = tp.sndCwnd
  else tp.ca[PRIOR_CWND] = Math.max(tp.ca[PRIOR_CWND]!, tp.sndCwnd)
}
