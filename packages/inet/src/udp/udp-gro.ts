/** Who would get a datagram that GRO could merge: only sockets that asked for UDP_GRO can take more than one at once. */
import type { SkBuff } from '@netmem/skbuff'
import { readIpv6Addr } from '../ip6/ipv6-header.js'
import type { Udp } from './udp-env.js'
import { udpSk } from './udp-sock.js'
import { udp4LibLookup, udp6LibLookup } from './udp-table.js'

/**
 * Models `udp4_gro_lookup_skb` and `udp6_gro_lookup_skb`.
 *
 * @param network byte offset of the IP header in memory. @param transport that of the UDP header.
 * @returns 0 for no socket, 1 for one that wants datagrams one by one, 2 for one with UDP_GRO.
 */
export function udpGroLookup(udp: Udp, skb: SkBuff, network: number, transport: number): number {
  const { env } = udp
  const { dv, u8 } = env.mem
  const { ns } = env.devs.devices[skb.dev] as { ns: number }
  const sport = dv.getUint16(transport)
  const dport = dv.getUint16(transport + 2)
  let sk = null
  if (u8[network] >> 4 === 4)
    sk = udp4LibLookup(env, udp.table, ns, dv.getInt32(network + 12), sport, dv.getInt32(network + 16), dport, skb.dev)
  else {
    const { saddr, daddr } = env.scratch6
    readIpv6Addr(env.mem, network + 8, saddr)
    readIpv6Addr(env.mem, network + 24, daddr)
    sk = udp6LibLookup(env, udp.table, ns, saddr, sport, daddr, dport, skb.dev)
  }
  return sk === null ? 0 : udpSk(sk).groEnabled !== 0 ? 2 : 1
}
