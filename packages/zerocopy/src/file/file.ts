/**
 * `struct file` as far as moving bytes goes: the open mode, the position, and what its kind can do. Descriptors,
 * and the calls that take them, are above; here are the checks that every read, write and splice begins with.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import type { Msg, Task } from '@netmem/sockmem'
import type { Pipe } from '../pipe/pipe.js'

// File modes (include/linux/fs.h): what an open file may be asked.
export const FMODE_READ = 0x1
export const FMODE_WRITE = 0x2
export const FMODE_LSEEK = 0x4
export const FMODE_PREAD = 0x8
export const FMODE_PWRITE = 0x10

export const O_RDONLY = 0
export const O_WRONLY = 1
export const O_RDWR = 2
export const O_ACCMODE = 3
export const O_APPEND = 0o2000
export const O_NONBLOCK = 0o4000

/** Models `MAX_LFS_FILESIZE`, bytes; a double holds the power of two next to it. */
export const MAX_LFS_FILESIZE = 2 ** 63
/** Models `MAX_RW_COUNT`: one call moves no more. */
export const MAX_RW_COUNT = 0x7ffff000

/** A position that a call moves: models `loff_t *ppos`. Bytes. */
export class Loff {
  constructor(public pos = 0) {}
}

/** Models `struct file_operations`: what a kind of file can do with bytes. An absent one is an errno of the call's own. */
export interface FileOps {
  readonly name: string
  /** Models `s_maxbytes` of the file's superblock. */
  readonly maxBytes: number
  /** Models `read_iter` into `msg.iter` at `at`, which moves. @returns bytes, or a negative errno. */
  readIter?(cpu: Cpu, task: Task, file: File, msg: Msg, at: Loff): number
  /** Models `write_iter` from `msg.iter` at `at`, which moves. @returns bytes, or a negative errno. */
  writeIter?(cpu: Cpu, task: Task, file: File, msg: Msg, at: Loff): number
  /** Models `splice_read`: up to `len` bytes from `at` into a pipe that has room. @returns bytes, or a negative errno. */
  spliceRead?(cpu: Cpu, task: Task, file: File, at: Loff, pipe: Pipe, len: number, flags: number): number
  /** Models `splice_write`: up to `len` bytes of a pipe to `at`. @returns bytes, or a negative errno. */
  spliceWrite?(cpu: Cpu, task: Task, pipe: Pipe, file: File, at: Loff, len: number, flags: number): number
  /** Models `splice_eof`: a sendfile to this file ended before its announced length. */
  spliceEof?(cpu: Cpu, task: Task, file: File): void
  /** Models `llseek`. @returns the new position, or a negative errno. */
  llseek?(file: File, offset: number, whence: number): number
  /** Models `poll`. @returns `EPOLL*` bits. */
  poll?(file: File): number
  /** Models `unlocked_ioctl` for commands that answer one number. */
  ioctl?(file: File, cmd: number): number
  /** Models `fcntl` commands that only this kind has. */
  fcntl?(cpu: Cpu, task: Task, file: File, cmd: number, arg: number): number
  /** Models `release`: the last descriptor is closed. */
  release?(cpu: Cpu, task: Task, file: File): void
}

/** Models `struct file`. `priv` is the inode, pipe or socket behind it. */
export class File {
  /** Models `f_pos`, bytes. */
  pos = 0
  /** `FMODE_*` bits. */
  readonly mode: number

  /** @param seeking `FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE`, less for files that have no position. */
  constructor(
    readonly fop: FileOps,
    readonly priv: unknown,
    /** `O_*` bits. */
    public flags: number,
    seeking: number,
  ) {
    this.mode = openMode(flags) | seeking
  }
}

/** All that a file with positions can do beside reading and writing. */
export const FMODE_SEEKABLE = FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE

/** Models `OPEN_FMODE`. */
export function openMode(flags: number): number {
  const access = flags & O_ACCMODE
  return (access !== O_WRONLY ? FMODE_READ : 0) | (access !== O_RDONLY ? FMODE_WRITE : 0)
}

/** Models `rw_verify_area` (fs/read_write.c): no negative count or position, and none past the largest. @returns 0 or -EINVAL. */
export function rwVerifyArea(pos: number, count: number): number {
  if (count < 0 || count > MAX_LFS_FILESIZE || pos < 0) return -ERRNO.EINVAL
  // Next to 2^63 doubles are 1024 apart: the largest number is written as 2^63 itself, and from 0 it fits.
  const largest = pos === 0 && count === MAX_LFS_FILESIZE
  return count > 0 && !largest && pos + count >= MAX_LFS_FILESIZE ? -ERRNO.EINVAL : 0
}

/** Models `generic_file_llseek` (fs/read_write.c). @param size bytes of the file. */
export function genericFileLlseek(file: File, offset: number, whence: number, size: number): number {
  let target = offset
  if (whence === SEEK_CUR) target = file.pos + offset
  else if (whence === SEEK_END) target = size + offset
  else if (whence === SEEK_DATA || whence === SEEK_HOLE) {
    // Without a map of holes all of the file is data, and its end is the hole.
    if (offset < 0 || offset >= size) return -ERRNO.ENXIO
    if (whence === SEEK_HOLE) target = size
  } else if (whence !== SEEK_SET) return -ERRNO.EINVAL
  if (target < 0 || target > file.fop.maxBytes) return -ERRNO.EINVAL
  file.pos = target
  return target
}

const SEEK_SET = 0
const SEEK_CUR = 1
const SEEK_END = 2
const SEEK_DATA = 3
const SEEK_HOLE = 4
