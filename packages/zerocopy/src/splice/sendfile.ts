/** sendfile: a splice through a pipe of the task's own, so that no pipe has to be made and no page is copied. */
import { type Cpu, ERRNO } from '@netmem/base'
import type { Task } from '@netmem/sockmem'
import {
  type File,
  FMODE_LSEEK,
  FMODE_PREAD,
  FMODE_READ,
  FMODE_WRITE,
  Loff,
  MAX_RW_COUNT,
  O_APPEND,
  O_NONBLOCK,
  rwVerifyArea,
} from '../file/file.js'
import type { OpenInode } from '../file/filemap.js'
import { Inode } from '../file/inode.js'
import type { Vfs } from '../file/vfs.js'
import { Pipe, pipeSlot } from '../pipe/pipe.js'
import { bufOps, pipeBufRelease } from '../pipe/pipe-buffer.js'
import { allocPipeInfo, freePipeInfo } from '../pipe/pipe-info.js'
import { getPipeInfo } from '../pipe/pipe-io.js'
import { SPLICE_F_MORE, SPLICE_F_NONBLOCK } from './splice-flags.js'
import { doSpliceRead, spliceFileToPipe } from './splice-read.js'

/**
 * Models `do_sendfile` (fs/read_write.c) as `sendfile64` calls it.
 *
 * @param input null for a descriptor that is not open, and so is `output`.
 * @param ppos the caller's position, which moves; null to use and move the input file's.
 * @returns bytes, or a negative errno.
 */
export function doSendfile(
  vfs: Vfs,
  cpu: Cpu,
  task: Task,
  output: File | null,
  input: File | null,
  ppos: Loff | null,
  count: number,
): number {
  if (input === null || (input.mode & FMODE_READ) === 0) return -ERRNO.EBADF
  if (ppos !== null && (input.mode & FMODE_PREAD) === 0) return -ERRNO.ESPIPE
  const { at, outAt } = vfs
  at.pos = ppos === null ? input.pos : ppos.pos
  const bad = rwVerifyArea(at.pos, count)
  if (bad < 0) return bad
  let bytes = Math.min(count, MAX_RW_COUNT)
  if (output === null || (output.mode & FMODE_WRITE) === 0) return -ERRNO.EBADF
  const max = Math.min(input.fop.maxBytes, output.fop.maxBytes)
  if (at.pos + bytes > max) {
    if (at.pos >= max) return -ERRNO.EOVERFLOW
    bytes = max - at.pos
  }
  outAt.pos = output.pos
  const pipe = getPipeInfo(output)
  let ret: number
  if (pipe !== null) {
    const flags = (output.flags & O_NONBLOCK) !== 0 ? SPLICE_F_NONBLOCK : 0
    ret = spliceFileToPipe(cpu, task, input, pipe, at, bytes, flags)
  } else {
    ret = rwVerifyArea(outAt.pos, bytes)
    if (ret === 0) ret = doSpliceDirect(vfs, cpu, task, input, at, output, outAt, bytes, 0)
  }
  if (ret > 0) {
    output.pos = outAt.pos
    if (ppos === null) input.pos = at.pos
    else ppos.pos = at.pos
  }
  return at.pos > max ? -ERRNO.EOVERFLOW : ret
}

/** Models `do_splice_direct` (fs/splice.c). @param at moves only by what arrived in `out`. */
export function doSpliceDirect(
  vfs: Vfs,
  cpu: Cpu,
  task: Task,
  input: File,
  at: Loff,
  out: File,
  outAt: Loff,
  len: number,
  flags: number,
): number {
  if ((out.mode & FMODE_WRITE) === 0) return -ERRNO.EBADF
  if ((out.flags & O_APPEND) !== 0) return -ERRNO.EINVAL
  // Nothing may be lost between reading and a short write, so the input must be one that can be read again.
  if (!canReadAgain(vfs, input)) return -ERRNO.EINVAL
  const pipe = splicePipe(vfs, cpu, task)
  if (pipe === null) return -ERRNO.ENOMEM
  return spliceDirectToActor(vfs, cpu, task, pipe, input, at, out, outAt, len, flags)
}

/** 6.5 and later take whatever can seek; before it had to be a regular file or a block device. */
function canReadAgain(vfs: Vfs, input: File): boolean {
  if (vfs.profile.features.sendfileAnySeekable) return (input.mode & FMODE_LSEEK) !== 0
  return (input.priv as Partial<OpenInode> | null)?.inode instanceof Inode
}

/** Models `current->splice_pipe`: made by the first sendfile of a task, kept until it exits. */
function splicePipe(vfs: Vfs, cpu: Cpu, task: Task): Pipe | null {
  if (task.splicePipe instanceof Pipe) return task.splicePipe
  const pipe = allocPipeInfo(vfs, cpu, task)
  if (pipe === null) return null
  // Nobody reads it as yet, but it is emptied right after each filling.
  pipe.readers = 1
  task.splicePipe = pipe
  return pipe
}

/** Models the end of a task's `splice_pipe` in `do_exit`. */
export function exitSplicePipe(cpu: Cpu, task: Task): void {
  if (!(task.splicePipe instanceof Pipe)) return
  freePipeInfo(cpu, task.splicePipe)
  task.splicePipe = null
}

/** Models `splice_direct_to_actor` with `direct_splice_actor` (fs/splice.c). */
function spliceDirectToActor(
  vfs: Vfs,
  cpu: Cpu,
  task: Task,
  pipe: Pipe,
  input: File,
  at: Loff,
  out: File,
  outAt: Loff,
  len: number,
  flags: number,
): number {
  const { spliceEof } = vfs.profile.features
  const reading = new Loff(at.pos)
  const keepMore = flags & SPLICE_F_MORE
  // Output may not give up half way, or bytes would be stuck in the pipe; newer kernels announce more until all is read.
  let outFlags = (flags & ~SPLICE_F_NONBLOCK) | (spliceEof ? SPLICE_F_MORE : 0)
  let left = len
  let moved = 0
  let ret = 0
  while (left > 0) {
    const before = at.pos
    reading.pos = before
    ret = doSpliceRead(cpu, task, input, reading, pipe, left, flags)
    if (ret <= 0) {
      if (spliceEof && ret === 0 && keepMore === 0 && moved > 0) out.fop.spliceEof?.(cpu, task, out)
      break
    }
    const read = ret
    if (read < left) outFlags |= SPLICE_F_MORE
    else if (keepMore === 0) outFlags &= ~SPLICE_F_MORE
    ret = doSpliceFrom(cpu, task, pipe, out, outAt, read, outFlags)
    if (ret <= 0) break
    moved += ret
    left -= ret
    at.pos = ret < read ? before + ret : reading.pos
    if (ret < read) break
  }
  emptySplicePipe(cpu, pipe)
  return moved > 0 ? moved : ret
}

/** What a short write left in the pipe is read again next time. */
function emptySplicePipe(cpu: Cpu, pipe: Pipe): void {
  if (pipe.head !== pipe.tail)
    for (let i = 0; i < pipe.ringSize; i++) {
      const buf = pipeSlot(pipe, i)
      if (bufOps(pipe, buf) !== 0) pipeBufRelease(cpu, pipe, buf)
    }
  pipe.head = 0
  pipe.tail = 0
}

/** Models `do_splice_from` (fs/splice.c). */
export function doSpliceFrom(
  cpu: Cpu,
  task: Task,
  pipe: Pipe,
  out: File,
  at: Loff,
  len: number,
  flags: number,
): number {
  if (out.fop.spliceWrite === undefined) return -ERRNO.EINVAL
  return out.fop.spliceWrite(cpu, task, pipe, out, at, len, flags)
}
