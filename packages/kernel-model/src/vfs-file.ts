/**
 * Regular files, memfds, devices and pipes as descriptors: the system calls of the file layer in `zerocopy`, with
 * positions read and written back as the kernel does it.
 */
import { ERRNO } from '@netmem/base'
import type { Msg } from '@netmem/sockmem'
import {
  createPipeFiles,
  deviceOpen,
  diskInodeCreate,
  type File,
  type Inode,
  inodeOf,
  inodeOpen,
  shmemInodeCreate,
} from '@netmem/zerocopy'
import { type FileOperations, O_RDWR, OpenFile } from './file.js'
import type { Kernel } from './kernel.js'
import type { Process } from './process.js'

/** Models `DEFAULT_POLLMASK`: what cannot be waited for is always ready. */
const DEFAULT_POLLMASK = 0x145

const vfsFileOps: FileOperations = {
  name: 'file',

  /** Models the position handling of `ksys_read`. */
  readIter(kernel: Kernel, process: Process, file: OpenFile, msg: Msg): number {
    const { at } = kernel.vfs
    if (file.fop.readIter === undefined) return -ERRNO.EINVAL
    at.pos = file.pos
    const ret = file.fop.readIter(process.cpu, process.task, file, msg, at)
    file.pos = at.pos
    return ret
  },

  /** Models the position handling of `ksys_write`. */
  writeIter(kernel: Kernel, process: Process, file: OpenFile, msg: Msg): number {
    const { at } = kernel.vfs
    if (file.fop.writeIter === undefined) return -ERRNO.EINVAL
    at.pos = file.pos
    const ret = file.fop.writeIter(process.cpu, process.task, file, msg, at)
    file.pos = at.pos
    return ret
  },

  poll: (_kernel, _process, file) => file.fop.poll?.(file) ?? DEFAULT_POLLMASK,
  ioctl: (_kernel, _process, file, cmd) => file.fop.ioctl?.(file, cmd) ?? -ERRNO.ENOTTY,
  llseek: (_kernel, _process, file, offset, whence) => file.fop.llseek?.(file, offset, whence) ?? -ERRNO.ESPIPE,
  fcntl: (_kernel, process, file, cmd, arg) =>
    file.fop.fcntl?.(process.cpu, process.task, file, cmd, arg) ?? -ERRNO.EBADF,
  release: (_kernel, process, file) => file.fop.release?.(process.cpu, process.task, file),
}

/** Gives an open file a descriptor. @returns it, or -EMFILE; the file is closed then. */
function install(process: Process, file: File, flags: number): number {
  const seeking = file.mode & ~0x3
  const fd = process.files.install(new OpenFile(vfsFileOps, file.priv, flags, file.fop, seeking))
  if (fd < 0) file.fop.release?.(process.cpu, process.task, file)
  return fd
}

/** Opens a file that is on a disk. @param content what is on it, in host memory; none of it is in memory as yet. */
export function sysOpenFile(process: Process, flags: number, content: Uint8Array = new Uint8Array(0)): number {
  return sysOpenInode(process, diskInodeCreate(process.kernel.vfs, content), flags)
}

/** Opens a file again: another position in the same bytes. */
export const sysOpenInode = (process: Process, inode: Inode, flags: number): number =>
  install(process, inodeOpen(inode, flags), flags)

/** Models `memfd_create` and `ftruncate` to `bytes`. */
export const sysMemfd = (process: Process, bytes: number): number =>
  sysOpenInode(process, shmemInodeCreate(process.kernel.vfs, bytes), O_RDWR)

/** Opens a device by its name below /dev: `null`, `zero`, `full`, `random`, `urandom`. @returns -ENOENT for others. */
export function sysOpenDevice(process: Process, name: string, flags = O_RDWR): number {
  const file = deviceOpen(process.kernel.vfs, name, flags)
  return file === null ? -ERRNO.ENOENT : install(process, file, flags)
}

/** Models `pipe2`. @param out two descriptors, to read from and to write to. @returns 0, -ENFILE or -EMFILE. */
export function sysPipe(process: Process, flags: number, out: Int32Array): number {
  const ends = createPipeFiles(process.kernel.vfs, process.cpu, process.task, flags)
  if (ends === null) return -ERRNO.ENFILE
  const reading = install(process, ends.read, ends.read.flags)
  const writing = install(process, ends.write, ends.write.flags)
  if (reading >= 0 && writing >= 0) {
    out[0] = reading
    out[1] = writing
    return 0
  }
  if (reading >= 0) {
    process.files.remove(reading)
    ends.read.fop.release?.(process.cpu, process.task, ends.read)
  }
  return -ERRNO.EMFILE
}

/** Models `fstat`'s `st_size`. @returns bytes; 0 for what has no size; -EBADF. */
export function sysFileSize(process: Process, fd: number): number {
  const file = process.files.get(fd)
  if (file === null) return -ERRNO.EBADF
  return file.ops === vfsFileOps && 'inode' in (file.priv as object) ? inodeOf(file).size : 0
}
