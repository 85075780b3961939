/**
 * What a verb's arguments must look like. Each verb names its arguments with one of these kinds, so that a
 * wrong trace is refused before anything runs, with the place and with what would be right.
 */
import { isJsonObject, type Json } from './json.js'

/** One kind of argument: what it must be, in words, and the test. `optional` ones may be absent. */
export interface ArgumentKind {
  readonly want: string
  readonly optional: boolean
  accepts(value: Json): boolean
}

/** A verb's arguments by name. */
export type ArgumentKinds = Readonly<Record<string, ArgumentKind>>

const kind = (want: string, accepts: (value: Json) => boolean): ArgumentKind => ({ want, optional: false, accepts })

const isText = (value: Json): value is string => typeof value === 'string'
const isInteger = (value: Json): value is number => Number.isSafeInteger(value)
const listOf = (accepts: (value: Json) => boolean) => (value: Json) => Array.isArray(value) && value.every(accepts)

/** The same kind, allowed to be absent. */
export const optional = (inner: ArgumentKind): ArgumentKind => ({ ...inner, optional: true })

export const name = kind('a non-empty text', (value) => isText(value) && value !== '')
export const text = kind('a text', isText)
export const integer = kind('an integer', isInteger)
/** A 64-bit number such as a file position; beyond 2^53 only what a double holds. */
export const position = kind('an integer', (value) => Number.isInteger(value))
export const size = kind('an integer of at least 0', (value) => isInteger(value) && value >= 0)
export const count = kind('an integer of at least 1', (value) => isInteger(value) && value >= 1)
export const flag = kind('true or false', (value) => typeof value === 'boolean')
export const hex = kind('bytes in hexadecimal', (value) => isText(value) && /^([0-9a-fA-F]{2})*$/.test(value))
export const names = kind('a list of texts', listOf(isText))
export const sizes = kind(
  'a list of integers of at least 0',
  listOf((value) => isInteger(value) && value >= 0),
)
export const integers = kind('a list of integers', listOf(isInteger))
export const integerLists = kind('a list of lists of integers', listOf(listOf(isInteger)))
export const flags = kind(
  'flag names joined by "|", a list of them, or a number',
  (value) => isText(value) || isInteger(value) || (Array.isArray(value) && value.every(isText)),
)
export const nameOrNumber = kind('a name or a number', (value) => isText(value) || isInteger(value))
export const textOrInteger = kind('a text or an integer', (value) => isText(value) || isInteger(value))
export const valueOrList = kind(
  'an integer or a list of integers',
  (value) => isInteger(value) || listOf(isInteger)(value),
)
export const switchValue = kind(
  'true, false, 0 or 1',
  (value) => typeof value === 'boolean' || value === 0 || value === 1,
)
export const object = kind('an object', isJsonObject)
export const address = kind(
  'an address and a port, as ["10.0.0.1", 7000]',
  (value) => Array.isArray(value) && value.length === 2 && isText(value[0]) && isInteger(value[1]),
)
export const frame = kind(
  'a frame: an object with "udp" or "raw" (bytes)',
  (value) => isJsonObject(value) && (isInteger(value.udp ?? null) || isInteger(value.raw ?? null)),
)
/** One of the given texts. */
export const oneOf = (...values: readonly string[]): ArgumentKind =>
  kind(values.map((value) => `"${value}"`).join(' or '), (value) => isText(value) && values.includes(value))
