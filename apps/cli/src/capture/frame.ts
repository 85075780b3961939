/**
 * What a captured frame is: its addresses, protocol and ports, read in place. One `Frame` is reused for a
 * whole capture. Whatever the link type, the network header starts at `netAt`; `makeEthernet` writes an
 * Ethernet header in front of it, over link-layer bytes (or a record header) that nobody needs any more.
 */
import {
  LINKTYPE_ETHERNET,
  LINKTYPE_IPV4,
  LINKTYPE_IPV6,
  LINKTYPE_LINUX_SLL,
  LINKTYPE_LINUX_SLL2,
  LINKTYPE_LOOP,
  LINKTYPE_NULL,
  LINKTYPE_RAW,
  LINKTYPE_RAW_BSD,
  LINKTYPE_RAW_OPENBSD,
} from './link-types.js'

export const ETH_HLEN = 14
export const ETH_P_IP = 0x0800
export const ETH_P_ARP = 0x0806
export const ETH_P_IPV6 = 0x86dd
const ETH_P_8021Q = 0x8100
const ETH_P_8021AD = 0x88a8
const ETH_P_QINQ1 = 0x9100

export const IPPROTO_ICMP = 1
export const IPPROTO_TCP = 6
export const IPPROTO_UDP = 17
export const IPPROTO_ICMPV6 = 58

/** What `parse` found. Everything up to `Malformed` cannot be replayed and has its own name in the report. */
export enum FrameKind {
  UnreadLink = 0,
  Malformed = 1,
  Arp = 2,
  NonIp = 3,
  Tcp = 4,
  Udp = 5,
  Icmp = 6,
  Fragment = 7,
  OtherIp = 8,
}

export class Frame {
  kind: FrameKind = FrameKind.UnreadLink
  /** Where the network header starts in the window, and how many of its bytes were captured and were on the wire. */
  netAt = 0
  netCap = 0
  netWire = 0
  etherType = 0
  vlanTags = 0
  ipVersion = 0
  /** IPv4: the address in word 3, the others 0. IPv6: four big-endian words. Signed 32-bit. */
  src0 = 0
  src1 = 0
  src2 = 0
  src3 = 0
  dst0 = 0
  dst1 = 0
  dst2 = 0
  dst3 = 0
  proto = 0
  /** Transport header, and its ports where the protocol has them; 0 in later fragments. */
  transportAt = 0
  srcPort = 0
  dstPort = 0
  /** Bytes of the transport payload by the IP header's own length: on the wire, captured or not. */
  payloadBytes = 0
  /** Bytes of TCP header; payload starts behind it. */
  headerBytes = 0
  /** IP length in bytes, header included. */
  ipBytes = 0
  /** The bytes of this frame end here in the window. */
  capEnd = 0

  /** Reads the frame of `capBytes` at `at`. Never throws: what makes no sense is `Malformed`. */
  parse(bytes: Uint8Array, at: number, capBytes: number, wireBytes: number, linkType: number): FrameKind {
    this.capEnd = at + capBytes
    this.vlanTags = 0
    if (linkType === LINKTYPE_ETHERNET) {
      if (capBytes < ETH_HLEN) return this.fail()
      this.etherType = (bytes[at + 12] << 8) | bytes[at + 13]
      this.netAt = at + ETH_HLEN
    } else if (!this.otherLink(bytes, at, capBytes, linkType)) return this.kind
    if (this.etherType === ETH_P_8021Q || this.etherType === ETH_P_8021AD || this.etherType === ETH_P_QINQ1)
      if (!this.vlan(bytes)) return this.fail()
    this.netCap = this.capEnd - this.netAt
    this.netWire = wireBytes - (this.netAt - at)
    if (this.etherType === ETH_P_IP) return this.ipv4(bytes)
    if (this.etherType === ETH_P_IPV6) return this.ipv6(bytes)
    this.ipVersion = 0
    this.kind = this.etherType === ETH_P_ARP ? FrameKind.Arp : FrameKind.NonIp
    return this.kind
  }

  private fail(): FrameKind {
    this.ipVersion = 0
    this.kind = FrameKind.Malformed
    return this.kind
  }

  private ipv4(bytes: Uint8Array): FrameKind {
    const at = this.netAt
    if (this.netCap < 20 || bytes[at] >> 4 !== 4) return this.fail()
    const headerBytes = (bytes[at] & 15) << 2
    this.ipBytes = (bytes[at + 2] << 8) | bytes[at + 3]
    // A segmentation offload frame beyond 64 KiB (BIG TCP) carries 0 here: the frame's own length counts.
    if (this.ipBytes === 0) this.ipBytes = this.netWire
    if (headerBytes < 20 || this.ipBytes < headerBytes || this.ipBytes > this.netWire || this.netCap < headerBytes)
      return this.fail()
    this.ipVersion = 4
    this.src0 = this.src1 = this.src2 = this.dst0 = this.dst1 = this.dst2 = 0
    this.src3 = (bytes[at + 12] << 24) | (bytes[at + 13] << 16) | (bytes[at + 14] << 8) | bytes[at + 15]
    this.dst3 = (bytes[at + 16] << 24) | (bytes[at + 17] << 16) | (bytes[at + 18] << 8) | bytes[at + 19]
    this.proto = bytes[at + 9]
    this.transportAt = at + headerBytes
    if ((((bytes[at + 6] << 8) | bytes[at + 7]) & 0x3fff) !== 0) return this.fragment(this.ipBytes - headerBytes)
    return this.transport(bytes, this.ipBytes - headerBytes)
  }

  private ipv6(bytes: Uint8Array): FrameKind {
    const at = this.netAt
    if (this.netCap < 40 || bytes[at] >> 4 !== 6) return this.fail()
    const rest = (bytes[at + 4] << 8) | bytes[at + 5]
    this.ipBytes = rest === 0 ? this.netWire : rest + 40
    if (this.ipBytes > this.netWire) return this.fail()
    this.ipVersion = 6
    this.src0 = word(bytes, at + 8)
    this.src1 = word(bytes, at + 12)
    this.src2 = word(bytes, at + 16)
    this.src3 = word(bytes, at + 20)
    this.dst0 = word(bytes, at + 24)
    this.dst1 = word(bytes, at + 28)
    this.dst2 = word(bytes, at + 32)
    this.dst3 = word(bytes, at + 36)
    let next = bytes[at + 6]
    let header = at + 40
    // Hop-by-hop, routing and destination options have one shape; a fragment header ends the walk.
    while (next === 0 || next === 43 || next === 60) {
      if (header + 8 > this.capEnd) return this.fail()
      next = bytes[header]
      header += (bytes[header + 1] + 1) << 3
    }
    this.proto = next
    this.transportAt = header
    const left = this.ipBytes - (header - at)
    if (left < 0) return this.fail()
    if (next === 44) return this.fragment(left)
    return this.transport(bytes, left)
  }

  private fragment(left: number): FrameKind {
    this.srcPort = this.dstPort = 0
    this.payloadBytes = left
    this.headerBytes = 0
    this.kind = FrameKind.Fragment
    return this.kind
  }

  private transport(bytes: Uint8Array, left: number): FrameKind {
    const at = this.transportAt
    if (this.proto === IPPROTO_UDP) {
      if (left < 8 || at + 8 > this.capEnd) return this.fail()
      this.srcPort = (bytes[at] << 8) | bytes[at + 1]
      this.dstPort = (bytes[at + 2] << 8) | bytes[at + 3]
      this.headerBytes = 8
      this.payloadBytes = left - 8
      this.kind = FrameKind.Udp
    } else if (this.proto === IPPROTO_TCP) {
      if (left < 20 || at + 20 > this.capEnd) return this.fail()
      this.srcPort = (bytes[at] << 8) | bytes[at + 1]
      this.dstPort = (bytes[at + 2] << 8) | bytes[at + 3]
      this.headerBytes = (bytes[at + 12] >> 4) << 2
      if (this.headerBytes < 20 || this.headerBytes > left || at + this.headerBytes > this.capEnd) return this.fail()
      this.payloadBytes = left - this.headerBytes
      this.kind = FrameKind.Tcp
    } else {
      this.srcPort = this.dstPort = 0
      this.headerBytes = 0
      this.payloadBytes = left
      this.kind = this.proto === IPPROTO_ICMP || this.proto === IPPROTO_ICMPV6 ? FrameKind.Icmp : FrameKind.OtherIp
    }
    return this.kind
  }

  private vlan(bytes: Uint8Array): boolean {
    while (this.etherType === ETH_P_8021Q || this.etherType === ETH_P_8021AD || this.etherType === ETH_P_QINQ1) {
      if (this.netAt + 4 > this.capEnd) return false
      this.etherType = (bytes[this.netAt + 2] << 8) | bytes[this.netAt + 3]
      this.netAt += 4
      this.vlanTags += 1
    }
    return true
  }

  /** Every link type but Ethernet. @returns false when the frame goes no further; `kind` is then set. */
  private otherLink(bytes: Uint8Array, at: number, capBytes: number, linkType: number): boolean {
    let header = 0
    switch (linkType) {
      case LINKTYPE_RAW:
      case LINKTYPE_RAW_BSD:
      case LINKTYPE_RAW_OPENBSD:
      case LINKTYPE_IPV4:
      case LINKTYPE_IPV6:
        if (capBytes < 1) break
        this.etherType = bytes[at] >> 4 === 6 ? ETH_P_IPV6 : ETH_P_IP
        this.netAt = at
        return true
      case LINKTYPE_LINUX_SLL:
        header = 16
        if (capBytes < header) break
        this.etherType = (bytes[at + 14] << 8) | bytes[at + 15]
        this.netAt = at + header
        return true
      case LINKTYPE_LINUX_SLL2:
        header = 20
        if (capBytes < header) break
        this.etherType = (bytes[at] << 8) | bytes[at + 1]
        this.netAt = at + header
        return true
      case LINKTYPE_NULL:
      case LINKTYPE_LOOP:
        header = 4
        if (capBytes < header + 1) break
        // The address family is in the byte order of whoever wrote the file; the IP version tells as much.
        this.etherType = bytes[at + 4] >> 4 === 6 ? ETH_P_IPV6 : ETH_P_IP
        this.netAt = at + header
        return true
      default:
        this.ipVersion = 0
        this.kind = FrameKind.UnreadLink
        return false
    }
    this.fail()
    return false
  }
}

const word = (bytes: Uint8Array, at: number): number =>
  (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]

/**
 * Writes an Ethernet header in front of the network header, in the window. The reader leaves enough bytes
 * there: a longer link header, or the header of the record itself.
 *
 * @param link destination and source address, as three big-endian words.
 * @returns where the Ethernet frame starts.
 */
export function makeEthernet(window: DataView, frame: Frame, link: Int32Array): number {
  const at = frame.netAt - ETH_HLEN
  window.setInt32(at, link[0])
  window.setInt32(at + 4, link[1])
  window.setInt32(at + 8, link[2])
  window.setUint16(at + 12, frame.etherType)
  return at
}

/**
 * Makes the checksum of an ICMP message right whose end was not captured and is zeros: a receiver would
 * otherwise drop it for our sake. TCP and UDP need no such help, their checksums are the card's business.
 */
export function completeIcmpChecksum(bytes: Uint8Array, frame: Frame): void {
  const at = frame.transportAt
  if (at + 4 > frame.capEnd) return
  bytes[at + 2] = 0
  bytes[at + 3] = 0
  let sum = 0
  if (frame.ipVersion === 6) {
    sum = IPPROTO_ICMPV6 + frame.payloadBytes
    for (let i = frame.netAt + 8; i < frame.netAt + 40; i += 2) sum += (bytes[i] << 8) | bytes[i + 1]
  }
  const end = Math.min(frame.capEnd, at + frame.payloadBytes)
  for (let i = at; i < end; i += 2) sum += (bytes[i] << 8) | (i + 1 < end ? bytes[i + 1] : 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536)
  bytes[at + 2] = (~sum >> 8) & 0xff
  bytes[at + 3] = ~sum & 0xff
}
