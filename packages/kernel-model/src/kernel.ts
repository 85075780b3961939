/**
 * The machine: all packages wired together, and what a user of it does from outside: make processes and
 * namespaces, write sysctls, let time pass. System calls are in `syscalls.ts`, devices in `devices.ts`.
 */
import { type Cpu, type EventQueue, inSoftirq, type KernelProfile, Prng, type Trace } from '@netmem/base'
import type { Dma } from '@netmem/dma'
import { type InetEnv, type TcpInfo, tcpGetInfo, tcpOf } from '@netmem/inet'
import type { Memory } from '@netmem/memory'
import { pageFragRelease } from '@netmem/page-frag'
import type { Skbuffs } from '@netmem/skbuff'
import { protoMemoryAllocated, type Sock, type SockEnv } from '@netmem/sockmem'
import { doSoftirq, type NetDevs } from '@netmem/virtual-nic'
import { exitSplicePipe, type PacketEnv, type Vfs, type XskEnv } from '@netmem/zerocopy'
import { netDevSysctlApply } from './device-sysctl.js'
import { Links } from './links.js'
import { sysMunmap } from './mmap.js'
import type { Net } from './net.js'
import { Process } from './process.js'
import { ProcFs } from './procfs/procfs.js'
import { socketFile } from './socket-file.js'
import { sysClose } from './syscalls.js'
import type { SysctlFiles } from './sysctl/files.js'
import { vmSysctlApply } from './sysctl/vm.js'

/** The packages' states, as `bootKernel` made them. */
export interface KernelParts {
  readonly profile: KernelProfile
  readonly cpus: readonly Cpu[]
  readonly clock: EventQueue
  readonly trace: Trace
  readonly mem: Memory
  readonly dma: Dma
  readonly skbs: Skbuffs
  readonly devs: NetDevs
  readonly socks: SockEnv
  readonly inet: InetEnv
  readonly packet: PacketEnv
  readonly xsk: XskEnv
  readonly vfs: Vfs
  readonly sysctlFiles: SysctlFiles
  readonly seed: number
  readonly syscallNs: number
}

/** Longest wait of `settle`, in virtual nanoseconds: past every retransmission and time-wait timer. */
const SETTLE_NS = 600e9

export class Kernel {
  readonly profile: KernelProfile
  readonly cpus: readonly Cpu[]
  readonly clock: EventQueue
  readonly trace: Trace
  readonly mem: Memory
  readonly dma: Dma
  readonly skbs: Skbuffs
  readonly devs: NetDevs
  readonly socks: SockEnv
  readonly inet: InetEnv
  /** Packet sockets. */
  readonly packet: PacketEnv
  /** AF_XDP. */
  readonly xsk: XskEnv
  /** Files, page cache, pipes. */
  readonly vfs: Vfs
  readonly sysctlFiles: SysctlFiles
  readonly random: Prng
  /** Devices, addresses, namespaces. */
  readonly links: Links
  /** The files of /proc and /sys. */
  readonly procfs: ProcFs
  /** What one system call takes, in virtual nanoseconds. */
  readonly syscallNs: number
  /** All namespaces; the first is the initial one. */
  readonly nets: Net[] = []
  readonly processes: Process[] = []
  private nextPid = 1

  constructor(parts: KernelParts) {
    this.profile = parts.profile
    this.cpus = parts.cpus
    this.clock = parts.clock
    this.trace = parts.trace
    this.mem = parts.mem
    this.dma = parts.dma
    this.skbs = parts.skbs
    this.devs = parts.devs
    this.socks = parts.socks
    this.inet = parts.inet
    this.packet = parts.packet
    this.xsk = parts.xsk
    this.vfs = parts.vfs
    this.sysctlFiles = parts.sysctlFiles
    this.random = new Prng(parts.seed)
    this.syscallNs = parts.syscallNs
    this.links = new Links(this)
    this.procfs = new ProcFs(this)
  }

  get initNet(): Net {
    return this.nets[0]!
  }

  /** Starts a process on a CPU in a namespace. End it with `exit`. */
  spawn(cpu: Cpu = this.cpus[0]!, net: Net = this.initNet): Process {
    const process = new Process(this, this.nextPid, cpu, net)
    this.nextPid += 1
    this.processes.push(process)
    return process
  }

  /** Models `do_exit` for memory: the page fragment and the user memory go. Its descriptors must be closed. */
  exit(process: Process): void {
    pageFragRelease(this.mem, process.cpu, process.task.taskFrag, 'do_exit')
    exitSplicePipe(process.cpu, process.task)
    for (const mapping of process.mappings) sysMunmap(process, mapping)
    for (const fd of process.injectors.values()) sysClose(process, fd)
    process.injectors.clear()
    process.freeMemory()
    const at = this.processes.indexOf(process)
    if (at >= 0) this.processes.splice(at, 1)
  }

  /** Models one `write(2)` to a file of /proc/sys. @returns 0, -ENOENT or -EINVAL. */
  sysctlWrite(net: Net, name: string, text: string): number {
    const err = this.sysctlFiles.write(this.socks.sysctls, net.ns.sysctls, name, text, net.id === 0)
    netDevSysctlApply(this.devs, this.socks.sysctls)
    if (name.startsWith('vm.')) vmSysctlApply(this.mem, this.socks.sysctls)
    return err
  }

  /** @returns the value as `cat` shows it without its last newline, or null when there is no such name. */
  sysctlRead(net: Net, name: string): string | null {
    return this.sysctlFiles.read(this.socks.sysctls, net.ns.sysctls, name)
  }

  /** @returns pages charged to a protocol, as /proc/net/sockstat shows them. */
  protocolPages(name: string): number {
    const proto = this.socks.protos.find((candidate) => candidate.name === name)
    return proto === undefined ? 0 : Math.max(0, protoMemoryAllocated(proto))
  }

  /** @returns time-wait sockets, of all namespaces. */
  timeWaitSockets(): number {
    return tcpOf(this.inet).twCount
  }

  /** Models getsockopt(TCP_INFO): the fields of `struct tcp_info` by name. @returns null when `fd` is no TCP socket. */
  tcpInfo(process: Process, fd: number): TcpInfo | null {
    const file = socketFile(process, fd)
    if (file === null) return null
    const sk = file.priv as Sock
    return sk.proto.isTcp ? tcpGetInfo(sk) : null
  }

  /** Lets virtual time pass: timers, interrupts and deferred work that are due run. */
  passTime(ns: number): void {
    this.clock.runUntil(this.clock.nowNs + ns)
    this.runSoftirqs()
  }

  /** Models the way back to user mode on a CPU: pending softirqs have run, and the call took its time. */
  syscallExit(cpu: Cpu): void {
    if (this.devs.softnet[cpu.id]!.pending !== 0 && !inSoftirq(cpu)) doSoftirq(this.devs, cpu)
    if (this.syscallNs !== 0) this.clock.runUntil(this.clock.nowNs + this.syscallNs)
  }

  private runSoftirqs(): void {
    for (const cpu of this.cpus) if (this.devs.softnet[cpu.id]!.pending !== 0) doSoftirq(this.devs, cpu)
  }

  /** Lets everything that waits for time come to its end: timers, grace periods, time-wait sockets. */
  settle(): void {
    const until = this.clock.nowNs + SETTLE_NS
    for (let next = this.clock.nextAtNs(); next >= 0 && next <= until; next = this.clock.nextAtNs()) {
      this.clock.runUntil(next)
      this.runSoftirqs()
    }
  }
}
