/** What `netmem size` prints for people: what to set first, then what it rests on. */
import type { Measured, SizeAnswer } from '../sizing/answer.js'
import { colors } from './colors.js'
import { bytesText, columns, countText, wrapped } from './format.js'

const value = ({ value: count, unit }: Measured): string =>
  unit === 'bytes' ? bytesText(count) : `${countText(count)} ${unit}`
const list = (lines: readonly string[]): string[] =>
  lines.flatMap((line) => wrapped(line, 92).map((part, i) => `${i === 0 ? '  - ' : '    '}${part}`))

export function sizeText(answer: SizeAnswer): string {
  return [
    `${answer.question}, ${answer.kernel}:`,
    '',
    ...answer.settings.map((line) => `  ${colors.bold(line)}`),
    ...(answer.problem === null
      ? []
      : wrapped(`This does not work: ${answer.problem}.`, 92).map((line) => `  ${colors.red(line)}`)),
    '',
    colors.bold('The model showed'),
    ...columns(
      answer.measured.map((row) => [`  ${row.name}`, value(row), colors.dim(row.about)]),
      [1],
    ),
    '',
    colors.bold('It was assumed that'),
    ...list(answer.assumptions),
    '',
    colors.bold('To check on a live machine'),
    ...list(answer.check),
  ].join('\n')
}
