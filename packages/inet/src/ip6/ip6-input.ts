/** The way in to IPv6: header checks, the route, extension headers, the protocol above. */
import type { Cpu } from '@netmem/base'
import {
  kfreeSkb,
  PACKET_OTHERHOST,
  pskbMayPull,
  pskbTrimRcsum,
  type SkBuff,
  type SkbDropReason,
  skbOrphanFragsRx,
  skbShareCheck,
} from '@netmem/skbuff'
import { IPPROTO_FRAGMENT, mibIndex } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import type { InetEnv } from '../inet-env.js'
import type { InetNet } from '../inet-net.js'
import { fib6Lookup } from '../route.js'
import { ipv6FragRcv } from './ip6-reassembly.js'
import { IPV6_HLEN } from './ipv6-header.js'

const IN_RECEIVES = mibIndex('Ip6.InReceives')
const IN_HDR_ERRORS = mibIndex('Ip6.InHdrErrors')
const IN_ADDR_ERRORS = mibIndex('Ip6.InAddrErrors')
const IN_DISCARDS = mibIndex('Ip6.InDiscards')
const IN_DELIVERS = mibIndex('Ip6.InDelivers')
const IN_UNKNOWN_PROTOS = mibIndex('Ip6.InUnknownProtos')
const IN_OCTETS = mibIndex('Ip6.InOctets')
const IN_NO_ECT = mibIndex('Ip6.InNoECTPkts')
const NET_RX_DROP = 1
/** Models `IPV6_MIN_MTU`, in bytes. */
const IPV6_MIN_MTU = 1280

/** Models `ipv6_rcv` and `ip6_rcv_core` (net/ipv6/ip6_input.c). Takes the skb, `data` at the IPv6 header. */
export function ipv6Rcv(env: InetEnv, cpu: Cpu, packet: SkBuff, dev: NetDevice): number {
  if (packet.pktType === PACKET_OTHERHOST) {
    kfreeSkb(cpu, packet, 'OTHERHOST', 'ip6_rcv_core')
    return NET_RX_DROP
  }
  const net = env.netOfDev(dev)
  const { mib } = net.net
  mib[IN_RECEIVES] += 1
  mib[IN_OCTETS] += packet.len
  let skb = packet
  if (skb.users !== 1) {
    const own = skbShareCheck(cpu, skb, env.mem.gfp.GFP_ATOMIC)
    if (own === null) return NET_RX_DROP
    skb = own
  }
  // A device of a smaller MTU has no IPv6 at all.
  if (dev.mtu < IPV6_MIN_MTU) return drop(cpu, net, skb, 'NOT_SPECIFIED', IN_DISCARDS)
  if (net.disableIpv6[0] !== 0) return drop(cpu, net, skb, 'IPV6DISABLED', IN_DISCARDS)
  if (!pskbMayPull(cpu, skb, IPV6_HLEN)) return drop(cpu, net, skb, 'NOT_SPECIFIED', IN_HDR_ERRORS)
  const { mem } = env
  const hdr = skb.data >>> 0
  if (mem.u8[hdr] >> 4 !== 6) return drop(cpu, net, skb, 'UNHANDLED_PROTO', IN_HDR_ERRORS)
  mib[IN_NO_ECT + ((mem.u8[hdr + 1] >> 4) & 3)] += 1
  const len = mem.dv.getUint16(hdr + 4) + IPV6_HLEN
  if (len !== skb.len && len !== IPV6_HLEN) {
    if (len > skb.len) return drop(cpu, net, skb, 'PKT_TOO_SMALL', -1)
    if (pskbTrimRcsum(cpu, skb, len) !== 0) return drop(cpu, net, skb, 'NOT_SPECIFIED', IN_HDR_ERRORS)
  }
  if (skb.refdst === 0) {
    const route = fib6Lookup(net, env.wordsAt(hdr + 24), 0)
    if (route === null || !route.dst.local) return drop(cpu, net, skb, 'IP_INADDRERRORS', IN_ADDR_ERRORS)
    skb.refdst = route.dst.id
  }
  skb.transportHeader = skb.networkHeader + IPV6_HLEN
  // Models `ip6_input_finish`: whoever takes the packet may keep it for long, so none of it may still be user memory.
  if (skbOrphanFragsRx(cpu, skb, env.mem.gfp.GFP_ATOMIC) !== 0) {
    mib[IN_DISCARDS] += 1
    kfreeSkb(cpu, skb, 'NOMEM', 'ip6_input_finish')
    return 0
  }
  return ip6ProtocolDeliver(env, cpu, net, skb, mem.u8[hdr + 6], dev)
}

/** Models `ip6_protocol_deliver_rcu`: header after header until somebody takes the packet. */
function ip6ProtocolDeliver(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, first: number, dev: NetDevice): number {
  let next = first
  for (;;) {
    const offset = (skb.head + skb.transportHeader - skb.data) | 0
    if (!pskbMayPull(cpu, skb, offset)) return drop(cpu, net, skb, 'NOT_SPECIFIED', -1)
    skb.data = (skb.data + offset) as typeof skb.data
    skb.len -= offset
    let ret: number
    if (next === IPPROTO_FRAGMENT) {
      ret = ipv6FragRcv(env, cpu, net, skb, dev)
      if (ret === 0) return 0
    } else {
      const handler = env.protos6[next]
      if (handler === null) {
        net.net.mib[IN_UNKNOWN_PROTOS] += 1
        kfreeSkb(cpu, skb, 'IP_NOPROTO', 'ip6_protocol_deliver_rcu')
        return 0
      }
      ret = handler.handler(cpu, skb)
      if (ret >= 0) {
        net.net.mib[IN_DELIVERS] += 1
        return 0
      }
    }
    next = -ret
  }
}

function drop(cpu: Cpu, net: InetNet, skb: SkBuff, reason: SkbDropReason, counter: number): number {
  if (counter >= 0) net.net.mib[counter] += 1
  kfreeSkb(cpu, skb, reason, 'ip6_rcv_core')
  return NET_RX_DROP
}
