/**
 * A network namespace as sockets see it: the sysctls that are its own, its counters and how many sockets
 * of each protocol it has. Devices, routes and tables belong to the layers above, which hang theirs on
 * `owned` under their package's name.
 */
import type { KernelProfile } from '@netmem/base'
import { MIB_NAMES, mibIndex } from './mib.js'
import { Sysctls } from './sysctls.js'

/** Models `struct net` as far as sockets and their memory need it. */
export class NetNs {
  /** Counters by `mibIndex`; they only grow, and stay exact to 2^53. */
  readonly mib = new Float64Array(MIB_NAMES.length)
  /** Sockets in use by `Proto.inuseIndex` (`sock_prot_inuse_get`). */
  readonly protoInuse = new Float64Array(64)
  /** Sockets of all families in this namespace (`sockets: used` of sockstat). */
  socketsInuse = 0
  readonly sysctls: Sysctls
  readonly optmemMax: Float64Array
  readonly tcpRmem: Float64Array
  readonly tcpWmem: Float64Array
  readonly udpRmemMin: Float64Array
  readonly udpWmemMin: Float64Array
  readonly txrehash: Float64Array
  readonly tcpNotsentLowat: Float64Array
  /** State of higher layers for this namespace, by package. */
  readonly owned: Record<string, unknown> = {}

  constructor(
    readonly id: number,
    profile: KernelProfile,
    machine: Sysctls,
  ) {
    this.sysctls = new Sysctls(profile, machine)
    const optmemTable = profile.features.optmemMaxPerNet ? this.sysctls : machine
    this.optmemMax = optmemTable.numbers('net.core.optmem_max', [131072])
    this.tcpRmem = this.sysctls.numbers('net.ipv4.tcp_rmem', [4096, 131072, 6291456])
    this.tcpWmem = this.sysctls.numbers('net.ipv4.tcp_wmem', [4096, 16384, 4194304])
    this.udpRmemMin = this.sysctls.numbers('net.ipv4.udp_rmem_min', [4096])
    this.udpWmemMin = this.sysctls.numbers('net.ipv4.udp_wmem_min', [4096])
    this.txrehash = this.sysctls.numbers('net.core.txrehash', [1])
    this.tcpNotsentLowat = this.sysctls.numbers('net.ipv4.tcp_notsent_lowat', [4294967295])
  }

  /** @returns one counter by its name, such as `Udp.RcvbufErrors`. */
  counter(name: string): number {
    return this.mib[mibIndex(name)] as number
  }
}
