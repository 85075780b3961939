/**
 * The IP level of a socket: its options, and reading its error queue.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  allocSkb,
  consumeSkb,
  kfreeSkb,
  type SkBuff,
  skbClone,
  skbCopyDatagramIter,
  skbPutUnchecked,
  skbSetNetworkHeader,
} from '@netmem/skbuff'
import {
  AF_INET,
  AF_INET6,
  MSG_ERRQUEUE,
  MSG_TRUNC,
  type Msg,
  type OptVal,
  putCmsg,
  SO_EE_ORIGIN_ICMP,
  SO_EE_ORIGIN_LOCAL,
  type Sock,
  setSkbExtErr,
  skbExtErr,
  sockDequeueErrSkb,
  sockExtendedErrBytes,
  sockQueueErrSkb,
} from '@netmem/sockmem'
import { inetOf } from '../inet-sock.js'

export const SOL_IP = 0
export const SOL_IPV6 = 41

/** Models the `IP_*` option numbers (include/uapi/linux/in.h). */
export const IP_OPT = {
  IP_TOS: 1,
  IP_TTL: 2,
  IP_HDRINCL: 3,
  IP_PKTINFO: 8,
  IP_MTU_DISCOVER: 10,
  IP_RECVERR: 11,
  IP_RECVTTL: 12,
  IP_RECVTOS: 13,
  IP_MTU: 14,
  IP_FREEBIND: 15,
  IP_TRANSPARENT: 19,
  IP_NODEFRAG: 22,
  IP_BIND_ADDRESS_NO_PORT: 24,
  IP_RECVFRAGSIZE: 25,
  IP_MULTICAST_TTL: 33,
  IP_MULTICAST_LOOP: 34,
} as const

/** Models the `IPV6_*` option numbers. */
export const IPV6_OPT = {
  IPV6_UNICAST_HOPS: 16,
  IPV6_MTU_DISCOVER: 23,
  IPV6_MTU: 24,
  IPV6_RECVERR: 25,
  IPV6_V6ONLY: 26,
  IPV6_DONTFRAG: 62,
  IPV6_TCLASS: 67,
} as const

/** Models `ip_setsockopt` (net/ipv4/ip_sockglue.c). @returns 0 or a negative errno. */
export function ipSetsockopt(cpu: Cpu, sk: Sock, opt: number, val: OptVal): number {
  const inet = inetOf(sk)
  const value = val.len >= 4 ? val.int : val.len >= 1 ? val.int & 0xff : 0
  const on = value !== 0
  switch (opt) {
    case IP_OPT.IP_TOS:
      inet.tos = value & 0xff
      return 0
    case IP_OPT.IP_TTL:
      if (val.len < 1 || (value !== -1 && (value < 1 || value > 255))) return -ERRNO.EINVAL
      inet.ucTtl = value
      return 0
    case IP_OPT.IP_MTU_DISCOVER:
      if (value < 0 || value > 5) return -ERRNO.EINVAL
      inet.pmtudisc = value
      return 0
    case IP_OPT.IP_RECVERR:
      inet.recverr = on
      if (!on)
        for (let skb = sockDequeueErrSkb(cpu, sk); skb !== null; skb = sockDequeueErrSkb(cpu, sk))
          kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_setsockopt')
      return 0
    case IP_OPT.IP_HDRINCL:
      if (sk.type !== 3) return -ERRNO.ENOPROTOOPT
      inet.hdrincl = on
      return 0
    case IP_OPT.IP_FREEBIND:
      if (val.len < 1) return -ERRNO.EINVAL
      inet.freebind = on
      return 0
    case IP_OPT.IP_TRANSPARENT:
      inet.transparent = on
      return 0
    case IP_OPT.IP_NODEFRAG:
      inet.nodefrag = on
      return 0
    case IP_OPT.IP_BIND_ADDRESS_NO_PORT:
      inet.bindAddressNoPort = on
      return 0
    case IP_OPT.IP_MULTICAST_TTL:
      if (value < -1 || value > 255) return -ERRNO.EINVAL
      inet.mcTtl = value === -1 ? 1 : value
      return 0
    case IP_OPT.IP_MULTICAST_LOOP:
      inet.mcLoop = on ? 1 : 0
      return 0
    case IP_OPT.IP_PKTINFO:
    case IP_OPT.IP_RECVTTL:
    case IP_OPT.IP_RECVTOS:
    case IP_OPT.IP_RECVFRAGSIZE:
      inet.cmsgFlags = on ? inet.cmsgFlags | (1 << (opt & 31)) : inet.cmsgFlags & ~(1 << (opt & 31))
      return 0
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

/** @returns what `ip_getsockopt` and `ipv6_getsockopt` say to a level that is nobody's. */
export const foreignLevel = (sk: Sock): number => (sk.v6 === null ? -ERRNO.ENOTSUP : -ERRNO.ENOPROTOOPT)

/** Models `ip_getsockopt`. */
export function ipGetsockopt(sk: Sock, opt: number, val: OptVal): number {
  const inet = inetOf(sk)
  let value: number
  switch (opt) {
    case IP_OPT.IP_TOS:
      value = inet.tos
      break
    case IP_OPT.IP_TTL:
      value = inet.ucTtl === -1 ? sk.net.sysctls.numbers('net.ipv4.ip_default_ttl', [64])[0] : inet.ucTtl
      break
    case IP_OPT.IP_MTU_DISCOVER:
      value = inet.pmtudisc
      break
    case IP_OPT.IP_RECVERR:
      value = inet.recverr ? 1 : 0
      break
    case IP_OPT.IP_MTU:
      if (inet.dst === null) return -ERRNO.ENOTCONN
      value = Math.min(inet.dst.pmtu !== 0 ? inet.dst.pmtu : inet.dst.dev.mtu, 65535)
      break
    case IP_OPT.IP_FREEBIND:
      value = inet.freebind ? 1 : 0
      break
    case IP_OPT.IP_HDRINCL:
      value = inet.hdrincl ? 1 : 0
      break
    case IP_OPT.IP_MULTICAST_TTL:
      value = inet.mcTtl
      break
    case IP_OPT.IP_MULTICAST_LOOP:
      value = inet.mcLoop
      break
    default:
      return -ERRNO.ENOPROTOOPT
  }
  val.int = value
  val.len = Math.min(val.len, 4)
  return 0
}

/** Models `do_ipv6_setsockopt` for the options that matter here. */
export function ipv6Setsockopt(sk: Sock, opt: number, val: OptVal): number {
  const inet = inetOf(sk)
  const value = val.int
  switch (opt) {
    case IPV6_OPT.IPV6_V6ONLY:
      if (val.len < 4 || sk.num !== 0) return -ERRNO.EINVAL
      inet.v6only = value !== 0
      return 0
    case IPV6_OPT.IPV6_MTU_DISCOVER:
      if (value < 0 || value > 5) return -ERRNO.EINVAL
      inet.pmtudisc6 = value
      return 0
    case IPV6_OPT.IPV6_RECVERR:
      inet.recverr6 = value !== 0
      return 0
    case IPV6_OPT.IPV6_DONTFRAG:
      inet.dontfrag6 = value !== 0
      return 0
    case IPV6_OPT.IPV6_UNICAST_HOPS:
      if (value > 255 || value < -1) return -ERRNO.EINVAL
      inet.hopLimit = value
      return 0
    case IPV6_OPT.IPV6_TCLASS:
      if (value < -1 || value > 0xff) return -ERRNO.EINVAL
      inet.tos = value === -1 ? 0 : value
      return 0
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

/** Models `do_ipv6_getsockopt` for the same. */
export function ipv6Getsockopt(sk: Sock, opt: number, val: OptVal): number {
  const inet = inetOf(sk)
  const values: Readonly<Record<number, number>> = {
    [IPV6_OPT.IPV6_V6ONLY]: inet.v6only ? 1 : 0,
    [IPV6_OPT.IPV6_MTU_DISCOVER]: inet.pmtudisc6,
    [IPV6_OPT.IPV6_RECVERR]: inet.recverr6 ? 1 : 0,
    [IPV6_OPT.IPV6_DONTFRAG]: inet.dontfrag6 ? 1 : 0,
    [IPV6_OPT.IPV6_UNICAST_HOPS]: inet.hopLimit < 0 ? 64 : inet.hopLimit,
    [IPV6_OPT.IPV6_TCLASS]: inet.tos,
  }
  const value = values[opt]
  if (value === undefined) return -ERRNO.ENOPROTOOPT
  val.int = value
  val.len = Math.min(val.len, 4)
  return 0
}

/**
 * Models `ip_icmp_error`: a copy of the quoted packet waits on the error queue.
 *
 * @param skb the ICMP packet, `data` at the quoted IP header. @param payload offset of the quoted payload.
 */
export function ipIcmpError(
  cpu: Cpu,
  sk: Sock,
  skb: SkBuff,
  errno: number,
  type: number,
  code: number,
  info: number,
  payload: number,
): void {
  const copy = skbClone(cpu, skb, sk.env.mem.gfp.GFP_ATOMIC)
  if (copy === null) return
  setSkbExtErr(copy, errno, SO_EE_ORIGIN_ICMP, type, code, info, 0)
  copy.networkHeader = (copy.data - copy.head) | 0
  if (payload <= copy.len - copy.dataLen) {
    copy.data = (copy.data + payload) as typeof copy.data
    copy.len -= payload
    if (sockQueueErrSkb(cpu, sk, copy) === 0) return
  }
  kfreeSkb(cpu, copy, 'NOT_SPECIFIED', 'ip_icmp_error')
}

/** Models `ip_local_error`: the sender's own mistake, told on the error queue when it asked for that. */
export function ipLocalError(cpu: Cpu, sk: Sock, errno: number, daddr: number, info: number): void {
  if (!inetOf(sk).recverr) return
  const { env } = sk
  const skb = allocSkb(env.skbs, cpu, 20, env.mem.gfp.GFP_ATOMIC, 0, -1)
  if (skb === null) return
  const iph = skbPutUnchecked(skb, 20) >>> 0
  skbSetNetworkHeader(skb, 0)
  env.mem.dv.setInt32(iph + 16, daddr)
  setSkbExtErr(skb, errno, SO_EE_ORIGIN_LOCAL, 0, 0, info, 0)
  skb.data = skb.tail
  skb.len = 0
  if (sockQueueErrSkb(cpu, sk, skb) !== 0) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_local_error')
}

/**
 * Models `ip_recv_error` (net/ipv4/ip_sockglue.c): one entry of the error queue.
 *
 * @returns payload bytes, or -EAGAIN when there is none.
 */
export function ipRecvError(cpu: Cpu, sk: Sock, msg: Msg, len: number): number {
  const skb = sockDequeueErrSkb(cpu, sk)
  if (skb === null) return -ERRNO.EAGAIN
  let copied = skb.len
  if (copied > len) {
    msg.msgFlags |= MSG_TRUNC
    copied = len
  }
  if (skbCopyDatagramIter(cpu, skb, 0, msg.iter, copied) !== 0) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_recv_error')
    return -ERRNO.EFAULT
  }
  if (msg.wantName) msg.name.family = AF_INET
  skbExtErr(skb, msg.err)
  msg.hasErr = true
  msg.msgFlags |= MSG_ERRQUEUE
  if (msg.wantControl) {
    const v6 = sk.family === AF_INET6
    const bytes = sockExtendedErrBytes(msg.err, v6 ? 28 : 16)
    putCmsg(msg, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_OPT.IPV6_RECVERR : IP_OPT.IP_RECVERR, 0, bytes)
  }
  consumeSkb(cpu, skb, sk.family === AF_INET6 ? 'ipv6_recv_error' : 'ip_recv_error')
  return copied
}
