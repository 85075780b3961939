/**
 * Segmenting TCP and UDP over IPv4 and IPv6: the common part cuts the payload (`skbSegment`), this part writes each
 * segment's headers, and moves the sender's charge so that it ends with the last segment.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  csumAdd,
  csumFold,
  gsoSize,
  gsoType,
  pskbMayPull,
  type SegmentFeatures,
  type SkBuff,
  setGsoSegs,
  skbChecksum,
  skbPullUnchecked,
  skbPushUnchecked,
  skbSegment,
} from '@netmem/skbuff'
import {
  NETIF_F_HW_CSUM,
  NETIF_F_IP_CSUM,
  NETIF_F_IPV6_CSUM,
  NETIF_F_SG,
  netGsoOk,
  SKB_GSO_DODGY,
  SKB_GSO_FRAGLIST,
  SKB_GSO_TCP_FIXEDID,
  SKB_GSO_TCPV4,
  SKB_GSO_TCPV6,
  SKB_GSO_UDP,
  SKB_GSO_UDP_L4,
} from './features.js'
import { ipv4HeaderWrite, pseudoSum, tcpWord } from './inet-headers.js'
import type { NetDevs } from './net-devs.js'

const IPPROTO_TCP = 6
const IPPROTO_UDP = 17

// Reused: `skbSegment` reads it during the call only.
class Features implements SegmentFeatures {
  sg = false
  csum = false
}

/** Models `inet_gso_segment` (net/ipv4/af_inet.c) and `ipv6_gso_segment`. `data` is at the IP header. */
export function inetGsoSegment(
  env: NetDevs,
  cpu: Cpu,
  skb: SkBuff,
  features: number,
  v6: boolean,
): SkBuff | null | number {
  const { dv } = env.mem
  skb.networkHeader = (skb.data - skb.head) | 0
  const nhoff = skb.networkHeader - skb.macHeader
  if (!pskbMayPull(cpu, skb, v6 ? 40 : 20)) return -ERRNO.EINVAL
  const ip = skb.data >>> 0
  const ihl = v6 ? 40 : (dv.getUint8(ip) & 15) * 4
  if (ihl < 20 || !pskbMayPull(cpu, skb, ihl)) return -ERRNO.EINVAL
  const id = v6 ? 0 : dv.getUint16(ip + 4)
  const proto = dv.getUint8(ip + (v6 ? 6 : 9))
  const fixedId = (gsoType(skb) & SKB_GSO_TCP_FIXEDID) !== 0
  skbPullUnchecked(skb, ihl)
  skb.transportHeader = (skb.data - skb.head) | 0
  let segs: SkBuff | null | number = -ERRNO.EPROTONOSUPPORT
  if (proto === IPPROTO_TCP) segs = tcpGsoSegment(env, cpu, skb, features, v6)
  else if (proto === IPPROTO_UDP) segs = udpGsoSegment(env, cpu, skb, features, v6)
  if (segs === null || typeof segs === 'number') {
    skb.networkHeader = skb.macHeader + nhoff
    return segs
  }
  let n = 0
  for (let seg: SkBuff | null = segs; seg !== null; seg = nextOf(seg), n++) {
    const at = (seg.head + seg.macHeader + nhoff) | 0
    const len = seg.len - nhoff
    if (v6) dv.setUint16((at + 4) >>> 0, len - 40)
    else ipv4HeaderWrite(env.mem, at >>> 0, len, fixedId ? id : (id + n) & 0xffff, ihl)
    seg.networkHeader = (at - seg.head) | 0
    seg.macLen = seg.networkHeader - seg.macHeader
  }
  return segs
}

const nextOf = (skb: SkBuff): SkBuff | null => (skb.next === 0 ? null : skb.env.skbs[skb.next]!)

function segmentFeatures(features: number, v6: boolean): Features {
  const f = new Features()
  f.sg = (features & NETIF_F_SG) !== 0
  f.csum = (features & (NETIF_F_HW_CSUM | (v6 ? NETIF_F_IPV6_CSUM : NETIF_F_IP_CSUM))) !== 0
  return f
}

/** May the device take it whole now that the headers were looked at? Models `skb_gso_ok` with `NETIF_F_GSO_ROBUST`. */
const robustOk = (skb: SkBuff, features: number): boolean =>
  (gsoType(skb) & SKB_GSO_DODGY) !== 0 && netGsoOk(features, gsoType(skb) & ~SKB_GSO_DODGY)

/** Models `tcp_gso_segment` (net/ipv4/tcp_offload.c) and its IPv4 and IPv6 callers. `data` is at the TCP header. */
function tcpGsoSegment(env: NetDevs, cpu: Cpu, skb: SkBuff, features: number, v6: boolean): SkBuff | null | number {
  const { dv } = env.mem
  const type = gsoType(skb)
  if ((type & (v6 ? SKB_GSO_TCPV6 : SKB_GSO_TCPV4)) === 0 || !pskbMayPull(cpu, skb, 20)) return -ERRNO.EINVAL
  const thlen = (dv.getUint8((skb.data >>> 0) + 12) >> 4) * 4
  if (thlen < 20 || !pskbMayPull(cpu, skb, thlen)) return -ERRNO.EINVAL
  const mss = gsoSize(skb)
  if (skb.len - thlen <= mss) return -ERRNO.EINVAL
  if (robustOk(skb, features)) {
    setGsoSegs(skb, Math.ceil((skb.len - thlen) / mss))
    return null
  }
  skbPullUnchecked(skb, thlen)
  const segs = skbSegment(cpu, skb, segmentFeatures(features, v6))
  if (typeof segs === 'number') {
    skbPushUnchecked(skb, thlen)
    return segs
  }
  const owned = skb.destructor !== 0 && skb.destructor === env.slots.tcpWfree
  let seq = dv.getUint32((segs.head + segs.transportHeader + 4) >>> 0)
  let sum = 0
  let last = segs
  for (let seg: SkBuff | null = segs; seg !== null; seg = nextOf(seg)) {
    const th = (seg.head + seg.transportHeader) >>> 0
    const final = seg.next === 0
    dv.setUint32(th + 4, seq)
    const flags = dv.getUint8(th + 13)
    // FIN and PSH belong to the last byte, CWR to the first segment.
    dv.setUint8(th + 13, flags & ~((final ? 0 : 0x09) | (seg === segs ? 0 : 0x80)))
    finishChecksum(env, seg, th, 16, IPPROTO_TCP, v6)
    seq = (seq + mss) % 4294967296
    sum += seg.truesize
    if (owned && !final) {
      seg.destructor = skb.destructor
      seg.sk = skb.sk
    }
    last = seg
  }
  if (owned) moveCharge(env, skb, last, sum)
  return segs
}

/** Models `__udp_gso_segment` (net/ipv4/udp_offload.c). `data` is at the UDP header. */
function udpGsoSegment(env: NetDevs, cpu: Cpu, skb: SkBuff, features: number, v6: boolean): SkBuff | null | number {
  const type = gsoType(skb)
  if ((type & (SKB_GSO_UDP | SKB_GSO_UDP_L4 | SKB_GSO_FRAGLIST)) === 0 || !pskbMayPull(cpu, skb, 8))
    return -ERRNO.EINVAL
  if ((type & SKB_GSO_UDP_L4) === 0) return -ERRNO.EINVAL
  const mss = gsoSize(skb)
  if (skb.len <= 8 + mss) return -ERRNO.EINVAL
  if (robustOk(skb, features)) {
    setGsoSegs(skb, Math.ceil((skb.len - 8) / mss))
    return null
  }
  skbPullUnchecked(skb, 8)
  const { destructor, sk } = skb
  const owned = destructor !== 0 && destructor === env.slots.sockWfree
  const segs = skbSegment(cpu, skb, segmentFeatures(features, v6))
  if (typeof segs === 'number') {
    skbPushUnchecked(skb, 8)
    return segs
  }
  const { dv } = env.mem
  let sum = 0
  for (let seg: SkBuff | null = segs; seg !== null; seg = nextOf(seg)) {
    const uh = (seg.head + seg.transportHeader) >>> 0
    const end = (seg.tail - seg.head - seg.transportHeader) | 0
    dv.setUint16(uh + 4, end + seg.dataLen)
    finishChecksum(env, seg, uh, 6, IPPROTO_UDP, v6)
    sum += seg.truesize
    if (owned) {
      seg.destructor = destructor
      seg.sk = sk
    }
  }
  if (owned) env.slots.skWmemAdd(sk, sum)
  return segs
}

/**
 * The segments are charged instead of the packet, whose own charge the caller's free takes back: models the end
 * of `tcp_gso_segment`, where the packet's destructor moves to the last segment.
 */
function moveCharge(env: NetDevs, skb: SkBuff, last: SkBuff, sum: number): void {
  const { sk, destructor } = skb
  skb.sk = 0
  skb.destructor = 0
  last.sk = sk
  last.destructor = destructor
  env.slots.skWmemAdd(sk, sum - skb.truesize)
}

/** Sums a segment, or leaves it to the device with the pseudo header's sum in place. */
function finishChecksum(env: NetDevs, seg: SkBuff, th: number, field: number, proto: number, v6: boolean): void {
  const { dv } = env.mem
  const offset = (th - (seg.data >>> 0)) | 0
  const len = seg.len - offset
  const nh = (seg.head + seg.networkHeader) >>> 0
  const pseudo = pseudoSum(env.mem, nh, proto, len, v6)
  if (seg.ipSummed === CHECKSUM_PARTIAL) {
    tcpWord(dv, th + field, ~csumFold(pseudo) & 0xffff)
    seg.csumStart = (th - (seg.head >>> 0)) | 0
    seg.csumOffset = field
    return
  }
  dv.setUint16(th + field, 0)
  const value = csumFold(csumAdd(skbChecksum(seg, offset, len, 0), pseudo))
  tcpWord(dv, th + field, value === 0 && proto === IPPROTO_UDP ? 0xffff : value)
  seg.ipSummed = CHECKSUM_NONE
}
