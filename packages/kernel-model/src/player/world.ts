/**
 * What a trace is playing on: the kernel, the process that makes the calls, and the names that the trace has
 * given to descriptors, devices and namespaces. One per playing; verbs find everything here.
 */
import type { UserBuffer } from '@netmem/memory'
import type { SockAddr } from '@netmem/sockmem'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import type { Process } from '../process.js'
import { sysClose } from '../syscalls.js'
import type { TraceDocument } from '../trace/document.js'
import { type Dialect, dialectOf } from '../trace/verbs.js'
import { AllocRecorder } from './alloc-recorder.js'
import { StepError } from './answer.js'
import { startWatches } from './event-watch.js'
import { IdBijection } from './id-bijection.js'
import { plugNics } from './nic-machine.js'
import { freeXskAreas } from './xdp-world.js'

/** A device of a trace: which namespace it is in, and how frames are addressed to it. */
export interface TraceDevice {
  readonly net: Net
  /** Its name in that namespace: `lo` for the trace's `lo@B`. */
  readonly name: string
  readonly mac: string
  readonly ip: string
  /** False for TUN: frames begin with the IP header. */
  readonly ethernet: boolean
  /** The trace's name of the other end of a veth pair. */
  readonly peer: string | null
}

/** The id of a descriptor number that is not open. */
const BAD_FD = 999
/**
 * How much virtual time a step takes beside its calls, in nanoseconds: what the recorders needed between two on
 * the reference machine. Kernels differ in nothing by it, but delayed ACKs and round trips are a matter of time.
 */
const STEP_NS: Readonly<Record<Dialect, number>> = { sockets: 40_000, rings: 50_000, alloc: 1_000_000 }
/** What reading one event out of the trace buffer took, with its stack. */
const EVENT_NS = 55_000
/** Steps of allocation traces are as long as their events are many. */
const SLOWED: ReadonlySet<Dialect> = new Set<Dialect>(['sockets', 'rings'])

/** The recorder's one buffer to send from: zeros, but for the first byte of each page. Checksums know the difference. */
function markPages(kernel: Kernel, name: string, buffer: UserBuffer): void {
  if (name === 'send') for (const pfn of buffer.pfns) kernel.mem.u8[pfn * kernel.profile.page_size] = 1
}

export class PlayerWorld {
  readonly process: Process
  readonly ids = new IdBijection()
  readonly recorder: AllocRecorder
  /** Descriptors by the trace's names. */
  readonly fds = new Map<string, number>()
  /** Addresses of bound sockets, for `to`. */
  readonly addresses = new Map<string, SockAddr>()
  readonly nets = new Map<string, Net>()
  readonly devices = new Map<string, TraceDevice>()
  /** State that one family of verbs keeps for itself, by family. */
  readonly extra = new Map<string, unknown>()
  /** Counters as they stood before the first step, by namespace. */
  private readonly counterBase = new Map<Net, Float64Array>()
  private readonly pagesBase: Readonly<Record<'tcp' | 'udp', number>>
  private readonly dialect: Dialect
  private readonly stepNs: number
  private readonly eventNs: number

  constructor(
    readonly kernel: Kernel,
    readonly document: TraceDocument,
  ) {
    this.dialect = dialectOf(document.family)
    const slowness = SLOWED.has(this.dialect) ? kernel.profile.features.machineSlowness : 1
    this.stepNs = STEP_NS[this.dialect] * slowness
    this.eventNs = EVENT_NS * kernel.profile.features.machineSlowness
    this.process = kernel.spawn(kernel.cpus[0]!, kernel.links.netCreate())
    const { net } = this.process
    if (this.dialect === 'sockets') this.process.fillBuffer = (name, buffer) => markPages(kernel, name, buffer)
    this.nets.set('A', net).set('a', net)
    // Devices and rings begin with loopback down; they say `lo_up` when they want it.
    if (this.dialect === 'rings') this.ipv6Off(net)
    else kernel.links.loUp(net)
    for (const [name, value] of Object.entries(document.sysctl)) {
      const err = kernel.sysctlWrite(net, name, value)
      if (err < 0) throw new StepError(`sysctl ${name} = "${value}" of the trace cannot be set`)
    }
    this.recorder = new AllocRecorder(kernel)
    startWatches(this)
    plugNics(this)
    this.counterBase.set(net, net.ns.mib.slice())
    this.pagesBase = { tcp: this.protocolPages('tcp'), udp: this.protocolPages('udp') }
  }

  /** Traces of devices and rings are recorded with IPv6 switched off in each namespace. */
  ipv6Off(net: Net): void {
    this.kernel.inet.netOf(net.ns).disableIpv6[0] = 1
  }

  /** @returns the descriptor of a name. @throws StepError when the trace never made it. */
  fd(id: string): number {
    if (id === 'badfd') return BAD_FD
    const fd = this.fds.get(id)
    if (fd === undefined) throw new StepError(`nothing open is called "${id}"`)
    return fd
  }

  /** Remembers a descriptor. @returns 0, or the errno that `fd` is. */
  keep(id: string, fd: number): number {
    if (fd < 0) return fd
    this.fds.set(id, fd)
    return 0
  }

  address(id: string): SockAddr {
    const address = this.addresses.get(id)
    if (address === undefined) throw new StepError(`"${id}" is not bound to an address`)
    return address
  }

  net(name: string): Net {
    const net = this.nets.get(name)
    if (net === undefined) throw new StepError(`there is no namespace "${name}"`)
    return net
  }

  device(name: string): TraceDevice {
    const device = this.devices.get(name)
    if (device === undefined) throw new StepError(`there is no device "${name}"`)
    return device
  }

  /** Runs `call` with the process in another namespace. */
  within<T>(net: Net, call: () => T): T {
    const { process } = this
    const home = process.net
    process.setns(net)
    try {
      return call()
    } finally {
      process.setns(home)
    }
  }

  /** @returns how much a counter has grown since the trace began. A namespace made later began at zero. */
  counterGrowth(net: Net, index: number): number {
    return net.ns.mib[index]! - (this.counterBase.get(net)?.[index] ?? 0)
  }

  /** @returns pages charged to a protocol since the trace began, as /proc/net/sockstat counts them. */
  protocolGrowth(proto: 'tcp' | 'udp'): number {
    return this.protocolPages(proto) - this.pagesBase[proto]
  }

  private protocolPages(proto: 'tcp' | 'udp'): number {
    return this.kernel.protocolPages(proto === 'tcp' ? 'TCP' : 'UDP')
  }

  /** Time that passes between two steps; timers that are due run. */
  betweenSteps(): void {
    this.kernel.passTime(this.stepNs + this.recorder.latestCount * this.eventNs)
    this.recorder.latestCount = 0
  }

  /** After a step that threw half way: the CPU is back in its task. */
  recover(): void {
    for (const cpu of this.kernel.cpus) {
      cpu.bhDisabled = 0
      cpu.servingSoftirq = 0
      cpu.hardirq = 0
      cpu.irqsDisabled = 0
      cpu.pfMemalloc = 0
    }
    this.recorder.stop()
  }

  /** Closes whatever the trace left open, as its process's exit would, and waits for what waits to be freed. */
  closeAll(): void {
    for (const fd of this.process.files.open()) sysClose(this.process, fd)
    this.fds.clear()
    this.recorder.detach()
    freeXskAreas(this)
    this.kernel.exit(this.process)
    this.kernel.settle()
    for (const net of new Set(this.nets.values())) this.kernel.links.netDestroy(net)
    this.kernel.settle()
  }
}
