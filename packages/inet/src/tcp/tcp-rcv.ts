/**
 * Where segments come in from IP: header checks, the checksum, the socket, and either processing at once or the
 * backlog when a task is inside a call on that socket.
 */
import type { Cpu } from '@netmem/base'
import {
  CHECKSUM_COMPLETE,
  CHECKSUM_PARTIAL,
  CHECKSUM_UNNECESSARY,
  gsoSegs,
  gsoSize,
  kfreeSkb,
  kfreeSkbPartial,
  PACKET_HOST,
  pskbMayPull,
  type SkBuff,
  type SkbDropReason,
  setGsoSegs,
  setGsoSize,
  skbChecksum,
  skbCondense,
  skbPullUnchecked,
  skbPushUnchecked,
  skbTryCoalesce,
} from '@netmem/skbuff'
import {
  AF_INET,
  AF_INET6,
  IPPROTO_TCP,
  type NetNs,
  type Sock,
  skAddBacklog,
  skFilterTrimCap,
  sockPut,
  TCP_ESTABLISHED,
  TCP_LISTEN,
  TCP_SYN_RECV,
} from '@netmem/sockmem'
import { csumTcpudpNofold } from '../ip/ip-header.js'
import { csumIpv6Nofold, readIpv6Addr } from '../ip6/ipv6-header.js'
import type { FlowKey } from './inet-hashtables.js'
import { type RequestSock, reqskPut } from './request-sock.js'
import { before } from './seq.js'
import { csumFold } from './tcp-af.js'
import { tcpDropReason } from './tcp-challenge.js'
import type { TcpEnv } from './tcp-env.js'
import { tcpRcvEstablished } from './tcp-input.js'
import { incStats, MIB } from './tcp-mib.js'
import { flowKeyOfSock, inetTwskKill } from './tcp-minisocks.js'
import { tcpSendReset } from './tcp-reply.js'
import { tcpCheckReq } from './tcp-request.js'
import {
  be32,
  TCP_HEADER_BYTES,
  TCPCB_EOR,
  TCPHDR_ACK,
  TCPHDR_CWR,
  TCPHDR_ECE,
  TCPHDR_FIN,
  TCPHDR_RST,
  TCPHDR_SYN,
  TCPHDR_URG,
  tcpFlags,
  thAckSeq,
  thBytes,
  thDest,
  thFlags,
  thSeq,
  thSource,
} from './tcp-skb.js'
import { tcpSk } from './tcp-sock.js'
import { tcpRcvStateProcess } from './tcp-state.js'
import { TCP_TW_ACK, TCP_TW_RST, TCP_TW_SYN, tcpTimewaitAck, tcpTimewaitStateProcess } from './tcp-timewait.js'

/** Models `tcp_v4_rcv` (net/ipv4/tcp_ipv4.c) as IP's handler. Takes the skb, `data` at the TCP header. */
export function tcpV4Rcv(env: TcpEnv, cpu: Cpu, skb: SkBuff): number {
  const { key } = env.hashinfo
  const { dv } = env.mem
  const iph = (skb.head + skb.networkHeader) >>> 0
  key.family = AF_INET
  key.raddr = dv.getInt32(iph + 12)
  key.laddr = dv.getInt32(iph + 16)
  tcpRcv(env, cpu, skb, key, 'tcp_v4_rcv')
  return 0
}

/** Models `tcp_v6_rcv` (net/ipv6/tcp_ipv6.c). */
export function tcpV6Rcv(env: TcpEnv, cpu: Cpu, skb: SkBuff): number {
  const { key } = env.hashinfo
  const iph = (skb.head + skb.networkHeader) >>> 0
  key.family = AF_INET6
  readIpv6Addr(env.mem, iph + 8, key.raddr6)
  readIpv6Addr(env.mem, iph + 24, key.laddr6)
  tcpRcv(env, cpu, skb, key, 'tcp_v6_rcv')
  return 0
}

function tcpRcv(env: TcpEnv, cpu: Cpu, skb: SkBuff, key: FlowKey, site: string): void {
  const { u8 } = env.mem
  const inetNet = env.ip.inet.netOfDev(env.ip.inet.devs.devices[skb.dev]!)
  const { net } = inetNet
  if (skb.pktType !== PACKET_HOST) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', site)
    return
  }
  net.mib[MIB.InSegs]! += 1
  // A packet without a whole header is only dropped; one whose header says nonsense is an error.
  if (!pskbMayPull(cpu, skb, TCP_HEADER_BYTES)) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', site)
    return
  }
  const bytes = thBytes(u8, skb.data >>> 0)
  if (bytes < TCP_HEADER_BYTES) {
    net.mib[MIB.InErrs]! += 1
    kfreeSkb(cpu, skb, 'PKT_TOO_SMALL', site)
    return
  }
  if (!pskbMayPull(cpu, skb, bytes)) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', site)
    return
  }
  if (!checksumOk(skb, key)) {
    net.mib[MIB.InCsumErrors]! += 1
    net.mib[MIB.InErrs]! += 1
    kfreeSkb(cpu, skb, 'TCP_CSUM', site)
    return
  }
  const th = skb.data >>> 0
  key.netId = net.id
  key.rport = thSource(u8, th)
  key.lport = thDest(u8, th)
  key.dif = skb.dev
  tcpFillCb(skb, u8, th)
  const sk = env.hashinfo.lookupEstablished(key)
  if (sk !== null) {
    tcpDeliver(cpu, sk, skb, site)
    return
  }
  lookupSlow(env, cpu, net, skb, key, site)
}

/** Models `skb_checksum_init` and `tcp_checksum_complete` in one: all of the segment is summed, unless a device did. */
function checksumOk(skb: SkBuff, key: FlowKey): boolean {
  const kind = skb.ipSummed
  if (kind === CHECKSUM_UNNECESSARY || kind === CHECKSUM_PARTIAL || skb.csumValid) return true
  const pseudo =
    key.family === AF_INET6
      ? csumIpv6Nofold(key.raddr6, key.laddr6, skb.len, IPPROTO_TCP)
      : csumTcpudpNofold(key.raddr, key.laddr, skb.len, IPPROTO_TCP)
  const sum = kind === CHECKSUM_COMPLETE ? skb.csum >>> 0 : skbChecksum(skb, 0, skb.len, 0) >>> 0
  const ok = csumFold(csumFold(sum) + csumFold(pseudo)) === 0xffff
  if (ok) skb.csumValid = true
  return ok
}

/** Models `tcp_v4_fill_cb`. */
function tcpFillCb(skb: SkBuff, u8: Uint8Array, th: number): void {
  const flags = thFlags(u8, th)
  const seq = thSeq(u8, th)
  const syn = (flags & TCPHDR_SYN) !== 0 ? 1 : 0
  const fin = (flags & TCPHDR_FIN) !== 0 ? 1 : 0
  skb.cb0 = seq
  skb.cb1 = (seq + syn + fin + skb.len - thBytes(u8, th)) | 0
  skb.cb2 = flags
  skb.cb3 = thAckSeq(u8, th)
}

/** A segment for a socket: now, or when its owner lets go. */
function tcpDeliver(cpu: Cpu, sk: Sock, skb: SkBuff, site: string): void {
  sk.refcnt += 1
  if (sk.filter !== null && skFilterTrimCap(cpu, sk, skb, thBytes(skb.env.u8, skb.data >>> 0)) !== 0) {
    tcpDropReason(cpu, sk, skb, 'SOCKET_FILTER', site)
    sockPut(cpu, sk, tcpSk(sk).env.freeSite(site))
    return
  }
  skb.dev = 0
  const tp = tcpSk(sk)
  const segs = Math.max(1, gsoSegs(skb))
  tp.segsIn += segs
  if (skb.len > thBytes(skb.env.u8, skb.data >>> 0)) tp.dataSegsIn += segs
  sk.incomingCpu = cpu.id
  if (sk.owned === 0) tcpDoRcv(cpu, sk, skb)
  else tcpAddBacklog(cpu, sk, skb, site)
  sockPut(cpu, sk, tcpSk(sk).env.freeSite(site))
}

/** Models `tcp_v4_do_rcv` (net/ipv4/tcp_ipv4.c). Takes the skb. Also what a backlog is processed with. */
export function tcpDoRcv(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  if (sk.state === TCP_ESTABLISHED) {
    tcpRcvEstablished(cpu, sk, skb)
    return
  }
  const reason = tcpRcvStateProcess(cpu, sk, skb)
  if (reason !== null) resetAndDrop(cpu, sk, skb, reason)
}

function resetAndDrop(cpu: Cpu, sk: Sock, skb: SkBuff, reason: SkbDropReason): void {
  const { env } = tcpSk(sk)
  const key = env.replyKey
  if (sk.state === TCP_LISTEN) copyFlow(env.hashinfo.key, key)
  else flowKeyOfSock(sk, key)
  tcpSendReset(cpu, env, sk.net, key, skb)
  kfreeSkb(cpu, skb, reason, 'tcp_v4_do_rcv', sk.id)
}

function copyFlow(from: FlowKey, to: FlowKey): void {
  to.netId = from.netId
  to.family = from.family
  to.laddr = from.laddr
  to.lport = from.lport
  to.raddr = from.raddr
  to.rport = from.rport
  to.laddr6.set(from.laddr6)
  to.raddr6.set(from.raddr6)
}

/** Models `tcp_add_backlog` (net/ipv4/tcp_ipv4.c): merged with the last that waits if possible, else within a limit. */
function tcpAddBacklog(cpu: Cpu, sk: Sock, skb: SkBuff, site: string): void {
  skbCondense(cpu, skb)
  if (sk.backlogTail !== 0 && backlogCoalesce(cpu, sk, skb.env.skbs[sk.backlogTail]!, skb)) return
  const limit = Math.min(sk.rcvbuf * 2 + (sk.sndbuf >>> 1) + 64 * 1024, 0xffffffff)
  if (skAddBacklog(sk, skb, limit) !== 0) {
    incStats(sk, MIB.TCPBacklogDrop)
    tcpDropReason(cpu, sk, skb, 'SOCKET_BACKLOG', site)
  }
}

function backlogCoalesce(cpu: Cpu, sk: Sock, tail: SkBuff, skb: SkBuff): boolean {
  const { u8 } = skb.env
  const th = skb.data >>> 0
  const thTail = tail.data >>> 0
  const bytes = thBytes(u8, th)
  const a = tcpFlags(tail)
  const b = tcpFlags(skb)
  if (
    tail.cb1 !== skb.cb0 ||
    ((a | b) & (TCPHDR_SYN | TCPHDR_RST | TCPHDR_URG)) !== 0 ||
    (a & b & TCPHDR_ACK) === 0 ||
    ((a ^ b) & (TCPHDR_ECE | TCPHDR_CWR)) !== 0 ||
    (tail.cb2 & TCPCB_EOR) !== 0 ||
    thBytes(u8, thTail) !== bytes
  )
    return false
  for (let i = TCP_HEADER_BYTES; i < bytes; i += 4) if (be32(u8, th + i) !== be32(u8, thTail + i)) return false
  skbPullUnchecked(skb, bytes)
  const size = Math.max(
    gsoSize(skb) !== 0 ? gsoSize(skb) : skb.len,
    gsoSize(tail) !== 0 ? gsoSize(tail) : tail.len - bytes,
  )
  const segs = Math.max(1, gsoSegs(skb)) + Math.max(1, gsoSegs(tail))
  const { coalesced } = tcpSk(sk).env
  coalesced.fragstolen = false
  if (!skbTryCoalesce(cpu, tail, skb, coalesced)) {
    skbPushUnchecked(skb, bytes)
    return false
  }
  tail.cb1 = skb.cb1
  if (!before(skb.cb3, tail.cb3)) {
    tail.cb3 = skb.cb3
    u8[thTail + 14] = u8[th + 14]!
    u8[thTail + 15] = u8[th + 15]!
  }
  u8[thTail + 13]! |= u8[th + 13]! & TCPHDR_FIN
  tail.cb2 |= b
  setGsoSize(tail, size)
  setGsoSegs(tail, Math.min(segs, 0xffff))
  sk.backlogLen += coalesced.deltaTruesize
  incStats(sk, MIB.TCPBacklogCoalesce)
  kfreeSkbPartial(cpu, skb, coalesced.fragstolen, 'tcp_add_backlog')
  return true
}

// Not an established connection: a shadow, a request, a listener, or nobody.

function lookupSlow(env: TcpEnv, cpu: Cpu, net: NetNs, skb: SkBuff, key: FlowKey, site: string): void {
  const tw = env.hashinfo.lookupTimewait(key)
  if (tw !== null) {
    const verdict = tcpTimewaitStateProcess(cpu, tw, skb)
    if (verdict === TCP_TW_SYN) {
      const listener = env.hashinfo.lookupListener(key)
      if (listener !== null) {
        inetTwskKill(cpu, tw, MIB.TWRecycled)
        toListener(cpu, listener, skb, site)
        return
      }
    }
    if (verdict === TCP_TW_ACK || verdict === TCP_TW_SYN) tcpTimewaitAck(cpu, tw, key)
    else if (verdict === TCP_TW_RST) tcpSendReset(cpu, env, net, key, skb)
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', site)
    return
  }
  const req = env.hashinfo.lookupRequest(key)
  if (req !== null) {
    toRequest(env, cpu, net, skb, key, req, site)
    return
  }
  const listener = env.hashinfo.lookupListener(key)
  if (listener !== null) {
    toListener(cpu, listener, skb, site)
    return
  }
  tcpSendReset(cpu, env, net, key, skb)
  kfreeSkb(cpu, skb, 'NO_SOCKET', site)
}

function toListener(cpu: Cpu, sk: Sock, skb: SkBuff, site: string): void {
  sk.refcnt += 1
  skb.dev = 0
  tcpDoRcv(cpu, sk, skb)
  sockPut(cpu, sk, tcpSk(sk).env.freeSite(site))
}

/** Models the `TCP_NEW_SYN_RECV` part of `tcp_v4_rcv` and `tcp_child_process`. */
function toRequest(env: TcpEnv, cpu: Cpu, net: NetNs, skb: SkBuff, key: FlowKey, req: RequestSock, site: string): void {
  const { listener } = req
  if (listener.state !== TCP_LISTEN) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', site)
    return
  }
  listener.refcnt += 1
  req.refcnt += 1
  env.reqReset = false
  const child = tcpCheckReq(cpu, listener, skb, req)
  if (child === null) {
    if (env.reqReset) tcpSendReset(cpu, env, net, key, skb)
    kfreeSkb(cpu, skb, env.reqReset ? 'TCP_INVALID_ACK_SEQUENCE' : 'NOT_SPECIFIED', site)
  } else {
    skb.dev = 0
    tcpChildProcess(cpu, listener, child, skb, req, site)
  }
  reqskPut(cpu, req, site)
  sockPut(cpu, listener, env.freeSite(site))
}

function tcpChildProcess(cpu: Cpu, listener: Sock, child: Sock, skb: SkBuff, req: RequestSock, site: string): void {
  const segs = Math.max(1, gsoSegs(skb))
  const tp = tcpSk(child)
  tp.segsIn += segs
  if (skb.len > thBytes(skb.env.u8, skb.data >>> 0)) tp.dataSegsIn += segs
  if (child.owned === 0) {
    const was = child.state
    const reason = tcpRcvStateProcess(cpu, child, skb, req)
    if (was === TCP_SYN_RECV && child.state !== was) listener.dataReady(cpu, listener)
    if (reason !== null) resetAndDrop(cpu, child, skb, reason)
  } else skAddBacklog(child, skb, 0x7fffffff)
  sockPut(cpu, child, tcpSk(child).env.freeSite(site))
}
