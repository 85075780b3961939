/** `netmem fit`: how many messages a buffer holds, or which buffer holds so many. */
import { bufferFor, type FitQuestion, fitInto } from '../answers/fit.js'
import { pathOf } from '../answers/message-path.js'
import { EXIT_NO, InputError } from '../errors.js'
import { writeJson, writeText } from '../output.js'
import { byteSize, kernelOf, whole } from '../quantities.js'
import { fitText } from '../report/answers-text.js'

const MOST_BUFFER = 256 << 20

/** @throws InputError */
export function fitCommand(options: Record<string, unknown>): void {
  const name = String(options.path)
  const facts = pathOf(name)
  const messageBytes = whole('--len', String(options.len), 1, 1 << 20)
  if (messageBytes > facts.most)
    throw new InputError(`--len ${messageBytes}: a message on this path holds at most ${facts.most} bytes`)
  const own = facts.buffer === 'SO_RCVBUF' ? 'rcvbuf' : 'sndbuf'
  const other = own === 'rcvbuf' ? 'sndbuf' : 'rcvbuf'
  if (options[other] !== undefined)
    throw new InputError(`--${other}: what waits on this path is bounded by the other buffer, expected --${own}`)
  const profile = kernelOf(String(options.kernel))
  const wanted = options.count === undefined ? null : whole('--count', String(options.count), 1, 100_000)
  const question: FitQuestion = { name, profile, messageBytes, wanted }
  const given = options[own] === undefined ? null : byteSize(`--${own}`, String(options[own]), 1, MOST_BUFFER)
  const answer = wanted !== null && given === null ? bufferFor(question, wanted) : fitInto(question, given)
  if (options.json) writeJson(answer)
  else writeText(fitText(answer))
  if (wanted !== null && answer.fits < wanted) process.exitCode = EXIT_NO
}
