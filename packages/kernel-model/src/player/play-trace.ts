/**
 * Plays a trace on a freshly booted kernel and compares, key by key, what the model answers with what the
 * real kernel answered. Nothing is skipped: a verb that cannot be played leaves all its checks unmatched.
 */
import { kernelProfile } from '@netmem/base'
import type { TlsCryptoProvider } from '@netmem/zerocopy'
import { bootKernel } from '../boot.js'
import type { Kernel } from '../kernel.js'
import { parseTrace, type TraceDocument, type TraceStep } from '../trace/document.js'
import { type Json, sameJson } from '../trace/json.js'
import { dialectOf, verbArguments } from '../trace/verbs.js'
import { type Answer, UnsupportedVerb } from './answer.js'
import { verbHandler } from './handlers.js'
import { bootLine } from './nic-machine.js'
import { PlayerWorld } from './world.js'

/** One check that failed: one key of one step's `expect`. */
export interface TraceMismatch {
  readonly step: number
  readonly do: string
  readonly key: string
  readonly expected: Json
  /** What the model answered; null when it has no such key; `"error: ..."` when the step could not be performed. */
  readonly actual: Json
}

/** What became of a trace; the shape that `netmem verify --json` prints. */
export interface TraceReport {
  readonly name: string
  readonly family: string
  readonly profile: string
  readonly steps: number
  /** Keys of all `expect` objects; a list or a table counts once. */
  readonly checks: number
  readonly matched: number
  /** Verbs that the model could not play, each once, in order of appearance. */
  readonly unsupported: readonly string[]
  /** Every check that did not match: `checks - matched` of them. */
  readonly mismatches: readonly TraceMismatch[]
}

export interface PlayOptions {
  /** Physical memory of the machine, in bytes (256 MiB). */
  readonly memoryBytes?: number
  /** The ciphers of kTLS; a machine has none without. */
  readonly crypto?: TlsCryptoProvider
  /** Seed of the machine's randomness (1). */
  readonly seed?: number
  /** Called before the first step, when the machine is set up. */
  readonly beforeFirst?: (kernel: Kernel) => void
  /** Called with what the model answered to each step; `error` says why it could not be performed, else null. */
  readonly onAnswer?: (step: number, answer: Answer, error: string | null) => void
  /** Called after each step, with the kernel as it stands. */
  readonly afterStep?: (kernel: Kernel, step: number) => void
  /** Called after the last step, when everything the trace opened was closed again. */
  readonly afterClose?: (kernel: Kernel) => void
}

const DEFAULT_MEMORY_BYTES = 256 << 20
/** A system call on the machine of the reference recordings, in nanoseconds. */
const SYSCALL_NS = 1000

/**
 * Boots the kernel that the trace was recorded on, performs its steps and compares the answers.
 *
 * @param trace a trace: parsed JSON, checked here, or a document of `parseTrace`.
 * @throws TraceFormatError when it is no trace.
 */
export function playTrace(trace: unknown, options: PlayOptions = {}): TraceReport {
  const document = isDocument(trace) ? trace : parseTrace(trace)
  const profile = kernelProfile(document.profile)
  const kernel = bootKernel({
    profile,
    cpus: 2,
    nodes: 1,
    memoryBytes: options.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    seed: options.seed ?? 1,
    ...(options.crypto === undefined ? {} : { crypto: options.crypto }),
    // Recordings of a machine that is slower have more time between their packets.
    syscallNs: SYSCALL_NS * profile.features.machineSlowness,
    ...bootLine(document),
  })
  const world = new PlayerWorld(kernel, document)
  options.beforeFirst?.(kernel)
  const unsupported = new Set<string>()
  const mismatches: TraceMismatch[] = []
  let checks = 0
  document.steps.forEach((step, index) => {
    const keys = Object.keys(step.expect)
    checks += keys.length
    const { answer, error } = perform(world, step, unsupported)
    options.onAnswer?.(index, answer, error)
    for (const key of keys) {
      const expected = step.expect[key] as Json
      const actual = answer[key]
      if (key === 'events' && step.do !== 'poll' ? world.ids.sameEvents(expected, actual) : sameJson(expected, actual))
        continue
      mismatches.push({ step: index, do: step.do, key, expected, actual: error ?? actual ?? null })
    }
    options.afterStep?.(kernel, index)
    world.betweenSteps()
  })
  if (options.afterClose !== undefined) {
    world.closeAll()
    options.afterClose(kernel)
  }
  return {
    name: document.name,
    family: document.family,
    profile: document.profile,
    steps: document.steps.length,
    checks,
    matched: checks - mismatches.length,
    unsupported: [...unsupported],
    mismatches,
  }
}

const isDocument = (trace: unknown): trace is TraceDocument =>
  typeof trace === 'object' && trace !== null && Object.isFrozen(trace) && 'steps' in trace

function perform(
  world: PlayerWorld,
  step: TraceStep,
  unsupported: Set<string>,
): { answer: Answer; error: string | null } {
  const dialect = dialectOf(world.document.family)
  const handler = verbHandler(dialect, step.do)
  if (handler === undefined) {
    unsupported.add(step.do)
    const known = verbArguments(dialect, step.do) !== undefined
    return { answer: {}, error: known ? `error: "${step.do}" is not modelled` : `error: no verb "${step.do}"` }
  }
  try {
    return { answer: handler(world, step.args), error: null }
  } catch (error) {
    // A step that cannot be performed is a result, not the end of the comparison: the steps behind it still count.
    world.recover()
    if (error instanceof UnsupportedVerb) unsupported.add(step.do)
    return { answer: {}, error: `error: ${error instanceof Error ? error.message : String(error)}` }
  }
}
