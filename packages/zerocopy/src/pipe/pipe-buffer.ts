/**
 * One slot of a pipe: `struct pipe_buffer`, a reference to a piece of a page and what may be done with it. The slots
 * lie in modelled memory, with the kernel's layout; a slot is named by the index of its first word in `mem.i32`.
 */
import { assert, type Cpu, type KernelProfile, type Pfn } from '@netmem/base'
import { getPage, putPage } from '@netmem/memory'
import { type Pipe, pipeIsFull, pipeSlot } from './pipe.js'

/** Models `PIPE_BUF_FLAG_*` (include/linux/pipe_fs_i.h). */
export const PIPE_BUF_FLAG_LRU = 0x01
export const PIPE_BUF_FLAG_ATOMIC = 0x02
export const PIPE_BUF_FLAG_GIFT = 0x04
export const PIPE_BUF_FLAG_PACKET = 0x08
export const PIPE_BUF_FLAG_CAN_MERGE = 0x10
export const PIPE_BUF_FLAG_WHOLE = 0x20

/** Words of `struct pipe_buffer` from its start, and its size. */
export interface PipeBufferLayout {
  readonly bytes: number
  readonly words: number
}

const PAGE_WORD = 0
const OFFSET_WORD = 2
const LEN_WORD = 3
const OPS_WORD = 4
const FLAGS_WORD = 6

/** @throws RangeError when the profile's `struct pipe_buffer` is laid out otherwise. */
export function checkPipeBufferLayout(profile: KernelProfile): PipeBufferLayout {
  const layout = profile.structs.pipe_buffer
  const want: Record<string, number> = {
    page: PAGE_WORD * 4,
    offset: OFFSET_WORD * 4,
    len: LEN_WORD * 4,
    ops: OPS_WORD * 4,
    flags: FLAGS_WORD * 4,
  }
  for (const [member, offset] of Object.entries(want))
    if (layout?.offsets[member] !== offset)
      throw new RangeError(`profile ${profile.name}: structs.pipe_buffer.offsets.${member} must be ${offset}`)
  return { bytes: layout!.size, words: layout!.size / 4 }
}

// Members, by the slot's first word.
export const bufPage = (pipe: Pipe, buf: number): Pfn => pipe.vfs.mem.i32[buf + PAGE_WORD]! as Pfn
export const bufOffset = (pipe: Pipe, buf: number): number => pipe.vfs.mem.i32[buf + OFFSET_WORD]!
/** Bytes; more than a page when it came from a socket. */
export const bufLen = (pipe: Pipe, buf: number): number => pipe.vfs.mem.i32[buf + LEN_WORD]!
/** Which operations, 0 for a slot that holds nothing. */
export const bufOps = (pipe: Pipe, buf: number): number => pipe.vfs.mem.i32[buf + OPS_WORD]!
export const bufFlags = (pipe: Pipe, buf: number): number => pipe.vfs.mem.i32[buf + FLAGS_WORD]!
export const setBufLen = (pipe: Pipe, buf: number, bytes: number): void => {
  pipe.vfs.mem.i32[buf + LEN_WORD] = bytes
}
export const setBufFlags = (pipe: Pipe, buf: number, flags: number): void => {
  pipe.vfs.mem.i32[buf + FLAGS_WORD] = flags
}
/** Takes `bytes` off the front of a piece. */
export const bufConsume = (pipe: Pipe, buf: number, bytes: number): void => {
  const { i32 } = pipe.vfs.mem
  i32[buf + OFFSET_WORD]! += bytes
  i32[buf + LEN_WORD]! -= bytes
}
/** Models `buf->ops = NULL`: the reference went elsewhere. */
export const bufForget = (pipe: Pipe, buf: number): void => {
  pipe.vfs.mem.i32[buf + OPS_WORD] = 0
}

/** Copies a slot, of the same machine; the reference is the caller's business. */
export function bufCopy(pipe: Pipe, to: number, from: number): void {
  pipe.vfs.mem.i32.copyWithin(to, from, from + pipe.vfs.bufferLayout.words)
}

/** Models `struct pipe_buf_operations`. */
export interface PipeBufOperations {
  readonly name: string
  /** Gives the slot's reference back. */
  release(cpu: Cpu, pipe: Pipe, buf: number): void
  /** Makes the page the caller's own, to be put elsewhere without a copy. @returns whether it may. */
  trySteal(pipe: Pipe, buf: number): boolean
}

/** Models `generic_pipe_buf_release`. */
const release = (cpu: Cpu, pipe: Pipe, buf: number): void =>
  putPage(pipe.vfs.mem, cpu, bufPage(pipe, buf), 'generic_pipe_buf_release')

const onlyHolder = (pipe: Pipe, buf: number): boolean => {
  const { pages } = pipe.vfs.mem
  return pages.refcount[pages.head[bufPage(pipe, buf)]!] === 1
}

/** Models `anon_pipe_put_page`: the pipe keeps a page or two of its own for the next write. */
export function anonPipePutPage(cpu: Cpu, pipe: Pipe, pfn: Pfn): void {
  const { mem } = pipe.vfs
  if (mem.pages.refcount[pfn] === 1)
    for (let i = 0; i < pipe.tmpPage.length; i++)
      if (pipe.tmpPage[i] === 0) {
        pipe.tmpPage[i] = pfn
        return
      }
  putPage(mem, cpu, pfn, 'anon_pipe_buf_release')
}

export const ANON_PIPE_BUF = 1
export const PAGE_CACHE_PIPE_BUF = 2
export const DEFAULT_PIPE_BUF = 3
export const USER_PAGE_PIPE_BUF = 4
export const NOSTEAL_PIPE_BUF = 5
export const ZERO_PIPE_BUF = 6

const operations: readonly (PipeBufOperations | null)[] = [
  null,
  // Written by a program: the page is the pipe's.
  {
    name: 'anon_pipe_buf_ops',
    release: (cpu, pipe, buf) => anonPipePutPage(cpu, pipe, bufPage(pipe, buf)),
    trySteal: onlyHolder,
  },
  // Lent by the page cache, whose own reference keeps it from being stolen.
  { name: 'page_cache_pipe_buf_ops', release, trySteal: onlyHolder },
  // Read into fresh pages (copy_splice_read).
  { name: 'default_pipe_buf_ops', release, trySteal: onlyHolder },
  // A user's page: only a gift may be taken.
  {
    name: 'user_page_pipe_buf_ops',
    release,
    trySteal: (pipe, buf) => (bufFlags(pipe, buf) & PIPE_BUF_FLAG_GIFT) !== 0 && onlyHolder(pipe, buf),
  },
  // From a packet, whose other pieces share the page.
  { name: 'nosteal_pipe_buf_ops', release, trySteal: () => false },
  { name: 'zero_pipe_buf_ops', release, trySteal: () => false },
]

/** @returns the operations of a slot, which must hold something. */
export function pipeBufOps(pipe: Pipe, buf: number): PipeBufOperations {
  const ops = operations[bufOps(pipe, buf)]
  if (__ASSERT__) assert(ops != null, 'the pipe buffer holds nothing')
  return ops as PipeBufOperations
}

/** Models `pipe_buf_get`: one more reference. */
export const pipeBufGet = (pipe: Pipe, buf: number): void => getPage(pipe.vfs.mem, bufPage(pipe, buf))

/** Models `pipe_buf_release`. */
export function pipeBufRelease(cpu: Cpu, pipe: Pipe, buf: number): void {
  const ops = pipeBufOps(pipe, buf)
  ops.release(cpu, pipe, buf)
  bufForget(pipe, buf)
}

/** Models `pipe_buf_try_steal`. */
export const pipeBufTrySteal = (pipe: Pipe, buf: number): boolean => pipeBufOps(pipe, buf).trySteal(pipe, buf)

/** Fills the slot at the head, which must be free, and takes the caller's reference on the page. @returns the slot. */
export function pipeBufAppend(pipe: Pipe, pfn: Pfn, offset: number, bytes: number, ops: number, flags: number): number {
  if (__ASSERT__) assert(!pipeIsFull(pipe), 'pipe: no free slot')
  const { i32 } = pipe.vfs.mem
  const buf = pipeSlot(pipe, pipe.head)
  i32[buf + PAGE_WORD] = pfn
  i32[buf + OFFSET_WORD] = offset
  i32[buf + LEN_WORD] = bytes
  i32[buf + OPS_WORD] = ops
  i32[buf + FLAGS_WORD] = flags
  pipe.head = (pipe.head + 1) | 0
  return buf
}
