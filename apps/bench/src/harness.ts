/**
 * One case, one process: type feedback of one benchmark would poison the next. Time is process CPU time, so
 * other load on the machine does not inflate it (it still costs cache).
 */

/** What every benchmark is: it performs `n` operations and returns a checksum of the work. */
export interface BenchCase {
  run(n: number): number
}

export interface Timing {
  /** Median and minimum over the repeats, in ns per operation. */
  median: number
  min: number
  /** Checksum of the last repeat, so that the work can't be optimised away and two builds can be compared. */
  checksum: number
  /** Operations of one repeat. */
  operations: number
}

const cpuMs = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e3
}

/** Runs in a row that were no faster than before: the optimising compiler has settled. */
const SETTLED_RUNS = 5

/** @param ms CPU milliseconds of one repeat; after the warm-up there are `repeats` of them. */
export function time(benchCase: BenchCase, ms: number, repeats: number): Timing {
  let n = 256
  let spent = 0
  // Long paths take seconds until they are compiled whole: warm up until they get no faster, then size the repeats.
  let best = Number.POSITIVE_INFINITY
  let settled = 0
  const began = cpuMs()
  for (let past = 0; past < 4 * ms || (settled < SETTLED_RUNS && past < 40 * ms); past = cpuMs() - began) {
    const t = cpuMs()
    benchCase.run(n)
    spent = cpuMs() - t
    if (spent < ms / 4) {
      n *= 2
      continue
    }
    settled = spent / n < 0.97 * best ? 0 : settled + 1
    best = Math.min(best, spent / n)
  }
  n = Math.max(256, Math.ceil((n * ms) / Math.max(spent, 0.05)))
  const times: number[] = []
  let checksum = 0
  for (let i = 0; i < repeats; i++) {
    const t = cpuMs()
    checksum = benchCase.run(n)
    times.push(((cpuMs() - t) * 1e6) / n)
  }
  times.sort((a, b) => a - b)
  return { median: times[times.length >> 1]!, min: times[0]!, checksum, operations: n }
}

const STEADY_MARK = '== steady state =='

/**
 * Warms up, prints a mark, then works on: run under `--trace-gc --trace-deopt`, what the engine prints after the
 * mark is what it did in steady state.
 *
 * @param operations how many after the mark.
 */
export function runSteadily(benchCase: BenchCase, operations: number): void {
  for (let done = 0; done < operations; done += 50_000) benchCase.run(50_000)
  process.stdout.write(`${STEADY_MARK}\n`)
  for (let done = 0; done < operations; done += 50_000) benchCase.run(50_000)
}

/** @returns collections and deoptimisations that the engine printed after the mark, or null without a mark. */
export function countAfterMark(output: string): { collections: number; deopts: number } | null {
  const at = output.indexOf(STEADY_MARK)
  if (at < 0) return null
  const lines = output.slice(at).split('\n')
  return {
    collections: lines.filter((line) => /Scavenge|Mark-Compact/.test(line)).length,
    deopts: lines.filter((line) => /\[bailout \(kind: deopt/.test(line)).length,
  }
}

export const median = (values: number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}
