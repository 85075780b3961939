/** F_SETPIPE_SZ: another number of slots, within what the user and the machine allow. */
import { type Cpu, ERRNO, NULL } from '@netmem/base'
import { kfree } from '@netmem/memory'
import { CAP_SYS_RESOURCE, capable, type Task } from '@netmem/sockmem'
import { type Pipe, pipeOccupancy, pipeSlot } from './pipe.js'
import { allocSlots, pipeIsUnprivilegedUser, tooManyPipeBuffers } from './pipe-info.js'

export const F_SETPIPE_SZ = 1031
export const F_GETPIPE_SZ = 1032
const MAX_ROUNDED = 2 ** 31

/** Models `round_pipe_size` (fs/pipe.c): a power of two of at least a page. @returns bytes, 0 when beyond 2 GiB. */
export function roundPipeSize(bytes: number, pageSize: number): number {
  if (bytes > MAX_ROUNDED) return 0
  if (bytes < pageSize) return pageSize
  return 2 ** Math.ceil(Math.log2(bytes))
}

/** Models `pipe_fcntl`. @param arg of F_SETPIPE_SZ: an unsigned 32-bit number of bytes. @returns the capacity in bytes, or a negative errno. */
export function pipeFcntl(cpu: Cpu, task: Task, pipe: Pipe, cmd: number, arg: number): number {
  if (cmd === F_SETPIPE_SZ) return pipeSetSize(cpu, task, pipe, arg >>> 0)
  if (cmd === F_GETPIPE_SZ) return pipe.maxUsage * pipe.vfs.pageSize
  return -ERRNO.EINVAL
}

/**
 * Models `pipe_set_size` (fs/pipe.c).
 *
 * @returns bytes; -EINVAL beyond 2 GiB, -EPERM over a limit, -EBUSY when more slots are in use, -ENOMEM.
 */
export function pipeSetSize(cpu: Cpu, task: Task, pipe: Pipe, bytes: number): number {
  const { vfs, user } = pipe
  const size = roundPipeSize(bytes, vfs.pageSize)
  const slots = size / vfs.pageSize
  if (slots === 0) return -ERRNO.EINVAL
  // Growing is what the limits are for; a smaller pipe is always allowed.
  if (slots > pipe.maxUsage) {
    if (size > vfs.pipeMaxSize[0]! && !capable(task, CAP_SYS_RESOURCE)) return -ERRNO.EPERM
    const userBufs = user.pipeBufs - pipe.nrAccounted + slots
    const tooMany =
      tooManyPipeBuffers(userBufs, vfs.pipeUserPagesHard[0]!) || tooManyPipeBuffers(userBufs, vfs.pipeUserPagesSoft[0]!)
    if (tooMany && pipeIsUnprivilegedUser(task)) return -ERRNO.EPERM
  }
  const err = pipeResizeRing(cpu, pipe, slots)
  if (err < 0) return err
  user.pipeBufs += slots - pipe.nrAccounted
  pipe.maxUsage = slots
  pipe.nrAccounted = slots
  return size
}

/** Models `pipe_resize_ring` (fs/pipe.c): what is in the pipe moves to the front of a new ring. */
function pipeResizeRing(cpu: Cpu, pipe: Pipe, slots: number): number {
  const { vfs } = pipe
  const { i32 } = vfs.mem
  const bufs = allocSlots(vfs, cpu, slots, 'pipe_resize_ring')
  if (bufs === NULL) return -ERRNO.ENOMEM
  const used = pipeOccupancy(pipe)
  if (slots < used) {
    kfree(vfs.mem, cpu, bufs, 'pipe_resize_ring')
    return -ERRNO.EBUSY
  }
  const { words } = vfs.bufferLayout
  for (let i = 0; i < used; i++) {
    const from = pipeSlot(pipe, (pipe.tail + i) | 0)
    i32.copyWithin((bufs >>> 2) + i * words, from, from + words)
  }
  kfree(vfs.mem, cpu, pipe.bufs, 'pipe_resize_ring')
  pipe.bufs = bufs
  pipe.ringSize = slots
  pipe.tail = 0
  pipe.head = used
  return 0
}
