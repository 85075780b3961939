/** A small machine with the Internet protocols for tests: loopback up, one process with a buffer to send from and read into. */
import { type Cpu, inSoftirq } from '@netmem/base'
import { iovIterInit, type UserBuffer, userAlloc, userFree, userRead, userWrite } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { pageFragRelease } from '@netmem/page-frag'
import { assertSkbsQuiescent, auditSkbs } from '@netmem/skbuff/testing'
import {
  doSockSetsockopt,
  Msg,
  OptVal,
  SOCK_DGRAM,
  SOCKF_KERN,
  type Sock,
  SockAddr,
  type SockEnv,
  Sysctls,
  sockCreate,
  sockEnvCreate,
  sockRelease,
  Task,
} from '@netmem/sockmem'
import { auditSocks } from '@netmem/sockmem/testing'
import { devOpen, devSetMtu, doSoftirq, loopbackCreate, type NetDevice } from '@netmem/virtual-nic'
import { assertNetDevsQuiescent, auditNetDevs, type TestNet, testNet } from '@netmem/virtual-nic/testing'
import { auditInet } from './audit.js'
import type { InetEnv } from './inet-env.js'
import { inetInit } from './inet-init.js'
import { INADDR_LOOPBACK } from './ip/ip-header.js'
import { inetDevUp } from './route.js'

const AF_INET = 2
const AF_INET6 = 10
const BUFFER_BYTES = 1 << 18
/** Longer than any timer of a test: fragments wait 30 and 60 seconds. */
const SETTLE_NS = 120e9

/** What a test gets. Calls return what the system call would: a count, 0, or a negative errno. */
export class TestInet {
  readonly socks: SockEnv
  readonly inet: InetEnv
  readonly lo: NetDevice
  readonly task: Task
  readonly cpu: Cpu
  private readonly user: UserBuffer
  readonly msg = new Msg()
  private readonly addr = new SockAddr()

  constructor(
    readonly net: TestNet,
    seed: number,
  ) {
    const { mem, skbs, cpus, clock, trace, profile, env } = net
    this.cpu = net.cpu
    const sysctls = new Sysctls(profile)
    // Limits are reckoned from the machine's memory at boot; a test has no boot and plenty.
    for (const name of ['net.ipv4.udp_mem', 'net.ipv4.tcp_mem']) sysctls.numbers(name, [0, 0, 0]).fill(100_000)
    this.socks = sockEnvCreate({ mem, skbs, cpus, clock, trace, profile, sysctls })
    this.inet = inetInit({ socks: this.socks, devs: env, seed })
    this.lo = loopbackCreate(env, 0) as NetDevice
    devOpen(this.lo, this.cpu)
    inetDevUp(this.inet, this.lo)
    this.task = new Task(1, this.cpu, this.socks.initNet)
    this.user = userAlloc(mem, this.cpu, BUFFER_BYTES) as UserBuffer
  }

  /** A UDP socket, bound when `port` is given. @throws Error with the errno when it cannot be made. */
  udp(port = -1, family = AF_INET): Sock {
    const id = sockCreate(this.socks, this.cpu, this.task, family, SOCK_DGRAM, 0)
    if (id < 0) throw new Error(`socket: ${id}`)
    const sk = this.socks.socks[id]!
    if (port >= 0) {
      const err = sk.ops.bind(this.cpu, this.task, sk, this.to(port, family))
      if (err < 0) throw new Error(`bind: ${err}`)
    }
    return sk
  }

  connect(sk: Sock, port: number): number {
    return sk.ops.connect(this.cpu, this.task, sk, this.to(port, sk.family), 0)
  }

  /** The loopback address with a port, in an object that the next call uses again. */
  to(port: number, family = AF_INET): SockAddr {
    this.addr.clear()
    this.addr.family = family
    this.addr.port = port
    if (family === AF_INET6) this.addr.addr6[3] = 1
    else this.addr.addr = INADDR_LOOPBACK
    return this.addr
  }

  /** Sends bytes, to a port of the loopback address when one is given. */
  send(sk: Sock, bytes: Uint8Array, port = -1, flags = 0): number {
    userWrite(this.net.mem, this.user, 0, bytes)
    this.msg.reset(flags)
    iovIterInit(this.msg.iter, this.user, 0, bytes.length)
    if (port >= 0) this.msg.name.copyFrom(this.to(port, sk.family))
    const sent = sk.ops.sendmsg(this.cpu, this.task, sk, this.msg, bytes.length)
    this.exit()
    return sent
  }

  /** Reads one datagram. @returns its bytes, or a negative errno. */
  recv(sk: Sock, room = 70_000, flags = 0): Uint8Array | number {
    this.msg.reset(flags)
    this.msg.wantName = true
    iovIterInit(this.msg.iter, this.user, 0, room)
    const got = sk.ops.recvmsg(this.cpu, this.task, sk, this.msg, room, flags)
    this.exit()
    return got < 0 ? got : userRead(this.net.mem, this.user, 0, Math.min(got, room))
  }

  setsockopt(sk: Sock, level: number, opt: number, value: number): number {
    const val = new OptVal()
    val.int = value
    return doSockSetsockopt(this.cpu, this.task, sk, level, opt, val)
  }

  close(sk: Sock): number {
    const err = sockRelease(this.cpu, this.task, sk)
    this.exit()
    return err
  }

  mtu(bytes: number): void {
    devSetMtu(this.lo, bytes, this.cpu)
  }

  /** One of the counters of /proc/net/snmp and netstat, such as `Udp.InDatagrams`, by its number. */
  counter(index: number): number {
    return this.socks.initNet.mib[index] as number
  }

  passTime(ns: number): void {
    this.net.clock.runUntil(this.net.clock.nowNs + ns)
    this.exit()
  }

  /** The way back to user mode: softirqs that are pending have run. */
  private exit(): void {
    if (this.net.env.softnet[this.cpu.id]!.pending !== 0 && !inSoftirq(this.cpu)) doSoftirq(this.net.env, this.cpu)
  }

  /** All audits of this package and those below. */
  audit(): void {
    auditInet(this.inet)
    auditSocks(this.socks)
    auditSkbs(this.net.skbs)
    auditNetDevs(this.net.env)
    auditMemory(this.net.mem)
  }

  /** Everything is closed: proves that after all timers nothing is left but the kernel's own sockets. */
  end(): void {
    this.passTime(SETTLE_NS)
    this.audit()
    const left = this.socks.socks.filter((sk) => sk !== null && (sk.flags & SOCKF_KERN) === 0).length
    if (left !== 0) throw new Error(`${left} sockets are left`)
    for (const net of this.inet.nets)
      if (net !== undefined && net.frags.mem + net.frags6.mem !== 0) throw new Error('fragments are left')
    assertSkbsQuiescent(this.net.skbs)
    assertNetDevsQuiescent(this.net.env)
    pageFragRelease(this.net.mem, this.cpu, this.task.taskFrag, 'do_exit')
    userFree(this.net.mem, this.cpu, this.user)
    auditMemory(this.net.mem)
  }
}

/** Makes a machine with all layers up to this one. */
export function testInet(options: Parameters<typeof testNet>[0] = {}): TestInet {
  return new TestInet(testNet(options), options.seed ?? 1)
}
