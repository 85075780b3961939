/**
 * Who is whose peer: socketpair, connect, listen, accept, shutdown and the end of a socket.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { kfreeSkb, skbDequeue, skbQueueTail } from '@netmem/skbuff'
import {
  AF_UNIX,
  AF_UNSPEC,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SOCK_DGRAM,
  type Sock,
  type SockAddr,
  SS_CONNECTED,
  SS_UNCONNECTED,
  skbRecvDatagram,
  sockAllocSocket,
  sockHold,
  sockOrphan,
  sockPut,
  sockWmalloc,
  type Task,
  TCP_CLOSE,
  TCP_ESTABLISHED,
  TCP_LISTEN,
} from '@netmem/sockmem'
import { unixDgramDisconnected } from './unix-dgram.js'
import {
  type UnixEnv,
  unixCreate1,
  unixFindOther,
  unixPeer,
  unixPutPeer,
  unixRecvqFull,
  unixSk,
  unixUnbind,
} from './unix-sock.js'

/** Models `unix_socketpair`: each holds the other. */
export function unixSocketpair(a: Sock, b: Sock): number {
  sockHold(a)
  sockHold(b)
  unixSk(a).peer = b.id
  unixSk(b).peer = a.id
  for (const sk of [a, b]) {
    sk.state = TCP_ESTABLISHED
    sk.socketState = SS_CONNECTED
  }
  return 0
}

/** Models `unix_listen`. */
export function unixListen(sk: Sock, backlog: number): number {
  if (sk.type === SOCK_DGRAM) return -ERRNO.ENOTSUP
  if (unixSk(sk).path === '') return -ERRNO.EINVAL
  if (sk.state !== TCP_CLOSE && sk.state !== TCP_LISTEN) return -ERRNO.EINVAL
  sk.maxAckBacklog = backlog
  sk.state = TCP_LISTEN
  return 0
}

/** Models `unix_dgram_connect`: a default receiver, or none with AF_UNSPEC. */
export function unixDgramConnect(unix: UnixEnv, cpu: Cpu, sk: Sock, addr: SockAddr): number {
  let other: Sock | null = null
  if (addr.family !== AF_UNSPEC) {
    if (addr.family !== AF_UNIX) return -ERRNO.EINVAL
    other = unixFindOther(unix, sk, addr)
    if (other === null) return unix.socks.lastError
    const peer = unixSk(other).peer
    if (peer !== 0 && peer !== sk.id) return -ERRNO.EPERM
    sockHold(other)
  }
  const old = unixPeer(sk)
  unixSk(sk).peer = other === null ? 0 : other.id
  sk.state = other === null ? TCP_CLOSE : TCP_ESTABLISHED
  if (old !== null) {
    if (old !== other) unixDgramDisconnected(cpu, sk, old)
    sockPut(cpu, old)
  }
  return 0
}

/** Models `unix_stream_connect`: the child is made here, by the client, and waits at the listener inside one packet. */
export function unixStreamConnect(unix: UnixEnv, cpu: Cpu, task: Task, sk: Sock, addr: SockAddr): number {
  if (addr.family !== AF_UNIX) return -ERRNO.EINVAL
  if (sk.state === TCP_ESTABLISHED) return -ERRNO.EISCONN
  if (sk.state !== TCP_CLOSE) return -ERRNO.EINVAL
  const child = unixCreate1(unix, cpu, task, sk.net, sk.type)
  if (child === null) return -ERRNO.ENOMEM
  const skb = sockWmalloc(cpu, child, 1, false, unix.socks.mem.gfp.GFP_KERNEL)
  if (skb === null) {
    sockPut(cpu, child)
    return -ERRNO.ENOMEM
  }
  const refuse = (err: number): number => {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'unix_stream_connect')
    sockPut(cpu, child)
    return err
  }
  const other = unixFindOther(unix, sk, addr)
  if (other === null) return refuse(unix.socks.lastError)
  if (other.state !== TCP_LISTEN || (other.shutdown & RCV_SHUTDOWN) !== 0) return refuse(-ERRNO.ECONNREFUSED)
  if (unixRecvqFull(other)) return refuse(-ERRNO.EAGAIN)
  sockHold(sk)
  unixSk(child).peer = sk.id
  child.state = TCP_ESTABLISHED
  unixSk(child).path = unixSk(other).path
  unixSk(child).listener = other.id
  sk.socketState = SS_CONNECTED
  sk.state = TCP_ESTABLISHED
  sockHold(child)
  unixSk(sk).peer = child.id
  skb.cb1 = child.id
  skbQueueTail(other.receiveQueue, skb)
  other.dataReady(cpu, other)
  return 0
}

/** Models `unix_accept`. @returns the child's id; its user's end is made here. */
export function unixAccept(cpu: Cpu, sk: Sock): number {
  if (sk.type === SOCK_DGRAM) return -ERRNO.ENOTSUP
  if (sk.state !== TCP_LISTEN) return -ERRNO.EINVAL
  const skb = skbRecvDatagram(sk, 0, { offset: -1 })
  if (skb === null) return sk.env.lastError
  const child = sk.env.socks[skb.cb1] as Sock
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_free_datagram')
  unixSk(child).listener = 0
  if (!sockAllocSocket(cpu, child)) {
    unixReleaseSock(null, cpu, child)
    return -ERRNO.ENFILE
  }
  child.socketState = SS_CONNECTED
  return child.id
}

/** Models `unix_shutdown`. @param how 0 read, 1 write, 2 both. */
export function unixShutdown(cpu: Cpu, sk: Sock, how: number): number {
  if (how < 0 || how > 2) return -ERRNO.EINVAL
  const mode = how + 1
  sk.shutdown |= mode
  const other = unixPeer(sk)
  sk.stateChange(cpu, sk)
  if (other !== null && sk.type !== SOCK_DGRAM) {
    if ((mode & RCV_SHUTDOWN) !== 0) other.shutdown |= SEND_SHUTDOWN
    if ((mode & SEND_SHUTDOWN) !== 0) other.shutdown |= RCV_SHUTDOWN
    other.stateChange(cpu, other)
  }
  return 0
}

/** Models `unix_release_sock` (net/unix/af_unix.c). Takes the user's reference. */
export function unixReleaseSock(unix: UnixEnv | null, cpu: Cpu, sk: Sock): void {
  const listening = sk.state === TCP_LISTEN
  if (unix !== null) unixUnbind(unix, sk)
  sockOrphan(cpu, sk)
  sk.shutdown = SHUTDOWN_MASK
  sk.state = TCP_CLOSE
  sk.socketState = SS_UNCONNECTED
  const peer = unixPeer(sk)
  if (peer !== null) {
    if (sk.type !== SOCK_DGRAM) {
      peer.shutdown = SHUTDOWN_MASK
      // Bytes that will never be read: the writer learns of it.
      if (sk.receiveQueue.first !== 0 || unixSk(sk).listener !== 0) peer.err = ERRNO.ECONNRESET
      peer.stateChange(cpu, peer)
    }
    unixPutPeer(cpu, sk)
  }
  const reason = sk.env.profile.features.unixDgramAllocatesFirst ? 'SOCKET_CLOSE' : 'NOT_SPECIFIED'
  for (let skb = skbDequeue(sk.receiveQueue); skb !== null; skb = skbDequeue(sk.receiveQueue)) {
    const child = listening ? sk.env.socks[skb.cb1] : null
    if (child != null) unixReleaseSock(unix, cpu, child)
    kfreeSkb(cpu, skb, reason, 'unix_release_sock')
  }
  sockPut(cpu, sk)
}
