/**
 * Where /proc and /sys are read and written: the model, or the machine that this program runs on. Whoever wants the
 * real one hands it in; the command line has it.
 */
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import { sysFiles } from './files.js'

/** A machine with files of /proc and /sys. Paths are absolute. */
export interface ProcHost {
  /** @returns all of a file's text, or null when it is not there or may not be read. */
  read(path: string): string | null
  /** One `write(2)` at offset 0. @returns 0 or a negative errno. */
  write(path: string, text: string): number
  /** @returns the names in a directory, none when it is not there. */
  list(path: string): string[]
}

/** @returns the model as a host: what a process in that namespace sees. */
export function modelHost(kernel: Kernel, net: Net = kernel.initNet): ProcHost {
  return {
    read: (path) => kernel.procfs.read(path, net),
    write: (path, text) => kernel.procfs.write(path, text, net),
    list: (path) => {
      const dir = `${path}/`
      const paths = path.startsWith('/sys/') ? sysFiles(kernel, net) : kernel.procfs.paths(net)
      const below = paths.filter((file) => file.startsWith(dir)).map((file) => file.slice(dir.length).split('/')[0]!)
      return [...new Set(below)]
    },
  }
}
