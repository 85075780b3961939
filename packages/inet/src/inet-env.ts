/**
 * The Internet protocols of one machine: what is above IP, what is below, and the tables in between. Made by
 * `inetInit`; everything here takes it as its first argument or finds it through a socket's protocol.
 */
import type { Cpu, EventQueue, KernelProfile, Trace } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { type SkBuff, type Skbuffs, skbMaxAlloc } from '@netmem/skbuff'
import type { NetNs, Proto, Sock, SockEnv, SockOps } from '@netmem/sockmem'
import type { NetDevice, NetDevs } from '@netmem/virtual-nic'
import type { TlsCryptoProvider } from '@netmem/zerocopy'
import { MsgZerocopy } from '@netmem/zerocopy'
import { Dst } from './dst.js'
import type { InetFrags } from './inet-fragment.js'
import type { InetNet } from './inet-net.js'

/** Models `struct net_protocol`: who is above IP. */
export interface NetProtocol {
  readonly protocol: number
  /**
   * Takes the packet, `data` at the transport header.
   * @returns 0, or a negative protocol number to go on with.
   */
  handler(cpu: Cpu, skb: SkBuff): number
  /**
   * Models `err_handler`: an ICMP error about a packet we sent; `data` is at its quoted IP header.
   * @param info the MTU of a "fragmentation needed".
   */
  errHandler?(cpu: Cpu, skb: SkBuff, type: number, code: number, info: number): void
}

/** Models `struct inet_protosw`: which socket type and protocol make which kind of socket. */
export interface InetProtosw {
  readonly family: number
  readonly type: number
  /** 0 for a type's default and for raw sockets of any protocol. */
  readonly protocol: number
  readonly proto: Proto
  readonly ops: SockOps
  /** Models `prot->init`: fills `sk.priv`. @returns 0 or a negative errno; the socket is destroyed then. */
  init(cpu: Cpu, sk: Sock): number
  /** Needs CAP_NET_RAW. */
  readonly raw?: boolean
}

export interface InetParams {
  readonly socks: SockEnv
  readonly devs: NetDevs
  /** The ciphers that kTLS has; none when absent, and keys are refused with -ENOENT. */
  readonly crypto?: TlsCryptoProvider
  /** Seeds what is drawn at random: TCP's sequence numbers. */
  readonly seed?: number
}

/** Hot members first. */
export class InetEnv {
  readonly mem: Memory
  readonly skbs: Skbuffs
  readonly socks: SockEnv
  readonly devs: NetDevs
  readonly trace: Trace
  readonly clock: EventQueue
  readonly profile: KernelProfile
  readonly seed: number
  /** Models `SKB_MAX_ALLOC`: the largest linear buffer, bytes. */
  readonly maxAlloc: number
  /** Models `inet_protos` and `inet6_protos`, by protocol number. */
  readonly protos: (NetProtocol | null)[] = new Array(256).fill(null)
  readonly protos6: (NetProtocol | null)[] = new Array(256).fill(null)
  /** Routes by number; `dsts[0]` is a filler. */
  readonly dsts: (Dst | null)[] = [null]
  /** Per namespace, by its number. */
  readonly nets: InetNet[] = []
  /** Models `inetsw` and `inetsw6`. */
  readonly protosw: InetProtosw[] = []
  /** Raw sockets alive: 0 lets delivery skip looking for them. */
  rawSockets = 0
  frags!: InetFrags
  frags6!: InetFrags
  /** Notifications of sends by reference, UDP's and TCP's. */
  readonly zerocopy: MsgZerocopy
  /** Addresses of the packet in hand. */
  readonly scratch6 = { saddr: new Int32Array(4), daddr: new Int32Array(4) }
  readonly scratchFlow6 = { saddr6: new Int32Array(4), daddr6: new Int32Array(4) }
  private readonly words6 = new Int32Array(4)
  private fragId6 = 0
  /** State of protocols in this package, by name (`udp`, `unix`, `tcp`). */
  readonly owned: Record<string, unknown> = {}
  /** Makes a namespace's `InetNet`; set by `inetInit`. */
  makeNet!: (net: NetNs) => InetNet

  constructor(params: InetParams) {
    this.socks = params.socks
    this.devs = params.devs
    this.mem = params.socks.mem
    this.skbs = params.socks.skbs
    this.trace = params.socks.trace
    this.clock = params.socks.clock
    this.profile = params.socks.profile
    this.seed = params.seed ?? 1
    this.maxAlloc = skbMaxAlloc(this.skbs.sizes)
    this.zerocopy = new MsgZerocopy(params.socks)
  }

  /** Four big-endian words of packet memory; valid until the next call. @param at byte offset. */
  wordsAt(at: number): Int32Array {
    const { dv } = this.mem
    for (let i = 0; i < 4; i += 1) this.words6[i] = dv.getInt32(at + 4 * i)
    return this.words6
  }

  /** Models `ipv6_select_ident`: a number that no recent fragment of this machine had. */
  nextFragId6(): number {
    this.fragId6 = (this.fragId6 + 1) | 0
    return this.fragId6
  }

  /** @returns the namespace's part, made when first asked for. */
  netOf(net: NetNs): InetNet {
    return this.nets[net.id] ?? this.makeNet(net)
  }

  /** @returns the namespace a device is in. */
  netOfDev(dev: NetDevice): InetNet {
    return this.nets[dev.ns] ?? this.makeNet(this.socks.nets[dev.ns])
  }

  /** @returns a new route in the table; it stays until `dstFree`. */
  dstCreate(
    family: number,
    dev: NetDevice,
    local: boolean,
    broadcast: boolean,
    gateway: number,
    gateway6: Int32Array | null,
  ): Dst {
    const dst = new Dst(this.dsts.length, family, dev, local, broadcast, gateway, gateway6)
    this.dsts.push(dst)
    return dst
  }
}

/** Models `inet_add_protocol` (net/ipv4/protocol.c). @returns 0, or -1 when the number is taken. */
export function inetAddProtocol(env: InetEnv, protocol: NetProtocol): number {
  if (env.protos[protocol.protocol] !== null) return -1
  env.protos[protocol.protocol] = protocol
  return 0
}

/** Models `inet6_add_protocol`. */
export function inet6AddProtocol(env: InetEnv, protocol: NetProtocol): number {
  if (env.protos6[protocol.protocol] !== null) return -1
  env.protos6[protocol.protocol] = protocol
  return 0
}

/** Models `inet_register_protosw` and its IPv6 twin: later ones of a type come first. */
export function inetRegisterProtosw(env: InetEnv, sw: InetProtosw): void {
  env.protosw.push(sw)
}
