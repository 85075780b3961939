/**
 * `struct proto_ops`: what a family's sockets can do for a user. Every call returns a count or 0, or a
 * negative errno. The families are in packages above this one and register here.
 */
import type { Cpu, Pfn } from '@netmem/base'
import type { UserBuffer } from '@netmem/memory'
import type { SkBuff } from '@netmem/skbuff'
import type { Msg, SockAddr } from './msg.js'
import type { NetNs } from './net-ns.js'
import type { Sock } from './sock.js'
import type { OptVal } from './sockopt-numbers.js'
import type { Task } from './task.js'

/** Where `spliceRead` puts packets: the owner of pipes fills it. */
export interface SkbSplicer {
  /**
   * Models `skb_splice_bits` (net/core/skbuff.c): `len` bytes from `offset` on, as references to their pages where
   * that can be. @returns bytes taken, or -EAGAIN when the pipe is full.
   */
  skbSpliceBits(cpu: Cpu, task: Task, sk: Sock, skb: SkBuff, offset: number, len: number): number
}

/** Models `struct proto_ops`. */
export interface SockOps {
  readonly name: string
  bind(cpu: Cpu, task: Task, sk: Sock, addr: SockAddr): number
  connect(cpu: Cpu, task: Task, sk: Sock, addr: SockAddr, flags: number): number
  listen(cpu: Cpu, task: Task, sk: Sock, backlog: number): number
  /** @returns the id of the accepted socket, or a negative errno. */
  accept(cpu: Cpu, task: Task, sk: Sock, flags: number): number
  /** @param peer true for getpeername. */
  getname(sk: Sock, peer: boolean, out: SockAddr): number
  /** @param len bytes that `msg.iter` holds. @returns bytes taken. */
  sendmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg, len: number): number
  /** @param len room in `msg.iter`. @returns bytes (with MSG_TRUNC the datagram's whole length). */
  recvmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg, len: number, flags: number): number
  /** @returns `EPOLL*` bits. */
  poll(cpu: Cpu, sk: Sock): number
  shutdown(cpu: Cpu, task: Task, sk: Sock, how: number): number
  /** Levels other than SOL_SOCKET; SOL_SOCKET comes here only for families with a wrapper of their own. */
  setsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number
  getsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number
  /** @returns the value, or a negative errno. */
  ioctl(cpu: Cpu, task: Task, sk: Sock, cmd: number): number
  /** The user closes it. Takes the user's reference. */
  release(cpu: Cpu, task: Task, sk: Sock): number
  /** Models `socketpair`; only AF_UNIX has it. */
  socketpair?(cpu: Cpu, task: Task, a: Sock, b: Sock): number
  /**
   * Models `splice_read`: received bytes go to a pipe. Sockets without it are read into fresh pages.
   * @returns bytes, 0 at the end of the stream, or a negative errno.
   */
  spliceRead?(cpu: Cpu, task: Task, sk: Sock, splicer: SkbSplicer, len: number): number
  /** Models `splice_eof` (6.5 on): a sendfile that promised more bytes ended early, what was held back goes. */
  spliceEof?(cpu: Cpu, task: Task, sk: Sock): void
  /**
   * Models `sendpage` (before 6.5): one piece of one page. Sockets without it are sent a copy.
   * @param flags `MSG_*`, MSG_SENDPAGE_NOTLAST when another piece follows. @returns bytes taken, or a negative errno.
   */
  sendpage?(cpu: Cpu, task: Task, sk: Sock, page: Pfn, offset: number, bytes: number, flags: number): number
  /**
   * Models `mmap`: the socket's rings as user memory. @param offset bytes, whole pages. @param bytes whole pages.
   * @returns the area with a reference on each of its pages, or a negative errno.
   */
  mmap?(cpu: Cpu, sk: Sock, offset: number, bytes: number): UserBuffer | number
  /** Models `vm_ops->close`: an area of `mmap` is about to go. */
  munmap?(cpu: Cpu, sk: Sock): void
  /** Models `set_rcvlowat`, where a family does more than store it. */
  setRcvlowat?(cpu: Cpu, sk: Sock, value: number): number
  /** Models `set_peek_off`. */
  setPeekOff?(sk: Sock, value: number): number
  /** True when SOL_SOCKET options go through `setsockopt` above first (`SOCK_CUSTOM_SOCKOPT`, and UDP). */
  readonly customSockopt?: boolean
}

/** Models `struct net_proto_family`: makes sockets of a family. */
export interface NetProtoFamily {
  readonly family: number
  /** @returns the new socket's id, or a negative errno. */
  create(cpu: Cpu, task: Task, net: NetNs, type: number, protocol: number, kern: boolean): number
}
