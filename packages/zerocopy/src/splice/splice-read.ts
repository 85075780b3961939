/** Into a pipe: from a file that can lend its pages, and from one that must be read into fresh ones. */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { allocPagesBulk, iovIterBvec, kfree, kzalloc, putPage } from '@netmem/memory'
import type { Task } from '@netmem/sockmem'
import { type File, FMODE_READ, type Loff, MAX_RW_COUNT } from '../file/file.js'
import { type Pipe, pipeOccupancy, waitForSpace } from '../pipe/pipe.js'
import { DEFAULT_PIPE_BUF, pipeBufAppend } from '../pipe/pipe-buffer.js'

/** Models `do_splice_read` (fs/splice.c). @returns bytes, 0 at the end, or a negative errno. */
export function doSpliceRead(
  cpu: Cpu,
  task: Task,
  file: File,
  at: Loff,
  pipe: Pipe,
  len: number,
  flags: number,
): number {
  if ((file.mode & FMODE_READ) === 0) return -ERRNO.EBADF
  if (len === 0) return 0
  const room = (pipe.maxUsage - pipeOccupancy(pipe)) * pipe.vfs.pageSize
  const bytes = Math.min(len, room, MAX_RW_COUNT)
  if (file.fop.spliceRead === undefined) return -ERRNO.EINVAL
  return file.fop.spliceRead(cpu, task, file, at, pipe, bytes, flags)
}

/** Models `splice_file_to_pipe` (fs/splice.c): when a slot is free. @returns bytes, or a negative errno. */
export function spliceFileToPipe(
  cpu: Cpu,
  task: Task,
  file: File,
  pipe: Pipe,
  at: Loff,
  len: number,
  flags: number,
): number {
  const err = waitForSpace(pipe)
  return err < 0 ? err : doSpliceRead(cpu, task, file, at, pipe, len, flags)
}

/**
 * Models `copy_splice_read` (fs/splice.c): the file is read into new pages, which then belong to the pipe.
 *
 * @returns bytes, 0, or a negative errno; -EFAULT becomes -EAGAIN.
 */
export function copySpliceRead(cpu: Cpu, task: Task, file: File, at: Loff, pipe: Pipe, len: number): number {
  const { vfs } = pipe
  const { mem, msg, pieces, pageSize } = vfs
  const { readIter } = file.fop
  if (readIter === undefined) return -ERRNO.EINVAL
  const slots = Math.max(0, pipe.maxUsage - pipeOccupancy(pipe))
  let bytes = Math.min(len, slots * pageSize)
  const wanted = Math.ceil(bytes / pageSize)
  // The kernel's vector of pieces with the page pointers behind it.
  const vector = kzalloc(mem, cpu, wanted * (BIO_VEC_BYTES + POINTER_BYTES), mem.gfp.GFP_KERNEL, 'copy_splice_read')
  if (vector === 0) return -ERRNO.ENOMEM
  pieces.reset(wanted)
  pieces.pfns.fill(0, 0, wanted)
  const got = allocPagesBulk(mem, cpu, mem.gfp.GFP_USER, -1, wanted, pieces.pfns, 0, 'copy_splice_read')
  if (got === 0) {
    kfree(mem, cpu, vector, 'copy_splice_read')
    return -ERRNO.ENOMEM
  }
  bytes = Math.min(bytes, got * pageSize)
  for (let i = 0; i < got; i++) {
    pieces.offsets[i] = 0
    pieces.lens[i] = Math.min(pageSize, bytes - i * pageSize)
  }
  msg.reset(0)
  iovIterBvec(msg.iter, pieces.pfns, pieces.offsets, pieces.lens, got, bytes)
  let ret = readIter(cpu, task, file, msg, at)
  if (ret === -ERRNO.EFAULT) ret = -ERRNO.EAGAIN
  const keep = ret > 0 ? Math.ceil(ret / pageSize) : 0
  for (let i = 0; i < got; i++) {
    const pfn = pieces.pfns[i]! as Pfn
    if (i < keep) pipeBufAppend(pipe, pfn, 0, Math.min(pageSize, ret - i * pageSize), DEFAULT_PIPE_BUF, 0)
    else putPage(mem, cpu, pfn, 'copy_splice_read')
  }
  kfree(mem, cpu, vector, 'copy_splice_read')
  return ret
}

/** Models `sizeof(struct bio_vec)` and of a pointer on 64-bit machines. */
const BIO_VEC_BYTES = 16
const POINTER_BYTES = 8
