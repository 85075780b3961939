/** Pipes as files: read, write, poll, FIONREAD, and the two ends that `pipe2` makes. */
import { type Cpu, ERRNO, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, copyPageFromIter, copyPageToIter, iovIterCount } from '@netmem/memory'
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, type Msg, type Task } from '@netmem/sockmem'
import { File, type FileOps, FMODE_READ, FMODE_WRITE, MAX_LFS_FILESIZE, O_RDONLY, O_WRONLY } from '../file/file.js'
import type { Vfs } from '../file/vfs.js'
import { iterFileSpliceWrite } from '../splice/splice-write.js'
import { type Pipe, pipeIsEmpty, pipeIsFull, pipeSlot } from './pipe.js'
import {
  ANON_PIPE_BUF,
  anonPipePutPage,
  bufConsume,
  bufFlags,
  bufLen,
  bufOffset,
  bufPage,
  PIPE_BUF_FLAG_CAN_MERGE,
  PIPE_BUF_FLAG_PACKET,
  PIPE_BUF_FLAG_WHOLE,
  pipeBufAppend,
  pipeBufRelease,
  setBufLen,
} from './pipe-buffer.js'
import { allocPipeInfo, freePipeInfo, pipeBytes } from './pipe-info.js'
import { pipeFcntl } from './pipe-size.js'

export const FIONREAD = 0x541b
/** A pipe opened with it keeps writes apart: a read takes one at most. */
export const O_DIRECT = 0o40000

const pipeOf = (file: File): Pipe => file.priv as Pipe

/** Models `pipe_read` (fs/pipe.c). @returns bytes, 0 when nobody can write any more, or -EAGAIN. */
export function pipeRead(cpu: Cpu, _task: Task, file: File, msg: Msg): number {
  const pipe = pipeOf(file)
  const { mem } = pipe.vfs
  const { iter } = msg
  let left = iovIterCount(iter)
  if (left === 0) return 0
  let read = 0
  while (!pipeIsEmpty(pipe)) {
    const buf = pipeSlot(pipe, pipe.tail)
    const there = bufLen(pipe, buf)
    const flags = bufFlags(pipe, buf)
    if (there > left && (flags & PIPE_BUF_FLAG_WHOLE) !== 0) return read > 0 ? read : -ERRNO.ENOBUFS
    const bytes = Math.min(there, left)
    const copied = copyPageToIter(mem, cpu, bufPage(pipe, buf), bufOffset(pipe, buf), bytes, iter)
    if (copied < bytes) return read > 0 ? read : -ERRNO.EFAULT
    read += bytes
    bufConsume(pipe, buf, bytes)
    const packet = (flags & PIPE_BUF_FLAG_PACKET) !== 0
    if (packet || bytes === there) {
      pipeBufRelease(cpu, pipe, buf)
      pipe.tail = (pipe.tail + 1) | 0
    }
    left -= bytes
    if (packet || left === 0) return read
  }
  if (read > 0 || pipe.writers === 0) return read
  return -ERRNO.EAGAIN
}

/** Models `pipe_write` (fs/pipe.c): a tail shorter than a page may join the last slot, the rest takes a slot a page. */
export function pipeWrite(cpu: Cpu, _task: Task, file: File, msg: Msg): number {
  const pipe = pipeOf(file)
  const { vfs } = pipe
  const { mem, pageSize } = vfs
  const { iter } = msg
  const total = iovIterCount(iter)
  if (total === 0) return 0
  if (pipe.readers === 0) return -ERRNO.EPIPE
  let written = 0
  const odd = total & (pageSize - 1)
  if (odd !== 0 && !pipeIsEmpty(pipe)) {
    const last = pipeSlot(pipe, (pipe.head - 1) | 0)
    const end = bufOffset(pipe, last) + bufLen(pipe, last)
    if ((bufFlags(pipe, last) & PIPE_BUF_FLAG_CAN_MERGE) !== 0 && end + odd <= pageSize) {
      if (copyPageFromIter(mem, cpu, bufPage(pipe, last), end, odd, iter) < odd) return -ERRNO.EFAULT
      setBufLen(pipe, last, bufLen(pipe, last) + odd)
      written = odd
    }
  }
  const flags = (file.flags & O_DIRECT) !== 0 ? PIPE_BUF_FLAG_PACKET : PIPE_BUF_FLAG_CAN_MERGE
  while (iovIterCount(iter) > 0) {
    if (pipeIsFull(pipe)) return written > 0 ? written : -ERRNO.EAGAIN
    const page = anonPipeGetPage(cpu, pipe)
    if (page === NO_PFN) return written > 0 ? written : -ERRNO.ENOMEM
    const copied = copyPageFromIter(mem, cpu, page, 0, pageSize, iter)
    if (copied < pageSize && iovIterCount(iter) > 0) {
      anonPipePutPage(cpu, pipe, page)
      return written > 0 ? written : -ERRNO.EFAULT
    }
    pipeBufAppend(pipe, page, 0, copied, ANON_PIPE_BUF, flags)
    written += copied
  }
  return written
}

/** Models `anon_pipe_get_page`: a spare page, or a new one. */
function anonPipeGetPage(cpu: Cpu, pipe: Pipe): Pfn {
  const { tmpPage, vfs } = pipe
  for (let i = 0; i < tmpPage.length; i++)
    if (tmpPage[i] !== 0) {
      const pfn = tmpPage[i]!
      tmpPage[i] = 0
      return pfn as Pfn
    }
  const { gfp } = vfs.mem
  return allocPages(vfs.mem, cpu, gfp.GFP_HIGHUSER | gfp.ACCOUNT, 0, -1, 'pipe_write')
}

/** Models `pipe_poll` (fs/pipe.c). */
function pipePoll(file: File): number {
  const pipe = pipeOf(file)
  let mask = 0
  if ((file.mode & FMODE_READ) !== 0) {
    if (!pipeIsEmpty(pipe)) mask |= EPOLLIN | EPOLLRDNORM
    if (pipe.writers === 0) mask |= EPOLLHUP
  }
  if ((file.mode & FMODE_WRITE) !== 0) {
    if (!pipeIsFull(pipe)) mask |= EPOLLOUT | EPOLLWRNORM
    if (pipe.readers === 0) mask |= EPOLLERR
  }
  return mask
}

/** Models `pipe_release` (fs/pipe.c) and `put_pipe_info`. */
function pipeRelease(cpu: Cpu, _task: Task, file: File): void {
  const pipe = pipeOf(file)
  if ((file.mode & FMODE_READ) !== 0) pipe.readers -= 1
  if ((file.mode & FMODE_WRITE) !== 0) pipe.writers -= 1
  pipe.files -= 1
  if (pipe.files === 0) freePipeInfo(cpu, pipe)
}

/** Models `pipeanon_fops` and `pipefifo_fops` (fs/pipe.c). */
export const pipeFops: FileOps = {
  name: 'pipe',
  maxBytes: MAX_LFS_FILESIZE,
  readIter: pipeRead,
  writeIter: pipeWrite,
  spliceWrite: iterFileSpliceWrite,
  poll: pipePoll,
  ioctl: (file, cmd) => (cmd === FIONREAD ? pipeBytes(pipeOf(file)) : -ERRNO.ENOTTY),
  fcntl: (cpu, task, file, cmd, arg) => pipeFcntl(cpu, task, pipeOf(file), cmd, arg),
  release: pipeRelease,
}

/** Models `get_pipe_info`. @returns the pipe behind a file, or null. */
export const getPipeInfo = (file: File): Pipe | null => (file.fop === pipeFops ? pipeOf(file) : null)

/** The two ends of a pipe. */
export interface PipeEnds {
  readonly read: File
  readonly write: File
}

/**
 * Models `create_pipe_files` (fs/pipe.c). @param flags `O_NONBLOCK`, `O_DIRECT`.
 * @returns the ends, or null (-ENFILE) without memory or over the user's hard limit.
 */
export function createPipeFiles(vfs: Vfs, cpu: Cpu, task: Task, flags: number): PipeEnds | null {
  const pipe = allocPipeInfo(vfs, cpu, task)
  if (pipe === null) return null
  pipe.readers = 1
  pipe.writers = 1
  pipe.files = 2
  return { read: new File(pipeFops, pipe, O_RDONLY | flags, 0), write: new File(pipeFops, pipe, O_WRONLY | flags, 0) }
}
