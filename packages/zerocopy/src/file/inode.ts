/**
 * What a regular file is: a size, the pages of it that are in memory, and a disk that has the rest. A tmpfs file
 * (memfd) has no disk: its pages are all there is, and what was never written is a hole.
 */
import { type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { pageAddress, readBytes, writeBytes } from '@netmem/memory'
import { AddressSpace, filemapAddFolio, filemapRemoveFolio } from './page-cache.js'
import { type FileRaState, pageCacheReadahead } from './readahead.js'
import type { Vfs } from './vfs.js'

/** A file's content at rest, outside of the modelled memory: what survives when its pages are dropped. */
export class Disk {
  private readonly pages = new Map<number, Uint8Array>()

  /** @param content what is on it to begin with; borrowed, so it must not change. */
  constructor(
    private readonly content: Uint8Array = new Uint8Array(0),
    private readonly pageSize = 4096,
  ) {}

  /** @returns the bytes of a page as far as there are any; the rest of it is zeros. */
  read(index: number): Uint8Array {
    const start = index * this.pageSize
    return this.pages.get(index) ?? this.content.subarray(start, start + this.pageSize)
  }

  write(index: number, bytes: Uint8Array): void {
    this.pages.set(index, bytes)
  }
}

/** Models `struct inode` of a regular file. */
export class Inode {
  readonly mapping = new AddressSpace()
  /** Pages changed since they were read or last written to the disk, by index. */
  readonly dirty = new Set<number>()
  /** Open files of it. With none left its pages go, for nobody can name it any more. */
  opens = 0

  constructor(
    readonly vfs: Vfs,
    /** Models `i_size`, bytes. */
    public size: number,
    /** Null for tmpfs. */
    readonly disk: Disk | null,
    /** Models `s_maxbytes`. */
    readonly maxBytes: number,
  ) {
    vfs.inodes.add(this)
  }

  /** @returns whether it is a tmpfs file. */
  get isShmem(): boolean {
    return this.disk === null
  }
}

/**
 * Models `filemap_get_pages` for one page: from the cache, else read in with what readahead thinks will follow.
 *
 * @param wantBytes how far the reader is going to read.
 * @returns the frame, NO_PFN without memory or for a hole of a tmpfs file.
 */
export function filemapGetPage(cpu: Cpu, inode: Inode, ra: FileRaState, index: number, wantBytes: number): Pfn {
  const { mapping } = inode
  const pfn = mapping.load(index)
  if (pfn !== NO_PFN && index !== ra.mark) return pfn
  if (inode.disk === null) return pfn
  const pages = Math.ceil(wantBytes / inode.vfs.pageSize)
  pageCacheReadahead(ra, inode, index, pages, pfn !== NO_PFN, (at) => readPage(cpu, inode, at))
  return mapping.load(index)
}

/** Reads one page from the disk into a new page of the cache. @returns false without memory. */
export function readPage(cpu: Cpu, inode: Inode, index: number): boolean {
  const { vfs, disk } = inode
  const pfn = filemapAddFolio(vfs.mem, cpu, inode.mapping, index, true)
  if (pfn === NO_PFN) return false
  // The disk's own transfer: no copy by the CPU.
  writeBytes(vfs.mem, pageAddress(pfn), (disk as Disk).read(index))
  return true
}

/** Models `filemap_write_and_wait`: what is dirty goes to the disk. */
export function filemapWriteback(inode: Inode): void {
  const { vfs, disk, mapping } = inode
  if (disk === null) return
  for (const index of inode.dirty) disk.write(index, readBytes(vfs.mem, pageAddress(mapping.load(index)), vfs.pageSize))
  inode.dirty.clear()
}

/**
 * Models `invalidate_mapping_pages` (POSIX_FADV_DONTNEED, drop_caches): clean pages that only the cache holds go.
 * Pages that a pipe or a packet refers to stay.
 *
 * @returns pages dropped.
 */
export function invalidateMappingPages(cpu: Cpu, inode: Inode): number {
  if (inode.disk === null) return 0
  const { mem } = inode.vfs
  const gone: number[] = []
  inode.mapping.forEach((index, pfn) => {
    if (!inode.dirty.has(index) && mem.pages.refcount[pfn] === 1) gone.push(index)
  })
  for (const index of gone) filemapRemoveFolio(mem, cpu, inode.mapping, index)
  return gone.length
}

/** Models `truncate_inode_pages`: pages past the new end go, and the rest of the last one becomes zeros. */
export function truncateInode(cpu: Cpu, inode: Inode, size: number): void {
  const { vfs, mapping } = inode
  const { mem, pageSize } = vfs
  const gone: number[] = []
  mapping.forEach((index) => {
    if (index * pageSize >= size) gone.push(index)
  })
  for (const index of gone) {
    filemapRemoveFolio(mem, cpu, mapping, index)
    inode.dirty.delete(index)
  }
  const within = size % pageSize
  const last = within === 0 ? NO_PFN : mapping.load(Math.floor(size / pageSize))
  if (last !== NO_PFN && size < inode.size) {
    const from = (pageAddress(last) >>> 0) + within
    mem.u8.fill(0, from, from - within + pageSize)
  }
  inode.size = size
}

/** Models `evict_inode`: the last opener is gone, and with it the file. */
export function evictInode(cpu: Cpu, inode: Inode): void {
  const { mem } = inode.vfs
  const all: number[] = []
  inode.mapping.forEach((index) => {
    all.push(index)
  })
  for (const index of all) filemapRemoveFolio(mem, cpu, inode.mapping, index)
  inode.dirty.clear()
  inode.vfs.inodes.delete(inode)
}
