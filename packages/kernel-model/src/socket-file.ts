/**
 * Sockets as files: `read` and `write` are `recvmsg` and `sendmsg` without flags, `ioctl` answers the queue
 * lengths, and the last close releases the user's end.
 */
import { ERRNO } from '@netmem/base'
import type { UserBuffer } from '@netmem/memory'
import { MSG_DONTWAIT, type Msg, type Sock } from '@netmem/sockmem'
import { socketFops, socketSendpageFops } from '@netmem/zerocopy'
import { type FileOperations, O_NONBLOCK, O_RDWR, OpenFile } from './file.js'
import type { Kernel } from './kernel.js'
import type { Process } from './process.js'

/** Models `socket_file_ops` (net/socket.c). */
export const socketFileOps: FileOperations = {
  name: 'socket',

  /** Models `sock_read_iter`. */
  readIter(_kernel: Kernel, process: Process, file: OpenFile, msg: Msg, count: number): number {
    if (count === 0) return 0
    const sk = file.priv as Sock
    msg.flags = file.flags & O_NONBLOCK ? MSG_DONTWAIT : 0
    return sk.ops.recvmsg(process.cpu, process.task, sk, msg, count, msg.flags)
  },

  /** Models `sock_write_iter`. */
  writeIter(_kernel: Kernel, process: Process, file: OpenFile, msg: Msg, count: number): number {
    const sk = file.priv as Sock
    msg.flags = file.flags & O_NONBLOCK ? MSG_DONTWAIT : 0
    return sk.ops.sendmsg(process.cpu, process.task, sk, msg, count)
  },

  /** Models `sock_poll`. */
  poll(_kernel: Kernel, process: Process, file: OpenFile): number {
    const sk = file.priv as Sock
    return sk.ops.poll(process.cpu, sk)
  },

  /** Models `sock_ioctl` for the commands of protocols. */
  ioctl(_kernel: Kernel, process: Process, file: OpenFile, cmd: number): number {
    const sk = file.priv as Sock
    return sk.ops.ioctl(process.cpu, process.task, sk, cmd)
  },

  /** Models `sock_mmap`; `sock_no_mmap` for kinds of socket that have nothing to show. */
  mmap(_kernel: Kernel, process: Process, file: OpenFile, offset: number, bytes: number): UserBuffer | number {
    const sk = file.priv as Sock
    return sk.ops.mmap === undefined ? -ERRNO.ENODEV : sk.ops.mmap(process.cpu, sk, offset, bytes)
  },

  munmap(_kernel: Kernel, process: Process, file: OpenFile): void {
    const sk = file.priv as Sock
    sk.ops.munmap?.(process.cpu, sk)
  },

  /** Models `sock_close`. */
  release(_kernel: Kernel, process: Process, file: OpenFile): void {
    const sk = file.priv as Sock
    sk.ops.release(process.cpu, process.task, sk)
  },
}

/** Models `sock_alloc_file`. @param nonblock as with SOCK_NONBLOCK. @returns the descriptor, or -EMFILE. */
export function sockMapFd(process: Process, sk: Sock, nonblock: boolean): number {
  const fop = process.kernel.vfs.sendpage ? socketSendpageFops : socketFops
  const file = new OpenFile(socketFileOps, sk, O_RDWR | (nonblock ? O_NONBLOCK : 0), fop)
  return process.files.install(file)
}

/** Models `sockfd_lookup`. @returns the file, or null with `-EBADF` or `-ENOTSOCK` in `sockfdError`. */
export function socketFile(process: Process, fd: number): OpenFile | null {
  const file = process.files.get(fd)
  return file !== null && file.ops === socketFileOps ? file : null
}

/** @returns why `socketFile` gave null. */
export const sockfdError = (process: Process, fd: number): number =>
  process.files.get(fd) === null ? -ERRNO.EBADF : -ERRNO.ENOTSOCK
