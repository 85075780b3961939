/** Calling: a route, a port, the SYN. */
import { type Cpu, ERRNO, type Gfp } from '@netmem/base'
import { skbHeaderRelease, skbQueueTail } from '@netmem/skbuff'
import {
  AF_INET,
  AF_INET6,
  SOCK_BINDADDR_LOCK,
  SOCK_RCVBUF_LOCK,
  SOCKF_DONE,
  type Sock,
  type SockAddr,
  skMemCharge,
  skWmemQueuedAdd,
  sockResetFlag,
  TCP_CLOSE,
  TCP_SYN_SENT,
} from '@netmem/sockmem'
import { INADDR_LOOPBACK, ipv4IsMulticast } from '../ip/ip-header.js'
import { ipv6AddrAny } from '../ip6/ipv6-header.js'
import { inetBindTake } from './inet-bind.js'
import { inetHash } from './inet-hashtables.js'
import { tcpStreamAllocSkb } from './tcp-fragment.js'
import { incStats, MIB } from './tcp-mib.js'
import { flowKeyOfSock } from './tcp-minisocks.js'
import { tcpMtupInit, tcpSyncMss } from './tcp-mss.js'
import { TCPOLEN_TSTAMP_ALIGNED } from './tcp-options.js'
import { tcpInitNondataSkb, tcpTransmitSkb } from './tcp-output.js'
import { tcpWriteQueuePurge } from './tcp-queue.js'
import { TCP_MSS_DEFAULT, tcpInitializeRcvMss } from './tcp-rcvbuf.js'
import { TCP_HEADER_BYTES, TCPHDR_SYN } from './tcp-skb.js'
import { ICSK_TIME_RETRANS, type TcpSock, tcpSk } from './tcp-sock.js'
import { tcpSetState } from './tcp-state-set.js'
import { tcpMstampRefresh } from './tcp-time.js'
import { tcpResetXmitTimer } from './tcp-timer-arm.js'
import { tcpFullSpace, tcpSelectInitialWindow } from './tcp-window.js'

/** Models `tcp_v4_connect` and `tcp_v6_connect`. @returns 0 once the SYN is on its way, or a negative errno. */
export function tcpVxConnect(cpu: Cpu, sk: Sock, addr: SockAddr): number {
  const tp = tcpSk(sk)
  const { ip } = tp.env
  if (addr.family !== sk.family) return -ERRNO.EAFNOSUPPORT
  let err = sk.family === AF_INET6 ? aim6(sk, addr) : aim4(sk, addr)
  if (err === 0) err = ip.routeConnect(sk)
  if (err !== 0) {
    sk.daddr = 0
    return err
  }
  sk.dport = addr.port
  tp.rx.mssClamp = TCP_MSS_DEFAULT
  tcpSetState(cpu, sk, TCP_SYN_SENT)
  err = inetHashConnect(cpu, sk, tp)
  if (err === 0) {
    tp.sport = sk.num
    sk.txhash = tp.env.prng.next() | 0 || 1
    if (tp.writeSeq === 0) tp.writeSeq = tp.env.prng.next() | 0
    tp.tsoffset = 0
    tp.inet.id = tp.env.prng.next() & 0xffff
    err = tcpConnect(cpu, sk, tp)
  }
  if (err !== 0) {
    tcpSetState(cpu, sk, TCP_CLOSE)
    if ((sk.userlocks & SOCK_BINDADDR_LOCK) === 0) {
      sk.rcvSaddr = 0
      sk.saddr = 0
    }
    tp.inet.dst = null
    sk.dport = 0
  }
  return err
}

function aim4(sk: Sock, addr: SockAddr): number {
  if (addr.family !== AF_INET) return -ERRNO.EAFNOSUPPORT
  const daddr = addr.addr === 0 ? INADDR_LOOPBACK : addr.addr
  if (ipv4IsMulticast(daddr) || daddr === -1) return -ERRNO.ENETUNREACH
  sk.daddr = daddr
  return 0
}

function aim6(sk: Sock, addr: SockAddr): number {
  const { daddr } = sk.v6!
  daddr.set(addr.addr6)
  if (ipv6AddrAny(daddr)) daddr[3] = 1
  return daddr[0]! >>> 24 === 0xff ? -ERRNO.ENETUNREACH : 0
}

/** Models `inet_hash_connect` (net/ipv4/inet_hashtables.c): a local port that makes the pair of ends unique. */
function inetHashConnect(cpu: Cpu, sk: Sock, tp: TcpSock): number {
  const { env } = tp
  const { key } = env.hashinfo
  if (sk.num !== 0) {
    flowKeyOfSock(sk, key)
    if (env.hashinfo.isTaken(key)) return -ERRNO.EADDRNOTAVAIL
    inetHash(sk)
    return 0
  }
  const low = tp.ctl.ipLocalPortRange[0]!
  const count = tp.ctl.ipLocalPortRange[1]! + 1 - low
  // Even ports first: the odd ones are left to bind().
  const start = env.prng.below(count) & ~1
  for (let i = 0; i < count; i += 1) {
    const step = 2 * i
    const port = low + ((start + step + (step >= count ? 1 : 0)) % count)
    if (env.bindTable.find(sk.net.id, port) !== null) continue
    const err = inetBindTake(cpu, sk, port, '__inet_hash_connect')
    if (err !== 0) return err
    inetHash(sk)
    return 0
  }
  return -ERRNO.EADDRNOTAVAIL
}

/** Models `tcp_connect_init` (net/ipv4/tcp_output.c). */
function tcpConnectInit(cpu: Cpu, sk: Sock, tp: TcpSock): void {
  const { env, ctl } = tp
  const dst = tp.inet.dst!
  tp.tcpHeaderLen = TCP_HEADER_BYTES + (ctl.timestamps[0] !== 0 ? TCPOLEN_TSTAMP_ALIGNED : 0)
  if (tp.rx.userMss !== 0) tp.rx.mssClamp = tp.rx.userMss
  tp.maxWindow = 0
  tcpMtupInit(tp)
  tcpSyncMss(sk, env.ip.mtuOf(dst))
  const advmss = env.ip.advmssOf(dst)
  tp.advmss = tp.rx.userMss !== 0 && tp.rx.userMss < advmss ? tp.rx.userMss : advmss
  tcpInitializeRcvMss(tp)
  const full = tcpFullSpace(sk)
  if ((sk.userlocks & SOCK_RCVBUF_LOCK) !== 0 && (tp.windowClamp > full || tp.windowClamp === 0)) tp.windowClamp = full
  const initial = env.initialWindow
  const mss = tp.advmss - (tp.rx.tsRecentStamp !== 0 ? tp.tcpHeaderLen - TCP_HEADER_BYTES : 0)
  tcpSelectInitialWindow(tp, full, mss, tp.windowClamp, ctl.windowScaling[0] !== 0, initial)
  tp.rcvWnd = initial.rcvWnd
  tp.windowClamp = initial.windowClamp
  tp.rx.rcvWscale = initial.rcvWscale
  tp.rcvSsthresh = tp.rcvWnd
  sk.err = 0
  sockResetFlag(sk, SOCKF_DONE)
  tp.sndWnd = 0
  tp.sndWl1 = 0
  tcpWriteQueuePurge(cpu, sk)
  tp.sndUna = tp.writeSeq
  tp.sndSml = tp.writeSeq
  tp.sndUp = tp.writeSeq
  tp.sndNxt = tp.writeSeq
  tp.rcvNxt = 0
  tp.rcvWup = 0
  tp.copiedSeq = 0
  tp.rto = env.timeoutInit
  tp.retransmits = 0
  tp.retransOut = 0
  tp.lostOut = 0
  tp.undoMarker = 0
  tp.undoRetrans = -1
  tp.sackedOut = 0
}

/** Models `tcp_connect`. @returns 0, -ENOBUFS without memory, -ECONNREFUSED. */
function tcpConnect(cpu: Cpu, sk: Sock, tp: TcpSock): number {
  tcpConnectInit(cpu, sk, tp)
  const gfp = sk.allocation as Gfp
  const skb = tcpStreamAllocSkb(cpu, sk, gfp, true)
  if (skb === null) return -ERRNO.ENOBUFS
  tcpInitNondataSkb(skb, tp.writeSeq, TCPHDR_SYN)
  tcpMstampRefresh(tp)
  tp.retransStamp = tp.tsStamp
  skbHeaderRelease(skb)
  skWmemQueuedAdd(sk, skb.truesize)
  skMemCharge(sk, skb.truesize)
  tp.writeSeq = skb.cb1
  tp.packetsOut += 1
  skbQueueTail(tp.rtxQueue, skb)
  const err = tcpTransmitSkb(cpu, sk, skb, true, gfp)
  if (err === -ERRNO.ECONNREFUSED) return err
  // Only now, so that the SYN was counted as new.
  tp.sndNxt = tp.writeSeq
  tp.pushedSeq = tp.writeSeq
  incStats(sk, MIB.ActiveOpens)
  tcpResetXmitTimer(tp, ICSK_TIME_RETRANS, tp.rto)
  return 0
}
