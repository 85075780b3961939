/** Fixtures that every package's tests share. */
import { Prng } from './prng.js'

/** @returns a seeded generator and a label that names the seed, for the message of a failing property test. */
export function seeded(seed: number): { rng: Prng; label: string } {
  return { rng: new Prng(seed), label: `seed ${seed}` }
}
