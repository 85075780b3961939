/** A drop reason by itself, as dropwatch, perf and pwru print it. */
import { kernelProfiles } from '@netmem/base'
import { dropReasonNumber, type SkbDropReason, skbDropReasons } from '@netmem/skbuff'
import { dropAdvice } from '../replay/advice.js'
import { type Finding, finding, type Line } from './finding.js'

/** Words that are reasons and also anything else. */
const known = new Set<string>(skbDropReasons)

export function readDropReason(line: Line): Finding | null {
  const match =
    /(?:SKB_DROP_REASON_([A-Z0-9_]+))|(?:reason:?\s*([A-Z][A-Z0-9_]{3,}))|^\s*([A-Z][A-Z0-9_]{3,})\s*$/.exec(line.text)
  const name = match?.[1] ?? match?.[2] ?? match?.[3]
  if (name === undefined || !known.has(name)) return null
  const { limit, setting } = dropAdvice(name)
  const numbers = Object.values(kernelProfiles).flatMap((profile) => {
    const number = dropReasonNumber(profile, name as SkbDropReason)
    return number > 0 ? [`${number} on ${profile.release.replace(/^(\d+\.\d+).*/, '$1')}`] : []
  })
  return finding(
    line,
    'note',
    [
      `${name}: ${limit}.`,
      `The number of a reason changes between kernels (${numbers.join(', ') || 'none of the built-in kernels has it'}); go by its name.`,
    ],
    setting === null ? [] : [`What moves the limit: ${setting}.`],
  )
}
