/**
 * Run-length coding of a function of length: `[from, to, value at from, slope]`, so that 65,520 truesizes
 * are four lines of a trace. The two families of traces were coded by two rules; both are here, because a
 * table is compared as it is written.
 */

/** One run; a value that is text (an errno) has slope 0. */
export type Segment = readonly [from: number, to: number, value: number | string, slope: number]

/** The rule of the socket traces: greedy, slope 0 or 1. @param values at `start`, `start + 1`, … */
export function unitSlopeSegments(values: readonly (number | string)[], start: number): Segment[] {
  const segments: Segment[] = []
  for (let first = 0; first < values.length; ) {
    const value = values[first]!
    const next = values[first + 1]
    let slope = 0
    let last = first
    if (typeof value === 'string') while (values[last + 1] === value) last += 1
    else {
      if (typeof next === 'number' && (next === value || next === value + 1)) slope = next - value
      while (typeof values[last + 1] === 'number' && (values[last + 1] as number) - (values[last] as number) === slope)
        last += 1
    }
    segments.push([start + first, start + last, value, last > first ? slope : 0])
    first = last + 1
  }
  return segments
}

/** The rule of the ring traces: constant runs first, then exact lines of three or more of any slope. */
export function anySlopeSegments(values: readonly number[], start: number): Segment[] {
  const segments: Segment[] = []
  for (let first = 0; first < values.length; ) {
    const value = values[first]!
    let last = first
    let slope = 0
    if (values[first + 1] === value) while (values[last + 1] === value) last += 1
    else if (first + 2 < values.length) {
      const rise = values[first + 1]! - value
      let end = first
      while (end + 1 < values.length && values[end + 1]! - values[end]! === rise) end += 1
      if (end - first >= 2) {
        last = end
        slope = rise
      }
    }
    segments.push([start + first, start + last, value, slope])
    first = last + 1
  }
  return segments
}
