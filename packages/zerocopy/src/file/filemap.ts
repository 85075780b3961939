/** Reading, writing and splicing through the page cache. */
import { type Addr, type Cpu, ERRNO, NO_PFN, type Pfn } from '@netmem/base'
import { copyPageFromIter, copyPageToIter, getPage, iovIterCount, memset, pageAddress } from '@netmem/memory'
import type { Msg, Task } from '@netmem/sockmem'
import { type Pipe, pipeIsFull, pipeOccupancy } from '../pipe/pipe.js'
import { PAGE_CACHE_PIPE_BUF, pipeBufAppend, ZERO_PIPE_BUF } from '../pipe/pipe-buffer.js'
import { type File, type Loff, O_APPEND } from './file.js'
import { filemapGetPage, type Inode } from './inode.js'
import { filemapAddFolio } from './page-cache.js'
import type { FileRaState } from './readahead.js'

/** What an open regular file has in `priv`. */
export interface OpenInode {
  readonly inode: Inode
  readonly ra: FileRaState
}

const openOf = (file: File): OpenInode => file.priv as OpenInode

/** Models `generic_file_read_iter` (mm/filemap.c): copies from the cache to the reader. */
export function filemapRead(cpu: Cpu, _task: Task, file: File, msg: Msg, at: Loff): number {
  const { inode, ra } = openOf(file)
  const { mem, pageSize } = inode.vfs
  const { iter } = msg
  let read = 0
  while (iovIterCount(iter) > 0 && at.pos < inode.size) {
    const index = Math.floor(at.pos / pageSize)
    const offset = at.pos % pageSize
    const bytes = Math.min(pageSize - offset, inode.size - at.pos, iovIterCount(iter))
    const pfn = pageToRead(cpu, inode, ra, index, iovIterCount(iter))
    if (pfn === NO_PFN) return read > 0 ? read : -ERRNO.ENOMEM
    const copied = copyPageToIter(mem, cpu, pfn, offset, bytes, iter)
    at.pos += copied
    read += copied
    ra.prevIndex = index
    if (copied < bytes) return read > 0 ? read : -ERRNO.EFAULT
  }
  return read
}

/** The page at `index`; for a hole of a tmpfs file the page of zeros. */
function pageToRead(cpu: Cpu, inode: Inode, ra: FileRaState, index: number, bytes: number): Pfn {
  const pfn = filemapGetPage(cpu, inode, ra, index, bytes)
  return pfn === NO_PFN && inode.isShmem ? inode.vfs.zeroPage : pfn
}

/** Models `generic_write_checks` (fs/read_write.c). @returns bytes that may be written at `at`, 0, or -EFBIG. */
export function genericWriteChecks(file: File, at: Loff, count: number): number {
  if (count === 0) return 0
  const { inode } = openOf(file)
  if ((file.flags & O_APPEND) !== 0) at.pos = inode.size
  if (at.pos >= inode.maxBytes) return -ERRNO.EFBIG
  return Math.min(count, inode.maxBytes - at.pos)
}

/** Models `generic_file_write_iter` (mm/filemap.c): copies into pages of the cache, which become dirty. */
export function genericFileWriteIter(cpu: Cpu, _task: Task, file: File, msg: Msg, at: Loff): number {
  const { iter } = msg
  const count = genericWriteChecks(file, at, iovIterCount(iter))
  if (count <= 0) return count
  const { inode } = openOf(file)
  const { mem, pageSize } = inode.vfs
  let written = 0
  while (written < count) {
    const index = Math.floor(at.pos / pageSize)
    const offset = at.pos % pageSize
    const bytes = Math.min(pageSize - offset, count - written)
    const pfn = pageToWrite(cpu, inode, index)
    if (pfn === NO_PFN) return written > 0 ? written : -ERRNO.ENOMEM
    const copied = copyPageFromIter(mem, cpu, pfn, offset, bytes, iter)
    if (copied > 0) inode.dirty.add(index)
    at.pos += copied
    written += copied
    if (at.pos > inode.size) inode.size = at.pos
    if (copied < bytes) return written > 0 ? written : -ERRNO.EFAULT
  }
  return written
}

/** Models `write_begin`: the page at `index`, with what was in it before. */
function pageToWrite(cpu: Cpu, inode: Inode, index: number): Pfn {
  const { vfs, mapping, disk } = inode
  const there = mapping.load(index)
  if (there !== NO_PFN) return there
  const pfn = filemapAddFolio(vfs.mem, cpu, mapping, index, true)
  if (pfn !== NO_PFN && disk !== null) vfs.mem.u8.set(disk.read(index), pageAddress(pfn) >>> 0)
  return pfn
}

/** Models `filemap_splice_read` (mm/filemap.c) and `shmem_file_splice_read`: lends pages of the cache to a pipe. */
export function filemapSpliceRead(cpu: Cpu, _task: Task, file: File, at: Loff, pipe: Pipe, len: number): number {
  const { inode, ra } = openOf(file)
  const { mem, pageSize } = inode.vfs
  let left = Math.min(len, Math.max(0, pipe.maxUsage - pipeOccupancy(pipe)) * pageSize, inode.size - at.pos)
  let spliced = 0
  let index = Math.floor(at.pos / pageSize)
  let offset = at.pos - index * pageSize
  while (left > 0 && !pipeIsFull(pipe)) {
    const bytes = Math.min(pageSize - offset, left)
    let pfn = filemapGetPage(cpu, inode, ra, index, left)
    let ops = PAGE_CACHE_PIPE_BUF
    if (pfn === NO_PFN && inode.isShmem) {
      pfn = inode.vfs.zeroPage
      ops = ZERO_PIPE_BUF
    }
    if (pfn === NO_PFN) return spliced > 0 ? spliced : -ERRNO.ENOMEM
    getPage(mem, pfn)
    pipeBufAppend(pipe, pfn, offset, bytes, ops, 0)
    at.pos += bytes
    left -= bytes
    spliced += bytes
    ra.prevIndex = index
    index += 1
    offset = 0
  }
  return spliced
}

/** Fills a file's cache with a byte, for tests and benchmarks that need a large one: no copy is counted. */
export function filemapFill(cpu: Cpu, inode: Inode, from: number, bytes: number, value: number): boolean {
  const { mem, pageSize } = inode.vfs
  for (let pos = from; pos < from + bytes; ) {
    const chunk = Math.min(pageSize - (pos % pageSize), from + bytes - pos)
    const pfn = pageToWrite(cpu, inode, Math.floor(pos / pageSize))
    if (pfn === NO_PFN) return false
    memset(mem, (pageAddress(pfn) + (pos % pageSize)) as Addr, value, chunk)
    pos += chunk
  }
  inode.size = Math.max(inode.size, from + bytes)
  return true
}
