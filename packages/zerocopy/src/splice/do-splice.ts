/** splice(2) and tee(2): the checks in the kernel's order, and pipe to pipe. */
import { type Cpu, ERRNO } from '@netmem/base'
import type { Task } from '@netmem/sockmem'
import {
  type File,
  FMODE_PREAD,
  FMODE_PWRITE,
  FMODE_READ,
  FMODE_WRITE,
  type Loff,
  O_APPEND,
  O_NONBLOCK,
  rwVerifyArea,
} from '../file/file.js'
import type { Vfs } from '../file/vfs.js'
import { type Pipe, pipeIsEmpty, pipeIsFull, pipeSlot, waitForSpace } from '../pipe/pipe.js'
import {
  bufConsume,
  bufCopy,
  bufFlags,
  bufForget,
  bufLen,
  PIPE_BUF_FLAG_CAN_MERGE,
  PIPE_BUF_FLAG_GIFT,
  pipeBufGet,
  setBufFlags,
  setBufLen,
} from '../pipe/pipe-buffer.js'
import { getPipeInfo } from '../pipe/pipe-io.js'
import { doSpliceFrom } from './sendfile.js'
import { SPLICE_F_ALL, SPLICE_F_NONBLOCK } from './splice-flags.js'
import { spliceFileToPipe } from './splice-read.js'

/**
 * Models `splice` (fs/splice.c): `__do_splice` and `do_splice`.
 *
 * @param input null for a descriptor that is not open, and so is `output`.
 * @param offIn the caller's position, which moves on success; null for the file's own.
 * @returns bytes, 0 at the end of the input, or a negative errno.
 */
export function sysSpliceFiles(
  vfs: Vfs,
  cpu: Cpu,
  task: Task,
  input: File | null,
  offIn: Loff | null,
  output: File | null,
  offOut: Loff | null,
  len: number,
  flags: number,
): number {
  if (len === 0) return 0
  if ((flags & ~SPLICE_F_ALL) !== 0) return -ERRNO.EINVAL
  if (input === null || output === null) return -ERRNO.EBADF
  const inPipe = getPipeInfo(input)
  const outPipe = getPipeInfo(output)
  if ((inPipe !== null && offIn !== null) || (outPipe !== null && offOut !== null)) return -ERRNO.ESPIPE
  if ((input.mode & FMODE_READ) === 0 || (output.mode & FMODE_WRITE) === 0) return -ERRNO.EBADF
  if (inPipe !== null && outPipe !== null) {
    if (inPipe === outPipe) return -ERRNO.EINVAL
    return splicePipeToPipe(inPipe, outPipe, len)
  }
  if (inPipe !== null) return pipeToFile(vfs, cpu, task, input, inPipe, output, offOut, len, flags)
  if (outPipe !== null) return fileToPipe(vfs, cpu, task, input, offIn, output, outPipe, len, flags)
  return -ERRNO.EINVAL
}

function pipeToFile(
  vfs: Vfs,
  cpu: Cpu,
  task: Task,
  input: File,
  pipe: Pipe,
  output: File,
  off: Loff | null,
  len: number,
  flags: number,
): number {
  if (off !== null && (output.mode & FMODE_PWRITE) === 0) return -ERRNO.EINVAL
  const at = vfs.outAt
  at.pos = off === null ? output.pos : off.pos
  if ((output.flags & O_APPEND) !== 0) return -ERRNO.EINVAL
  const bad = rwVerifyArea(at.pos, len)
  if (bad < 0) return bad
  const nonblock = (input.flags & O_NONBLOCK) !== 0 ? SPLICE_F_NONBLOCK : 0
  const ret = doSpliceFrom(cpu, task, pipe, output, at, len, flags | nonblock)
  if (off === null) output.pos = at.pos
  else if (ret >= 0) off.pos = at.pos
  return ret
}

function fileToPipe(
  vfs: Vfs,
  cpu: Cpu,
  task: Task,
  input: File,
  off: Loff | null,
  output: File,
  pipe: Pipe,
  len: number,
  flags: number,
): number {
  if (off !== null && (input.mode & FMODE_PREAD) === 0) return -ERRNO.EINVAL
  const { at } = vfs
  at.pos = off === null ? input.pos : off.pos
  const bad = rwVerifyArea(at.pos, len)
  if (bad < 0) return bad
  const nonblock = (output.flags & O_NONBLOCK) !== 0 ? SPLICE_F_NONBLOCK : 0
  const ret = spliceFileToPipe(cpu, task, input, pipe, at, len, flags | nonblock)
  if (off === null) input.pos = at.pos
  else if (ret >= 0) off.pos = at.pos
  return ret
}

/** Models `ipipe_prep`: 0 when there is something, or nothing can come any more. */
const ipipePrep = (pipe: Pipe): number => (pipeIsEmpty(pipe) && pipe.writers > 0 ? -ERRNO.EAGAIN : 0)

/** What two references may not share: the right to give the page away, and to write on behind it. */
function shareFlags(pipe: Pipe, buf: number): void {
  setBufFlags(pipe, buf, bufFlags(pipe, buf) & ~(PIPE_BUF_FLAG_GIFT | PIPE_BUF_FLAG_CAN_MERGE))
}

/** Models `splice_pipe_to_pipe` (fs/splice.c): whole slots move, the last one is split. */
function splicePipeToPipe(input: Pipe, output: Pipe, len: number): number {
  let err = ipipePrep(input)
  if (err === 0) err = waitForSpace(output)
  if (err < 0) return err
  let left = len
  let moved = 0
  while (left > 0 && !pipeIsEmpty(input) && !pipeIsFull(output)) {
    const from = pipeSlot(input, input.tail)
    const to = pipeSlot(output, output.head)
    const there = bufLen(input, from)
    bufCopy(input, to, from)
    if (left >= there) {
      bufForget(input, from)
      input.tail = (input.tail + 1) | 0
    } else {
      pipeBufGet(input, from)
      shareFlags(output, to)
      setBufLen(output, to, left)
      bufConsume(input, from, left)
    }
    output.head = (output.head + 1) | 0
    const bytes = Math.min(there, left)
    moved += bytes
    left -= bytes
  }
  return moved
}

/** Models `tee` (fs/splice.c): `do_tee`. @returns bytes, or a negative errno. */
export function sysTeeFiles(input: File | null, output: File | null, len: number, flags: number): number {
  if ((flags & ~SPLICE_F_ALL) !== 0) return -ERRNO.EINVAL
  if (len === 0) return 0
  if (input === null || output === null) return -ERRNO.EBADF
  if ((input.mode & FMODE_READ) === 0 || (output.mode & FMODE_WRITE) === 0) return -ERRNO.EBADF
  const from = getPipeInfo(input)
  const to = getPipeInfo(output)
  if (from === null || to === null || from === to) return -ERRNO.EINVAL
  let err = ipipePrep(from)
  if (err === 0) err = waitForSpace(to)
  return err < 0 ? err : linkPipe(from, to, len)
}

/** Models `link_pipe` (fs/splice.c): a second reference to the same pieces; nothing is consumed. */
function linkPipe(input: Pipe, output: Pipe, len: number): number {
  let left = len
  let linked = 0
  for (let number = input.tail; number !== input.head && left > 0 && !pipeIsFull(output); number = (number + 1) | 0) {
    const from = pipeSlot(input, number)
    const to = pipeSlot(output, output.head)
    pipeBufGet(input, from)
    bufCopy(input, to, from)
    shareFlags(output, to)
    const bytes = Math.min(bufLen(input, from), left)
    setBufLen(output, to, bytes)
    output.head = (output.head + 1) | 0
    linked += bytes
    left -= bytes
  }
  return linked
}
