/** A replay that runs beside the monitor, as a process of its own whose looks are read line by line. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { InputError, oneLine } from '../errors.js'
import type { Snapshot } from './snapshot.js'

export interface RunningReplay {
  /** The latest look. */
  look(): Snapshot
  /** Settles when the replay is over. */
  readonly ended: Promise<void>
  stop(): void
}

/** Starts it and waits for its first look. @throws InputError with the replay's own words when it cannot run. */
export async function startReplay(bin: string, args: readonly string[], everyMs: number): Promise<RunningReplay> {
  const child: ChildProcess = spawn(process.execPath, [bin, 'replay', ...args, '--snapshots', `${everyMs}ms`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let latest: Snapshot | null = null
  let complaint = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    complaint += text
  })
  const lines = createInterface({ input: child.stdout! })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => {
      latest = JSON.parse(line) as Snapshot
      resolve()
    })
    ended.then(() => reject(new InputError(oneLine(complaint.replace(/^netmem: /, '')) || 'the replay ended at once')))
  })
  return { look: () => latest!, ended, stop: () => child.kill() }
}
