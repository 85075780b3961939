/** Reading the options that every socket has. */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  SOCK_BUF_LOCK_MASK,
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
  SOCKF_URGINLINE,
  SOCKF_WIFI_STATUS,
  SOCKF_ZEROCOPY,
  TCP_LISTEN,
} from './constants.js'
import { SK_MEMINFO_VARS, skMeminfo } from './meminfo.js'
import type { Sock } from './sock.js'
import { type OptVal, SO } from './sockopt-numbers.js'

const BOOLEAN_OPTIONS = new Map<number, number>([
  [SO.SO_DEBUG, SOCKF_DBG],
  [SO.SO_DONTROUTE, SOCKF_LOCALROUTE],
  [SO.SO_BROADCAST, SOCKF_BROADCAST],
  [SO.SO_REUSEADDR, SOCKF_REUSEADDR],
  [SO.SO_REUSEPORT, SOCKF_REUSEPORT],
  [SO.SO_KEEPALIVE, SOCKF_KEEPOPEN],
  [SO.SO_OOBINLINE, SOCKF_URGINLINE],
  [SO.SO_NO_CHECK, SOCKF_NO_CHECK],
  [SO.SO_TIMESTAMP, SOCKF_TIMESTAMP],
  [SO.SO_PASSCRED, SOCKF_PASSCRED],
  [SO.SO_RXQ_OVFL, SOCKF_RXQ_OVFL],
  [SO.SO_NOFCS, SOCKF_NOFCS],
  [SO.SO_LOCK_FILTER, SOCKF_FILTER_LOCKED],
  [SO.SO_SELECT_ERR_QUEUE, SOCKF_SELECT_ERR_QUEUE],
  [SO.SO_ZEROCOPY, SOCKF_ZEROCOPY],
  [SO.SO_PREFER_BUSY_POLL, SOCKF_PREFER_BUSY_POLL],
  [SO.SO_RCVMARK, SOCKF_RCVMARK],
  [SO.SO_WIFI_STATUS, SOCKF_WIFI_STATUS],
])

/**
 * Models `sock_getsockopt` and `sk_getsockopt` (net/core/sock.c): fills `val.int` and cuts `val.len` to what there is.
 *
 * @returns 0 or a negative errno.
 */
export function sockGetsockopt(_cpu: Cpu, sk: Sock, opt: number, val: OptVal): number {
  if (val.len < 0) return -ERRNO.EINVAL
  const flag = BOOLEAN_OPTIONS.get(opt)
  if (flag !== undefined) return answer(val, (sk.flags & flag) !== 0 ? 1 : 0)
  switch (opt) {
    case SO.SO_SNDBUF:
      return answer(val, sk.sndbuf)
    case SO.SO_RCVBUF:
      return answer(val, sk.rcvbuf)
    case SO.SO_TYPE:
      return answer(val, sk.type)
    case SO.SO_PROTOCOL:
      return answer(val, sk.protocol)
    case SO.SO_DOMAIN:
      return answer(val, sk.family)
    case SO.SO_ERROR: {
      const err = sk.err !== 0 ? sk.err : sk.errSoft
      if (sk.err !== 0) sk.err = 0
      else sk.errSoft = 0
      return answer(val, err)
    }
    case SO.SO_PRIORITY:
      return answer(val, sk.priority)
    case SO.SO_LINGER:
      val.words[0] = (sk.flags & SOCKF_LINGER) !== 0 ? 1 : 0
      val.words[1] = sk.lingertime
      val.len = Math.min(val.len, 8)
      val.int = val.words[0]
      return 0
    case SO.SO_BSDCOMPAT:
      return answer(val, 0)
    case SO.SO_RCVLOWAT:
      return answer(val, sk.rcvlowat)
    case SO.SO_SNDLOWAT:
      return answer(val, 1)
    case SO.SO_ACCEPTCONN:
      return answer(val, sk.state === TCP_LISTEN ? 1 : 0)
    case SO.SO_MARK:
      return answer(val, sk.mark)
    case SO.SO_PEEK_OFF:
      return sk.ops.setPeekOff === undefined ? -ERRNO.ENOTSUP : answer(val, sk.peekOff)
    case SO.SO_BUSY_POLL:
      return answer(val, sk.llUsec)
    case SO.SO_BUSY_POLL_BUDGET:
      return answer(val, sk.busyPollBudget)
    case SO.SO_MAX_PACING_RATE:
      return answer(val, sk.maxPacingRate)
    case SO.SO_BPF_EXTENSIONS:
      return answer(val, 64)
    case SO.SO_INCOMING_CPU:
      return answer(val, sk.incomingCpu)
    case SO.SO_INCOMING_NAPI_ID:
      return answer(val, 0)
    case SO.SO_MEMINFO:
      skMeminfo(sk, val.words)
      val.len = Math.min(val.len, SK_MEMINFO_VARS * 4)
      val.int = val.words[0]
      return 0
    case SO.SO_BUF_LOCK:
      return answer(val, sk.userlocks & SOCK_BUF_LOCK_MASK)
    case SO.SO_RESERVE_MEM:
      return answer(val, sk.reservedMem)
    case SO.SO_TXREHASH:
      if (sk.env.profile.features.soTxrehashTcpOnly && !sk.proto.isTcp) return -ERRNO.ENOTSUP
      return answer(val, sk.txrehash)
    case SO.SO_TIMESTAMPING:
      return answer(val, sk.tsflags)
    case SO.SO_BINDTOIFINDEX:
      return answer(val, sk.boundDevIf)
    case SO.SO_RCVTIMEO:
      return answerTime(val, sk, sk.rcvtimeo)
    case SO.SO_SNDTIMEO:
      return answerTime(val, sk, sk.sndtimeo)
    case SO.SO_COOKIE:
      if (val.len < 8) return -ERRNO.EINVAL
      return answer(val, sk.id)
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

function answer(val: OptVal, value: number): number {
  val.int = value | 0
  if (val.len > 4) val.len = 4
  return 0
}

function answerTime(val: OptVal, sk: Sock, jiffies: number): number {
  const ns = jiffies < 0 ? 0 : jiffies * sk.env.jiffyNs
  val.words[0] = Math.floor(ns / 1e9)
  val.words[1] = 0
  val.words[2] = Math.floor((ns % 1e9) / 1000)
  val.words[3] = 0
  val.int = val.words[0]
  val.len = Math.min(val.len, 16)
  return 0
}
