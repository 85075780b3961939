/**
 * A network device as the stack sees it: name, limits, features, counters and the operations its driver
 * supplies. One class for every driver, so that code handling devices stays monomorphic; what belongs to a
 * driver alone hangs on `priv`.
 */
import type { Cpu } from '@netmem/base'
import type { HolderWalk } from '@netmem/page-pool'
import type { SkBuff } from '@netmem/skbuff'
import type { NapiStruct } from './napi-struct.js'
import type { NetDevs } from './net-devs.js'
import type { NetdevQueue } from './netdev-queue.js'
import type { PacketType } from './packet-type.js'
import type { XdpProgram } from './xdp.js'
import type { XdpFrame } from './xdp-frame.js'
import type { XskPoolSlot } from './xsk-pool-slot.js'

/** Models the interface flags of `net_device::flags` (include/uapi/linux/if.h). */
export const IFF_UP = 0x1
export const IFF_BROADCAST = 0x2
export const IFF_LOOPBACK = 0x8
export const IFF_POINTOPOINT = 0x10
export const IFF_NOARP = 0x80
export const IFF_PROMISC = 0x100
export const IFF_ALLMULTI = 0x200
export const IFF_MULTICAST = 0x1000

/** Models `ARPHRD_*`. */
export const ARPHRD_ETHER = 1
export const ARPHRD_LOOPBACK = 772
export const ARPHRD_NONE = 65534

/** Models `netdev_tx_t` and `NET_XMIT_*`: 0 taken, 1 taken and dropped, 2 congestion, 16 not taken. */
export const NETDEV_TX_OK = 0
export const NET_XMIT_DROP = 1
export const NET_XMIT_CN = 2
export const NETDEV_TX_BUSY = 16
/** Models `NET_RX_SUCCESS` and `NET_RX_DROP`. */
export const NET_RX_SUCCESS = 0
export const NET_RX_DROP = 1

/** Models the order of `struct rtnl_link_stats64`: indices into `NetDevice.stats`. */
export const NETDEV_STATS = [
  'rx_packets',
  'tx_packets',
  'rx_bytes',
  'tx_bytes',
  'rx_errors',
  'tx_errors',
  'rx_dropped',
  'tx_dropped',
  'multicast',
  'collisions',
  'rx_length_errors',
  'rx_over_errors',
  'rx_crc_errors',
  'rx_frame_errors',
  'rx_fifo_errors',
  'rx_missed_errors',
  'tx_aborted_errors',
  'tx_carrier_errors',
  'tx_fifo_errors',
  'tx_heartbeat_errors',
  'tx_window_errors',
  'rx_compressed',
  'tx_compressed',
  'rx_nohandler',
] as const
export type NetdevStatName = (typeof NETDEV_STATS)[number]

export const RX_PACKETS = 0
export const TX_PACKETS = 1
export const RX_BYTES = 2
export const TX_BYTES = 3
export const RX_ERRORS = 4
export const TX_ERRORS = 5
export const RX_DROPPED = 6
export const TX_DROPPED = 7
export const MULTICAST = 8
export const RX_LENGTH_ERRORS = 10
export const RX_CRC_ERRORS = 12
export const RX_FRAME_ERRORS = 13
export const RX_FIFO_ERRORS = 14
export const RX_MISSED_ERRORS = 15
export const TX_FIFO_ERRORS = 18
export const RX_NOHANDLER = 23

/** Models `struct net_device_ops`: what a driver must and may supply. All but `startXmit` may be absent. */
export interface NetDeviceOps {
  /** Models `ndo_open`. @returns 0 or -errno; on failure nothing is left allocated. */
  open?(dev: NetDevice, cpu: Cpu): number
  /** Models `ndo_stop`. */
  stop?(dev: NetDevice, cpu: Cpu): void
  /** Models `ndo_uninit`: the device leaves the registry for good. */
  uninit?(dev: NetDevice, cpu: Cpu): void
  /** Models `ndo_start_xmit`. Takes the skb unless it returns `NETDEV_TX_BUSY`. */
  startXmit(cpu: Cpu, skb: SkBuff, dev: NetDevice): number
  /** Models `ndo_select_queue`. @returns the transmit queue index. */
  selectQueue?(dev: NetDevice, skb: SkBuff): number
  /** Models `ndo_features_check`: features that this very packet may use. */
  featuresCheck?(skb: SkBuff, dev: NetDevice, features: number): number
  /** Models `ndo_fix_features`. */
  fixFeatures?(dev: NetDevice, features: number): number
  /** Models `ndo_set_features`: called with `dev.features` still the old ones. */
  setFeatures?(dev: NetDevice, features: number, cpu: Cpu): number
  /** Models `ndo_change_mtu`; the limits were already checked. */
  changeMtu?(dev: NetDevice, mtu: number, cpu: Cpu): number
  /** Models `ndo_get_stats64`: adds the driver's own counters to `out`, which holds those the stack keeps. */
  getStats64?(dev: NetDevice, out: Float64Array): void
  /** Models `ndo_bpf` with `XDP_SETUP_PROG`: native XDP. @returns 0 or -errno. */
  xdpSet?(dev: NetDevice, prog: XdpProgram | null, cpu: Cpu): number
  /** Models `ndo_xdp_xmit`. @returns how many of the first `n` frames were taken, or -errno for none. */
  xdpXmit?(cpu: Cpu, dev: NetDevice, frames: XdpFrame[], n: number, flush: boolean): number
  /** Models `NETDEV_XDP_ACT_NDO_XMIT_SG`: `xdpXmit` takes frames of several buffers too. */
  readonly xdpXmitSg?: boolean
  /** Models `ndo_xsk_wakeup`. */
  xskWakeup?(dev: NetDevice, queue: number, cpu: Cpu): number
  /** Models `ndo_bpf` with `XDP_SETUP_XSK_POOL`: zero copy on a queue, or with null its end. @returns 0 or -errno. */
  xskPoolSetup?(dev: NetDevice, pool: XskPoolSlot | null, queue: number, cpu: Cpu): number
}

/** Models `rx_handler_func_t`. @returns one of `RX_HANDLER_*`. */
export type RxHandler = (cpu: Cpu, skb: SkBuff, dev: NetDevice) => number

export class NetDevice {
  /** Bits of `IFF_*`; `IFF_UP` is the administrator's wish. */
  flags = 0
  /** Models `__LINK_STATE_START`: the driver was opened. */
  running = false
  /** Models `netif_carrier_ok`. */
  carrier = true
  mtu = 1500
  minMtu = 68
  maxMtu = 65535
  type = ARPHRD_ETHER
  /** Link header bytes: 14 for Ethernet, 0 for TUN. */
  hardHeaderLen = 14
  /** Models `needed_headroom`. */
  neededHeadroom = 0
  neededTailroom = 0
  txQueueLen = 1000
  /** Link speed as ethtool tells it, in Mbit/s; 0 where nobody knows. */
  speed = 0
  /** Models `tlsdev_ops`: connections whose records the card encrypts, as kTLS hands them over; null on cards that cannot. */
  tlsdevOps: { tlsDevAdd(flow: object): number; tlsDevDel(flow: object): void } | null = null
  /** Models `promiscuity` and `allmulti`: how many want it. */
  promiscuity = 0
  allmulti = 0
  gsoMaxSize = 65536
  gsoMaxSegs = 65535
  /** Bits of `NETIF_F_*`: on now, switchable, asked for. */
  features = 0
  hwFeatures = 0
  wantedFeatures = 0
  /** Software features that the driver wants off at first (veth: GRO). */
  softFeaturesOff = 0
  /** Models `IFF_NO_QUEUE` of `priv_flags`: no qdisc, packets go straight to the driver. */
  noQueue = false
  /** The first two bytes and the last four of the MAC address, big endian, for quick comparison. */
  macHi = 0
  macLo = 0
  /** Not 0 when received packets need more than a look at their protocol: a program, a handler, a bound protocol. */
  rxSlow = 0
  private generic: XdpProgram | null = null
  private handler: RxHandler | null = null
  /** The program the driver runs natively, or null; for the registry's bookkeeping only. */
  xdpNative: XdpProgram | null = null
  /** Models `dev->ptype_all`: taps bound to this device. */
  readonly ptypeAll: PacketType[] = []
  /** Models `dev->ptype_specific`. */
  readonly ptypeSpecific: PacketType[] = []
  readonly txq: NetdevQueue[] = []
  readonly napis: NapiStruct[] = []
  realNumTxQueues = 1
  realNumRxQueues = 1
  /** Models `gro_flush_timeout` in nanoseconds and `napi_defer_hard_irqs`: defaults for this device's NAPIs. */
  groFlushTimeoutNs = 0
  napiDeferHardIrqs = 0
  /** Threaded NAPI asked for. */
  threaded = false
  /** Models `rps_map` of each receive queue: CPUs to steer to, or null. */
  readonly rpsMaps: (Int32Array | null)[] = []
  /** Models `vlan_info`: VLAN devices on top of this one, by VLAN id. */
  readonly vlans = new Map<number, NetDevice>()
  /** Models `netdev_rx_queue::pool`: the AF_XDP pool of each queue, copy mode included; null where there is none. */
  readonly xskPools: (XskPoolSlot | null)[] = []
  /** Counters in the order of `NETDEV_STATS`: the stack's and those drivers that keep none of their own. */
  readonly stats = new Float64Array(NETDEV_STATS.length)
  /** The driver's audit: throws when its rings and counts disagree. */
  audit: (() => void) | null = null
  /** For the owner report of page pools: pages that the driver holds. */
  holders: HolderWalk | null = null
  /** The driver's own state, set once by the driver that made the device. */
  priv: unknown = null

  constructor(
    readonly env: NetDevs,
    /** Index in the registry: unique on the machine, small, never 0. */
    readonly id: number,
    readonly name: string,
    /** Network namespace number. */
    public ns: number,
    /** The driver's operations; wrappers replace them. */
    public ops: NetDeviceOps,
  ) {}

  /** This device's generic XDP program, or null. */
  get xdpProg(): XdpProgram | null {
    return this.generic
  }
  set xdpProg(prog: XdpProgram | null) {
    this.generic = prog
    this.updateRxSlow()
  }

  /** Models `dev->rx_handler` (bridges, bonds): null, or a function that may take the skb. */
  get rxHandler(): RxHandler | null {
    return this.handler
  }
  set rxHandler(handler: RxHandler | null) {
    this.handler = handler
    this.updateRxSlow()
  }

  /** Recounts what keeps packets off the short way. */
  updateRxSlow(): void {
    this.rxSlow = (this.generic !== null ? 1 : 0) + (this.handler !== null ? 1 : 0) + this.ptypeSpecific.length
  }
}

/** Models `eth_hw_addr_set`. @param mac six bytes as `aa:bb:cc:dd:ee:ff`. @throws RangeError when it is no such text. */
export function ethHwAddrSet(dev: NetDevice, mac: string): void {
  const bytes = mac.split(':').map((part) => Number.parseInt(part, 16))
  if (bytes.length !== 6 || bytes.some((b) => !(b >= 0 && b <= 255)))
    throw new RangeError(`"${mac}" is not six hexadecimal bytes separated by colons`)
  dev.macHi = (bytes[0]! << 8) | bytes[1]!
  dev.macLo = (bytes[2]! << 24) | (bytes[3]! << 16) | (bytes[4]! << 8) | bytes[5]!
}

/** Models `netif_running`. */
export const netifRunning = (dev: NetDevice): boolean => dev.running

/** Models `netif_carrier_on`. */
export function netifCarrierOn(dev: NetDevice): void {
  dev.carrier = true
}

/** Models `netif_carrier_off`. */
export function netifCarrierOff(dev: NetDevice): void {
  dev.carrier = false
}

/**
 * Models `dev_get_stats` (net/core/dev.c).
 *
 * @param out at least as long as `NETDEV_STATS`; overwritten.
 */
export function devGetStats(dev: NetDevice, out: Float64Array): Float64Array {
  out.set(dev.stats)
  if (dev.ops.getStats64 !== undefined) dev.ops.getStats64(dev, out)
  return out
}

/** @returns the 24 counters by name, as under /sys/class/net/<dev>/statistics. */
export function devStatistics(dev: NetDevice): Record<NetdevStatName, number> {
  const values = devGetStats(dev, new Float64Array(NETDEV_STATS.length))
  const out = {} as Record<NetdevStatName, number>
  for (let i = 0; i < NETDEV_STATS.length; i++) out[NETDEV_STATS[i]!] = values[i]!
  return out
}
