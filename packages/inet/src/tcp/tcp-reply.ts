/** Segments that no socket sends: the reset for a stray segment, and the ACK of a time-wait sock. */
import type { Cpu, Gfp } from '@netmem/base'
import {
  allocSkb,
  type SkBuff,
  setGsoSegs,
  setGsoSize,
  skbPush,
  skbReserve,
  skbResetTransportHeader,
} from '@netmem/skbuff'
import { AF_INET6, type NetNs } from '@netmem/sockmem'
import type { FlowKey } from './inet-hashtables.js'
import type { TcpEnv } from './tcp-env.js'
import { MIB } from './tcp-mib.js'
import { TCPOLEN_TSTAMP_ALIGNED, tcpWriteTimestamp } from './tcp-options.js'
import {
  setBe16,
  setBe32,
  TCP_HEADER_BYTES,
  TCPHDR_ACK,
  TCPHDR_FIN,
  TCPHDR_RST,
  TCPHDR_SYN,
  thAckSeq,
  thBytes,
  thFlags,
  thSeq,
} from './tcp-skb.js'

const IPV4_HEADER_BYTES = 20
/** Models `LL_RESERVED_SPACE` of Ethernet-like devices. */
const LINK_ROOM = 16

/**
 * Models `ip_send_unicast_reply` and `tcp_v6_send_response`: a segment of headers only, sent to where `key` came from.
 *
 * @param tsval, tsecr written when `ts`.
 */
export function tcpSendReply(
  cpu: Cpu,
  env: TcpEnv,
  net: NetNs,
  key: FlowKey,
  seq: number,
  ack: number,
  flags: number,
  window: number,
  ts: boolean,
  tsval: number,
  tsecr: number,
): void {
  const dst = env.ip.routeTo(net, key.family, key.raddr, key.raddr6, 0)
  if (dst === null) return
  const bytes = TCP_HEADER_BYTES + (ts ? TCPOLEN_TSTAMP_ALIGNED : 0)
  // IPv4 replies are corked datagrams of the kernel's own socket, with just the room that one needs.
  const room = key.family === AF_INET6 ? env.maxTcpHeader : LINK_ROOM + IPV4_HEADER_BYTES + bytes
  const skb = allocSkb(env.skbs, cpu, key.family === AF_INET6 ? room : room + 15, env.mem.gfp.GFP_ATOMIC as Gfp)
  if (skb === null) return
  skbReserve(skb, room)
  const th = skbPush(skb, bytes) >>> 0
  skbResetTransportHeader(skb)
  const { u8 } = env.mem
  setBe16(u8, th, key.lport)
  setBe16(u8, th + 2, key.rport)
  setBe32(u8, th + 4, seq)
  setBe32(u8, th + 8, ack)
  u8[th + 12] = (bytes >> 2) << 4
  u8[th + 13] = flags
  setBe16(u8, th + 14, window)
  setBe32(u8, th + 16, 0)
  if (ts) tcpWriteTimestamp(u8, th + TCP_HEADER_BYTES, tsval, tsecr)
  setGsoSize(skb, 0)
  setGsoSegs(skb, 0)
  net.mib[MIB.OutSegs]! += 1
  if (key.family === AF_INET6) {
    env.ip.partialCheck6(skb, key.laddr6, key.raddr6)
    env.ip.xmit6(cpu, net, skb, dst, key.laddr6, key.raddr6)
  } else {
    env.ip.partialCheck4(skb, key.laddr, key.raddr)
    env.ip.xmit4(cpu, net, skb, dst, key.laddr, key.raddr, 64, 0, 0)
  }
}

/** Models `tcp_v4_send_reset` (net/ipv4/tcp_ipv4.c): never in answer to a reset. @param skb `data` at the TCP header, or pulled past it. */
export function tcpSendReset(cpu: Cpu, env: TcpEnv, net: NetNs, key: FlowKey, skb: SkBuff): void {
  const { u8 } = env.mem
  const th = (skb.head + skb.transportHeader) >>> 0
  const flags = thFlags(u8, th)
  if ((flags & TCPHDR_RST) !== 0) return
  net.mib[MIB.OutRsts]! += 1
  if ((flags & TCPHDR_ACK) !== 0) {
    tcpSendReply(cpu, env, net, key, thAckSeq(u8, th), 0, TCPHDR_RST, 0, false, 0, 0)
    return
  }
  const syn = (flags & TCPHDR_SYN) !== 0 ? 1 : 0
  const fin = (flags & TCPHDR_FIN) !== 0 ? 1 : 0
  const len = skb.len - (((th + thBytes(u8, th)) | 0) - (skb.data | 0))
  const ack = (thSeq(u8, th) + syn + fin + len) | 0
  tcpSendReply(cpu, env, net, key, 0, ack, TCPHDR_RST | TCPHDR_ACK, 0, false, 0, 0)
}
