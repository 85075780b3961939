/**
 * A machine that does what comes to its mind: for property tests. Every choice is drawn from one seeded generator, so
 * a seed is a whole history; `step` makes the next move and `audit` proves the books after it.
 */
import { ERRNO, type KernelProfile, Prng } from '@netmem/base'
import { IPV6_OPT, SOL_IP, SOL_IPV6, SOL_TCP, SOL_UDP, TCP_OPT } from '@netmem/inet'
import { failEvery, failNth, failProbability } from '@netmem/memory'
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  MSG_DONTWAIT,
  MSG_MORE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_ZEROCOPY,
  PAGE_COUNTER_MAX,
  SIOCINQ,
  SIOCOUTQ,
  SO,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  type SockAddr,
  SockAddr as SockAddress,
} from '@netmem/sockmem'
import { bootKernel } from './boot.js'
import type { Kernel } from './kernel.js'
import type { Process } from './process.js'
import {
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysGetname,
  sysIoctl,
  sysListen,
  sysPoll,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysShutdown,
  sysSocket,
  sysSocketpair,
} from './syscalls.js'

/** Descriptors open at once: few, so that a step's audit is short and sockets meet each other often. */
const MOST_OPEN = 14
const LARGEST = 40_000

/** A descriptor and how others reach it. */
interface Open {
  readonly fd: number
  readonly kind: 'udp' | 'tcp' | 'listener' | 'unix'
  readonly v6: boolean
  readonly address: SockAddr | null
}

const SOCKET_OPTIONS: readonly (readonly [level: number, opt: number, most: number])[] = [
  [SOL_SOCKET, SO.SO_RCVBUF, 100_000],
  [SOL_SOCKET, SO.SO_SNDBUF, 100_000],
  [SOL_SOCKET, SO.SO_RCVBUFFORCE, 300_000],
  [SOL_SOCKET, SO.SO_RCVLOWAT, 5000],
  [SOL_SOCKET, SO.SO_RESERVE_MEM, 200_000],
  [SOL_SOCKET, SO.SO_ZEROCOPY, 1],
  [SOL_SOCKET, SO.SO_KEEPALIVE, 1],
  [SOL_SOCKET, SO.SO_PEEK_OFF, 200],
  [SOL_SOCKET, SO.SO_NO_CHECK, 1],
  [SOL_TCP, TCP_OPT.TCP_NODELAY, 1],
  [SOL_TCP, TCP_OPT.TCP_CORK, 1],
  [SOL_TCP, TCP_OPT.TCP_NOTSENT_LOWAT, 20_000],
  [SOL_TCP, TCP_OPT.TCP_QUICKACK, 1],
  [SOL_TCP, TCP_OPT.TCP_WINDOW_CLAMP, 60_000],
  [SOL_UDP, 1, 1],
  [SOL_UDP, 103, 3000],
  [SOL_UDP, 104, 1],
  [SOL_IP, 11, 1],
  [SOL_IP, 10, 3],
  [SOL_IPV6, IPV6_OPT.IPV6_RECVERR, 1],
]

const SYSCTLS: readonly (readonly [name: string, low: number, high: number, slots: number])[] = [
  ['net.core.rmem_max', 2304, 500_000, 1],
  ['net.core.wmem_max', 4608, 500_000, 1],
  ['net.core.rmem_default', 2304, 300_000, 1],
  ['net.core.wmem_default', 4608, 300_000, 1],
  ['net.core.optmem_max', 0, 20_000, 1],
  ['net.core.mem_pcpu_rsv', 256, 600, 1],
  ['net.core.netdev_max_backlog', 0, 300, 1],
  ['net.core.max_skb_frags', 1, 17, 1],
  ['net.core.skb_defer_max', 0, 64, 1],
  ['net.core.high_order_alloc_disable', 0, 1, 1],
  ['net.ipv4.tcp_rmem', 1, 300_000, 3],
  ['net.ipv4.tcp_wmem', 1, 300_000, 3],
  ['net.ipv4.tcp_mem', 0, 2000, 3],
  ['net.ipv4.udp_mem', 0, 2000, 3],
  ['net.ipv4.udp_rmem_min', 1, 20_000, 1],
  ['net.ipv4.udp_wmem_min', 1, 20_000, 1],
  ['net.ipv4.tcp_moderate_rcvbuf', 0, 1, 1],
  ['net.ipv4.tcp_window_scaling', 0, 1, 1],
  ['net.ipv4.tcp_sack', 0, 1, 1],
  ['net.ipv4.tcp_timestamps', 0, 1, 1],
  ['net.ipv4.tcp_autocorking', 0, 1, 1],
  ['net.ipv4.tcp_mtu_probing', 0, 2, 1],
  ['net.ipv4.tcp_notsent_lowat', 1000, 1_000_000, 1],
  ['net.ipv4.tcp_limit_output_bytes', 10_000, 4_000_000, 1],
  ['net.ipv4.tcp_max_orphans', 0, 20, 1],
  ['net.ipv4.ipfrag_high_thresh', 10_000, 4_000_000, 1],
  ['net.unix.max_dgram_qlen', 0, 20, 1],
]

export class RandomMachine {
  readonly kernel: Kernel
  /** How many system calls were made. */
  calls = 0
  private readonly random: Prng
  private readonly open: Open[] = []
  private readonly process: Process
  private readonly pair = new Int32Array(2)
  private faultSteps = 0

  constructor(
    profile: KernelProfile,
    readonly seed: number,
    memcg: 'none' | 'v1' | 'v2',
  ) {
    this.random = new Prng(seed)
    this.kernel = bootKernel({ profile, memoryBytes: 64 << 20, seed })
    this.process = this.kernel.spawn()
    if (memcg === 'none') return
    const { memcgs } = this.kernel.socks
    const group = memcgs.create(null, memcg === 'v2')
    if (memcg === 'v1') memcgs.setTcpLimit(group, 400)
    else memcgs.setMax(group, 600)
    this.process.setMemcg(group)
  }

  /** Makes one move. @returns what it was, for the message of a test that fails. */
  step(): string {
    if (this.faultSteps > 0 && --this.faultSteps === 0) this.kernel.mem.fault = null
    const choice = this.below(100)
    this.calls += 1
    if (this.open.length < 2 || (choice < 6 && this.open.length < MOST_OPEN)) return this.make()
    const one = this.pick(this.open)
    if (choice < 10) return this.close(one)
    if (choice < 42) return this.send(one)
    if (choice < 68) return this.receive(one)
    if (choice < 76) return this.option(one)
    if (choice < 80) return this.sysctl()
    if (choice < 86) return this.passTime()
    if (choice < 88) return this.faults()
    if (choice < 90) return this.limits()
    if (choice < 91) return this.mtu()
    if (choice < 93) return this.shutdown(one)
    if (choice < 97) return this.accept(one)
    sysPoll(this.process, one.fd)
    sysIoctl(this.process, one.fd, choice === 98 ? SIOCINQ : SIOCOUTQ)
    return `poll ${one.fd}`
  }

  /** Closes everything, ends the process, and lets time settle the rest. */
  finish(): void {
    this.kernel.mem.fault = null
    for (const { fd } of this.open.splice(0)) sysClose(this.process, fd)
    this.process.setMemcg(null)
    this.kernel.exit(this.process)
    this.kernel.settle()
  }

  private below(n: number): number {
    return this.random.below(n)
  }

  private pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }

  /** Small numbers are as likely as large ones. */
  private size(most: number): number {
    return Math.min(most, this.below(2 ** (1 + this.below(Math.ceil(Math.log2(most + 2))))))
  }

  private keep(fd: number, kind: Open['kind'], v6: boolean): void {
    if (fd < 0) return
    let address: SockAddr | null = null
    if (kind !== 'unix') {
      address = new SockAddress()
      if (sysGetname(this.process, fd, false, address) < 0) address = null
    }
    this.open.push({ fd, kind, v6, address })
  }

  private any(v6: boolean): SockAddr {
    const address = new SockAddress()
    address.family = v6 ? AF_INET6 : AF_INET
    if (v6) address.addr6[3] = 1
    else address.addr = 0x7f000001
    return address
  }

  private make(): string {
    const { process } = this
    const v6 = this.below(3) === 0
    const family = v6 ? AF_INET6 : AF_INET
    const kind = this.below(10)
    if (kind < 3) {
      const fd = sysSocket(process, family, SOCK_DGRAM | SOCK_NONBLOCK)
      if (fd >= 0) {
        sysBind(process, fd, this.any(v6))
        const peer = this.peer('udp', v6)
        if (peer !== null && this.below(2) === 0) sysConnect(process, fd, peer)
      }
      this.keep(fd, 'udp', v6)
      return `udp socket ${fd}`
    }
    if (kind < 5) {
      const type = this.pick([SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET])
      const err = sysSocketpair(process, AF_UNIX, type | SOCK_NONBLOCK, 0, this.pair)
      if (err === 0) for (const fd of this.pair) this.keep(fd, 'unix', false)
      return `unix pair of type ${type}: ${err}`
    }
    const fd = sysSocket(process, family, SOCK_STREAM | SOCK_NONBLOCK)
    if (fd < 0) return `tcp socket ${fd}`
    const peer = this.peer('listener', v6)
    if (peer !== null && kind < 9) {
      const err = sysConnect(process, fd, peer)
      this.keep(fd, 'tcp', v6)
      return `tcp connect ${fd}: ${err}`
    }
    sysBind(process, fd, this.any(v6))
    sysListen(process, fd, this.below(8))
    this.keep(fd, 'listener', v6)
    return `tcp listener ${fd}`
  }

  private peer(kind: Open['kind'], v6: boolean): SockAddr | null {
    const peers = this.open.filter((one) => one.kind === kind && one.v6 === v6 && one.address !== null)
    return peers.length === 0 ? null : this.pick(peers).address
  }

  private close(one: Open): string {
    this.open.splice(this.open.indexOf(one), 1)
    const reset = this.below(4) === 0
    if (reset) {
      const { val } = this.process
      val.words[0] = 1
      val.words[1] = 0
      val.int = 1
      val.len = 8
      sysSetsockopt(this.process, one.fd, SOL_SOCKET, SO.SO_LINGER, val)
    }
    this.withoutFaults(() => sysClose(this.process, one.fd))
    return `close ${one.fd}${reset ? ' with a reset' : ''}`
  }

  private send(one: Open): string {
    const len = this.size(LARGEST)
    const extra = this.below(24)
    const flags = extra === 0 ? MSG_MORE : extra === 1 ? MSG_OOB : extra === 2 ? MSG_ZEROCOPY : 0
    const to = one.kind === 'udp' && this.below(2) === 0 ? this.peer('udp', one.v6) : null
    const params = to === null ? { flags: flags | MSG_DONTWAIT } : { flags: flags | MSG_DONTWAIT, to }
    const times = this.below(8) === 0 ? 1 + this.below(8) : 1
    let ret = 0
    for (let i = 0; i < times && ret >= 0; i++) ret = sysSendmsg(this.process, one.fd, len, params)
    return `send ${len} times ${times} on ${one.fd}: ${ret}`
  }

  private receive(one: Open): string {
    const len = this.size(LARGEST)
    const extra = this.below(16)
    const flags = extra === 0 ? MSG_PEEK : extra === 1 ? MSG_TRUNC : extra === 2 ? 0x2000 : 0
    const times = this.below(4) === 0 ? 1 + this.below(16) : 1
    let ret = 0
    for (let i = 0; i < times && ret >= 0; i++)
      ret = sysRecvmsg(this.process, one.fd, len, { flags: flags | MSG_DONTWAIT })
    return `receive ${len} times ${times} on ${one.fd}: ${ret}`
  }

  private option(one: Open): string {
    const [level, opt, most] = this.pick(SOCKET_OPTIONS)
    const { val } = this.process
    val.int = this.size(most)
    val.len = 4
    val.program = null
    return `option ${level}/${opt} = ${val.int} on ${one.fd}: ${sysSetsockopt(this.process, one.fd, level, opt, val)}`
  }

  private sysctl(): string {
    const [name, low, high, slots] = this.pick(SYSCTLS)
    const text = Array.from({ length: slots }, () => low + this.size(high - low)).join(' ')
    return `sysctl ${name} = ${text}: ${this.kernel.sysctlWrite(this.process.net, name, text)}`
  }

  private passTime(): string {
    const ns = this.size(1 << 22) * (this.below(8) === 0 ? 100_000 : 1000)
    this.kernel.passTime(ns)
    return `${ns} ns`
  }

  /** For some steps allocations fail: the n-th, every n-th, or any with some probability. */
  private faults(): string {
    const { mem } = this.kernel
    const n = 1 + this.below(40)
    const kind = this.below(3)
    mem.fault = kind === 0 ? failNth(n) : kind === 1 ? failEvery(n + 1) : failProbability(this.random, 0.2)
    this.faultSteps = 1 + this.below(20)
    return `faults of kind ${kind}, ${n}, for ${this.faultSteps} steps`
  }

  /** A FIN that finds no memory is never sent, and its connection stays for ever: the kernel's way, too. */
  private withoutFaults(call: () => number): number {
    const { mem } = this.kernel
    const { fault } = mem
    mem.fault = null
    const ret = call()
    mem.fault = fault
    return ret
  }

  private limits(): string {
    const { memcgs } = this.kernel.socks
    const group = memcgs.list[0]
    if (group === undefined) return 'no group'
    const pages = this.below(8) === 0 ? PAGE_COUNTER_MAX : 100 + this.size(1000)
    if (memcgs.onDfl) memcgs.setMax(group, pages)
    else memcgs.setTcpLimit(group, pages)
    this.process.setMemcg(this.below(4) === 0 ? null : group)
    return `group of ${pages} pages`
  }

  private mtu(): string {
    const mtu = this.pick([1280, 1500, 9000, 16384, 65535, 65536])
    return `mtu ${mtu}: ${this.kernel.links.setMtu(this.process.net.lo, mtu)}`
  }

  private shutdown(one: Open): string {
    const how = this.below(3)
    return `shutdown ${one.fd} ${how}: ${this.withoutFaults(() => sysShutdown(this.process, one.fd, how))}`
  }

  private accept(one: Open): string {
    if (one.kind !== 'listener') return 'nothing to accept'
    const fd = sysAccept(this.process, one.fd, SOCK_NONBLOCK)
    this.keep(fd, 'tcp', one.v6)
    return `accept on ${one.fd}: ${fd === -ERRNO.EAGAIN ? 'EAGAIN' : fd}`
  }
}
