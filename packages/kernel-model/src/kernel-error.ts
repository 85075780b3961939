/**
 * System calls for those who prefer exceptions: the same calls by their users' names, throwing `KernelError`
 * where the kernel answers with an errno.
 */
import { errnoName } from '@netmem/base'
import type { OptVal, SockAddr } from '@netmem/sockmem'
import type { Loff } from '@netmem/zerocopy'
import type { Process } from './process.js'
import { sysSendfile, sysSplice, sysTee, sysVmsplice } from './splice-calls.js'
import {
  type MsgParams,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysGetsockopt,
  sysIoctl,
  sysListen,
  sysPoll,
  sysRead,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysShutdown,
  sysSocket,
  sysSocketpair,
  sysWrite,
} from './syscalls.js'
import { sysPipe } from './vfs-file.js'

/** A system call failed: `errno` is the symbolic name, `call` the call as users write it. */
export class KernelError extends Error {
  override readonly name = 'KernelError'
  constructor(
    readonly errno: string,
    readonly call: string,
  ) {
    super(`${call}: ${errno}`)
  }
}

/** @returns `ret`. @throws KernelError when it is a negative errno. */
export function orThrow(call: string, ret: number): number {
  if (ret < 0) throw new KernelError(errnoName(ret), call)
  return ret
}

/** The system calls of one process, throwing. Create it once and keep it. */
export class Calls {
  private readonly pair = new Int32Array(2)

  constructor(readonly process: Process) {}

  socket(family: number, type: number, protocol = 0): number {
    return orThrow('socket', sysSocket(this.process, family, type, protocol))
  }

  socketpair(family: number, type: number, protocol = 0): readonly [number, number] {
    orThrow('socketpair', sysSocketpair(this.process, family, type, protocol, this.pair))
    return [this.pair[0]!, this.pair[1]!]
  }

  bind(fd: number, addr: SockAddr): void {
    orThrow('bind', sysBind(this.process, fd, addr))
  }

  connect(fd: number, addr: SockAddr): void {
    orThrow('connect', sysConnect(this.process, fd, addr))
  }

  listen(fd: number, backlog: number): void {
    orThrow('listen', sysListen(this.process, fd, backlog))
  }

  accept(fd: number, flags = 0): number {
    return orThrow('accept', sysAccept(this.process, fd, flags))
  }

  send(fd: number, len: number, params?: MsgParams): number {
    return orThrow('sendmsg', sysSendmsg(this.process, fd, len, params))
  }

  recv(fd: number, len: number, params?: MsgParams): number {
    return orThrow('recvmsg', sysRecvmsg(this.process, fd, len, params))
  }

  read(fd: number, len: number): number {
    return orThrow('read', sysRead(this.process, fd, len))
  }

  write(fd: number, len: number): number {
    return orThrow('write', sysWrite(this.process, fd, len))
  }

  /** @returns the reading and the writing end. */
  pipe(flags = 0): readonly [number, number] {
    orThrow('pipe2', sysPipe(this.process, flags, this.pair))
    return [this.pair[0]!, this.pair[1]!]
  }

  /** @param offset where to read, which moves; null for the file's own position. */
  sendfile(out: number, input: number, offset: Loff | null, count: number): number {
    return orThrow('sendfile', sysSendfile(this.process, out, input, offset, count))
  }

  splice(input: number, offIn: Loff | null, out: number, offOut: Loff | null, len: number, flags = 0): number {
    return orThrow('splice', sysSplice(this.process, input, offIn, out, offOut, len, flags))
  }

  tee(input: number, out: number, len: number, flags = 0): number {
    return orThrow('tee', sysTee(this.process, input, out, len, flags))
  }

  vmsplice(fd: number, len: number, flags = 0, offset = 0): number {
    return orThrow('vmsplice', sysVmsplice(this.process, fd, len, flags, offset))
  }

  setsockopt(fd: number, level: number, opt: number, value: number | OptVal): void {
    const val = typeof value === 'number' ? this.int(value) : value
    orThrow('setsockopt', sysSetsockopt(this.process, fd, level, opt, val))
  }

  /** @returns the option as the signed 32-bit number that most are. */
  getsockopt(fd: number, level: number, opt: number): number {
    const val = this.int(0)
    orThrow('getsockopt', sysGetsockopt(this.process, fd, level, opt, val))
    return val.int
  }

  ioctl(fd: number, cmd: number): number {
    return orThrow('ioctl', sysIoctl(this.process, fd, cmd))
  }

  poll(fd: number): number {
    return orThrow('poll', sysPoll(this.process, fd))
  }

  shutdown(fd: number, how: number): void {
    orThrow('shutdown', sysShutdown(this.process, fd, how))
  }

  close(fd: number): void {
    orThrow('close', sysClose(this.process, fd))
  }

  private int(value: number): OptVal {
    const { val } = this.process
    val.int = value
    val.len = 4
    return val
  }
}
