/**
 * How a segment finds its socket: by both addresses and ports for connections (with their time-wait and
 * request socks), by port for listeners.
 */
import { AF_INET6, type Sock, type SockEnv, TCP_LISTEN } from '@netmem/sockmem'
import { ipv6AddrAny, ipv6AddrEqual } from '../ip6/ipv6-header.js'
import { SocketHash } from '../socket-hash.js'
import type { RequestSock } from './request-sock.js'
import type { TimewaitSock } from './tcp-minisocks.js'
import { tcpSk } from './tcp-sock.js'

/** The addresses and ports of a segment, seen from here. One per machine, filled before a look-up. */
export class FlowKey {
  netId = 0
  family = 0
  /** Ours. */
  laddr = 0
  lport = 0
  /** The peer's. */
  raddr = 0
  rport = 0
  dif = 0
  readonly laddr6 = new Int32Array(4)
  readonly raddr6 = new Int32Array(4)
}

const mix = (h: number, v: number): number => {
  const x = Math.imul(h ^ v, 0x9e3779b1)
  return x ^ (x >>> 15)
}

/** Models `inet_ehashfn`. */
export function inetEhashfn(netId: number, laddr: number, lport: number, raddr: number, rport: number): number {
  return mix(mix(mix(mix(netId, laddr), raddr), (lport << 16) | rport), 0x5bd1e995)
}

const fold6 = (a: Int32Array): number => a[0]! ^ a[1]! ^ a[2]! ^ a[3]!

const hashOfKey = (key: FlowKey): number =>
  key.family === AF_INET6
    ? inetEhashfn(key.netId, fold6(key.laddr6), key.lport, fold6(key.raddr6), key.rport)
    : inetEhashfn(key.netId, key.laddr, key.lport, key.raddr, key.rport)

const hashOfSk = (sk: Sock): number =>
  sk.family === AF_INET6
    ? inetEhashfn(sk.net.id, fold6(sk.v6!.rcvSaddr), sk.num, fold6(sk.v6!.daddr), sk.dport)
    : inetEhashfn(sk.net.id, sk.rcvSaddr, sk.num, sk.daddr, sk.dport)

/** Models `struct inet_hashinfo`, as far as TCP's. */
export class InetHashinfo {
  /** Connections, by the hash of both their ends; each keeps its own in `Sock.hashNext`. */
  private readonly ehash = new SocketHash(256)
  private readonly listeners = new Map<number, Sock[]>()
  /** Requests and time-wait socks are few, and no hot path. */
  private readonly requests = new Map<number, RequestSock[]>()
  private readonly timewaits = new Map<number, TimewaitSock[]>()
  readonly key = new FlowKey()

  constructor(private readonly socks: SockEnv) {}

  // Hot path: once per segment.

  /** Models `__inet_lookup_established`. */
  lookupEstablished(key: FlowKey): Sock | null {
    const table = this.socks.socks
    const { ehash } = this
    const hash = hashOfKey(key)
    for (let at = ehash.probe(hash, -1); at >= 0; at = ehash.probe(hash, at)) {
      const sk = table[ehash.idAt(at)]!
      if (
        sk.num === key.lport &&
        sk.dport === key.rport &&
        sk.net.id === key.netId &&
        sk.family === key.family &&
        (sk.family === AF_INET6
          ? ipv6AddrEqual(sk.v6!.rcvSaddr, key.laddr6) && ipv6AddrEqual(sk.v6!.daddr, key.raddr6)
          : sk.rcvSaddr === key.laddr && sk.daddr === key.raddr)
      )
        return sk
    }
    return null
  }

  /** Models `__inet_lookup_listener` with `compute_score`: the most specific listener wins. */
  lookupListener(key: FlowKey): Sock | null {
    let best: Sock | null = null
    let bestScore = -1
    for (const sk of this.listeners.get(key.lport) ?? []) {
      if (sk.net.id !== key.netId || sk.family !== key.family) continue
      let score = 0
      if (sk.family === AF_INET6) {
        if (!ipv6AddrAny(sk.v6!.rcvSaddr)) {
          if (!ipv6AddrEqual(sk.v6!.rcvSaddr, key.laddr6)) continue
          score += 4
        }
      } else if (sk.rcvSaddr !== 0) {
        if (sk.rcvSaddr !== key.laddr) continue
        score += 4
      }
      if (sk.boundDevIf !== 0) {
        if (sk.boundDevIf !== key.dif) continue
        score += 4
      }
      if (score > bestScore) {
        best = sk
        bestScore = score
      }
    }
    return best
  }

  lookupRequest(key: FlowKey): RequestSock | null {
    for (const req of this.requests.get(hashOfKey(key)) ?? []) if (req.matches(key)) return req
    return null
  }

  lookupTimewait(key: FlowKey): TimewaitSock | null {
    for (const tw of this.timewaits.get(hashOfKey(key)) ?? []) if (tw.matches(key)) return tw
    return null
  }

  // Cold path: once per connection.

  hashSock(sk: Sock): void {
    sk.hashNext = hashOfSk(sk)
    this.ehash.insert(sk.hashNext, sk.id)
  }

  unhashSock(sk: Sock): void {
    this.ehash.remove(sk.hashNext, sk.id)
    sk.hashNext = 0
  }

  addListener(sk: Sock): void {
    const list = this.listeners.get(sk.num)
    if (list === undefined) this.listeners.set(sk.num, [sk])
    else list.push(sk)
  }

  removeListener(sk: Sock): void {
    const list = this.listeners.get(sk.num)
    if (list === undefined) return
    const at = list.indexOf(sk)
    if (at >= 0) list.splice(at, 1)
    if (list.length === 0) this.listeners.delete(sk.num)
  }

  addRequest(req: RequestSock): void {
    add(this.requests, hashOfKey(req.key), req)
  }

  removeRequest(req: RequestSock): boolean {
    return remove(this.requests, hashOfKey(req.key), req)
  }

  addTimewait(tw: TimewaitSock): void {
    add(this.timewaits, hashOfKey(tw.key), tw)
  }

  removeTimewait(tw: TimewaitSock): boolean {
    return remove(this.timewaits, hashOfKey(tw.key), tw)
  }

  /** Models the check of `__inet_check_established`: is this pair of ends taken? */
  isTaken(key: FlowKey): boolean {
    return this.lookupEstablished(key) !== null || this.lookupTimewait(key) !== null
  }
}

function add<T>(map: Map<number, T[]>, hash: number, item: T): void {
  const list = map.get(hash)
  if (list === undefined) map.set(hash, [item])
  else list.push(item)
}

function remove<T>(map: Map<number, T[]>, hash: number, item: T): boolean {
  const list = map.get(hash)
  if (list === undefined) return false
  const at = list.indexOf(item)
  if (at < 0) return false
  list.splice(at, 1)
  if (list.length === 0) map.delete(hash)
  return true
}

const HASHED_EST = 1
const HASHED_LISTEN = 2

/** Models `inet_hash` and `inet_ehash_nolisten`. */
export function inetHash(sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.hashed !== 0) return
  if (sk.state === TCP_LISTEN) {
    tp.hashed = HASHED_LISTEN
    tp.env.hashinfo.addListener(sk)
  } else {
    tp.hashed = HASHED_EST
    tp.env.hashinfo.hashSock(sk)
  }
  sk.net.protoInuse[sk.proto.inuseIndex]! += 1
}

/** Models `inet_unhash`. */
export function inetUnhash(sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.hashed === 0) return
  if (tp.hashed === HASHED_LISTEN) tp.env.hashinfo.removeListener(sk)
  else tp.env.hashinfo.unhashSock(sk)
  tp.hashed = 0
  sk.net.protoInuse[sk.proto.inuseIndex]! -= 1
}
