/** What `netmem diff` prints for people: what was set differently, then what came of it. Equal quantities are left out. */
import type { DiffAnswer, DiffRow, Unit } from '../answers/diff.js'
import { colors } from './colors.js'
import { bytesText, columns, countText, plural } from './format.js'

const show = (value: number | null, unit: Unit): string => {
  if (value === null) return '–'
  if (unit === 'bytes') return bytesText(value)
  return unit === 'percent' ? `${value.toFixed(1)} %` : countText(value)
}

function change({ a, b, unit }: DiffRow): string {
  if (a === null || b === null) return a === null ? 'new' : 'gone'
  if (unit === 'percent') return `${b > a ? '+' : ''}${(b - a).toFixed(1)} points`
  if (a === 0) return `+${show(b, unit)}`
  const factor = b / a
  return factor >= 2
    ? `${factor.toFixed(factor < 10 ? 1 : 0)} times`
    : `${factor > 1 ? '+' : ''}${(100 * (factor - 1)).toFixed(1)} %`
}

export function diffText(names: readonly [string, string], { settings, rows }: DiffAnswer): string {
  const lines: string[] = []
  if (settings.length > 0) {
    const table = settings.map(({ name, a, b }) => [`  ${name}`, a, b])
    lines.push(...columns([[colors.bold('Set'), colors.dim(names[0]), colors.dim(names[1])], ...table]), '')
  }
  const differing = rows.filter(({ a, b }) => a !== b)
  for (const group of [...new Set(differing.map((row) => row.group))]) {
    const table = differing
      .filter((row) => row.group === group)
      .map((row) => [`  ${row.name}`, show(row.a, row.unit), show(row.b, row.unit), change(row)])
    lines.push(
      ...columns([[colors.bold(group), colors.dim(names[0]), colors.dim(names[1]), ''], ...table], [1, 2, 3]),
      '',
    )
  }
  const equal = rows.length - differing.length
  lines.push(
    differing.length === 0
      ? 'Nothing differs.'
      : `${plural(differing.length, 'quantity', 'quantities')} differ, ${countText(equal)} are equal.`,
  )
  return lines.join('\n')
}
