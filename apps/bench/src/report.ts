/** What is printed: a table for people, or one JSON document (`netmem-bench/1`). */
import type { Goal } from './goals.js'
import { median } from './harness.js'

export interface Result {
  goal: Goal
  ours: number[]
  oursMin: number
  peer: number[]
  /** Why there is no peer figure. */
  missing?: string
}

export function ratioOf({ goal, ours, peer }: Result): number | null {
  if (goal.ratio === undefined || peer.length === 0) return null
  const [a, b] = [median(ours), median(peer)]
  return goal.ratio === 'ours/peer' ? a / b : b / a
}

export function reached(result: Result): boolean | null {
  const value = result.goal.ratio === undefined ? median(result.ours) : ratioOf(result)
  if (value === null) return null
  return 'most' in result.goal.goal ? value <= result.goal.goal.most : value >= result.goal.goal.least
}

const round = (value: number | null, digits = 2): number | null =>
  value === null || Number.isNaN(value) ? null : Number(value.toFixed(digits))

export function asJson(results: Result[], environment: Record<string, string | number>): string {
  return `${JSON.stringify(
    {
      schema: 'netmem-bench/1',
      environment,
      results: results.map((result) => ({
        id: result.goal.id,
        name: result.goal.name,
        unit: result.goal.unit,
        median: round(median(result.ours)),
        min: round(result.oursMin),
        rounds: result.ours.length,
        peer: result.goal.peer ?? null,
        peerMedian: result.peer.length > 0 ? round(median(result.peer)) : null,
        ...(result.missing === undefined ? {} : { peerMissing: result.missing }),
        ratio: round(ratioOf(result)),
        goal: result.goal.goal,
        reached: reached(result),
      })),
    },
    null,
    2,
  )}\n`
}

export function asTable(results: Result[]): string {
  const rows = results.map((result) => {
    const ratio = ratioOf(result)
    const limit = 'most' in result.goal.goal ? `<= ${result.goal.goal.most}` : `>= ${result.goal.goal.least}`
    const state = reached(result)
    return [
      result.goal.id,
      result.goal.name,
      `${median(result.ours).toFixed(2)} ${result.goal.unit}`,
      result.peer.length > 0
        ? `${median(result.peer).toFixed(2)} ${result.goal.peer}`
        : result.goal.peer === undefined
          ? '-'
          : `missing: ${result.missing}`,
      ratio === null ? '-' : ratio.toFixed(2),
      limit,
      state === null ? '' : state ? 'reached' : 'MISSED',
    ]
  })
  const head = ['goal', 'what', 'netmem (median)', 'peer (median)', 'ratio', 'wanted', '']
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
