/** Where a JSON text stops being JSON. Engines word their complaint differently; this finds the place itself. */
import { parseDocument } from 'yaml'

/** @returns `:line:column` of the first thing that is wrong, or nothing when only the end is missing. */
export function jsonPlace(text: string): string {
  const at = parseDocument(text, { prettyErrors: true, schema: 'json' }).errors[0]?.linePos?.[0]
  return at === undefined ? '' : `:${at.line}:${at.col}`
}
