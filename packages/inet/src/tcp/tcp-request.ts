/**
 * A listener's side of the handshake: a SYN makes a request, the third packet makes the child, and a timer
 * repeats the answer in between.
 */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import { AF_INET6, SOCK_RCVBUF_LOCK, type Sock } from '@netmem/sockmem'
import { inetInheritPort } from './inet-bind.js'
import { inetHash } from './inet-hashtables.js'
import {
  inetCskReqskQueueAdd,
  inetCskReqskQueueDrop,
  inetCskReqskQueueHashAdd,
  inetCskReqskQueueIsFull,
  inetReqskAlloc,
  type RequestSock,
  reqskFree,
  reqskPut,
  reqskUnlink,
  skAcceptqIsFull,
} from './request-sock.js'
import { after } from './seq.js'
import { inetCskDropChild } from './tcp-destroy.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpCreateOpenreqChild } from './tcp-minisocks.js'
import { tcpSyncMss } from './tcp-mss.js'
import { TCPOLEN_TSTAMP_ALIGNED, tcpParseOptions } from './tcp-options.js'
import { tcpInitializeRcvMss } from './tcp-rcvbuf.js'
import { TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN, thFlags } from './tcp-skb.js'
import { tcpSk } from './tcp-sock.js'
import { tcpSendRequestSynack } from './tcp-synack.js'
import { tcpFullSpace, tcpSelectInitialWindow } from './tcp-window.js'

const TCP_MSS_DEFAULT = 536

/** Models `tcp_conn_request` (net/ipv4/tcp_input.c). The skb stays the caller's. */
export function tcpConnRequest(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  const { env, ctl } = tp
  // Differs: no SYN cookies; a full queue of requests drops.
  if (inetCskReqskQueueIsFull(sk)) {
    incStats(sk, MIB.TCPReqQFullDrop)
    listenDrop(sk)
    return
  }
  if (skAcceptqIsFull(sk)) {
    incStats(sk, MIB.ListenOverflows)
    listenDrop(sk)
    return
  }
  const req = inetReqskAlloc(cpu, sk)
  if (req === null) {
    listenDrop(sk)
    return
  }
  const th = (skb.head + skb.transportHeader) >>> 0
  const opt = env.scratchOptions
  opt.clear()
  opt.userMss = tp.rx.userMss
  opt.mssClamp = TCP_MSS_DEFAULT
  tcpParseOptions(env.mem, th, opt, false, ctl.timestamps[0] !== 0, ctl.windowScaling[0] !== 0, ctl.sack[0] !== 0)
  const { key } = env.hashinfo
  copyKey(req, key)
  req.rcvIsn = skb.cb0
  req.rcvNxt = (skb.cb0 + 1) | 0
  req.mss = opt.mssClamp
  req.tsRecent = opt.sawTstamp ? opt.rcvTsval : 0
  req.tstampOk = opt.sawTstamp ? 1 : 0
  req.sackOk = opt.sackOk
  req.sndWscale = opt.sndWscale
  req.wscaleOk = opt.wscaleOk
  req.sntIsn = env.prng.next()
  req.tsOff = 0
  const dst = env.ip.routeTo(sk.net, key.family, key.raddr, key.raddr6, sk.boundDevIf)
  if (dst === null) {
    reqskFree(cpu, req, '__reqsk_free')
    listenDrop(sk)
    return
  }
  tcpOpenreqInitRwin(sk, req, env.ip.advmssOf(dst))
  inetCskReqskQueueHashAdd(req, env.timeoutInit)
  tcpSendRequestSynack(cpu, req)
  reqskPut(cpu, req, 'tcp_conn_request')
}

function copyKey(req: RequestSock, key: RequestSock['key']): void {
  const to = req.key
  to.netId = key.netId
  to.family = key.family
  to.lport = key.lport
  to.rport = key.rport
  to.laddr = key.laddr
  to.raddr = key.raddr
  if (key.family === AF_INET6) {
    to.laddr6.set(key.laddr6)
    to.raddr6.set(key.raddr6)
  }
}

/** Models `tcp_listendrop`. */
function listenDrop(sk: Sock): void {
  sk.drops += 1
  incStats(sk, MIB.ListenDrops)
}

/** Models `tcp_openreq_init_rwin` (net/ipv4/tcp_minisocks.c): the window that the SYN-ACK offers. */
function tcpOpenreqInitRwin(sk: Sock, req: RequestSock, advmss: number): void {
  const tp = tcpSk(sk)
  const fullSpace = tcpFullSpace(sk)
  const userMss = tp.rx.userMss
  const mss = userMss !== 0 && userMss < advmss ? userMss : advmss
  let clamp = tp.windowClamp
  if ((sk.userlocks & SOCK_RCVBUF_LOCK) !== 0 && (clamp > fullSpace || clamp === 0)) clamp = fullSpace
  const initial = tp.env.initialWindow
  const offer = mss - (req.tstampOk !== 0 ? TCPOLEN_TSTAMP_ALIGNED : 0)
  tcpSelectInitialWindow(tp, fullSpace, offer, clamp, req.wscaleOk !== 0, initial)
  req.rcvWnd = initial.rcvWnd
  req.windowClamp = initial.windowClamp
  req.rcvWscale = initial.rcvWscale
}

/**
 * Models `tcp_check_req` (net/ipv4/tcp_minisocks.c): a segment for a connection in the making.
 *
 * @returns the child (owned by the caller) for a valid third packet; null otherwise: the segment is to be dropped.
 */
export function tcpCheckReq(cpu: Cpu, listener: Sock, skb: SkBuff, req: RequestSock): Sock | null {
  const tp = tcpSk(listener)
  const { env, ctl } = tp
  const { mem } = env
  const th = (skb.head + skb.transportHeader) >>> 0
  const flags = thFlags(mem.u8, th) & (TCPHDR_RST | TCPHDR_SYN | TCPHDR_ACK | TCPHDR_FIN)
  const opt = env.scratchOptions
  opt.clear()
  opt.sawTstamp = false
  opt.tstampOk = req.tstampOk
  tcpParseOptions(mem, th, opt, false, ctl.timestamps[0] !== 0, false, false)
  const pawsReject = opt.sawTstamp && req.tsRecent !== 0 && ((req.tsRecent - opt.rcvTsval) | 0) > 0
  if (skb.cb0 === req.rcvIsn && flags === TCPHDR_SYN && !pawsReject) {
    // The SYN again: so is the answer.
    req.numRetrans += 1
    tcpSendRequestSynack(cpu, req)
    return null
  }
  if ((flags & TCPHDR_ACK) !== 0 && skb.cb3 !== ((req.sntIsn + 1) | 0)) {
    if ((flags & TCPHDR_RST) === 0) env.reqReset = true
    return null
  }
  if (pawsReject || !inWindow(skb, req)) {
    if (pawsReject) incStats(listener, MIB.PAWSEstab)
    return null
  }
  if (opt.sawTstamp && !after(skb.cb0, req.rcvNxt)) req.tsRecent = opt.rcvTsval
  if ((flags & (TCPHDR_RST | TCPHDR_SYN)) !== 0) {
    incStats(listener, MIB.AttemptFails)
    incStats(listener, MIB.EmbryonicRsts)
    inetCskReqskQueueDrop(cpu, req, 'tcp_check_req')
    return null
  }
  if ((flags & TCPHDR_ACK) === 0) return null
  if (tp.deferAccept !== 0 && req.numTimeout < tp.deferAccept && skb.cb1 === ((req.rcvIsn + 1) | 0)) {
    req.acked = true
    return null
  }
  const child = tcpSynRecvSock(cpu, listener, skb, req)
  if (child === null) {
    if (ctl.abortOnOverflow[0] === 0) req.acked = true
    else inetCskReqskQueueDrop(cpu, req, 'tcp_check_req')
    return null
  }
  return inetCskCompleteHashdance(cpu, listener, child, req)
}

/** Models `tcp_in_window` for a request. */
function inWindow(skb: SkBuff, req: RequestSock): boolean {
  const start = req.rcvNxt
  const end = (req.rcvNxt + req.rcvWnd) | 0
  if (skb.cb0 === start) return true
  if (after(skb.cb1, start) && after(end, skb.cb0)) return true
  return skb.cb0 === end && skb.cb0 === skb.cb1
}

/** Models `tcp_v4_syn_recv_sock` and its IPv6 twin (net/ipv4/tcp_ipv4.c). @returns null when the child cannot be made. */
function tcpSynRecvSock(cpu: Cpu, listener: Sock, skb: SkBuff, req: RequestSock): Sock | null {
  const { env } = tcpSk(listener)
  if (skAcceptqIsFull(listener)) {
    incStats(listener, MIB.ListenOverflows)
    incStats(listener, MIB.ListenDrops)
    listener.drops += 1
    return null
  }
  const { key } = req
  const dst = env.ip.routeTo(listener.net, key.family, key.raddr, key.raddr6, listener.boundDevIf)
  if (dst === null) return null
  const child = tcpCreateOpenreqChild(cpu, listener, req, skb)
  if (child === null) {
    listenDrop(listener)
    return null
  }
  const tp = tcpSk(child)
  child.owned = 0
  env.ip.setupCaps(child, dst)
  tcpSyncMss(child, env.ip.mtuOf(dst))
  const advmss = env.ip.advmssOf(dst)
  tp.advmss = tp.rx.userMss !== 0 && tp.rx.userMss < advmss ? tp.rx.userMss : advmss
  tcpInitializeRcvMss(tp)
  if (inetInheritPort(cpu, listener, child) !== 0) {
    inetCskDropChild(cpu, child)
    listenDrop(listener)
    return null
  }
  inetHash(child)
  return child
}

/** Models `inet_csk_complete_hashdance`: the child takes the request's place. */
function inetCskCompleteHashdance(cpu: Cpu, listener: Sock, child: Sock, req: RequestSock): Sock | null {
  if (!reqskUnlink(req)) {
    inetCskDropChild(cpu, child)
    return null
  }
  // One reference was the table's; the timer's goes to the accept queue.
  reqskPut(cpu, req, 'tcp_check_req')
  inetCskReqskQueueAdd(listener, req, child)
  child.refcnt += 1
  return child
}

/** Models `reqsk_timer_handler` (net/ipv4/inet_connection_sock.c): nobody completed the handshake. */
export function reqskTimerHandler(cpu: Cpu, req: RequestSock): void {
  const { env, listener } = req
  req.timerEvent = 0
  const tp = tcpSk(listener)
  if (!req.hashed) return
  const max = tp.synRetries !== 0 ? tp.synRetries : tp.ctl.synackRetries[0]!
  const resend = req.numTimeout < max
  if (resend) {
    if (req.numTimeout === 0 && tp.acceptQueue !== null) tp.acceptQueue.young -= 1
    req.numTimeout += 1
    if (!req.acked || tp.deferAccept === 0) {
      req.numRetrans += 1
      tcpSendRequestSynack(cpu, req)
      incStats(listener, MIB.TCPSynRetrans)
      incStats(listener, MIB.RetransSegs)
    }
    const delay = Math.min(env.timeoutInit * 2 ** req.numTimeout, (tp.ctl.rtoMaxMs[0]! * env.hz) / 1000)
    const tick = Math.floor(env.clock.nowNs / env.jiffyNs) + delay + 1
    req.timerEvent = env.clock.schedule(tick * env.jiffyNs, env.requestTimerHandler, req.id)
    return
  }
  inetCskReqskQueueDrop(cpu, req, 'reqsk_timer_handler')
}
