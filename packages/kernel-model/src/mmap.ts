/**
 * Files as user memory. An area keeps its file open: a socket whose ring is mapped lives on behind a closed
 * descriptor, and goes with the last of its areas.
 */
import { ERRNO } from '@netmem/base'
import { PAGE_SIZE, type UserBuffer, userFree } from '@netmem/memory'
import { fput, type OpenFile } from './file.js'
import type { Process } from './process.js'

/** Models `struct vm_area_struct` of a shared mapping: user memory, and the file that it is a view of. */
export interface Mapping {
  readonly buffer: UserBuffer
  readonly file: OpenFile
}

/** Models `ksys_mmap_pgoff` of a file, shared, readable and writable. @returns the area, or a negative errno. */
export function sysMmap(process: Process, fd: number, bytes: number, offset = 0): Mapping | number {
  if (offset % PAGE_SIZE !== 0) return -ERRNO.EINVAL
  const file = process.files.get(fd)
  if (file === null) return -ERRNO.EBADF
  if (bytes <= 0) return -ERRNO.EINVAL
  if (file.ops.mmap === undefined) return -ERRNO.ENODEV
  const whole = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE
  const buffer = file.ops.mmap(process.kernel, process, file, offset, whole)
  process.kernel.syscallExit(process.cpu)
  if (typeof buffer === 'number') return buffer
  file.refs += 1
  const mapping: Mapping = { buffer, file }
  process.mappings.add(mapping)
  return mapping
}

/** Models `munmap` of a whole area. */
export function sysMunmap(process: Process, mapping: Mapping): number {
  if (!process.mappings.delete(mapping)) return -ERRNO.EINVAL
  const { kernel, cpu } = process
  userFree(kernel.mem, cpu, mapping.buffer)
  mapping.file.ops.munmap?.(kernel, process, mapping.file)
  fput(kernel, process, mapping.file)
  kernel.syscallExit(cpu)
  return 0
}
