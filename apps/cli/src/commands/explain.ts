/** `netmem explain`: what pasted kernel text means. */
import { readFileSync } from 'node:fs'
import { EXIT_NO, fileProblem, InputError } from '../errors.js'
import { explain } from '../explain/explain.js'
import { writeJson, writeText } from '../output.js'
import { byteSize } from '../quantities.js'
import { explainText } from '../report/explain-text.js'

const MOST_BYTES = 64 << 20
const KNOWN =
  'ss -m, /proc/net/sockstat, nstat, /proc/net/snmp or netstat, softnet_stat, slabinfo, sysctl lines, dmesg lines or a drop reason'

/** @throws InputError when the text cannot be read, or nothing in it is known. */
export function explainCommand(words: readonly string[], options: Record<string, unknown>): void {
  const memory =
    options.memory === undefined ? null : byteSize('--memory', String(options.memory), 1 << 20, 2 ** 52, 1024)
  const text = words.length > 0 ? words.join(' ') : standardInput()
  if (text.length > MOST_BYTES)
    throw new InputError(`standard input: more than ${MOST_BYTES} bytes; paste a part of it`)
  const explanation = explain(text, memory)
  if (explanation.recognised === 0)
    throw new InputError(`${words.length > 0 ? 'the text' : 'standard input'}: nothing recognised; expected ${KNOWN}`)
  if (options.json) writeJson(explanation)
  else writeText(explainText(explanation))
  if (explanation.findings.some(({ level }) => level === 'over' || level === 'mistake')) process.exitCode = EXIT_NO
}

function standardInput(): string {
  try {
    return readFileSync(0, 'utf8')
  } catch (error) {
    throw new InputError(`standard input: ${fileProblem(error)}`)
  }
}
