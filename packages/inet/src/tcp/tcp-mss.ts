/**
 * Segment sizes: from the path's MTU to the MSS that a packet is cut into, and how many of those one packet
 * may carry before the device or the stack cuts it.
 */
import type { Sock } from '@netmem/sockmem'
import { MSG_OOB } from '@netmem/sockmem'
import { tcpEstablishedOptionsBytes } from './tcp-header.js'
import { TCP_MSS_DEFAULT } from './tcp-rcvbuf.js'
import { TCP_HEADER_BYTES } from './tcp-skb.js'
import { type TcpSock, tcpSk } from './tcp-sock.js'

/** Models `tcp_bound_to_half_wnd`: a packet never takes more than half of the largest window we saw. */
export function tcpBoundToHalfWnd(tp: TcpSock, pktsize: number): number {
  const cutoff = tp.maxWindow > TCP_MSS_DEFAULT ? tp.maxWindow >>> 1 : tp.maxWindow
  return cutoff !== 0 && pktsize > cutoff ? Math.max(cutoff, 68 - tp.tcpHeaderLen) : pktsize
}

/** Models `tcp_mtu_to_mss`. */
export function tcpMtuToMss(tp: TcpSock, pmtu: number): number {
  let mss = pmtu - tp.netHeaderLen - TCP_HEADER_BYTES
  if (mss > tp.rx.mssClamp) mss = tp.rx.mssClamp
  mss = Math.max(mss, tp.ctl.minSndMss[0]!)
  return mss - (tp.tcpHeaderLen - TCP_HEADER_BYTES)
}

/** Models `tcp_mss_to_mtu`. */
export const tcpMssToMtu = (tp: TcpSock, mss: number): number => mss + tp.tcpHeaderLen + tp.netHeaderLen

/** Models `tcp_mtup_init`. */
export function tcpMtupInit(tp: TcpSock): void {
  tp.mtupEnabled = tp.ctl.mtuProbing[0]! > 1 ? 1 : 0
  tp.mtupSearchHigh = tp.rx.mssClamp + TCP_HEADER_BYTES + tp.netHeaderLen
  tp.mtupSearchLow = tcpMssToMtu(tp, tp.ctl.baseMss[0]!)
  tp.mtupProbeSize = 0
}

/** Models `tcp_sync_mss` (net/ipv4/tcp_output.c): the path changed, or the peer's largest window grew. */
export function tcpSyncMss(sk: Sock, pmtu: number): number {
  const tp = tcpSk(sk)
  if (tp.mtupSearchHigh > pmtu) tp.mtupSearchHigh = pmtu
  let mss = tcpBoundToHalfWnd(tp, tcpMtuToMss(tp, pmtu))
  tp.pmtuCookie = pmtu
  if (tp.mtupEnabled !== 0) mss = Math.min(mss, tcpMtuToMss(tp, tp.mtupSearchLow))
  tp.mssCache = mss
  return mss
}

/** Models `tcp_current_mss` (net/ipv4/tcp_output.c): what fits beside the options of the next segment. */
export function tcpCurrentMss(sk: Sock): number {
  const tp = tcpSk(sk)
  let mss = tp.mssCache
  const mtu = tp.env.ip.dstMtu(sk)
  if (mtu !== 0 && mtu !== tp.pmtuCookie) mss = tcpSyncMss(sk, mtu)
  const headerLen = tcpEstablishedOptionsBytes(tp) + TCP_HEADER_BYTES
  if (headerLen !== tp.tcpHeaderLen) mss -= headerLen - tp.tcpHeaderLen
  return mss
}

/** Models `tcp_xmit_size_goal` (net/ipv4/tcp.c): how long a packet under construction may get. */
export function tcpXmitSizeGoal(tp: TcpSock, mss: number, largeAllowed: boolean): number {
  if (!largeAllowed) return mss
  const bound = tcpBoundToHalfWnd(tp, tp.gsoMaxSize)
  // Keep the number of segments while it still fits: a division less.
  let goal = tp.gsoSegs * mss
  if (bound < goal || bound >= goal + mss) {
    tp.gsoSegs = Math.min(Math.floor(bound / mss), tp.gsoMaxSegs)
    goal = tp.gsoSegs * mss
  }
  return Math.max(goal, mss)
}

/** Models `tcp_send_mss`: the size goal is the second half of the pair, asked for apart. */
export const tcpLargeAllowed = (flags: number): boolean => (flags & MSG_OOB) === 0
