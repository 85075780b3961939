/**
 * A file in the page cache to a TCP connection over loopback: by sendfile, which passes references, and by read and
 * send, which copy twice. The receiver takes what came with recv(MSG_TRUNC), which looks at no byte. One operation is
 * one page; the file is sent from its start again and again.
 */
import { kernelProfile } from '@netmem/base'
import { AF_INET, MSG_TRUNC, SO, SOCK_STREAM, SOL_SOCKET, SockAddr } from '@netmem/sockmem'
import { diskInodeCreate, filemapFill, Loff } from '@netmem/zerocopy'
import {
  bootKernel,
  Calls,
  type Kernel,
  type Process,
  sysAccept,
  sysBind,
  sysConnect,
  sysLseek,
  sysOpenInode,
  sysRead,
  sysRecvmsg,
  sysSendfile,
  sysSendmsg,
  sysSocket,
} from '../src/index.js'
import type { BenchCase } from './send.bench.js'

const PAGE = 4096
/** What a program reads at a time. */
const CHUNK = 256 << 10
const PORT = 5010
const LOOPBACK = 0x7f000001
const O_NONBLOCK = 0o4000
/** Beside the file: packets, sockets, a reader's buffer. */
const REST_BYTES = 64 << 20
const WAIT_NS = 50_000

/** A connection, and the file to send over it. */
class Sender {
  readonly kernel: Kernel
  readonly process: Process
  readonly file: number
  readonly from: number
  readonly to: number
  private readonly at = new Loff()
  /** Where the file is read next. */
  private next = 0
  /** Bytes of the file that are still in the reader's buffer. */
  private inBuffer = 0
  private bufferAt = 0

  constructor(readonly fileBytes: number) {
    this.kernel = bootKernel({
      profile: kernelProfile('linux-6.18-x86_64'),
      cpus: 1,
      memoryBytes: fileBytes + REST_BYTES,
      sysctl: { 'net.ipv4.tcp_congestion_control': 'cubic' },
    })
    this.process = this.kernel.spawn()
    const inode = diskInodeCreate(this.kernel.vfs)
    if (!filemapFill(this.process.cpu, inode, 0, fileBytes, 0x5a)) throw new Error('bench: the file does not fit')
    this.file = sysOpenInode(this.process, inode, 0)
    const calls = new Calls(this.process)
    const listener = this.socket(calls)
    const addr = new SockAddr()
    addr.family = AF_INET
    addr.addr = LOOPBACK
    addr.port = PORT
    sysBind(this.process, listener, addr)
    calls.listen(listener, 1)
    this.from = this.socket(calls)
    sysConnect(this.process, this.from, addr)
    this.to = sysAccept(this.process, listener, O_NONBLOCK)
    if (this.to < 0) throw new Error(`bench: accept answered ${this.to}`)
  }

  private socket(calls: Calls): number {
    const fd = sysSocket(this.process, AF_INET, SOCK_STREAM | O_NONBLOCK)
    calls.setsockopt(fd, SOL_SOCKET, SO.SO_SNDBUF, 2 << 20)
    calls.setsockopt(fd, SOL_SOCKET, SO.SO_RCVBUF, 4 << 20)
    return fd
  }

  /** Bytes that were copied by the CPU while `run` ran. */
  copiedBy(run: () => void): number {
    let copied = 0
    const { trace } = this.kernel
    trace.copy = (_cpu, _site, bytes) => {
      copied += bytes
    }
    run()
    trace.copy = null
    return copied
  }

  /**
   * Sends so many pages of the file and receives them. @param send moves at most `bytes` into the connection: sendfile
   * what fits, a reader one buffer.
   */
  pages(count: number, send: (bytes: number) => number): number {
    const { process, kernel } = this
    const total = count * PAGE
    // Nothing is written there.
    const drain = { flags: MSG_TRUNC, buffer: process.buffer('drain', PAGE) }
    let sent = 0
    let received = 0
    while (received < total) {
      if (sent < total) {
        const bytes = send(total - sent)
        if (bytes > 0) sent += bytes
      }
      const got = sysRecvmsg(process, this.to, total, drain)
      if (got > 0) received += got
      // Nothing moves until a timer or an acknowledgement does.
      else kernel.passTime(WAIT_NS)
    }
    return received
  }

  sendfile(bytes: number): number {
    if (this.next === this.fileBytes) this.next = 0
    this.at.pos = this.next
    const sent = sysSendfile(this.process, this.from, this.file, this.at, bytes)
    this.next = this.at.pos
    return sent
  }

  readAndSend(bytes: number): number {
    const { process } = this
    if (this.inBuffer === 0) {
      if (this.next === this.fileBytes) this.next = 0
      sysLseek(process, this.file, this.next, 0)
      this.inBuffer = sysRead(process, this.file, Math.min(bytes, CHUNK))
      this.next += this.inBuffer
      this.bufferAt = 0
    }
    const buffer = process.buffer('recv', CHUNK)
    const sent = sysSendmsg(process, this.from, this.inBuffer, { buffer, offset: this.bufferAt })
    if (sent > 0) {
      this.inBuffer -= sent
      this.bufferAt += sent
    }
    return sent
  }
}

/** One case in its size. */
export function sendfileCase(fileBytes: number, zeroCopy: boolean): BenchCase {
  let sender: Sender
  const send = (bytes: number): number => (zeroCopy ? sender.sendfile(bytes) : sender.readAndSend(bytes))
  return {
    unit: 'ns/page',
    setup: () => {
      sender = new Sender(fileBytes)
      // What the case is named for: no byte is copied, or each twice.
      const bytes = 256 * PAGE
      const copied = sender.copiedBy(() => sender.pages(256, send))
      if (copied !== (zeroCopy ? 0 : 2 * bytes)) throw new Error(`bench: ${copied} bytes were copied for ${bytes}`)
      // The whole way is long: it is compiled by the time that the file has gone once.
      sender.pages(fileBytes / PAGE, send)
    },
    run: (n) => sender.pages(n, send),
  }
}

const SMALL_FILE = 8 << 20

export const cases: Record<string, BenchCase> = {
  'sendfile.8M': sendfileCase(SMALL_FILE, true),
  'readSend.8M': sendfileCase(SMALL_FILE, false),
}
