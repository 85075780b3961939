/**
 * Ports: one bucket per port in use, and one per port and address, both real slab objects. Sockets, children
 * and time-wait socks hold them together; the last one out frees them.
 */
import { type Addr, type Cpu, ERRNO, NULL } from '@netmem/base'
import { type KmemCache, kmemCacheAlloc, kmemCacheFree, type Memory } from '@netmem/memory'
import { AF_INET6, SOCKF_REUSEADDR, SOCKF_REUSEPORT, type Sock, type SockEnv, TCP_LISTEN } from '@netmem/sockmem'
import { ipv6AddrAny, ipv6AddrEqual } from '../ip6/ipv6-header.js'
import { tcpSk } from './tcp-sock.js'

/** Models `struct inet_bind_bucket` and `inet_bind2_bucket`. */
export class InetBindBucket {
  /** Sockets and time-wait socks that hold it. */
  owners = 0
  readonly socks: Sock[] = []

  constructor(
    readonly addr: Addr,
    readonly netId: number,
    readonly port: number,
    readonly family: number,
    readonly rcvSaddr: number,
    readonly rcvSaddr6: Int32Array | null,
  ) {}
}

/** Models the `bhash` and `bhash2` tables. */
export class InetBindTable {
  private readonly buckets = new Map<number, InetBindBucket>()
  private readonly buckets2 = new Map<number, InetBindBucket[]>()

  constructor(
    readonly mem: Memory,
    readonly cache: KmemCache,
    readonly cache2: KmemCache,
  ) {}

  private key(netId: number, port: number): number {
    return netId * 65536 + port
  }

  find(netId: number, port: number): InetBindBucket | null {
    return this.buckets.get(this.key(netId, port)) ?? null
  }

  /** Models `inet_bind_bucket_create`. @param site the function it is inlined into. */
  create(cpu: Cpu, sk: Sock, port: number, site: string): InetBindBucket | null {
    const addr = kmemCacheAlloc(this.cache, cpu, this.mem.gfp.GFP_ATOMIC, site)
    if (addr === NULL) return null
    const tb = new InetBindBucket(addr, sk.net.id, port, sk.family, 0, null)
    this.buckets.set(this.key(sk.net.id, port), tb)
    return tb
  }

  /** Models `inet_bind2_bucket_find`: of the socket's own address. */
  find2(sk: Sock, port: number): InetBindBucket | null {
    for (const tb of this.buckets2.get(this.key(sk.net.id, port)) ?? []) if (sameAddr(tb, sk)) return tb
    return null
  }

  /** Models `inet_bind2_bucket_create`. @param caller the function it may be inlined into. */
  create2(cpu: Cpu, sk: Sock, port: number, caller: string): InetBindBucket | null {
    const site = sk.env.profile.features.bind2CreateInlined ? caller : 'inet_bind2_bucket_create'
    const addr = kmemCacheAlloc(this.cache2, cpu, this.mem.gfp.GFP_ATOMIC, site)
    if (addr === NULL) return null
    const tb = new InetBindBucket(
      addr,
      sk.net.id,
      port,
      sk.family,
      sk.rcvSaddr,
      sk.v6 === null ? null : sk.v6.rcvSaddr.slice(),
    )
    const key = this.key(sk.net.id, port)
    const list = this.buckets2.get(key)
    if (list === undefined) this.buckets2.set(key, [tb])
    else list.push(tb)
    return tb
  }

  /**
   * Models `inet_bind_bucket_destroy`: since 6.10 freed after a grace period, so that nobody sees it go.
   *
   * @param site the function that it is inlined into.
   */
  put(cpu: Cpu, socks: SockEnv, tb: InetBindBucket, site: string): void {
    if (--tb.owners !== 0) return
    this.buckets.delete(this.key(tb.netId, tb.port))
    if (!socks.profile.features.bindBucketFreesByRcu) {
      kmemCacheFree(this.cache, cpu, tb.addr, site)
      return
    }
    socks.rcu.running += 1
    kmemCacheFree(this.cache, cpu, tb.addr, 'inet_bind_bucket_destroy')
    socks.rcu.running -= 1
  }

  /** Models `inet_bind2_bucket_destroy`. */
  put2(cpu: Cpu, tb: InetBindBucket, site: string): void {
    if (--tb.owners !== 0) return
    const key = this.key(tb.netId, tb.port)
    const list = this.buckets2.get(key)!
    list.splice(list.indexOf(tb), 1)
    if (list.length === 0) this.buckets2.delete(key)
    kmemCacheFree(this.cache2, cpu, tb.addr, site)
  }

  /** Lets go of both. @param site the function that they are inlined into. */
  putBoth(cpu: Cpu, socks: SockEnv, tb: InetBindBucket, tb2: InetBindBucket, site: string): void {
    this.put(cpu, socks, tb, site)
    this.put2(cpu, tb2, site)
  }

  /** Who holds ports, summed over all, for audits. */
  get owners(): number {
    let sum = 0
    for (const tb of this.buckets.values()) sum += tb.owners
    return sum
  }

  /** Buckets alive, for audits: by port, and by port and address. */
  get counts(): readonly [number, number] {
    let second = 0
    for (const list of this.buckets2.values()) second += list.length
    return [this.buckets.size, second]
  }
}

function sameAddr(tb: InetBindBucket, sk: Sock): boolean {
  if (tb.family !== sk.family) return false
  if (sk.family === AF_INET6) return ipv6AddrEqual(tb.rcvSaddr6!, sk.v6!.rcvSaddr)
  return tb.rcvSaddr === sk.rcvSaddr
}

const anyAddr = (sk: Sock): boolean => (sk.family === AF_INET6 ? ipv6AddrAny(sk.v6!.rcvSaddr) : sk.rcvSaddr === 0)

/** Models `inet_bind_conflict`: may `sk` share the port with `other`? */
function bindConflict(sk: Sock, other: Sock): boolean {
  if (sk === other || (sk.boundDevIf !== 0 && other.boundDevIf !== 0 && sk.boundDevIf !== other.boundDevIf))
    return false
  const reuse = (sk.flags & other.flags & SOCKF_REUSEADDR) !== 0 && other.state !== TCP_LISTEN
  const reuseport = (sk.flags & other.flags & SOCKF_REUSEPORT) !== 0
  if (reuse || reuseport) return false
  if (anyAddr(sk) || anyAddr(other)) return true
  if (sk.family !== other.family) return false
  return sk.family === AF_INET6 ? ipv6AddrEqual(sk.v6!.rcvSaddr, other.v6!.rcvSaddr) : sk.rcvSaddr === other.rcvSaddr
}

/** Models `inet_bind_hash`: the socket holds both buckets from now on. */
export function inetBindHash(sk: Sock, tb: InetBindBucket, tb2: InetBindBucket, port: number): void {
  const tp = tcpSk(sk)
  sk.num = port
  tp.bindBucket = tb
  tp.bind2Bucket = tb2
  tb.owners += 1
  tb2.owners += 1
  tb.socks.push(sk)
}

/** Takes both buckets of a port for a socket. @returns 0 or -ENOMEM, with nothing taken. */
export function inetBindTake(cpu: Cpu, sk: Sock, port: number, site: string): number {
  const table = tcpSk(sk).env.bindTable
  const known = table.find(sk.net.id, port)
  const tb = known ?? table.create(cpu, sk, port, site)
  if (tb === null) return -ERRNO.ENOMEM
  const tb2 = table.find2(sk, port) ?? table.create2(cpu, sk, port, site)
  if (tb2 === null) {
    if (known === null) {
      tb.owners = 1
      table.put(cpu, sk.env, tb, site)
    }
    return -ERRNO.ENOMEM
  }
  inetBindHash(sk, tb, tb2, port)
  return 0
}

/** Models `inet_csk_get_port` (net/ipv4/inet_connection_sock.c). @param port 0 for any. @returns 0, -EADDRINUSE or -ENOMEM. */
export function inetCskGetPort(cpu: Cpu, sk: Sock, wanted: number): number {
  const { env, ctl } = tcpSk(sk)
  let port = wanted
  if (port === 0) {
    const low = ctl.ipLocalPortRange[0]!
    const count = ctl.ipLocalPortRange[1]! + 1 - low
    // The kernel prefers odd ports for bind, so that connect finds even ones free.
    const start = env.prng.below(count) | 1
    for (let i = 0; i < count && port === 0; i += 1) {
      const candidate = low + ((start + 2 * i + (2 * i >= count ? 1 : 0)) % count)
      if (env.bindTable.find(sk.net.id, candidate) === null) port = candidate
    }
    if (port === 0) return -ERRNO.EADDRINUSE
  } else {
    const tb = env.bindTable.find(sk.net.id, port)
    if (tb !== null) for (const other of tb.socks) if (bindConflict(sk, other)) return -ERRNO.EADDRINUSE
  }
  if (tcpSk(sk).bindBucket !== null) return 0
  return inetBindTake(cpu, sk, port, 'inet_csk_get_port')
}

/** Models `__inet_inherit_port` (net/ipv4/inet_hashtables.c): a child shares its listener's port. @returns 0 or -ENOMEM. */
export function inetInheritPort(cpu: Cpu, sk: Sock, child: Sock): number {
  const table = tcpSk(sk).env.bindTable
  const tb = tcpSk(sk).bindBucket
  let tb2 = tcpSk(sk).bind2Bucket
  if (tb === null || tb2 === null) return -ERRNO.ENOENT
  if (!sameAddr(tb2, child)) {
    tb2 = table.find2(child, tb.port) ?? table.create2(cpu, child, tb.port, '__inet_inherit_port')
    if (tb2 === null) return -ERRNO.ENOMEM
  }
  inetBindHash(child, tb, tb2, tb.port)
  return 0
}

/** Models `inet_put_port`. */
export function inetPutPort(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const tb = tp.bindBucket
  const tb2 = tp.bind2Bucket
  if (tb === null || tb2 === null) return
  tp.bindBucket = null
  tp.bind2Bucket = null
  sk.num = 0
  const at = tb.socks.indexOf(sk)
  if (at >= 0) tb.socks.splice(at, 1)
  tp.env.bindTable.putBoth(cpu, sk.env, tb, tb2, 'inet_put_port')
}
