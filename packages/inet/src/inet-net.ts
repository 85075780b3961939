/**
 * What the Internet protocols keep per network namespace: addresses, routes, neighbours, the fragments that
 * wait for their rest, and the sysctls of /proc/sys/net/ipv4 and ipv6.
 */
import type { NetNs, Sock } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import type { Dst } from './dst.js'
import type { Fqdir } from './inet-fragment.js'

/** A route: the longest matching prefix wins, the earlier one among equals. */
export interface FibRoute {
  readonly prefix: number
  readonly mask: number
  readonly length: number
  readonly dst: Dst
  /** The source address that packets on this route get. */
  readonly source: number
}

/** The same for IPv6. */
export interface Fib6Route {
  readonly prefix: Int32Array
  readonly length: number
  readonly dst: Dst
  readonly source: Int32Array
}

/** A permanent neighbour: an address and its MAC. */
export interface Neighbour {
  readonly dev: NetDevice
  readonly addr: number
  readonly addr6: Int32Array | null
  readonly macHi: number
  readonly macLo: number
}

export class InetNet {
  readonly routes: FibRoute[] = []
  readonly routes6: Fib6Route[] = []
  readonly neighbours: Neighbour[] = []
  readonly frags: Fqdir
  readonly frags6: Fqdir
  /** Models the per-CPU ICMP sockets of the namespace, made when first needed. */
  icmpSk: Sock | null = null
  icmp6Sk: Sock | null = null
  /** Next IP identification for packets that may be fragmented. */
  nextIpId = 1
  /** Where the search for a free port goes on. */
  nextPort = 0
  readonly defaultTtl: Float64Array
  readonly portRange: Float64Array
  readonly unprivilegedPort: Float64Array
  readonly maxDgramQlen: Float64Array
  readonly icmpRatelimit: Float64Array
  readonly icmpRatemask: Float64Array
  readonly bindv6only: Float64Array
  /** Models `net.ipv6.conf.all.disable_ipv6`: every packet is dropped as it comes in. */
  readonly disableIpv6: Float64Array
  /** Token bucket of ICMP errors per second for the whole namespace, and when it was last filled (jiffies). */
  icmpTokens = 0
  icmpStamp = 0

  constructor(
    readonly net: NetNs,
    frags: Fqdir,
    frags6: Fqdir,
  ) {
    this.frags = frags
    this.frags6 = frags6
    const table = net.sysctls
    this.defaultTtl = table.numbers('net.ipv4.ip_default_ttl', [64])
    this.portRange = table.numbers('net.ipv4.ip_local_port_range', [32768, 60999])
    this.unprivilegedPort = table.numbers('net.ipv4.ip_unprivileged_port_start', [1024])
    this.maxDgramQlen = table.numbers('net.unix.max_dgram_qlen', [10])
    this.icmpRatelimit = table.numbers('net.ipv4.icmp_ratelimit', [1000])
    this.icmpRatemask = table.numbers('net.ipv4.icmp_ratemask', [6168])
    this.disableIpv6 = table.numbers('net.ipv6.conf.all.disable_ipv6', [0])
    this.bindv6only = table.numbers('net.ipv6.bindv6only', [0])
  }
}
