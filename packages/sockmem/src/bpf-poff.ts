/** Where the payload of a packet begins, as far as its headers can be followed. */
import { type SkBuff, skbHeadlen } from '@netmem/skbuff'

const ETH_P_IP = 0x0800
const ETH_P_IPV6 = 0x86dd
const IPPROTO_ICMP = 1
const IPPROTO_TCP = 6
const IPPROTO_UDP = 17
const IPPROTO_ICMPV6 = 58
const IP_HLEN = 20
const IP6_HLEN = 40

/**
 * Models `skb_get_poff` and `__skb_get_poff` (net/core/flow_dissector.c) for IPv4 and IPv6 with TCP, UDP and ICMP.
 *
 * @returns bytes from `data`; 0 for a packet that the dissector does not know.
 */
export function skbGetPoff(skb: SkBuff): number {
  const { dv } = skb.env.mem
  const net = (skb.head + skb.networkHeader - skb.data) | 0
  const have = skbHeadlen(skb)
  const at = (skb.data + net) >>> 0
  let proto: number
  let thoff: number
  if (skb.protocol === ETH_P_IP && have >= net + IP_HLEN) {
    const ihl = (dv.getUint8(at) & 15) * 4
    if (ihl < IP_HLEN) return 0
    proto = dv.getUint8(at + 9)
    thoff = net + ihl
    if ((dv.getUint16(at + 6) & 0x1fff) !== 0) return Math.min(thoff, skb.len)
  } else if (skb.protocol === ETH_P_IPV6 && have >= net + IP6_HLEN) {
    proto = dv.getUint8(at + 6)
    thoff = net + IP6_HLEN
  } else return 0
  return Math.min(thoff + transportBytes(skb, proto, thoff), skb.len)
}

function transportBytes(skb: SkBuff, proto: number, thoff: number): number {
  switch (proto) {
    case IPPROTO_TCP: {
      const at = thoff + 12
      return skbHeadlen(skb) > at ? Math.max(20, (skb.env.mem.dv.getUint8((skb.data + at) >>> 0) & 0xf0) >> 2) : 0
    }
    case IPPROTO_UDP:
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return 8
    default:
      return 0
  }
}
