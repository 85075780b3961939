/** What `netmem tune` prints: each proposal with its reason and its cost, a diff, and the file for sysctl.d. */
import type { WriteResult } from '../tune/apply.js'
import type { MachineSigns } from '../tune/machine-signs.js'
import type { Proposal } from '../tune/proposals.js'
import { colors } from './colors.js'
import { columns, memoryText, plural, wrapped } from './format.js'

const indented = (mark: string, words: string): string[] =>
  wrapped(words, 84).map((line, i) => `    ${i === 0 ? mark : ' '.repeat(mark.length)}${line}`)

export function tuneText(signs: MachineSigns, proposals: readonly Proposal[]): string {
  const machine = `This machine: Linux ${signs.release}, ${memoryText(signs.memoryBytes)}, ${plural(signs.cpus, 'processor')}.`
  if (proposals.length === 0)
    return `${machine}\n\nNo counter shows that network memory was short, and no setting is a mistake: nothing to change.`
  const lines = [machine, '']
  for (const { name, current, proposed, reason, cost } of proposals)
    lines.push(
      `  ${colors.bold(name)}  ${current} → ${colors.bold(proposed)}`,
      ...indented('because ', reason),
      ...indented('can cost ', cost),
      '',
    )
  lines.push(
    ...proposals.flatMap(({ name, current, proposed }) => [
      colors.red(`-${name} = ${current}`),
      colors.green(`+${name} = ${proposed}`),
    ]),
    '',
    colors.dim('Nothing was written. --out FILE writes a file for /etc/sysctl.d, --apply sets them now (as root).'),
  )
  return lines.join('\n')
}

/** The text of a file for /etc/sysctl.d. */
export const settingsFile = (proposals: readonly Proposal[]): string =>
  proposals
    .map(({ name, current, proposed, reason, cost }) =>
      [...wrapped(`${reason}.`, 100), ...wrapped(`It was ${current}. It can cost: ${cost}.`, 100)]
        .map((line) => `# ${line}`)
        .concat(`${name} = ${proposed}\n`)
        .join('\n'),
    )
    .join('\n')

/** @param state where the old values are, null after they were restored. */
export function writesText(writes: readonly WriteResult[], state: string | null): string {
  const refused = writes.find(({ problem }) => problem !== null)
  const rows = writes.map(({ name, value, problem }) => [
    `  ${name}`,
    value,
    problem === null ? colors.green('verified') : colors.red(problem),
  ])
  const end =
    state === null
      ? refused === undefined
        ? 'All of it is as it was.'
        : 'Not all of it could be restored; what was saved is kept.'
      : refused === undefined
        ? `Set and read back. "netmem tune --rollback" restores what was there (${state}).`
        : 'One was refused: those before it were undone.'
  return [...columns(rows, []), '', end].join('\n')
}
