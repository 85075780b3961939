/**
 * What TCP asks of IP: the route's MTU and features, the pseudo header's checksum, and to send a packet. One
 * class for both versions; a socket's family tells which.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { CHECKSUM_PARTIAL, gsoSegs, kfreeSkb, type SkBuff, skbPush, skbResetNetworkHeader } from '@netmem/skbuff'
import { AF_INET6, IPPROTO_TCP, type NetNs, type Sock } from '@netmem/sockmem'
import {
  localBhDisable,
  localBhEnable,
  NETIF_F_CSUM_MASK,
  NETIF_F_HW_CSUM,
  NETIF_F_SG,
  SKB_GSO_TCPV4,
  SKB_GSO_TCPV6,
} from '@netmem/virtual-nic'
import { type Dst, dstMtu } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import { csumTcpudpNofold, IP_DF, IP_HLEN, IP_MAX_MTU } from '../ip/ip-header.js'
import { ipLocalOut } from '../ip/ip-output.js'
import { ip6LocalOut } from '../ip6/ip6-output.js'
import { csumIpv6Nofold, IPV6_HLEN, IPV6_MAXPLEN, writeIpv6Addr } from '../ip6/ipv6-header.js'
import { fib6Lookup, fibLookup } from '../route.js'
import { setBe16, setBe32, TCP_HEADER_BYTES } from './tcp-skb.js'
import { tcpSk } from './tcp-sock.js'

/** Models `ip_rt_min_advmss`. */
const IP_RT_MIN_ADVMSS = 256
const DEFAULT_HOP_LIMIT = 64
/** Models `IP6_MAX_MTU`. */
const IP6_MAX_MTU = 0xffff + 40

/** Folds a sum of 16-bit words in memory order. */
export function csumFold(sum: number): number {
  let s = (sum & 0xffff) + (sum >>> 16)
  s = (s & 0xffff) + (s >>> 16)
  return s & 0xffff
}

export class TcpIp {
  constructor(readonly inet: InetEnv) {}

  /** Models `dst_mtu(__sk_dst_get(sk))`; 0 without a route. Bytes. */
  dstMtu(sk: Sock): number {
    const { dst } = tcpSk(sk).inet
    return dst === null ? 0 : this.mtuOf(dst)
  }

  mtuOf(dst: Dst): number {
    return dstMtu(dst, dst.family === AF_INET6 ? IP6_MAX_MTU : IP_MAX_MTU)
  }

  /** Models `dst_metric_advmss`: the segment size that a route lets us announce. */
  advmssOf(dst: Dst): number {
    if (dst.family === AF_INET6) {
      const mss = Math.max(dst.dev.mtu - IPV6_HLEN - TCP_HEADER_BYTES, 0)
      return mss > IPV6_MAXPLEN - TCP_HEADER_BYTES ? IPV6_MAXPLEN : mss
    }
    const header = IP_HLEN + TCP_HEADER_BYTES
    return Math.min(Math.max(this.mtuOf(dst) - header, IP_RT_MIN_ADVMSS), 65535 - header)
  }

  /** Models `tcp_advertise_mss`. */
  advertiseMss(sk: Sock): number {
    const tp = tcpSk(sk)
    const { dst } = tp.inet
    if (dst !== null) tp.advmss = Math.min(tp.advmss, this.advmssOf(dst))
    return tp.advmss
  }

  /** Models `sk_setup_caps` (net/core/sock.c): how large a packet the route's device takes. */
  setupCaps(sk: Sock, dst: Dst): void {
    const tp = tcpSk(sk)
    const { dev } = dst
    tp.inet.dst = dst
    // TCP may always gather: what a device cannot is done in software before it.
    tp.routeCaps = dev.features | NETIF_F_SG | NETIF_F_HW_CSUM
    // Software segmentation makes every device with scatter and gather able to take large packets.
    const sg = (dev.features & NETIF_F_SG) !== 0 && (dev.features & NETIF_F_CSUM_MASK) !== 0
    tp.gsoType = sk.family === AF_INET6 ? SKB_GSO_TCPV6 : SKB_GSO_TCPV4
    tp.gsoMaxSize = (sg ? dev.gsoMaxSize : 65536) - (tp.env.maxTcpHeader + 1)
    tp.gsoMaxSegs = Math.max(dev.gsoMaxSegs, 1)
  }

  /** Models `ip_route_connect` and its IPv6 twin: the route to `daddr`, and our address on it. @returns 0 or -ENETUNREACH. */
  routeConnect(sk: Sock): number {
    const net = this.inet.netOf(sk.net)
    if (sk.family === AF_INET6) {
      const v6 = sk.v6!
      const route = fib6Lookup(net, v6.daddr, sk.boundDevIf)
      if (route === null) return -ERRNO.ENETUNREACH
      if ((v6.saddr[0]! | v6.saddr[1]! | v6.saddr[2]! | v6.saddr[3]!) === 0) v6.saddr.set(route.source)
      if ((v6.rcvSaddr[0]! | v6.rcvSaddr[1]! | v6.rcvSaddr[2]! | v6.rcvSaddr[3]!) === 0) v6.rcvSaddr.set(v6.saddr)
      this.setupCaps(sk, route.dst)
      return 0
    }
    const route = fibLookup(net, sk.daddr, sk.boundDevIf)
    if (route === null) return -ERRNO.ENETUNREACH
    if (route.dst.broadcast) return -ERRNO.ENETUNREACH
    if (sk.saddr === 0) sk.saddr = route.source
    if (sk.rcvSaddr === 0) sk.rcvSaddr = sk.saddr
    this.setupCaps(sk, route.dst)
    return 0
  }

  /** @returns the route back to a peer, or null. */
  routeTo(netNs: NetNs, family: number, daddr: number, daddr6: Int32Array, oif: number): Dst | null {
    const net = this.inet.netOf(netNs)
    return (family === AF_INET6 ? fib6Lookup(net, daddr6, oif)?.dst : fibLookup(net, daddr, oif)?.dst) ?? null
  }

  /** Models `tcp_v4_send_check` and `tcp_v6_send_check`: the pseudo header's part; the device or the stack adds the rest. */
  sendCheck(sk: Sock, skb: SkBuff): void {
    if (sk.family === AF_INET6) this.partialCheck6(skb, sk.v6!.saddr, sk.v6!.daddr)
    else this.partialCheck4(skb, sk.saddr, sk.daddr)
  }

  partialCheck4(skb: SkBuff, saddr: number, daddr: number): void {
    this.setPartial(skb, csumFold(csumTcpudpNofold(saddr, daddr, skb.len, IPPROTO_TCP)))
  }

  partialCheck6(skb: SkBuff, saddr: Int32Array, daddr: Int32Array): void {
    this.setPartial(skb, csumFold(csumIpv6Nofold(saddr, daddr, skb.len, IPPROTO_TCP)))
  }

  // The sum is in memory order, as the words of the packet are.
  private setPartial(skb: SkBuff, sum: number): void {
    skb.ipSummed = CHECKSUM_PARTIAL
    skb.csumStart = (skb.data - skb.head) | 0
    skb.csumOffset = 16
    skb.env.mem.u16[((skb.data >>> 0) + 16) >>> 1] = sum
  }

  /** Models `ip_queue_xmit` and `inet6_csk_xmit`. Takes the skb, `data` at the TCP header. @returns 0, NET_XMIT_* or -errno. */
  queueXmit(cpu: Cpu, sk: Sock, skb: SkBuff): number {
    const { inet } = tcpSk(sk)
    if (inet.dst === null) {
      const err = this.routeConnect(sk)
      if (err !== 0) {
        kfreeSkb(cpu, skb, 'IP_OUTNOROUTES', '__ip_queue_xmit')
        return -ERRNO.EHOSTUNREACH
      }
    }
    const dst = inet.dst as Dst
    skb.priority = sk.priority
    if (sk.mark !== 0) skb.mark = sk.mark
    if (sk.family === AF_INET6) return this.xmit6(cpu, sk.net, skb, dst, sk.v6!.saddr, sk.v6!.daddr)
    inet.id = (inet.id + Math.max(1, gsoSegs(skb))) & 0xffff
    return this.xmit4(cpu, sk.net, skb, dst, sk.saddr, sk.daddr, inet.ttl(this.inet, sk, dst), inet.tos, inet.id)
  }

  /** Pushes an IPv4 header and sends. */
  xmit4(
    cpu: Cpu,
    net: NetNs,
    skb: SkBuff,
    dst: Dst,
    saddr: number,
    daddr: number,
    ttl: number,
    tos: number,
    id: number,
  ): number {
    const iph = skbPush(skb, IP_HLEN) >>> 0
    skbResetNetworkHeader(skb)
    const { u8 } = skb.env
    u8[iph] = 0x45
    u8[iph + 1] = tos
    setBe16(u8, iph + 4, id)
    setBe16(u8, iph + 6, IP_DF)
    u8[iph + 8] = ttl
    u8[iph + 9] = IPPROTO_TCP
    setBe32(u8, iph + 12, saddr)
    setBe32(u8, iph + 16, daddr)
    skb.refdst = dst.id
    return ipLocalOut(this.inet, cpu, net, skb)
  }

  /** Pushes an IPv6 header and sends. */
  xmit6(cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst, saddr: Int32Array, daddr: Int32Array): number {
    const payload = skb.len
    const iph = skbPush(skb, IPV6_HLEN) >>> 0
    skbResetNetworkHeader(skb)
    const { u8, mem } = skb.env
    setBe32(u8, iph, 0x60000000)
    setBe16(u8, iph + 4, payload > IPV6_MAXPLEN ? 0 : payload)
    u8[iph + 6] = IPPROTO_TCP
    u8[iph + 7] = DEFAULT_HOP_LIMIT
    writeIpv6Addr(mem, iph + 8, saddr)
    writeIpv6Addr(mem, iph + 24, daddr)
    skb.refdst = dst.id
    return ip6LocalOut(this.inet, cpu, net, skb)
  }

  /** The work of a timer or tasklet begins: bottom halves are off, and a softirq is running. */
  softirqEnter(cpu: Cpu): void {
    localBhDisable(cpu)
    cpu.servingSoftirq += 1
  }

  softirqExit(cpu: Cpu): void {
    cpu.servingSoftirq -= 1
    localBhEnable(this.inet.devs, cpu)
  }
}
