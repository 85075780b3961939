/** What `netmem run` prints for people: one line per step, the verb with its arguments, then the answer. */

import type { ScenarioResult } from '../commands/scenario.js'
import { colors } from './colors.js'
import { padStart } from './format.js'

export function answersText(result: ScenarioResult): string {
  const lines = [`${colors.bold(result.name)} on ${result.profile}`, '']
  const width = String(result.steps.length).length
  for (const step of result.steps) {
    const number = colors.dim(padStart(String(step.step), width))
    const args = Object.entries(step.args).map(([key, value]) => `${key}=${plain(value)}`)
    const words = [colors.bold(step.do), ...args].join(' ')
    lines.push(
      `${number} ${words} ${colors.dim('→')} ${step.error === null ? answer(step.answer) : colors.red(step.error)}`,
    )
    for (const { key, expected, actual } of step.mismatches)
      lines.push(
        `${' '.repeat(width)} ${colors.red('differs')} ${key}: expected ${plain(expected)}, got ${plain(actual)}`,
      )
  }
  return lines.join('\n')
}

function answer(value: Readonly<Record<string, unknown>>): string {
  const entries = Object.entries(value)
  if (entries.length === 0) return 'done'
  return entries.map(([key, v]) => `${key}=${colors.cyan(plain(v))}`).join(' ')
}

const plain = (value: unknown): string =>
  typeof value === 'string' && !/\s/.test(value) ? value : (JSON.stringify(value) ?? 'nothing')
