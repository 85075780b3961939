/**
 * `struct packet_sock`: what a packet socket has beyond a socket, and the state that all of one machine share.
 */
import { type Addr, type EventQueue, Prng } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { dropReasonName, type SkBuff, type SkbDropReason } from '@netmem/skbuff'
import { type NetNs, Proto, SOCK_DGRAM, type Sock, type SockEnv } from '@netmem/sockmem'
import { type NetDevice, type NetDevs, type PacketType, VirtioNetHdr } from '@netmem/virtual-nic'
import type { PacketFanout, PacketRollover } from './fanout.js'
import type { PacketMclist } from './mclist.js'
import { PacketRing } from './packet-ring.js'

/** How a tap takes a packet. */
export type PacketFunc = PacketType['func']

/** Models `packet_sock::prot_hook`: the tap by which a socket, or a fanout group, receives. */
export class PacketHook implements PacketType {
  type = 0
  dev: NetDevice | null = null
  ignoreOutgoing = false
  func: PacketFunc
  readonly ns: number
  readonly skipOwn: (skb: SkBuff) => boolean
  /** The socket; null in the hook of a group. */
  readonly po: PacketSock | null
  readonly fanout: PacketFanout | null

  constructor(
    ns: number,
    func: PacketFunc,
    po: PacketSock | null,
    fanout: PacketFanout | null,
    own: (skb: SkBuff) => boolean,
  ) {
    this.ns = ns
    this.func = func
    this.po = po
    this.fanout = fanout
    this.skipOwn = own
  }
}

/** Models `struct packet_sock`. Counters that a program reads are 32 bits wide and start again when read. */
export class PacketSock {
  readonly rxRing = new PacketRing()
  readonly txRing = new PacketRing()
  readonly hook: PacketHook
  /** SOCK_DGRAM: without link headers. */
  readonly cooked: boolean
  tpVersion = 0
  tpHdrlen = 0
  tpReserve = 0
  tpTstamp = 0
  copyThresh = 0
  /** Bytes of the virtio header in front of each packet, 0 without. */
  vnetHdrSz = 0
  tpPackets = 0
  tpDrops = 0
  tpFreezeQCnt = 0
  /** EtherType that it is bound to, host order; 0 receives nothing. */
  num = 0
  ifindex = 0
  running = false
  auxdata = false
  origdev = false
  tpLoss = false
  tpTxHasOff = false
  /** Models `xmit == packet_direct_xmit`. */
  qdiscBypass = false
  pressure = false
  /** Where virtio headers pass through on their way to and from messages; 0 until they are wanted. */
  scratch = 0 as Addr
  /** A raw socket without virtio headers and with a reserve that fits: what `tpacketRcvV3` is for. */
  plainRaw = false
  /** Areas that map its rings. */
  mapped = 0
  cachedDev: NetDevice | null = null
  fanout: PacketFanout | null = null
  rollover: PacketRollover | null = null
  mclist: PacketMclist | null = null

  constructor(
    readonly env: PacketEnv,
    readonly sk: Sock,
    func: PacketFunc,
  ) {
    this.cooked = sk.type === SOCK_DGRAM
    this.hook = new PacketHook(sk.net.id, func, this, null, (skb) => skb.sk === sk.id)
  }
}

/** Models `pkt_sk`. */
export const pktSk = (sk: Sock): PacketSock => sk.priv as PacketSock

const KEY = 'packet'

/** One machine's packet sockets. */
export class PacketEnv {
  readonly mem: Memory
  readonly clock: EventQueue
  readonly proto: Proto
  readonly random: Prng
  readonly fanouts: PacketFanout[] = []
  fanoutNextId = 0
  /** Number of the destructor of packets from a transmit ring. */
  tpacketDestructor = 0
  /** The kind of zero-copy owner that names a frame of a ring. */
  nouarg = 0
  /** Event handler of the retire timers. */
  retireTimer = 0
  /** The kernel tells of TCP trains in the status. */
  readonly gsoTcpStatus: boolean
  /** The reason that a packet without room is dropped with: older kernels have none of its own. */
  readonly noRoom: SkbDropReason
  /** One header, reused for every packet that has one. */
  readonly vnet = new VirtioNetHdr()
  /** The time that `stamp` found last: whole seconds, and the nanoseconds beyond them. */
  sec = 0
  nsec = 0
  // When that was; most packets of a batch come at one time.
  private readonly stamped = new Float64Array([-1])

  constructor(
    readonly socks: SockEnv,
    readonly devs: NetDevs,
    seed: number,
  ) {
    this.mem = socks.mem
    this.clock = socks.clock
    this.gsoTcpStatus = socks.profile.features.packetGsoTcpStatus
    this.noRoom = dropReasonName(socks.profile, 'PACKET_SOCK_ERROR')
    this.random = new Prng(seed)
    this.proto = new Proto({ name: 'PACKET', objSize: socks.profile.structs.packet_sock?.size ?? 1600, slab: false })
  }

  /** Models `ktime_get_real_ts64`: sets `sec` and `nsec`. The machine was booted at second 0. */
  stamp(): void {
    if (this.clock.nowNs !== this.stamped[0]) this.stampAnew(this.clock.nowNs)
  }

  /** The same for another time than now. */
  stampWith(ns: number): void {
    this.stampAnew(ns)
    this.stamped[0] = -1
  }

  private stampAnew(ns: number): void {
    this.stamped[0] = ns
    this.sec = Math.floor(ns / 1e9)
    this.nsec = (ns - this.sec * 1e9) | 0
  }

  /** Models `net->packet.sklist`: the packet sockets of a namespace, the oldest first. */
  sklist(net: NetNs): PacketSock[] {
    const list = (net.owned[KEY] ?? []) as PacketSock[]
    net.owned[KEY] = list
    return list
  }
}
