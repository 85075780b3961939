/** What packet sockets tell of a packet beyond its bytes: tags that are still in it, its protocol, whether it is a TCP train. */
import { gsoSize, gsoType, type SkBuff, skbHeadlen } from '@netmem/skbuff'
import { ETH_P_8021AD, ETH_P_8021Q, SKB_GSO_TCPV4, SKB_GSO_TCPV6 } from '@netmem/virtual-nic'
import type { PacketSock } from './packet-sock.js'

/** No tag is to be shown. */
export const VLAN_TCI_UNKNOWN = -1

const isVlan = (proto: number): boolean => proto === ETH_P_8021Q || proto === ETH_P_8021AD

/** Models `skb_is_gso && skb_is_gso_tcp`. */
export const skbIsGsoTcp = (skb: SkBuff): boolean =>
  gsoSize(skb) !== 0 && (gsoType(skb) & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6)) !== 0

/**
 * Models the use of `vlan_get_tci` (net/packet/af_packet.c): an outgoing packet whose tag no device has taken off.
 *
 * @returns the tag's control information, or `VLAN_TCI_UNKNOWN` for a packet without one.
 */
export function dgramVlan(po: PacketSock, skb: SkBuff): number {
  if (!po.env.socks.profile.features.packetDgramVlan || !isVlan(skb.protocol)) return VLAN_TCI_UNKNOWN
  const at = macOffset(skb) + 14
  if (skbHeadlen(skb) - at < 4) return 0
  return skb.env.mem.dv.getUint16(((skb.data + at) | 0) >>> 0)
}

const macOffset = (skb: SkBuff): number => (skb.head + skb.macHeader - skb.data) | 0

/** Models `vlan_get_protocol_dgram` for cooked sockets: the protocol behind the tags. */
export function protocolShown(po: PacketSock, skb: SkBuff): number {
  let proto = skb.protocol
  if (!po.cooked || !isVlan(proto) || !po.env.socks.profile.features.packetDgramVlan) return proto
  let at = macOffset(skb) + 14
  for (let depth = 0; isVlan(proto); depth++) {
    if (depth === 8 || skbHeadlen(skb) - at < 4) return 0
    proto = skb.env.mem.dv.getUint16(((skb.data + at + 2) | 0) >>> 0)
    at += 4
  }
  return proto
}
