// MSG_ZEROCOPY

// Files and the page cache.
export { deviceOpen } from './file/char-devices.js'
export {
  File,
  type FileOps,
  FMODE_LSEEK,
  FMODE_PREAD,
  FMODE_PWRITE,
  FMODE_READ,
  FMODE_SEEKABLE,
  FMODE_WRITE,
  Loff,
  MAX_LFS_FILESIZE,
  MAX_RW_COUNT,
  O_ACCMODE,
  O_APPEND,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
} from './file/file.js'
export { filemapFill } from './file/filemap.js'
export { Disk, filemapWriteback, Inode, invalidateMappingPages, truncateInode } from './file/inode.js'
export { diskInodeCreate, EXT4_MAX_BYTES, inodeOf, inodeOpen, shmemInodeCreate } from './file/regular.js'
export { type UserStruct, Vfs, type VfsParams, vfsInit } from './file/vfs.js'
export { type ZerocopyHazard, ZerocopyHazards } from './msg-zerocopy/hazard.js'
export { skbZerocopyIterDgram, skbZerocopyIterStream } from './msg-zerocopy/iter.js'
export {
  MsgZerocopy,
  msgZerocopyCopied,
  msgZerocopyRealloc,
  netZcopyPutAbort,
  SO_EE_CODE_ZEROCOPY_COPIED,
} from './msg-zerocopy/ubuf.js'
// Pipes.
export { Pipe, pipeIsEmpty, pipeIsFull, pipeOccupancy } from './pipe/pipe.js'
export { pipeBufTrySteal } from './pipe/pipe-buffer.js'
export { pipeBytes } from './pipe/pipe-info.js'
export { createPipeFiles, FIONREAD, getPipeInfo, O_DIRECT, type PipeEnds } from './pipe/pipe-io.js'
export { F_GETPIPE_SZ, F_SETPIPE_SZ, roundPipeSize } from './pipe/pipe-size.js'
// splice, tee, vmsplice, sendfile.
export { sysSpliceFiles, sysTeeFiles } from './splice/do-splice.js'
export { doSendfile, exitSplicePipe } from './splice/sendfile.js'
export {
  SPLICE_F_ALL,
  SPLICE_F_GIFT,
  SPLICE_F_MORE,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
} from './splice/splice-flags.js'
export { socketFops, socketSendpageFops } from './splice/splice-socket.js'
export { sysVmspliceFile } from './splice/vmsplice.js'
