/**
 * The Ethernet header: read from packet memory on receive, and what it says about who the packet is for.
 */
import type { SkBuff } from '@netmem/skbuff'
import type { NetDevice } from './net-device.js'
import {
  ETH_P_802_2,
  ETH_P_802_3,
  PACKET_BROADCAST,
  PACKET_HOST,
  PACKET_MULTICAST,
  PACKET_OTHERHOST,
} from './packet-type.js'

/** Models `ETH_HLEN`: bytes of an Ethernet header. */
export const ETH_HLEN = 14
/** Models `ETH_ZLEN`: the shortest frame without its checksum. */
export const ETH_ZLEN = 60
/** Models `ETH_MAX_MTU`. */
export const ETH_MAX_MTU = 65535
/** Models `ETH_P_802_3_MIN`: smaller numbers are lengths. */
export const ETH_P_802_3_MIN = 0x600

/**
 * Models `eth_type_trans` (net/ethernet/eth.c): takes the link header off, says who the packet is for.
 * At least 14 linear bytes must be there.
 *
 * @returns the EtherType, also stored in `skb.protocol`.
 */
export function ethTypeTrans(skb: SkBuff, dev: NetDevice): number {
  const dv = dev.env.mem.dv
  const at = skb.data >>> 0
  skb.dev = dev.id
  skb.macHeader = (skb.data - skb.head) | 0
  skb.data = (skb.data + ETH_HLEN) as typeof skb.data
  skb.len -= ETH_HLEN
  if (dv.getInt32(at + 2) !== dev.macLo || dv.getUint16(at) !== dev.macHi) skb.pktType = pktTypeOf(dv, at)
  else skb.pktType = PACKET_HOST
  const proto = dv.getUint16(at + 12)
  skb.protocol = proto >= ETH_P_802_3_MIN ? proto : ethTypeLength(skb, dv)
  return skb.protocol
}

// Cold path: other stations' packets, and frames of the days before EtherTypes.

function pktTypeOf(dv: DataView, at: number): number {
  if ((dv.getUint8(at) & 1) === 0) return PACKET_OTHERHOST
  return dv.getUint16(at) === 0xffff && dv.getInt32(at + 2) === -1 ? PACKET_BROADCAST : PACKET_MULTICAST
}

function ethTypeLength(skb: SkBuff, dv: DataView): number {
  // Raw IPX is told by a payload that starts with an impossible LLC header.
  if (skb.len >= 2 && dv.getUint16(skb.data >>> 0) === 0xffff) return ETH_P_802_3
  return ETH_P_802_2
}

/**
 * Models `eth_header` (net/ethernet/eth.c): writes a link header at `skb.data` after pushing it there.
 *
 * @param dstHi @param dstLo the destination's MAC as two and four bytes, big endian.
 */
export function ethHeaderWrite(dev: NetDevice, at: number, dstHi: number, dstLo: number, proto: number): void {
  const dv = dev.env.mem.dv
  dv.setUint16(at, dstHi)
  dv.setInt32(at + 2, dstLo)
  dv.setUint16(at + 6, dev.macHi)
  dv.setInt32(at + 8, dev.macLo)
  dv.setUint16(at + 12, proto)
}
