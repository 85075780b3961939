/** Receiving over UDP and IPv6, and ICMPv6 errors about what was sent. */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_PARTIAL,
  CHECKSUM_UNNECESSARY,
  kfreeSkb,
  pskbMayPull,
  pskbTrimRcsum,
  type SkBuff,
} from '@netmem/skbuff'
import { ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, icmpSlotsOf } from '../icmp-slots.js'
import { csumIpv6Nofold, readIpv6Addr } from '../ip6/ipv6-header.js'
import type { Udp } from './udp-env.js'
import { reportError } from './udp-error.js'
import { UDP6_MIB, udpCsumInit, udpDrop, udpLibChecksumComplete, udpQueueRcvSkb } from './udp-receive.js'
import { udpSk } from './udp-sock.js'
import { udp6LibLookup } from './udp-table.js'

const UDP_HLEN = 8

/** Models `__udp6_lib_rcv` (net/ipv6/udp.c). Takes the skb, `data` at the UDP header. */
export function udpv6Rcv(udp: Udp, cpu: Cpu, skb: SkBuff): number {
  const { env } = udp
  const { mem, scratch6 } = env
  const { ns } = env.devs.devices[skb.dev] as { ns: number }
  const { net } = env.nets[ns]
  if (!pskbMayPull(cpu, skb, UDP_HLEN)) return udpDrop(cpu, net, UDP6_MIB, skb, 'NOT_SPECIFIED')
  const uh = skb.data >>> 0
  let ulen = mem.dv.getUint16(uh + 4)
  // Zero stands for a length that the field cannot hold.
  if (ulen === 0) ulen = skb.len
  if (ulen > skb.len || ulen < UDP_HLEN) return udpDrop(cpu, net, UDP6_MIB, skb, 'PKT_TOO_SMALL')
  if (ulen < skb.len && pskbTrimRcsum(cpu, skb, ulen) !== 0) return udpDrop(cpu, net, UDP6_MIB, skb, 'PKT_TOO_SMALL')
  const hdr = (skb.head + skb.networkHeader) >>> 0
  readIpv6Addr(mem, hdr + 8, scratch6.saddr)
  readIpv6Addr(mem, hdr + 24, scratch6.daddr)
  const unchecked = mem.u16[(uh + 6) >>> 1] === 0
  if (unchecked) skb.ipSummed = CHECKSUM_UNNECESSARY
  else if (skb.ipSummed !== CHECKSUM_PARTIAL && skb.ipSummed !== CHECKSUM_UNNECESSARY)
    if (!udpCsumInit(skb, csumIpv6Nofold(scratch6.saddr, scratch6.daddr, skb.len, 17))) {
      net.mib[UDP6_MIB.csumErrors] += 1
      return udpDrop(cpu, net, UDP6_MIB, skb, 'UDP_CSUM')
    }
  const sport = mem.dv.getUint16(uh)
  const dport = mem.dv.getUint16(uh + 2)
  const sk = udp6LibLookup(env, udp.table, ns, scratch6.saddr, sport, scratch6.daddr, dport, skb.skbIif)
  if (sk !== null) {
    // IPv6 has no header checksum to fall back on: without one of its own only who said so takes the packet.
    if (unchecked && udpSk(sk).noCheck6Rx === 0) {
      net.mib[UDP6_MIB.csumErrors] += 1
      return udpDrop(cpu, net, UDP6_MIB, skb, 'UDP_CSUM')
    }
    udpQueueRcvSkb(udp, cpu, sk, skb, UDP6_MIB)
    return 0
  }
  if (udpLibChecksumComplete(skb)) {
    net.mib[UDP6_MIB.csumErrors] += 1
    return udpDrop(cpu, net, UDP6_MIB, skb, 'UDP_CSUM')
  }
  net.mib[UDP6_MIB.noPorts] += 1
  icmpSlotsOf(env).icmp6Send(cpu, skb, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0)
  kfreeSkb(cpu, skb, 'NO_SOCKET', '__udp6_lib_rcv')
  return 0
}

/** Models `__udp6_lib_err`. `data` is at the quoted IPv6 header. */
export function udpv6Err(udp: Udp, cpu: Cpu, skb: SkBuff, type: number, code: number, info: number): void {
  const { env } = udp
  const { mem, scratch6 } = env
  const hdr = skb.data >>> 0
  const uh = hdr + 40
  readIpv6Addr(mem, hdr + 8, scratch6.saddr)
  readIpv6Addr(mem, hdr + 24, scratch6.daddr)
  const { ns } = env.devs.devices[skb.dev] as { ns: number }
  const sk = udp6LibLookup(
    env,
    udp.table,
    ns,
    scratch6.daddr,
    mem.dv.getUint16(uh + 2),
    scratch6.saddr,
    mem.dv.getUint16(uh),
    skb.skbIif,
  )
  if (sk === null || type !== ICMPV6_DEST_UNREACH) return
  const final = code === ICMPV6_PORT_UNREACH || code === 1
  const errno = code === ICMPV6_PORT_UNREACH ? ERRNO.ECONNREFUSED : code === 1 ? ERRNO.EACCES : ERRNO.EHOSTUNREACH
  reportError(cpu, sk, skb, errno, final, type, code, info, 48)
}
