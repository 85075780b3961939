/** What every sizing answer says: what was assumed, what the model showed, what to set, how to check it. */

export interface SizeAnswer {
  readonly schema: 'netmem-size/1'
  readonly what: string
  readonly kernel: string
  /** The question in words, as it was understood. */
  readonly question: string
  readonly assumptions: readonly string[]
  /** What the model showed. */
  readonly measured: readonly Measured[]
  /** Settings as one would type them. */
  readonly settings: readonly string[]
  readonly check: readonly string[]
  /** Why it cannot work as asked, or null. */
  readonly problem: string | null
}

export interface Measured {
  readonly name: string
  readonly value: number
  readonly unit: 'bytes' | 'pages' | 'packets' | 'slots' | 'frames'
  readonly about: string
}
