/**
 * Writing settings to a machine so that they can be taken back: what was there is on disk before the first write,
 * every write is read back, and a refused one undoes those before it. After a crash, `rollback` finds all it needs.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { errnoName } from '@netmem/base'
import type { ProcHost } from '@netmem/kernel-model'
import { z } from 'zod'
import { fileProblem, InputError } from '../errors.js'
import { sysctlPath, sysctlText } from './machine-signs.js'

export interface Write {
  readonly name: string
  readonly value: string
}

export interface WriteResult {
  readonly name: string
  readonly wanted: string
  /** What the kernel says now. */
  readonly value: string
  /** Null when it took the value as it was written. */
  readonly problem: string | null
}

const state = z.object({ schema: z.literal('netmem-tune-state/1'), saved: z.record(z.string(), z.string()) })
export type Saved = Readonly<Record<string, string>>

/** @returns what an earlier `apply` saved, or null when there is nothing to take back. @throws InputError */
export function readSaved(path: string): Saved | null {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new InputError(`${path}: ${fileProblem(error)}`)
  }
  try {
    return state.parse(JSON.parse(text)).saved
  } catch {
    throw new InputError(
      `${path}: is not what "netmem tune --apply" saved; restore the settings by hand, then remove it`,
    )
  }
}

/** On disk, whole or not at all. */
function save(path: string, saved: Saved): void {
  const draft = `${path}.new`
  try {
    mkdirSync(dirname(path), { recursive: true })
    const file = openSync(draft, 'w')
    try {
      writeSync(file, `${JSON.stringify({ schema: 'netmem-tune-state/1', saved }, null, 2)}\n`)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(draft, path)
  } catch (error) {
    throw new InputError(`${path}: what is set now could not be saved (${fileProblem(error)}), so nothing was changed`)
  }
}

function write(host: ProcHost, name: string, wanted: string): WriteResult {
  const err = host.write(sysctlPath(name), wanted)
  const value = sysctlText(host, name) ?? ''
  const same = value === wanted.trim().replace(/\s+/g, ' ')
  const problem = err !== 0 ? `the kernel answered ${errnoName(err)}` : same ? null : `the kernel made ${value} of it`
  return { name, wanted, value, problem }
}

/**
 * Saves, writes, verifies. @returns every write that was tried; the last has a problem when one was refused, and
 * then all before it have been undone.
 */
export function apply(host: ProcHost, path: string, writes: readonly Write[]): WriteResult[] {
  // What the first of several `apply`s found is what was there.
  const saved: Record<string, string> = { ...readSaved(path) }
  const before = new Map<string, string>()
  for (const { name } of writes) {
    const now = sysctlText(host, name)
    if (now === null) throw new InputError(`${name}: this machine has no such sysctl`)
    before.set(name, now)
    saved[name] ??= now
  }
  save(path, saved)
  const results: WriteResult[] = []
  for (const { name, value } of writes) {
    const result = write(host, name, value)
    results.push(result)
    if (result.problem === null) continue
    for (const { name: undone } of [...results].reverse()) write(host, undone, before.get(undone)!)
    break
  }
  return results
}

/** Restores what `apply` saved, and forgets it when all of it is back. @returns each restored setting; empty when there was nothing. */
export function rollback(host: ProcHost, path: string): WriteResult[] {
  const saved = readSaved(path)
  if (saved === null) return []
  const results = Object.entries(saved).map(([name, value]) => write(host, name, value))
  if (results.every(({ problem }) => problem === null)) rmSync(path)
  return results
}
