/** vmsplice: user memory into a pipe by reference, or a pipe's bytes into user memory by copy. */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { copyPageToIter, type IovIter, iovIterCount, iovIterGetPages2, iterAddr, putPage } from '@netmem/memory'
import { type File, FMODE_READ, FMODE_WRITE } from '../file/file.js'
import { type Pipe, pipeIsFull, waitForSpace } from '../pipe/pipe.js'
import { bufOffset, bufPage, PIPE_BUF_FLAG_GIFT, pipeBufAppend, USER_PAGE_PIPE_BUF } from '../pipe/pipe-buffer.js'
import { getPipeInfo } from '../pipe/pipe-io.js'
import { SPLICE_F_ALL, SPLICE_F_GIFT } from './splice-flags.js'
import { SpliceDesc, spliceFromPipe } from './splice-from-pipe.js'

/** Pages that are pinned at a time. */
const PINNED_PAGES = 16

/**
 * Models `vmsplice` (fs/splice.c).
 *
 * @param iter the user's memory: the source for the writing end of a pipe, the destination for the reading end.
 * @returns bytes, or a negative errno.
 */
export function sysVmspliceFile(cpu: Cpu, file: File | null, iter: IovIter, flags: number): number {
  if ((flags & ~SPLICE_F_ALL) !== 0) return -ERRNO.EINVAL
  if (file === null) return -ERRNO.EBADF
  const toPipe = (file.mode & FMODE_WRITE) !== 0
  if (!toPipe && (file.mode & FMODE_READ) === 0) return -ERRNO.EBADF
  if (iovIterCount(iter) === 0) return 0
  const pipe = getPipeInfo(file)
  if (pipe === null) return -ERRNO.EBADF
  return toPipe ? vmspliceToPipe(cpu, pipe, iter, flags) : vmspliceToUser(cpu, pipe, iter, flags)
}

/** Models `vmsplice_to_pipe`. O_NONBLOCK of the pipe does not matter here, only SPLICE_F_NONBLOCK does. */
function vmspliceToPipe(cpu: Cpu, pipe: Pipe, iter: IovIter, flags: number): number {
  const err = waitForSpace(pipe)
  return err < 0 ? err : iterToPipe(cpu, pipe, iter, (flags & SPLICE_F_GIFT) !== 0 ? PIPE_BUF_FLAG_GIFT : 0)
}

/** Models `iter_to_pipe` and `add_to_pipe` (fs/splice.c): a slot a page, until the pipe is full. */
function iterToPipe(cpu: Cpu, pipe: Pipe, iter: IovIter, flags: number): number {
  const { mem, pageSize, pieces } = pipe.vfs
  let total = 0
  pieces.reset(PINNED_PAGES)
  const { pfns } = pieces
  while (iovIterCount(iter) > 0) {
    let start = iterAddr(iter) & (pageSize - 1)
    const pinned = iovIterGetPages2(mem, iter, pfns, 0, iovIterCount(iter), PINNED_PAGES)
    if (pinned <= 0) return total > 0 ? total : -ERRNO.EFAULT
    const pages = Math.ceil((pinned + start) / pageSize)
    let left = pinned
    for (let i = 0; i < pages; i++) {
      const bytes = Math.min(left, pageSize - start)
      const err = pipe.readers === 0 ? -ERRNO.EPIPE : pipeIsFull(pipe) ? -ERRNO.EAGAIN : 0
      if (err < 0) {
        for (let rest = i; rest < pages; rest++) putPage(mem, cpu, pfns[rest]! as Pfn, 'iter_to_pipe')
        return total > 0 ? total : err
      }
      pipeBufAppend(pipe, pfns[i]! as Pfn, start, bytes, USER_PAGE_PIPE_BUF, flags)
      total += bytes
      left -= bytes
      start = 0
    }
  }
  return total
}

/** Models `vmsplice_to_user` with `pipe_to_user`: despite its name a copy. */
function vmspliceToUser(cpu: Cpu, pipe: Pipe, iter: IovIter, flags: number): number {
  const sd = new SpliceDesc(iovIterCount(iter), flags)
  return spliceFromPipe(cpu, pipe, sd, (on, from, buf, { len }) => {
    const copied = copyPageToIter(from.vfs.mem, on, bufPage(from, buf), bufOffset(from, buf), len, iter)
    return copied === len ? copied : -ERRNO.EFAULT
  })
}
