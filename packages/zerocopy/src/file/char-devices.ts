/** /dev/null, /dev/zero, /dev/full and the random devices: what they are as ends of a splice. */
import { type Cpu, ERRNO } from '@netmem/base'
import { iovIterAdvance, iovIterCount, iterAddr } from '@netmem/memory'
import { EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, type Msg, type Task } from '@netmem/sockmem'
import { copySpliceRead } from '../splice/splice-read.js'
import { iterFileSpliceWrite, spliceWriteNull } from '../splice/splice-write.js'
import { File, type FileOps, FMODE_SEEKABLE, MAX_LFS_FILESIZE } from './file.js'
import type { Vfs } from './vfs.js'

/** Fills the reader's memory piece by piece. @param fill gets the host view of one piece. */
function fillIter(vfs: Vfs, msg: Msg, fill: (bytes: Uint8Array) => void): number {
  const { iter } = msg
  const total = iovIterCount(iter)
  while (iovIterCount(iter) > 0) {
    const from = iterAddr(iter) >>> 0
    const within = iter.kind === 0 ? iovIterCount(iter) : iter.lens[iter.seg]! - iter.iovOffset
    const bytes = Math.min(iovIterCount(iter), within, vfs.pageSize - (from % vfs.pageSize))
    fill(vfs.mem.u8.subarray(from, from + bytes))
    iovIterAdvance(iter, bytes)
  }
  return total
}

const vfsOf = (file: File): Vfs => file.priv as Vfs

const readZero = (_cpu: Cpu, _task: Task, file: File, msg: Msg): number =>
  fillIter(vfsOf(file), msg, (bytes) => bytes.fill(0))

/** Models `get_random_bytes`; the machine's seed decides what comes. */
function readRandom(_cpu: Cpu, _task: Task, file: File, msg: Msg): number {
  const vfs = vfsOf(file)
  return fillIter(vfs, msg, (bytes) => {
    for (let i = 0; i < bytes.length; i++) {
      let x = vfs.randomState
      x ^= x << 13
      x ^= x >>> 17
      x ^= x << 5
      vfs.randomState = x
      bytes[i] = x
    }
  })
}

/** Models `write_null`: everything is taken. */
function writeNull(_cpu: Cpu, _task: Task, _file: File, msg: Msg): number {
  const count = iovIterCount(msg.iter)
  iovIterAdvance(msg.iter, count)
  return count
}

/** Models `null_lseek`: any position is the start. */
function nullLseek(file: File): number {
  file.pos = 0
  return 0
}

const base = { maxBytes: MAX_LFS_FILESIZE, llseek: nullLseek } satisfies Partial<FileOps>

const random: FileOps = {
  ...base,
  name: 'random',
  llseek: (file) => file.pos,
  readIter: readRandom,
  writeIter: writeNull,
  spliceRead: (cpu, task, file, at, pipe, len) => copySpliceRead(cpu, task, file, at, pipe, len),
  spliceWrite: iterFileSpliceWrite,
  poll: () => EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM,
}

const devices: Readonly<Record<string, FileOps>> = {
  null: { ...base, name: 'null', readIter: () => 0, writeIter: writeNull, spliceWrite: spliceWriteNull },
  zero: {
    ...base,
    name: 'zero',
    readIter: readZero,
    writeIter: writeNull,
    spliceRead: (cpu, task, file, at, pipe, len) => copySpliceRead(cpu, task, file, at, pipe, len),
    spliceWrite: spliceWriteNull,
  },
  full: {
    ...base,
    name: 'full',
    readIter: readZero,
    writeIter: () => -ERRNO.ENOSPC,
    spliceRead: (cpu, task, file, at, pipe, len) => copySpliceRead(cpu, task, file, at, pipe, len),
  },
  random,
  urandom: { ...random, name: 'urandom' },
}

/** Models the open of a device by its name below /dev. @returns null when there is none. */
export function deviceOpen(vfs: Vfs, name: string, flags: number): File | null {
  const fop = devices[name]
  return fop === undefined ? null : new File(fop, vfs, flags, FMODE_SEEKABLE)
}
