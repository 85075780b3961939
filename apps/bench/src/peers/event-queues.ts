/** The hold model on npm's flatqueue: the fastest general-purpose queue that a program would install. */
import FlatQueue from 'flatqueue'
import type { BenchCase } from '../harness.js'

export function flatqueueHold(pending: number, seed = 12345): BenchCase {
  const queue = new FlatQueue<number>()
  let z = seed
  const gap = () => {
    z ^= z << 13
    z ^= z >>> 17
    z ^= z << 5
    return z & 0xffff
  }
  for (let id = 0; id < pending; id++) queue.push(id, gap())
  return {
    run(n) {
      let now = 0
      for (let i = 0; i < n; i++) {
        now = queue.peekValue()!
        const id = queue.pop()!
        queue.push(id, now + gap())
      }
      return now
    },
  }
}
