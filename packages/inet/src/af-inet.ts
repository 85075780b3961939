/**
 * What all sockets over IP share: making one, binding it, naming it.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  CAP_NET_BIND_SERVICE,
  CAP_NET_RAW,
  capable,
  IPPROTO_IP,
  type NetNs,
  SHUTDOWN_MASK,
  SOCK_BINDADDR_LOCK,
  SOCK_BINDPORT_LOCK,
  type Sock,
  type SockAddr,
  skAlloc,
  sockInitData,
  sockPut,
  type Task,
  TCP_CLOSE,
} from '@netmem/sockmem'
import type { InetEnv, InetProtosw } from './inet-env.js'
import { inetOf } from './inet-sock.js'
import { ipv6AddrAny, ipv6AddrIsMulticast } from './ip6/ipv6-header.js'
import { inet6AddrIsLocal, inetAddrIsLocal, inetAddrIsMulticastOrBroadcast } from './route.js'

/** Models `inet_create` and `inet6_create` (net/ipv4/af_inet.c). @returns the socket's id or a negative errno. */
export function inetCreate(
  env: InetEnv,
  cpu: Cpu,
  task: Task,
  net: NetNs,
  family: number,
  type: number,
  protocol: number,
  kern: boolean,
): number {
  if (protocol < 0 || protocol >= 263) return -ERRNO.EINVAL
  const sw = findProtosw(env, family, type, protocol)
  if (typeof sw === 'number') return sw
  if (sw.raw === true && !kern && !capable(task, CAP_NET_RAW)) return -ERRNO.EPERM
  env.netOf(net)
  const sk = skAlloc(env.socks, cpu, task, net, family, env.mem.gfp.GFP_KERNEL, sw.proto, sw.ops, kern)
  if (sk === null) return -ERRNO.ENOBUFS
  sockInitData(sk)
  sk.type = type
  sk.protocol = protocol !== IPPROTO_IP ? protocol : sw.protocol
  // Until this was TCP's alone each connect and listen took the namespace's default.
  if (env.profile.features.soTxrehashTcpOnly) sk.txrehash = net.txrehash[0]
  const err = sw.init(cpu, sk)
  if (err !== 0) {
    sockPut(cpu, sk)
    return err
  }
  return sk.id
}

/** Models the search of `inetsw`: the protocol must fit, or either side be "any". */
function findProtosw(env: InetEnv, family: number, type: number, protocol: number): InetProtosw | number {
  let err = -ERRNO.ESOCKTNOSUPPORT
  for (const sw of env.protosw) {
    if (sw.family !== family || sw.type !== type) continue
    err = -ERRNO.EPROTONOSUPPORT
    if (protocol === sw.protocol ? protocol !== IPPROTO_IP : protocol === IPPROTO_IP || sw.protocol === IPPROTO_IP)
      return sw
  }
  return err
}

/**
 * Models `__inet_bind` and `__inet6_bind` (net/ipv4/af_inet.c).
 *
 * @param getPort the protocol's `get_port`; asked only when a port is wanted.
 */
export function inetBind(
  env: InetEnv,
  task: Task,
  sk: Sock,
  addr: SockAddr,
  getPort: (port: number) => number,
): number {
  if (sk.family === AF_INET6) return inet6Bind(env, task, sk, addr, getPort)
  if (addr.family !== AF_INET && !(addr.family === AF_UNSPEC && addr.addr === 0)) return -ERRNO.EAFNOSUPPORT
  const inet = inetOf(sk)
  const multi = inetAddrIsMulticastOrBroadcast(env, sk.net, addr.addr)
  if (addr.addr !== 0 && !multi && !inet.freebind && !inet.transparent && !inetAddrIsLocal(env, sk.net, addr.addr))
    return -ERRNO.EADDRNOTAVAIL
  if (portIsPrivileged(env, task, sk, addr.port)) return -ERRNO.EACCES
  if (sk.state !== TCP_CLOSE || sk.num !== 0) return -ERRNO.EINVAL
  sk.rcvSaddr = addr.addr
  sk.saddr = multi ? 0 : addr.addr
  const err = takePort(addr.port, inet.bindAddressNoPort, getPort)
  if (err !== 0) {
    sk.rcvSaddr = 0
    sk.saddr = 0
    return err
  }
  lockBinding(sk, addr.addr !== 0, addr.port)
  return 0
}

function inet6Bind(env: InetEnv, task: Task, sk: Sock, addr: SockAddr, getPort: (port: number) => number): number {
  if (addr.family !== AF_INET6) return -ERRNO.EAFNOSUPPORT
  const inet = inetOf(sk)
  const v6 = sk.v6 as NonNullable<Sock['v6']>
  const mapped = isMapped(addr.addr6)
  if (portIsPrivileged(env, task, sk, addr.port)) return -ERRNO.EACCES
  if (sk.state !== TCP_CLOSE || sk.num !== 0) return -ERRNO.EINVAL
  if (mapped) {
    if (inet.v6only) return -ERRNO.EINVAL
    if (addr.addr6[3] !== 0 && !inetAddrIsLocal(env, sk.net, addr.addr6[3])) return -ERRNO.EADDRNOTAVAIL
    sk.rcvSaddr = addr.addr6[3]
    sk.saddr = addr.addr6[3]
  } else if (!ipv6AddrAny(addr.addr6) && !ipv6AddrIsMulticast(addr.addr6)) {
    if (!inet.freebind && !inet6AddrIsLocal(env, sk.net, addr.addr6)) return -ERRNO.EADDRNOTAVAIL
  }
  v6.rcvSaddr.set(addr.addr6)
  if (!ipv6AddrIsMulticast(addr.addr6)) v6.saddr.set(addr.addr6)
  const err = takePort(addr.port, inet.bindAddressNoPort, getPort)
  if (err !== 0) {
    v6.rcvSaddr.fill(0)
    v6.saddr.fill(0)
    sk.rcvSaddr = 0
    sk.saddr = 0
    return err
  }
  lockBinding(sk, !ipv6AddrAny(addr.addr6), addr.port)
  return 0
}

function takePort(port: number, later: boolean, getPort: (port: number) => number): number {
  if (port === 0 && later) return 0
  return getPort(port) === 0 ? 0 : -ERRNO.EADDRINUSE
}

function lockBinding(sk: Sock, address: boolean, port: number): void {
  if (address) sk.userlocks |= SOCK_BINDADDR_LOCK
  if (port !== 0) sk.userlocks |= SOCK_BINDPORT_LOCK
}

/** Models `inet_port_requires_bind_service`. */
const portIsPrivileged = (env: InetEnv, task: Task, sk: Sock, port: number): boolean =>
  port !== 0 && port < env.netOf(sk.net).unprivilegedPort[0] && !capable(task, CAP_NET_BIND_SERVICE)

/** Models `ipv6_addr_v4mapped`. */
export const isMapped = (a: Int32Array): boolean => a[0] === 0 && a[1] === 0 && a[2] === 0xffff

/** Models `inet_getname` and `inet6_getname`. */
export function inetGetname(sk: Sock, peer: boolean, out: SockAddr): number {
  if (peer && (sk.dport === 0 || sk.state === TCP_CLOSE)) return -ERRNO.ENOTCONN
  out.clear()
  out.family = sk.family
  out.port = peer ? sk.dport : sk.num
  if (sk.v6 !== null) out.addr6.set(peer ? sk.v6.daddr : sk.v6.rcvSaddr)
  else out.addr = peer ? sk.daddr : sk.rcvSaddr !== 0 ? sk.rcvSaddr : sk.saddr
  return 0
}

/** Models `inet_shutdown` for datagrams: @param how as the user gives it. @returns the bits, or a negative errno. */
export function shutdownBits(how: number): number {
  const bits = how + 1
  return (bits & ~SHUTDOWN_MASK) !== 0 || bits === 0 ? -ERRNO.EINVAL : bits
}
