/**
 * Out of a pipe, slot by slot: what `splice_write` of devices, `vmsplice` to a user and the old way into sockets have
 * in common. An actor is offered one piece at a time and says how much of it it took.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { type Pipe, pipeIsEmpty, pipeSlot } from '../pipe/pipe.js'
import { bufConsume, bufLen, pipeBufRelease } from '../pipe/pipe-buffer.js'
import { SPLICE_F_NONBLOCK } from './splice-flags.js'

/** Models `struct splice_desc` for an actor. One per call. */
export class SpliceDesc {
  /** Bytes of the piece that is offered now. */
  len = 0
  numSpliced = 0

  constructor(
    /** Bytes still to be moved. */
    public totalLen: number,
    /** `SPLICE_F_*`. */
    public flags: number,
  ) {}
}

/** Models `splice_actor`. @returns bytes taken of `sd.len`, 0 to stop, or a negative errno. */
export type SpliceActor = (cpu: Cpu, pipe: Pipe, buf: number, sd: SpliceDesc) => number

/** Models `splice_from_pipe`, `__splice_from_pipe` (fs/splice.c). @returns bytes moved, 0 at the end of the pipe, or a negative errno. */
export function spliceFromPipe(cpu: Cpu, pipe: Pipe, sd: SpliceDesc, actor: SpliceActor): number {
  let ret = 0
  do {
    ret = spliceFromPipeNext(cpu, pipe, sd.numSpliced, sd.flags)
    if (ret > 0) ret = spliceFromPipeFeed(cpu, pipe, sd, actor)
  } while (ret > 0)
  return sd.numSpliced > 0 ? sd.numSpliced : ret
}

/** Models `splice_from_pipe_next`. @returns 1 when there is a piece, 0 when it is over, or -EAGAIN. */
export function spliceFromPipeNext(cpu: Cpu, pipe: Pipe, spliced: number, flags: number): number {
  while (!pipeIsEmpty(pipe)) {
    const buf = pipeSlot(pipe, pipe.tail)
    if (bufLen(pipe, buf) > 0) return 1
    pipeBufRelease(cpu, pipe, buf)
    pipe.tail = (pipe.tail + 1) | 0
  }
  if (pipe.writers === 0 || spliced > 0) return 0
  // Without SPLICE_F_NONBLOCK the kernel waits here; our tasks do not sleep within a call.
  void (flags & SPLICE_F_NONBLOCK)
  return -ERRNO.EAGAIN
}

/** Models `splice_from_pipe_feed` (fs/splice.c). @returns 1 to go on, 0 when all is moved, or what the actor said. */
function spliceFromPipeFeed(cpu: Cpu, pipe: Pipe, sd: SpliceDesc, actor: SpliceActor): number {
  while (!pipeIsEmpty(pipe)) {
    const buf = pipeSlot(pipe, pipe.tail)
    sd.len = Math.min(bufLen(pipe, buf), sd.totalLen)
    const ret = actor(cpu, pipe, buf, sd)
    if (ret <= 0) return ret
    bufConsume(pipe, buf, ret)
    sd.numSpliced += ret
    sd.totalLen -= ret
    if (bufLen(pipe, buf) === 0) {
      pipeBufRelease(cpu, pipe, buf)
      pipe.tail = (pipe.tail + 1) | 0
    }
    if (sd.totalLen === 0) return 0
  }
  return 1
}

/** Takes `bytes` off the front of a pipe and gives back the slots that are empty then. */
export function pipeConsume(cpu: Cpu, pipe: Pipe, bytes: number): void {
  let left = bytes
  while (left > 0) {
    const buf = pipeSlot(pipe, pipe.tail)
    const there = bufLen(pipe, buf)
    if (left < there) {
      bufConsume(pipe, buf, left)
      return
    }
    pipeBufRelease(cpu, pipe, buf)
    pipe.tail = (pipe.tail + 1) | 0
    left -= there
  }
}
