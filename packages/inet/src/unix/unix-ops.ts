/**
 * AF_UNIX as the system calls see it: the three tables of operations, poll and the ioctls.
 */
import { ERRNO } from '@netmem/base'
import { skbPeek } from '@netmem/skbuff'
import {
  AF_UNIX,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDHUP,
  EPOLLRDNORM,
  EPOLLWRBAND,
  EPOLLWRNORM,
  RCV_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCINQ,
  SIOCOUTQ,
  SOCK_DGRAM,
  SOCKF_NOSPACE,
  SOCKF_SELECT_ERR_QUEUE,
  type Sock,
  type SockEnv,
  type SockOps,
  skWmemAllocGet,
  TCP_CLOSE,
  TCP_LISTEN,
} from '@netmem/sockmem'
import {
  unixAccept,
  unixDgramConnect,
  unixListen,
  unixReleaseSock,
  unixShutdown,
  unixSocketpair,
  unixStreamConnect,
} from './unix-connect.js'
import { unixDgramRecvmsg, unixDgramSendmsg, unixSeqpacketRecvmsg, unixSeqpacketSendmsg } from './unix-dgram.js'
import { unixStreamSendpage } from './unix-sendpage.js'
import {
  UnixEnv,
  unixBind,
  unixCreate,
  unixInitProtos,
  unixPeer,
  unixRecvqFull,
  unixSk,
  unixWritable,
} from './unix-sock.js'
import { unixSkbLen, unixStreamRecvmsg, unixStreamSendmsg, unixStreamSpliceRead } from './unix-stream.js'

/** Models `af_unix_init` (net/unix/af_unix.c): registers the protocols and the family. */
export function unixInit(socks: SockEnv): UnixEnv {
  // The operations need the environment that needs them; they are called only once it is there.
  const held: { unix?: UnixEnv } = {}
  const unix = new UnixEnv(
    socks,
    unixOps(() => held.unix as UnixEnv),
  )
  held.unix = unix
  unixInitProtos(unix)
  socks.registerFamily({
    family: AF_UNIX,
    create: (cpu, task, net, type, protocol) => unixCreate(unix, cpu, task, net, type, protocol),
  })
  return unix
}

function unixOps(env: () => UnixEnv): UnixEnv['ops'] {
  const common = {
    bind: (_cpu, _task, sk, addr) => unixBind(env(), sk, addr),
    listen: (_cpu, _task, sk, backlog) => unixListen(sk, backlog),
    accept: (cpu, _task, sk) => unixAccept(cpu, sk),
    getname: (sk, peer, out) => {
      const of = peer ? unixPeer(sk) : sk
      if (of === null) return -ERRNO.ENOTCONN
      out.clear()
      out.family = AF_UNIX
      out.path = unixSk(of).path
      return 0
    },
    shutdown: (cpu, _task, sk, how) => unixShutdown(cpu, sk, how),
    setsockopt: () => -ERRNO.ENOTSUP,
    getsockopt: () => -ERRNO.ENOTSUP,
    ioctl: (_cpu, _task, sk, cmd) => unixIoctl(sk, cmd),
    release: (cpu, _task, sk) => {
      unixReleaseSock(env(), cpu, sk)
      return 0
    },
    socketpair: (_cpu, _task, a, b) => unixSocketpair(a, b),
    setPeekOff: (sk, value) => {
      sk.peekOff = value
      return 0
    },
  } satisfies Partial<SockOps>
  return {
    stream: {
      ...common,
      name: 'unix_stream',
      connect: (cpu, task, sk, addr) => unixStreamConnect(env(), cpu, task, sk, addr),
      sendmsg: (cpu, _task, sk, msg, len) => unixStreamSendmsg(cpu, sk, msg, len),
      recvmsg: (cpu, _task, sk, msg, len, flags) => unixStreamRecvmsg(cpu, sk, msg, len, flags),
      spliceRead: unixStreamSpliceRead,
      sendpage: (cpu, _task, sk, page, offset, bytes, flags) => unixStreamSendpage(cpu, sk, page, offset, bytes, flags),
      poll: (_cpu, sk) => unixPoll(sk),
    },
    dgram: {
      ...common,
      name: 'unix_dgram',
      connect: (cpu, _task, sk, addr) => unixDgramConnect(env(), cpu, sk, addr),
      sendmsg: (cpu, _task, sk, msg, len) => unixDgramSendmsg(env(), cpu, sk, msg, len),
      recvmsg: (cpu, _task, sk, msg, len, flags) => unixDgramRecvmsg(cpu, sk, msg, len, flags),
      poll: (_cpu, sk) => unixDgramPoll(sk),
    },
    seqpacket: {
      ...common,
      name: 'unix_seqpacket',
      connect: (cpu, task, sk, addr) => unixStreamConnect(env(), cpu, task, sk, addr),
      sendmsg: (cpu, _task, sk, msg, len) => unixSeqpacketSendmsg(env(), cpu, sk, msg, len),
      recvmsg: (cpu, _task, sk, msg, len, flags) => unixSeqpacketRecvmsg(cpu, sk, msg, len, flags),
      poll: (_cpu, sk) => unixDgramPoll(sk),
    },
  }
}

function pollCommon(sk: Sock): number {
  let mask = 0
  if (sk.shutdown === SHUTDOWN_MASK) mask |= EPOLLHUP
  if ((sk.shutdown & RCV_SHUTDOWN) !== 0) mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM
  if (sk.receiveQueue.first !== 0) mask |= EPOLLIN | EPOLLRDNORM
  if (sk.type !== SOCK_DGRAM && sk.state === TCP_CLOSE) mask |= EPOLLHUP
  return mask
}

/** Models `unix_poll`. */
function unixPoll(sk: Sock): number {
  let mask = pollCommon(sk)
  if (sk.err !== 0) mask |= EPOLLERR
  if (unixWritable(sk)) mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
  return mask
}

/** Models `unix_dgram_poll`: writable only when the receiver has room too. */
function unixDgramPoll(sk: Sock): number {
  let mask = pollCommon(sk)
  if (sk.err !== 0 || sk.errorQueue.first !== 0)
    mask |= EPOLLERR | ((sk.flags & SOCKF_SELECT_ERR_QUEUE) !== 0 ? EPOLLPRI : 0)
  const other = unixPeer(sk)
  const blocked = other !== null && unixSk(other).peer !== sk.id && unixRecvqFull(other)
  if (unixWritable(sk) && !blocked) mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
  else sk.flags |= SOCKF_NOSPACE
  return mask
}

/** Models `unix_ioctl`: bytes readable (SIOCINQ), or in flight (SIOCOUTQ). */
function unixIoctl(sk: Sock, cmd: number): number {
  if (cmd === SIOCOUTQ) return skWmemAllocGet(sk)
  if (cmd !== SIOCINQ) return -ERRNO.ENOTTY
  if (sk.state === TCP_LISTEN) return -ERRNO.EINVAL
  const { skbs } = sk.env.skbs
  if (sk.type === SOCK_DGRAM) return skbPeek(sk.receiveQueue)?.len ?? 0
  let bytes = 0
  for (let id = sk.receiveQueue.first; id !== 0; id = skbs[id]!.next) bytes += unixSkbLen(skbs[id]!)
  return bytes
}
