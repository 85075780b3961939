/**
 * The largest value of several quantities over time, in a bounded number of buckets: when time runs out of
 * buckets, neighbours are joined and each bucket stands for twice as long. Any capture fits, and nothing
 * grows.
 */

export const BUCKETS = 128
/** What a bucket stands for at first. */
const FIRST_BUCKET_NS = 1000

export class Timeline {
  bucketNs = FIRST_BUCKET_NS
  /** Buckets in use. */
  count = 0
  /** One row of BUCKETS maxima per quantity. */
  readonly most: Float64Array[]
  /** What was counted in each bucket: sums, where the rows are maxima. */
  private readonly counted = new Float64Array(BUCKETS)
  private countedTo = 0
  /** Peaks over all time. */
  readonly peak: Float64Array
  /** When the first quantity group (all quantities together) was largest: see `sample`. */
  private readonly seen: Uint8Array = new Uint8Array(BUCKETS)

  constructor(readonly kinds: readonly string[]) {
    this.most = kinds.map(() => new Float64Array(BUCKETS))
    this.peak = new Float64Array(kinds.length)
  }

  /**
   * Takes the values that hold at `atNs` (never less than before).
   * @param counter what has been counted by then, from the start; it only grows.
   */
  sample(atNs: number, values: Float64Array, counter = 0): void {
    let bucket = Math.floor(atNs / this.bucketNs)
    while (bucket >= BUCKETS) {
      this.join()
      bucket = Math.floor(atNs / this.bucketNs)
    }
    if (bucket >= this.count) this.count = bucket + 1
    this.seen[bucket] = 1
    this.counted[bucket] += counter - this.countedTo
    this.countedTo = counter
    for (let kind = 0; kind < values.length; kind++) {
      const value = values[kind]
      const row = this.most[kind]
      if (value > row[bucket]) row[bucket] = value
      if (value > this.peak[kind]) this.peak[kind] = value
    }
  }

  /**
   * @param width how many points, at most BUCKETS.
   * @returns the maxima of one quantity; a time without samples keeps the value from before it.
   */
  row(kind: number, width: number): number[] {
    const points: number[] = []
    if (this.count === 0) return points
    let last = 0
    const filled: number[] = []
    for (let bucket = 0; bucket < this.count; bucket++) {
      if (this.seen[bucket] !== 0) last = this.most[kind][bucket]
      filled.push(last)
    }
    const wide = Math.min(width, this.count)
    for (let point = 0; point < wide; point++) {
      const from = Math.floor((point * this.count) / wide)
      const to = Math.max(from + 1, Math.floor(((point + 1) * this.count) / wide))
      points.push(Math.max(...filled.slice(from, to)))
    }
    return points
  }

  /** @returns what was counted in each bucket in use; together it is all that was counted. */
  counts(): number[] {
    return [...this.counted.subarray(0, this.count)]
  }

  private join(): void {
    this.bucketNs *= 2
    const half = BUCKETS / 2
    for (const row of this.most) {
      for (let i = 0; i < half; i++) row[i] = Math.max(row[2 * i], row[2 * i + 1])
      row.fill(0, half)
    }
    for (let i = 0; i < half; i++) this.counted[i] = this.counted[2 * i] + this.counted[2 * i + 1]
    this.counted.fill(0, half)
    for (let i = 0; i < half; i++) this.seen[i] = this.seen[2 * i] | this.seen[2 * i + 1]
    this.seen.fill(0, half)
    this.count = Math.ceil(this.count / 2)
  }
}
