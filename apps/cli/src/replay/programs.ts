/**
 * The programs of the modelled host: one socket for every UDP port and one per TCP connection that the
 * capture shows. They only make system calls; how fast they read is the user's choice.
 */
import { ERRNO } from '@netmem/base'
import { UdpSock } from '@netmem/inet'
import {
  type Kernel,
  type OpenFile,
  type Process,
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysGetname,
  sysListen,
  sysSendmsg,
  sysSetsockopt,
  sysShutdown,
  sysSocket,
} from '@netmem/kernel-model'
import { iovIterInit, type UserBuffer, userWrite } from '@netmem/memory'
import type { SkbQueue } from '@netmem/skbuff'
import { MSG_DONTWAIT, OptVal, type Sock, SockAddr, TCP_CLOSE } from '@netmem/sockmem'
import { addressText } from '../capture/address.js'
import type { Reader, ReplayOptions } from './options.js'
import { Phase, type TcpFlow } from './tcp-flow.js'
import type { PeerPrograms } from './tcp-peers.js'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SO_SNDBUF = 7
const SO_RCVBUF = 8
const SO_LINGER = 13
const SHUT_WR = 1

const CHUNK_BYTES = 65536
/** Descriptors per process: the kernel's default limit, and short tables to search. */
const FDS_PER_PROCESS = 1000
/** A reader of limited speed reads so often per second at least, unless single bytes are all it reads. */
const READS_PER_SEC = 100

enum Kind {
  Udp = 0,
  Listener = 1,
  Tcp = 2,
}

/** What a program counts. */
export enum Moved {
  PacketsIn = 0,
  BytesRead = 1,
  BytesWritten = 2,
  Count = 3,
}

/** One socket and what its program did with it. */
export class Program {
  readonly sk: Sock
  /** Its place among the sockets that have something to read. */
  ready = false
  /** When a reader of limited speed reads next; 0: as soon as there is something. */
  nextReadNs = 0
  timerPending = false
  open = true
  /** By `Moved`: counters that soon pass 2^31. */
  readonly moved = new Float64Array(Moved.Count)
  /** Truesize queued for reading when last looked at, and the most ever. */
  rmem = 0
  rmemPeak = 0
  drops = 0
  eof = false
  rcvbuf = 0
  closedRmem = 0
  flow: TcpFlow | null = null

  constructor(
    readonly process: Process,
    readonly fd: number,
    readonly kind: Kind,
    readonly local: string,
  ) {
    this.sk = (process.files.get(fd) as OpenFile).priv as Sock
  }

  /** The other end of a connection, as text. */
  get remote(): string | null {
    const { flow } = this
    if (flow === null) return null
    const text = addressText(flow.version, flow.remote0, flow.remote1, flow.remote2, flow.remote3)
    return flow.version === 6 ? `[${text}]:${flow.remotePort}` : `${text}:${flow.remotePort}`
  }

  get tcp(): boolean {
    return this.kind === Kind.Tcp
  }
}

/** The host's addresses as socket addresses. */
export interface LocalAddress {
  readonly version: 4 | 6
  readonly words: readonly [number, number, number, number]
  readonly text: string
}

export class Programs implements PeerPrograms {
  /** Every socket that received or sent, in order of appearance; listeners are not among them. */
  readonly list: Program[] = []
  /** Truesize queued for reading in all sockets, in bytes. */
  rmem = 0
  /** Of all programs together, by `Moved`. */
  readonly moved = new Float64Array(Moved.Count)
  refused = 0
  /** User memory of the programs' buffers, in bytes: theirs, not the network's. */
  userBytes = 0
  private readonly bySk: (Program | null)[] = []
  /** By local address and port: a place in `opened` plus 1, 0 for a port that nobody has used. */
  private readonly udp: Int32Array
  private readonly opened: (Program | null)[] = []
  private readonly listeners = new Map<number, Program>()
  private processes: Process[] = []
  private fdsLeft = 0
  /** Woken programs: the first `readyCount` places. An array cut to length 0 would lose its memory each time. */
  private readonly readyList: Program[] = []
  private readyCount = 0
  private readonly addr = new SockAddr()
  private readonly val = new OptVal()
  private readonly reader: Reader
  private readonly timer: number
  private readonly chunkBytes: number

  constructor(
    private readonly kernel: Kernel,
    private readonly options: ReplayOptions,
    private readonly locals: readonly LocalAddress[],
    /** Finds the flow of an accepted connection. */
    private readonly flowOf: (localPort: number, peer: SockAddr, local: number) => TcpFlow | null,
  ) {
    this.reader = options.reader
    this.udp = new Int32Array(65536 * Math.max(1, locals.length))
    this.chunkBytes =
      options.reader.kind === 'rate'
        ? Math.min(CHUNK_BYTES, Math.max(1, Math.floor(options.reader.bytesPerSec / READS_PER_SEC)))
        : CHUNK_BYTES
    this.timer = kernel.clock.register((skId) => {
      const program = this.bySk[skId]
      if (program == null) return
      program.timerPending = false
      this.markReady(program)
    })
    const earlier = kernel.socks.wake
    kernel.socks.wake = (cpu, sk, events) => {
      if (earlier !== null) earlier(cpu, sk, events)
      const program = this.bySk[sk.id]
      if (program != null) this.markReady(program)
    }
  }

  // UDP.

  /** @returns the program on a UDP port, made at first use; null when the kernel refuses one. */
  udpAt(local: number, port: number): Program | null {
    const place = this.udp[local * 65536 + port]
    if (place !== 0) return this.opened[place - 1]
    const made = this.openUdp(local, port)
    this.opened.push(made)
    this.udp[local * 65536 + port] = this.opened.length
    return made
  }

  private openUdp(local: number, port: number): Program | null {
    const program = this.socket(local, SOCK_DGRAM, Kind.Udp, port)
    if (program === null) return null
    this.localAddress(local, port)
    if (sysBind(program.process, program.fd, this.addr) !== 0) {
      this.close(program)
      return null
    }
    this.list.push(program)
    return program
  }

  /** Sends a datagram of `count` bytes. @returns what sendmsg does. */
  udpSend(
    program: Program,
    version: number,
    r0: number,
    r1: number,
    r2: number,
    r3: number,
    port: number,
    bytes: Uint8Array,
    at: number,
    capBytes: number,
    count: number,
  ): number {
    this.address(version, r0, r1, r2, r3, port)
    return this.send(program, bytes, at, capBytes, count, this.addr)
  }

  // TCP.

  listen(flow: TcpFlow): boolean {
    const key = flow.local * 65536 + flow.localPort
    if (this.listeners.has(key)) return true
    const program = this.socket(flow.local, SOCK_STREAM, Kind.Listener, flow.localPort)
    if (program === null) return false
    this.localAddress(flow.local, flow.localPort)
    if (sysBind(program.process, program.fd, this.addr) !== 0 || sysListen(program.process, program.fd, 4096) !== 0) {
      this.close(program)
      return false
    }
    this.listeners.set(key, program)
    return true
  }

  connect(flow: TcpFlow): boolean {
    const program = this.socket(flow.local, SOCK_STREAM, Kind.Tcp, flow.localPort)
    if (program === null) return false
    this.localAddress(flow.local, flow.localPort)
    if (sysBind(program.process, program.fd, this.addr) !== 0) {
      this.close(program)
      return false
    }
    this.list.push(program)
    program.flow = flow
    flow.program = program
    this.address(flow.version, flow.remote0, flow.remote1, flow.remote2, flow.remote3, flow.remotePort)
    const err = sysConnect(program.process, program.fd, this.addr)
    if (err === 0 || err === -ERRNO.EINPROGRESS) return true
    this.end(program)
    return false
  }

  write(flow: TcpFlow, bytes: Uint8Array, at: number, capBytes: number, count: number): void {
    flow.toWrite += count
    const { program } = flow
    if (program !== null && flow.toWrite === count && flow.writeEnds.length === 0) {
      const sent = this.send(program, bytes, at, capBytes, Math.min(count, CHUNK_BYTES), undefined)
      if (sent > 0) {
        flow.toWrite -= sent
        flow.written += sent
      }
    }
    if (flow.toWrite > 0) {
      flow.writeEnds.push(flow.written + flow.toWrite)
      this.writeMore(flow)
    }
  }

  shutdown(flow: TcpFlow): void {
    flow.wantsShutdown = true
    this.writeMore(flow)
  }

  abort(flow: TcpFlow): void {
    flow.phase = Phase.Closed
    const { program } = flow
    if (program === null) return
    this.setLinger(program)
    this.end(program)
  }

  /** Goes on writing where the send buffer was full. */
  private writeMore(flow: TcpFlow): void {
    const { program } = flow
    if (program === null) return
    while (flow.toWrite > 0) {
      const sent = this.send(program, null, 0, 0, Math.min(flow.toWrite, CHUNK_BYTES), undefined)
      if (sent <= 0) break
      flow.toWrite -= sent
      flow.written += sent
    }
    while (flow.writeEnds.length > 0 && flow.writeEnds[0] <= flow.written) flow.writeEnds.shift()
    if (flow.wantsShutdown && !flow.shutDown && flow.toWrite === 0) {
      const err = sysShutdown(program.process, program.fd, SHUT_WR)
      if (err !== -ERRNO.ENOTCONN || program.sk.state === TCP_CLOSE) flow.shutDown = true
      if (program.eof) this.end(program)
    }
  }

  // What happens when sockets wake their programs.

  get anyReady(): boolean {
    return this.readyCount > 0
  }

  private markReady(program: Program): void {
    if (program.ready) return
    program.ready = true
    this.readyList[this.readyCount++] = program
  }

  /** Looks at what waits in the sockets that woke their programs, before these read. */
  measure(): void {
    for (let i = 0; i < this.readyCount; i++) this.measureOne(this.readyList[i])
  }

  /** Payload that waits in the sockets that have something to read. */
  queuedPayload(): number {
    let bytes = 0
    for (const program of this.list) if (program.open && program.rmem > 0) bytes += payloadOf(program.sk)
    return bytes
  }

  private measureOne(program: Program): void {
    const now = program.open ? program.sk.rmemAlloc : 0
    this.rmem += now - program.rmem
    program.rmem = now
    if (now > program.rmemPeak) program.rmemPeak = now
  }

  /** Every woken program does its work. */
  run(): void {
    const { readyList, readyCount } = this
    for (let i = 0; i < readyCount; i++) {
      const program = readyList[i]
      program.ready = false
      if (!program.open) continue
      if (program.kind === Kind.Udp) this.read(program)
      else if (program.kind === Kind.Listener) this.accept(program)
      else this.runConnection(program)
      if (program.open) this.measureOne(program)
    }
    // Those that woke meanwhile have their turn in the next round.
    const more = this.readyCount - readyCount
    for (let i = 0; i < more; i++) readyList[i] = readyList[readyCount + i]
    this.readyCount = more
  }

  private runConnection(program: Program): void {
    if (program.flow !== null) this.writeMore(program.flow)
    if (program.open) this.read(program)
    // Reset or timed out: a program that does not read learns of it all the same, from poll.
    if (program.open && program.sk.state === TCP_CLOSE && (program.sk.err !== 0 || program.sk.rmemAlloc === 0))
      this.end(program)
  }

  private accept(listener: Program): void {
    for (;;) {
      const fd = sysAccept(listener.process, listener.fd, SOCK_NONBLOCK)
      if (fd < 0) return
      this.fdsLeft -= 1
      sysGetname(listener.process, fd, true, this.addr)
      const local = Math.floor(this.keyOf(listener) / 65536)
      const flow = this.flowOf(listener.sk.num, this.addr, local)
      const program = new Program(listener.process, fd, Kind.Tcp, listener.local)
      this.bySk[program.sk.id] = program
      this.list.push(program)
      program.rcvbuf = program.sk.rcvbuf
      program.flow = flow
      if (flow === null) {
        this.setLinger(program)
        this.end(program)
        continue
      }
      flow.program = program
      flow.phase = Phase.Open
      this.writeMore(flow)
      if (program.open) this.read(program)
      if (program.open) this.measureOne(program)
    }
  }

  private keyOf(listener: Program): number {
    for (const [key, program] of this.listeners) if (program === listener) return key
    return 0
  }

  private read(program: Program): void {
    const { reader } = this
    if (reader.kind === 'stalled' || program.eof) return
    if (reader.kind === 'rate') {
      this.readOnce(program, reader.bytesPerSec)
      return
    }
    const { process, sk } = program
    const udp = program.kind === Kind.Udp
    let bytes = 0
    for (;;) {
      const got = this.receive(process, sk, CHUNK_BYTES)
      if (got < 0 || (got === 0 && !udp)) {
        if (got !== -ERRNO.EAGAIN) this.readEnded(program, got)
        break
      }
      bytes += got
      if (!udp && got < CHUNK_BYTES) break
    }
    program.moved[Moved.BytesRead] += bytes
    this.moved[Moved.BytesRead] += bytes
    this.kernel.syscallExit(process.cpu)
  }

  /** One `read(2)` of a non-blocking socket into the process's buffer. @returns bytes or a negative errno. */
  private receive(process: Process, sk: Sock, len: number): number {
    const { msg } = process
    msg.reset(MSG_DONTWAIT)
    iovIterInit(msg.iter, process.buffer('recv', CHUNK_BYTES), 0, len)
    return sk.ops.recvmsg(process.cpu, process.task, sk, msg, len, MSG_DONTWAIT)
  }

  /** A reader of limited speed: one read, then a pause as long as that many bytes take. */
  private readOnce(program: Program, bytesPerSec: number): void {
    const { clock } = this.kernel
    if (program.nextReadNs > clock.nowNs) {
      this.wakeAt(program, program.nextReadNs)
      return
    }
    const { process, sk } = program
    const got = this.receive(process, sk, program.kind === Kind.Udp ? CHUNK_BYTES : this.chunkBytes)
    this.kernel.syscallExit(process.cpu)
    if (got < 0 || (got === 0 && program.kind !== Kind.Udp)) {
      if (got !== -ERRNO.EAGAIN) this.readEnded(program, got)
      return
    }
    program.moved[Moved.BytesRead] += got
    this.moved[Moved.BytesRead] += got
    program.nextReadNs = clock.nowNs + (got * 1e9) / bytesPerSec
    this.wakeAt(program, program.nextReadNs)
  }

  /** A connection has nothing more to read: its end (0) or an error. UDP sockets only report errors. */
  private readEnded(program: Program, got: number): void {
    if (program.kind === Kind.Udp) return
    if (got < 0) {
      this.end(program)
      return
    }
    program.eof = true
    if (program.flow?.shutDown) this.end(program)
  }

  private wakeAt(program: Program, atNs: number): void {
    if (program.timerPending) return
    program.timerPending = true
    this.kernel.clock.schedule(atNs, this.timer, program.sk.id, 0)
  }

  // The end.

  /** Notes how every socket stands, then closes them all; connections are reset. */
  closeAll(): void {
    for (const program of this.list) if (program.open) this.end(program, true)
    for (const program of this.listeners.values()) this.close(program)
    for (const process of this.processes) this.kernel.exit(process)
    this.processes = []
  }

  /** Closes a program's socket and keeps what the report wants to know of it. */
  private end(program: Program, reset = false): void {
    if (!program.open) return
    this.measureOne(program)
    program.closedRmem = program.rmem
    program.drops = program.sk.drops
    program.rcvbuf = program.sk.rcvbuf
    this.rmem -= program.rmem
    program.rmem = 0
    if (reset && program.kind === Kind.Tcp) this.setLinger(program)
    if (program.flow !== null) {
      program.flow.program = null
      if (program.flow.shutDown || reset) program.flow.phase = Phase.Closed
    }
    this.close(program)
  }

  private close(program: Program): void {
    if (!program.open) return
    program.open = false
    this.bySk[program.sk.id] = null
    sysClose(program.process, program.fd)
  }

  // Calls with their arguments.

  private socket(local: number, type: number, kind: Kind, port: number): Program | null {
    const { version, text } = this.locals[local]
    const process = this.process()
    const fd = sysSocket(process, version === 6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK)
    if (fd < 0) return null
    this.fdsLeft -= 1
    const program = new Program(process, fd, kind, version === 6 ? `[${text}]:${port}` : `${text}:${port}`)
    this.bySk[program.sk.id] = program
    const { rcvbuf, sndbuf } = this.options
    if (rcvbuf !== null) this.setInt(program, SO_RCVBUF, rcvbuf)
    if (sndbuf !== null) this.setInt(program, SO_SNDBUF, sndbuf)
    program.rcvbuf = program.sk.rcvbuf
    return program
  }

  private process(): Process {
    if (this.fdsLeft <= 0) {
      const process = this.kernel.spawn()
      process.files.limit = 1 << 20
      this.processes.push(process)
      this.fdsLeft = FDS_PER_PROCESS
      for (const name of ['send', 'recv']) this.userBytes += pagesOf(process.buffer(name, CHUNK_BYTES))
    }
    return this.processes[this.processes.length - 1]
  }

  private setInt(program: Program, opt: number, value: number): void {
    this.val.int = value
    this.val.len = 4
    sysSetsockopt(program.process, program.fd, SOL_SOCKET, opt, this.val)
  }

  private setLinger(program: Program): void {
    this.val.words[0] = 1
    this.val.words[1] = 0
    this.val.len = 8
    sysSetsockopt(program.process, program.fd, SOL_SOCKET, SO_LINGER, this.val)
  }

  private send(
    program: Program,
    bytes: Uint8Array | null,
    at: number,
    capBytes: number,
    count: number,
    to: SockAddr | undefined,
  ): number {
    const { process } = program
    if (bytes !== null && capBytes > 0)
      userWrite(
        this.kernel.mem,
        process.buffer('send', CHUNK_BYTES),
        0,
        bytes.subarray(at, at + Math.min(capBytes, CHUNK_BYTES)),
      )
    const sent = sysSendmsg(process, program.fd, count, to === undefined ? {} : { to })
    if (sent > 0) {
      program.moved[Moved.BytesWritten] += sent
      this.moved[Moved.BytesWritten] += sent
    } else if (sent !== -ERRNO.EAGAIN) this.refused += 1
    return sent
  }

  private localAddress(local: number, port: number): void {
    const { version, words } = this.locals[local]
    this.address(version, words[0], words[1], words[2], words[3], port)
  }

  private address(version: number, w0: number, w1: number, w2: number, w3: number, port: number): void {
    const { addr } = this
    addr.clear()
    addr.family = version === 6 ? AF_INET6 : AF_INET
    addr.port = port
    if (version === 6) {
      addr.addr6[0] = w0
      addr.addr6[1] = w1
      addr.addr6[2] = w2
      addr.addr6[3] = w3
    } else addr.addr = w3
  }
}

const pagesOf = (buffer: UserBuffer): number => buffer.pfns.length * 4096

/** Bytes in a socket's receive queue, headers not counted. */
function payloadOf(sk: Sock): number {
  const unread = queuedBytes(sk.receiveQueue)
  // A reader of UDP takes over the whole queue at its first read, and reads from there.
  return sk.priv instanceof UdpSock ? unread + queuedBytes(sk.priv.readerQueue) : unread
}

function queuedBytes(queue: SkbQueue): number {
  let bytes = 0
  const { skbs } = queue.env
  for (let id = queue.first, left = queue.qlen; left > 0; left--) {
    const skb = skbs[id]
    bytes += skb.len
    id = skb.next
  }
  return bytes
}
