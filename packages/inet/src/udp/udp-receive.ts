/**
 * Receiving over UDP and IPv4: from the IP layer to a socket's queue.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_COMPLETE,
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  CHECKSUM_UNNECESSARY,
  consumeSkb,
  csumAdd,
  csumFold,
  csumPartial,
  gsoSegs,
  gsoType,
  kfreeSkb,
  PACKET_HOST,
  pskbMayPull,
  pskbTrimRcsum,
  SKB_PFMEMALLOC,
  type SkBuff,
  type SkbDropReason,
  skbChecksum,
  skbChecksumComplete,
  skbCsumUnnecessary,
  skbIsGso,
  skbPullUnchecked,
} from '@netmem/skbuff'
import { mibIndex, type NetNs, type Sock, skFilterTrimCap, TCP_ESTABLISHED } from '@netmem/sockmem'
import {
  NETIF_F_IP_CSUM,
  NETIF_F_IPV6_CSUM,
  NETIF_F_SG,
  SKB_GSO_FRAGLIST,
  SKB_GSO_UDP_L4,
  skbGsoSegment,
} from '@netmem/virtual-nic'
import { icmpSendPortUnreach } from '../icmp-slots.js'
import type { InetEnv } from '../inet-env.js'
import { csumTcpudpNofold, ipv4IsMulticast } from '../ip/ip-header.js'
import type { Udp } from './udp-env.js'
import { udpEnqueueScheduleSkb } from './udp-queue.js'
import { udpSk } from './udp-sock.js'
import { udp4LibLookup } from './udp-table.js'

/** Counters of one IP version, by what they count. */
export interface UdpMib {
  readonly inErrors: number
  readonly noPorts: number
  readonly rcvbufErrors: number
  readonly memErrors: number
  readonly csumErrors: number
  readonly inDatagrams: number
}

const mibOf = (group: string): UdpMib => ({
  inErrors: mibIndex(`${group}.InErrors`),
  noPorts: mibIndex(`${group}.NoPorts`),
  rcvbufErrors: mibIndex(`${group}.RcvbufErrors`),
  memErrors: mibIndex(`${group}.MemErrors`),
  csumErrors: mibIndex(`${group}.InCsumErrors`),
  inDatagrams: mibIndex(`${group}.InDatagrams`),
})

const UDP_IGNORED_MULTI = mibIndex('Udp.IgnoredMulti')
export const UDP4_MIB = mibOf('Udp')
export const UDP6_MIB = mibOf('Udp6')
export const udpMibOf = (sk: Sock): UdpMib => (sk.v6 !== null ? UDP6_MIB : UDP4_MIB)

const UDP_HLEN = 8
/** Models `CHECKSUM_BREAK`: packets of at most so many bytes are summed up as they come in. */
const CHECKSUM_BREAK = 76

/** The segments stay in this machine: their checksums need not be made. */
const SEGMENT_FEATURES = NETIF_F_SG | NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM

/** Models `__udp4_lib_rcv` (net/ipv4/udp.c). Takes the skb, `data` at the UDP header. */
export function udpRcv(udp: Udp, cpu: Cpu, skb: SkBuff): number {
  const { env } = udp
  const { dv } = env.mem
  const { ns } = env.devs.devices[skb.dev] as { ns: number }
  if (skb.len - skb.dataLen < UDP_HLEN && !pskbMayPull(cpu, skb, UDP_HLEN))
    return udpDrop(cpu, env.nets[ns].net, UDP4_MIB, skb, 'NOT_SPECIFIED')
  const uh = skb.data >>> 0
  const ports = dv.getInt32(uh)
  const rest = dv.getInt32(uh + 4)
  const ulen = rest >>> 16
  if (ulen !== skb.len) {
    if (ulen > skb.len || ulen < UDP_HLEN || pskbTrimRcsum(cpu, skb, ulen) !== 0)
      return udpDrop(cpu, env.nets[ns].net, UDP4_MIB, skb, 'PKT_TOO_SMALL')
  }
  const iph = (skb.head + skb.networkHeader) >>> 0
  const saddr = dv.getInt32(iph + 12)
  const daddr = dv.getInt32(iph + 16)
  const summed = skb.ipSummed
  if (summed !== CHECKSUM_PARTIAL && summed !== CHECKSUM_UNNECESSARY) {
    if ((rest & 0xffff) === 0) skb.ipSummed = CHECKSUM_UNNECESSARY
    else if (!udpCsumInit(skb, csumTcpudpNofold(saddr, daddr, skb.len, 17))) {
      const { net } = env.nets[ns]
      net.mib[UDP4_MIB.csumErrors] += 1
      return udpDrop(cpu, net, UDP4_MIB, skb, 'UDP_CSUM')
    }
  }
  const sk = udp4LibLookup(env, udp.table, ns, saddr, ports >>> 16, daddr, ports & 0xffff, skb.skbIif)
  if (sk === null) return udpNobody(env, cpu, env.nets[ns].net, skb, daddr)
  // A single packet for a socket without a filter needs none of what comes in between.
  if (!skbIsGso(skb) && sk.filter === null && (skb.flags & SKB_PFMEMALLOC) === 0)
    udpQueueRcvPlain(udp, cpu, sk, skb, UDP4_MIB)
  else udpQueueRcvSkb(udp, cpu, sk, skb, UDP4_MIB)
  return 0
}

/** The end of `__udp4_lib_rcv` when no socket wants the packet: the sender is told, if the packet was whole. */
function udpNobody(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, daddr: number): number {
  if (udpLibChecksumComplete(skb)) {
    net.mib[UDP4_MIB.csumErrors] += 1
    return udpDrop(cpu, net, UDP4_MIB, skb, 'UDP_CSUM')
  }
  // Models `__udp4_lib_mcast_deliver` without a taker: nobody is told.
  if (env.dsts[skb.refdst]?.broadcast === true || ipv4IsMulticast(daddr)) {
    net.mib[UDP_IGNORED_MULTI] += 1
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', '__udp4_lib_mcast_deliver')
    return 0
  }
  net.mib[UDP4_MIB.noPorts] += 1
  if (skb.pktType === PACKET_HOST) icmpSendPortUnreach(env, cpu, skb)
  kfreeSkb(cpu, skb, 'NO_SOCKET', '__udp4_lib_rcv')
  return 0
}

export function udpDrop(cpu: Cpu, net: NetNs, mib: UdpMib, skb: SkBuff, reason: SkbDropReason): number {
  net.mib[mib.inErrors] += 1
  kfreeSkb(cpu, skb, reason, mib === UDP6_MIB ? '__udp6_lib_rcv' : '__udp4_lib_rcv')
  return 0
}

/**
 * Models `udp4_csum_init`: a device's sum settles it now; otherwise the reader will, in passing.
 *
 * @returns false when the packet is known to be bad.
 */
export function udpCsumInit(skb: SkBuff, pseudo: number): boolean {
  if (skb.ipSummed === CHECKSUM_COMPLETE) {
    if (csumFold(csumAdd(skb.csum, pseudo | 0)) === 0) {
      skb.ipSummed = CHECKSUM_UNNECESSARY
      return true
    }
    return csumFold(csumAdd(skbChecksum(skb, 0, skb.len, 0), pseudo | 0)) === 0
  }
  skb.csum = pseudo | 0
  skb.csumValid = false
  // A short packet costs little to sum up, so its fate is known at once.
  return skb.len > CHECKSUM_BREAK || skbChecksumComplete(skb) === 0
}

/** Models `udp_lib_checksum_complete`: computes it now, once. @returns true when it is wrong. */
export const udpLibChecksumComplete = (skb: SkBuff): boolean =>
  !skbCsumUnnecessary(skb) && skbChecksumComplete(skb) !== 0

/** Models `udp_queue_rcv_skb` (net/ipv4/udp.c): a GSO packet is cut up first, unless the socket wants it whole. */
export function udpQueueRcvSkb(udp: Udp, cpu: Cpu, sk: Sock, skb: SkBuff, mib: UdpMib): void {
  if (!skbIsGso(skb) || udpAcceptsGso(sk, skb)) {
    udpQueueRcvOneSkb(udp, cpu, sk, skb, mib)
    return
  }
  const segs = udpRcvSegment(udp, cpu, sk, skb, mib)
  let seg = segs
  while (seg !== null) {
    const next: SkBuff | null = seg.next === 0 ? null : seg.env.skbs[seg.next]
    seg.next = 0
    skbPullUnchecked(seg, (seg.head + seg.transportHeader - seg.data) | 0)
    // Segments come out with checksums still to be made; nobody outside will see them.
    seg.ipSummed = CHECKSUM_UNNECESSARY
    udpQueueRcvOneSkb(udp, cpu, sk, seg, mib)
    seg = next
  }
}

/** Models `!udp_unexpected_gso`: only trains of datagrams need a socket that said UDP_GRO; one in fragments does not. */
const udpAcceptsGso = (sk: Sock, skb: SkBuff): boolean =>
  (gsoType(skb) & (SKB_GSO_UDP_L4 | SKB_GSO_FRAGLIST)) === 0 || udpSk(sk).groEnabled !== 0

/** Models `udp_rcv_segment`. Takes the skb. @returns the segments, or null when that failed. */
function udpRcvSegment(udp: Udp, cpu: Cpu, sk: Sock, skb: SkBuff, mib: UdpMib): SkBuff | null {
  const { env } = udp
  const back = (skb.data - skb.head - skb.macHeader) | 0
  skb.data = (skb.data - back) as typeof skb.data
  skb.len += back
  const segs = skbGsoSegment(env.devs, cpu, skb, SEGMENT_FEATURES)
  if (segs === null || typeof segs === 'number') {
    const count = gsoSegs(skb)
    sk.drops += count
    sk.net.mib[mib.inErrors] += count
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'udp_queue_rcv_skb')
    return null
  }
  consumeSkb(cpu, skb, mib === UDP6_MIB ? 'udpv6_queue_rcv_skb' : 'udp_queue_rcv_skb')
  return segs
}

/** Models `udp_queue_rcv_one_skb`: checksum and filter first. Takes the skb. */
function udpQueueRcvOneSkb(udp: Udp, cpu: Cpu, sk: Sock, skb: SkBuff, mib: UdpMib): void {
  if (sk.filter !== null || skb.pfmemalloc) {
    const site = siteOf(mib)
    if (sk.filter !== null && udpLibChecksumComplete(skb)) {
      sk.net.mib[mib.csumErrors] += 1
      refuse(cpu, sk, skb, mib, 'UDP_CSUM', site)
      return
    }
    if (skFilterTrimCap(cpu, sk, skb, UDP_HLEN) !== 0) {
      refuse(cpu, sk, skb, mib, skb.pfmemalloc ? 'PFMEMALLOC' : 'SOCKET_FILTER', site)
      return
    }
  }
  udpQueueRcvPlain(udp, cpu, sk, skb, mib)
}

/** Models `__udp_queue_rcv_skb`, and the end of `udp_queue_rcv_one_skb` before it. Takes the skb. */
function udpQueueRcvPlain(udp: Udp, cpu: Cpu, sk: Sock, skb: SkBuff, mib: UdpMib): void {
  // From here on the header is no part of the packet, and the route has done its duty.
  if (skb.ipSummed === CHECKSUM_NONE && !skb.csumValid) skb.csum = csumPartial(skb.env, skb.data, UDP_HLEN, skb.csum)
  skb.data = (skb.data + UDP_HLEN) as typeof skb.data
  skb.len -= UDP_HLEN
  skb.refdst = 0
  if (sk.state === TCP_ESTABLISHED) sk.incomingCpu = cpu.id
  const rc = udpEnqueueScheduleSkb(cpu, sk, skb)
  if (rc !== 0) refuseQueue(udp, cpu, sk, skb, mib, rc)
}

// Cold path: no room.

function refuseQueue(udp: Udp, cpu: Cpu, sk: Sock, skb: SkBuff, mib: UdpMib, rc: number): void {
  const full = rc === -ERRNO.ENOMEM
  sk.net.mib[full ? mib.rcvbufErrors : mib.memErrors] += 1
  sk.net.mib[mib.inErrors] += 1
  if (udp.env.trace.udpFailQueueRcvSkb !== null) udp.env.trace.udpFailQueueRcvSkb(cpu, rc, sk.id)
  kfreeSkb(cpu, skb, full ? 'SOCKET_RCVBUFF' : 'PROTO_MEM', siteOf(mib), sk.id)
}

const siteOf = (mib: UdpMib): string => (mib === UDP6_MIB ? 'udpv6_queue_rcv_one_skb' : 'udp_queue_rcv_one_skb')

function refuse(cpu: Cpu, sk: Sock, skb: SkBuff, mib: UdpMib, reason: SkbDropReason, site: string): void {
  sk.net.mib[mib.inErrors] += 1
  sk.drops += 1
  kfreeSkb(cpu, skb, reason, site, sk.id)
}

/** The namespace of a packet, by the device it came in on. */
export const netOfSkb = (env: InetEnv, skb: SkBuff): NetNs =>
  env.nets[(env.devs.devices[skb.dev] as { ns: number }).ns].net
