/**
 * Small socks at both ends of a connection's life: the child that a finished handshake makes, and the time-wait
 * sock that remembers the connection after the socket is gone.
 */
import { type Addr, type Cpu, type Gfp, NULL } from '@netmem/base'
import { kmemCacheAlloc, kmemCacheFree } from '@netmem/memory'
import type { SkBuff } from '@netmem/skbuff'
import {
  AF_INET6,
  type NetNs,
  SHUTDOWN_MASK,
  SOCKF_DEAD,
  SOCKF_KEEPOPEN,
  type Sock,
  skCloneLock,
  sockFlag,
  TCP_CLOSE,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_TIME_WAIT,
} from '@netmem/sockmem'
import { ipv6AddrEqual } from '../ip6/ipv6-header.js'
import type { InetBindBucket } from './inet-bind.js'
import { FlowKey, inetUnhash } from './inet-hashtables.js'
import type { RequestSock } from './request-sock.js'
import { inetCskDestroySock } from './tcp-destroy.js'
import type { TcpEnv } from './tcp-env.js'
import { incStats, MIB } from './tcp-mib.js'
import { TCPOLEN_TSTAMP_ALIGNED } from './tcp-options.js'
import { TCP_MSS_DEFAULT } from './tcp-rcvbuf.js'
import { TCP_HEADER_BYTES, thWindow } from './tcp-skb.js'
import { TcpSock, tcpSk } from './tcp-sock.js'
import { inetSkStateStore, tcpSetState } from './tcp-state-set.js'
import { tcpKeepaliveTimeWhen } from './tcp-timer.js'
import { tcpResetKeepaliveTimer, tcpStopAllTimers, timerWheelDelay } from './tcp-timer-arm.js'

/** Models `struct tcp_timewait_sock`. */
export class TimewaitSock {
  readonly key = new FlowKey()
  substate = TCP_TIME_WAIT
  rcvNxt = 0
  sndNxt = 0
  rcvWnd = 0
  tsRecent = 0
  tsRecentStamp = 0
  tsOff = 0
  rcvWscale = 0
  lastOowAckTime = 0
  event = 0
  /** When it is over, in virtual nanoseconds. */
  expiresNs = 0
  tb: InetBindBucket | null = null
  tb2: InetBindBucket | null = null

  constructor(
    readonly env: TcpEnv,
    readonly id: number,
    readonly addr: Addr,
    readonly net: NetNs,
    readonly family: number,
  ) {}

  matches(key: FlowKey): boolean {
    const k = this.key
    if (k.lport !== key.lport || k.rport !== key.rport || k.netId !== key.netId || k.family !== key.family) return false
    return k.family === AF_INET6
      ? ipv6AddrEqual(k.laddr6, key.laddr6) && ipv6AddrEqual(k.raddr6, key.raddr6)
      : k.laddr === key.laddr && k.raddr === key.raddr
  }
}

/** Models `tcp_fin_time`: how long FIN-WAIT-2 may last. Jiffies. */
export function tcpFinTime(tp: TcpSock): number {
  const base = tp.linger2 !== 0 ? tp.linger2 : tp.ctl.finTimeout[0]! * tp.env.hz
  const rto = tp.rto
  const floor = rto * 4 - (rto >> 1)
  return base < floor ? floor : base
}

/** Models `inet_twsk_alloc`. @returns null when there are too many, or no memory. */
function inetTwskAlloc(cpu: Cpu, sk: Sock): TimewaitSock | null {
  const tp = tcpSk(sk)
  const { env } = tp
  if (env.twCount >= tp.ctl.maxTwBuckets[0]!) return null
  const cache = sk.family === AF_INET6 ? env.twCache6 : env.twCache
  const addr = kmemCacheAlloc(cache, cpu, env.mem.gfp.GFP_ATOMIC as Gfp, 'inet_twsk_alloc')
  if (addr === NULL) return null
  env.twCount += 1
  const id = env.freeTimewaitIds.pop() ?? env.timewaits.length
  const tw = new TimewaitSock(env, id, addr, sk.net, sk.family)
  env.timewaits[id] = tw
  return tw
}

/** Models `tcp_time_wait` (net/ipv4/tcp_minisocks.c): the socket goes, its shadow stays. @param timeo jiffies, 0 for the full time. */
export function tcpTimeWait(cpu: Cpu, sk: Sock, state: number, timeo: number): void {
  const tp = tcpSk(sk)
  const { env } = tp
  const tw = inetTwskAlloc(cpu, sk)
  if (tw === null) incStats(sk, MIB.TCPTimeWaitOverflow)
  else {
    const rto = tp.rto * 4 - (tp.rto >> 1)
    tw.substate = state
    tw.rcvWscale = tp.rx.rcvWscale
    tw.rcvNxt = tp.rcvNxt
    tw.sndNxt = tp.sndNxt
    tw.rcvWnd = Math.max((tp.rcvWup + tp.rcvWnd - tp.rcvNxt) | 0, 0)
    tw.tsRecent = tp.rx.tsRecent
    tw.tsRecentStamp = tp.rx.tsRecentStamp
    tw.tsOff = tp.tsoffset
    tw.lastOowAckTime = 0
    flowKeyOfSock(sk, tw.key)
    tw.tb = tp.bindBucket
    tw.tb2 = tp.bind2Bucket
    if (tw.tb !== null) tw.tb.owners += 1
    if (tw.tb2 !== null) tw.tb2.owners += 1
    let time = Math.max(timeo, rto)
    if (state === TCP_TIME_WAIT) time = env.timewaitLen
    twSchedule(tw, time)
    inetUnhash(sk)
    env.hashinfo.addTimewait(tw)
  }
  tcpDone(cpu, sk)
}

function twSchedule(tw: TimewaitSock, timeo: number): void {
  const { env } = tw
  if (tw.event !== 0) env.clock.cancel(tw.event)
  const tick = Math.floor(env.clock.nowNs / env.jiffyNs) + timerWheelDelay(env.jiffies(), timeo)
  tw.expiresNs = tick * env.jiffyNs
  tw.event = env.clock.schedule(tw.expiresNs, env.twTimerHandler, tw.id)
}

/** Models `inet_twsk_reschedule`. */
export const inetTwskReschedule = (tw: TimewaitSock, timeo: number): void => twSchedule(tw, timeo)

/** Models `inet_twsk_deschedule_put` and `inet_twsk_kill`. */
export function inetTwskKill(cpu: Cpu, tw: TimewaitSock, counter: number): void {
  const { env } = tw
  if (tw.event !== 0) env.clock.cancel(tw.event)
  tw.event = 0
  env.hashinfo.removeTimewait(tw)
  if (tw.tb !== null && tw.tb2 !== null) env.bindTable.putBoth(cpu, env.socks, tw.tb, tw.tb2, 'inet_twsk_bind_unhash')
  tw.net.mib[counter]! += 1
  env.twCount -= 1
  env.timewaits[tw.id] = null
  env.freeTimewaitIds.push(tw.id)
  kmemCacheFree(tw.family === AF_INET6 ? env.twCache6 : env.twCache, cpu, tw.addr, 'inet_twsk_free')
}

/** Fills a key with a socket's own ends. */
export function flowKeyOfSock(sk: Sock, key: FlowKey): void {
  key.netId = sk.net.id
  key.family = sk.family
  key.lport = sk.num
  key.rport = sk.dport
  key.laddr = sk.rcvSaddr
  key.raddr = sk.daddr
  if (sk.v6 !== null) {
    key.laddr6.set(sk.v6.rcvSaddr)
    key.raddr6.set(sk.v6.daddr)
  }
}

/** Models `tcp_done` (net/ipv4/tcp.c). */
export function tcpDone(cpu: Cpu, sk: Sock): void {
  if (sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV) incStats(sk, MIB.AttemptFails)
  tcpSetState(cpu, sk, TCP_CLOSE)
  tcpStopAllTimers(tcpSk(sk))
  sk.shutdown = SHUTDOWN_MASK
  if (!sockFlag(sk, SOCKF_DEAD)) sk.stateChange(cpu, sk)
  else inetCskDestroySock(cpu, sk)
}

/**
 * Models `tcp_create_openreq_child` (net/ipv4/tcp_minisocks.c): the listener's copy, with what the request knows.
 *
 * @returns the child, owned; null without memory.
 */
export function tcpCreateOpenreqChild(cpu: Cpu, listener: Sock, req: RequestSock, skb: SkBuff): Sock | null {
  const ltp = tcpSk(listener)
  const { env } = ltp
  const child = skCloneLock(cpu, listener, env.mem.gfp.GFP_ATOMIC as Gfp)
  if (child === null) return null
  const tp = new TcpSock(child, env, ltp.ctl, ltp.caOps)
  child.priv = tp
  inetSkStateStore(child, TCP_SYN_RECV)
  const { key } = req
  child.num = key.lport
  tp.sport = key.lport
  child.dport = key.rport
  if (key.family === AF_INET6) {
    const v6 = child.v6!
    v6.rcvSaddr.set(key.laddr6)
    v6.saddr.set(key.laddr6)
    v6.daddr.set(key.raddr6)
    tp.netHeaderLen = 40
  } else {
    child.rcvSaddr = key.laddr
    child.saddr = key.laddr
    child.daddr = key.raddr
  }
  copyOptions(ltp, tp)
  const rcvNxt = (req.rcvIsn + 1) | 0
  const seq = (req.sntIsn + 1) | 0
  tp.rcvWup = rcvNxt
  tp.copiedSeq = rcvNxt
  tp.rcvNxt = rcvNxt
  tp.segsIn = 1
  tp.sndSml = seq
  tp.sndUna = seq
  tp.sndNxt = seq
  tp.sndUp = seq
  tp.writeSeq = seq
  tp.pushedSeq = seq
  tp.lsndtime = env.jiffies()
  tp.sndWl1 = req.rcvIsn
  tp.rto = env.timeoutInit
  tp.mdevUs = 1e6
  tp.sndCwnd = 10
  tp.reordering = tp.ctl.reordering[0]!
  tp.urgData = 0
  tp.rx.tstampOk = req.tstampOk
  tp.rx.sackOk = req.sackOk
  tp.windowClamp = req.windowClamp
  tp.rcvSsthresh = req.rcvWnd
  tp.rcvWnd = req.rcvWnd
  tp.rx.wscaleOk = req.wscaleOk
  if (req.wscaleOk !== 0) {
    tp.rx.sndWscale = req.sndWscale
    tp.rx.rcvWscale = req.rcvWscale
  } else tp.windowClamp = Math.min(tp.windowClamp, 65535)
  tp.sndWnd = thWindow(skb.env.u8, (skb.head + skb.transportHeader) >>> 0) << tp.rx.sndWscale
  tp.maxWindow = tp.sndWnd
  if (req.tstampOk !== 0) {
    tp.rx.tsRecent = req.tsRecent
    tp.rx.tsRecentStamp = Math.floor(env.clock.nowNs / 1e9) + 1
    tp.tcpHeaderLen = TCP_HEADER_BYTES + TCPOLEN_TSTAMP_ALIGNED
    tp.tsoffset = req.tsOff
  }
  if (skb.len >= TCP_MSS_DEFAULT + tp.tcpHeaderLen) tp.lastSegSize = skb.len - tp.tcpHeaderLen
  tp.rx.mssClamp = req.mss
  if (sockFlag(child, SOCKF_KEEPOPEN)) tcpResetKeepaliveTimer(tp, tcpKeepaliveTimeWhen(tp))
  incStats(child, MIB.PassiveOpens)
  return child
}

/** What a user set on the listener holds for its children. */
function copyOptions(from: TcpSock, to: TcpSock): void {
  to.nonagle = from.nonagle
  to.notsentLowat = from.notsentLowat
  to.userTimeout = from.userTimeout
  to.keepaliveTime = from.keepaliveTime
  to.keepaliveIntvl = from.keepaliveIntvl
  to.keepaliveProbes = from.keepaliveProbes
  to.linger2 = from.linger2
  to.rx.userMss = from.rx.userMss
  to.inet.tos = from.inet.tos
  to.inet.ucTtl = from.inet.ucTtl
  to.inet.recverr = from.inet.recverr
  to.inet.recverr6 = from.inet.recverr6
}
