/**
 * Pipes and sockets. To a socket the pieces of a pipe go as references, sixteen at a time in one `sendmsg` with
 * MSG_SPLICE_PAGES; kernels before 6.5 hand them over one by one to `sendpage`. From a socket, the pages of its packets
 * go into the pipe. What a protocol cannot pass on by reference it copies, and the copy counters say so.
 */
import { type Addr, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { getPage, iovIterBvec, iovIterCount, memcpy, putPage } from '@netmem/memory'
import { type SkBuff, type SpliceSink, skbSpliceBits } from '@netmem/skbuff'
import {
  MSG_DONTWAIT,
  MSG_MORE,
  MSG_SENDPAGE_NOTLAST,
  MSG_SPLICE_PAGES,
  type Msg,
  type SkbSplicer,
  type Sock,
  sockPageFragRefill,
  type Task,
} from '@netmem/sockmem'
import { type File, type FileOps, type Loff, MAX_LFS_FILESIZE, O_NONBLOCK } from '../file/file.js'
import { type Pipe, pipeIsEmpty, pipeIsFull, pipeOccupancy } from '../pipe/pipe.js'
import { bufOffset, bufPage, NOSTEAL_PIPE_BUF, pipeBufAppend } from '../pipe/pipe-buffer.js'
import { SPLICE_F_MORE } from './splice-flags.js'
import { pipeConsume, type SpliceActor, SpliceDesc, spliceFromPipe } from './splice-from-pipe.js'
import { copySpliceRead } from './splice-read.js'
import { pipePieces } from './splice-write.js'

/** Pieces that one `sendmsg` gets. */
const SOCKET_PIECES = 16

const sockOf = (file: File): Sock => file.priv as Sock

/** Models `splice_to_socket` (fs/splice.c, 6.5 on). */
function spliceToSocket(cpu: Cpu, task: Task, pipe: Pipe, out: File, _at: Loff, len: number, flags: number): number {
  const sk = sockOf(out)
  const { msg, pieces } = pipe.vfs
  let left = len
  let spliced = 0
  let ret = 0
  while (left > 0) {
    if (pipeIsEmpty(pipe)) {
      ret = pipe.writers === 0 || spliced > 0 ? 0 : -ERRNO.EAGAIN
      break
    }
    pieces.reset(SOCKET_PIECES)
    const bytes = pipePieces(pipe, pieces, left, SOCKET_PIECES)
    if (pieces.count === 0) break
    msg.reset(MSG_SPLICE_PAGES)
    // More is coming when the caller says so, or when the vector is full: whether the last piece in it was the last in
    // the pipe the kernel does not look, so what a full pipe of sixteen holds is announced as not all.
    const moreInPipe = bytes < left && pieces.count === SOCKET_PIECES
    if ((flags & SPLICE_F_MORE) !== 0 || moreInPipe) msg.flags |= MSG_MORE
    if ((out.flags & O_NONBLOCK) !== 0) msg.flags |= MSG_DONTWAIT
    iovIterBvec(msg.iter, pieces.pfns, pieces.offsets, pieces.lens, pieces.count, bytes)
    ret = sk.ops.sendmsg(cpu, task, sk, msg, bytes)
    if (ret <= 0) break
    spliced += ret
    left -= ret
    pipeConsume(cpu, pipe, ret)
  }
  return spliced > 0 ? spliced : ret
}

/** Models `generic_splice_sendpage` (fs/splice.c, before 6.5) with `pipe_to_sendpage`. */
function genericSpliceSendpage(
  cpu: Cpu,
  task: Task,
  pipe: Pipe,
  out: File,
  _at: Loff,
  len: number,
  flags: number,
): number {
  const sk = sockOf(out)
  const dontwait = (out.flags & O_NONBLOCK) !== 0 ? MSG_DONTWAIT : 0
  const actor: SpliceActor = (on, from, buf, sd) => {
    let more = dontwait | ((sd.flags & SPLICE_F_MORE) !== 0 ? MSG_MORE : 0)
    if (sd.len < sd.totalLen && pipeOccupancy(from) > 1) more |= MSG_SENDPAGE_NOTLAST
    return sendpage(on, task, sk, from, bufPage(from, buf), bufOffset(from, buf), sd.len, more)
  }
  return spliceFromPipe(cpu, pipe, new SpliceDesc(len, flags), actor)
}

/** Models `kernel_sendpage` and `sock_no_sendpage`: by reference where the protocol can, else a copy. */
function sendpage(
  cpu: Cpu,
  task: Task,
  sk: Sock,
  pipe: Pipe,
  page: Pfn,
  offset: number,
  bytes: number,
  flags: number,
): number {
  if (sk.ops.sendpage !== undefined) return sk.ops.sendpage(cpu, task, sk, page, offset, bytes, flags)
  const { msg, pieces } = pipe.vfs
  pieces.reset(1)
  pieces.add(page, offset, bytes)
  msg.reset(flags)
  iovIterBvec(msg.iter, pieces.pfns, pieces.offsets, pieces.lens, 1)
  return sk.ops.sendmsg(cpu, task, sk, msg, bytes)
}

/** Models `sock_splice_read` (net/socket.c). */
function sockSpliceRead(cpu: Cpu, task: Task, file: File, at: Loff, pipe: Pipe, len: number): number {
  const sk = sockOf(file)
  if (sk.ops.spliceRead === undefined) return copySpliceRead(cpu, task, file, at, pipe, len)
  // Sockets have no position.
  if (at.pos !== 0) return -ERRNO.ESPIPE
  return sk.ops.spliceRead(cpu, task, sk, new PipeSplicer(pipe), len)
}

/** Models `sock_read_iter` (net/socket.c). */
function sockReadIter(cpu: Cpu, task: Task, file: File, msg: Msg, at: Loff): number {
  if (at.pos !== 0) return -ERRNO.ESPIPE
  const count = iovIterCount(msg.iter)
  if (count === 0) return 0
  const sk = sockOf(file)
  msg.flags = (file.flags & O_NONBLOCK) !== 0 ? MSG_DONTWAIT : 0
  return sk.ops.recvmsg(cpu, task, sk, msg, count, msg.flags)
}

/**
 * Models `skb_splice_bits` (net/core/skbuff.c) with `struct splice_pipe_desc` and `splice_to_pipe`: pieces of one
 * packet are gathered, neighbours joined, and then put into the pipe as far as it has slots.
 */
class PipeSplicer implements SkbSplicer, SpliceSink {
  private readonly pages: Int32Array
  private readonly offsets: Int32Array
  private readonly lens: Int32Array
  private count = 0
  // Whose page fragment a copy goes to.
  private cpu!: Cpu
  private task!: Task
  private sk!: Sock

  constructor(private readonly pipe: Pipe) {
    const { MAX_SKB_FRAGS } = pipe.vfs.profile
    this.pages = new Int32Array(MAX_SKB_FRAGS)
    this.offsets = new Int32Array(MAX_SKB_FRAGS)
    this.lens = new Int32Array(MAX_SKB_FRAGS)
  }

  skbSpliceBits(cpu: Cpu, task: Task, sk: Sock, skb: SkBuff, offset: number, len: number): number {
    this.count = 0
    this.cpu = cpu
    this.task = task
    this.sk = sk
    skbSpliceBits(skb, offset, len, this)
    return this.count === 0 ? 0 : this.spliceToPipe()
  }

  /** Models `spd_fill_page` and `spd_can_coalesce`. */
  page(pfn: Pfn, off: number, bytes: number): boolean {
    const last = this.count - 1
    if (this.count === this.pages.length) return false
    if (last >= 0 && this.pages[last] === pfn && this.offsets[last]! + this.lens[last]! === off) {
      this.lens[last]! += bytes
      return true
    }
    getPage(this.pipe.vfs.mem, pfn)
    this.pages[this.count] = pfn
    this.offsets[this.count] = off
    this.lens[this.count] = bytes
    this.count += 1
    return true
  }

  /** Models `linear_to_page` (net/core/skbuff.c): bytes whose block cannot be lent go into the reader's page fragment. */
  copy(from: Addr, bytes: number): number {
    if (this.count === this.pages.length) return 0
    const { mem, trace } = this.pipe.vfs
    const pfrag = this.task.taskFrag
    if (!sockPageFragRefill(this.cpu, this.sk, pfrag)) return 0
    const part = Math.min(bytes, pfrag.size - pfrag.offset)
    memcpy(mem, ((pfrag.page << 12) + pfrag.offset) as Addr, from, part)
    if (trace.copy !== null) trace.copy(this.cpu, 'linear_to_page', part)
    const taken = this.page(pfrag.page, pfrag.offset, part)
    pfrag.offset += part
    return taken ? part : 0
  }

  /** Models `splice_to_pipe` (fs/splice.c): what finds no slot is let go. @returns bytes, -EPIPE or -EAGAIN when none. */
  private spliceToPipe(): number {
    const { pipe } = this
    let bytes = 0
    let next = 0
    if (pipe.readers > 0)
      for (; next < this.count && !pipeIsFull(pipe); next++) {
        pipeBufAppend(pipe, this.pages[next]! as Pfn, this.offsets[next]!, this.lens[next]!, NOSTEAL_PIPE_BUF, 0)
        bytes += this.lens[next]!
      }
    for (; next < this.count; next++) putPage(pipe.vfs.mem, this.cpu, this.pages[next]! as Pfn, 'sock_spd_release')
    if (bytes > 0) return bytes
    return pipe.readers === 0 ? -ERRNO.EPIPE : -ERRNO.EAGAIN
  }
}

const common = {
  maxBytes: MAX_LFS_FILESIZE,
  readIter: sockReadIter,
  spliceRead: sockSpliceRead,
} satisfies Partial<FileOps>

/** Models `socket_file_ops` (net/socket.c) as splice sees it. */
export const socketFops: FileOps = {
  ...common,
  name: 'socket',
  spliceWrite: spliceToSocket,
  // Models `sock_splice_eof`.
  spliceEof: (cpu, task, file) => sockOf(file).ops.spliceEof?.(cpu, task, sockOf(file)),
}

/** The same of kernels that have `sendpage`. */
export const socketSendpageFops: FileOps = {
  ...common,
  name: 'socket',
  spliceWrite: genericSpliceSendpage,
}
