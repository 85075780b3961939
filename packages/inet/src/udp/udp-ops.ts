/**
 * UDP sockets as the system calls see them, and the birth and end of one.
 */
import { type Cpu, ERRNO, NULL } from '@netmem/base'
import { kfree } from '@netmem/memory'
import { skbQueuePurge, skbQueueSpliceTailInit } from '@netmem/skbuff'
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  datagramPoll,
  EPOLLIN,
  EPOLLRDNORM,
  type OptVal,
  RCV_SHUTDOWN,
  SIOCINQ,
  SIOCOUTQ,
  SO,
  SOCK_BINDADDR_LOCK,
  SOCK_BINDPORT_LOCK,
  SOCKF_BROADCAST,
  SOCKF_RCU_FREE,
  SOL_SOCKET,
  type Sock,
  type SockAddr,
  type SockOps,
  skWmemAllocGet,
  sockOrphan,
  sockPut,
  sockSetsockopt,
  type Task,
  TCP_CLOSE,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import { inetBind, inetGetname, isMapped, shutdownBits } from '../af-inet.js'
import { inetDestroySock } from '../inet-destroy.js'
import type { InetEnv } from '../inet-env.js'
import {
  foreignLevel,
  ipGetsockopt,
  ipSetsockopt,
  ipv6Getsockopt,
  ipv6Setsockopt,
  SOL_IP,
  SOL_IPV6,
} from '../ip/ip-sockglue.js'
import { ipv6AddrAny } from '../ip6/ipv6-header.js'
import { fib6Lookup, fibLookup } from '../route.js'
import { type Udp, udpOf } from './udp-env.js'
import { udpRmemRelease } from './udp-queue.js'
import { firstPacketLength, udpRecvmsg } from './udp-recvmsg.js'
import {
  SOL_UDP,
  setFlow,
  udpAllocProdQueues,
  udpFlushPendingFrames,
  udpPushPendingFrames,
  udpSendmsg,
} from './udp-send.js'
import { UdpProdQueue, UdpSock, udpSk } from './udp-sock.js'
import { udpSendpage, udpSpliceEof } from './udp-splice.js'
import { udpGetPort, udpHash, udpPutPort, udpUnhash } from './udp-table.js'
import { udpV6PushPendingFrames, udpv6Sendmsg } from './udp6-send.js'

const UDP_CORK = 1
const UDP_ENCAP = 100
const UDP_NO_CHECK6_TX = 101
const UDP_NO_CHECK6_RX = 102
const UDP_SEGMENT = 103
const UDP_GRO = 104

/** Models `udp_init_sock` (net/ipv4/udp.c) and `udpv6_init_sock`. @returns 0 or -ENOMEM. */
export function udpInitSock(env: InetEnv, cpu: Cpu, sk: Sock): number {
  const udp = udpOf(env)
  const up = new UdpSock(env, sk.family === AF_INET6 ? 'udpv6_recvmsg' : 'udp_recvmsg')
  sk.priv = up
  sk.flags |= SOCKF_RCU_FREE
  up.forwardThreshold = sk.rcvbuf >> 2
  sk.destruct = udpDestructSock
  if (udp.nodes === 0) return 0
  up.prodAddr = udpAllocProdQueues(env, cpu, udp.nodes)
  if (up.prodAddr === NULL) return -ERRNO.ENOMEM
  for (let node = 0; node < udp.nodes; node += 1) up.prodQueues.push(new UdpProdQueue())
  return 0
}

/** Models `udp_destruct_common` and `udp_destruct_sock`: reclaims everything that is still queued. */
function udpDestructSock(cpu: Cpu, sk: Sock): void {
  const up = udpSk(sk)
  let total = 0
  skbQueueSpliceTailInit(sk.receiveQueue, up.readerQueue)
  for (let id = up.readerQueue.first; id !== 0; id = sk.env.skbs.skbs[id].next) total += sk.env.skbs.skbs[id].devScratch
  skbQueuePurge(cpu, up.readerQueue)
  udpRmemRelease(cpu, sk, total, 0)
  if (up.prodAddr !== NULL) kfree(sk.env.mem, cpu, up.prodAddr, 'udp_destruct_common')
  inetDestroySock(cpu, sk)
}

/** Models `udp_lib_close` with `udp_destroy_sock` and `sk_common_release`. Takes the user's reference. */
function udpRelease(cpu: Cpu, sk: Sock): number {
  const up = udpSk(sk)
  const udp = udpOf(up.env)
  udpFlushPendingFrames(cpu, sk)
  if (up.groEnabled !== 0) udpGroUsers(udp, -1)
  udpPutPort(up.env, udp.table, sk)
  sockOrphan(cpu, sk)
  sockPut(cpu, sk)
  return 0
}

function udpGroUsers(udp: Udp, change: number): void {
  udp.table.groUsers += change
  udp.env.devs.udpGroUsers = udp.table.groUsers
}

/** Models `inet_dgram_connect`, `ip4_datagram_connect` and `ip6_datagram_connect`. */
function udpConnect(cpu: Cpu, sk: Sock, addr: SockAddr): number {
  const up = udpSk(sk)
  const { env } = up
  const udp = udpOf(env)
  if (addr.family === AF_UNSPEC) return udpDisconnect(udp, sk)
  if (sk.num === 0) {
    const err = udpGetPort(env, udp.table, cpu, sk, 0)
    if (err !== 0) return -ERRNO.EAGAIN
  }
  if (sk.family === AF_INET6 && addr.family === AF_INET6 && !isMapped(addr.addr6)) return connect6(udp, sk, addr)
  const mapped = sk.family === AF_INET6
  if (addr.family !== (mapped ? AF_INET6 : AF_INET)) return -ERRNO.EAFNOSUPPORT
  const given = mapped ? addr.addr6[3] : addr.addr
  const daddr = given !== 0 ? given : 0x7f000001
  const route = fibLookup(env.netOf(sk.net), daddr, sk.boundDevIf)
  if (route === null) return -ERRNO.ENETUNREACH
  if (route.dst.broadcast && (sk.flags & SOCKF_BROADCAST) === 0) return -ERRNO.EACCES
  udpUnhash(udp.table, sk)
  const source = sk.saddr !== 0 ? sk.saddr : sk.rcvSaddr !== 0 ? sk.rcvSaddr : route.source
  sk.saddr = source
  if (sk.rcvSaddr === 0) sk.rcvSaddr = source
  sk.daddr = daddr
  sk.dport = addr.port
  if (mapped) {
    const v6 = sk.v6 as NonNullable<Sock['v6']>
    v6.daddr.set([0, 0, 0xffff, daddr])
    v6.rcvSaddr.set([0, 0, 0xffff, source])
    v6.saddr.set([0, 0, 0xffff, source])
  }
  setFlow(up.inet.cork, source, daddr, sk.num, addr.port)
  sk.state = TCP_ESTABLISHED
  up.inet.dst = route.dst
  udpHash(udp.table, sk)
  return 0
}

function connect6(udp: Udp, sk: Sock, addr: SockAddr): number {
  const up = udpSk(sk)
  const v6 = sk.v6 as NonNullable<Sock['v6']>
  const daddr = ipv6AddrAny(addr.addr6) ? Int32Array.of(0, 0, 0, 1) : addr.addr6
  const route = fib6Lookup(up.env.netOf(sk.net), daddr, sk.boundDevIf)
  if (route === null) return -ERRNO.ENETUNREACH
  udpUnhash(udp.table, sk)
  v6.daddr.set(daddr)
  if (ipv6AddrAny(v6.saddr)) v6.saddr.set(route.source)
  if (ipv6AddrAny(v6.rcvSaddr)) v6.rcvSaddr.set(route.source)
  sk.dport = addr.port
  sk.state = TCP_ESTABLISHED
  up.inet.dst = route.dst
  udpHash(udp.table, sk)
  return 0
}

/** Models `__udp_disconnect`: a socket that was bound to an address by connecting loses it again. */
export function udpDisconnect(udp: Udp, sk: Sock): number {
  if (sk.state !== TCP_ESTABLISHED) {
    sk.state = TCP_CLOSE
    return 0
  }
  const up = udpSk(sk)
  udpUnhash(udp.table, sk)
  sk.state = TCP_CLOSE
  sk.daddr = 0
  sk.dport = 0
  up.inet.dst = null
  sk.v6?.daddr.fill(0)
  if ((sk.userlocks & SOCK_BINDADDR_LOCK) === 0) {
    sk.rcvSaddr = 0
    sk.saddr = 0
    sk.v6?.rcvSaddr.fill(0)
    sk.v6?.saddr.fill(0)
  }
  udpHash(udp.table, sk)
  if ((sk.userlocks & SOCK_BINDPORT_LOCK) === 0) udpPutPort(up.env, udp.table, sk)
  return 0
}

/** Models `udp_lib_setsockopt` (net/ipv4/udp.c). */
function udpSetsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number {
  const up = udpSk(sk)
  if (level === SOL_SOCKET) {
    const err = sockSetsockopt(cpu, task, sk, opt, val)
    if (opt === SO.SO_RCVBUF || opt === SO.SO_RCVBUFFORCE) up.forwardThreshold = sk.rcvbuf >> 2
    return err
  }
  if (level === SOL_IP) return ipSetsockopt(cpu, sk, opt, val)
  if (level === SOL_IPV6 && sk.family === AF_INET6) return ipv6Setsockopt(sk, opt, val)
  if (level !== SOL_UDP) return -ERRNO.ENOPROTOOPT
  if (val.len < 4) return -ERRNO.EINVAL
  const on = val.int !== 0 ? 1 : 0
  switch (opt) {
    case UDP_CORK:
      up.corkOpt = on
      if (on === 0 && up.pending === AF_INET6) udpV6PushPendingFrames(cpu, sk)
      else if (on === 0 && up.pending !== 0) udpPushPendingFrames(cpu, sk)
      return 0
    case UDP_ENCAP:
      if (val.int < 0 || val.int > 7) return -ERRNO.ENOPROTOOPT
      up.encapType = val.int
      return 0
    case UDP_NO_CHECK6_TX:
      up.noCheck6Tx = on
      return 0
    case UDP_NO_CHECK6_RX:
      up.noCheck6Rx = on
      return 0
    case UDP_SEGMENT:
      if (val.int < 0 || val.int > 0xffff) return -ERRNO.EINVAL
      up.gsoSize = val.int
      return 0
    case UDP_GRO:
      if (on !== up.groEnabled) udpGroUsers(udpOf(up.env), on === 1 ? 1 : -1)
      up.groEnabled = on
      return 0
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

/** Models `udp_lib_getsockopt`. */
function udpGetsockopt(sk: Sock, level: number, opt: number, val: OptVal): number {
  const up = udpSk(sk)
  if (level === SOL_IP) return ipGetsockopt(sk, opt, val)
  if (level === SOL_IPV6 && sk.family === AF_INET6) return ipv6Getsockopt(sk, opt, val)
  if (level !== SOL_UDP) return foreignLevel(sk)
  const values: Readonly<Record<number, number>> = {
    [UDP_CORK]: up.corkOpt,
    [UDP_ENCAP]: up.encapType,
    [UDP_NO_CHECK6_TX]: up.noCheck6Tx,
    [UDP_NO_CHECK6_RX]: up.noCheck6Rx,
    [UDP_SEGMENT]: up.gsoSize,
    [UDP_GRO]: up.groEnabled,
  }
  const value = values[opt]
  if (value === undefined) return -ERRNO.ENOPROTOOPT
  val.int = value
  val.len = Math.min(val.len, 4)
  return 0
}

/** Models `udp_poll`: a queue with nothing but bad packets is not readable. */
function udpPoll(cpu: Cpu, sk: Sock): number {
  let mask = datagramPoll(sk)
  if (udpSk(sk).readerQueue.first !== 0) mask |= EPOLLIN | EPOLLRDNORM
  if ((mask & EPOLLRDNORM) !== 0 && (sk.shutdown & RCV_SHUTDOWN) === 0 && firstPacketLength(cpu, sk) === -1)
    mask &= ~(EPOLLIN | EPOLLRDNORM)
  return mask
}

/** Models `udp_ioctl`. */
function udpIoctl(cpu: Cpu, sk: Sock, cmd: number): number {
  if (cmd === SIOCOUTQ) return skWmemAllocGet(sk)
  if (cmd === SIOCINQ) return Math.max(0, firstPacketLength(cpu, sk))
  return -ERRNO.ENOTTY
}

/** Models `inet_shutdown` for UDP. */
function udpShutdown(cpu: Cpu, sk: Sock, how: number): number {
  const bits = shutdownBits(how)
  if (bits < 0) return bits
  // The bits are set even when the answer is an error: other readers of the socket must wake up.
  sk.shutdown |= bits
  sk.stateChange(cpu, sk)
  return sk.state === TCP_CLOSE ? -ERRNO.ENOTCONN : 0
}

/** Models `inet_dgram_ops` with `udp_prot`, or `inet6_dgram_ops` with `udpv6_prot`. */
export function udpSockOps(env: InetEnv, ipv6: boolean): SockOps {
  return {
    name: ipv6 ? 'udpv6' : 'udp',
    customSockopt: true,
    bind: (cpu, task, sk, addr) => {
      const udp = udpOf(env)
      return inetBind(env, task, sk, addr, (port) => udpGetPort(env, udp.table, cpu, sk, port))
    },
    connect: (cpu, _task, sk, addr) => udpConnect(cpu, sk, addr),
    listen: () => -ERRNO.ENOTSUP,
    accept: () => -ERRNO.ENOTSUP,
    getname: inetGetname,
    sendmsg: (cpu, task, sk, msg, len) => {
      const err = autobind(env, cpu, sk)
      if (err !== 0) return err
      return ipv6 ? udpv6Sendmsg(cpu, task, sk, msg, len) : udpSendmsg(cpu, task, sk, msg, len)
    },
    recvmsg: (cpu, _task, sk, msg, len, flags) => udpRecvmsg(cpu, sk, msg, len, flags),
    poll: udpPoll,
    shutdown: (cpu, _task, sk, how) => udpShutdown(cpu, sk, how),
    setsockopt: udpSetsockopt,
    getsockopt: (_cpu, _task, sk, level, opt, val) => udpGetsockopt(sk, level, opt, val),
    ioctl: (cpu, _task, sk, cmd) => udpIoctl(cpu, sk, cmd),
    release: (cpu, _task, sk) => udpRelease(cpu, sk),
    // Of IPv6, sockets have neither: pages were always copied, and what a sendfile held back stays pending.
    ...(ipv6
      ? {}
      : {
          spliceEof: (cpu, _task, sk) => {
            if (autobind(env, cpu, sk) === 0) udpSpliceEof(cpu, sk)
          },
          sendpage: (cpu, task, sk, page, offset, bytes, flags) => {
            const err = autobind(env, cpu, sk)
            return err !== 0 ? err : udpSendpage(cpu, task, sk, page, offset, bytes, flags)
          },
        }),
    setPeekOff: (sk, value) => {
      sk.peekOff = value
      return 0
    },
  }
}

/** Models `inet_autobind`: a socket that sends without a port gets one. */
function autobind(env: InetEnv, cpu: Cpu, sk: Sock): number {
  if (sk.num !== 0) return 0
  return udpGetPort(env, udpOf(env).table, cpu, sk, 0) === 0 ? 0 : -ERRNO.EAGAIN
}
