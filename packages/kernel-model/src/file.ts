/**
 * Open files and the table that numbers them. Sockets, pipes and regular files are all `OpenFile`s whose
 * operations say what they can do; a system call that a file does not have answers as the kernel does.
 */
import { assert, ERRNO } from '@netmem/base'
import type { UserBuffer } from '@netmem/memory'
import type { Msg } from '@netmem/sockmem'
import { File, type FileOps, MAX_LFS_FILESIZE } from '@netmem/zerocopy'
import type { Kernel } from './kernel.js'
import type { Process } from './process.js'

export { O_ACCMODE, O_APPEND, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from '@netmem/zerocopy'

/** Models `struct file_operations`: what a kind of file can do. An absent one is an errno of the call's own. */
export interface FileOperations {
  /** What the file is, for error messages and audits. */
  readonly name: string
  /** Models `read_iter`: into `msg.iter`, which holds `count` bytes. @returns bytes read, or a negative errno. */
  readIter?(kernel: Kernel, process: Process, file: OpenFile, msg: Msg, count: number): number
  /** Models `write_iter`: from `msg.iter`. @returns bytes written, or a negative errno. */
  writeIter?(kernel: Kernel, process: Process, file: OpenFile, msg: Msg, count: number): number
  /** Models `poll`. @returns `EPOLL*` bits. */
  poll?(kernel: Kernel, process: Process, file: OpenFile): number
  /** Models `unlocked_ioctl` for commands that answer one number. @returns it, or a negative errno. */
  ioctl?(kernel: Kernel, process: Process, file: OpenFile, cmd: number, arg: number): number
  /** Models `llseek`. @returns the new position, or a negative errno. */
  llseek?(kernel: Kernel, process: Process, file: OpenFile, offset: number, whence: number): number
  /** Models `fcntl` commands that only this kind of file has. @returns a number, or a negative errno. */
  fcntl?(kernel: Kernel, process: Process, file: OpenFile, cmd: number, arg: number): number
  /** Models `mmap`. @param offset bytes, whole pages. @returns the area, or a negative errno. */
  mmap?(kernel: Kernel, process: Process, file: OpenFile, offset: number, bytes: number): UserBuffer | number
  /** Models `vm_ops->close`: an area that `mmap` gave is about to go. */
  munmap?(kernel: Kernel, process: Process, file: OpenFile): void
  /** Models `release`: the last reference is gone. */
  release(kernel: Kernel, process: Process, file: OpenFile): void
}

/** Models `struct file`: what splice knows of it is a `File`, the system calls' side is here. */
export class OpenFile extends File {
  refs = 1

  /** @param fop what splice, sendfile and the like may do; by default nothing. @param seeking `FMODE_LSEEK` and its like. */
  constructor(
    readonly ops: FileOperations,
    priv: unknown,
    flags: number,
    fop: FileOps = NO_SPLICE,
    seeking = 0,
  ) {
    super(fop, priv, flags, seeking)
  }
}

/** A file that can be read and written, but not spliced. */
const NO_SPLICE: FileOps = { name: 'file', maxBytes: MAX_LFS_FILESIZE }

/** Models `struct files_struct`: descriptors of one process, the lowest free number first. */
export class FdTable {
  private readonly files: (OpenFile | null)[] = []

  /** @param limit `RLIMIT_NOFILE`: numbers below it may be used. */
  constructor(public limit = 1024) {}

  /** Models `fd_install` of an unused number. Takes the reference. @returns the number, or -EMFILE. */
  install(file: OpenFile): number {
    let fd = this.files.indexOf(null)
    if (fd < 0) fd = this.files.length
    if (fd >= this.limit) return -ERRNO.EMFILE
    this.files[fd] = file
    return fd
  }

  /** Models `fget`, without taking a reference. @returns null for a number that is not open. */
  get(fd: number): OpenFile | null {
    return this.files[fd] ?? null
  }

  /** Models `file_close_fd`. @returns the file, whose reference is now the caller's, or null. */
  remove(fd: number): OpenFile | null {
    const file = this.files[fd] ?? null
    if (file !== null) this.files[fd] = null
    return file
  }

  /** @returns the numbers that are open, ascending. */
  open(): number[] {
    return this.files.flatMap((file, fd) => (file === null ? [] : [fd]))
  }
}

/** Models `fput`: gives a reference back; the last one releases the file. */
export function fput(kernel: Kernel, process: Process, file: OpenFile): void {
  assert(file.refs > 0, 'fput of a file that is gone')
  file.refs -= 1
  if (file.refs === 0) file.ops.release(kernel, process, file)
}
