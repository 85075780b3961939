/** Options of the TCP level, and those of other levels where TCP does more than store them. */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  AF_INET6,
  type OptVal,
  SOCK_RCVBUF_LOCK,
  SOCKF_KEEPOPEN,
  type Sock,
  sockFlag,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_LISTEN,
} from '@netmem/sockmem'
import {
  foreignLevel,
  ipGetsockopt,
  ipSetsockopt,
  ipv6Getsockopt,
  ipv6Setsockopt,
  SOL_IP,
  SOL_IPV6,
} from '../ip/ip-sockglue.js'
import { tcpCaFind } from './tcp-ca-table.js'
import { tcpInitCongestionControl } from './tcp-cong.js'
import { tcpDataReady } from './tcp-data-queue.js'
import { lockSock, tcpReleaseSock } from './tcp-lock.js'
import { tcpSetWindowClamp } from './tcp-rcvbuf.js'
import { tcpCleanupRbuf } from './tcp-recvmsg.js'
import {
  ICSK_ACK_PUSHED,
  inetCskAckScheduled,
  TCP_NAGLE_CORK,
  TCP_NAGLE_OFF,
  TCP_NAGLE_PUSH,
  type TcpSock,
  tcpSk,
} from './tcp-sock.js'
import { tcpResetKeepaliveTimer } from './tcp-timer-arm.js'
import { TCP_ULP_NAME_MAX, tcpSetUlp } from './tcp-ulp.js'
import { tcpSpaceFromWin, tcpWinFromSpace } from './tcp-window.js'
import { tcpPushPendingFrames } from './tcp-xmit.js'

export const SOL_TCP = 6

/** Models the `TCP_*` option numbers (include/uapi/linux/tcp.h). */
export const TCP_OPT = {
  TCP_NODELAY: 1,
  TCP_MAXSEG: 2,
  TCP_CORK: 3,
  TCP_KEEPIDLE: 4,
  TCP_KEEPINTVL: 5,
  TCP_KEEPCNT: 6,
  TCP_SYNCNT: 7,
  TCP_LINGER2: 8,
  TCP_DEFER_ACCEPT: 9,
  TCP_WINDOW_CLAMP: 10,
  TCP_INFO: 11,
  TCP_QUICKACK: 12,
  TCP_CONGESTION: 13,
  TCP_THIN_LINEAR_TIMEOUTS: 16,
  TCP_THIN_DUPACK: 17,
  TCP_USER_TIMEOUT: 18,
  TCP_NOTSENT_LOWAT: 25,
  TCP_ULP: 31,
  TCP_INQ: 36,
} as const

const MAX_TCP_WINDOW = 32767
const TCP_MIN_MSS = 88
const MAX_TCP_KEEPIDLE = 32767
const MAX_TCP_KEEPCNT = 127
const MAX_TCP_SYNCNT = 127
const TCP_FIN_TIMEOUT_MAX_S = 120
const TCP_RTO_MAX_S = 120

/** Models `tcp_setsockopt`. @returns 0 or a negative errno. */
export function tcpSetsockopt(cpu: Cpu, sk: Sock, level: number, opt: number, val: OptVal): number {
  if (level === SOL_IP) return ipSetsockopt(cpu, sk, opt, val)
  if (level === SOL_IPV6 && sk.family === AF_INET6) return ipv6Setsockopt(sk, opt, val)
  if (level !== SOL_TCP) return -ERRNO.ENOPROTOOPT
  if (opt === TCP_OPT.TCP_CONGESTION) return setCongestion(sk, val)
  if (opt === TCP_OPT.TCP_ULP) return setUlp(cpu, sk, val)
  if (val.len < 4) return -ERRNO.EINVAL
  lockSock(sk)
  const ret = setLocked(cpu, sk, tcpSk(sk), opt, val.int)
  tcpReleaseSock(cpu, sk)
  return ret
}

function setCongestion(sk: Sock, val: OptVal): number {
  if (val.text === '') return -ERRNO.EINVAL
  const ops = tcpCaFind(val.text)
  if (ops === null) return -ERRNO.ENOENT
  const tp = tcpSk(sk)
  tp.caOps = ops
  if (sk.state !== TCP_CLOSE && sk.state !== TCP_LISTEN) tcpInitCongestionControl(tp)
  return 0
}

function setUlp(cpu: Cpu, sk: Sock, val: OptVal): number {
  if (val.len < 1) return -ERRNO.EINVAL
  lockSock(sk)
  const ret = tcpSetUlp(cpu, sk, val.text.slice(0, Math.min(val.len, TCP_ULP_NAME_MAX - 1)))
  tcpReleaseSock(cpu, sk)
  return ret
}

/** Models `do_tcp_setsockopt` for integers. */
function setLocked(cpu: Cpu, sk: Sock, tp: TcpSock, opt: number, val: number): number {
  const { hz } = tp.env
  switch (opt) {
    case TCP_OPT.TCP_NODELAY:
      setNodelay(cpu, sk, tp, val !== 0)
      return 0
    case TCP_OPT.TCP_CORK:
      setCork(cpu, sk, tp, val !== 0)
      return 0
    case TCP_OPT.TCP_MAXSEG:
      if (val !== 0 && (val < TCP_MIN_MSS || val > MAX_TCP_WINDOW)) return -ERRNO.EINVAL
      tp.rx.userMss = val
      return 0
    case TCP_OPT.TCP_KEEPIDLE:
      if (val < 1 || val > MAX_TCP_KEEPIDLE) return -ERRNO.EINVAL
      tp.keepaliveTime = val * hz
      if (sockFlag(sk, SOCKF_KEEPOPEN) && sk.state !== TCP_CLOSE && sk.state !== TCP_LISTEN) restartKeepalive(tp)
      return 0
    case TCP_OPT.TCP_KEEPINTVL:
      if (val < 1 || val > MAX_TCP_KEEPIDLE) return -ERRNO.EINVAL
      tp.keepaliveIntvl = val * hz
      return 0
    case TCP_OPT.TCP_KEEPCNT:
      if (val < 1 || val > MAX_TCP_KEEPCNT) return -ERRNO.EINVAL
      tp.keepaliveProbes = val
      return 0
    case TCP_OPT.TCP_SYNCNT:
      if (val < 1 || val > MAX_TCP_SYNCNT) return -ERRNO.EINVAL
      tp.synRetries = val
      return 0
    case TCP_OPT.TCP_LINGER2:
      tp.linger2 = val < 0 ? -1 : Math.min(val, TCP_FIN_TIMEOUT_MAX_S) * hz
      return 0
    case TCP_OPT.TCP_DEFER_ACCEPT:
      tp.deferAccept = secsToRetrans(val)
      return 0
    case TCP_OPT.TCP_WINDOW_CLAMP:
      return setWindowClamp(sk, tp, val)
    case TCP_OPT.TCP_QUICKACK:
      setQuickack(cpu, sk, tp, val)
      return 0
    case TCP_OPT.TCP_USER_TIMEOUT:
      if (val < 0) return -ERRNO.EINVAL
      tp.userTimeout = val
      return 0
    case TCP_OPT.TCP_NOTSENT_LOWAT:
      tp.notsentLowat = val
      sk.writeSpace(cpu, sk)
      return 0
    case TCP_OPT.TCP_THIN_LINEAR_TIMEOUTS:
    case TCP_OPT.TCP_THIN_DUPACK:
    case TCP_OPT.TCP_INQ:
      return val < 0 || val > 1 ? -ERRNO.EINVAL : 0
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

/** Models `__tcp_sock_set_nodelay`. */
function setNodelay(cpu: Cpu, sk: Sock, tp: TcpSock, on: boolean): void {
  if (!on) {
    tp.nonagle &= ~TCP_NAGLE_OFF
    return
  }
  tp.nonagle |= TCP_NAGLE_OFF | TCP_NAGLE_PUSH
  tcpPushPendingFrames(cpu, sk)
}

/** Models `__tcp_sock_set_cork`. */
function setCork(cpu: Cpu, sk: Sock, tp: TcpSock, on: boolean): void {
  if (on) {
    tp.nonagle |= TCP_NAGLE_CORK
    return
  }
  tp.nonagle &= ~TCP_NAGLE_CORK
  if ((tp.nonagle & TCP_NAGLE_OFF) !== 0) tp.nonagle |= TCP_NAGLE_PUSH
  tcpPushPendingFrames(cpu, sk)
}

/** Models `__tcp_sock_set_quickack`. */
function setQuickack(cpu: Cpu, sk: Sock, tp: TcpSock, val: number): void {
  tp.ackPingpong = val === 0 ? 1 : 0
  if (val === 0) return
  if ((sk.state === TCP_ESTABLISHED || sk.state === TCP_CLOSE_WAIT) && inetCskAckScheduled(tp)) {
    tp.ackPending |= ICSK_ACK_PUSHED
    tcpCleanupRbuf(cpu, sk, 1)
    if ((val & 1) === 0) tp.ackPingpong = 1
  }
}

/** Models `tcp_set_window_clamp`. */
function setWindowClamp(sk: Sock, tp: TcpSock, val: number): number {
  if (val === 0) {
    if (sk.state !== TCP_CLOSE) return -ERRNO.EINVAL
    tp.windowClamp = 0
    return 0
  }
  if (tp.env.scalingRatio) {
    tcpSetWindowClamp(sk, val)
    return 0
  }
  tp.windowClamp = Math.max(val, sk.env.minRcvbuf >> 1)
  tp.rcvSsthresh = Math.min(tp.rcvWnd, tp.windowClamp)
  return 0
}

function restartKeepalive(tp: TcpSock): void {
  const now = tp.env.jiffies()
  const elapsed = Math.min((now - tp.lrcvtime) >>> 0, (now - tp.rcvTstamp) >>> 0)
  tcpResetKeepaliveTimer(tp, Math.max(tp.keepaliveTime - elapsed, 0))
}

/** Models `secs_to_retrans`: how many SYN-ACKs that is. */
function secsToRetrans(seconds: number): number {
  if (seconds <= 0) return 0
  let res = 1
  for (let period = 1, timeout = 1; seconds > period && res < 255; res += 1) {
    timeout = Math.min(timeout * 2, TCP_RTO_MAX_S)
    period += timeout
  }
  return res
}

/** Models `retrans_to_secs`. */
function retransToSecs(retrans: number): number {
  let period = retrans > 0 ? 1 : 0
  for (let i = 1, timeout = 1; i < retrans; i += 1) {
    timeout = Math.min(timeout * 2, TCP_RTO_MAX_S)
    period += timeout
  }
  return period
}

/** Models `tcp_getsockopt`. */
export function tcpGetsockopt(sk: Sock, level: number, opt: number, val: OptVal): number {
  if (level === SOL_IP) return ipGetsockopt(sk, opt, val)
  if (level === SOL_IPV6 && sk.family === AF_INET6) return ipv6Getsockopt(sk, opt, val)
  if (level !== SOL_TCP) return foreignLevel(sk)
  if (val.len < 0) return -ERRNO.EINVAL
  const tp = tcpSk(sk)
  if (opt === TCP_OPT.TCP_CONGESTION) {
    val.text = tp.caOps.name
    val.len = Math.min(val.len, 16)
    return 0
  }
  if (opt === TCP_OPT.TCP_ULP) {
    val.text = tp.ulpOps === null ? '' : tp.ulpOps.name.slice(0, val.len)
    val.len = tp.ulpOps === null ? 0 : Math.min(val.len, TCP_ULP_NAME_MAX)
    return 0
  }
  const value = getInt(sk, tp, opt)
  if (value === null) return -ERRNO.ENOPROTOOPT
  val.int = value
  val.len = Math.min(val.len, 4)
  return 0
}

function getInt(sk: Sock, tp: TcpSock, opt: number): number | null {
  const { hz } = tp.env
  const { ctl } = tp
  switch (opt) {
    case TCP_OPT.TCP_NODELAY:
      return (tp.nonagle & TCP_NAGLE_OFF) !== 0 ? 1 : 0
    case TCP_OPT.TCP_CORK:
      return (tp.nonagle & TCP_NAGLE_CORK) !== 0 ? 1 : 0
    case TCP_OPT.TCP_MAXSEG:
      return tp.rx.userMss !== 0 && (sk.state === TCP_CLOSE || sk.state === TCP_LISTEN) ? tp.rx.userMss : tp.mssCache
    case TCP_OPT.TCP_KEEPIDLE:
      return tp.keepaliveTime !== 0 ? tp.keepaliveTime / hz : ctl.keepaliveTime[0]!
    case TCP_OPT.TCP_KEEPINTVL:
      return tp.keepaliveIntvl !== 0 ? tp.keepaliveIntvl / hz : ctl.keepaliveIntvl[0]!
    case TCP_OPT.TCP_KEEPCNT:
      return tp.keepaliveProbes !== 0 ? tp.keepaliveProbes : ctl.keepaliveProbes[0]!
    case TCP_OPT.TCP_SYNCNT:
      return tp.synRetries !== 0 ? tp.synRetries : ctl.synRetries[0]!
    case TCP_OPT.TCP_LINGER2:
      if (tp.linger2 < 0) return tp.linger2
      return tp.linger2 !== 0 ? tp.linger2 / hz : ctl.finTimeout[0]!
    case TCP_OPT.TCP_DEFER_ACCEPT:
      return retransToSecs(tp.deferAccept)
    case TCP_OPT.TCP_WINDOW_CLAMP:
      return tp.windowClamp
    case TCP_OPT.TCP_QUICKACK:
      return tp.ackPingpong === 0 ? 1 : 0
    case TCP_OPT.TCP_USER_TIMEOUT:
      return tp.userTimeout
    case TCP_OPT.TCP_NOTSENT_LOWAT:
      return tp.notsentLowat
    case TCP_OPT.TCP_THIN_LINEAR_TIMEOUTS:
    case TCP_OPT.TCP_THIN_DUPACK:
    case TCP_OPT.TCP_INQ:
      return 0
    default:
      return null
  }
}

/** Models `tcp_set_rcvlowat`: a reader that waits for much gets the buffer for it. */
export function tcpSetRcvlowat(cpu: Cpu, sk: Sock, value: number): number {
  const tp = tcpSk(sk)
  const locked = (sk.userlocks & SOCK_RCVBUF_LOCK) !== 0
  const val = Math.min(value, Math.floor((locked ? sk.rcvbuf : tp.ctl.rmem[2]!) / 2))
  sk.rcvlowat = val !== 0 ? val : 1
  tcpDataReady(cpu, sk)
  if (locked) return 0
  const space = tcpSpaceFromWin(tp, val)
  if (space <= sk.rcvbuf) return 0
  sk.rcvbuf = space
  if (!tp.env.scalingRatio) tp.windowClamp = tcpWinFromSpace(tp, space)
  else if (tp.windowClamp !== 0 && tp.windowClamp < val) tp.windowClamp = val
  return 0
}
