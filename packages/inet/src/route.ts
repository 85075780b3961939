/**
 * Routing, as much as packets between hosts on the same machine and its links need: local addresses, connected
 * networks, a gateway. The longest prefix wins.
 *
 * Differs: neighbours are permanent entries; nobody sends ARP or neighbour discovery.
 */
import { AF_INET, AF_INET6, type NetNs } from '@netmem/sockmem'
import { IFF_LOOPBACK, type NetDevice } from '@netmem/virtual-nic'
import type { Dst } from './dst.js'
import type { InetEnv } from './inet-env.js'
import type { Fib6Route, FibRoute, InetNet } from './inet-net.js'
import { INADDR_LOOPBACK, ipv4IsMulticast } from './ip/ip-header.js'
import { ipv6AddrEqual } from './ip6/ipv6-header.js'

// Hot path: once per packet of an unconnected socket, and per packet from a wire.

/**
 * Models `fib_lookup` and what `ip_route_output_flow` and `ip_route_input` make of it.
 *
 * @param oif device number that the packet must leave by, 0 any.
 * @returns null when there is no route.
 */
export function fibLookup(net: InetNet, daddr: number, oif: number): FibRoute | null {
  const { routes } = net
  for (let i = 0; i < routes.length; i += 1) {
    const route = routes[i]
    if (((daddr ^ route.prefix) & route.mask) === 0 && (oif === 0 || route.dst.dev.id === oif || route.dst.local))
      return route
  }
  return null
}

/** Models the IPv6 table's lookup. */
export function fib6Lookup(net: InetNet, daddr: Int32Array, oif: number): Fib6Route | null {
  const { routes6 } = net
  for (let i = 0; i < routes6.length; i += 1) {
    const route = routes6[i]
    if (prefixEqual(route.prefix, daddr, route.length) && (oif === 0 || route.dst.dev.id === oif || route.dst.local))
      return route
  }
  return null
}

function prefixEqual(prefix: Int32Array, addr: Int32Array, bits: number): boolean {
  let left = bits
  for (let i = 0; i < 4 && left > 0; i += 1, left -= 32) {
    const mask = left >= 32 ? -1 : ~0 << (32 - left)
    if (((prefix[i] ^ addr[i]) & mask) !== 0) return false
  }
  return true
}

// Cold path: configuration.

const maskOf = (length: number): number => (length === 0 ? 0 : (-1 << (32 - length)) | 0)

function insert<T extends { readonly length: number }>(list: T[], route: T): void {
  let at = 0
  while (at < list.length && list[at].length >= route.length) at += 1
  list.splice(at, 0, route)
}

/** @returns the loopback device of a namespace: where local addresses deliver. */
export function loopbackOf(env: InetEnv, ns: number): NetDevice | null {
  for (const dev of env.devs.devices) if (dev !== null && dev.ns === ns && (dev.flags & IFF_LOOPBACK) !== 0) return dev
  return null
}

/**
 * Models `ip addr add`: the address is delivered here, its network is reached through the device. The loopback's
 * own network is local as a whole.
 */
export function inetAddrAdd(env: InetEnv, dev: NetDevice, addr: number, length: number): void {
  const net = env.netOfDev(dev)
  const lo = loopbackOf(env, dev.ns) ?? dev
  const mask = maskOf(length)
  const loopback = (dev.flags & IFF_LOOPBACK) !== 0
  const local = env.dstCreate(AF_INET, lo, true, false, 0, null)
  insert(net.routes, { prefix: addr, mask: -1, length: 32, dst: local, source: addr })
  if (length === 32) return
  if (loopback) {
    insert(net.routes, { prefix: addr & mask, mask, length, dst: local, source: addr })
    return
  }
  const link = env.dstCreate(AF_INET, dev, false, false, 0, null)
  insert(net.routes, { prefix: addr & mask, mask, length, dst: link, source: addr })
  const broadcast = env.dstCreate(AF_INET, dev, true, true, 0, null)
  insert(net.routes, { prefix: addr | ~mask, mask: -1, length: 32, dst: broadcast, source: addr })
}

/** Models `ip route add ... via gateway dev dev`. */
export function inetRouteAdd(
  env: InetEnv,
  dev: NetDevice,
  prefix: number,
  length: number,
  gateway: number,
  source: number,
): void {
  const dst = env.dstCreate(AF_INET, dev, false, false, gateway, null)
  const mask = maskOf(length)
  insert(env.netOfDev(dev).routes, { prefix: prefix & mask, mask, length, dst, source })
}

/** Models `ip -6 addr add`. */
export function inet6AddrAdd(env: InetEnv, dev: NetDevice, addr: Int32Array, length: number): void {
  const net = env.netOfDev(dev)
  const lo = loopbackOf(env, dev.ns) ?? dev
  const local = env.dstCreate(AF_INET6, lo, true, false, 0, null)
  insert(net.routes6, { prefix: addr.slice(), length: 128, dst: local, source: addr.slice() })
  if (length === 128 || (dev.flags & IFF_LOOPBACK) !== 0) return
  const link = env.dstCreate(AF_INET6, dev, false, false, 0, null)
  insert(net.routes6, { prefix: addr.slice(), length, dst: link, source: addr.slice() })
}

/** Models the `NETDEV_UP` part of `inetdev_event` and `addrconf_notify`: a loopback gets its addresses. */
export function inetDevUp(env: InetEnv, dev: NetDevice): void {
  if ((dev.flags & IFF_LOOPBACK) === 0) return
  const net = env.netOfDev(dev)
  if (net.routes.some((route) => route.prefix === INADDR_LOOPBACK)) return
  inetAddrAdd(env, dev, INADDR_LOOPBACK, 8)
  inet6AddrAdd(env, dev, Int32Array.of(0, 0, 0, 1), 128)
}

/** Models `ip neigh add ... nud permanent`. */
export function neighAdd(
  env: InetEnv,
  dev: NetDevice,
  addr: number,
  addr6: Int32Array | null,
  macHi: number,
  macLo: number,
): void {
  env.netOfDev(dev).neighbours.push({ dev, addr, addr6, macHi, macLo })
}

/** Models removing a device: its routes, addresses and neighbours go. */
export function inetDevDown(env: InetEnv, dev: NetDevice): void {
  const net = env.netOfDev(dev)
  const gone = (dst: Dst): boolean => dst.dev === dev
  for (let i = net.routes.length - 1; i >= 0; i -= 1) if (gone(net.routes[i].dst)) net.routes.splice(i, 1)
  for (let i = net.routes6.length - 1; i >= 0; i -= 1) if (gone(net.routes6[i].dst)) net.routes6.splice(i, 1)
  for (let i = net.neighbours.length - 1; i >= 0; i -= 1) if (net.neighbours[i].dev === dev) net.neighbours.splice(i, 1)
}

/** Models `inet_addr_type` for what callers ask: whether an address is one of ours. */
export function inetAddrIsLocal(env: InetEnv, net: NetNs, addr: number): boolean {
  const route = fibLookup(env.netOf(net), addr, 0)
  return route?.dst.local === true && !route.dst.broadcast
}

/** Models the bind test for multicast and broadcast: addresses that a socket may be bound to without owning them. */
export function inetAddrIsMulticastOrBroadcast(env: InetEnv, net: NetNs, addr: number): boolean {
  if (addr === -1 || ipv4IsMulticast(addr)) return true
  const route = fibLookup(env.netOf(net), addr, 0)
  return route?.dst.broadcast === true
}

/** Models `ipv6_chk_addr`. */
export function inet6AddrIsLocal(env: InetEnv, net: NetNs, addr: Int32Array): boolean {
  return env.netOf(net).routes6.some((r) => r.dst.local && r.length === 128 && ipv6AddrEqual(r.prefix, addr))
}
