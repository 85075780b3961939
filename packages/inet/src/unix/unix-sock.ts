/**
 * AF_UNIX: sockets that hand packets straight to one another's receive queue. What is queued stays charged to
 * the **sender** until it is read; the reader pays nothing. That is why a full send buffer, not a receive
 * buffer, stops a unix sender.
 *
 * `SkBuff.cb0` of a queued stream packet counts the bytes already read of it.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { skbQueuePurge } from '@netmem/skbuff'
import {
  AF_UNIX,
  type NetNs,
  Proto,
  protoRegister,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOCKF_RCU_FREE,
  type Sock,
  type SockAddr,
  type SockEnv,
  type SockOps,
  skAlloc,
  sockInitData,
  sockPut,
  type Task,
  TCP_LISTEN,
} from '@netmem/sockmem'

/** Models the part of `struct unix_sock` that memory depends on. */
export class UnixSock {
  /** Id of the peer, 0 without one. We hold a reference to it. */
  peer = 0
  /** Name this socket is bound to, '' without one; a leading NUL marks the abstract names. */
  path = ''
  /** Id of the listener that a connection waits on, until it is accepted. */
  listener = 0
}

/** AF_UNIX of one machine: its protocols, and who is bound to what. */
export class UnixEnv {
  readonly dgram: Proto
  readonly stream: Proto
  /** Bound sockets of each namespace, by name. Names are per namespace, as abstract ones are in the kernel. */
  readonly names = new Map<NetNs, Map<string, Sock>>()
  nextAutobind = 1

  constructor(
    readonly socks: SockEnv,
    readonly ops: { readonly stream: SockOps; readonly dgram: SockOps; readonly seqpacket: SockOps },
  ) {
    const objSize = socks.profile.structs.unix_sock?.size ?? 1152
    // Both kinds of socket share one slab, as their sizes and flags are the same: it is called UNIX.
    this.dgram = new Proto({ name: 'UNIX', objSize, methods: 'close' })
    this.stream = new Proto({ name: 'UNIX-STREAM', objSize, methods: 'close' })
  }
}

/** @returns the unix part of a socket. */
export const unixSk = (sk: Sock): UnixSock => sk.priv as UnixSock

/** Models `unix_peer`. @returns the peer, borrowed, or null. */
export const unixPeer = (sk: Sock): Sock | null => sk.env.socks[unixSk(sk).peer] ?? null

/** Models `unix_recvq_full`: more waiting than the receiver's backlog allows. */
export const unixRecvqFull = (sk: Sock): boolean => sk.receiveQueue.qlen > sk.maxAckBacklog

/** Models `unix_writable` (net/unix/af_unix.c): at most a quarter of the send buffer in flight. */
export const unixWritable = (sk: Sock): boolean => sk.state !== TCP_LISTEN && sk.wmemAlloc << 2 <= sk.sndbuf

/** Models `unix_proto_register` at boot. */
export function unixInitProtos(unix: UnixEnv): void {
  for (const proto of [unix.dgram, unix.stream]) {
    const err = protoRegister(unix.socks, proto)
    if (err < 0) throw new RangeError(`no room for protocol ${proto.name}`)
  }
}

/** Models `unix_create` (net/unix/af_unix.c). @returns the new socket's id, or a negative errno. */
export function unixCreate(unix: UnixEnv, cpu: Cpu, task: Task, net: NetNs, type: number, protocol: number): number {
  if (protocol !== 0 && protocol !== AF_UNIX) return -ERRNO.EPROTONOSUPPORT
  // Raw unix sockets are datagram ones.
  const kind = type === SOCK_RAW ? SOCK_DGRAM : type
  if (kind !== SOCK_STREAM && kind !== SOCK_DGRAM && kind !== SOCK_SEQPACKET) return -ERRNO.ESOCKTNOSUPPORT
  const sk = unixCreate1(unix, cpu, task, net, kind)
  return sk === null ? -ERRNO.ENOMEM : sk.id
}

/** Models `unix_create1`: a socket with one reference, or null without memory. */
export function unixCreate1(unix: UnixEnv, cpu: Cpu, task: Task, net: NetNs, type: number): Sock | null {
  const { socks } = unix
  const ops = type === SOCK_STREAM ? unix.ops.stream : type === SOCK_DGRAM ? unix.ops.dgram : unix.ops.seqpacket
  const proto = type === SOCK_STREAM ? unix.stream : unix.dgram
  const sk = skAlloc(socks, cpu, task, net, AF_UNIX, socks.mem.gfp.GFP_KERNEL, proto, ops)
  if (sk === null) return null
  sockInitData(sk)
  sk.type = type
  // Unix packets are accounted to the sender's memory group: hence another kmalloc family, and no small heads.
  sk.allocation = socks.mem.gfp.GFP_KERNEL_ACCOUNT
  sk.writeSpace = unixWriteSpace
  sk.destruct = unixSockDestructor
  sk.maxAckBacklog = net.sysctls.numbers('net.unix.max_dgram_qlen', [10])[0]!
  if (socks.profile.features.unixFreesByRcu) sk.flags |= SOCKF_RCU_FREE
  sk.priv = new UnixSock()
  net.protoInuse[proto.inuseIndex]! += 1
  return sk
}

/** Models `unix_write_space`. */
function unixWriteSpace(cpu: Cpu, sk: Sock): void {
  if (sk.env.wake !== null && unixWritable(sk)) sk.env.wake(cpu, sk, 0x4 | 0x100 | 0x200)
}

/** Models `unix_sock_destructor`: whatever is still queued goes. */
function unixSockDestructor(cpu: Cpu, sk: Sock): void {
  skbQueuePurge(cpu, sk.receiveQueue, 'QUEUE_PURGE', 'unix_sock_destructor')
  sk.net.protoInuse[sk.proto.inuseIndex]! -= 1
}

/** Models `unix_bind`: takes the name, or one of the kernel's own when it is empty (autobind). */
export function unixBind(unix: UnixEnv, sk: Sock, addr: SockAddr): number {
  if (addr.family !== AF_UNIX) return -ERRNO.EINVAL
  const self = unixSk(sk)
  if (self.path !== '') return addr.path === '' ? 0 : -ERRNO.EINVAL
  const names = namesOf(unix, sk.net)
  let path = addr.path
  while (path === '' || (addr.path === '' && names.has(path)))
    path = `\0${(unix.nextAutobind++ & 0xfffff).toString(16).padStart(5, '0')}`
  if (names.has(path)) return -ERRNO.EADDRINUSE
  names.set(path, sk)
  self.path = path
  return 0
}

/** Models `unix_find_other`. @returns the socket bound to that name, borrowed; null with -ECONNREFUSED or -EPROTOTYPE in `env.lastError`. */
export function unixFindOther(unix: UnixEnv, sk: Sock, addr: SockAddr): Sock | null {
  const other = namesOf(unix, sk.net).get(addr.path)
  if (other === undefined) unix.socks.lastError = -ERRNO.ECONNREFUSED
  else if (other.type !== sk.type) unix.socks.lastError = -ERRNO.EPROTOTYPE
  else return other
  return null
}

/** Forgets the socket's name, as the end of its file does. */
export function unixUnbind(unix: UnixEnv, sk: Sock): void {
  const self = unixSk(sk)
  if (self.path !== '') namesOf(unix, sk.net).delete(self.path)
}

function namesOf(unix: UnixEnv, net: NetNs): Map<string, Sock> {
  const known = unix.names.get(net)
  if (known !== undefined) return known
  const names = new Map<string, Sock>()
  unix.names.set(net, names)
  return names
}

/** Drops the reference that a socket holds to its peer. */
export function unixPutPeer(cpu: Cpu, sk: Sock): void {
  const peer = unixPeer(sk)
  unixSk(sk).peer = 0
  if (peer !== null) sockPut(cpu, peer)
}
