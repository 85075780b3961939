/**
 * CUBIC: the window follows a cubic curve around the point where the last loss was, independent of the
 * round-trip time, and never grows slower than Reno would.
 *
 * The curve's state lives in `tp.ca`; times are milliseconds, the window's fraction is in 2^10.
 */
import { type TcpCongestionOps, tcpCongAvoidAi, tcpInSlowStart, tcpIsCwndLimited, tcpSlowStart } from './tcp-cong.js'
import { TCP_CA_LOSS, type TcpSock } from './tcp-sock.js'

const CNT = 0
const LAST_MAX_CWND = 1
const LAST_CWND = 2
const LAST_TIME = 3
const ORIGIN_POINT = 4
const K = 5
const DELAY_MIN = 6
const EPOCH_START = 7
const ACK_CNT = 8
const TCP_CWND = 9

const BETA = 717
const BETA_SCALE = 1024
const CUBE_FACTOR = 2 ** 40 / 410
/** Models `beta_scale`: how Reno's additive increase has to be scaled for this decrease. */
const RENO_SCALE = Math.floor((8 * (BETA_SCALE + BETA)) / 3 / (BETA_SCALE - BETA))

const nowMs = (tp: TcpSock): number => Math.floor(tp.env.clock.nowNs / 1e6) + 1

/** Models `bictcp_update` (net/ipv4/tcp_cubic.c). */
function cubicUpdate(tp: TcpSock, acked: number): void {
  const { ca } = tp
  const cwnd = tp.sndCwnd
  const now = nowMs(tp)
  ca[ACK_CNT]! += acked
  if (ca[LAST_CWND] === cwnd && now - ca[LAST_TIME]! <= 1000 / 32) return
  if (ca[EPOCH_START] !== 0 && now === ca[LAST_TIME]) {
    renoFriendly(tp, ca, cwnd)
    return
  }
  ca[LAST_CWND] = cwnd
  ca[LAST_TIME] = now
  if (ca[EPOCH_START] === 0) {
    ca[EPOCH_START] = now
    ca[ACK_CNT] = acked
    ca[TCP_CWND] = cwnd
    if (ca[LAST_MAX_CWND]! <= cwnd) {
      ca[K] = 0
      ca[ORIGIN_POINT] = cwnd
    } else {
      ca[K] = Math.floor(Math.cbrt(CUBE_FACTOR * (ca[LAST_MAX_CWND]! - cwnd)))
      ca[ORIGIN_POINT] = ca[LAST_MAX_CWND]!
    }
  }
  const t = Math.floor(((now - ca[EPOCH_START]! + ca[DELAY_MIN]! / 1000) * 1024) / 1000)
  const offs = Math.abs(t - ca[K]!)
  const delta = Math.floor((410 * offs * offs * offs) / 2 ** 40)
  const target = t < ca[K]! ? ca[ORIGIN_POINT]! - delta : ca[ORIGIN_POINT]! + delta
  ca[CNT] = target > cwnd ? Math.floor(cwnd / (target - cwnd)) : 100 * cwnd
  if (ca[LAST_MAX_CWND] === 0 && ca[CNT]! > 20) ca[CNT] = 20
  renoFriendly(tp, ca, cwnd)
}

function renoFriendly(_tp: TcpSock, ca: number[], cwnd: number): void {
  const perWindow = Math.floor((cwnd * RENO_SCALE) / 8)
  while (perWindow !== 0 && ca[ACK_CNT]! > perWindow) {
    ca[ACK_CNT]! -= perWindow
    ca[TCP_CWND]! += 1
  }
  if (ca[TCP_CWND]! > cwnd) {
    const max = Math.floor(cwnd / (ca[TCP_CWND]! - cwnd))
    if (ca[CNT]! > max) ca[CNT] = max
  }
  ca[CNT] = Math.max(ca[CNT]!, 2)
}

/** Models `cubictcp` (net/ipv4/tcp_cubic.c). Differs: no HyStart, whose train detection reads real ACK spacing. */
export const tcpCubic: TcpCongestionOps = {
  name: 'cubic',
  sndbufExpand: 2,
  minTsoSegs: () => 0,
  init: (tp) => {
    tp.ca.fill(0)
  },
  ssthresh: (tp) => {
    const { ca } = tp
    ca[EPOCH_START] = 0
    // Fast convergence: a flow that loses before its old maximum makes room.
    ca[LAST_MAX_CWND] =
      tp.sndCwnd < ca[LAST_MAX_CWND]! ? Math.floor((tp.sndCwnd * (BETA_SCALE + BETA)) / (2 * BETA_SCALE)) : tp.sndCwnd
    return Math.max(Math.floor((tp.sndCwnd * BETA) / BETA_SCALE), 2)
  },
  congAvoid: (tp, _ack, acked) => {
    if (!tcpIsCwndLimited(tp)) return
    let left = acked
    if (tcpInSlowStart(tp)) {
      left = tcpSlowStart(tp, left)
      if (left === 0) return
    }
    cubicUpdate(tp, left)
    tcpCongAvoidAi(tp, tp.ca[CNT]!, left)
  },
  undoCwnd: (tp) => Math.max(tp.sndCwnd, tp.priorCwnd),
  setState: (tp, state) => {
    if (state === TCP_CA_LOSS) tp.ca.fill(0)
  },
  cwndEvent: () => {},
  pktsAcked: (tp, _pkts, rttUs) => {
    if (rttUs < 0) return
    const delay = Math.max(rttUs, 1)
    if (tp.ca[DELAY_MIN] === 0 || tp.ca[DELAY_MIN]! > delay) tp.ca[DELAY_MIN] = delay
  },
  congControl: null,
  pacing: false,
}
