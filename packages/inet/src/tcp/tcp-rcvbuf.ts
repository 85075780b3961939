/**
 * Autotuning: the receive buffer grows with what the application reads per round trip, the window threshold
 * with segments that waste little memory, and the send buffer with the congestion window.
 */
import { gsoSize, type SkBuff, skbEndOffset, skbHeadlen, skbPeekTail, skbTruesize } from '@netmem/skbuff'
import {
  SOCK_RCVBUF_LOCK,
  SOCK_SNDBUF_LOCK,
  type Sock,
  skMemoryAllocated,
  skProtMemLimits,
  skUnderMemoryPressure,
} from '@netmem/sockmem'
import { before, seqDistance } from './seq.js'
import { TCP_HEADER_BYTES, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_SYN, TCPHDR_URG, tcpFlags, thFlags } from './tcp-skb.js'
import { ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2, inetCskScheduleAck, type TcpSock, tcpSk } from './tcp-sock.js'
import { tcpJiffies, tcpMstampRefresh, tcpStampUsDelta, tcpTimeStamp } from './tcp-time.js'
import {
  tcpAdjustRcvSsthresh,
  tcpAdjustRcvSsthreshTo,
  tcpFullSpace,
  tcpSpace,
  tcpSpaceFromWin,
  tcpWinFromSpace,
} from './tcp-window.js'

export const TCP_MSS_DEFAULT = 536
export const TCP_MIN_MSS = 88
export const TCP_INIT_CWND = 10
/** Models `TCP_MAX_QUICKACKS`. */
export const TCP_MAX_QUICKACKS = 16

// Receiving: what a segment teaches.

/** Models `tcp_set_window_clamp` (net/ipv4/tcp.c) of 6.18. */
export function tcpSetWindowClamp(sk: Sock, value: number): void {
  const tp = tcpSk(sk)
  const clamp = Math.max(sk.env.minRcvbuf >> 1, value)
  if (clamp === tp.windowClamp) return
  const shrinks = clamp < tp.windowClamp
  tp.windowClamp = clamp
  if (shrinks) tcpAdjustRcvSsthreshTo(sk, clamp)
  else tp.rcvSsthresh = Math.max(Math.min(tp.rcvWnd, clamp), tp.rcvSsthresh)
}

/**
 * Models `tcp_measure_rcv_mss` (net/ipv4/tcp_input.c): guesses the peer's segment size, which decides when a
 * delayed ACK is due, and how much payload the buffer carries.
 */
export function tcpMeasureRcvMss(sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  const lss = tp.lastSegSize
  tp.lastSegSize = 0
  const gso = gsoSize(skb)
  let len = gso !== 0 ? gso : skb.len
  if (len >= tp.rcvMss) {
    if (len !== tp.rcvMss && tp.env.scalingRatio) tcpUpdateScalingRatio(sk, tp, skb)
    tp.rcvMss = Math.min(len, tp.advmss)
    // A full segment with PSH probably ends a write: the ACK goes out as soon as the reader is done.
    if ((tcpFlags(skb) & TCPHDR_PSH) !== 0) tp.ackPending |= ICSK_ACK_PUSHED
    return
  }
  const th = (skb.head + skb.transportHeader) >>> 0
  len += (skb.data - (skb.head + skb.transportHeader)) | 0
  const remnant = (thFlags(skb.env.u8, th) & (TCPHDR_FIN | TCPHDR_URG | TCPHDR_SYN | TCPHDR_PSH)) !== 0
  if (len >= TCP_MSS_DEFAULT + TCP_HEADER_BYTES || (len >= TCP_MIN_MSS + TCP_HEADER_BYTES && !remnant)) {
    len -= tp.tcpHeaderLen
    tp.lastSegSize = len
    if (len === lss) {
      tp.rcvMss = len
      return
    }
  }
  if ((tp.ackPending & ICSK_ACK_PUSHED) !== 0) tp.ackPending |= ICSK_ACK_PUSHED2
  tp.ackPending |= ICSK_ACK_PUSHED
}

function tcpUpdateScalingRatio(sk: Sock, tp: TcpSock, skb: SkBuff): void {
  const ratio = Math.floor((skb.len * 256) / skb.truesize) & 0xff
  const old = tp.scalingRatio
  tp.scalingRatio = ratio === 0 ? 1 : ratio
  if (old === tp.scalingRatio) return
  tcpSetWindowClamp(sk, tcpWinFromSpace(tp, sk.rcvbuf))
  if (tp.windowClamp < tp.rcvqSpace) tp.rcvqSpace = tp.windowClamp
}

/** Models `tcp_incr_quickack`. */
export function tcpIncrQuickack(tp: TcpSock, max: number): void {
  let quick = Math.floor(tp.rcvWnd / (2 * tp.rcvMss))
  if (quick === 0) quick = 2
  quick = Math.min(quick, max)
  if (quick > tp.ackQuick) tp.ackQuick = quick
}

/** Models `tcp_enter_quickack_mode`: the next ACKs go out at once. */
export function tcpEnterQuickackMode(tp: TcpSock, max: number): void {
  tcpIncrQuickack(tp, max)
  tp.ackPingpong = 0
  tp.ackAto = tp.env.atoMin
}

/** Models `tcp_in_quickack_mode`. */
export const tcpInQuickackMode = (tp: TcpSock): boolean => tp.ackQuick !== 0 && tp.ackPingpong === 0

/** Models `tcp_initialize_rcv_mss`. */
export function tcpInitializeRcvMss(tp: TcpSock): void {
  let hint = Math.min(tp.advmss, tp.mssCache)
  hint = Math.min(hint, tp.rcvWnd >> 1)
  hint = Math.min(hint, TCP_MSS_DEFAULT)
  tp.rcvMss = Math.max(hint, TCP_MIN_MSS)
}

/** Models `__tcp_grow_window`: a wasteful segment may still raise a low threshold. */
function growWindowSlow(tp: TcpSock, skb: SkBuff, skbTruesize: number): number {
  let truesize = tcpWinFromSpace(tp, skbTruesize) >> 1
  let window = tcpWinFromSpace(tp, tp.ctl.rmem[2]!) >> 1
  while (tp.rcvSsthresh <= window) {
    if (truesize <= skb.len) return 2 * tp.rcvMss
    truesize >>= 1
    window >>= 1
  }
  return 0
}

/** Models `tcp_grow_window` (net/ipv4/tcp_input.c): raises `rcv_ssthresh` for segments worth their memory. */
export function tcpGrowWindow(sk: Sock, skb: SkBuff, adjust: boolean): void {
  const tp = tcpSk(sk)
  const room = Math.min(tp.windowClamp, tcpSpace(sk)) - tp.rcvSsthresh
  if (room <= 0) return
  if (skUnderMemoryPressure(sk)) {
    tcpAdjustRcvSsthresh(sk)
    return
  }
  let truesize = skb.truesize
  // Coalescing will give the head back, so only the fragments count.
  if (adjust && skbHeadlen(skb) === 0) {
    truesize -= skbTruesize(skb.env.sizes, skbEndOffset(skb))
    if (truesize < skb.len) truesize = skb.truesize
  }
  let incr = tcpWinFromSpace(tp, truesize) <= skb.len ? 2 * tp.advmss : growWindowSlow(tp, skb, truesize)
  if (incr === 0) return
  incr = Math.max(incr, 2 * skb.len)
  tp.rcvSsthresh += Math.min(room, incr)
  tp.ackQuick |= 1
}

// Receiving: round trips as the receiver sees them.

/** Models `tcp_rcv_rtt_update` (net/ipv4/tcp_input.c). @param sample µs. */
function tcpRcvRttUpdate(tp: TcpSock, sample: number, winDep: boolean): void {
  const old = tp.rcvRttUs
  const m = sample << 3
  if (!tp.env.features.tcpRcvQueueAware) {
    if (old === 0) tp.rcvRttUs = m
    else if (!winDep) tp.rcvRttUs = old + sample - (old >> 3)
    else if (m < old) tp.rcvRttUs = m
    return
  }
  if (old === 0 || m < old) tp.rcvRttUs = m
  else if (!winDep && tp.rcvNxt === tp.copiedSeq) tp.rcvRttUs = old - (old >> 3) + sample
}

/** Models `tcp_rcv_rtt_measure`: a window's worth of data takes one round trip. */
function tcpRcvRttMeasure(tp: TcpSock): void {
  if (tp.rcvRttTime !== 0) {
    if (before(tp.rcvNxt, tp.rcvRttSeq)) return
    const delta = tcpStampUsDelta(tp.mstamp, tp.rcvRttTime)
    tcpRcvRttUpdate(tp, delta === 0 ? 1 : delta, true)
  }
  tp.rcvRttSeq = (tp.rcvNxt + tp.rcvWnd) | 0
  tp.rcvRttTime = tp.mstamp
}

/** Models `tcp_rcv_rtt_measure_ts`: the peer echoes our timestamps, in milliseconds. */
export function tcpRcvRttMeasureTs(sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  if (tp.rx.rcvTsecr === tp.rcvRttLastTsecr) return
  tp.rcvRttLastTsecr = tp.rx.rcvTsecr
  if (seqDistance(skb.cb0, skb.cb1) < tp.rcvMss) return
  let delta = (tcpTimeStamp(tp) - tp.rx.rcvTsecr) >>> 0
  if (delta >= 0x7fffffff / 1000) return
  if (delta === 0 && !tp.env.features.tcpRcvQueueAware) delta = 1
  if (delta > 0) tcpRcvRttUpdate(tp, delta * 1000, false)
}

// The receive buffer.

/**
 * Models `tcp_rcvbuf_grow` (net/ipv4/tcp_input.c): room for twice what was read in the last round trip, more
 * while that still rises, and for what waits behind a hole.
 */
export function tcpRcvbufGrow(sk: Sock, space: number): void {
  const tp = tcpSk(sk)
  const old = tp.rcvqSpace
  tp.rcvqSpace = space
  if (tp.ctl.moderateRcvbuf[0] === 0 || (sk.userlocks & SOCK_RCVBUF_LOCK) !== 0) return
  let win = space * 2
  win += Math.floor((win * (space - old)) / old) * 2
  const last = skbPeekTail(tp.outOfOrderQueue)
  if (last !== null) win += seqDistance(tp.rcvNxt, last.cb1)
  tcpRaiseRcvbuf(sk, tp, Math.min(tcpSpaceFromWin(tp, win), tp.ctl.rmem[2]!))
}

function tcpRaiseRcvbuf(sk: Sock, tp: TcpSock, rcvbuf: number): void {
  if (rcvbuf <= sk.rcvbuf) return
  sk.rcvbuf = rcvbuf
  tp.windowClamp = tcpWinFromSpace(tp, rcvbuf)
}

/** Models `tcp_rcv_space_adjust` (net/ipv4/tcp_input.c): the user has just taken bytes. */
export function tcpRcvSpaceAdjust(sk: Sock): void {
  const tp = tcpSk(sk)
  const trace = sk.env.trace
  if (trace.tcpRcvSpaceAdjust !== null) trace.tcpRcvSpaceAdjust(sk.id, tp.rcvqSpace, sk.rcvbuf)
  if (!tp.env.features.tcpRcvQueueAware) tcpMstampRefresh(tp)
  if (tp.rcvRttUs === 0) return
  if (tcpStampUsDelta(tp.mstamp, tp.rcvqTime) < tp.rcvRttUs >> 3) return
  let copied = (tp.copiedSeq - tp.rcvqSeq) | 0
  if (tp.env.features.tcpRcvQueueAware) copied -= (tp.rcvNxt - tp.copiedSeq) | 0
  if (copied > tp.rcvqSpace) {
    if (tp.env.scalingRatio) tcpRcvbufGrow(sk, copied)
    else rcvSpaceAdjustPerMss(sk, tp, copied)
  }
  tp.rcvqSeq = tp.copiedSeq
  tp.rcvqTime = tp.mstamp
}

/** How 6.1 turned bytes per round trip into a buffer: whole segments, each with its worst truesize. */
function rcvSpaceAdjustPerMss(sk: Sock, tp: TcpSock, copied: number): void {
  if (tp.ctl.moderateRcvbuf[0] !== 0 && (sk.userlocks & SOCK_RCVBUF_LOCK) === 0) {
    let win = copied * 2 + 16 * tp.advmss
    win += Math.floor((win * (copied - tp.rcvqSpace)) / tp.rcvqSpace) * 2
    let perMss = skbTruesize(sk.env.skbs.sizes, tp.advmss + tp.env.maxTcpHeader)
    while (tcpWinFromSpace(tp, perMss) < tp.advmss) perMss += 128
    tcpRaiseRcvbuf(sk, tp, Math.min(Math.floor(win / tp.advmss) * perMss, tp.ctl.rmem[2]!))
  }
  tp.rcvqSpace = copied
}

/** Models `tcp_clamp_window` (net/ipv4/tcp_input.c): the queue is beyond the buffer. */
export function tcpClampWindow(sk: Sock): void {
  const tp = tcpSk(sk)
  tp.ackQuick = 0
  const max = tp.ctl.rmem[2]!
  if (
    sk.rcvbuf < max &&
    (sk.userlocks & SOCK_RCVBUF_LOCK) === 0 &&
    !skUnderMemoryPressure(sk) &&
    skMemoryAllocated(sk) < skProtMemLimits(sk, 0)
  )
    sk.rcvbuf = Math.min(sk.rmemAlloc, max)
  if (sk.rmemAlloc > sk.rcvbuf) tp.rcvSsthresh = Math.min(tp.windowClamp, 2 * tp.advmss)
}

/** Models `tcp_event_data_recv` (net/ipv4/tcp_input.c): data for the user arrived in order. */
export function tcpEventDataRecv(sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  inetCskScheduleAck(tp)
  tcpMeasureRcvMss(sk, skb)
  tcpRcvRttMeasure(tp)
  const now = tcpJiffies(tp)
  const atoMin = tp.env.atoMin
  if (tp.ackAto === 0) {
    tcpIncrQuickack(tp, TCP_MAX_QUICKACKS)
    tp.ackAto = atoMin
  } else {
    const gap = (now - tp.lrcvtime) | 0
    if (gap <= atoMin >> 1) tp.ackAto = (tp.ackAto >> 1) + (atoMin >> 1)
    else if (gap < tp.ackAto) tp.ackAto = Math.min((tp.ackAto >> 1) + gap, tp.rto)
    else if (gap > tp.rto) tcpIncrQuickack(tp, TCP_MAX_QUICKACKS)
  }
  tp.lrcvtime = now
  if (skb.len >= 128) tcpGrowWindow(sk, skb, true)
}

// The send buffer, and both at the start of a connection.

/** Models `tcp_sndbuf_expand` (net/ipv4/tcp_input.c): room for the window twice over, or as the congestion control says. */
export function tcpSndbufExpand(sk: Sock): void {
  const tp = tcpSk(sk)
  const sizes = sk.env.skbs.sizes
  const head = Math.max(tp.rx.mssClamp, tp.mssCache) + tp.env.maxTcpHeader + sizes.sharedInfoBytes
  const perMss = 2 ** Math.ceil(Math.log2(head)) + sizes.headBytes
  const segs = Math.max(TCP_INIT_CWND, tp.sndCwnd, tp.reordering + 1)
  const bytes = tp.caOps.sndbufExpand * segs * perMss
  if (sk.sndbuf < bytes) sk.sndbuf = Math.min(bytes, tp.ctl.wmem[2]!)
}

/** Models `tcp_init_buffer_space` (net/ipv4/tcp_input.c): once, when the connection stands. */
export function tcpInitBufferSpace(sk: Sock): void {
  const tp = tcpSk(sk)
  if ((sk.userlocks & SOCK_SNDBUF_LOCK) === 0) tcpSndbufExpand(sk)
  tcpMstampRefresh(tp)
  tp.rcvqTime = tp.mstamp
  tp.rcvqSeq = tp.copiedSeq
  const maxwin = tcpFullSpace(sk)
  const appWin = tp.ctl.appWin[0]!
  if (tp.windowClamp >= maxwin) {
    tp.windowClamp = maxwin
    if (appWin !== 0 && maxwin > 4 * tp.advmss)
      tp.windowClamp = Math.max(maxwin - (appWin >= 31 ? 0 : maxwin >> appWin), 4 * tp.advmss)
  }
  // One segment is kept back.
  if (appWin !== 0 && tp.windowClamp > 2 * tp.advmss && tp.windowClamp + tp.advmss > maxwin)
    tp.windowClamp = Math.max(2 * tp.advmss, maxwin - tp.advmss)
  tp.rcvSsthresh = Math.min(tp.rcvSsthresh, tp.windowClamp)
  tp.sndCwndStamp = tcpJiffies(tp)
  tp.rcvqSpace = Math.min(tp.rcvSsthresh, tp.rcvWnd, TCP_INIT_CWND * tp.advmss)
}
