/**
 * /dev/net/tun: queues of TUN and TAP devices as files. A write is a frame that the device receives, a read
 * takes one that it sent.
 */
import { ERRNO } from '@netmem/base'
import { inetDevDown } from '@netmem/inet'
import { iovIterInit, iovIterVec, type UserBuffer, userWrite } from '@netmem/memory'
import { EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, type Msg } from '@netmem/sockmem'
import {
  devGetByName,
  IFF_MULTI_QUEUE,
  IFF_NAPI,
  IFF_NAPI_FRAGS,
  IFF_NO_PI,
  IFF_TAP,
  IFF_TUN,
  IFF_VNET_HDR,
  type TunDriver,
  type TunFile,
  tunChrClose,
  tunChrOpen,
  tunDoRead,
  tunGetUser,
  tunInit,
  tunSetIff,
  tunSetQueue,
  tunSetSndbuf,
  tunSetVnetHdrSz,
} from '@netmem/virtual-nic'
import { type FileOperations, O_NONBLOCK, O_RDWR, OpenFile } from './file.js'
import type { Kernel } from './kernel.js'
import type { Process } from './process.js'
import { flagBits } from './uapi.js'

/** What opening a queue of a TUN or TAP device asks for. */
export interface TapParams {
  readonly name: string
  /** `IFF_*` names. */
  readonly flags: readonly string[]
}

/** Models the flags of TUNSETIFF by name. */
const TUN_FLAGS: Readonly<Record<string, number>> = {
  IFF_TUN,
  IFF_TAP,
  IFF_NAPI,
  IFF_NAPI_FRAGS,
  IFF_NO_PI,
  IFF_VNET_HDR,
  IFF_MULTI_QUEUE,
}

/** Models `tun_fops` (drivers/net/tun.c). */
const tunFileOps: FileOperations = {
  name: 'tun',
  readIter: (_kernel: Kernel, process: Process, file: OpenFile, msg: Msg): number =>
    tunDoRead(process.cpu, file.priv as TunFile, msg.iter),
  writeIter: (_kernel: Kernel, process: Process, file: OpenFile, msg: Msg): number =>
    tunGetUser(process.cpu, file.priv as TunFile, process.task.taskFrag, msg.iter, (file.flags & O_NONBLOCK) !== 0),
  poll: (_kernel: Kernel, _process: Process, file: OpenFile): number => {
    const tfile = file.priv as TunFile
    const readable = tfile.txHead < tfile.txRing.length ? EPOLLIN | EPOLLRDNORM : 0
    return readable | (tfile.wmemAlloc - 1 < tfile.sndbuf ? EPOLLOUT | EPOLLWRNORM : 0)
  },
  release: (kernel: Kernel, process: Process, file: OpenFile): void => {
    const gone = tunChrClose(process.cpu, file.priv as TunFile)
    if (gone === null) return
    inetDevDown(kernel.inet, gone)
    kernel.links.netOf(gone).devices.delete(gone.name)
  },
}

/** The TUN driver of one machine, seen from its users' side. */
export class TunFiles {
  private readonly driver: TunDriver

  constructor(private readonly kernel: Kernel) {
    this.driver = tunInit(kernel.devs)
    // The driver's own scratch is taken when it is loaded, not by the first packet.
    this.driver.scratch(kernel.cpus[0]!)
  }

  /** Opens /dev/net/tun and does TUNSETIFF. @returns a descriptor or a negative errno. */
  open(process: Process, params: TapParams): number {
    const { kernel } = this
    const tfile = tunChrOpen(this.driver)
    const err = tunSetIff(tfile, params.name, flagBits(params.flags, TUN_FLAGS), process.net.id)
    const fd = err < 0 ? err : process.files.install(new OpenFile(tunFileOps, tfile, O_RDWR | O_NONBLOCK))
    if (fd < 0) {
      tunChrClose(process.cpu, tfile)
      return fd
    }
    const dev = devGetByName(kernel.devs, params.name, process.net.id)
    if (dev !== null) process.net.devices.set(params.name, dev)
    return fd
  }

  private queue(process: Process, fd: number): TunFile | null {
    const file = process.files.get(fd)
    return file?.ops === tunFileOps ? (file.priv as TunFile) : null
  }

  /** Models TUNSETSNDBUF. */
  setSndbuf(process: Process, fd: number, bytes: number): number {
    const tfile = this.queue(process, fd)
    return tfile === null ? -ERRNO.ENOTTY : tunSetSndbuf(tfile, bytes)
  }

  /** Models TUNSETVNETHDRSZ. */
  setVnetHdrSz(process: Process, fd: number, bytes: number): number {
    const tfile = this.queue(process, fd)
    return tfile === null ? -ERRNO.ENOTTY : tunSetVnetHdrSz(tfile, bytes)
  }

  /** Models TUNSETQUEUE. */
  setQueue(process: Process, fd: number, attach: boolean): number {
    const tfile = this.queue(process, fd)
    return tfile === null ? -ERRNO.ENOTTY : tunSetQueue(process.cpu, tfile, attach)
  }

  /**
   * Writes a frame, headers included. @param cuts lengths of the buffers of a writev; the rest is the last one.
   *
   * @returns bytes written, or a negative errno.
   */
  // Of no bytes at all, writev does not reach the driver.
  write(process: Process, fd: number, bytes: Uint8Array, cuts: readonly number[] | null): number {
    const file = process.files.get(fd)
    if (file === null) return -ERRNO.EBADF
    const { msg } = process
    const buffer = process.buffer('tun', Math.max(1, bytes.length))
    userWrite(this.kernel.mem, buffer, 0, bytes)
    msg.reset(0)
    if (cuts === null) iovIterInit(msg.iter, buffer, 0, bytes.length)
    else if (bytes.length === 0) return 0
    else segments(msg, buffer, bytes.length, cuts)
    const ret = tunFileOps.writeIter!(this.kernel, process, file, msg, bytes.length)
    this.kernel.syscallExit(process.cpu)
    return ret
  }

  /** Reads one frame. @returns its bytes, headers included, or a negative errno. */
  read(process: Process, fd: number, bytes: number): number {
    const file = process.files.get(fd)
    if (file === null) return -ERRNO.EBADF
    const { msg } = process
    msg.reset(0)
    iovIterInit(msg.iter, process.buffer('recv', bytes), 0, bytes)
    const ret = tunFileOps.readIter!(this.kernel, process, file, msg, bytes)
    this.kernel.syscallExit(process.cpu)
    return ret
  }
}

/** Cuts user memory at the given lengths; empty pieces are left out, as in the recorder's writev. */
function segments(msg: Msg, buffer: UserBuffer, total: number, cuts: readonly number[]): void {
  const offsets: number[] = []
  const lens: number[] = []
  let at = 0
  for (const cut of [...cuts, total]) {
    const length = Math.min(cut, total - at)
    if (length <= 0) continue
    offsets.push(at)
    lens.push(length)
    at += length
  }
  iovIterVec(
    msg.iter,
    offsets.map(() => buffer),
    Int32Array.from(offsets),
    Int32Array.from(lens),
    lens.length,
  )
}
