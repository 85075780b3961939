/** The load that all ring questions share: frames at a rate, and a program that is away for a time. */
import type { KernelProfile } from '@netmem/base'
import { runScenario } from '../commands/scenario.js'
import { bytesText, durationText } from '../report/format.js'

export interface StallQuestion {
  readonly profile: KernelProfile
  /** On the wire, in bytes per second. */
  readonly rateBytes: number
  /** Of a frame without preamble and checksum. */
  readonly frameBytes: number
  readonly mtu: number
  /** Longest time that the program does not look at its ring. */
  readonly stallNs: number
}

/** Preamble, checksum and gap: what a frame takes on Ethernet besides itself. */
export const WIRE_EXTRA = 24

export const framesPerSecond = ({ rateBytes, frameBytes }: StallQuestion): number =>
  rateBytes / (frameBytes + WIRE_EXTRA)

export const framesInStall = (question: StallQuestion): number =>
  Math.max(1, Math.ceil(framesPerSecond(question) * (question.stallNs / 1e9)))

export const stallWords = ({ rateBytes, frameBytes, stallNs }: StallQuestion, who: string): string =>
  `${bytesText(rateBytes)}/s in frames of ${frameBytes} bytes, ${who} away for ${durationText(stallNs)}`

type Step = Readonly<Record<string, unknown>>

/** Performs steps in the verbs of the traces. @returns the answer of the last one. @throws Error when a step fails. */
export function lastAnswer(
  profile: KernelProfile,
  family: string,
  steps: readonly Step[],
): Readonly<Record<string, number>> {
  const result = runScenario({ family, steps }, 'size', profile.name)
  const failed = result.steps.find(({ error, answer }) => error !== null || answer.errno !== undefined)
  if (failed !== undefined) throw new Error(`${failed.do}: ${failed.error ?? failed.answer.errno}`)
  return result.steps.at(-1)!.answer as Readonly<Record<string, number>>
}
