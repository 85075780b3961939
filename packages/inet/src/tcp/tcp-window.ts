/**
 * The receive window: how much of the receive buffer we offer to the peer. Truesize fills the buffer but the
 * window counts payload, so one is turned into the other: since 6.6 by the ratio that the peer's own segments
 * showed (`tcpScalingRatio`), before by the fixed share of `net.ipv4.tcp_adv_win_scale`.
 */
import { type Sock, skUnderMemoryPressure, skUnusedReservedMem } from '@netmem/sockmem'
import { incStats, MIB } from './tcp-mib.js'
import { TCP_MAX_WSCALE } from './tcp-options.js'
import { ICSK_ACK_NOMEM, type TcpSock, tcpReceiveWindow, tcpSk } from './tcp-sock.js'

/** Models `TCP_RMEM_TO_WIN_SCALE`: the ratio is in 1/256. */
export const TCP_RMEM_TO_WIN_SCALE = 8
const U16_MAX = 0xffff

/** Models `tcp_win_from_space`: the payload that so many bytes of buffer are good for. */
export function tcpWinFromSpace(tp: TcpSock, space: number): number {
  // The product passes 2^31 for buffers beyond 8 MiB: a division keeps it exact where `>>` would cut it.
  if (tp.env.scalingRatio) return Math.floor((space * tp.scalingRatio) / 256)
  const scale = tp.ctl.advWinScale[0]!
  return scale <= 0 ? space >> -scale : space - (space >> scale)
}

/** Models `tcp_space_from_win`: the buffer that so much payload needs. */
export function tcpSpaceFromWin(tp: TcpSock, win: number): number {
  if (tp.env.scalingRatio) return Math.floor((win * 256) / tp.scalingRatio)
  return win * 2
}

/** Models `tcp_space`: payload that still fits, which may be negative. */
export function tcpSpace(sk: Sock): number {
  return tcpWinFromSpace(tcpSk(sk), sk.rcvbuf - sk.backlogLen - sk.rmemAlloc)
}

/** Models `tcp_full_space`: payload that an empty buffer holds. */
export const tcpFullSpace = (sk: Sock): number => tcpWinFromSpace(tcpSk(sk), sk.rcvbuf)

/** Models `__tcp_adjust_rcv_ssthresh`: lowers the threshold, but not below what reserved memory carries. */
export function tcpAdjustRcvSsthreshTo(sk: Sock, ssthresh: number): void {
  const tp = tcpSk(sk)
  tp.rcvSsthresh = Math.min(tp.rcvSsthresh, ssthresh)
  const unused = skUnusedReservedMem(sk)
  if (unused !== 0) tp.rcvSsthresh = Math.max(tp.rcvSsthresh, tcpWinFromSpace(tp, unused))
}

/** Models `tcp_adjust_rcv_ssthresh`: under pressure four segments are enough. */
export const tcpAdjustRcvSsthresh = (sk: Sock): void => tcpAdjustRcvSsthreshTo(sk, 4 * tcpSk(sk).advmss)

/**
 * Models `tcp_select_initial_window` (net/ipv4/tcp_output.c): what a SYN or SYN-ACK offers. Results are left in
 * `initial`, since the caller is a connection or a request.
 */
export class InitialWindow {
  rcvWnd = 0
  windowClamp = 0
  rcvWscale = 0
}

export function tcpSelectInitialWindow(
  tp: TcpSock,
  space: number,
  mss: number,
  windowClamp: number,
  wscaleOk: boolean,
  initial: InitialWindow,
): void {
  const clamp = windowClamp === 0 ? U16_MAX << TCP_MAX_WSCALE : windowClamp
  let room = Math.min(clamp, Math.max(space, 0))
  if (room > mss) room -= room % mss
  initial.rcvWnd = tp.env.features.tcpLargeInitialWindow ? room : Math.min(room, U16_MAX)
  initial.rcvWscale = 0
  if (wscaleOk) {
    // The scale must serve for the largest buffer that this connection can ever grow to.
    room = Math.max(room, tp.ctl.rmem[2]!, tp.ctl.rmemMax[0]!)
    room = Math.min(room, clamp)
    initial.rcvWscale = Math.min(Math.max(31 - Math.clz32(room) - 15, 0), TCP_MAX_WSCALE)
  }
  initial.windowClamp = Math.min(U16_MAX << initial.rcvWscale, clamp)
}

/**
 * Models `__tcp_select_window` (net/ipv4/tcp_output.c): the window we would offer now. Never less than
 * needed for one segment, or else 0: silly windows cost both sides more than waiting.
 *
 * @returns bytes.
 */
export function tcpSelectWindowUnchecked(sk: Sock): number {
  const tp = tcpSk(sk)
  let mss = tp.rcvMss
  let freeSpace = tcpSpace(sk)
  const allowedSpace = tcpFullSpace(sk)
  const fullSpace = Math.min(tp.windowClamp, allowedSpace)
  if (mss > fullSpace) {
    mss = fullSpace
    if (mss <= 0) return 0
  }
  const wscale = tp.rx.rcvWscale
  if (tp.ctl.shrinkWindow[0] !== 0 && wscale !== 0)
    return shrinkableWindow(sk, tp, freeSpace, fullSpace, allowedSpace, mss)
  if (freeSpace < fullSpace >> 1) {
    tp.ackQuick = 0
    if (skUnderMemoryPressure(sk)) tcpAdjustRcvSsthresh(sk)
    // Rounding up further down must not offer more than there is.
    freeSpace = (freeSpace >> wscale) << wscale
    if (freeSpace < allowedSpace >> 4 || freeSpace < mss) return 0
  }
  if (freeSpace > tp.rcvSsthresh) freeSpace = tp.rcvSsthresh
  if (wscale !== 0) return alignWindow(freeSpace, wscale)
  const window = tp.rcvWnd
  if (window <= freeSpace - mss || window > freeSpace) return freeSpace - (freeSpace % mss)
  if (mss === fullSpace && freeSpace > window + (fullSpace >> 1)) return freeSpace
  return window
}

/** @returns `bytes` rounded up to what a scaled window field can say. */
export const alignWindow = (bytes: number, wscale: number): number => ((bytes + (1 << wscale) - 1) >> wscale) << wscale

/** The branch for `net.ipv4.tcp_shrink_window`: the offer follows the space even downwards. */
function shrinkableWindow(
  sk: Sock,
  tp: TcpSock,
  space: number,
  fullSpace: number,
  allowedSpace: number,
  mss: number,
): number {
  const wscale = tp.rx.rcvWscale
  const freeSpace = (space >> wscale) << wscale
  if (freeSpace < fullSpace >> 1) {
    tp.ackQuick = 0
    if (skUnderMemoryPressure(sk)) tcpAdjustRcvSsthresh(sk)
    if (freeSpace < allowedSpace >> 4 || freeSpace < mss || freeSpace < 1 << wscale) return 0
  }
  return freeSpace > tp.rcvSsthresh ? alignWindow(tp.rcvSsthresh, wscale) : freeSpace
}

/**
 * Models `tcp_select_window` (net/ipv4/tcp_output.c): decides the window of an outgoing segment and remembers
 * it as offered.
 *
 * @returns the header field, scaled.
 */
export function tcpSelectWindow(sk: Sock): number {
  const tp = tcpSk(sk)
  const oldWin = tp.rcvWnd
  const wscale = tp.rx.rcvWscale
  if ((tp.ackPending & ICSK_ACK_NOMEM) !== 0 && tp.env.features.tcpNomemZeroWindow) {
    // A segment was just refused for want of memory: say so.
    tp.predFlags = 0
    tp.rcvWnd = 0
    tp.rcvWup = tp.rcvNxt
    return 0
  }
  const curWin = tcpReceiveWindow(tp)
  let newWin = tcpSelectWindowUnchecked(sk)
  if (newWin < curWin && (tp.ctl.shrinkWindow[0] === 0 || wscale === 0)) {
    // What was offered once stays offered.
    if (newWin === 0) incStats(sk, MIB.TCPWantZeroWindowAdv)
    newWin = alignWindow(curWin, wscale)
  }
  tp.rcvWnd = newWin
  tp.rcvWup = tp.rcvNxt
  newWin = Math.min(newWin, U16_MAX << wscale)
  newWin >>>= wscale
  if (newWin === 0) {
    tp.predFlags = 0
    if (oldWin !== 0) incStats(sk, MIB.TCPToZeroWindowAdv)
  } else if (oldWin === 0) incStats(sk, MIB.TCPFromZeroWindowAdv)
  return newWin
}
