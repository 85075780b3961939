/**
 * One machine with very many sockets: what each takes of this process's memory, and what a packet costs among a
 * thousand of them and among a million. The sockets have no descriptor and no inode, for which a modelled machine of
 * 4 GiB has no room beside two million sockets.
 */
import { assert, kernelProfile, NULL } from '@netmem/base'
import { bootKernel, type Kernel, type Process } from '@netmem/kernel-model'
import { iovIterInit } from '@netmem/memory'
import {
  AF_INET,
  MSG_DONTWAIT,
  SOCK_DGRAM,
  SOCK_STREAM,
  type Sock,
  SockAddr,
  SS_UNCONNECTED,
  sockFreeInode,
} from '@netmem/sockmem'

const LOOPBACK = 0x7f000001
const PORTS_PER_ADDRESS = 60_000
const FIRST_PORT = 1024
const LISTEN_PORT = 80
const LISTEN_BACKLOG = 64
/** Sockets that get the packets: as many among a thousand as among a million, so that only the tables differ. */
const BUSY = 256
const PAYLOAD = 64
const O_NONBLOCK = 0o4000

/** What one size of machine showed. */
export interface ScaleResult {
  readonly tcp: number
  readonly udp: number
  readonly rssBytes: number
  readonly heapBytesPerSocket: number
  readonly nsPerUdpPacket: number
  readonly nsPerTcpWrite: number
  readonly seconds: number
}

class Machine {
  readonly kernel: Kernel = bootKernel({
    profile: kernelProfile('linux-6.18-x86_64'),
    cpus: 1,
    memoryBytes: 4096 * 1024 * 1024,
    syscallNs: 0,
  })
  readonly process: Process = this.kernel.spawn()
  readonly udp: Sock[] = []
  readonly clients: Sock[] = []
  readonly servers: Sock[] = []
  private readonly addr = new SockAddr()

  private socket(type: number): Sock {
    const { socks } = this.kernel
    const { cpu, task } = this.process
    const id = socks.families[AF_INET]!.create(cpu, task, task.net, type, 0, false)
    assert(id > 0, 'no memory for another socket')
    const sk = socks.socks[id]!
    sk.socketState = SS_UNCONNECTED
    return sk
  }

  /** The `index`-th end that a socket may be bound to. */
  private end(index: number): SockAddr {
    const { addr } = this
    addr.family = AF_INET
    addr.addr = LOOPBACK + Math.floor(index / PORTS_PER_ADDRESS)
    addr.port = FIRST_PORT + (index % PORTS_PER_ADDRESS)
    return addr
  }

  makeUdp(count: number): void {
    const { cpu, task } = this.process
    for (let i = 0; i < count; i++) {
      const sk = this.socket(SOCK_DGRAM)
      assert(sk.ops.bind(cpu, task, sk, this.end(i)) === 0, 'a port is taken')
      if (i % Math.max(1, Math.floor(count / BUSY)) === 0 && this.udp.length < BUSY) this.udp.push(sk)
    }
  }

  /** @param count sockets: half of them call, half are called. */
  makeTcp(count: number): void {
    const { kernel } = this
    const { cpu, task } = this.process
    const listener = this.socket(SOCK_STREAM)
    const { addr } = this
    addr.family = AF_INET
    addr.addr = 0
    addr.port = LISTEN_PORT
    listener.ops.bind(cpu, task, listener, addr)
    listener.ops.listen(cpu, task, listener, LISTEN_BACKLOG)
    const every = Math.max(1, Math.floor(count / 2 / BUSY))
    for (let i = 0; i < count / 2; i++) {
      const sk = this.socket(SOCK_STREAM)
      assert(sk.ops.bind(cpu, task, sk, this.end(i)) === 0, 'a port is taken')
      addr.addr = LOOPBACK
      addr.port = LISTEN_PORT
      sk.ops.connect(cpu, task, sk, addr, O_NONBLOCK)
      kernel.syscallExit(cpu)
      const id = listener.ops.accept(cpu, task, listener, O_NONBLOCK)
      assert(id > 0, 'a connection was not accepted')
      const child = kernel.socks.socks[id]!
      sockFreeInode(kernel.socks, cpu, child.socket)
      child.socket = NULL
      if (i % every === 0 && this.clients.length < BUSY) {
        this.clients.push(sk)
        this.servers.push(child)
      }
      // Time passes, or all timers of a million connections would be due at once.
      if (i % 64 === 0) kernel.passTime(1_000_000)
    }
    kernel.passTime(10e9)
  }

  private send(sk: Sock, to: Sock | null): void {
    const { kernel, process } = this
    const { msg, cpu, task } = process
    msg.reset(MSG_DONTWAIT)
    iovIterInit(msg.iter, process.buffer('send', PAYLOAD), 0, PAYLOAD)
    msg.name.family = to === null ? 0 : AF_INET
    if (to !== null) {
      msg.name.addr = to.rcvSaddr
      msg.name.port = to.num
    }
    sk.ops.sendmsg(cpu, task, sk, msg, PAYLOAD)
    kernel.syscallExit(cpu)
  }

  private receive(sk: Sock): number {
    const { kernel, process } = this
    const { msg, cpu, task } = process
    msg.reset(MSG_DONTWAIT)
    iovIterInit(msg.iter, process.buffer('recv', PAYLOAD), 0, PAYLOAD)
    const ret = sk.ops.recvmsg(cpu, task, sk, msg, PAYLOAD, MSG_DONTWAIT)
    kernel.syscallExit(cpu)
    return ret
  }

  /** @returns CPU nanoseconds of a datagram from one busy socket to another, sent and read. */
  measureUdp(packets: number): number {
    return measure(packets, (i) => {
      const to = this.udp[(i * 7) % this.udp.length]!
      this.send(this.udp[i % this.udp.length]!, to)
      if (this.receive(to) !== PAYLOAD) throw new Error('a datagram was lost')
    })
  }

  /** @returns CPU nanoseconds of a write that the other end reads. */
  measureTcp(writes: number): number {
    return measure(writes, (i) => {
      const at = (i * 7) % this.clients.length
      this.send(this.clients[at]!, null)
      if (this.receive(this.servers[at]!) !== PAYLOAD) throw new Error('a segment was lost')
    })
  }
}

const cpuNs = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) * 1000
}

/** The least of several repeats: other load on the machine only ever adds. */
function measure(count: number, once: (i: number) => void): number {
  let best = Number.POSITIVE_INFINITY
  for (let repeat = 0; repeat < 8; repeat++) {
    const began = cpuNs()
    for (let i = 0; i < count; i++) once(i)
    best = Math.min(best, (cpuNs() - began) / count)
  }
  return Math.round(best)
}

/** Boots a machine with so many sockets and measures. Run it in a process of its own, with `--expose-gc`. */
export function scale(tcp: number, udp: number, packets = 50_000): ScaleResult {
  const began = performance.now()
  const { gc } = globalThis as { gc?: () => void }
  const machine = new Machine()
  gc?.()
  const before = process.memoryUsage()
  machine.makeUdp(udp)
  machine.makeTcp(tcp)
  gc?.()
  const after = process.memoryUsage()
  return {
    tcp,
    udp,
    rssBytes: after.rss,
    heapBytesPerSocket: Math.round(
      (after.heapUsed + after.external - before.heapUsed - before.external) / Math.max(1, tcp + udp),
    ),
    nsPerUdpPacket: udp === 0 ? 0 : machine.measureUdp(packets),
    nsPerTcpWrite: tcp === 0 ? 0 : machine.measureTcp(packets),
    seconds: Math.round((performance.now() - began) / 100) / 10,
  }
}
