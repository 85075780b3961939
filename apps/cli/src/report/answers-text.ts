/** What `netmem truesize` and `netmem fit` print for people: the answer first, then the sum behind it. */
import type { FitAnswer } from '../answers/fit.js'
import { pathOf } from '../answers/message-path.js'
import type { TruesizeAnswer } from '../answers/truesize.js'
import { colors } from './colors.js'
import { columns, countText, percentText, plural, wrapped } from './format.js'

const bytes = (count: number): string => `${countText(count)} B`
const note = (words: string): string[] => wrapped(words, 94).map((line) => colors.dim(line))

export function truesizeText(answer: TruesizeAnswer): string {
  const { about, buffer } = pathOf(answer.path)
  const payer = buffer === 'SO_RCVBUF' ? 'receiver' : 'sender'
  const rows = answer.parts.map((part) => ['', bytes(part.bytes), part.name, colors.dim(part.about)])
  const field = buffer === 'SO_RCVBUF' ? 'r' : 'w'
  return [
    `${bytes(answer.payload)} of payload cost the ${payer} ${colors.bold(bytes(answer.truesize))} ` +
      `(${percentText(answer.payload, answer.truesize)} of it payload): ${about}, ${answer.kernel}.`,
    '',
    ...columns([...rows, ['=', bytes(answer.truesize), 'truesize', plural(answer.buffers, 'packet buffer')]], [1]),
    '',
    ...note(
      `To check on a live machine: send one such message, do not read it, and look at "${field}" in the skmem:(...) ` +
        `of "ss -${answer.path.startsWith('unix') ? 'x' : answer.path === 'tcp' ? 't' : 'u'}am".`,
    ),
  ].join('\n')
}

export function fitText(answer: FitAnswer): string {
  const { about, buffer, stream } = pathOf(answer.path)
  const [word, ssField] = buffer === 'SO_RCVBUF' ? ['receive', 'rb'] : ['send', 'tb']
  const unit = stream ? 'write' : 'datagram'
  const which = `a ${word} buffer of ${bytes(answer.bufferBytes)}`
  const head =
    answer.wanted !== null && answer.refusal === ''
      ? `${plural(answer.wanted, unit)} of ${bytes(answer.messageBytes)} need ${colors.bold(which)}`
      : `${colors.bold(plural(answer.fits, unit))} of ${bytes(answer.messageBytes)} fit ${which}`
  const limit = buffer === 'SO_RCVBUF' ? 'net.core.rmem_max' : 'net.core.wmem_max'
  const rows = [
    ['payload', bytes(answer.payloadBytes), percentText(answer.payloadBytes, answer.bufferBytes)],
    ['charged', bytes(answer.chargedBytes), percentText(answer.chargedBytes, answer.bufferBytes)],
  ]
  if (answer.refusal !== '') rows.push(['the next', answer.refusal, ''])
  const lines = [`${head}: ${about}, ${answer.kernel}.`, '', ...columns(rows, [1, 2]), '']
  const half = Math.ceil(answer.bufferBytes / 2)
  lines.push(
    ...note(
      `To have that buffer: setsockopt(${buffer}, ${half}), which the kernel doubles, with ${limit} at ${half} or more. ` +
        `To check on a live machine: "${ssField}" in the skmem:(...) of "ss -m" is the buffer in force.`,
    ),
  )
  if (answer.path === 'tcp')
    lines.push(
      ...note('A TCP receiver advertises only a part of its buffer as window, the rest pays for packet overhead.'),
    )
  return lines.join('\n')
}
