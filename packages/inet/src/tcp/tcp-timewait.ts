/** Segments for a connection whose socket is gone. */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import { TCP_FIN_WAIT2, TCP_TIME_WAIT } from '@netmem/sockmem'
import type { FlowKey } from './inet-hashtables.js'
import { after, before } from './seq.js'
import { MIB } from './tcp-mib.js'
import { inetTwskKill, inetTwskReschedule, type TimewaitSock } from './tcp-minisocks.js'
import { tcpParseOptions } from './tcp-options.js'
import { tcpSendReply } from './tcp-reply.js'
import { TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN, thFlags } from './tcp-skb.js'

/** Models `enum tcp_tw_status`. */
export const TCP_TW_SUCCESS = 0
export const TCP_TW_RST = 1
export const TCP_TW_ACK = 2
export const TCP_TW_SYN = 3

/** Models `tcp_timewait_state_process` (net/ipv4/tcp_minisocks.c). The skb stays the caller's. */
export function tcpTimewaitStateProcess(cpu: Cpu, tw: TimewaitSock, skb: SkBuff): number {
  const { env } = tw
  const th = (skb.head + skb.transportHeader) >>> 0
  const flags = thFlags(env.mem.u8, th)
  const syn = (flags & TCPHDR_SYN) !== 0
  const rst = (flags & TCPHDR_RST) !== 0
  const ack = (flags & TCPHDR_ACK) !== 0
  const opt = env.scratchOptions
  opt.clear()
  opt.sawTstamp = false
  opt.tstampOk = tw.tsRecentStamp !== 0 ? 1 : 0
  tcpParseOptions(env.mem, th, opt, false, tw.tsRecentStamp !== 0, false, false)
  const paws = opt.sawTstamp && tw.tsRecentStamp !== 0 && ((tw.tsRecent - opt.rcvTsval) | 0) > 0
  if (tw.substate === TCP_FIN_WAIT2) return finWait2(cpu, tw, skb, syn, rst, ack, paws, opt.sawTstamp, opt.rcvTsval)
  if (!paws && skb.cb0 === tw.rcvNxt && (skb.cb0 === skb.cb1 || rst)) {
    if (rst) {
      inetTwskKill(cpu, tw, MIB.TWKilled)
      return TCP_TW_SUCCESS
    }
    inetTwskReschedule(tw, env.timewaitLen)
    if (opt.sawTstamp) takeTimestamp(tw, opt.rcvTsval)
    return TCP_TW_SUCCESS
  }
  // A new connection between the same ends, with numbers or times beyond the old one.
  const fresh = after(skb.cb0, tw.rcvNxt) || (opt.sawTstamp && ((tw.tsRecent - opt.rcvTsval) | 0) < 0)
  if (syn && !rst && !ack && !paws && fresh) return TCP_TW_SYN
  if (paws) tw.net.mib[MIB.PAWSEstab]! += 1
  if (!rst) {
    if (paws || ack) inetTwskReschedule(tw, env.timewaitLen)
    return oowRateLimited(tw, MIB.TCPACKSkippedTimeWait) ? TCP_TW_SUCCESS : TCP_TW_ACK
  }
  return TCP_TW_SUCCESS
}

function finWait2(
  cpu: Cpu,
  tw: TimewaitSock,
  skb: SkBuff,
  syn: boolean,
  rst: boolean,
  ack: boolean,
  paws: boolean,
  stamped: boolean,
  tsval: number,
): number {
  const { env } = tw
  const fin = (thFlags(env.mem.u8, (skb.head + skb.transportHeader) >>> 0) & TCPHDR_FIN) !== 0
  const end = (tw.rcvNxt + tw.rcvWnd) | 0
  const inWindow =
    skb.cb0 === tw.rcvNxt ||
    (after(skb.cb1, tw.rcvNxt) && before(skb.cb0, end)) ||
    (skb.cb0 === end && skb.cb0 === skb.cb1)
  if (paws || !inWindow) return oowRateLimited(tw, MIB.TCPACKSkippedFinWait2) ? TCP_TW_SUCCESS : TCP_TW_ACK
  if (rst || (syn && !before(skb.cb0, tw.rcvNxt))) {
    inetTwskKill(cpu, tw, MIB.TWKilled)
    return rst ? TCP_TW_SUCCESS : TCP_TW_RST
  }
  if (!ack || !after(skb.cb1, tw.rcvNxt) || skb.cb1 === skb.cb0) return TCP_TW_SUCCESS
  if (!fin || skb.cb1 !== ((tw.rcvNxt + 1) | 0)) {
    // Data for nobody.
    inetTwskKill(cpu, tw, MIB.TWKilled)
    return TCP_TW_RST
  }
  tw.substate = TCP_TIME_WAIT
  tw.rcvNxt = skb.cb1
  if (stamped) takeTimestamp(tw, tsval)
  inetTwskReschedule(tw, env.timewaitLen)
  return TCP_TW_ACK
}

function takeTimestamp(tw: TimewaitSock, tsval: number): void {
  tw.tsRecent = tsval
  tw.tsRecentStamp = Math.floor(tw.env.clock.nowNs / 1e9) + 1
}

function oowRateLimited(tw: TimewaitSock, counter: number): boolean {
  const now = tw.env.jiffies()
  const elapsed = (now - tw.lastOowAckTime) | 0
  if (tw.lastOowAckTime !== 0 && elapsed >= 0 && elapsed < tw.env.hz / 2) {
    tw.net.mib[counter]! += 1
    return true
  }
  tw.lastOowAckTime = now === 0 ? 1 : now
  return false
}

/** Models `tcp_v4_timewait_ack`. */
export function tcpTimewaitAck(cpu: Cpu, tw: TimewaitSock, key: FlowKey): void {
  const { env } = tw
  const stamped = tw.tsRecentStamp !== 0
  const now = (Math.floor(Math.max(env.softNs, env.clock.nowNs) / 1e6) + 1000 + tw.tsOff) | 0
  tcpSendReply(
    cpu,
    env,
    tw.net,
    key,
    tw.sndNxt,
    tw.rcvNxt,
    TCPHDR_ACK,
    tw.rcvWnd >> tw.rcvWscale,
    stamped,
    now,
    tw.tsRecent,
  )
}
