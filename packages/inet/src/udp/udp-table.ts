/**
 * Who gets a datagram: bound sockets by local address and port, connected ones by all four. A port's sockets are
 * also a list, for conflicts when binding.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  AF_INET,
  AF_INET6,
  type NetNs,
  SOCKF_REUSEADDR,
  SOCKF_REUSEPORT,
  type Sock,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import type { InetEnv } from '../inet-env.js'
import { inetOf } from '../inet-sock.js'
import { ipv6AddrAny, ipv6AddrEqual } from '../ip6/ipv6-header.js'
import { SocketHash } from '../socket-hash.js'
import { udpSk } from './udp-sock.js'

/** Models `struct udp_table`. */
export class UdpTable {
  readonly bound = new SocketHash(256)
  readonly connected = new SocketHash(64)
  /** First socket of each port, per namespace; an array only where ports are in use. */
  readonly ports: (Int32Array | null)[] = []
  /** Sockets that asked for UDP_GRO. */
  groUsers = 0

  portsOf(net: NetNs): Int32Array {
    let ports = this.ports[net.id]
    if (ports == null) {
      ports = new Int32Array(65536)
      this.ports[net.id] = ports
    }
    return ports
  }
}

const mix = (h: number, word: number): number => {
  const m = Math.imul(h ^ word, 0x9e3779b1)
  return m ^ (m >>> 15)
}

const hashBound = (ns: number, addr: number, port: number): number => mix(mix(ns + 1, addr), port)
const hashFour = (ns: number, laddr: number, faddr: number, ports: number): number =>
  mix(mix(mix(ns + 1, laddr), faddr), ports)
const foldV6 = (a: Int32Array): number => mix(mix(mix(a[0], a[1]), a[2]), a[3])

// Hot path: once per datagram.

/**
 * Models `__udp4_lib_lookup` (net/ipv4/udp.c): the best match, a connected socket before a bound one, an exact address
 * before any.
 *
 * @returns null when nobody wants it.
 */
export function udp4LibLookup(
  env: InetEnv,
  table: UdpTable,
  ns: number,
  saddr: number,
  sport: number,
  daddr: number,
  dport: number,
  dif: number,
): Sock | null {
  const { socks } = env.socks
  if (table.connected.size !== 0) {
    const hash = hashFour(ns, daddr, saddr, (sport << 16) | dport)
    for (let at = table.connected.probe(hash, -1); at >= 0; at = table.connected.probe(hash, at)) {
      const sk = socks[table.connected.idAt(at)] as Sock
      if (
        sk.num === dport &&
        sk.dport === sport &&
        sk.rcvSaddr === daddr &&
        sk.daddr === saddr &&
        sk.net.id === ns &&
        (sk.boundDevIf === 0 || sk.boundDevIf === dif)
      )
        return sk
    }
  }
  const sk = lookupBound(env, table, ns, daddr, dport, dif)
  return sk !== null ? sk : lookupBound(env, table, ns, 0, dport, dif)
}

function lookupBound(env: InetEnv, table: UdpTable, ns: number, addr: number, port: number, dif: number): Sock | null {
  const { socks } = env.socks
  const { bound } = table
  const hash = hashBound(ns, addr, port)
  let best: Sock | null = null
  for (let at = bound.probe(hash, -1); at >= 0; at = bound.probe(hash, at)) {
    const sk = socks[bound.idAt(at)] as Sock
    if (sk.num !== port || sk.net.id !== ns) continue
    if (sk.family === AF_INET ? sk.rcvSaddr !== addr : addr !== 0 || !acceptsV4(sk)) continue
    if (sk.boundDevIf === 0) {
      if (best === null) best = sk
    } else if (sk.boundDevIf === dif) return sk
  }
  return best
}

const acceptsV4 = (sk: Sock): boolean => ipv6AddrAny((sk.v6 as { rcvSaddr: Int32Array }).rcvSaddr) && !inetOf(sk).v6only

/** Models `__udp6_lib_lookup`. */
export function udp6LibLookup(
  env: InetEnv,
  table: UdpTable,
  ns: number,
  saddr: Int32Array,
  sport: number,
  daddr: Int32Array,
  dport: number,
  dif: number,
): Sock | null {
  const { socks } = env.socks
  if (table.connected.size !== 0) {
    const hash = hashFour(ns, foldV6(daddr), foldV6(saddr), (sport << 16) | dport)
    for (let at = table.connected.probe(hash, -1); at >= 0; at = table.connected.probe(hash, at)) {
      const sk = socks[table.connected.idAt(at)] as Sock
      if (sk.v6 === null || sk.num !== dport || sk.dport !== sport || sk.net.id !== ns) continue
      if (!ipv6AddrEqual(sk.v6.rcvSaddr, daddr) || !ipv6AddrEqual(sk.v6.daddr, saddr)) continue
      if (sk.boundDevIf === 0 || sk.boundDevIf === dif) return sk
    }
  }
  return lookupBound6(env, table, ns, daddr, dport, dif) ?? lookupBound6(env, table, ns, ANY6, dport, dif)
}

const ANY6 = new Int32Array(4)

function lookupBound6(
  env: InetEnv,
  table: UdpTable,
  ns: number,
  addr: Int32Array,
  port: number,
  dif: number,
): Sock | null {
  const hash = hashBound(ns, ipv6AddrAny(addr) ? 0 : foldV6(addr), port)
  for (let at = table.bound.probe(hash, -1); at >= 0; at = table.bound.probe(hash, at)) {
    const sk = env.socks.socks[table.bound.idAt(at)] as Sock
    if (sk.v6 === null || sk.num !== port || sk.net.id !== ns || !ipv6AddrEqual(sk.v6.rcvSaddr, addr)) continue
    if (sk.boundDevIf === 0 || sk.boundDevIf === dif) return sk
  }
  return null
}

// Cold path: binding and connecting.

const boundHash = (sk: Sock): number =>
  hashBound(sk.net.id, sk.v6 === null ? sk.rcvSaddr : ipv6AddrAny(sk.v6.rcvSaddr) ? 0 : foldV6(sk.v6.rcvSaddr), sk.num)

function connectedHash(sk: Sock): number {
  const ports = (sk.dport << 16) | sk.num
  if (sk.family === AF_INET6 && sk.v6 !== null && sk.daddr === 0)
    return hashFour(sk.net.id, foldV6(sk.v6.rcvSaddr), foldV6(sk.v6.daddr), ports)
  return hashFour(sk.net.id, sk.rcvSaddr, sk.daddr, ports)
}

/** Models `udp_lib_hash2` and the four-tuple hash: puts a socket where lookups find it. */
export function udpHash(table: UdpTable, sk: Sock): void {
  const up = udpSk(sk)
  up.connectedHash = sk.state === TCP_ESTABLISHED
  if (up.connectedHash) table.connected.insert(connectedHash(sk), sk.id)
  else table.bound.insert(boundHash(sk), sk.id)
}

/** Models `udp_lib_unhash`'s and `udp_lib_rehash`'s first half. The keys must be as they were when it was put there. */
export function udpUnhash(table: UdpTable, sk: Sock): void {
  if (udpSk(sk).connectedHash) table.connected.remove(connectedHash(sk), sk.id)
  else table.bound.remove(boundHash(sk), sk.id)
}

/** Models `udp_lib_lport_inuse`: whether a socket may share the port with those that have it. */
function conflicts(env: InetEnv, first: number, sk: Sock): boolean {
  for (let id = first; id !== 0; ) {
    const other = env.socks.socks[id] as Sock
    if (other !== sk && clash(sk, other)) return true
    id = udpSk(other).portNext
  }
  return false
}

function clash(a: Sock, b: Sock): boolean {
  if (a.boundDevIf !== 0 && b.boundDevIf !== 0 && a.boundDevIf !== b.boundDevIf) return false
  if (!addressesOverlap(a, b)) return false
  if ((a.flags & b.flags & SOCKF_REUSEPORT) !== 0) return false
  return (a.flags & b.flags & SOCKF_REUSEADDR) === 0
}

/** Models `inet_rcv_saddr_equal` with wildcards matching everything. */
function addressesOverlap(a: Sock, b: Sock): boolean {
  const { v6: a6 } = a
  const { v6: b6 } = b
  if (a6 === null && b6 === null) return a.rcvSaddr === b.rcvSaddr || a.rcvSaddr === 0 || b.rcvSaddr === 0
  if (a6 !== null && b6 !== null)
    return ipv6AddrAny(a6.rcvSaddr) || ipv6AddrAny(b6.rcvSaddr) || ipv6AddrEqual(a6.rcvSaddr, b6.rcvSaddr)
  const six = a6 !== null ? a : b
  return acceptsV4(six)
}

/**
 * Models `udp_lib_get_port` (net/ipv4/udp.c). @param port 0 for any free one.
 *
 * @returns 0, or -EADDRINUSE.
 */
export function udpGetPort(env: InetEnv, table: UdpTable, _cpu: Cpu, sk: Sock, port: number): number {
  const ports = table.portsOf(sk.net)
  let chosen = port
  if (port === 0) {
    const net = env.netOf(sk.net)
    const low = net.portRange[0]
    const count = net.portRange[1] - low + 1
    for (let tried = 0; tried < count; tried += 1) {
      const candidate = low + ((net.nextPort + tried) % count)
      if (conflicts(env, ports[candidate], sk)) continue
      chosen = candidate
      net.nextPort = (candidate - low + 1) % count
      break
    }
    if (chosen === 0) return -ERRNO.EADDRINUSE
  } else if (conflicts(env, ports[port], sk)) return -ERRNO.EADDRINUSE
  sk.num = chosen
  const up = udpSk(sk)
  up.portPrev = 0
  up.portNext = ports[chosen]
  if (up.portNext !== 0) udpSk(env.socks.socks[up.portNext] as Sock).portPrev = sk.id
  ports[chosen] = sk.id
  sk.net.protoInuse[sk.proto.inuseIndex] += 1
  udpHash(table, sk)
  return 0
}

/** Models `udp_lib_unhash`: the socket gives its port back. */
export function udpPutPort(env: InetEnv, table: UdpTable, sk: Sock): void {
  if (sk.num === 0) return
  udpUnhash(table, sk)
  const up = udpSk(sk)
  const ports = table.portsOf(sk.net)
  if (up.portPrev === 0) ports[sk.num] = up.portNext
  else udpSk(env.socks.socks[up.portPrev] as Sock).portNext = up.portNext
  if (up.portNext !== 0) udpSk(env.socks.socks[up.portNext] as Sock).portPrev = up.portPrev
  sk.net.protoInuse[sk.proto.inuseIndex] -= 1
  sk.num = 0
}
