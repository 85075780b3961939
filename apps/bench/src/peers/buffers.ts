/**
 * What a TypeScript program would reach for instead: allocate, touch the sixteen header bytes that a packet
 * path touches, and drop, with a window of 1024 live packets.
 */
import type { BenchCase } from '../harness.js'

const WINDOW = 1024
const TOUCHED = [0, 13, 14, 15, 16, 17, 22, 23, 24, 25, 26, 27, 30, 31, 36, 37]

function windowOf(make: () => Uint8Array): BenchCase {
  const live = Array.from({ length: WINDOW }, make)
  let at = 0
  return {
    run(n) {
      let sum = 0
      for (let i = 0; i < n; i++) {
        const buffer = make()
        for (let k = 0; k < TOUCHED.length; k++) buffer[TOUCHED[k]!] = i
        sum = (sum + live[at]![0]!) | 0
        live[at] = buffer
        at = (at + 1) & (WINDOW - 1)
      }
      return sum
    },
  }
}

export const allocUnsafe = (bytes: number) => windowOf(() => Buffer.allocUnsafe(bytes))
export const newUint8Array = (bytes: number) => windowOf(() => new Uint8Array(bytes))
