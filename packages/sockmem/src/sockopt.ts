/**
 * Setting the options that every socket has. Values are 32-bit integers unless said otherwise; limits are the
 * kernel's, and so is the order of the checks, which decides the errno.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  AF_INET,
  AF_INET6,
  CAP_NET_ADMIN,
  CAP_NET_RAW,
  IPPROTO_UDP,
  SOCK_BUF_LOCK_MASK,
  SOCK_DGRAM,
  SOCK_RCVBUF_LOCK,
  SOCK_SNDBUF_LOCK,
  SOCK_STREAM,
  SOCKF_BROADCAST,
  SOCKF_DBG,
  SOCKF_FILTER_LOCKED,
  SOCKF_KEEPOPEN,
  SOCKF_LINGER,
  SOCKF_LOCALROUTE,
  SOCKF_NO_CHECK,
  SOCKF_NOFCS,
  SOCKF_PASSCRED,
  SOCKF_PREFER_BUSY_POLL,
  SOCKF_RCVMARK,
  SOCKF_REUSEADDR,
  SOCKF_REUSEPORT,
  SOCKF_RXQ_OVFL,
  SOCKF_SELECT_ERR_QUEUE,
  SOCKF_TIMESTAMP,
  SOCKF_TXTIME,
  SOCKF_URGINLINE,
  SOCKF_WIFI_STATUS,
  SOCKF_ZEROCOPY,
  TCP_CLOSE,
  TCP_LISTEN,
} from './constants.js'
import { sockReleaseReservedMemory, sockReserveMemory } from './reserve.js'
import { skAttachFilter, skDetachFilter } from './sk-filter.js'
import { type Sock, sockFlag, sockValboolFlag } from './sock.js'
import { type OptVal, SO } from './sockopt-numbers.js'
import { capable, type Task } from './task.js'

const INT_MAX = 0x7fffffff

/** Options that are one bit of `Sock.flags`. */
const BOOLEAN_OPTIONS = new Map<number, number>([
  [SO.SO_REUSEADDR, SOCKF_REUSEADDR],
  [SO.SO_DONTROUTE, SOCKF_LOCALROUTE],
  [SO.SO_BROADCAST, SOCKF_BROADCAST],
  [SO.SO_OOBINLINE, SOCKF_URGINLINE],
  [SO.SO_NO_CHECK, SOCKF_NO_CHECK],
  [SO.SO_TIMESTAMP, SOCKF_TIMESTAMP],
  [SO.SO_TIMESTAMPNS, SOCKF_TIMESTAMP],
  [SO.SO_RXQ_OVFL, SOCKF_RXQ_OVFL],
  [SO.SO_NOFCS, SOCKF_NOFCS],
  [SO.SO_SELECT_ERR_QUEUE, SOCKF_SELECT_ERR_QUEUE],
  [SO.SO_PASSCRED, SOCKF_PASSCRED],
])

/**
 * Models `sock_setsockopt` and `sk_setsockopt` (net/core/sock.c).
 *
 * @returns 0 or a negative errno.
 */
export function sockSetsockopt(cpu: Cpu, task: Task, sk: Sock, opt: number, val: OptVal): number {
  if (opt === SO.SO_BINDTODEVICE) return 0
  if (val.len < 4) return -ERRNO.EINVAL
  const value = val.int
  const bool = value !== 0
  const flag = BOOLEAN_OPTIONS.get(opt)
  if (flag !== undefined) {
    sockValboolFlag(sk, flag, bool)
    return 0
  }
  switch (opt) {
    case SO.SO_SNDBUF:
      return setSndbuf(cpu, sk, Math.min(value >>> 0, sk.env.wmemMax[0]))
    case SO.SO_SNDBUFFORCE:
      if (!capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      return setSndbuf(cpu, sk, Math.max(value, 0))
    case SO.SO_RCVBUF:
      return sockSetRcvbuf(sk, Math.min(value >>> 0, sk.env.rmemMax[0]))
    case SO.SO_RCVBUFFORCE:
      if (!capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      return sockSetRcvbuf(sk, Math.max(value, 0))
    case SO.SO_RCVLOWAT:
      return setRcvlowat(cpu, sk, value < 0 ? INT_MAX : value)
    case SO.SO_RESERVE_MEM: {
      if (value < 0) return -ERRNO.EINVAL
      const more = value - sk.reservedMem
      if (more >= 0) return sockReserveMemory(cpu, sk, more)
      sockReleaseReservedMemory(cpu, sk, -more)
      return 0
    }
    case SO.SO_BUF_LOCK:
      if ((value & ~SOCK_BUF_LOCK_MASK) !== 0) return -ERRNO.EINVAL
      sk.userlocks = value | (sk.userlocks & ~SOCK_BUF_LOCK_MASK)
      return 0
    case SO.SO_ZEROCOPY:
      return setZerocopy(sk, value)
    case SO.SO_TXREHASH:
      return setTxrehash(sk, value)
    case SO.SO_ATTACH_FILTER:
      return val.program === null ? -ERRNO.EINVAL : skAttachFilter(sk, val.program)
    case SO.SO_DETACH_FILTER:
      return skDetachFilter(sk)
    case SO.SO_LOCK_FILTER:
      if (sockFlag(sk, SOCKF_FILTER_LOCKED) && !bool) return -ERRNO.EPERM
      sockValboolFlag(sk, SOCKF_FILTER_LOCKED, bool)
      return 0
    default:
      return sockSetsockoptRare(cpu, task, sk, opt, val)
  }
}

/** The options that memory does not care about, or hardly. */
function sockSetsockoptRare(cpu: Cpu, task: Task, sk: Sock, opt: number, val: OptVal): number {
  const value = val.int
  const bool = value !== 0
  switch (opt) {
    case SO.SO_DEBUG:
      if (bool && !capable(task, CAP_NET_ADMIN)) return -ERRNO.EACCES
      sockValboolFlag(sk, SOCKF_DBG, bool)
      return 0
    case SO.SO_REUSEPORT:
      if (bool && sk.family !== AF_INET && sk.family !== AF_INET6) return -ERRNO.ENOTSUP
      sockValboolFlag(sk, SOCKF_REUSEPORT, bool)
      return 0
    case SO.SO_TYPE:
    case SO.SO_PROTOCOL:
    case SO.SO_DOMAIN:
    case SO.SO_ERROR:
      return -ERRNO.ENOPROTOOPT
    case SO.SO_KEEPALIVE:
      sk.proto.keepalive?.(cpu, sk, bool)
      sockValboolFlag(sk, SOCKF_KEEPOPEN, bool)
      return 0
    case SO.SO_PRIORITY:
      if ((value < 0 || value > 6) && !capable(task, CAP_NET_RAW) && !capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      sk.priority = value
      return 0
    case SO.SO_LINGER:
      if (val.len < 8) return -ERRNO.EINVAL
      sockValboolFlag(sk, SOCKF_LINGER, val.words[0] !== 0)
      if (val.words[0] !== 0) sk.lingertime = val.words[1] >>> 0
      return 0
    case SO.SO_BSDCOMPAT:
      return 0
    case SO.SO_RCVTIMEO:
    case SO.SO_SNDTIMEO:
      return setTimeout(sk, opt, val)
    case SO.SO_MARK:
      if (!capable(task, CAP_NET_RAW) && !capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      sk.mark = value
      return 0
    case SO.SO_PEEK_OFF:
      return sk.ops.setPeekOff === undefined ? -ERRNO.ENOTSUP : sk.ops.setPeekOff(sk, value)
    case SO.SO_BUSY_POLL:
      if (value < 0) return -ERRNO.EINVAL
      if (value > sk.llUsec && !capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      sk.llUsec = value
      return 0
    case SO.SO_PREFER_BUSY_POLL:
      if (bool && !capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      sockValboolFlag(sk, SOCKF_PREFER_BUSY_POLL, bool)
      return 0
    case SO.SO_BUSY_POLL_BUDGET:
      if (value > sk.busyPollBudget && !capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      if (value < 0 || value > 0xffff) return -ERRNO.EINVAL
      sk.busyPollBudget = value
      return 0
    case SO.SO_MAX_PACING_RATE:
      sk.maxPacingRate = value >>> 0
      sk.pacingRate = Math.min(sk.pacingRate, sk.maxPacingRate)
      return 0
    case SO.SO_INCOMING_CPU:
      sk.incomingCpu = value
      return 0
    case SO.SO_TXTIME:
      sockValboolFlag(sk, SOCKF_TXTIME, true)
      return 0
    case SO.SO_BINDTOIFINDEX:
      if (value < 0) return -ERRNO.EINVAL
      sk.boundDevIf = value
      return 0
    case SO.SO_TIMESTAMPING:
      return setTimestamping(sk, value)
    case SO.SO_WIFI_STATUS:
      sockValboolFlag(sk, SOCKF_WIFI_STATUS, bool)
      return 0
    case SO.SO_RCVMARK:
      if (!capable(task, CAP_NET_RAW) && !capable(task, CAP_NET_ADMIN)) return -ERRNO.EPERM
      sockValboolFlag(sk, SOCKF_RCVMARK, bool)
      return 0
    case SO.SO_CNX_ADVICE:
      return 0
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

/** Doubled, because truesize counts the kernel's overhead too; never below one small packet's worth. */
function setSndbuf(cpu: Cpu, sk: Sock, bytes: number): number {
  sk.userlocks |= SOCK_SNDBUF_LOCK
  sk.sndbuf = Math.max(Math.min(bytes, INT_MAX >> 1) * 2, sk.env.minSndbuf) | 0
  sk.writeSpace(cpu, sk)
  return 0
}

/** Models `__sock_set_rcvbuf` and `sock_set_rcvbuf` (net/core/sock.c): stores twice the bytes asked for. */
export function sockSetRcvbuf(sk: Sock, bytes: number): number {
  sk.userlocks |= SOCK_RCVBUF_LOCK
  sk.rcvbuf = Math.max(Math.min(bytes, INT_MAX >> 1) * 2, sk.env.minRcvbuf) | 0
  return 0
}

function setRcvlowat(cpu: Cpu, sk: Sock, value: number): number {
  if (sk.ops.setRcvlowat !== undefined) return sk.ops.setRcvlowat(cpu, sk, value)
  sk.rcvlowat = value === 0 ? 1 : value
  return 0
}

/** Models the `SO_ZEROCOPY` case: TCP, and UDP over IP, and nobody else. */
function setZerocopy(sk: Sock, value: number): number {
  const inet = sk.family === AF_INET || sk.family === AF_INET6
  const udp = sk.type === SOCK_DGRAM && sk.protocol === IPPROTO_UDP
  if (!inet || !((sk.type === SOCK_STREAM && sk.proto.isTcp) || udp)) return -ERRNO.ENOTSUP
  if (value < 0 || value > 1) return -ERRNO.EINVAL
  sockValboolFlag(sk, SOCKF_ZEROCOPY, value === 1)
  return 0
}

// Bits of SO_TIMESTAMPING that other bits hang on.
const SOF_TIMESTAMPING_OPT_ID = 1 << 7
const SOF_TIMESTAMPING_OPT_TSONLY = 1 << 11
const SOF_TIMESTAMPING_OPT_STATS = 1 << 12
const SOF_TIMESTAMPING_BIND_PHC = 1 << 15
const SOF_TIMESTAMPING_OPT_ID_TCP = 1 << 16

/** Models `sock_set_timestamping` (net/core/sock.c). Differs: the flags are kept and no stamps are made. */
function setTimestamping(sk: Sock, value: number): number {
  if ((value & ~sk.env.profile.features.timestampingMask) !== 0) return -ERRNO.EINVAL
  if ((value & SOF_TIMESTAMPING_OPT_ID_TCP) !== 0 && (value & SOF_TIMESTAMPING_OPT_ID) === 0) return -ERRNO.EINVAL
  if ((value & SOF_TIMESTAMPING_OPT_ID) !== 0 && (sk.tsflags & SOF_TIMESTAMPING_OPT_ID) === 0) {
    if (sk.proto.isTcp && (sk.state === TCP_CLOSE || sk.state === TCP_LISTEN)) return -ERRNO.EINVAL
  }
  if ((value & SOF_TIMESTAMPING_OPT_STATS) !== 0 && (value & SOF_TIMESTAMPING_OPT_TSONLY) === 0) return -ERRNO.EINVAL
  // There is no clock of a network card to be bound to.
  if ((value & SOF_TIMESTAMPING_BIND_PHC) !== 0) return -ERRNO.ENOTSUP
  sk.tsflags = value
  return 0
}

/** Models the `SO_TXREHASH` case; -1 takes the namespace's default. */
function setTxrehash(sk: Sock, value: number): number {
  if (sk.env.profile.features.soTxrehashTcpOnly && !sk.proto.isTcp) return -ERRNO.ENOTSUP
  if (value < -1 || value > 1) return -ERRNO.EINVAL
  sk.txrehash = value === -1 ? sk.net.txrehash[0] : value
  return 0
}

/** Models `sock_set_timeout`: `words` are seconds (low, high) and microseconds of a `struct timeval`. */
function setTimeout(sk: Sock, opt: number, val: OptVal): number {
  if (val.len < 16) return -ERRNO.EINVAL
  const seconds = val.words[0] >>> 0
  const usec = val.words[2]
  if (usec < 0 || usec >= 1000000) return -ERRNO.EDOM
  const jiffies =
    seconds === 0 && usec === 0 ? -1 : seconds * sk.env.profile.HZ + Math.ceil((usec * 1000) / sk.env.jiffyNs)
  if (opt === SO.SO_RCVTIMEO) sk.rcvtimeo = jiffies
  else sk.sndtimeo = jiffies
  return 0
}
