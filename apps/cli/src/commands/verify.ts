/** `netmem verify`: plays traces of a real kernel on the model and compares, key by key. */
import crypto from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { playTrace, TraceFormatError, type TraceReport, tlsCryptoFromNode } from '@netmem/kernel-model'
import { EXIT_NO, fileProblem, InputError, oneLine } from '../errors.js'
import { writeJson, writeText } from '../output.js'
import { scoreboard } from '../report/scoreboard.js'
import { jsonPlace } from './json-place.js'

export interface VerifyTotals {
  readonly traces: number
  readonly tracesMatched: number
  readonly checks: number
  readonly matched: number
}

/** @throws InputError when a path is missing, a folder holds no trace, or a file is not a trace. */
export async function verifyCommand(paths: readonly string[], options: Record<string, unknown>): Promise<void> {
  const files = paths.flatMap(traceFiles)
  const progress = progressLine(files.length)
  const reports: TraceReport[] = []
  try {
    for (const [index, file] of files.entries()) {
      progress.show(index, basename(file))
      reports.push(play(file))
    }
  } finally {
    progress.clear()
  }
  const totals = totalsOf(reports)
  if (options.json) writeJson({ schema: 'netmem-verify/1', traces: reports, totals })
  else writeText(scoreboard(reports, totals, options.diff === true))
  if (totals.matched !== totals.checks) process.exitCode = EXIT_NO
}

function totalsOf(reports: readonly TraceReport[]): VerifyTotals {
  const sum = (of: (report: TraceReport) => number): number => reports.reduce((total, report) => total + of(report), 0)
  return {
    traces: reports.length,
    tracesMatched: reports.filter((report) => report.matched === report.checks).length,
    checks: sum((report) => report.checks),
    matched: sum((report) => report.matched),
  }
}

/** A folder stands for the *.json files in it and below it, in order of name. */
function traceFiles(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path]
    const found = readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.json'))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
    if (found.length === 0) throw new InputError(`${path}: no *.json files in this folder, expected traces`)
    return found
  } catch (error) {
    if (error instanceof InputError) throw error
    throw new InputError(`${path}: ${fileProblem(error)}`)
  }
}

function play(file: string): TraceReport {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new InputError(`${file}: ${fileProblem(error)}`)
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new InputError(`${file}${jsonPlace(text)}: not JSON (${oneLine((error as Error).message)}), expected a trace`)
  }
  try {
    return playTrace(json, { crypto: tlsCryptoFromNode(crypto) })
  } catch (error) {
    if (error instanceof TraceFormatError) throw new InputError(`${file}: ${error.message}`)
    throw error
  }
}

/** Which trace is playing, on a terminal only. */
function progressLine(count: number): { show(index: number, name: string): void; clear(): void } {
  const { stderr } = process
  if (!stderr.isTTY) return { show: () => {}, clear: () => {} }
  return {
    show: (index, name) => stderr.write(`\r\u001b[K${index + 1}/${count} ${name}`),
    clear: () => stderr.write('\r\u001b[K'),
  }
}
