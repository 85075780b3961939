/**
 * The header by which a virtual machine's packets carry their offloads: what is still to be summed, and how a
 * large packet is to be cut. It comes from outside, so each field is checked before it is believed.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_PARTIAL,
  gsoSize,
  gsoType,
  pskbMayPull,
  type SkBuff,
  setGsoSegs,
  setGsoSize,
  setGsoType,
  skbHeadlen,
} from '@netmem/skbuff'
import {
  GSO_BY_FRAGS,
  SKB_GSO_DODGY,
  SKB_GSO_TCP_ECN,
  SKB_GSO_TCPV4,
  SKB_GSO_TCPV6,
  SKB_GSO_UDP,
  SKB_GSO_UDP_L4,
} from '../features.js'
import { skbProbeTransportHeader } from './probe-transport.js'

/** Models `sizeof(struct virtio_net_hdr)`. */
export const VIRTIO_NET_HDR_BYTES = 10
/** Models `VIRTIO_NET_HDR_F_NEEDS_CSUM` and `VIRTIO_NET_HDR_F_DATA_VALID`. */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
export const VIRTIO_NET_HDR_F_DATA_VALID = 2
export const VIRTIO_NET_HDR_GSO_NONE = 0
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1
export const VIRTIO_NET_HDR_GSO_UDP = 3
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5
export const VIRTIO_NET_HDR_GSO_ECN = 0x80

/** Models `UDP_MAX_SEGMENTS`. */
const UDP_MAX_SEGMENTS = 128
const IPPROTO_TCP = 6
const IPPROTO_UDP = 17
const TCP_HEADER = 20
const UDP_HEADER = 8
const IP_HEADER = 20
const IP6_HEADER = 40
const UDP_CHECK_OFFSET = 6
const TCP_CHECK_OFFSET = 16

/** Models `struct virtio_net_hdr`; one object is reused. */
export class VirtioNetHdr {
  flags = 0
  gsoType = 0
  hdrLen = 0
  gsoSize = 0
  csumStart = 0
  csumOffset = 0
}

/** Reads the ten bytes, little endian. */
export function virtioNetHdrRead(hdr: VirtioNetHdr, dv: DataView, at: number): void {
  hdr.flags = dv.getUint8(at)
  hdr.gsoType = dv.getUint8(at + 1)
  hdr.hdrLen = dv.getUint16(at + 2, true)
  hdr.gsoSize = dv.getUint16(at + 4, true)
  hdr.csumStart = dv.getUint16(at + 6, true)
  hdr.csumOffset = dv.getUint16(at + 8, true)
}

/** Writes the ten bytes, little endian. */
export function virtioNetHdrWrite(hdr: VirtioNetHdr, dv: DataView, at: number): void {
  dv.setUint8(at, hdr.flags)
  dv.setUint8(at + 1, hdr.gsoType)
  dv.setUint16(at + 2, hdr.hdrLen, true)
  dv.setUint16(at + 4, hdr.gsoSize, true)
  dv.setUint16(at + 6, hdr.csumStart, true)
  dv.setUint16(at + 8, hdr.csumOffset, true)
}

/**
 * Models `virtio_net_hdr_to_skb` (include/linux/virtio_net.h). `data` is at the start of the frame.
 *
 * @param udpL4 the kernel knows `VIRTIO_NET_HDR_GSO_UDP_L4` (6.2 on).
 * @returns 0, or `-EINVAL` for a header that does not fit the packet.
 */
export function virtioNetHdrToSkb(cpu: Cpu, skb: SkBuff, hdr: VirtioNetHdr, udpL4: boolean): number {
  let type = 0
  let thlen = 0
  let proto = 0
  let nhMin = IP_HEADER
  if (hdr.gsoType !== VIRTIO_NET_HDR_GSO_NONE) {
    switch (hdr.gsoType & ~VIRTIO_NET_HDR_GSO_ECN) {
      case VIRTIO_NET_HDR_GSO_TCPV4:
        type = SKB_GSO_TCPV4
        proto = IPPROTO_TCP
        thlen = TCP_HEADER
        break
      case VIRTIO_NET_HDR_GSO_TCPV6:
        type = SKB_GSO_TCPV6
        proto = IPPROTO_TCP
        thlen = TCP_HEADER
        nhMin = IP6_HEADER
        break
      case VIRTIO_NET_HDR_GSO_UDP:
        type = SKB_GSO_UDP
        proto = IPPROTO_UDP
        thlen = UDP_HEADER
        break
      case VIRTIO_NET_HDR_GSO_UDP_L4:
        if (!udpL4) return -ERRNO.EINVAL
        type = SKB_GSO_UDP_L4
        proto = IPPROTO_UDP
        thlen = UDP_HEADER
        break
      default:
        return -ERRNO.EINVAL
    }
    if ((hdr.gsoType & VIRTIO_NET_HDR_GSO_ECN) !== 0) type |= SKB_GSO_TCP_ECN
    if (hdr.gsoSize === 0) return -ERRNO.EINVAL
  }
  skb.macHeader = (skb.data - skb.head) | 0
  let payloadOffset = 0
  if ((hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) {
    const needed = hdr.csumStart + Math.max(thlen, hdr.csumOffset + 2)
    if (!pskbMayPull(cpu, skb, needed)) return -ERRNO.EINVAL
    if (!skbPartialCsumSet(skb, hdr.csumStart, hdr.csumOffset)) return -ERRNO.EINVAL
    if (hdr.csumStart < nhMin) return -ERRNO.EINVAL
    payloadOffset = hdr.csumStart + thlen
    if (!pskbMayPull(cpu, skb, payloadOffset)) return -ERRNO.EINVAL
  } else if (type !== 0) {
    // Nobody said where the transport header is: look, and refuse what contradicts the type.
    if (skb.networkHeader !== 0 && skb.protocol !== 0 && !skbProbeTransportHeader(skb, proto)) return -ERRNO.EINVAL
    payloadOffset = nhMin + thlen
    if (!pskbMayPull(cpu, skb, payloadOffset)) return -ERRNO.EINVAL
  }
  if (hdr.gsoType === VIRTIO_NET_HDR_GSO_NONE) return 0
  let headerOffset = payloadOffset
  if ((type & SKB_GSO_UDP) !== 0) headerOffset -= thlen
  else if ((type & SKB_GSO_UDP_L4) !== 0) {
    if ((hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0 || skb.csumOffset !== UDP_CHECK_OFFSET) return -ERRNO.EINVAL
    if (skb.len - payloadOffset > hdr.gsoSize * UDP_MAX_SEGMENTS || type !== SKB_GSO_UDP_L4) return -ERRNO.EINVAL
  } else if (skb.ipSummed === CHECKSUM_PARTIAL && skb.csumOffset !== TCP_CHECK_OFFSET) return -ERRNO.EINVAL
  if (hdr.gsoSize === GSO_BY_FRAGS) return -ERRNO.EINVAL
  // What fits one segment needs no cutting.
  if (skb.len - headerOffset > hdr.gsoSize) {
    setGsoSize(skb, hdr.gsoSize)
    setGsoType(skb, type | SKB_GSO_DODGY)
    setGsoSegs(skb, 0)
  }
  return 0
}

/** Models `skb_partial_csum_set` (net/core/skbuff.c). @returns false when the field is not in the linear part. */
function skbPartialCsumSet(skb: SkBuff, start: number, offset: number): boolean {
  const end = start + offset + 2
  if (end > skbHeadlen(skb)) return false
  skb.ipSummed = CHECKSUM_PARTIAL
  skb.csumStart = (skb.data - skb.head + start) | 0
  skb.csumOffset = offset
  skb.transportHeader = skb.csumStart
  return true
}

/**
 * Models `virtio_net_hdr_from_skb`: what a reader must know to finish the packet.
 *
 * @param vlanBytes bytes of a VLAN tag that will be inserted in front of the sums. @returns 0 or `-EINVAL`.
 */
export function virtioNetHdrFromSkb(skb: SkBuff, hdr: VirtioNetHdr, vlanBytes: number): number {
  hdr.flags = 0
  hdr.gsoType = VIRTIO_NET_HDR_GSO_NONE
  hdr.hdrLen = 0
  hdr.gsoSize = 0
  hdr.csumStart = 0
  hdr.csumOffset = 0
  if (gsoSize(skb) !== 0) {
    hdr.hdrLen = skbHeadlen(skb)
    hdr.gsoSize = gsoSize(skb)
    const type = gsoType(skb)
    if ((type & SKB_GSO_TCPV4) !== 0) hdr.gsoType = VIRTIO_NET_HDR_GSO_TCPV4
    else if ((type & SKB_GSO_TCPV6) !== 0) hdr.gsoType = VIRTIO_NET_HDR_GSO_TCPV6
    else if ((type & SKB_GSO_UDP_L4) !== 0) hdr.gsoType = VIRTIO_NET_HDR_GSO_UDP_L4
    else return -ERRNO.EINVAL
    if ((type & SKB_GSO_TCP_ECN) !== 0) hdr.gsoType |= VIRTIO_NET_HDR_GSO_ECN
  }
  if (skb.ipSummed === CHECKSUM_PARTIAL) {
    hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM
    hdr.csumStart = ((skb.head + skb.csumStart - skb.data) | 0) + vlanBytes
    hdr.csumOffset = skb.csumOffset
  } else if (skb.ipSummed === 1) hdr.flags = VIRTIO_NET_HDR_F_DATA_VALID
  return 0
}
