/**
 * Merging TCP and UDP over IPv4 and IPv6: which packets follow each other, and how the merged packet's headers
 * read. The packets themselves are merged by `skbGroReceive`.
 */
import type { Addr, Cpu } from '@netmem/base'
import {
  CHECKSUM_PARTIAL,
  CHECKSUM_UNNECESSARY,
  csumAdd,
  csumFold,
  csumPartial,
  gsoSize,
  gsoType,
  type SkBuff,
  setGsoSegs,
  setGsoType,
  skbChecksum,
  skbIsGso,
} from '@netmem/skbuff'
import {
  NETIF_F_GRO_FRAGLIST,
  NETIF_F_GRO_UDP_FWD,
  SKB_GSO_FRAGLIST,
  SKB_GSO_TCP_ECN,
  SKB_GSO_TCP_FIXEDID,
  SKB_GSO_TCPV4,
  SKB_GSO_TCPV6,
  SKB_GSO_UDP_L4,
} from './features.js'
import {
  GRO_CSUM_VALID,
  GRO_FLUSH,
  GRO_IP_FIXEDID,
  GRO_IS_FLIST,
  GRO_SAME_FLOW,
  skbGroHeader,
  skbGroLen,
  skbGroOffset,
  skbGroPull,
} from './gro-cb.js'
import { skbGroReceive, skbGroReceiveList } from './gro-merge.js'
import { pseudoSum, tcpWord } from './inet-headers.js'
import { MAX_GRO_SKBS, type NapiStruct } from './napi-struct.js'
import type { NetDevs } from './net-devs.js'

const IPPROTO_TCP = 6
const IPPROTO_UDP = 17
/** Models `UDP_GRO_CNT_MAX`. */
const UDP_GRO_CNT_MAX = 64

const TCP_FIN = 0x01
const TCP_SYN = 0x02
const TCP_RST = 0x04
const TCP_PSH = 0x08
const TCP_URG = 0x20
const TCP_CWR = 0x80

/** Models `inet_gro_receive` (net/ipv4/af_inet.c) and `ipv6_gro_receive`. @returns id of a packet to flush, 0 none. */
export function inetGroReceive(cpu: Cpu, napi: NapiStruct, bucket: number, skb: SkBuff, v6: boolean): number {
  const { env } = napi
  const { dv } = env.mem
  const off = skbGroOffset(skb)
  const hlen = v6 ? 40 : 20
  const iph = skbGroHeader(cpu, skb, off + hlen, off)
  const nh = iph >>> 0
  const proto = nh === 0 ? 0 : dv.getUint8(nh + (v6 ? 6 : 9))
  const known = proto === IPPROTO_TCP || proto === IPPROTO_UDP
  if (nh === 0 || !known || (v6 ? dv.getUint8(nh) >> 4 !== 6 : !plainIpv4(env, nh))) {
    skb.cb0 |= GRO_FLUSH
    return 0
  }
  skb.cb8 = proto
  // A length that is not the packet's, or a fragment, ends merging with this one.
  const total = v6 ? dv.getUint16(nh + 4) + 40 : dv.getUint16(nh + 2)
  const flush = total !== skbGroLen(skb)
  for (let i = 0; i < napi.groCount[bucket]!; i++) {
    const p = env.skbs.skbs[napi.groHash[bucket * MAX_GRO_SKBS + i]!]!
    if ((p.cb0 & GRO_SAME_FLOW) === 0) continue
    const nh2 = (p.head + p.networkHeader) >>> 0
    if (!sameAddresses(dv, nh, nh2, v6)) p.cb0 &= ~GRO_SAME_FLOW
  }
  if (flush) skb.cb0 |= GRO_FLUSH
  skb.cb7 = off
  skbGroPull(skb, hlen)
  skb.transportHeader = (skb.data + skbGroOffset(skb) - skb.head) | 0
  return proto === IPPROTO_TCP
    ? tcpGroReceive(cpu, napi, bucket, skb, nh, v6)
    : udpGroReceive(cpu, napi, bucket, skb, nh, v6)
}

/** No options, no fragment, a right header sum. */
function plainIpv4(env: NetDevs, nh: number): boolean {
  const { dv } = env.mem
  if (dv.getUint8(nh) !== 0x45 || (dv.getUint16(nh + 6) & 0x3fff) !== 0) return false
  return csumFold(csumPartial(env.mem, nh as Addr, 20, 0)) === 0
}

function sameAddresses(dv: DataView, a: number, b: number, v6: boolean): boolean {
  if (!v6)
    return (
      dv.getInt32(a + 12) === dv.getInt32(b + 12) &&
      dv.getInt32(a + 16) === dv.getInt32(b + 16) &&
      dv.getUint8(a + 9) === dv.getUint8(b + 9)
    )
  if (dv.getUint8(a + 6) !== dv.getUint8(b + 6)) return false
  for (let i = 8; i < 40; i += 4) if (dv.getInt32(a + i) !== dv.getInt32(b + i)) return false
  return true
}

/** Models `gro_receive_network_flush`: may the IP headers be merged? Decides with the second packet whether ids stand still. */
function networkFlush(dv: DataView, nh: number, nh2: number, p: SkBuff, v6: boolean): boolean {
  if (v6) {
    const first = dv.getInt32(nh) ^ dv.getInt32(nh2)
    return (first & 0x0ff00000) !== 0 || dv.getUint8(nh + 7) !== dv.getUint8(nh2 + 7)
  }
  const df = dv.getUint16(nh + 6) & 0x4000
  if (dv.getUint8(nh + 8) !== dv.getUint8(nh2 + 8) || dv.getUint8(nh + 1) !== dv.getUint8(nh2 + 1)) return true
  if (df !== (dv.getUint16(nh2 + 6) & 0x4000)) return true
  const step = (dv.getUint16(nh + 4) - dv.getUint16(nh2 + 4)) & 0xffff
  if (p.cb3 === 1 && df !== 0 && step === 0) p.cb0 |= GRO_IP_FIXEDID
  return step !== ((p.cb0 & GRO_IP_FIXEDID) !== 0 ? 0 : p.cb3)
}

/** Models `skb_gro_checksum_validate`. @returns false when the transport checksum is wrong. */
function checksumOk(env: NetDevs, skb: SkBuff, nh: number, proto: number, v6: boolean): boolean {
  if (skb.ipSummed === CHECKSUM_PARTIAL || skb.cb6 > 0) return true
  const off = skbGroOffset(skb)
  const len = skbGroLen(skb)
  const pseudo = pseudoSum(env.mem, nh, proto, len, v6)
  if ((skb.cb0 & GRO_CSUM_VALID) !== 0 && csumFold(csumAdd(skb.cb5, pseudo)) === 0) return true
  if (csumFold(csumAdd(skbChecksum(skb, off, len, 0), pseudo)) !== 0) return false
  // Summed once, here; nobody above need do it again.
  skb.ipSummed = CHECKSUM_UNNECESSARY
  skb.csumLevel = 0
  skb.cb6 = 1
  return true
}

/** Models `tcp4_gro_receive`, `tcp6_gro_receive` and `tcp_gro_receive` (net/ipv4/tcp_offload.c). */
function tcpGroReceive(cpu: Cpu, napi: NapiStruct, bucket: number, skb: SkBuff, nh: number, v6: boolean): number {
  const { env } = napi
  const { dv } = env.mem
  if ((skb.cb0 & GRO_FLUSH) === 0 && !checksumOk(env, skb, nh, IPPROTO_TCP, v6)) {
    skb.cb0 |= GRO_FLUSH
    return 0
  }
  const off = skbGroOffset(skb)
  let header = skbGroHeader(cpu, skb, off + 20, off)
  const thlen = header === 0 ? 0 : (dv.getUint8((header >>> 0) + 12) >> 4) * 4
  if (thlen >= 20) header = skbGroHeader(cpu, skb, off + thlen, off)
  if (thlen < 20 || header === 0) {
    skb.cb0 |= GRO_FLUSH
    return 0
  }
  const th = header >>> 0
  skbGroPull(skb, thlen)
  const len = skbGroLen(skb)
  const flags = dv.getUint8(th + 13)
  const ports = dv.getInt32(th)
  let p: SkBuff | null = null
  for (let i = 0; i < napi.groCount[bucket]!; i++) {
    const q = env.skbs.skbs[napi.groHash[bucket * MAX_GRO_SKBS + i]!]!
    if ((q.cb0 & GRO_SAME_FLOW) === 0) continue
    if (dv.getInt32((q.head + q.transportHeader) >>> 0) === ports) {
      p = q
      break
    }
    q.cb0 &= ~GRO_SAME_FLOW
  }
  let mss = 1
  if (p !== null) {
    const th2 = (p.head + p.transportHeader) >>> 0
    mss = gsoSize(p)
    if (
      (flags & TCP_CWR) !== 0 ||
      ((flags ^ dv.getUint8(th2 + 13)) & ~(TCP_FIN | TCP_PSH)) !== 0 ||
      sameTcpHeader(dv, th, th2, thlen) === false ||
      networkFlush(dv, nh, (p.head + p.networkHeader) >>> 0, p, v6) ||
      (skbIsGso(skb) ? mss !== gsoSize(skb) : len - 1 >= mss || len === 0) ||
      (dv.getUint32(th2 + 4) + skbGroLen(p)) % 4294967296 !== dv.getUint32(th + 4) ||
      (p.cb0 & GRO_FLUSH) !== 0 ||
      !skbGroReceive(p, skb)
    )
      mss = 1
    else dv.setUint8(th2 + 13, dv.getUint8(th2 + 13) | (flags & (TCP_FIN | TCP_PSH)))
  }
  // A short segment, and one that wants attention, is the last of its train.
  const short = skbIsGso(skb) ? len !== skb.cb3 * gsoSize(skb) : len < mss
  const flush = short || (flags & (TCP_URG | TCP_PSH | TCP_RST | TCP_SYN | TCP_FIN)) !== 0
  if (flush) skb.cb0 |= GRO_FLUSH
  return p !== null && ((skb.cb0 & GRO_SAME_FLOW) === 0 || flush) ? p.id : 0
}

/** Acknowledgement number and options must be equal. */
function sameTcpHeader(dv: DataView, a: number, b: number, thlen: number): boolean {
  if (dv.getInt32(a + 8) !== dv.getInt32(b + 8)) return false
  for (let i = 20; i < thlen; i += 4) if (dv.getInt32(a + i) !== dv.getInt32(b + i)) return false
  return true
}

/** Models `udp4_gro_receive`, `udp6_gro_receive` and `udp_gro_receive` (net/ipv4/udp_offload.c). */
function udpGroReceive(cpu: Cpu, napi: NapiStruct, bucket: number, skb: SkBuff, nh: number, v6: boolean): number {
  const { env } = napi
  const { dv } = env.mem
  const off = skbGroOffset(skb)
  const header = skbGroHeader(cpu, skb, off + 8, off)
  const uh = header >>> 0
  if (
    uh === 0 ||
    ((skb.cb0 & GRO_FLUSH) === 0 && dv.getUint16(uh + 6) !== 0 && !checksumOk(env, skb, nh, IPPROTO_UDP, v6))
  ) {
    skb.cb0 |= GRO_FLUSH
    return 0
  }
  const dev = env.devices[skb.dev]!
  const socket = env.udpGroUsers > 0 ? env.slots.udpGroLookup(skb, nh, uh) : 0
  const flist = (dev.features & NETIF_F_GRO_FRAGLIST) !== 0 && socket !== 2
  const wanted = (socket === 0 && (dev.features & NETIF_F_GRO_UDP_FWD) !== 0) || socket === 2 || flist
  if (skb.encapsulation || !wanted) {
    skb.cb0 |= GRO_FLUSH
    return 0
  }
  if (flist) skb.cb0 |= GRO_IS_FLIST
  return udpGroReceiveSegment(env, napi, bucket, skb, uh, nh, v6)
}

/** Models `udp_gro_receive_segment`. */
function udpGroReceiveSegment(
  env: NetDevs,
  napi: NapiStruct,
  bucket: number,
  skb: SkBuff,
  uh: number,
  nh: number,
  v6: boolean,
): number {
  const { dv } = env.mem
  const ulen = dv.getUint16(uh + 4)
  // Without a checksum the merged packet could not be cut again; with padding it would not be the same.
  if (dv.getUint16(uh + 6) === 0 || ulen <= 8 || ulen !== skbGroLen(skb)) {
    skb.cb0 |= GRO_FLUSH
    return 0
  }
  skbGroPull(skb, 8)
  for (let i = 0; i < napi.groCount[bucket]!; i++) {
    const p = env.skbs.skbs[napi.groHash[bucket * MAX_GRO_SKBS + i]!]!
    if ((p.cb0 & GRO_SAME_FLOW) === 0) continue
    const uh2 = (p.head + p.transportHeader) >>> 0
    if (dv.getInt32(uh) !== dv.getInt32(uh2)) {
      p.cb0 &= ~GRO_SAME_FLOW
      continue
    }
    if (((skb.cb0 ^ p.cb0) & GRO_IS_FLIST) !== 0) {
      skb.cb0 |= GRO_FLUSH
      return p.id
    }
    const first = (p.cb0 & GRO_IS_FLIST) !== 0 ? dv.getUint16(uh2 + 4) : gsoSize(p) + 8
    let merged = false
    if (ulen <= first && !networkFlush(dv, nh, (p.head + p.networkHeader) >>> 0, p, v6)) {
      merged = (skb.cb0 & GRO_IS_FLIST) !== 0 ? skbGroReceiveList(p, skb) : skbGroReceive(p, skb)
      if (merged && ulen === first && p.cb3 < UDP_GRO_CNT_MAX) return 0
    }
    return p.id
  }
  return 0
}

/** Models `inet_gro_complete` and `ipv6_gro_complete`: the merged packet's headers. @returns 0. */
export function inetGroComplete(env: NetDevs, skb: SkBuff, v6: boolean): number {
  const { mem } = env
  const { dv } = mem
  const nh = (skb.head + skb.networkHeader) >>> 0
  const nhoff = (nh - (skb.data >>> 0)) | 0
  const total = skb.len - nhoff
  const proto = dv.getUint8(nh + (v6 ? 6 : 9))
  if (v6) dv.setUint16(nh + 4, total - 40)
  else {
    dv.setUint16(nh + 2, total)
    dv.setUint16(nh + 10, 0)
    dv.setUint16(nh + 10, csumFold(csumPartial(mem, nh as Addr, 20, 0)), true)
  }
  const th = (skb.head + skb.transportHeader) >>> 0
  const l4 = total - (v6 ? 40 : 20)
  if (proto === IPPROTO_TCP) {
    let type = v6 ? SKB_GSO_TCPV6 : SKB_GSO_TCPV4
    if ((skb.cb0 & GRO_IP_FIXEDID) !== 0) type |= SKB_GSO_TCP_FIXEDID
    if ((dv.getUint8(th + 13) & TCP_CWR) !== 0) type |= SKB_GSO_TCP_ECN
    return finish(env, skb, th, 16, nh, proto, l4, v6, gsoType(skb) | type)
  }
  if ((skb.cb0 & GRO_IS_FLIST) !== 0) {
    setGsoType(skb, gsoType(skb) | SKB_GSO_FRAGLIST | SKB_GSO_UDP_L4)
    setGsoSegs(skb, skb.cb3)
    if (skb.ipSummed !== CHECKSUM_PARTIAL) skb.ipSummed = CHECKSUM_UNNECESSARY
    return 0
  }
  dv.setUint16(th + 4, l4)
  return finish(env, skb, th, 6, nh, proto, l4, v6, SKB_GSO_UDP_L4)
}

/** The checksum is left to whoever cuts the packet again: the field holds the pseudo header's sum. */
function finish(
  env: NetDevs,
  skb: SkBuff,
  th: number,
  field: number,
  nh: number,
  proto: number,
  len: number,
  v6: boolean,
  type: number,
): number {
  tcpWord(env.mem.dv, th + field, ~csumFold(pseudoSum(env.mem, nh, proto, len, v6)) & 0xffff)
  skb.csumStart = (th - (skb.head >>> 0)) | 0
  skb.csumOffset = field
  skb.ipSummed = CHECKSUM_PARTIAL
  setGsoSegs(skb, skb.cb3)
  setGsoType(skb, type)
  return 0
}
