/**
 * `struct proto`: what all sockets of one protocol share. For memory that is the count of charged pages
 * (with this CPU's uncommitted part of it), the three limits, the pressure flag and the minima that a
 * socket may always hold. TCP over IPv4 and IPv6 are two protocols with one `ProtoMemory`, as are the UDPs.
 */
import { assert, type Cpu } from '@netmem/base'
import type { KmemCache } from '@netmem/memory'
import type { SkBuff } from '@netmem/skbuff'
import type { NetNs } from './net-ns.js'
import type { Sock } from './sock.js'
import type { SockEnv } from './sock-env.js'

/**
 * Models `memory_allocated` with `per_cpu_fw_alloc`: pages charged to a protocol, over all namespaces.
 *
 * Invariant: the sum of `pages` and of all of `perCpu` is what the protocol's sockets took together;
 * every `perCpu[i]` stays strictly between plus and minus `net.core.mem_pcpu_rsv`.
 */
export class ProtoMemory {
  /** The shared count, in pages. The only part that limits are compared with. */
  pages = 0
  /** Each CPU's part that is not folded into `pages` yet, in pages, either sign. */
  readonly perCpu: Int32Array

  constructor(cpuCount: number) {
    this.perCpu = new Int32Array(cpuCount)
  }
}

/** Models `unsigned long *memory_pressure`: 0, or the jiffies when the protocol came under pressure. */
export class PressureFlag {
  jiffies = 0
}

/**
 * Models a `struct percpu_counter` such as `sockets_allocated` and `orphan_count`. A cheap read sees only what
 * CPUs have folded in, a batch at a time: a few sockets count as none.
 */
export class ProtoCounter {
  /** The exact sum. */
  value = 0
  /** What a cheap read sees. */
  count = 0
  private readonly perCpu: number[] = []

  /** Models `percpu_counter_add`. */
  add(cpu: Cpu, amount: number, batch: number): void {
    this.value += amount
    const local = (this.perCpu[cpu.id] ?? 0) + amount
    const fold = Math.abs(local) >= batch
    if (fold) this.count += local
    this.perCpu[cpu.id] = fold ? 0 : local
  }
}

/** What a protocol tells when it registers; the rest has the kernel's defaults. */
export interface ProtoParams {
  readonly name: string
  /** Bytes of one socket object (`obj_size`). */
  readonly objSize: number
  /** Models `usersize`/`useroffset`, for the raw protocols. */
  readonly usersize?: number
  readonly useroffset?: number
  /** Models `slab_flags`: `SLAB_TYPESAFE_BY_RCU` for TCP. */
  readonly slabFlags?: number
  /** False for protocols whose sockets come from kmalloc (`slab no`). */
  readonly slab?: boolean
  readonly maxHeader?: number
  readonly memory?: ProtoMemory
  readonly pressure?: PressureFlag
  readonly socketsAllocated?: ProtoCounter
  readonly orphanCount?: ProtoCounter
  /** Limits in pages: no pressure below [0], pressure above [1], refusal above [2]. */
  readonly sysctlMem?: Float64Array
  /** The receive memory a socket may hold even under pressure, in bytes (`sysctl_rmem[0]`). */
  readonly rmemMin?: (net: NetNs) => number
  /** The same for sending (`sysctl_wmem[0]`). */
  readonly wmemMin?: (net: NetNs) => number
  /** Columns of /proc/net/protocols for the methods that exist, such as `close,connect,disconnect`. */
  readonly methods?: string
  readonly counterEnter?: number
  readonly counterChrono?: number
  /** `MSG_ZEROCOPY` and `SO_TXREHASH` ask for these. */
  readonly isTcp?: boolean
  readonly isUdp?: boolean
}

/** Models `struct proto`. */
export class Proto {
  readonly name: string
  readonly objSize: number
  readonly usersize: number
  readonly useroffset: number
  readonly maxHeader: number
  readonly slab: boolean
  readonly slabFlags: number
  readonly memory: ProtoMemory | null
  readonly pressure: PressureFlag | null
  readonly socketsAllocated: ProtoCounter | null
  readonly orphanCount: ProtoCounter | null
  readonly sysctlMem: Float64Array
  readonly rmemMin: ((net: NetNs) => number) | null
  readonly wmemMin: ((net: NetNs) => number) | null
  readonly methods: string
  readonly isTcp: boolean
  readonly isUdp: boolean
  /** Counters that entering and the time spent under pressure go to; -1 when the protocol has none. */
  readonly counterEnter: number
  readonly counterChrono: number
  /** Index in `NetNs.protoInuse`, given by `protoRegister`. */
  inuseIndex = -1
  cache: KmemCache | null = null
  /** Sockets alive on this machine, all namespaces (the `sockets` column of /proc/net/protocols). */
  sockets = 0

  // Slots of the protocol itself; a protocol fills them after it is made and before its first socket.

  /** Models `backlog_rcv`: a packet that waited while the user owned the socket. Takes the skb. */
  backlogRcv: ((cpu: Cpu, sk: Sock, skb: SkBuff) => void) | null = null
  /** Models `release_cb`: deferred work, when the user lets go of the socket. */
  releaseCb: ((cpu: Cpu, sk: Sock) => void) | null = null
  /** Models `stream_memory_free`: whether a stream may queue more, `wake` 1 when asked for a wake-up. */
  streamMemoryFree: ((sk: Sock, wake: number) => boolean) | null = null
  /** Models `keepalive`. */
  keepalive: ((cpu: Cpu, sk: Sock, on: boolean) => void) | null = null
  /** For audits: bytes in `wmemQueued` and `rmemAlloc` that were never charged (pure zero-copy payload, the error queue). */
  uncharged: ((sk: Sock) => number) | null = null
  /** For the owner report: queues that the protocol itself has, by the id of their first packet. */
  ownQueues: ((sk: Sock, queue: (first: number, what: string) => void) => void) | null = null
  /** Models `forward_alloc_get`, for protocols that keep it elsewhere. */
  forwardAllocGet: ((sk: Sock) => number) | null = null

  constructor(params: ProtoParams) {
    this.name = params.name
    this.objSize = params.objSize
    this.usersize = params.usersize ?? 0
    this.useroffset = params.useroffset ?? 0
    this.maxHeader = params.maxHeader ?? 0
    this.slab = params.slab ?? true
    this.slabFlags = params.slabFlags ?? 0
    this.memory = params.memory ?? null
    this.pressure = params.pressure ?? null
    this.socketsAllocated = params.socketsAllocated ?? null
    this.orphanCount = params.orphanCount ?? null
    this.sysctlMem = params.sysctlMem ?? new Float64Array(3)
    this.rmemMin = params.rmemMin ?? null
    this.wmemMin = params.wmemMin ?? null
    this.methods = params.methods ?? ''
    this.counterEnter = params.counterEnter ?? -1
    this.counterChrono = params.counterChrono ?? -1
    this.isTcp = params.isTcp ?? false
    this.isUdp = params.isUdp ?? false
    assert(this.sysctlMem.length === 3, 'sysctl_mem is three numbers')
  }
}

/**
 * Models `proto_register` (net/core/sock.c): makes the slab cache and takes an inuse index.
 *
 * @returns 0, or -ENOBUFS when all inuse slots are taken.
 */
export function protoRegister(env: SockEnv, proto: Proto): number {
  return env.registerProto(proto)
}

/** Models `sk_memory_allocated` of a protocol: pages, never below 0; -1 when the protocol does not count. */
export const protoMemoryAllocated = (proto: Proto): number =>
  proto.memory === null ? -1 : Math.max(proto.memory.pages, 0)

/** Models the `press` column of /proc/net/protocols. */
export const protoMemoryPressure = (proto: Proto): 'NI' | 'yes' | 'no' =>
  proto.pressure === null ? 'NI' : proto.pressure.jiffies !== 0 ? 'yes' : 'no'
