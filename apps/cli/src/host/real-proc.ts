/** The machine that this program runs on as a host of /proc: read-only, unless its owner says otherwise. */
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { ERRNO } from '@netmem/base'
import type { ProcHost } from '@netmem/kernel-model'

export interface RealHostOptions {
  /** Lets `write` write. Without it every write answers -EROFS and touches nothing. */
  readonly writable?: boolean
  /** Where /proc and /sys are, for a tree that was copied from elsewhere. Default `/`. */
  readonly root?: string
}

const errnoOf = (error: unknown): number => {
  const code = (error as NodeJS.ErrnoException).code ?? 'EIO'
  return -((ERRNO as Readonly<Record<string, number>>)[code] ?? ERRNO.EIO)
}

/** @returns this machine as a host. */
export function realHost(options: RealHostOptions = {}): ProcHost {
  const at = (path: string): string => join(options.root ?? '/', path)
  return {
    read(path) {
      try {
        return readFileSync(at(path), 'utf8')
      } catch {
        return null
      }
    },
    write(path, text) {
      if (options.writable !== true) return -ERRNO.EROFS
      try {
        const file = openSync(at(path), 'r+')
        try {
          writeSync(file, text, 0)
          return 0
        } finally {
          closeSync(file)
        }
      } catch (error) {
        return errnoOf(error)
      }
    },
    list(path) {
      try {
        return readdirSync(at(path))
      } catch {
        return []
      }
    },
  }
}
