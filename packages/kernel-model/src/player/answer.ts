/**
 * What a verb answers, in the words of a trace: `ret` for what succeeded, `errno` by its symbolic name for
 * what did not, and whatever else the verb reads.
 */
import { ERRNO, errnoName } from '@netmem/base'
import type { Json } from '../trace/json.js'

/** One step's answer: compared key by key with the step's `expect`. */
export type Answer = { [key: string]: Json }

/** Thrown by a handler that knows its verb but not this use of it: the subsystem is not built. */
export class UnsupportedVerb extends Error {
  override readonly name = 'UnsupportedVerb'
}

/** The step cannot be performed on this machine: an id, device or option that does not exist. */
export class StepError extends Error {
  override readonly name = 'StepError'
}

/** @param ret what the call returned: a number, or a negative errno. */
export const retAnswer = (ret: number): Answer => (ret < 0 ? { errno: errnoName(ret) } : { ret })

/** The same where success is always reported as 0. */
export const zeroAnswer = (ret: number): Answer => (ret < 0 ? { errno: errnoName(ret) } : { ret: 0 })

/** @returns the errno's name as the ring traces write it: 95 is EOPNOTSUPP there. */
export const ringErrnoName = (ret: number): string => (-ret === ERRNO.ENOTSUP ? 'EOPNOTSUPP' : errnoName(ret))

/** The answer of a call that was made up to `limit` times. */
export function repeatedAnswer(limit: number, stopAtEof: boolean, call: () => number): Answer {
  let calls = 0
  let bytes = 0
  while (calls < limit) {
    const ret = call()
    if (ret < 0) return { calls, bytes, errno: errnoName(ret) }
    if (ret === 0 && stopAtEof) return { calls, bytes, eof: true }
    calls += 1
    bytes += ret
  }
  return { calls, bytes }
}
