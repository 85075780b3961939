/**
 * A scenario as the player takes it: the steps of a trace with less around them. What a scenario leaves out
 * (schema, name, family, profile, what the kernel answered) is filled in here.
 */
import crypto from 'node:crypto'
import { kernelProfiles } from '@netmem/base'
import {
  type Json,
  type Kernel,
  parseTrace,
  playTrace,
  type TraceMismatch,
  tlsCryptoFromNode,
} from '@netmem/kernel-model'
import { InputError } from '../errors.js'

/** One step and what the model answered; `error` says why it could not be performed, else null. */
export interface StepAnswer {
  readonly step: number
  readonly do: string
  readonly args: Readonly<Record<string, Json>>
  readonly answer: Readonly<Record<string, unknown>>
  readonly error: string | null
  /** Where the scenario expects something else. */
  readonly mismatches: readonly TraceMismatch[]
}

export interface ScenarioResult {
  readonly name: string
  readonly profile: string
  readonly family: string
  readonly steps: readonly StepAnswer[]
}

export interface ScenarioOptions {
  /** Called when all steps are done and nothing is closed yet. */
  readonly afterLastStep?: (kernel: Kernel) => void
}

const DEFAULT_PROFILE = 'linux-6.18-x86_64'

/**
 * @param json the parsed file: a list of steps, or an object with `steps` and any other members of a trace.
 * @throws TraceFormatError when it is not a scenario.
 */
export function runScenario(
  json: unknown,
  name: string,
  profile: string | undefined,
  options: ScenarioOptions = {},
): ScenarioResult {
  if (profile !== undefined && !Object.hasOwn(kernelProfiles, profile))
    throw new InputError(
      `--kernel ${profile}: no such kernel, expected one of ${Object.keys(kernelProfiles).join(', ')}`,
    )
  const given = Array.isArray(json) ? { steps: json } : json
  const whole = isObject(given)
    ? {
        schema: 'netmem-trace/1',
        name,
        family: 'udp',
        about: `the scenario ${name}`,
        profile: profile ?? DEFAULT_PROFILE,
        sysctl: {},
        ...given,
      }
    : given
  const document = parseTrace(sysctlsAsText(whole), { strict: true })
  const answers: Omit<StepAnswer, 'mismatches'>[] = []
  const report = playTrace(document, {
    crypto: tlsCryptoFromNode(crypto),
    onAnswer: (step, answer, error) => {
      const { do: verb, args } = document.steps[step]
      answers.push({ step, do: verb, args, answer, error: error?.replace(/^error: /, '') ?? null })
    },
    afterStep: (kernel, step) => {
      if (step === document.steps.length - 1) options.afterLastStep?.(kernel)
    },
  })
  const steps = answers.map((answer) => ({
    ...answer,
    mismatches: report.mismatches.filter((mismatch) => mismatch.step === answer.step),
  }))
  return { name: document.name, profile: document.profile, family: document.family, steps }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** In YAML people write `net.core.rmem_max: 4194304`; the kernel's files hold text. */
function sysctlsAsText(json: unknown): unknown {
  if (!isObject(json) || !isObject(json.sysctl)) return json
  const sysctl = Object.fromEntries(
    Object.entries(json.sysctl).map(([key, value]) => [key, typeof value === 'number' ? String(value) : value]),
  )
  return { ...json, sysctl }
}
