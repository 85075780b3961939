/** How many messages a buffer holds, and which buffer holds so many: found by filling it on the model. */
import type { KernelProfile } from '@netmem/base'
import { InputError } from '../errors.js'
import { type MessagePath, openPath, type PathFacts, pathOf, WINDOW_CLOSED } from './message-path.js'

export interface FitQuestion {
  /** The path's name. */
  readonly name: string
  readonly profile: KernelProfile
  readonly messageBytes: number
  /** How many should fit, if that was asked. */
  readonly wanted: number | null
}

export interface FitAnswer {
  readonly schema: 'netmem-fit/1'
  readonly path: string
  readonly kernel: string
  readonly buffer: 'SO_RCVBUF' | 'SO_SNDBUF'
  /** The buffer in force (`rb` or `tb` of `ss -m`), in bytes. */
  readonly bufferBytes: number
  readonly messageBytes: number
  /** Messages that wait unread before the next is refused. */
  readonly fits: number
  readonly payloadBytes: number
  /** What the socket was charged for them; the last one may go over the limit. */
  readonly chargedBytes: number
  /** How the message after them ended; empty where nothing more was sent. */
  readonly refusal: string
  /** What was asked for, if anything, and whether it fits. */
  readonly wanted: number | null
}

/** Filling takes real time; nobody queues more than this in one socket. */
const MOST_MESSAGES = 1_000_000
/** Larger buffers cannot be asked for: the kernel counts them in signed words. */
const MOST_BUFFER = 0x3fffffff

interface Filled {
  readonly fits: number
  readonly charged: number
  readonly refusal: string
}

/** Fills an empty path until a message is refused, or until so many wait. */
function fill(path: MessagePath, messageBytes: number, most: number): Filled {
  let fits = 0
  while (fits < most) {
    const outcome = path.send(messageBytes)
    if (!outcome.sent) return { fits, charged: path.charged(), refusal: outcome.why }
    fits += 1
  }
  return { fits, charged: path.charged(), refusal: '' }
}

const FULL = ['dropped', 'EAGAIN', WINDOW_CLOSED]

/** @param bufferBytes the buffer in force; null is the kernel's default. @throws InputError */
export function fitInto(question: FitQuestion, bufferBytes: number | null): FitAnswer {
  const { name, profile, messageBytes } = question
  const facts = pathOf(name)
  const path = openPath(facts, profile, bufferBytes)
  const filled = fill(path, messageBytes, MOST_MESSAGES)
  if (filled.refusal === '')
    throw new InputError(`a buffer that holds more than ${MOST_MESSAGES} messages: give a smaller one`)
  if (!FULL.includes(filled.refusal))
    throw new InputError(`${messageBytes} bytes: not taken by this path: ${filled.refusal}`)
  return answer(question, bufferOf(path, facts), filled)
}

const bufferOf = ({ payer }: MessagePath, { buffer }: PathFacts): number =>
  buffer === 'SO_RCVBUF' ? payer.rcvbuf : payer.sndbuf

function answer(question: FitQuestion, bufferBytes: number, { fits, charged, refusal }: Filled): FitAnswer {
  return {
    schema: 'netmem-fit/1',
    path: question.name,
    kernel: question.profile.name,
    buffer: pathOf(question.name).buffer,
    bufferBytes,
    messageBytes: question.messageBytes,
    fits,
    payloadBytes: fits * question.messageBytes,
    chargedBytes: charged,
    refusal,
    wanted: question.wanted,
  }
}

/** The smallest buffer that holds `wanted` messages: found by halving, to the byte (for TCP to a hundredth). */
export function bufferFor(question: FitQuestion, wanted: number): FitAnswer {
  const { name, profile, messageBytes } = question
  const facts = pathOf(name)
  const least = (
    facts.buffer === 'SO_RCVBUF' ? profile.derived.SOCK_MIN_RCVBUF : profile.derived.SOCK_MIN_SNDBUF
  ) as number
  const path = openPath(facts, profile, null)
  const anew = facts.remembers
  const tryWith = (bytes: number): { bufferBytes: number; filled: Filled } => {
    const tried = anew ? openPath(facts, profile, bytes) : path
    if (!anew) {
      path.drain()
      if (facts.buffer === 'SO_RCVBUF') path.payer.rcvbuf = bytes
      else path.payer.sndbuf = bytes
    }
    return { bufferBytes: bytes, filled: fill(tried, messageBytes, wanted) }
  }
  let low = least
  let high = least
  let best = tryWith(high)
  while (best.filled.fits < wanted) {
    low = high
    high *= 2
    if (!FULL.includes(best.filled.refusal))
      throw new InputError(`${messageBytes} bytes: not taken by this path: ${best.filled.refusal}`)
    if (high > MOST_BUFFER) throw new InputError(`${wanted} messages of ${messageBytes} bytes: no buffer holds so much`)
    best = tryWith(high)
  }
  while (high - low > (name === 'tcp' ? high / 100 : 1)) {
    const middle = (low + high) >>> 1
    const tried = tryWith(middle)
    if (tried.filled.fits >= wanted) {
      high = middle
      best = tried
    } else low = middle
  }
  return answer(question, best.bufferBytes, best.filled)
}
