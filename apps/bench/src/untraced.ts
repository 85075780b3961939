/**
 * The same benchmarks in a bundle that knows no tracepoints: what goal G14 compares with. Every test of a tracepoint
 * becomes `false`, so the engine drops the test and the call behind it.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Names such a case: `untraced:rx.64`. */
export const UNTRACED = 'untraced:'

const TEST = /\b(?:[A-Za-z_$][\w$]*(?:\([\w$, ]*\))?\.)*trace\d*\.[a-zA-Z]\w* !== null/g

/** @returns the text without its tracepoints. */
export const withoutTracepoints = (code: string): string => code.replace(TEST, 'false')

/** Writes the bundle beside the one in `dist`. @returns its entry. */
export function untracedBundle(dist: URL): string {
  const to = new URL('untraced/', dist)
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(dist)) {
    if (!/\.[cm]?js$/.test(name)) continue
    writeFileSync(new URL(name, to), withoutTracepoints(readFileSync(new URL(name, dist), 'utf8')))
  }
  return fileURLToPath(new URL('index.js', to))
}
