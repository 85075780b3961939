/**
 * Delivery rate samples: each packet remembers how much had been delivered when it was sent; when it is
 * acknowledged, the difference over the time is a sample of the path's bandwidth.
 */
import type { SkBuff } from '@netmem/skbuff'
import { before } from './seq.js'
import { TCPCB_APP_LIMITED, TCPCB_RETRANS } from './tcp-skb.js'
import { type TcpSock, tcpPacketsInFlight } from './tcp-sock.js'
import { tcpStampUsDelta } from './tcp-time.js'

/** Models `struct rate_sample`; one per machine, valid while an ACK is processed. */
export class RateSample {
  priorMstamp = 0
  priorDelivered = 0
  delivered = 0
  intervalUs = 0
  sndIntervalUs = 0
  rttUs = -1
  losses = 0
  ackedSacked = 0
  priorInFlight = 0
  lastEndSeq = 0
  isAppLimited = false
  isRetrans = false
  isAckDelayed = false

  reset(): void {
    this.priorMstamp = 0
    this.priorDelivered = 0
    this.delivered = 0
    this.intervalUs = -1
    this.rttUs = -1
    this.losses = 0
    this.ackedSacked = 0
    this.priorInFlight = 0
    this.isAppLimited = false
    this.isRetrans = false
    this.isAckDelayed = false
  }
}

/** Models `tcp_rate_skb_sent` (net/ipv4/tcp_rate.c). */
export function tcpRateSkbSent(tp: TcpSock, skb: SkBuff): void {
  if (tp.packetsOut === 0) {
    tp.firstTxMstamp = skb.cb4
    tp.deliveredMstamp = skb.cb4
  }
  skb.cb5 = tp.delivered
  skb.cb6 = tp.firstTxMstamp
  skb.cb7 = tp.deliveredMstamp
  if (tp.appLimited !== 0) skb.cb2 |= TCPCB_APP_LIMITED
  else skb.cb2 &= ~TCPCB_APP_LIMITED
}

/** Models `tcp_rate_skb_delivered`: the sample is of the packet sent last among those acknowledged. */
export function tcpRateSkbDelivered(tp: TcpSock, skb: SkBuff, rs: RateSample): void {
  if (skb.cb7 === 0) return
  const newer = rs.priorDelivered === 0 || ((skb.cb5 - rs.priorDelivered) | 0) > 0
  if (newer || (skb.cb5 === rs.priorDelivered && !before(skb.cb1, rs.lastEndSeq))) {
    rs.priorDelivered = skb.cb5
    rs.priorMstamp = skb.cb7
    rs.isAppLimited = (skb.cb2 & TCPCB_APP_LIMITED) !== 0
    rs.isRetrans = (skb.cb2 & TCPCB_RETRANS) !== 0
    rs.lastEndSeq = skb.cb1
    tp.firstTxMstamp = skb.cb4
    rs.intervalUs = tcpStampUsDelta(skb.cb4, skb.cb6)
  }
  // A packet counts once, though SACK and ACK both report it.
  skb.cb7 = 0
}

/** Models `tcp_rate_gen`. */
export function tcpRateGen(tp: TcpSock, delivered: number, lost: number, reneged: boolean, rs: RateSample): void {
  if (tp.appLimited !== 0 && ((tp.delivered - tp.appLimited) | 0) > 0) tp.appLimited = 0
  if (delivered !== 0) tp.deliveredMstamp = tp.mstamp
  rs.ackedSacked = delivered
  rs.losses = lost
  if (rs.priorMstamp === 0 || reneged) {
    rs.delivered = -1
    rs.intervalUs = -1
    return
  }
  rs.delivered = (tp.delivered - rs.priorDelivered) | 0
  // Both the sending and the acknowledging of the flight take time; the longer of them bounds the rate.
  const sndUs = rs.intervalUs
  rs.sndIntervalUs = sndUs
  rs.intervalUs = Math.max(sndUs, tcpStampUsDelta(tp.mstamp, rs.priorMstamp))
  if (rs.intervalUs < tp.minRttUs >>> 0) {
    if (!rs.isRetrans) rs.intervalUs = -1
    return
  }
  if (!rs.isAppLimited || rs.delivered * tp.rateIntervalUs >= tp.rateDelivered * rs.intervalUs) {
    tp.rateDelivered = rs.delivered
    tp.rateIntervalUs = rs.intervalUs
  }
}

/** Models `tcp_rate_check_app_limited`: the sender has nothing to send though it could. */
export function tcpRateCheckAppLimited(tp: TcpSock): void {
  const sk = tp.sk
  if (
    ((tp.writeSeq - tp.sndNxt) | 0) < tp.mssCache &&
    sk.wmemAlloc < 576 &&
    tcpPacketsInFlight(tp) < tp.sndCwnd &&
    tp.lostOut <= tp.retransOut
  )
    tp.appLimited = tp.delivered + tcpPacketsInFlight(tp) || 1
}
