/** Writing results: one JSON document, or text for people; both wait for a slow reader of the pipe. */

/** Writes one JSON document and nothing else. */
export function writeJson(document: unknown): void {
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`)
}

export function writeText(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
}

export function warn(words: string): void {
  process.stderr.write(`netmem: warning: ${words}\n`)
}
