/**
 * Pipes: a ring of slots, each a reference to a piece of a page. A pipe holds slots, not bytes: sixteen single bytes
 * from sixteen splices fill one.
 *
 * Invariants: `head - tail` slots hold something, at most `maxUsage`; each holds one reference on its page; the sum of
 * `nrAccounted` over a user's pipes is `user.pipeBufs`.
 */
import { type Addr, ERRNO, NULL } from '@netmem/base'
import type { UserStruct, Vfs } from '../file/vfs.js'

/** Models `struct pipe_inode_info`. */
export class Pipe {
  /** Models `bufs`: address of the slots. */
  bufs: Addr = NULL
  /** Free-running; a slot is its number modulo `ringSize`. */
  head = 0
  tail = 0
  /** Slots that may be filled, and slots that there are (a power of two). */
  maxUsage = 0
  ringSize = 0
  /** Models `nr_accounted`: slots charged to the user. */
  nrAccounted = 0
  /** Ends open for reading, for writing, and in all. */
  readers = 0
  writers = 0
  files = 0
  /** Models `tmp_page`: pages kept for the next write, 0 for none. */
  readonly tmpPage: Int32Array

  constructor(
    readonly vfs: Vfs,
    /** Address of the object itself. */
    readonly addr: Addr,
    readonly user: UserStruct,
  ) {
    this.tmpPage = new Int32Array(vfs.pipeSparePages)
  }
}

/** Models `pipe_occupancy`: slots that hold something. */
export const pipeOccupancy = (pipe: Pipe): number => (pipe.head - pipe.tail) >>> 0
/** Models `pipe_is_empty`. */
export const pipeIsEmpty = (pipe: Pipe): boolean => pipe.head === pipe.tail
/** Models `pipe_is_full`. */
export const pipeIsFull = (pipe: Pipe): boolean => pipeOccupancy(pipe) >= pipe.maxUsage
/** Models `pipe_buf`: the first word of the slot that a head or tail number names. */
export const pipeSlot = (pipe: Pipe, number: number): number =>
  (pipe.bufs >>> 2) + (number & (pipe.ringSize - 1)) * pipe.vfs.bufferLayout.words

/** @returns 0 when a slot is free. Models `wait_for_space` (fs/splice.c) and `opipe_prep` for a caller that does not sleep. */
export function waitForSpace(pipe: Pipe): number {
  if (pipe.readers === 0) return -ERRNO.EPIPE
  return pipeIsFull(pipe) ? -ERRNO.EAGAIN : 0
}
