/** Verbs of files, memfds, devices and pipes. */
import { diskInodeCreate, filemapFill, type Inode, shmemInodeCreate } from '@netmem/zerocopy'
import { O_APPEND, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from '../file.js'
import { sysFcntl, sysLseek } from '../syscalls.js'
import type { JsonObject } from '../trace/json.js'
import { sysFileSize, sysMemfd, sysOpenDevice, sysOpenInode, sysPipe } from '../vfs-file.js'
import { type Answer, retAnswer, StepError, UnsupportedVerb, zeroAnswer } from './answer.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const MODES: Readonly<Record<string, number>> = { r: O_RDONLY, w: O_WRONLY, rw: O_RDWR, a: O_WRONLY | O_APPEND }

const FCNTL: Readonly<Record<string, number>> = { F_GETFL: 3, F_SETFL: 4, F_SETPIPE_SZ: 1031, F_GETPIPE_SZ: 1032 }

/** All of a file that was just written is in the page cache: the recorder's buffer again and again, see `markPages`. */
export function filled(world: PlayerWorld, inode: Inode, bytes: number): Inode {
  const { mem, profile } = world.kernel
  if (!filemapFill(world.process.cpu, inode, 0, bytes, 0)) throw new StepError(`no memory for a file of ${bytes} bytes`)
  inode.mapping.forEach((_index, pfn) => {
    mem.u8[pfn * profile.page_size] = 1
  })
  return inode
}

/** A new memfd with `bytes` written to it, the position at their end. */
export function writtenMemfd(world: PlayerWorld, bytes: number): number {
  const { process, kernel } = world
  const inode = filled(world, shmemInodeCreate(kernel.vfs, 0), bytes)
  const fd = sysOpenInode(process, inode, O_RDWR)
  sysLseek(process, fd, bytes, 0)
  return fd
}

/** Makes a pipe, non-blocking at both ends. @returns 0, or a negative errno. */
export function keepPipe(world: PlayerWorld, reading: string, writing: string): number {
  const ends = new Int32Array(2)
  const err = sysPipe(world.process, O_NONBLOCK, ends)
  if (err < 0) return err
  world.keep(reading, ends[0]!)
  world.keep(writing, ends[1]!)
  return 0
}

function fcntl(world: PlayerWorld, args: JsonObject): Answer {
  const cmd = FCNTL[args.cmd as string]
  if (cmd === undefined) throw new UnsupportedVerb(`fcntl ${args.cmd}`)
  return retAnswer(sysFcntl(world.process, world.fd(args.id as string), cmd, (args.arg as number | undefined) ?? 0))
}

export const fileHandlers: VerbHandlers = {
  file: (world, args) => {
    const inode = filled(world, diskInodeCreate(world.kernel.vfs), args.size as number)
    const flags = MODES[(args.mode as string | undefined) ?? 'r']!
    return zeroAnswer(world.keep(args.id as string, sysOpenInode(world.process, inode, flags)))
  },

  memfd: (world, args) => zeroAnswer(world.keep(args.id as string, sysMemfd(world.process, args.size as number))),

  devnull: (world, args) =>
    zeroAnswer(world.keep(args.id as string, sysOpenDevice(world.process, (args.dev as string | undefined) ?? 'null'))),

  lseek: (world, args) =>
    retAnswer(
      sysLseek(
        world.process,
        world.fd(args.id as string),
        args.offset as number,
        (args.whence as number | undefined) ?? 0,
      ),
    ),

  filesize: (world, args) => retAnswer(sysFileSize(world.process, world.fd(args.id as string))),

  pipe: (world, args) => {
    const id = args.id as string
    const err = keepPipe(world, `${id}.r`, `${id}.w`)
    if (err < 0 || args.size === undefined) return zeroAnswer(err)
    return zeroAnswer(sysFcntl(world.process, world.fd(`${id}.w`), FCNTL.F_SETPIPE_SZ!, args.size as number))
  },

  fcntl,
}
