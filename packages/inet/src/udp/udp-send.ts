/**
 * Sending over UDP and IPv4: a datagram in one call, or corked and built from several.
 */
import { type Addr, type Cpu, ERRNO } from '@netmem/base'
import { kmalloc } from '@netmem/memory'
import type { PageFrag } from '@netmem/page-frag'
import {
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  csumAdd,
  csumFold,
  csumPartial,
  fragList,
  kfreeSkb,
  type SkBuff,
  setGsoSegs,
  setGsoSize,
  setGsoType,
  skbChecksum,
  skbQueueEmpty,
} from '@netmem/skbuff'
import {
  AF_INET,
  AF_UNSPEC,
  lockSock,
  MSG_MORE,
  MSG_OOB,
  MSG_PROBE,
  type Msg,
  mibIndex,
  releaseSock,
  SOCKF_BROADCAST,
  SOCKF_NO_CHECK,
  SOCKF_NOSPACE,
  type Sock,
  type Task,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import { SKB_GSO_UDP_L4 } from '@netmem/virtual-nic'
import type { Dst } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import type { Cork } from '../ip/cork.js'
import { flushFrames } from '../ip/ip-append.js'
import { csumTcpudpNofold } from '../ip/ip-header.js'
import { ipAppendData, ipCorkRelease, ipMakeSkb, ipMakeSkbFrom } from '../ip/ip-make.js'
import { ipSendSkb } from '../ip/ip-output.js'
import { fibLookup } from '../route.js'
import { type Udp, udpOf } from './udp-env.js'
import { type UdpSock, udpSk } from './udp-sock.js'

export const UDP_HLEN = 8
/** Models `UDP_MAX_SEGMENTS`: datagrams that one GSO send may make. */
export const UDP_MAX_SEGMENTS = 128
/** Stands for a computed checksum of zero, because zero on the wire means "none". */
const CSUM_MANGLED_0 = 0xffff
export const SOL_UDP = 17
export const UDP_SEGMENT = 103

const OUT_DATAGRAMS = mibIndex('Udp.OutDatagrams')
const SNDBUF_ERRORS = mibIndex('Udp.SndbufErrors')
const IP_OUT_NO_ROUTES = mibIndex('Ip.OutNoRoutes')

/**
 * Models `udp_sendmsg` (net/ipv4/udp.c).
 *
 * @returns `len`, or a negative errno.
 */
export function udpSendmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg, len: number): number {
  const up = udpSk(sk)
  const { env } = up
  const udp = udpOf(env)
  if (len > 0xffff) return -ERRNO.EMSGSIZE
  const flags = msg.flags
  if ((flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  const corked = up.corkOpt !== 0 || (flags & MSG_MORE) !== 0
  const pfrag = sk.useTaskFrag !== 0 ? task.taskFrag : udp.pfrag

  if (up.pending !== 0) {
    if (up.pending !== AF_INET) return -ERRNO.EINVAL
    return finishSend(sk, appendPending(cpu, task, udp, sk, up, msg, pfrag, len, len, corked, null), len)
  }

  let daddr = sk.daddr
  let dport = sk.dport
  let dst: Dst | null = null
  const { name } = msg
  if (name.family !== AF_UNSPEC) {
    if (name.family !== AF_INET) return -ERRNO.EAFNOSUPPORT
    daddr = name.addr
    dport = name.port
    if (dport === 0) return -ERRNO.EINVAL
  } else {
    if (sk.state !== TCP_ESTABLISHED) return -ERRNO.EDESTADDRREQ
    dst = up.inet.dst
  }
  const { ipc } = udp
  ipc.gsoSize = up.gsoSize
  ipc.ttl = 0
  ipc.tos = -1
  ipc.oif = sk.boundDevIf
  if (msg.control !== null) {
    const err = udpCmsgSend(msg, ipc)
    if (err !== 0) return err
  }
  // An address of 0 means this machine.
  if (daddr === 0) daddr = sk.saddr !== 0 ? sk.saddr : 0x7f000001
  let { saddr } = sk
  const connected = dst !== null
  if (dst === null) {
    const route = fibLookup(env.netOf(sk.net), daddr, sk.boundDevIf)
    if (route === null) {
      sk.net.mib[IP_OUT_NO_ROUTES] += 1
      return -ERRNO.ENETUNREACH
    }
    dst = route.dst
    if (dst.broadcast && (sk.flags & SOCKF_BROADCAST) === 0) return -ERRNO.EACCES
    if (saddr === 0) saddr = route.source
  }
  if ((flags & MSG_PROBE) !== 0 && len === 0) return 0

  const ulen = len + UDP_HLEN
  const { source } = udp
  source.msg = msg
  source.task = task
  source.zc = udp.zeroCopy === null ? null : udp.zeroCopy(cpu, sk, msg)
  if (!corked) {
    const { cork } = udp
    const { cork: last } = up.inet
    // A connected socket keeps its flow where corked sends keep theirs: one of those to elsewhere, and plain sends
    // go there from then on. The kernel does so too.
    if (connected) setFlow(cork, last.saddr, last.daddr, last.sport, last.dport)
    else setFlow(cork, saddr, daddr, sk.num, dport)
    const skb = ipMakeSkb(env, cpu, sk, udp.scratch, cork, pfrag, source, ulen, UDP_HLEN, ipc, dst, flags)
    const err = skb === null ? env.socks.lastError : udpSendSkb(cpu, udp, sk, skb, cork)
    return finishSend(sk, err, len)
  }
  setFlow(up.inet.cork, saddr, daddr, sk.num, dport)
  up.pending = AF_INET
  return finishSend(sk, appendPending(cpu, task, udp, sk, up, msg, pfrag, ulen, len, corked, dst), len)
}

/** Who a datagram is from and to. */
export function setFlow(cork: Cork, saddr: number, daddr: number, sport: number, dport: number): void {
  cork.saddr = saddr
  cork.daddr = daddr
  cork.sport = sport
  cork.dport = dport
}

/** Adds to the datagram on the socket's queue, and sends it when this was the last piece. @returns 0 or a negative errno. */
function appendPending(
  cpu: Cpu,
  task: Task,
  udp: Udp,
  sk: Sock,
  up: UdpSock,
  msg: Msg,
  pfrag: PageFrag,
  ulen: number,
  _len: number,
  corked: boolean,
  dst: Dst | null,
): number {
  const { env } = up
  const { cork } = up.inet
  lockSock(sk)
  up.len += ulen
  const { source } = udp
  source.msg = msg
  source.task = task
  if (dst === null) source.zc = udp.zeroCopy === null ? null : udp.zeroCopy(cpu, sk, msg)
  const flags = corked ? msg.flags | MSG_MORE : msg.flags
  const via = (dst ?? cork.dst) as Dst
  let err = ipAppendData(env, cpu, sk, cork, pfrag, source, ulen, UDP_HLEN, udp.ipc, via, flags)
  if (err !== 0) udpFlushPendingFrames(cpu, sk)
  else if (!corked) err = udpPushPendingFrames(cpu, sk)
  else if (skbQueueEmpty(sk.writeQueue)) up.pending = 0
  releaseSock(cpu, sk)
  return err
}

function finishSend(sk: Sock, err: number, len: number): number {
  if (err === 0) return len
  // The send buffer was full: sockets that ask again later are not told here how often.
  if (err === -ERRNO.ENOBUFS || (sk.flags & SOCKF_NOSPACE) !== 0) {
    sk.net.mib[SNDBUF_ERRORS] += 1
    sk.flags &= ~SOCKF_NOSPACE
  }
  return err
}

/** Models `udp_push_pending_frames`. */
export function udpPushPendingFrames(cpu: Cpu, sk: Sock): number {
  const up = udpSk(sk)
  const { env } = up
  const { cork } = up.inet
  const skb = ipMakeSkbFrom(env, cpu, sk, sk.writeQueue, cork)
  const err = skb === null ? 0 : udpSendSkb(cpu, udpOf(env), sk, skb, cork)
  up.len = 0
  up.pending = 0
  cork.length = 0
  return err
}

/** Models `udp_flush_pending_frames` (net/ipv4/udp.c): the corked datagram is thrown away. */
export function udpFlushPendingFrames(cpu: Cpu, sk: Sock): void {
  const up = udpSk(sk)
  if (up.pending === 0) return
  up.len = 0
  up.pending = 0
  flushFrames(up.env, cpu, sk.writeQueue, up.inet.cork, '__ip_flush_pending_frames')
  ipCorkRelease(up.env, cpu, up.inet.cork, 'ip_cork_release')
}

/** Models `udp_send_skb` (net/ipv4/udp.c): the UDP header, its checksum, segmentation. Takes the skb. */
export function udpSendSkb(cpu: Cpu, udp: Udp, sk: Sock, skb: SkBuff, cork: Cork): number {
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
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'udp_send_skb')
      return err
    }
    if (len - UDP_HLEN > cork.gsoSize) partial = true
  }
  if (partial) udp4Hwcsum(env, skb, cork.saddr, cork.daddr, offset)
  else if ((sk.flags & SOCKF_NO_CHECK) !== 0) skb.ipSummed = CHECKSUM_NONE
  else putChecksum(env, skb, csumAdd(udpCsum(env, skb), csumTcpudpNofold(cork.saddr, cork.daddr, len, sk.protocol)))
  const err = ipSendSkb(env, cpu, sk.net, skb)
  if (err === 0) {
    sk.net.mib[OUT_DATAGRAMS] += 1
    return 0
  }
  if (err === -ERRNO.ENOBUFS && !udpSk(sk).inet.recverr) {
    sk.net.mib[SNDBUF_ERRORS] += 1
    return 0
  }
  return err
}

/** Models the GSO part of `udp_send_skb`, which IPv6 shares. @returns 0, or a negative errno; the skb stays. */
export function udpGsoSetup(udp: Udp, sk: Sock, skb: SkBuff, cork: Cork, datalen: number, partial: boolean): number {
  const headers = skb.transportHeader - skb.networkHeader + UDP_HLEN
  if (headers + Math.min(datalen, cork.gsoSize) > cork.fragsize) return udp.gsoTooLong
  if (datalen > cork.gsoSize * UDP_MAX_SEGMENTS) return -ERRNO.EINVAL
  if ((sk.flags & SOCKF_NO_CHECK) !== 0) return -ERRNO.EINVAL
  if (!partial && !udp.gsoSoftware) return -ERRNO.EIO
  if (datalen > cork.gsoSize) {
    setGsoSize(skb, cork.gsoSize)
    setGsoType(skb, SKB_GSO_UDP_L4)
    setGsoSegs(skb, Math.ceil(datalen / cork.gsoSize))
  }
  return 0
}

/**
 * Models `udp_csum` (include/net/udp.h): the header's sum and what was reckoned while the bytes were appended, of every
 * buffer. The bytes are not looked at again: spliced pieces of odd lengths are summed as if they began at even
 * offsets, and such a datagram leaves with a bad checksum.
 */
export function udpCsum(env: InetEnv, skb: SkBuff): number {
  const { skbs } = env
  let sum = csumPartial(skbs, ((skb.head + skb.transportHeader) | 0) as Addr, UDP_HLEN, skb.csum)
  for (let id = fragList(skb); id !== 0; id = skbs.skbs[id]!.next) sum = csumAdd(sum, skbs.skbs[id]!.csum)
  return sum
}

/** Writes a software checksum. @param sum of everything, pseudo header included. */
export function putChecksum(env: InetEnv, skb: SkBuff, sum: number): void {
  const uh = (skb.head + skb.transportHeader) >>> 0
  const folded = csumFold(sum)
  env.mem.u16[(uh + 6) >>> 1] = folded === 0 ? CSUM_MANGLED_0 : folded
}

/** Writes a software checksum over bytes that nobody summed yet. @param pseudo the pseudo header's sum. */
export const writeChecksum = (env: InetEnv, skb: SkBuff, pseudo: number, offset: number): void =>
  putChecksum(env, skb, csumAdd(skbChecksum(skb, offset, skb.len - offset, 0), pseudo | 0))

/**
 * Models `udp4_hwcsum` (net/ipv4/udp.c): the device does the rest, unless the datagram is several buffers, which no
 * device will see as one.
 */
export function udp4Hwcsum(env: InetEnv, skb: SkBuff, saddr: number, daddr: number, offset: number): void {
  const { mem } = env
  const uh = (skb.head + skb.transportHeader) >>> 0
  const len = skb.len - offset
  const pseudo = csumTcpudpNofold(saddr, daddr, len, 17)
  if (fragList(skb) !== 0) {
    writeChecksum(env, skb, pseudo, offset)
    skb.ipSummed = CHECKSUM_NONE
    return
  }
  skb.ipSummed = CHECKSUM_PARTIAL
  skb.csumStart = skb.transportHeader
  skb.csumOffset = 6
  mem.u16[(uh + 6) >>> 1] = ~csumFold(pseudo) & 0xffff
}

/** Models `udp_cmsg_send`: UDP_SEGMENT for this datagram alone. */
function udpCmsgSend(msg: Msg, ipc: { gsoSize: number }): number {
  for (const cmsg of msg.control ?? []) {
    if (cmsg.level !== SOL_UDP) continue
    if (cmsg.type !== UDP_SEGMENT) return -ERRNO.EINVAL
    ipc.gsoSize = cmsg.value & 0xffff
  }
  return 0
}

/** Whether a datagram of the family is under construction: IPv6 sockets send IPv4 too. */
export const pendingFamily = (up: UdpSock): number => up.pending

/** Models the block of per-node producer queues that `udp_init_sock` takes. @returns NULL without memory. */
export function udpAllocProdQueues(env: InetEnv, cpu: Cpu, nodes: number): Addr {
  const gfp = env.mem.gfp
  return kmalloc(env.mem, cpu, nodes * 64, (gfp.GFP_KERNEL | gfp.ZERO) as never, 'udp_init_sock')
}
