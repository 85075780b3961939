/**
 * A scenario as the player takes it: the steps of a trace with less around them. What a scenario leaves out
 * (schema, name, family, profile, what the kernel answered) is filled in here.
 */
import { kernelProfiles } from '@netmem/base'
import { isJsonObject, type Json, parseTrace, performSteps, type StepAnswer } from '@netmem/kernel-model'
import { InputError } from '../errors.js'

export interface ScenarioResult {
  readonly name: string
  readonly profile: string
  readonly family: string
  readonly steps: readonly StepAnswer[]
}

const DEFAULT_PROFILE = 'linux-6.18-x86_64'

/**
 * @param json the parsed file: a list of steps, or an object with `steps` and any other members of a trace.
 * @throws TraceFormatError when it is not a scenario.
 */
export function runScenario(json: unknown, name: string, profile: string | undefined): ScenarioResult {
  if (profile !== undefined && !Object.hasOwn(kernelProfiles, profile))
    throw new InputError(
      `--kernel ${profile}: no such kernel, expected one of ${Object.keys(kernelProfiles).join(', ')}`,
    )
  const given = Array.isArray(json) ? { steps: json } : json
  const whole = isJsonObject(given)
    ? {
        schema: 'netmem-trace/1',
        name,
        family: 'udp',
        about: `the scenario ${name}`,
        profile: profile ?? DEFAULT_PROFILE,
        sysctl: {},
        ...(given as Record<string, Json>),
      }
    : given
  const document = parseTrace(sysctlsAsText(whole), { strict: true })
  return { name: document.name, profile: document.profile, family: document.family, steps: performSteps(document) }
}

/** In YAML people write `net.core.rmem_max: 4194304`; the kernel's files hold text. */
function sysctlsAsText(json: unknown): unknown {
  if (!isJsonObject(json) || !isJsonObject(json.sysctl)) return json
  const sysctl = Object.fromEntries(
    Object.entries(json.sysctl).map(([key, value]) => [key, typeof value === 'number' ? String(value) : value]),
  )
  return { ...json, sysctl }
}
