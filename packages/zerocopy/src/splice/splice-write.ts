/** Out of a pipe into a file that has `write_iter`: the pieces become one vector, and the file copies them. */
import { type Cpu, ERRNO } from '@netmem/base'
import { iovIterBvec } from '@netmem/memory'
import type { Task } from '@netmem/sockmem'
import type { File, Loff } from '../file/file.js'
import type { Pieces } from '../file/vfs.js'
import { type Pipe, pipeSlot } from '../pipe/pipe.js'
import { bufLen, bufOffset, bufPage } from '../pipe/pipe-buffer.js'
import { pipeConsume, SpliceDesc, spliceFromPipe, spliceFromPipeNext } from './splice-from-pipe.js'

/**
 * Models `iter_file_splice_write` (fs/splice.c).
 *
 * @param at where to write; moves past what was written.
 * @returns bytes, 0 at the end of the pipe, or a negative errno when none were written.
 */
export function iterFileSpliceWrite(
  cpu: Cpu,
  task: Task,
  pipe: Pipe,
  out: File,
  at: Loff,
  len: number,
  flags: number,
): number {
  const { vfs } = pipe
  const { msg, pieces } = vfs
  let left = len
  let spliced = 0
  let ret = 0
  while (left > 0) {
    ret = spliceFromPipeNext(cpu, pipe, spliced, flags)
    if (ret <= 0) break
    pieces.reset(pipe.maxUsage)
    const bytes = pipePieces(pipe, pieces, left, pipe.maxUsage)
    msg.reset(0)
    iovIterBvec(msg.iter, pieces.pfns, pieces.offsets, pieces.lens, pieces.count, bytes)
    if (out.fop.writeIter === undefined) return -ERRNO.EINVAL
    ret = out.fop.writeIter(cpu, task, out, msg, at)
    if (ret <= 0) break
    spliced += ret
    left -= ret
    pipeConsume(cpu, pipe, ret)
  }
  return spliced > 0 ? spliced : ret
}

/** The pieces at the front of a pipe, up to `bytes` and `most` of them. @returns bytes gathered. */
export function pipePieces(pipe: Pipe, pieces: Pieces, bytes: number, most: number): number {
  let left = bytes
  for (let number = pipe.tail; number !== pipe.head && left > 0 && pieces.count < most; number = (number + 1) | 0) {
    const buf = pipeSlot(pipe, number)
    const part = Math.min(bufLen(pipe, buf), left)
    if (part === 0) continue
    pieces.add(bufPage(pipe, buf), bufOffset(pipe, buf), part)
    left -= part
  }
  return bytes - left
}

/** Models `splice_write_null` (drivers/char/mem.c): everything is taken, nothing is kept, and nothing is copied. */
export const spliceWriteNull = (
  cpu: Cpu,
  _task: Task,
  pipe: Pipe,
  _out: File,
  _at: Loff,
  len: number,
  flags: number,
): number => spliceFromPipe(cpu, pipe, new SpliceDesc(len, flags), (_cpu, _pipe, _buf, sd) => sd.len)
