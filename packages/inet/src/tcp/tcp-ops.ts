/**
 * TCP as the system calls see it: `inet_stream_ops` of both families. No call here waits: whoever wants to block
 * lets virtual time run and calls again.
 */
import { type Cpu, ERRNO, NULL } from '@netmem/base'
import {
  AF_INET,
  AF_INET6,
  CAP_NET_BIND_SERVICE,
  capable,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDHUP,
  EPOLLRDNORM,
  EPOLLWRNORM,
  memCgroupSkAccept,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCATMARK,
  SIOCINQ,
  SIOCOUTQ,
  SIOCOUTQNSD,
  SOCK_BINDADDR_LOCK,
  SOCK_BINDPORT_LOCK,
  SOCKF_NOSPACE,
  SOCKF_URGINLINE,
  type Sock,
  type SockAddr,
  type SockOps,
  SS_CONNECTED,
  SS_CONNECTING,
  SS_DISCONNECTING,
  SS_UNCONNECTED,
  skStreamIsWriteableWake,
  sockAllocInode,
  sockError,
  sockFlag,
  sockFreeInode,
  sockGraft,
  type Task,
  TCP_CLOSE,
  TCP_LISTEN,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
} from '@netmem/sockmem'
import { ipv6AddrAny } from '../ip6/ipv6-header.js'
import { inet6AddrIsLocal, inetAddrIsLocal, inetAddrIsMulticastOrBroadcast } from '../route.js'
import { inetCskGetPort } from './inet-bind.js'
import { inetHash } from './inet-hashtables.js'
import { RequestSockQueue, reqskPut, reqskQueueRemove } from './request-sock.js'
import { tcpClose, tcpDisconnect } from './tcp-close.js'
import { tcpVxConnect } from './tcp-connect.js'
import { tcpEpollinReady } from './tcp-data-queue.js'
import { TCP_URG_VALID } from './tcp-input.js'
import { lockSock, tcpReleaseSock } from './tcp-lock.js'
import { tcpInq, tcpRecvmsg } from './tcp-recvmsg.js'
import { tcpSendmsg } from './tcp-sendmsg.js'
import { tcpShutdown } from './tcp-shutdown.js'
import { tcpSk } from './tcp-sock.js'
import { tcpGetsockopt, tcpSetRcvlowat, tcpSetsockopt } from './tcp-sockopt.js'
import { tcpSendpage, tcpSpliceEof, tcpSpliceRead } from './tcp-splice.js'
import { inetSkStateStore } from './tcp-state-set.js'

export const tcpStreamOps: SockOps = {
  name: 'inet_stream',
  bind: (cpu, task, sk, addr) => inetBind(cpu, task, sk, addr),
  connect: (cpu, _task, sk, addr) => inetStreamConnect(cpu, sk, addr),
  listen: (cpu, _task, sk, backlog) => inetListen(cpu, sk, backlog),
  accept: (cpu, task, sk) => inetAccept(cpu, task, sk),
  getname: inetGetname,
  sendmsg: (cpu, task, sk, msg) => tcpSendmsg(cpu, task, sk, msg),
  recvmsg: (cpu, _task, sk, msg, len, flags) => tcpRecvmsg(cpu, sk, msg, len, flags),
  poll: (_cpu, sk) => tcpPoll(sk),
  shutdown: (cpu, _task, sk, how) => inetShutdown(cpu, sk, how),
  setsockopt: (cpu, _task, sk, level, opt, val) => tcpSetsockopt(cpu, sk, level, opt, val),
  getsockopt: (_cpu, _task, sk, level, opt, val) => tcpGetsockopt(sk, level, opt, val),
  ioctl: (_cpu, _task, sk, cmd) => tcpIoctl(sk, cmd),
  release: (cpu, _task, sk) => {
    tcpClose(cpu, sk)
    return 0
  },
  spliceRead: tcpSpliceRead,
  spliceEof: (cpu, _task, sk) => tcpSpliceEof(cpu, sk),
  sendpage: tcpSendpage,
  setRcvlowat: tcpSetRcvlowat,
  setPeekOff: (sk, value) => {
    sk.peekOff = value
    return 0
  },
}

/** Models `inet_bind` and `inet6_bind` (net/ipv4/af_inet.c). */
function inetBind(cpu: Cpu, task: Task, sk: Sock, addr: SockAddr): number {
  const tp = tcpSk(sk)
  const { inet } = tp.env.ip
  if (addr.family !== sk.family)
    return addr.family === 0 && sk.family === AF_INET ? bindTo(cpu, sk, addr) : -ERRNO.EAFNOSUPPORT
  const v6 = sk.v6
  const any = v6 !== null ? ipv6AddrAny(addr.addr6) : addr.addr === 0
  const known =
    any ||
    tp.inet.freebind ||
    (v6 !== null
      ? inet6AddrIsLocal(inet, sk.net, addr.addr6)
      : inetAddrIsLocal(inet, sk.net, addr.addr) || inetAddrIsMulticastOrBroadcast(inet, sk.net, addr.addr))
  if (!known) return -ERRNO.EADDRNOTAVAIL
  const unprivileged = inet.netOf(sk.net).unprivilegedPort[0]!
  if (addr.port !== 0 && addr.port < unprivileged && !capable(task, CAP_NET_BIND_SERVICE)) return -ERRNO.EACCES
  return bindTo(cpu, sk, addr)
}

function bindTo(cpu: Cpu, sk: Sock, addr: SockAddr): number {
  const tp = tcpSk(sk)
  lockSock(sk)
  let err = 0
  if (sk.state !== TCP_CLOSE || sk.num !== 0) err = -ERRNO.EINVAL
  else {
    setLocal(sk, addr)
    if (addr.port !== 0 || !tp.inet.bindAddressNoPort) err = inetCskGetPort(cpu, sk, addr.port)
    if (err !== 0) setLocal(sk, null)
    else {
      const bound = sk.v6 !== null ? !ipv6AddrAny(sk.v6.rcvSaddr) : sk.rcvSaddr !== 0
      if (bound) sk.userlocks |= SOCK_BINDADDR_LOCK
      if (addr.port !== 0) sk.userlocks |= SOCK_BINDPORT_LOCK
      tp.sport = sk.num
      sk.daddr = 0
      sk.dport = 0
      tp.inet.dst = null
    }
  }
  tcpReleaseSock(cpu, sk)
  return err
}

function setLocal(sk: Sock, addr: SockAddr | null): void {
  sk.rcvSaddr = addr === null ? 0 : addr.addr
  sk.saddr = sk.rcvSaddr
  if (sk.v6 === null) return
  if (addr === null) sk.v6.rcvSaddr.fill(0)
  else sk.v6.rcvSaddr.set(addr.addr6)
  sk.v6.saddr.set(sk.v6.rcvSaddr)
}

/** Models `inet_stream_connect` for a caller that does not wait: -EINPROGRESS the first time, then -EALREADY, -EISCONN. */
function inetStreamConnect(cpu: Cpu, sk: Sock, addr: SockAddr): number {
  lockSock(sk)
  const err = connectLocked(cpu, sk, addr)
  tcpReleaseSock(cpu, sk)
  return err
}

function connectLocked(cpu: Cpu, sk: Sock, addr: SockAddr): number {
  if (addr.family === 0) {
    const err = tcpDisconnect(cpu, sk)
    sk.socketState = err !== 0 ? SS_DISCONNECTING : SS_UNCONNECTED
    return err
  }
  if (sk.socketState === SS_CONNECTED) return -ERRNO.EISCONN
  if (sk.socketState !== SS_CONNECTING && sk.socketState !== SS_UNCONNECTED) return -ERRNO.EINVAL
  let err = -ERRNO.EALREADY
  if (sk.socketState === SS_UNCONNECTED) {
    if (sk.state !== TCP_CLOSE) return -ERRNO.EISCONN
    err = tcpVxConnect(cpu, sk, addr)
    if (err < 0) return err
    sk.socketState = SS_CONNECTING
    err = -ERRNO.EINPROGRESS
  }
  if (sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV) return err
  if (sk.state === TCP_CLOSE) {
    const failed = sockError(sk)
    sk.socketState = SS_UNCONNECTED
    tcpDisconnect(cpu, sk)
    return failed !== 0 ? failed : -ERRNO.ECONNABORTED
  }
  sk.socketState = SS_CONNECTED
  return 0
}

/** Models `inet_listen` and `inet_csk_listen_start`. */
function inetListen(cpu: Cpu, sk: Sock, backlog: number): number {
  const tp = tcpSk(sk)
  lockSock(sk)
  let err = -ERRNO.EINVAL
  const listening = sk.state === TCP_LISTEN
  if (sk.socketState === SS_UNCONNECTED && (sk.state === TCP_CLOSE || listening)) {
    const most = tp.ctl.somaxconn[0]!
    sk.maxAckBacklog = backlog >>> 0 > most ? most : backlog
    err = listening ? 0 : listenStart(cpu, sk)
  }
  tcpReleaseSock(cpu, sk)
  return err
}

function listenStart(cpu: Cpu, sk: Sock): number {
  const tp = tcpSk(sk)
  tp.acceptQueue = new RequestSockQueue()
  sk.ackBacklog = 0
  tp.ackPending = 0
  inetSkStateStore(sk, TCP_LISTEN)
  const err = inetCskGetPort(cpu, sk, sk.num)
  if (err !== 0) {
    inetSkStateStore(sk, TCP_CLOSE)
    return err
  }
  tp.sport = sk.num
  tp.inet.dst = null
  inetHash(sk)
  return 0
}

/** Models `do_accept`, `inet_csk_accept` and `inet_accept`. @returns the child's id, -EAGAIN when none waits. */
function inetAccept(cpu: Cpu, task: Task, sk: Sock): number {
  const { env } = sk
  // The user's end comes first, and goes again when there is nobody to accept.
  const inode = sockAllocInode(env, cpu)
  if (inode === NULL) return -ERRNO.ENFILE
  const child = takeChild(cpu, sk)
  if (typeof child === 'number') {
    sockFreeInode(env, cpu, inode)
    return child
  }
  lockSock(child)
  memCgroupSkAccept(cpu, child, task, child.forwardAlloc + child.rmemAlloc)
  sockGraft(child, inode)
  child.socketState = SS_CONNECTED
  tcpReleaseSock(cpu, child)
  return child.id
}

function takeChild(cpu: Cpu, sk: Sock): Sock | number {
  lockSock(sk)
  if (sk.state !== TCP_LISTEN) {
    tcpReleaseSock(cpu, sk)
    return -ERRNO.EINVAL
  }
  const req = reqskQueueRemove(sk)
  tcpReleaseSock(cpu, sk)
  if (req === null) return -ERRNO.EAGAIN
  const child = req.sk as Sock
  reqskPut(cpu, req, 'inet_csk_accept')
  return child
}

/** Models `inet_getname` and `inet6_getname`. */
function inetGetname(sk: Sock, peer: boolean, out: SockAddr): number {
  const tp = tcpSk(sk)
  out.clear()
  out.family = sk.family
  if (peer) {
    if (sk.dport === 0 || sk.state === TCP_CLOSE || sk.state === TCP_SYN_SENT) return -ERRNO.ENOTCONN
    out.port = sk.dport
    out.addr = sk.daddr
    if (sk.v6 !== null) out.addr6.set(sk.v6.daddr)
    return 0
  }
  out.port = tp.sport
  out.addr = sk.rcvSaddr !== 0 ? sk.rcvSaddr : sk.saddr
  if (sk.v6 !== null) out.addr6.set(ipv6AddrAny(sk.v6.rcvSaddr) ? sk.v6.saddr : sk.v6.rcvSaddr)
  return 0
}

/** Models `inet_shutdown`. @param how 0 reading, 1 writing, 2 both. */
function inetShutdown(cpu: Cpu, sk: Sock, how: number): number {
  const bits = how + 1
  if ((bits & ~SHUTDOWN_MASK) !== 0 || bits === 0) return -ERRNO.EINVAL
  lockSock(sk)
  let err = 0
  const { state } = sk
  if (sk.socketState === SS_CONNECTING) {
    const pending = state === TCP_SYN_SENT || state === TCP_SYN_RECV || state === TCP_CLOSE
    sk.socketState = pending ? SS_DISCONNECTING : SS_CONNECTED
  }
  if (state === TCP_SYN_SENT || (state === TCP_LISTEN && (bits & RCV_SHUTDOWN) !== 0)) {
    err = tcpDisconnect(cpu, sk)
    sk.socketState = err !== 0 ? SS_DISCONNECTING : SS_UNCONNECTED
  } else if (state !== TCP_LISTEN) {
    if (state === TCP_CLOSE) err = -ERRNO.ENOTCONN
    sk.shutdown |= bits
    tcpShutdown(cpu, sk, bits)
  }
  sk.stateChange(cpu, sk)
  tcpReleaseSock(cpu, sk)
  return err
}

/** Models `tcp_poll` (net/ipv4/tcp.c). */
function tcpPoll(sk: Sock): number {
  const tp = tcpSk(sk)
  const { state, shutdown } = sk
  if (state === TCP_LISTEN) return tp.acceptQueue!.head !== null ? EPOLLIN | EPOLLRDNORM : 0
  let mask = 0
  if (shutdown === SHUTDOWN_MASK || state === TCP_CLOSE) mask |= EPOLLHUP
  if ((shutdown & RCV_SHUTDOWN) !== 0) mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP
  if (state !== TCP_SYN_SENT && state !== TCP_SYN_RECV) {
    let target = sk.rcvlowat
    if (tp.urgData !== 0 && tp.urgSeq === tp.copiedSeq && !sockFlag(sk, SOCKF_URGINLINE)) target += 1
    if (tcpEpollinReady(sk, target)) mask |= EPOLLIN | EPOLLRDNORM
    if ((shutdown & SEND_SHUTDOWN) !== 0 || skStreamIsWriteableWake(sk, 1)) mask |= EPOLLOUT | EPOLLWRNORM
    else sk.flags |= SOCKF_NOSPACE
    if ((tp.urgData & TCP_URG_VALID) !== 0) mask |= EPOLLPRI
  }
  if (sk.err !== 0 || sk.errorQueue.first !== 0) mask |= EPOLLERR
  return mask
}

/** Models `tcp_ioctl`. */
function tcpIoctl(sk: Sock, cmd: number): number {
  const tp = tcpSk(sk)
  if (cmd === SIOCATMARK) return tp.urgData !== 0 && tp.urgSeq === tp.copiedSeq ? 1 : 0
  if (cmd !== SIOCINQ && cmd !== SIOCOUTQ && cmd !== SIOCOUTQNSD) return -ERRNO.ENOTTY
  if (sk.state === TCP_LISTEN) return -ERRNO.EINVAL
  if (cmd === SIOCINQ) return tcpInq(sk)
  if (sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV) return 0
  return (tp.writeSeq - (cmd === SIOCOUTQ ? tp.sndUna : tp.sndNxt)) | 0
}

/** The families whose sockets these operations serve. */
export const TCP_FAMILIES = [AF_INET, AF_INET6] as const
