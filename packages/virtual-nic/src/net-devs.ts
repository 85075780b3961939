/**
 * The device layer of one machine: who is registered, what each CPU has queued, who wants packets. Handed to
 * every function here as `env`; two machines have two of them.
 *
 * Conservation: an skb given to this layer is, at any time, in exactly one place: a CPU's input, process or
 * completion queue, a NAPI's GRO bucket or receive list, a qdisc, a driver's ring, or with a handler.
 */
import { assert, type Cpu, type EventQueue, type KernelProfile, Prng, type Trace } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import type { PagePool, PagePools } from '@netmem/page-pool'
import type { SkBuff, Skbuffs } from '@netmem/skbuff'
import { NETIF_F_GRO_FRAGLIST, NETIF_F_GRO_UDP_FWD } from './features.js'
import { netDevRegisterHolders } from './holders.js'
import { inetOffloadInit } from './inet-offload.js'
import { napiThreadedPoll, napiWatchdog } from './napi.js'
import type { NapiStruct } from './napi-struct.js'
import type { NetDevice } from './net-device.js'
import { backlogNapi, netRxAction, netTxAction } from './net-rx-action.js'
import type { PacketOffload } from './offload.js'
import { type PacketType, PTYPE_HASH_SIZE } from './packet-type.js'
import {
  doSoftirq,
  irqEnter,
  irqExit,
  NET_RX_SOFTIRQ,
  NET_TX_SOFTIRQ,
  NR_SOFTIRQS,
  raiseSoftirq,
  type SoftirqAction,
} from './softirq.js'
import { SoftnetData } from './softnet.js'
import { XdpFramePool } from './xdp-frame.js'

/** The sysctls of this layer under their kernel names, as numbers; `kernel-model` writes them. */
export interface NetDevSysctl {
  /** `net.core.netdev_max_backlog`, packets. */
  maxBacklog: number
  /** `net.core.netdev_budget`, packets per softirq. */
  netdevBudget: number
  /** `net.core.netdev_budget_usecs`, microseconds per softirq. */
  netdevBudgetUsecs: number
  /** `net.core.dev_weight` times its biases. */
  devRxWeight: number
  devTxWeight: number
  /** `net.core.gro_normal_batch`, packets. */
  groNormalBatch: number
  /** `net.core.busy_poll` and `net.core.busy_read`, microseconds. */
  busyPoll: number
  busyRead: number
  /** `net.core.flow_limit_table_len` and `net.core.flow_limit_cpu_bitmap`. */
  flowLimitTableLen: number
  flowLimitCpuBitmap: number
  /** `net.core.high_order_alloc_disable`. */
  highOrderAllocDisable: boolean
}

/** What one packet costs the modelled CPU, in virtual nanoseconds. All zero: work takes no virtual time. */
export interface NetDevCosts {
  /** Per packet that a NAPI poll or the backlog handles. */
  readonly rxPacketNs: number
  /** Per interrupt. */
  readonly irqNs: number
}

/** Event handlers of this layer, as numbers of the machine's event queue. */
export interface NetDevTimers {
  /** A NAPI's `napi_watchdog`. */
  readonly watchdog: number
  /** A NAPI's thread. */
  readonly thread: number
  /** A CPU that is free again (cost model). */
  readonly resume: number
}

/** What upper layers fill in. */
export interface NetDevSlots {
  /** Models `refcount_add(delta, &sk->sk_wmem_alloc)` when segments replace the packet that was charged. */
  skWmemAdd(sk: number, bytes: number): void
  /** Numbers of the destructors that segmentation treats specially; -1 when there is no such layer. */
  sockWfree: number
  tcpWfree: number
  /**
   * Models `udp4_gro_lookup_skb` and `udp6_gro_lookup_skb`: which socket would get this datagram.
   * @returns 0 no socket, 1 one without `UDP_GRO`, 2 one with it.
   */
  udpGroLookup(skb: SkBuff, network: number, transport: number): number
}

/** Models `NETDEV_UP`, `NETDEV_DOWN` and `NETDEV_UNREGISTER`. */
export type NetdevEvent = 'up' | 'down' | 'unregister'
/** Models `notifier_call` of `register_netdevice_notifier`. */
export type NetdevNotifier = (cpu: Cpu, event: NetdevEvent, dev: NetDevice) => void

export interface NetDevsParams {
  readonly mem: Memory
  readonly skbs: Skbuffs
  /** Page pools of the machine; drivers that use them make theirs here. */
  readonly pagePools: PagePools
  readonly cpus: readonly Cpu[]
  readonly clock: EventQueue
  readonly trace: Trace
  readonly profile: KernelProfile
  readonly costs?: NetDevCosts
  /** Seeds the RSS key, flow hashes and whatever else the kernel draws at random. */
  readonly seed?: number
}

/** One machine's device layer. Hot members first. */
export class NetDevs {
  /** By device id; `devices[0]` is null. */
  readonly devices: (NetDevice | null)[] = [null]
  readonly softnet: SoftnetData[] = []
  readonly mem: Memory
  readonly skbs: Skbuffs
  readonly pagePools: PagePools
  readonly trace: Trace
  readonly clock: EventQueue
  readonly cpus: readonly Cpu[]
  /** Taps anywhere: 0 lets the receive path skip them. */
  taps = 0
  /** Models `ptype_all`. */
  readonly ptypeAll: PacketType[] = []
  /** Models `ptype_base`, a hash by EtherType. */
  readonly ptypeBase: PacketType[][] = []
  /** Models `net_hotdata.offload_base`: who can merge and segment which EtherType. */
  readonly offloads: PacketOffload[] = []
  readonly sysctl: NetDevSysctl
  readonly profile: KernelProfile
  readonly costs: NetDevCosts
  /** `costs` are not all zero. */
  readonly timed: boolean
  readonly seed: number
  /** Models `softirq_vec`. */
  readonly softirqVec: (SoftirqAction | null)[] = []
  /** By napi id; ids below 1 are not used. */
  readonly napiById: (NapiStruct | null)[] = [null]
  /** Models `rps_needed`: some device spreads its packets. */
  rpsNeeded = false
  /** Models `udp_encap_needed`: sockets that want UDP merged. 0 lets GRO pass UDP at once. */
  udpGroUsers = 0
  /** Device features that make GRO look at UDP without a socket's wish. */
  readonly udpGroFeatures = NETIF_F_GRO_FRAGLIST | NETIF_F_GRO_UDP_FWD
  /** User memory in a packet is copied by the protocol that delivers it, not before it is handed up (6.6). */
  readonly userFragsReachIp: boolean
  /** The driver's last answer (`devHardStartXmit`). */
  xmitRc = 0
  readonly xdpFrames = new XdpFramePool()
  /** Models `MAX_HEADER`: the largest link header that the kernel was built for, bytes. */
  readonly maxHeader: number
  /** Bytes of `struct xdp_frame`. */
  readonly xdpFrameBytes: number
  /** Models `system_page_pool`: the pool of a CPU for packets without a better one; null where there is none. */
  systemPagePool: ((cpu: Cpu) => PagePool) | null = null
  readonly slots: NetDevSlots
  /** Models `netdev_chain`. */
  readonly notifiers: NetdevNotifier[] = []
  /** Nanoseconds per jiffy. */
  readonly nsPerJiffy: number
  /** Nested `devQueueXmit` calls that a CPU may make before it is taken for a loop. */
  readonly xmitRecursionLimit = 8
  readonly timers: NetDevTimers

  constructor(p: NetDevsParams) {
    this.mem = p.mem
    this.skbs = p.skbs
    this.pagePools = p.pagePools
    this.trace = p.trace
    this.clock = p.clock
    this.cpus = p.cpus
    this.profile = p.profile
    this.userFragsReachIp = this.profile.features.userFragsReachIp
    this.seed = p.seed ?? 1
    this.costs = p.costs ?? { rxPacketNs: 0, irqNs: 0 }
    this.timed = this.costs.rxPacketNs > 0 || this.costs.irqNs > 0
    this.nsPerJiffy = 1_000_000_000 / p.profile.HZ
    const number = (name: string, fallback: number): number => Number(p.profile.sysctl[name] ?? fallback)
    const weight = number('net.core.dev_weight', 64)
    this.sysctl = {
      maxBacklog: number('net.core.netdev_max_backlog', 1000),
      netdevBudget: number('net.core.netdev_budget', 300),
      netdevBudgetUsecs: number('net.core.netdev_budget_usecs', 8000),
      devRxWeight: weight * number('net.core.dev_weight_rx_bias', 1),
      devTxWeight: weight * number('net.core.dev_weight_tx_bias', 1),
      groNormalBatch: number('net.core.gro_normal_batch', 8),
      busyPoll: number('net.core.busy_poll', 0),
      busyRead: number('net.core.busy_read', 0),
      flowLimitTableLen: number('net.core.flow_limit_table_len', 4096),
      flowLimitCpuBitmap: 0,
      highOrderAllocDisable: false,
    }
    for (let i = 0; i < PTYPE_HASH_SIZE; i++) this.ptypeBase.push([])
    for (let i = 0; i < NR_SOFTIRQS; i++) this.softirqVec.push(null)
    this.softirqVec[NET_RX_SOFTIRQ] = netRxAction
    this.softirqVec[NET_TX_SOFTIRQ] = netTxAction
    for (const cpu of p.cpus) {
      assert(cpu.id === this.softnet.length, 'CPUs must be numbered from 0 without gaps')
      this.softnet.push(new SoftnetData(this, cpu))
    }
    for (const sd of this.softnet) sd.backlog = backlogNapi(this)
    this.maxHeader = p.profile.derived.MAX_HEADER ?? 64
    this.xdpFrameBytes = p.profile.structs.xdp_frame?.size ?? 40
    this.slots = { skWmemAdd: () => {}, sockWfree: -1, tcpWfree: -1, udpGroLookup: () => 0 }
    this.timers = {
      watchdog: p.clock.register((napi) => this.timerInterrupt(napi)),
      thread: p.clock.register((napi, cpu) => {
        const it = this.napiById[napi]
        if (it) napiThreadedPoll(this.cpus[cpu]!, it)
      }),
      resume: p.clock.register((cpu) => {
        this.softnet[cpu]!.resumeScheduled = false
        doSoftirq(this, this.cpus[cpu]!)
      }),
    }
    const slots = this.skbs.slots
    slots.raiseNetTxSoftirq = (cpu) => raiseSoftirq(this, cpu, NET_TX_SOFTIRQ)
    slots.kickDeferListPurge = (cpu, target) => this.kickDeferListPurge(cpu, target)
    slots.devName = (id) => this.devices[id]?.name ?? '<NULL>'
    slots.devType = (id) => this.devices[id]?.type ?? 0
    const random = new Prng(this.seed)
    slots.random = () => random.next()
  }

  /** Models `kick_defer_list_purge`: the other CPU takes an interrupt and its receive softirq frees what it was sent. */
  private kickDeferListPurge(cpu: Cpu, target: number): void {
    const remote = this.cpus[target]!
    raiseSoftirq(this, remote, NET_RX_SOFTIRQ)
    if (remote === cpu) return
    irqEnter(remote)
    irqExit(this, remote)
  }

  /** The interrupt of a NAPI's timer, on the CPU that takes the NAPI's interrupts. */
  private timerInterrupt(id: number): void {
    const napi = this.napiById[id]
    if (!napi) return
    irqEnter(napi.irqCpu)
    napiWatchdog(napi.irqCpu, napi)
    irqExit(this, napi.irqCpu)
  }
}

/** Models `net_dev_init` (net/core/dev.c). */
export function netDevInit(params: NetDevsParams): NetDevs {
  const env = new NetDevs(params)
  inetOffloadInit(env)
  netDevRegisterHolders(env)
  return env
}
