/** sendfile, splice, tee, vmsplice on descriptors. */
import { iovIterInit, type UserBuffer } from '@netmem/memory'
import { doSendfile, type Loff, sysSpliceFiles, sysTeeFiles, sysVmspliceFile } from '@netmem/zerocopy'
import type { Process } from './process.js'

function leave(process: Process, ret: number): number {
  process.kernel.syscallExit(process.cpu)
  return ret
}

/**
 * Models `sendfile64`.
 *
 * @param offset where to read, which moves; null for the input file's own position.
 * @returns bytes, or a negative errno.
 */
export function sysSendfile(process: Process, out: number, input: number, offset: Loff | null, count: number): number {
  const { kernel, files, cpu, task } = process
  return leave(process, doSendfile(kernel.vfs, cpu, task, files.get(out), files.get(input), offset, count))
}

/** Models `splice`. @param offIn null for the file's own position, as is `offOut`. @param flags `SPLICE_F_*`. */
export function sysSplice(
  process: Process,
  input: number,
  offIn: Loff | null,
  out: number,
  offOut: Loff | null,
  len: number,
  flags = 0,
): number {
  const { kernel, files, cpu, task } = process
  return leave(
    process,
    sysSpliceFiles(kernel.vfs, cpu, task, files.get(input), offIn, files.get(out), offOut, len, flags),
  )
}

/** Models `tee`. */
export function sysTee(process: Process, input: number, out: number, len: number, flags = 0): number {
  return leave(process, sysTeeFiles(process.files.get(input), process.files.get(out), len, flags))
}

/** Models `vmsplice` of one segment. @param buffer the process's own send buffer when absent. */
export function sysVmsplice(
  process: Process,
  fd: number,
  len: number,
  flags = 0,
  offset = 0,
  buffer: UserBuffer = process.buffer('send', offset + len),
): number {
  const { msg } = process
  msg.reset(0)
  iovIterInit(msg.iter, buffer, offset, len)
  return leave(process, sysVmspliceFile(process.cpu, process.files.get(fd), msg.iter, flags))
}
