/** What `netmem explain` prints for people: each thing recognised, what it means, what to do; the worst marked. */
import type { Explanation } from '../explain/explain.js'
import type { Level } from '../explain/finding.js'
import { colors } from './colors.js'
import { plural, wrapped } from './format.js'

const WIDTH = 94
const marks: Readonly<Record<Level, string>> = {
  fine: colors.green('fine'),
  note: colors.cyan('note'),
  near: colors.yellow('near its limit'),
  over: colors.red('at or over a limit'),
  mistake: colors.red('mistake'),
}

export function explainText({ findings, lines, recognised }: Explanation): string {
  const blocks = findings.map(({ line, text, level, means, next }) => {
    const body = means.flatMap((words) => wrapped(words, WIDTH)).map((words) => `  ${words}`)
    const todo = next.flatMap((words) =>
      wrapped(words, WIDTH - 2).map((part, i) => `  ${i === 0 ? '→ ' : '  '}${part}`),
    )
    return [`${colors.dim(`${line}:`)} ${colors.bold(text.trim())}  [${marks[level]}]`, ...body, ...todo].join('\n')
  })
  const count = (level: Level): number => findings.filter((found) => found.level === level).length
  const verdict = [
    `${plural(recognised, 'line')} of ${lines} recognised`,
    ...(count('mistake') > 0 ? [colors.red(plural(count('mistake'), 'mistake'))] : []),
    ...(count('over') > 0 ? [colors.red(`${count('over')} at or over a limit`)] : []),
    ...(count('near') > 0 ? [colors.yellow(`${count('near')} near one`)] : []),
  ]
  return [...blocks, `${verdict.join(', ')}.`].join('\n\n')
}
