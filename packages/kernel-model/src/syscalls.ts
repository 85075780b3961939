/**
 * System calls on descriptors. Each returns what the kernel would: a number, or a negative errno. Every call
 * takes a little virtual time and leaves with the softirq work done that it caused on its CPU.
 */
import { ERRNO } from '@netmem/base'
import { iovIterInit, iovIterVec, type UserBuffer } from '@netmem/memory'
import {
  AF_UNSPEC,
  type Cmsg,
  doSockGetsockopt,
  doSockSetsockopt,
  MSG_DONTWAIT,
  MSG_SPLICE_PAGES,
  type Msg,
  type OptVal,
  type Sock,
  type SockAddr,
  sockCreate,
} from '@netmem/sockmem'
import { FMODE_READ, FMODE_WRITE } from '@netmem/zerocopy'
import { fput, O_NONBLOCK, type OpenFile } from './file.js'
import type { Process } from './process.js'
import { socketFile, sockfdError, sockMapFd } from './socket-file.js'

/** SOCK_NONBLOCK and SOCK_CLOEXEC are flags beside the type. */
export const SOCK_NONBLOCK = O_NONBLOCK
export const SOCK_CLOEXEC = 0o2000000
const SOCK_TYPE_MASK = 0xf

/** How many bytes `sendmsg` and `recvmsg` move, where they are, and what goes with them. */
export interface MsgParams {
  /** User memory; the process's own buffer of that direction when absent. */
  readonly buffer?: UserBuffer
  /** Bytes into the buffer. */
  readonly offset?: number
  /** Lengths of the buffers that the bytes lie in, one behind the other in `buffer`; one of all bytes when absent. */
  readonly pieces?: readonly number[]
  /** `MSG_*` bits. */
  readonly flags?: number
  /** Where a datagram goes. */
  readonly to?: SockAddr
  /** Control messages to send. */
  readonly control?: Cmsg[]
  /** Room for control messages when receiving. */
  readonly wantControl?: boolean
}

const nonblock = (file: OpenFile): number => ((file.flags & O_NONBLOCK) !== 0 ? MSG_DONTWAIT : 0)

/** Models the way out of a system call: softirqs that it raised run before the user goes on, and time passes. */
function leave(process: Process, ret: number): number {
  process.kernel.syscallExit(process.cpu)
  return ret
}

/** @returns the socket behind a file that `socketFile` found. */
const skOf = (file: OpenFile): Sock => file.priv as Sock
/** @returns the socket of a number. */
const skById = (process: Process, id: number): Sock => process.kernel.socks.socks[id] as Sock

/** Models `__sys_socket`. @param type with SOCK_NONBLOCK or-ed in. @returns a descriptor or a negative errno. */
export function sysSocket(process: Process, family: number, type: number, protocol = 0): number {
  const { kernel, cpu, task } = process
  const id = sockCreate(kernel.socks, cpu, task, family, type & SOCK_TYPE_MASK, protocol)
  if (id < 0) return leave(process, id)
  const sk = skById(process, id)
  const fd = sockMapFd(process, sk, (type & SOCK_NONBLOCK) !== 0)
  if (fd < 0) sk.ops.release(process.cpu, process.task, sk)
  return leave(process, fd)
}

/** Models `__sys_socketpair`. @param out two descriptors. @returns 0 or a negative errno. */
export function sysSocketpair(
  process: Process,
  family: number,
  type: number,
  protocol: number,
  out: Int32Array,
): number {
  const { cpu, task, kernel } = process
  const first = sockCreate(kernel.socks, cpu, task, family, type & SOCK_TYPE_MASK, protocol)
  if (first < 0) return leave(process, first)
  const a = skById(process, first)
  const second = sockCreate(kernel.socks, cpu, task, family, type & SOCK_TYPE_MASK, protocol)
  if (second < 0) {
    a.ops.release(cpu, task, a)
    return leave(process, second)
  }
  const b = skById(process, second)
  let err = a.ops.socketpair === undefined ? -ERRNO.ENOTSUP : a.ops.socketpair(cpu, task, a, b)
  const wait = (type & SOCK_NONBLOCK) !== 0
  if (err === 0) {
    out[0] = sockMapFd(process, a, wait)
    out[1] = out[0] < 0 ? out[0] : sockMapFd(process, b, wait)
    err = Math.min(0, out[1]!)
    if (err < 0 && out[0] >= 0) process.files.remove(out[0])
  }
  if (err < 0) {
    a.ops.release(cpu, task, a)
    b.ops.release(cpu, task, b)
  }
  return leave(process, err)
}

/** Models `__sys_bind`. */
export function sysBind(process: Process, fd: number, addr: SockAddr): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  return leave(process, sk.ops.bind(process.cpu, process.task, sk, addr))
}

/** Models `__sys_connect`. */
export function sysConnect(process: Process, fd: number, addr: SockAddr): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  return leave(process, sk.ops.connect(process.cpu, process.task, sk, addr, file.flags & O_NONBLOCK))
}

/** Models `__sys_listen`: the backlog is bounded by `net.core.somaxconn`. */
export function sysListen(process: Process, fd: number, backlog: number): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  const somaxconn = sk.net.sysctls.numbers('net.core.somaxconn', [4096])[0]!
  const bounded = backlog >>> 0 > somaxconn ? somaxconn : backlog
  return leave(process, sk.ops.listen(process.cpu, process.task, sk, bounded))
}

/** Models `__sys_accept4`. @param flags SOCK_NONBLOCK or 0. @returns the new descriptor or a negative errno. */
export function sysAccept(process: Process, fd: number, flags = 0): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const { cpu, task } = process
  const sk = skOf(file)
  const id = sk.ops.accept(cpu, task, sk, file.flags & O_NONBLOCK)
  if (id < 0) return leave(process, id)
  const child = skById(process, id)
  const newFd = sockMapFd(process, child, (flags & SOCK_NONBLOCK) !== 0)
  if (newFd < 0) child.ops.release(cpu, task, child)
  return leave(process, newFd)
}

/** Models `__sys_getsockname` and `__sys_getpeername`. */
export function sysGetname(process: Process, fd: number, peer: boolean, out: SockAddr): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  return sk.ops.getname(sk, peer, out)
}

function prepare(process: Process, file: OpenFile, dir: 'send' | 'recv', len: number, params: MsgParams): Msg {
  const { msg } = process
  // What only the kernel may say to itself is not taken from a user.
  msg.reset(((params.flags ?? 0) & ~MSG_SPLICE_PAGES) | nonblock(file))
  const offset = params.offset ?? 0
  const buffer = params.buffer ?? process.buffer(dir, offset + len)
  if (params.pieces === undefined) iovIterInit(msg.iter, buffer, offset, len)
  else importIovec(msg, buffer, offset, params.pieces)
  return msg
}

/** Models `import_iovec`. */
function importIovec(msg: Msg, buffer: UserBuffer, offset: number, pieces: readonly number[]): void {
  const lens = Int32Array.from(pieces)
  const offsets = new Int32Array(lens.length)
  let at = offset
  for (const [i, bytes] of pieces.entries()) {
    offsets[i] = at
    at += bytes
  }
  const buffers = new Array<UserBuffer>(lens.length).fill(buffer)
  iovIterVec(msg.iter, buffers, offsets, lens, lens.length)
}

/** Models `__sys_sendmsg` and `__sys_sendto`. @returns bytes taken, or a negative errno. */
export function sysSendmsg(process: Process, fd: number, len: number, params: MsgParams = {}): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  const msg = prepare(process, file, 'send', len, params)
  if (params.to !== undefined) msg.name.copyFrom(params.to)
  else msg.name.family = AF_UNSPEC
  msg.control = params.control ?? null
  return leave(process, sk.ops.sendmsg(process.cpu, process.task, sk, msg, len))
}

/**
 * Models `__sys_recvmsg` and `__sys_recvfrom`. What came with the bytes is in `process.msg` until the next call.
 *
 * @returns bytes (with MSG_TRUNC a datagram's whole length), or a negative errno.
 */
export function sysRecvmsg(process: Process, fd: number, len: number, params: MsgParams = {}): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  const msg = prepare(process, file, 'recv', len, params)
  msg.wantName = true
  msg.wantControl = params.wantControl ?? false
  return leave(process, sk.ops.recvmsg(process.cpu, process.task, sk, msg, len, msg.flags))
}

/** Models `ksys_read` into the process's receive buffer. */
export function sysRead(process: Process, fd: number, len: number): number {
  const file = process.files.get(fd)
  if (file === null || (file.mode & FMODE_READ) === 0) return -ERRNO.EBADF
  if (file.ops.readIter === undefined) return -ERRNO.EINVAL
  return leave(process, file.ops.readIter(process.kernel, process, file, userMsg(process, 'recv', len), len))
}

/** Models `ksys_write` from the process's send buffer. */
export function sysWrite(process: Process, fd: number, len: number): number {
  const file = process.files.get(fd)
  if (file === null || (file.mode & FMODE_WRITE) === 0) return -ERRNO.EBADF
  if (file.ops.writeIter === undefined) return -ERRNO.EINVAL
  return leave(process, file.ops.writeIter(process.kernel, process, file, userMsg(process, 'send', len), len))
}

function userMsg(process: Process, dir: 'send' | 'recv', len: number): Msg {
  const { msg } = process
  msg.reset(0)
  iovIterInit(msg.iter, process.buffer(dir, len), 0, len)
  return msg
}

/** Models `__sys_setsockopt`. @param val the value and the length passed. */
export function sysSetsockopt(process: Process, fd: number, level: number, opt: number, val: OptVal): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  if (val.len < 0) return -ERRNO.EINVAL
  const sk = skOf(file)
  return leave(process, doSockSetsockopt(process.cpu, process.task, sk, level, opt, val))
}

/** Models `__sys_getsockopt`. @param val the room in, the value out. */
export function sysGetsockopt(process: Process, fd: number, level: number, opt: number, val: OptVal): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  return leave(process, doSockGetsockopt(process.cpu, process.task, sk, level, opt, val))
}

/** Models `ioctl` for commands that answer one number. */
export function sysIoctl(process: Process, fd: number, cmd: number, arg = 0): number {
  const file = process.files.get(fd)
  if (file === null) return -ERRNO.EBADF
  if (file.ops.ioctl === undefined) return -ERRNO.ENOTTY
  return leave(process, file.ops.ioctl(process.kernel, process, file, cmd, arg))
}

/** Models `poll` of one descriptor without waiting. @returns `EPOLL*` bits, or a negative errno. */
export function sysPoll(process: Process, fd: number): number {
  const file = process.files.get(fd)
  if (file === null) return -ERRNO.EBADF
  // Models DEFAULT_POLLMASK: what cannot be waited for is always ready.
  if (file.ops.poll === undefined) return 0x145
  return leave(process, file.ops.poll(process.kernel, process, file))
}

/** Models `__sys_shutdown`. @param how 0 receive, 1 send, 2 both. */
export function sysShutdown(process: Process, fd: number, how: number): number {
  const file = socketFile(process, fd)
  if (file === null) return sockfdError(process, fd)
  const sk = skOf(file)
  return leave(process, sk.ops.shutdown(process.cpu, process.task, sk, how))
}

/** Models `close`. */
export function sysClose(process: Process, fd: number): number {
  const file = process.files.remove(fd)
  if (file === null) return -ERRNO.EBADF
  fput(process.kernel, process, file)
  return leave(process, 0)
}

/** Models `lseek`. @param whence 0 set, 1 current, 2 end. */
export function sysLseek(process: Process, fd: number, offset: number, whence: number): number {
  const file = process.files.get(fd)
  if (file === null) return -ERRNO.EBADF
  if (file.ops.llseek === undefined) return -ERRNO.ESPIPE
  return file.ops.llseek(process.kernel, process, file, offset, whence)
}

/** Models `fcntl` for the commands that a kind of file brings itself. */
export function sysFcntl(process: Process, fd: number, cmd: number, arg: number): number {
  const file = process.files.get(fd)
  if (file === null) return -ERRNO.EBADF
  if (file.ops.fcntl === undefined) return -ERRNO.EBADF
  return leave(process, file.ops.fcntl(process.kernel, process, file, cmd, arg))
}
