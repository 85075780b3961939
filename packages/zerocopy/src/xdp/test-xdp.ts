/** A machine with AF_XDP and a card for tests and benchmarks, and a program with one socket on it. */
import { type Addr, Cpu, EventQueue, type KernelProfile, kernelProfile, Trace } from '@netmem/base'
import { type Dma, type DmaParams, deviceCreate, dmaInit } from '@netmem/dma'
import { type Memory, memoryCreate, type UserBuffer, userAlloc, userFree } from '@netmem/memory'
import { pagePoolsInit } from '@netmem/page-pool'
import { type Skbuffs, skbInit } from '@netmem/skbuff'
import {
  AF_XDP,
  doSockSetsockopt,
  MSG_DONTWAIT,
  Msg,
  OptVal,
  SOCK_RAW,
  type Sock,
  type SockEnv,
  Sysctls,
  sockCreate,
  sockEnvCreate,
  Task,
} from '@netmem/sockmem'
import {
  bpfRedirectMap,
  devOpen,
  doSoftirq,
  type NetDevice,
  type NetDevs,
  netDevInit,
  type PpNic,
  type PpNicParams,
  ppNicCreate,
  XDP_PASS,
  type XdpProgram,
} from '@netmem/virtual-nic'
import {
  SOL_XDP,
  XDP_PGOFF_RX_RING,
  XDP_PGOFF_TX_RING,
  XDP_RX_RING,
  XDP_TX_RING,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_PGOFF_COMPLETION_RING,
  XDP_UMEM_PGOFF_FILL_RING,
  XDP_UMEM_REG,
} from './uapi.js'
import { XskRing, type XskRingKind, xskRingProdFillAddr, xskRingProdReserve, xskRingProdSubmit } from './xsk.js'
import { SockaddrXdp } from './xsk-bind.js'
import type { XskEnv } from './xsk-env.js'
import { xskInit } from './xsk-ops.js'
import { xskqRingBytes } from './xsk-queue.js'
import { type XdpSock, xdpSk } from './xsk-sock.js'
import { XskMap } from './xskmap.js'

/** Which kernel, how much memory, what card. */
export interface XdpMachineParams {
  readonly profile?: KernelProfile
  readonly bytes?: number
  readonly dma?: Partial<DmaParams>
  readonly nic?: Partial<PpNicParams>
}

export class XdpMachine {
  readonly mem: Memory
  readonly clock = new EventQueue()
  readonly cpu = new Cpu(0, 0)
  readonly skbs: Skbuffs
  readonly devs: NetDevs
  readonly socks: SockEnv
  readonly xsk: XskEnv
  readonly task: Task
  readonly dev: NetDevice
  readonly nic: PpNic
  readonly dma: Dma
  readonly map = new XskMap(4)

  constructor(params: XdpMachineParams = {}) {
    const profile = params.profile ?? kernelProfile('linux-6.18-x86_64')
    const trace = new Trace()
    const { clock, cpu } = this
    const mem = memoryCreate({ profile, bytes: params.bytes ?? 32 << 20, cpus: 1, trace })
    const pools = pagePoolsInit({ mem, profile, trace, events: clock, cpus: [cpu] })
    this.mem = mem
    this.skbs = skbInit({ mem, cpus: 1, trace, profile, pagePools: pools })
    this.devs = netDevInit({ mem, skbs: this.skbs, pagePools: pools, cpus: [cpu], clock, trace, profile })
    const dma = dmaInit({ mem, profile, trace, cpus: [cpu], events: clock, ...params.dma })
    this.dma = dma
    const sysctls = new Sysctls(profile)
    this.socks = sockEnvCreate({ mem, skbs: this.skbs, cpus: [cpu], clock, trace, profile, sysctls })
    this.xsk = xskInit(this.socks, this.devs)
    this.task = new Task(1, cpu, this.socks.initNet)
    const device = deviceCreate(dma, { name: 'nic' })
    this.dev = ppNicCreate(this.devs, { name: 'eth0', device, features: 0, ...params.nic }) as NetDevice
    this.nic = this.dev.priv as PpNic
    devOpen(this.dev, cpu)
  }

  /** Attaches a program that redirects each queue's frames to the socket under its key. */
  attach(native = true, hasFrags = false): void {
    const program: XdpProgram = {
      name: 'redirect',
      hasFrags,
      run: (xdp) => bpfRedirectMap(xdp, this.map, xdp.rxQueueIndex, XDP_PASS),
    }
    if (native) this.dev.ops.xdpSet!(this.dev, program, this.cpu)
    else this.dev.xdpProg = program
  }

  detach(): void {
    if (this.dev.xdpProg !== null) this.dev.xdpProg = null
    else this.dev.ops.xdpSet!(this.dev, null, this.cpu)
  }

  /** Lets what is due happen. */
  run(ns = 50_000_000): void {
    this.clock.runUntil(this.clock.nowNs + ns)
    if (this.devs.softnet[0]!.pending !== 0) doSoftirq(this.devs, this.cpu)
  }
}

/** An area, rings and flags for one socket. */
export interface XdpUserParams {
  readonly chunkSize?: number
  readonly chunks?: number
  readonly headroom?: number
  /** `XDP_UMEM_*`. */
  readonly umemFlags?: number
  readonly txMetadataLen?: number
  readonly entries?: Partial<Record<XskRingKind, number>>
  /** `XDP_*` of the bind; -1 leaves the socket unbound. */
  readonly bind?: number
  readonly queue?: number
}

const RINGS: Readonly<Record<XskRingKind, readonly [number, number]>> = {
  rx: [XDP_RX_RING, XDP_PGOFF_RX_RING],
  tx: [XDP_TX_RING, XDP_PGOFF_TX_RING],
  fill: [XDP_UMEM_FILL_RING, XDP_UMEM_PGOFF_FILL_RING],
  comp: [XDP_UMEM_COMPLETION_RING, XDP_UMEM_PGOFF_COMPLETION_RING],
}
const KINDS = ['rx', 'tx', 'fill', 'comp'] as const

/** A program with one socket: everything is set up by the constructor, or `err` says what was refused. */
export class XdpUser {
  readonly area: UserBuffer
  readonly sk: Sock
  readonly xs: XdpSock
  readonly chunkSize: number
  readonly chunks: number
  readonly rings = {} as Record<XskRingKind, XskRing>
  readonly mapped: UserBuffer[] = []
  readonly err: number
  private readonly val = new OptVal()
  private readonly msg = new Msg()

  constructor(
    readonly machine: XdpMachine,
    params: XdpUserParams = {},
  ) {
    const { mem, cpu, socks, task } = machine
    this.chunkSize = params.chunkSize ?? 2048
    this.chunks = params.chunks ?? 64
    const area = userAlloc(mem, cpu, this.chunks * this.chunkSize)
    if (area === null) throw new RangeError('no memory for the area')
    this.area = area
    const id = sockCreate(socks, cpu, task, AF_XDP, SOCK_RAW, 0)
    if (id < 0) {
      userFree(mem, cpu, area)
      throw new RangeError(`no socket: ${id}`)
    }
    this.sk = socks.socks[id] as Sock
    this.xs = xdpSk(this.sk)
    this.err = this.register(params) || this.makeRings(params) || this.bind(params)
  }

  private register(params: XdpUserParams): number {
    const { val, machine } = this
    val.words.fill(0)
    val.words[2] = this.chunks * this.chunkSize
    val.words[4] = this.chunkSize
    val.words[5] = params.headroom ?? 0
    val.words[6] = params.umemFlags ?? 0
    val.words[7] = params.txMetadataLen ?? 0
    val.len = 32
    val.buffer = this.area
    const err = doSockSetsockopt(machine.cpu, machine.task, this.sk, SOL_XDP, XDP_UMEM_REG, val)
    val.buffer = null
    return err
  }

  private makeRings(params: XdpUserParams): number {
    const { val, machine, sk } = this
    for (const kind of KINDS) {
      const entries = params.entries?.[kind] ?? 64
      if (entries === 0) continue
      val.int = entries
      val.len = 4
      const err = doSockSetsockopt(machine.cpu, machine.task, sk, SOL_XDP, RINGS[kind][0], val)
      if (err !== 0) return err
      const shift = kind === 'rx' || kind === 'tx' ? 4 : 3
      const bytes = Math.ceil(xskqRingBytes(entries, shift) / 4096) * 4096
      const buffer = sk.ops.mmap!(machine.cpu, sk, RINGS[kind][1], bytes)
      if (typeof buffer === 'number') return buffer
      this.mapped.push(buffer)
      this.rings[kind] = new XskRing(machine.mem, buffer, kind, entries)
    }
    return 0
  }

  private bind(params: XdpUserParams): number {
    if (params.bind === -1) return 0
    const { machine } = this
    const addr = new SockaddrXdp()
    addr.flags = params.bind ?? 0
    addr.ifindex = machine.dev.id
    addr.queueId = params.queue ?? 0
    const err = this.sk.ops.bind(machine.cpu, machine.task, this.sk, addr)
    if (err === 0) machine.map.update(addr.queueId, this.xs)
    return err
  }

  /** Posts chunks, by number. @returns how many there was room for. */
  fill(chunks: readonly number[]): number {
    const ring = this.rings.fill
    let n = 0
    for (const chunk of chunks) {
      if (xskRingProdReserve(ring, 1) === 0) break
      xskRingProdFillAddr(ring, ring.at, chunk * this.chunkSize)
      n++
    }
    xskRingProdSubmit(ring, n)
    return n
  }

  /** The memory address of a byte of the area. */
  at(offset: number): Addr {
    return ((this.area.pfns[offset >>> 12]! << 12) | (offset & 4095)) as Addr
  }

  /** Models `sendto(fd, NULL, 0, MSG_DONTWAIT)`. */
  kick(): number {
    const { cpu, task } = this.machine
    this.msg.reset(MSG_DONTWAIT)
    const rc = this.sk.ops.sendmsg(cpu, task, this.sk, this.msg, 0)
    this.machine.run(0)
    return rc
  }

  /** Models `recvfrom(fd, NULL, 0, MSG_DONTWAIT)`: wakes the driver. */
  wake(): number {
    const { cpu, task } = this.machine
    this.msg.reset(MSG_DONTWAIT)
    const rc = this.sk.ops.recvmsg(cpu, task, this.sk, this.msg, 0, MSG_DONTWAIT)
    this.machine.run(0)
    return rc
  }

  /** Closes everything and waits until the kernel has let go. */
  close(): void {
    const { mem, cpu, task } = this.machine
    for (const buffer of this.mapped.splice(0)) userFree(mem, cpu, buffer)
    this.sk.ops.release(cpu, task, this.sk)
    this.machine.run()
    userFree(mem, cpu, this.area)
  }
}
