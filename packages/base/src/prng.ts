/**
 * Seeded randomness: xoshiro128** on four 32-bit words. Same seed, same sequence, on every engine.
 * Algorithm: D. Blackman and S. Vigna, "Scrambled linear pseudorandom number generators" (2018).
 */

export class Prng {
  private readonly s = new Int32Array(4)

  constructor(seed: number) {
    // splitmix32 spreads a small seed over the state, which must not be all zero.
    let x = seed | 0
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) | 0
      let z = x
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
      this.s[i] = z ^ (z >>> 15)
    }
  }

  /** @returns 32 random bits as a signed integer. */
  next(): number {
    const s = this.s
    const s1 = s[1]!
    const x = Math.imul(s1, 5)
    const result = Math.imul((x << 7) | (x >>> 25), 9)
    const t = s1 << 9
    s[2]! ^= s[0]!
    s[3]! ^= s1
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= t
    s[3] = (s[3]! << 11) | (s[3]! >>> 21)
    return result
  }

  /** @returns an integer in `[0, bound)`; `bound` from 1 to 2^32. */
  below(bound: number): number {
    return Math.floor(((this.next() >>> 0) / 4294967296) * bound)
  }

  /** @returns a number in `[0, 1)` with 32 random bits. */
  unit(): number {
    return (this.next() >>> 0) / 4294967296
  }
}
