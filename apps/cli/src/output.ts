/** Writing results: one JSON document, or text for people; both wait for a slow reader of the pipe. */
import { writeFileSync } from 'node:fs'
import { fileProblem, InputError } from './errors.js'

/** Writes one JSON document and nothing else. */
export function writeJson(document: unknown): void {
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`)
}

export function writeText(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
}

/** @throws InputError when the file cannot be written. */
export function writeResultFile(path: string, text: string): void {
  try {
    writeFileSync(path, text)
  } catch (error) {
    throw new InputError(`${path}: cannot be written: ${fileProblem(error)}`)
  }
}

export function warn(words: string): void {
  process.stderr.write(`netmem: warning: ${words}\n`)
}
