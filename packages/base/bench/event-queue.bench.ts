/** Goal G15: the hold model. N events pending; one op runs the earliest and schedules one a random gap later. */
import { EventQueue } from '@netmem/base'

export interface BenchCase {
  /** Performs `n` operations and returns a checksum of the work. */
  run(n: number): number
}

/** @param pending how many events stay pending. @param seed of the gaps, each from 0 to 65535 ns. */
export function holdModel(pending: number, seed = 12345): BenchCase {
  const queue = new EventQueue()
  let z = seed
  const gap = () => {
    z ^= z << 13
    z ^= z >>> 17
    z ^= z << 5
    return z & 0xffff
  }
  const again = queue.register((id) => {
    queue.schedule(queue.nowNs + gap(), again, id)
  })
  for (let id = 0; id < pending; id++) queue.schedule(gap(), again, id)
  return {
    run(n) {
      for (let i = 0; i < n; i++) queue.runNext()
      return queue.nowNs
    },
  }
}

export const cases = {
  'event queue, 64 pending': () => holdModel(64),
  'event queue, 1024 pending': () => holdModel(1024),
  'event queue, 65536 pending': () => holdModel(65536),
}
