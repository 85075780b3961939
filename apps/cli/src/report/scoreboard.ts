/** What `netmem verify` prints for people: a scoreboard by kernel and family, then what differs. */
import type { TraceReport } from '@netmem/kernel-model'
import type { VerifyTotals } from '../commands/verify.js'
import { colors } from './colors.js'
import { columns, countText, percentText, plural } from './format.js'

/** @param diff lists every check that did not match; otherwise only the traces that have some. */
export function scoreboard(reports: readonly TraceReport[], totals: VerifyTotals, diff: boolean): string {
  const lines: string[] = []
  for (const profile of [...new Set(reports.map((report) => report.profile))].sort().reverse()) {
    const of = reports.filter((report) => report.profile === profile)
    const rows = [[colors.bold(profile), 'traces', 'checks', 'matched'].map((cell) => colors.bold(cell))]
    for (const family of [...new Set(of.map((report) => report.family))].sort())
      rows.push(
        familyRow(
          family,
          of.filter((report) => report.family === family),
        ),
      )
    lines.push(...columns(rows, [1, 2, 3]), '')
  }
  const differing = reports.filter((report) => report.matched !== report.checks)
  for (const report of differing) lines.push(...(diff ? differences(report) : [summary(report)]))
  if (differing.length > 0) lines.push('')
  const all = totals.matched === totals.checks
  const words = `${countText(totals.matched)} of ${plural(totals.checks, 'check')} match in ${plural(totals.traces, 'trace')}; ${plural(totals.tracesMatched, 'trace')} without a difference`
  lines.push(all ? colors.green(words) : colors.red(words))
  if (differing.length > 0 && !diff) lines.push(colors.dim('--diff lists every difference'))
  return lines.join('\n')
}

function familyRow(family: string, reports: readonly TraceReport[]): string[] {
  const checks = reports.reduce((sum, report) => sum + report.checks, 0)
  const matched = reports.reduce((sum, report) => sum + report.matched, 0)
  const good = reports.filter((report) => report.matched === report.checks).length
  const paint = matched === checks ? colors.green : colors.red
  return [`  ${family}`, `${good}/${reports.length}`, `${matched}/${checks}`, paint(percentText(matched, checks))]
}

function summary(report: TraceReport): string {
  const missing = report.unsupported.length === 0 ? '' : colors.dim(` (not modelled: ${report.unsupported.join(', ')})`)
  return `${colors.red('differs')} ${report.name}: ${report.checks - report.matched} of ${report.checks} checks${missing}`
}

function differences(report: TraceReport): string[] {
  return [
    summary(report),
    ...report.mismatches.map(
      ({ step, do: verb, key, expected, actual }) =>
        `    step ${step} ${verb}: ${key} is ${colors.red(shown(actual))}, the kernel says ${colors.green(shown(expected))}`,
    ),
  ]
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 300 ? `${text.slice(0, 297)}...` : text
}
