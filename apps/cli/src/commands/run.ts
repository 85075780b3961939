/** `netmem run`: performs a scenario's steps on the model and prints what the kernel would answer. */
import { readFileSync } from 'node:fs'
import { TraceFormatError } from '@netmem/kernel-model'
import { LineCounter, parseDocument } from 'yaml'
import { EXIT_NO, fileProblem, InputError, oneLine } from '../errors.js'
import { writeJson, writeText } from '../output.js'
import { answersText } from '../report/answers.js'
import { runScenario } from './scenario.js'

/** @throws InputError where the file is no scenario, with line and column. */
export async function runCommand(path: string, options: Record<string, unknown>): Promise<void> {
  const scenario = readScenario(path)
  const kernel = options.kernel as string | undefined
  const result = scenario.located(() => runScenario(scenario.json, scenario.name, kernel))
  if (options.json) writeJson({ schema: 'netmem-run/1', ...result })
  else writeText(answersText(result))
  if (result.steps.some((step) => step.mismatches.length > 0)) process.exitCode = EXIT_NO
}

export interface ScenarioFile {
  readonly name: string
  readonly json: unknown
  /** @returns `:line:column` of a place such as `steps[3].len`, or of the nearest thing around it. */
  place(where: string): string
  /** Runs `play`; what it finds wrong with the scenario gets its line and column. */
  located<T>(play: () => T): T
}

/** @throws InputError when the file is not there or is no YAML. */
export function readScenario(path: string): ScenarioFile {
  let text: string
  try {
    text = readFileSync(path === '-' ? 0 : path, 'utf8')
  } catch (error) {
    throw new InputError(`${path}: ${fileProblem(error)}`)
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const problem = document.errors[0]
  if (problem !== undefined) {
    const { line, col } = lines.linePos(problem.pos[0])
    throw new InputError(`${path}:${line}:${col}: not YAML: ${oneLine(problem.message)}`)
  }
  let json: unknown
  try {
    json = document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    throw new InputError(`${path}: ${oneLine((error as Error).message)}`)
  }
  const place = (where: string): string => {
    const keys = [...where.matchAll(/[^.[\]]+/g)].map(([key]) => (/^\d+$/.test(key) ? Number(key) : key))
    for (let depth = keys.length; depth >= 0; depth--) {
      const node = depth === 0 ? document.contents : document.getIn(keys.slice(0, depth), true)
      const range = (node as { range?: [number, number, number] } | null | undefined)?.range
      if (range === undefined || range === null) continue
      const { line, col } = lines.linePos(range[0])
      return `:${line}:${col}`
    }
    return ''
  }
  const name = path.replace(/^.*[/\\]/, '').replace(/\.[^.]*$/, '')
  const located = <T>(play: () => T): T => {
    try {
      return play()
    } catch (error) {
      if (error instanceof TraceFormatError) throw new InputError(`${path}${place(error.where)}: ${error.message}`)
      throw error
    }
  }
  return { name, json, place, located }
}
