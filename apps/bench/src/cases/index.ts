/**
 * Every case by name. A case is loaded only when it runs, in a process of its own. The model's cases are the
 * packages' own benchmarks (`packages/x/bench`), in full size.
 */
import type { BenchCase } from '../harness.js'
import { allocUnsafe, newUint8Array } from '../peers/buffers.js'
import { flatqueueHold } from '../peers/event-queues.js'

const table: Record<string, () => BenchCase | Promise<BenchCase>> = {
  'buffer.allocUnsafe.64': () => allocUnsafe(64),
  'buffer.allocUnsafe.2048': () => allocUnsafe(2048),
  'buffer.Uint8Array.2048': () => newUint8Array(2048),
  'flatqueue.1024': () => flatqueueHold(1024),
  'events.1024': async () => (await import('../../../../packages/base/bench/event-queue.bench.js')).holdModel(1024),
}

export const caseNames = Object.keys(table)

/** @throws RangeError when there is no such case. */
export async function loadCase(name: string): Promise<BenchCase> {
  const load = table[name]
  if (load === undefined) throw new RangeError(`no benchmark case "${name}"`)
  return await load()
}
