/**
 * A trace as a document: what it must contain, checked whole before anything plays. Messages say where (the
 * path in the document and the step), what is wrong, and what would be right.
 */
import { kernelProfiles } from '@netmem/base'
import type { ArgumentKinds } from './arguments.js'
import { isJsonObject, type Json, type JsonObject, showJson } from './json.js'
import { allocOperations, dialectOf, verbArguments } from './verbs.js'

/** One step: a verb, its arguments beside it, and what the real kernel answered. */
export interface TraceStep {
  readonly do: string
  readonly expect: JsonObject
  readonly args: JsonObject
}

/** One scenario that was run on a real kernel. Integers are exact; `sysctl` values are text, set in this order. */
export interface TraceDocument {
  readonly name: string
  readonly family: string
  readonly about: string
  /** Name of the kernel's profile. */
  readonly profile: string
  readonly sysctl: Readonly<Record<string, string>>
  readonly steps: readonly TraceStep[]
}

export interface ParseTraceOptions {
  /** Refuse arguments that the verb does not take: for scenarios, where they are typing errors. */
  readonly strict?: boolean
}

/** The document is not a trace. `where` is the path in it, such as `steps[3].len`. */
export class TraceFormatError extends Error {
  override readonly name = 'TraceFormatError'
  constructor(
    readonly where: string,
    readonly problem: string,
  ) {
    super(`${where}: ${problem}`)
  }
}

function fail(where: string, want: string, got: unknown): never {
  throw new TraceFormatError(where, `expected ${want}, got ${showJson(got)}`)
}

function textMember(json: JsonObject, key: string): string {
  const value = json[key]
  if (typeof value !== 'string' || value === '') fail(key, 'a non-empty text', value)
  return value
}

function checkArguments(where: string, verb: string, args: JsonObject, kinds: ArgumentKinds, strict: boolean): void {
  for (const [key, kind] of Object.entries(kinds)) {
    const value = args[key]
    if (value === undefined || (value === null && kind.optional)) {
      if (!kind.optional) throw new TraceFormatError(`${where}.${key}`, `"${verb}" needs it: ${kind.want}`)
    } else if (!kind.accepts(value)) fail(`${where}.${key}`, kind.want, value)
  }
  if (!strict) return
  for (const key of Object.keys(args))
    if (!Object.hasOwn(kinds, key)) {
      const takes = Object.keys(kinds)
      const list = takes.length === 0 ? 'no arguments' : takes.join(', ')
      throw new TraceFormatError(`${where}.${key}`, `"${verb}" takes ${list}`)
    }
}

function checkOperation(where: string, op: Json, strict: boolean): void {
  if (!isJsonObject(op)) fail(where, 'an operation: an object with "do"', op)
  const { do: verb, ...args } = op
  if (typeof verb !== 'string') fail(`${where}.do`, 'the name of an operation', verb)
  const kinds = allocOperations[verb]
  // An operation that is not known is reported by the player, as a verb that is not known is.
  if (kinds === undefined) return
  checkArguments(where, verb, args, kinds, strict)
  if (verb === 'repeat')
    (args.ops as readonly Json[]).forEach((inner, index) => {
      checkOperation(`${where}.ops[${index}]`, inner, strict)
    })
}

/**
 * Checks a parsed JSON document and returns it as a trace. `expect` may be absent (a scenario has none).
 *
 * @throws TraceFormatError at the first thing that is wrong.
 */
export function parseTrace(json: unknown, options: ParseTraceOptions = {}): TraceDocument {
  if (!isJsonObject(json)) fail('document', 'an object with "schema", "name", "family", "profile" and "steps"', json)
  const strict = options.strict ?? false
  if (json.schema !== 'netmem-trace/1') fail('schema', '"netmem-trace/1"', json.schema)
  const name = textMember(json, 'name')
  const family = textMember(json, 'family')
  const profile = textMember(json, 'profile')
  if (!Object.hasOwn(kernelProfiles, profile))
    fail('profile', `one of ${Object.keys(kernelProfiles).join(', ')}`, profile)
  const about = json.about ?? ''
  if (typeof about !== 'string') fail('about', 'a text', about)
  const sysctl = json.sysctl ?? {}
  if (!isJsonObject(sysctl)) fail('sysctl', 'an object of texts', sysctl)
  for (const [key, value] of Object.entries(sysctl))
    if (typeof value !== 'string') fail(`sysctl["${key}"]`, 'a text, as written to /proc/sys', value)
  const list = json.steps
  if (!Array.isArray(list)) fail('steps', 'a list of steps', list)
  const dialect = dialectOf(family)
  const steps = list.map((step: Json, index): TraceStep => {
    const where = `steps[${index}]`
    if (!isJsonObject(step)) fail(where, 'an object with "do"', step)
    const { do: verb, expect = {}, ...args } = step
    if (typeof verb !== 'string' || verb === '') fail(`${where}.do`, 'the name of a verb', verb)
    if (!isJsonObject(expect)) fail(`${where}.expect`, 'an object', expect)
    const kinds = verbArguments(dialect, verb)
    if (kinds !== undefined) {
      checkArguments(where, verb, args, kinds, strict)
      if (kinds.op !== undefined) checkOperation(`${where}.op`, args.op as Json, strict)
    }
    return { do: verb, expect, args }
  })
  // Frozen: that is how \`playTrace\` knows a document that was checked from JSON that was not.
  return Object.freeze({ name, family, about, profile, sysctl: sysctl as Readonly<Record<string, string>>, steps })
}
