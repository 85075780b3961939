/** Regular files: opening, seeking, closing. */
import { type Cpu, ERRNO } from '@netmem/base'
import { FIONREAD } from '../pipe/pipe-io.js'
import { iterFileSpliceWrite } from '../splice/splice-write.js'
import { File, type FileOps, FMODE_SEEKABLE, genericFileLlseek, MAX_LFS_FILESIZE } from './file.js'
import { filemapRead, filemapSpliceRead, genericFileWriteIter, type OpenInode } from './filemap.js'
import { Disk, evictInode, Inode } from './inode.js'
import { FileRaState } from './readahead.js'
import type { Vfs } from './vfs.js'

/** Models the largest file of an ext4 file system with 4 KiB blocks, bytes. */
export const EXT4_MAX_BYTES = 17592186040320

/** @returns the inode behind an open regular file. */
export const inodeOf = (file: File): Inode => (file.priv as OpenInode).inode

const regular = (name: string, maxBytes: number): FileOps => ({
  name,
  maxBytes,
  readIter: filemapRead,
  writeIter: genericFileWriteIter,
  spliceRead: filemapSpliceRead,
  spliceWrite: iterFileSpliceWrite,
  llseek: (file, offset, whence) => genericFileLlseek(file, offset, whence, inodeOf(file).size),
  // Models `file_ioctl`: what lies before the end.
  ioctl: (file, cmd) => (cmd === FIONREAD ? (inodeOf(file).size - file.pos) | 0 : -ERRNO.ENOTTY),
  release: (cpu, _task, file) => inodeRelease(cpu, inodeOf(file)),
})

/** Models `ext4_file_operations`: a file on a disk. */
export const diskFileOps = regular('disk file', EXT4_MAX_BYTES)
/** Models `shmem_file_operations`: a file in memory (memfd). */
export const shmemFileOps = regular('memfd', MAX_LFS_FILESIZE)

/** Makes a file on a disk, with this content; none of it is in memory yet. Open it, or it stays for ever. */
export const diskInodeCreate = (vfs: Vfs, content: Uint8Array = new Uint8Array(0)): Inode =>
  new Inode(vfs, content.length, new Disk(content, vfs.pageSize), EXT4_MAX_BYTES)

/** Models `memfd_create` and `ftruncate`: all of it a hole. */
export const shmemInodeCreate = (vfs: Vfs, size: number): Inode => new Inode(vfs, size, null, MAX_LFS_FILESIZE)

/** Models `do_dentry_open` of a regular file. @param flags `O_*`. @returns the open file, at position 0. */
export function inodeOpen(inode: Inode, flags: number): File {
  inode.opens += 1
  const open: OpenInode = { inode, ra: new FileRaState() }
  return new File(inode.isShmem ? shmemFileOps : diskFileOps, open, flags, FMODE_SEEKABLE)
}

/** Gives an open back; a file that nobody has open is deleted, for there are no names here. */
export function inodeRelease(cpu: Cpu, inode: Inode): void {
  inode.opens -= 1
  if (inode.opens === 0) evictInode(cpu, inode)
}
