/**
 * A replay at the pace of its capture, with a look at the machine's memory every so often: one JSON line each on
 * standard output, in the form of the monitor, which reads them.
 */
import { writeSync } from 'node:fs'
import { modelHost } from '@netmem/kernel-model'
import { snapshot } from '../monitor/snapshot.js'
import type { Pace } from './replay.js'

/** Shorter waits are not worth a call. */
const LEAST_WAIT_MS = 1

/** @param everyMs milliseconds of the host's time between two looks. */
export function snapshots(everyMs: number): Pace {
  const bell = new Int32Array(new SharedArrayBuffer(4))
  const started = Date.now()
  let next = started
  return (kernel, nowNs) => {
    const due = started + nowNs / 1e6
    for (let now = Date.now(); ; now = Date.now()) {
      if (now >= next) {
        next = now + everyMs
        writeSync(1, `${JSON.stringify(snapshot(modelHost(kernel), now))}\n`)
      }
      const wait = Math.min(due, next) - now
      if (due - now < LEAST_WAIT_MS) return
      Atomics.wait(bell, 0, 0, Math.max(LEAST_WAIT_MS, wait))
    }
  }
}
