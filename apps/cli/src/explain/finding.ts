/** What `netmem explain` says about one thing it recognised, and what all of them share. */

/** `mistake`: a setting that cannot mean what it says; `over`: a limit was reached; `near`: four fifths of one. */
export type Level = 'fine' | 'note' | 'near' | 'over' | 'mistake'

export interface Finding {
  /** Number of the line it was read from, from 1. */
  readonly line: number
  /** The text that was recognised, shortened. */
  readonly text: string
  readonly level: Level
  /** What it means, a sentence or two each. */
  readonly means: readonly string[]
  /** What to look at or to change next. */
  readonly next: readonly string[]
}

/** What is known of the machine, from other lines of the same text and from options. */
export interface Facts {
  /** MemTotal in bytes, or null. */
  memoryBytes: number | null
  pageBytes: number
  /** Sysctls by name, as numbers. */
  readonly sysctls: Map<string, readonly number[]>
  /** Counters of nstat, /proc/net/snmp and netstat, such as `UdpRcvbufErrors`. */
  readonly counters: Map<string, number>
}

/** One line that might be recognised. */
export interface Line {
  readonly number: number
  readonly text: string
}

/** Reads lines of one format. @returns null when the line is of another. */
export type Reader = (line: Line, facts: Facts) => Finding | null

const NEAR = 0.8

/** @returns how a use stands to its limit. */
export const levelOf = (use: number, limit: number): Level =>
  use >= limit ? 'over' : use >= NEAR * limit ? 'near' : 'fine'

const ORDER: readonly Level[] = ['fine', 'note', 'near', 'over', 'mistake']

export const worse = (a: Level, b: Level): Level => (ORDER.indexOf(a) >= ORDER.indexOf(b) ? a : b)

const SHOWN = 100
export const finding = (line: Line, level: Level, means: readonly string[], next: readonly string[] = []): Finding => ({
  line: line.number,
  text: line.text.length > SHOWN ? `${line.text.slice(0, SHOWN - 1)}…` : line.text,
  level,
  means,
  next,
})
