/** The answer to a SYN: from a request, or from a socket whose own SYN crossed the peer's. */
import { type Cpu, ERRNO, type Gfp } from '@netmem/base'
import {
  allocSkb,
  type SkBuff,
  setGsoSegs,
  setGsoSize,
  skbCloned,
  skbCopy,
  skbHeaderRelease,
  skbPeek,
  skbPush,
  skbQueueHead,
  skbReserve,
  skbResetTransportHeader,
} from '@netmem/skbuff'
import { AF_INET6, type Sock, skMemCharge, skWmemQueuedAdd } from '@netmem/sockmem'
import type { RequestSock } from './request-sock.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpSynOptionsBytes, tcpWriteSynOptions } from './tcp-options.js'
import { tcpTransmitSkb } from './tcp-output.js'
import { tcpRtxQueueUnlinkAndFree } from './tcp-queue.js'
import { setBe16, setBe32, TCP_HEADER_BYTES, TCPHDR_ACK, TCPHDR_SYN, tcpFlags } from './tcp-skb.js'
import { tcpSk } from './tcp-sock.js'
import { tcpSpendRequest } from './tcp-time.js'

/** Models `tcp_make_synack` and `tcp_v4_send_synack` (net/ipv4/tcp_output.c). @returns 0 or a negative errno. */
export function tcpSendRequestSynack(cpu: Cpu, req: RequestSock): number {
  const { env, listener, key } = req
  const dst = env.ip.routeTo(listener.net, key.family, key.raddr, key.raddr6, listener.boundDevIf)
  if (dst === null) return -ERRNO.EHOSTUNREACH
  const skb = allocSkb(env.skbs, cpu, env.maxTcpHeader, env.mem.gfp.GFP_ATOMIC as Gfp)
  if (skb === null) return -ERRNO.ENOMEM
  skbReserve(skb, env.maxTcpHeader)
  tcpSpendRequest(env)
  const us = env.softNs / 1000 + 1e6
  if (req.sntSynackUs === 0) req.sntSynackUs = Math.floor(us) | 0
  buildSynack(req, skb, env.ip.advmssOf(dst), Math.floor(us / 1000))
  incStats(listener, MIB.OutSegs)
  const rc =
    key.family === AF_INET6
      ? env.ip.xmit6(cpu, listener.net, skb, dst, key.laddr6, key.raddr6)
      : env.ip.xmit4(cpu, listener.net, skb, dst, key.laddr, key.raddr, 64, 0, 0)
  return rc > 0 ? (rc === 2 ? 0 : -ERRNO.ENOBUFS) : rc
}

function buildSynack(req: RequestSock, skb: SkBuff, advmss: number, nowMs: number): void {
  const { env, key, listener } = req
  const userMss = tcpSk(listener).rx.userMss
  const mss = userMss !== 0 && userMss < advmss ? userMss : advmss
  const wscale = req.wscaleOk !== 0 ? req.rcvWscale : -1
  const ts = req.tstampOk !== 0
  const bytes = TCP_HEADER_BYTES + tcpSynOptionsBytes(req.sackOk !== 0, ts, wscale)
  const th = skbPush(skb, bytes) >>> 0
  skbResetTransportHeader(skb)
  const { u8 } = skb.env
  u8.fill(0, th, th + bytes)
  setBe16(u8, th, key.lport)
  setBe16(u8, th + 2, key.rport)
  setBe32(u8, th + 4, req.sntIsn)
  setBe32(u8, th + 8, req.rcvNxt)
  u8[th + 12] = (bytes >> 2) << 4
  u8[th + 13] = TCPHDR_SYN | TCPHDR_ACK
  setBe16(u8, th + 14, Math.min(req.rcvWnd, 0xffff))
  tcpWriteSynOptions(u8, th, mss, req.sackOk !== 0, ts, (nowMs + req.tsOff) | 0, req.tsRecent, wscale)
  if (key.family === AF_INET6) env.ip.partialCheck6(skb, key.laddr6, key.raddr6)
  else env.ip.partialCheck4(skb, key.laddr, key.raddr)
  setGsoSize(skb, 0)
  setGsoSegs(skb, 0)
}

/** Models `tcp_send_synack` (net/ipv4/tcp_output.c): the SYN in the queue becomes a SYN-ACK. */
export function tcpSendSynack(cpu: Cpu, sk: Sock): number {
  const tp = tcpSk(sk)
  const gfp = tp.env.mem.gfp.GFP_ATOMIC as Gfp
  let skb = skbPeek(tp.rtxQueue)
  if (skb === null || (tcpFlags(skb) & TCPHDR_SYN) === 0) {
    sk.env.trace.warn?.('tcp_send_synack', 'wrong queue state')
    return -ERRNO.EINVAL
  }
  if ((tcpFlags(skb) & TCPHDR_ACK) === 0) {
    if (skbCloned(skb)) {
      const own = skbCopy(cpu, skb, gfp)
      if (own === null) return -ERRNO.ENOMEM
      own.cb0 = skb.cb0
      own.cb1 = skb.cb1
      own.cb2 = skb.cb2
      own.cb3 = skb.cb3
      tcpRtxQueueUnlinkAndFree(cpu, sk, skb, 'tcp_send_synack')
      skbHeaderRelease(own)
      skbQueueHead(tp.rtxQueue, own)
      skWmemQueuedAdd(sk, own.truesize)
      skMemCharge(sk, own.truesize)
      if (tp.highestSack !== 0) tp.highestSack = own.id
      skb = own
    }
    skb.cb2 |= TCPHDR_ACK
  }
  return tcpTransmitSkb(cpu, sk, skb, true, gfp)
}
