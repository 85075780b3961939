/**
 * The way in to IPv4: header checks, the route, reassembly, and the protocol above.
 */
import type { Cpu } from '@netmem/base'
import {
  kfreeSkb,
  PACKET_OTHERHOST,
  pskbMayPull,
  pskbTrimRcsum,
  type SkBuff,
  type SkbDropReason,
  skbOrphan,
  skbOrphanFragsRx,
  skbPullUnchecked,
  skbShareCheck,
  skbZcopy,
} from '@netmem/skbuff'
import { mibIndex } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import { icmpSendProtUnreach } from '../icmp-slots.js'
import type { InetEnv } from '../inet-env.js'
import type { InetNet } from '../inet-net.js'
import { rawLocalDeliver } from '../raw/raw-deliver.js'
import { fibLookup } from '../route.js'
import { ipDefrag } from './ip-fragment.js'
import { IP_MF, IP_OFFSET, ipFastCsum, ipv4IsMulticast } from './ip-header.js'

const IP_IN_RECEIVES = mibIndex('Ip.InReceives')
const IP_IN_HDR_ERRORS = mibIndex('Ip.InHdrErrors')
const IP_IN_ADDR_ERRORS = mibIndex('Ip.InAddrErrors')
const IP_IN_DELIVERS = mibIndex('Ip.InDelivers')
const IP_IN_DISCARDS = mibIndex('Ip.InDiscards')
const IP_IN_UNKNOWN_PROTOS = mibIndex('Ip.InUnknownProtos')
const IP_IN_OCTETS = mibIndex('IpExt.InOctets')
const IP_IN_TRUNCATED = mibIndex('IpExt.InTruncatedPkts')
const IP_IN_CSUM_ERRORS = mibIndex('IpExt.InCsumErrors')
const IP_IN_NO_ECT = mibIndex('IpExt.InNoECTPkts')
const NET_RX_DROP = 1

// Hot path.

/**
 * Models `ip_rcv` (net/ipv4/ip_input.c). Takes the skb, `data` at the IP header.
 *
 * Shaped for speed: a whole and healthy packet for this machine, with the shortest header and no second holder, goes
 * straight through here, its header read once in five words; nothing was touched when it turns out to be another
 * kind. Benchmark: `rx.64B`.
 */
export function ipRcv(env: InetEnv, cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
  if (skb.users !== 1 || (skb.refdst | skb.destructor | env.rawSockets) !== 0 || skb.len - skb.dataLen < 20)
    return ipRcvCore(env, cpu, skb, dev)
  const { dv } = env.mem
  const iph = skb.data >>> 0
  const first = dv.getInt32(iph)
  const second = dv.getInt32(iph + 4)
  const third = dv.getInt32(iph + 8)
  const saddr = dv.getInt32(iph + 12)
  const daddr = dv.getInt32(iph + 16)
  // The checksum in the wire's byte order: right when all half words sum up to all ones.
  let sum = (first >>> 16) + (first & 0xffff) + (second >>> 16) + (second & 0xffff) + (third >>> 16) + (third & 0xffff)
  sum += (saddr >>> 16) + (saddr & 0xffff) + (daddr >>> 16) + (daddr & 0xffff)
  sum = (sum & 0xffff) + (sum >>> 16)
  const len = first & 0xffff
  if (
    first >>> 24 !== 0x45 ||
    len !== skb.len ||
    sum !== 0xffff ||
    (second & (IP_MF | IP_OFFSET)) !== 0 ||
    skb.pktType === PACKET_OTHERHOST ||
    (skb.dataLen !== 0 && skbZcopy(skb) !== 0)
  )
    return ipRcvCore(env, cpu, skb, dev)
  const net = env.netOfDev(dev)
  const route = fibLookup(net, daddr, 0)
  const handler = env.protos[(third >>> 16) & 255]
  if (route === null || !route.dst.local || handler === null) return ipRcvCore(env, cpu, skb, dev)
  const { mib } = net.net
  mib[IP_IN_RECEIVES] += 1
  mib[IP_IN_OCTETS] += len
  mib[IP_IN_NO_ECT + ecnCounter((first >>> 16) & 3)] += 1
  skb.refdst = route.dst.id
  skb.transportHeader = skb.networkHeader + 20
  skb.data = (skb.data + 20) as typeof skb.data
  skb.len = len - 20
  const ret = handler.handler(cpu, skb)
  if (ret < 0) return ipProtocolDeliver(env, cpu, net, skb, -ret)
  mib[IP_IN_DELIVERS] += 1
  return 0
}

// Every other packet.

/** Models `ip_rcv_core` (net/ipv4/ip_input.c). */
function ipRcvCore(env: InetEnv, cpu: Cpu, packet: SkBuff, dev: NetDevice): number {
  if (packet.pktType === PACKET_OTHERHOST) {
    kfreeSkb(cpu, packet, 'OTHERHOST', 'ip_rcv_core')
    return NET_RX_DROP
  }
  const net = env.netOfDev(dev)
  const { mib } = net.net
  mib[IP_IN_RECEIVES] += 1
  mib[IP_IN_OCTETS] += packet.len
  let skb = packet
  if (skb.users !== 1) {
    const own = skbShareCheck(cpu, skb, env.mem.gfp.GFP_ATOMIC)
    if (own === null) return NET_RX_DROP
    skb = own
  }
  if (!pskbMayPull(cpu, skb, 20)) return drop(cpu, net, skb, 'IP_INHDR', IP_IN_HDR_ERRORS)
  const { mem } = env
  let iph = skb.data >>> 0
  const ihl = mem.u8[iph] & 15
  if (mem.u8[iph] >> 4 !== 4 || ihl < 5) return drop(cpu, net, skb, 'IP_INHDR', IP_IN_HDR_ERRORS)
  mib[IP_IN_NO_ECT + ecnCounter(mem.u8[iph + 1] & 3)] += 1
  if (!pskbMayPull(cpu, skb, ihl * 4)) return drop(cpu, net, skb, 'IP_INHDR', IP_IN_HDR_ERRORS)
  iph = skb.data >>> 0
  if (ipFastCsum(mem, iph, ihl) !== 0) {
    mib[IP_IN_CSUM_ERRORS] += 1
    return drop(cpu, net, skb, 'IP_CSUM', IP_IN_HDR_ERRORS)
  }
  const len = mem.dv.getUint16(iph + 2)
  if (skb.len < len) {
    mib[IP_IN_TRUNCATED] += 1
    return drop(cpu, net, skb, 'PKT_TOO_SMALL', -1)
  }
  if (len < ihl * 4) return drop(cpu, net, skb, 'IP_INHDR', IP_IN_HDR_ERRORS)
  if (len < skb.len && pskbTrimRcsum(cpu, skb, len) !== 0) return drop(cpu, net, skb, 'NOT_SPECIFIED', -1)
  skb.transportHeader = skb.networkHeader + ihl * 4
  // Whoever sent it inside this machine (veth, TUN) is charged no longer.
  if (skb.destructor !== 0) skbOrphan(cpu, skb)
  return ipRcvFinish(env, cpu, net, skb, dev)
}

/** Models `ip_rcv_finish`: the route, unless the packet came round through loopback and still has one. */
function ipRcvFinish(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, dev: NetDevice): number {
  if (skb.refdst === 0) {
    const daddr = env.mem.dv.getInt32((skb.data >>> 0) + 16)
    const route = fibLookup(net, daddr, 0)
    if (route === null || !route.dst.local) {
      if (!ipv4IsMulticast(daddr)) return drop(cpu, net, skb, 'IP_INADDRERRORS', IP_IN_ADDR_ERRORS)
      if (net.routes.length === 0) return drop(cpu, net, skb, 'IP_INNOROUTES', -1)
      skb.refdst = net.routes[0].dst.id
    } else skb.refdst = route.dst.id
  }
  return ipLocalDeliver(env, cpu, net, skb, dev)
}

/** Models `ip_local_deliver` (net/ipv4/ip_input.c): fragments wait until they are a whole. */
function ipLocalDeliver(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, dev: NetDevice): number {
  if (
    (env.mem.dv.getUint16((skb.data >>> 0) + 6) & (IP_MF | IP_OFFSET)) !== 0 &&
    ipDefrag(env, cpu, net, skb, dev) !== 0
  )
    return 0
  // Whoever is here may keep the packet for long, so nothing in it may still be user memory.
  if (skbOrphanFragsRx(cpu, skb, env.mem.gfp.GFP_ATOMIC) !== 0) {
    net.net.mib[IP_IN_DISCARDS] += 1
    kfreeSkb(cpu, skb, 'NOMEM', 'ip_local_deliver_finish')
    return 0
  }
  skbPullUnchecked(skb, skb.transportHeader - skb.networkHeader)
  return ipProtocolDeliver(env, cpu, net, skb, env.mem.u8[((skb.head + skb.networkHeader) >>> 0) + 9])
}

/** Models `ip_protocol_deliver_rcu`: raw sockets get a copy, the protocol the packet. */
function ipProtocolDeliver(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, protocol: number): number {
  let next = protocol
  for (;;) {
    const raw = env.rawSockets !== 0 && rawLocalDeliver(env, cpu, net, skb, next)
    const handler = env.protos[next]
    if (handler === null) {
      if (!raw) {
        net.net.mib[IP_IN_UNKNOWN_PROTOS] += 1
        icmpSendProtUnreach(env, cpu, skb)
        kfreeSkb(cpu, skb, 'IP_NOPROTO', 'ip_protocol_deliver_rcu')
      } else {
        net.net.mib[IP_IN_DELIVERS] += 1
        kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_protocol_deliver_rcu')
      }
      return 0
    }
    const ret = handler.handler(cpu, skb)
    if (ret >= 0) {
      net.net.mib[IP_IN_DELIVERS] += 1
      return 0
    }
    next = -ret
  }
}

// Cold path.

/** Counters stand in the order of the two ECN bits: not capable, ECT(1), ECT(0), congestion. */
const ecnCounter = (bits: number): number => bits

function drop(cpu: Cpu, net: InetNet, skb: SkBuff, reason: SkbDropReason, counter: number): number {
  if (counter >= 0) net.net.mib[counter] += 1
  kfreeSkb(cpu, skb, reason, counter === IP_IN_ADDR_ERRORS ? 'ip_rcv_finish_core' : 'ip_rcv_core')
  return NET_RX_DROP
}
