/**
 * A machine's /proc and /sys as a tree that can be read, written and copied out: `kernel.procfs`. Copying goes
 * through a function of the caller's, as the model itself touches no files.
 */
import { ERRNO } from '@netmem/base'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import { procFiles, procRead, sysctlName, sysctlPath, sysFiles } from './files.js'

/** Receives one file: its path, absolute as on the machine (`/proc/net/tcp`), and all of its text. */
export type FileWriter = (path: string, text: string) => void

export class ProcFs {
  constructor(private readonly kernel: Kernel) {}

  /** @returns all paths, as a process in that namespace sees them. */
  paths(net: Net = this.kernel.initNet): string[] {
    const sysctls = this.kernel.sysctlFiles.names(net.id === 0).map(sysctlPath)
    return [...procFiles(), ...sysctls, ...sysFiles(this.kernel, net)]
  }

  /** Models `open`, `read` to the end and `close`. @returns the text, or null where the kernel says -ENOENT. */
  read(path: string, net: Net = this.kernel.initNet): string | null {
    return procRead(this.kernel, net, path)
  }

  /**
   * Models one `write(2)` at offset 0 of a file just opened.
   *
   * @returns 0; -ENOENT when there is no such file; -EACCES when it is there and takes nothing; or what the file says.
   */
  write(path: string, text: string, net: Net = this.kernel.initNet): number {
    if (path.startsWith('/proc/sys/') && !procFiles().includes(path)) {
      const name = sysctlName(path)
      const { sysctlFiles } = this.kernel
      if (net.id === 0 || sysctlFiles.isWritableInChildren(name)) return this.kernel.sysctlWrite(net, name, text)
      return sysctlFiles.names(false).includes(name) ? -ERRNO.EACCES : -ERRNO.ENOENT
    }
    return this.read(path, net) === null ? -ERRNO.ENOENT : -ERRNO.EACCES
  }

  /**
   * Hands out the whole tree, file by file, as it is at this moment of virtual time.
   *
   * @returns how many files there were.
   */
  export(write: FileWriter, net: Net = this.kernel.initNet): number {
    let count = 0
    for (const path of this.paths(net)) {
      const text = this.read(path, net)
      if (text === null) continue
      write(path, text)
      count += 1
    }
    return count
  }
}
