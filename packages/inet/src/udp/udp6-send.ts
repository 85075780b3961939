/** Sending over UDP and IPv6. A socket of the IPv6 family sends over IPv4 to mapped addresses. */
import { type Cpu, ERRNO } from '@netmem/base'
import type { PageFrag } from '@netmem/page-frag'
import {
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  csumAdd,
  csumFold,
  fragList,
  kfreeSkb,
  type SkBuff,
  skbQueueEmpty,
} from '@netmem/skbuff'
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  lockSock,
  MSG_MORE,
  type Msg,
  mibIndex,
  releaseSock,
  SOCKF_NOSPACE,
  type Sock,
  type Task,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import { isMapped } from '../af-inet.js'
import type { Dst } from '../dst.js'
import type { Cork } from '../ip/cork.js'
import { flushFrames } from '../ip/ip-append.js'
import { ip6AppendData, ip6MakeSkb, ip6MakeSkbFrom } from '../ip6/ip6-make.js'
import { ip6SendSkb } from '../ip6/ip6-output.js'
import { csumIpv6Nofold, ipv6AddrAny } from '../ip6/ipv6-header.js'
import { fib6Lookup } from '../route.js'
import { type Udp, udpOf } from './udp-env.js'
import { putChecksum, UDP_HLEN, udpCsum, udpGsoSetup, udpSendmsg, writeChecksum } from './udp-send.js'
import { type UdpSock, udpSk } from './udp-sock.js'

const OUT_DATAGRAMS = mibIndex('Udp6.OutDatagrams')
const SNDBUF_ERRORS = mibIndex('Udp6.SndbufErrors')
const IP6_OUT_NO_ROUTES = mibIndex('Ip6.OutNoRoutes')

/** Models `udpv6_sendmsg` (net/ipv6/udp.c). @returns `len` or a negative errno. */
export function udpv6Sendmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg, len: number): number {
  const up = udpSk(sk)
  const { env } = up
  const udp = udpOf(env)
  const { name } = msg
  const v6 = sk.v6 as NonNullable<Sock['v6']>
  if (up.pending === AF_INET) return udpSendmsg(cpu, task, sk, msg, len)
  const corked = up.corkOpt !== 0 || (msg.flags & MSG_MORE) !== 0
  const pfrag = sk.useTaskFrag !== 0 ? task.taskFrag : udp.pfrag
  if (up.pending !== 0)
    return finishSend(sk, appendPending(cpu, task, udp, sk, up, msg, pfrag, len, corked, up.inet.cork.dst as Dst), len)

  const named = name.family !== AF_UNSPEC
  if (named && name.family !== AF_INET6 && name.family !== AF_INET) return -ERRNO.EINVAL
  if (named && name.family === AF_INET6 && isMapped(name.addr6)) {
    name.family = AF_INET
    name.addr = name.addr6[3]
  }
  if ((named && name.family === AF_INET) || (!named && isMapped(v6.daddr))) {
    if (up.inet.v6only) return -ERRNO.ENETUNREACH
    return udpSendmsg(cpu, task, sk, msg, len)
  }
  let dst: Dst | null = null
  const { daddr6, saddr6 } = env.scratchFlow6
  let dport = sk.dport
  if (named) {
    daddr6.set(name.addr6)
    dport = name.port
    if (dport === 0) return -ERRNO.EINVAL
  } else {
    if (sk.state !== TCP_ESTABLISHED) return -ERRNO.EDESTADDRREQ
    daddr6.set(v6.daddr)
    dst = up.inet.dst
  }
  if (ipv6AddrAny(daddr6)) daddr6[3] = 1
  saddr6.set(v6.saddr)
  if (dst === null) {
    const route = fib6Lookup(env.netOf(sk.net), daddr6, sk.boundDevIf)
    if (route === null) {
      sk.net.mib[IP6_OUT_NO_ROUTES] += 1
      return -ERRNO.ENETUNREACH
    }
    dst = route.dst
    if (ipv6AddrAny(saddr6)) saddr6.set(route.source)
  }
  const { ipc, source } = udp
  ipc.gsoSize = up.gsoSize
  ipc.ttl = 0
  ipc.tos = -1
  source.msg = msg
  source.task = task
  source.zc = udp.zeroCopy === null ? null : udp.zeroCopy(cpu, sk, msg)
  const ulen = len + UDP_HLEN
  const cork = corked ? up.inet.cork : udp.cork
  cork.saddr6.set(saddr6)
  cork.daddr6.set(daddr6)
  cork.sport = sk.num
  cork.dport = dport
  if (corked) {
    up.pending = AF_INET6
    return finishSend(sk, appendPending(cpu, task, udp, sk, up, msg, pfrag, ulen, corked, dst), len)
  }
  const skb = ip6MakeSkb(env, cpu, sk, udp.scratch, cork, pfrag, source, ulen, UDP_HLEN, ipc, dst, msg.flags)
  const err = skb === null ? env.socks.lastError : udpV6SendSkb(cpu, udp, sk, skb, cork)
  return finishSend(sk, err, len)
}

function appendPending(
  cpu: Cpu,
  task: Task,
  udp: Udp,
  sk: Sock,
  up: UdpSock,
  msg: Msg,
  pfrag: PageFrag,
  ulen: number,
  corked: boolean,
  dst: Dst,
): number {
  const { env } = up
  const { cork } = up.inet
  lockSock(sk)
  up.len += ulen
  udp.source.msg = msg
  udp.source.task = task
  const flags = corked ? msg.flags | MSG_MORE : msg.flags
  let err = ip6AppendData(env, cpu, sk, cork, pfrag, udp.source, ulen, UDP_HLEN, udp.ipc, dst, flags)
  if (err !== 0) {
    up.len = 0
    up.pending = 0
    flushFrames(env, cpu, sk.writeQueue, cork, '__ip6_flush_pending_frames')
  } else if (!corked) err = udpV6PushPendingFrames(cpu, sk)
  else if (skbQueueEmpty(sk.writeQueue)) up.pending = 0
  releaseSock(cpu, sk)
  return err
}

/** Models `udp_v6_push_pending_frames`. */
export function udpV6PushPendingFrames(cpu: Cpu, sk: Sock): number {
  const up = udpSk(sk)
  const skb = ip6MakeSkbFrom(up.env, sk, sk.writeQueue, up.inet.cork)
  const err = skb === null ? 0 : udpV6SendSkb(cpu, udpOf(up.env), sk, skb, up.inet.cork)
  up.len = 0
  up.pending = 0
  up.inet.cork.length = 0
  return err
}

function finishSend(sk: Sock, err: number, len: number): number {
  if (err === 0) return len
  if (err === -ERRNO.ENOBUFS || (sk.flags & SOCKF_NOSPACE) !== 0) {
    sk.net.mib[SNDBUF_ERRORS] += 1
    sk.flags &= ~SOCKF_NOSPACE
  }
  return err
}

/** Models `udp_v6_send_skb` (net/ipv6/udp.c). Takes the skb. */
function udpV6SendSkb(cpu: Cpu, udp: Udp, sk: Sock, skb: SkBuff, cork: Cork): number {
  const { env } = udp
  const { mem } = env
  const uh = (skb.head + skb.transportHeader) >>> 0
  const offset = (uh - (skb.data >>> 0)) | 0
  const len = skb.len - offset
  mem.dv.setUint16(uh, cork.sport)
  mem.dv.setUint16(uh + 2, cork.dport)
  mem.dv.setUint16(uh + 4, len > 0xffff ? 0 : len)
  mem.u16[(uh + 6) >>> 1] = 0
  let partial = skb.ipSummed === CHECKSUM_PARTIAL
  if (cork.gsoSize !== 0) {
    const err = udpGsoSetup(udp, sk, skb, cork, len - UDP_HLEN, partial)
    if (err !== 0) {
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'udp_v6_send_skb')
      return err
    }
    if (len - UDP_HLEN > cork.gsoSize) partial = true
  }
  const pseudo = csumIpv6Nofold(cork.saddr6, cork.daddr6, len, 17)
  if (udpSk(sk).noCheck6Tx !== 0) skb.ipSummed = CHECKSUM_NONE
  else if (partial && fragList(skb) === 0) {
    skb.ipSummed = CHECKSUM_PARTIAL
    skb.csumStart = skb.transportHeader
    skb.csumOffset = 6
    mem.u16[(uh + 6) >>> 1] = ~csumFold(pseudo) & 0xffff
  } else {
    if (partial) writeChecksum(env, skb, pseudo, offset)
    else putChecksum(env, skb, csumAdd(udpCsum(env, skb), pseudo | 0))
    skb.ipSummed = CHECKSUM_NONE
  }
  const err = ip6SendSkb(env, cpu, sk.net, skb)
  if (err === 0) {
    sk.net.mib[OUT_DATAGRAMS] += 1
    return 0
  }
  if (err === -ERRNO.ENOBUFS && !udpSk(sk).inet.recverr6) {
    sk.net.mib[SNDBUF_ERRORS] += 1
    return 0
  }
  return err
}
