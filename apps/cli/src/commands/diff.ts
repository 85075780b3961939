/** `netmem diff`: two documents of `netmem replay --json`, side by side. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { compare } from '../answers/diff.js'
import { fileProblem, InputError, oneLine } from '../errors.js'
import { writeJson, writeText } from '../output.js'
import type { ReplayResult } from '../replay/result.js'
import { diffText } from '../report/diff-text.js'

const counts = z.record(z.string(), z.number())
/** Only what is compared; later versions of the document may hold more. */
const document = z.object({
  schema: z.literal('netmem-replay/1'),
  capture: z.object({ file: z.string() }),
  machine: z.record(z.string(), z.unknown()).and(z.object({ sysctl: z.record(z.string(), z.string()) })),
  packets: z.object({ read: z.number(), delivered: z.number(), dropped: z.number(), skipped: z.number() }),
  bytes: counts,
  drops: counts,
  memory: z.array(z.object({ kind: z.string(), peakBytes: z.number() })),
  allocations: z.array(z.object({ cache: z.string(), path: z.string(), bytes: z.number() })),
  caches: z.array(z.object({ cache: z.string(), requests: z.number(), hits: z.number() })),
  copies: z.object({ bytes: z.number(), calls: z.number() }),
  dma: z.object({ toMemoryBytes: z.number(), fromMemoryBytes: z.number(), maps: z.number(), syncs: z.number() }),
  leaks: z.number(),
})

/** @throws InputError when a file is not what `netmem replay --json` prints. */
export function diffCommand(a: string, b: string, options: Record<string, unknown>): void {
  const answer = compare(read(a), read(b))
  if (options.json) writeJson(answer)
  else writeText(diffText([a, b], answer))
}

function read(path: string): ReplayResult {
  let json: unknown
  try {
    json = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    if (error instanceof SyntaxError) throw new InputError(`${path}: not JSON: ${oneLine(error.message)}`)
    throw new InputError(`${path}: ${fileProblem(error)}`)
  }
  const parsed = document.safeParse(json)
  if (parsed.success) return json as ReplayResult
  const { path: where, message } = parsed.error.issues[0]!
  throw new InputError(
    `${path}: ${where.join('.') || 'the document'}: ${oneLine(message)}; expected what "netmem replay --json" prints`,
  )
}
