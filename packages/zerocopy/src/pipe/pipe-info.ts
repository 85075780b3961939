/** The life of a pipe: made within its user's limits, and taken apart when both ends are closed. */
import { type Addr, type Cpu, NULL, type Pfn } from '@netmem/base'
import { kfree, kzalloc, putPage } from '@netmem/memory'
import { CAP_SYS_ADMIN, CAP_SYS_RESOURCE, capable, type Task } from '@netmem/sockmem'
import type { Vfs } from '../file/vfs.js'
import { Pipe, pipeSlot } from './pipe.js'
import { bufLen, bufOps, pipeBufRelease } from './pipe-buffer.js'

/** Models `PIPE_DEF_BUFFERS` and `PIPE_MIN_DEF_BUFFERS`: slots of a new pipe, and of one over the soft limit. */
export const PIPE_DEF_BUFFERS = 16
export const PIPE_MIN_DEF_BUFFERS = 2

/** Models `too_many_pipe_buffers_soft` and `too_many_pipe_buffers_hard`. @param limit 0 for none. */
export const tooManyPipeBuffers = (userBufs: number, limit: number): boolean => limit !== 0 && userBufs > limit

/** Models `pipe_is_unprivileged_user`. */
export const pipeIsUnprivilegedUser = (task: Task): boolean =>
  !capable(task, CAP_SYS_RESOURCE) && !capable(task, CAP_SYS_ADMIN)

/**
 * Models `alloc_pipe_info` (fs/pipe.c): a pipe of 16 slots, fewer for a user who has too many.
 *
 * @returns null without memory or over the user's hard limit. End it with `freePipeInfo`.
 */
export function allocPipeInfo(vfs: Vfs, cpu: Cpu, task: Task): Pipe | null {
  const { mem, pageSize } = vfs
  const addr = kzalloc(mem, cpu, vfs.pipeInodeBytes, mem.gfp.GFP_KERNEL_ACCOUNT, 'alloc_pipe_info')
  if (addr === NULL) return null
  const user = vfs.user(task.uid)
  let slots = PIPE_DEF_BUFFERS
  const maxSize = vfs.pipeMaxSize[0]!
  if (slots * pageSize > maxSize && !capable(task, CAP_SYS_RESOURCE)) slots = Math.floor(maxSize / pageSize)
  const unprivileged = pipeIsUnprivilegedUser(task)
  if (unprivileged && tooManyPipeBuffers(user.pipeBufs + slots, vfs.pipeUserPagesSoft[0]!)) slots = PIPE_MIN_DEF_BUFFERS
  if (unprivileged && tooManyPipeBuffers(user.pipeBufs + slots, vfs.pipeUserPagesHard[0]!)) {
    kfree(mem, cpu, addr, 'alloc_pipe_info')
    return null
  }
  const bufs = allocSlots(vfs, cpu, slots, 'alloc_pipe_info')
  if (bufs === NULL) {
    kfree(mem, cpu, addr, 'alloc_pipe_info')
    return null
  }
  const pipe = new Pipe(vfs, addr, user)
  pipe.bufs = bufs
  pipe.maxUsage = slots
  pipe.ringSize = slots
  pipe.nrAccounted = slots
  user.pipeBufs += slots
  vfs.pipes.add(pipe)
  return pipe
}

/** Models the `kcalloc` of a pipe's slots. */
export function allocSlots(vfs: Vfs, cpu: Cpu, slots: number, site: string): Addr {
  const { gfp } = vfs.mem
  const nowarn = site === 'pipe_resize_ring' ? gfp.NOWARN : 0
  return kzalloc(vfs.mem, cpu, slots * vfs.bufferLayout.bytes, gfp.GFP_KERNEL_ACCOUNT | nowarn, site)
}

/** Models `free_pipe_info` (fs/pipe.c): the slots' references, the spare pages and the user's charge go back. */
export function freePipeInfo(cpu: Cpu, pipe: Pipe): void {
  const { vfs } = pipe
  const { mem } = vfs
  pipe.user.pipeBufs -= pipe.nrAccounted
  for (let i = 0; i < pipe.ringSize; i++) {
    const buf = pipeSlot(pipe, i)
    if (bufOps(pipe, buf) !== 0) pipeBufRelease(cpu, pipe, buf)
  }
  for (let i = 0; i < pipe.tmpPage.length; i++) {
    const pfn = pipe.tmpPage[i]!
    if (pfn !== 0) putPage(mem, cpu, pfn as Pfn, 'free_pipe_info')
  }
  kfree(mem, cpu, pipe.bufs, 'free_pipe_info')
  kfree(mem, cpu, pipe.addr, 'free_pipe_info')
  vfs.pipes.delete(pipe)
}

/** Models `FIONREAD` of `pipe_ioctl`: bytes in the pipe. */
export function pipeBytes(pipe: Pipe): number {
  let bytes = 0
  for (let at = pipe.tail; at !== pipe.head; at = (at + 1) | 0) bytes += bufLen(pipe, pipeSlot(pipe, at))
  return bytes
}
