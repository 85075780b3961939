/** Answers to segments that look forged or stray: challenge ACKs and duplicate ACKs, both rate limited. */
import type { Cpu } from '@netmem/base'
import { gsoSegs, kfreeSkb, type SkBuff, type SkbDropReason } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { tcpDsackSet } from './tcp-dsack.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpSendAck } from './tcp-output.js'
import { TCP_MAX_QUICKACKS, tcpEnterQuickackMode } from './tcp-rcvbuf.js'
import { TCPHDR_SYN, thFlags } from './tcp-skb.js'
import { type TcpSock, tcpIsSack, tcpSk } from './tcp-sock.js'

/** Models `__tcp_oow_rate_limited`: one such answer per half second. */
function tcpOowRateLimitedAt(sk: Sock, tp: TcpSock, counter: number): boolean {
  const now = tp.env.jiffies()
  if (tp.lastOowAckTime !== 0) {
    const elapsed = (now - tp.lastOowAckTime) | 0
    if (elapsed >= 0 && elapsed < (tp.ctl.invalidRatelimit[0]! * tp.env.hz) / 1000) {
      incStats(sk, counter)
      return true
    }
  }
  tp.lastOowAckTime = now === 0 ? 1 : now
  return false
}

/** Models `tcp_oow_rate_limited`: segments with data are always answered. */
export function tcpOowRateLimited(sk: Sock, skb: SkBuff, counter: number): boolean {
  const syn = (thFlags(skb.env.u8, (skb.head + skb.transportHeader) >>> 0) & TCPHDR_SYN) !== 0
  if (skb.cb0 !== skb.cb1 && !syn) return false
  return tcpOowRateLimitedAt(sk, tcpSk(sk), counter)
}

/** Models `tcp_send_challenge_ack` (net/ipv4/tcp_input.c). Differs: without the host-wide limit of a thousand per second. */
export function tcpSendChallengeAck(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (tcpOowRateLimitedAt(sk, tp, MIB.TCPACKSkippedChallenge)) return
  incStats(sk, MIB.TCPChallengeACK)
  tcpSendAck(cpu, sk)
}

/** Models `tcp_send_dupack`: what arrived was not acceptable; tell the peer what is. */
export function tcpSendDupack(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  if (skb.cb1 !== skb.cb0 && before(skb.cb0, tp.rcvNxt)) {
    incStats(sk, MIB.DelayedACKLost)
    tcpEnterQuickackMode(tp, TCP_MAX_QUICKACKS)
    if (tcpIsSack(tp) && tp.ctl.dsack[0] !== 0)
      tcpDsackSet(sk, skb.cb0, after(skb.cb1, tp.rcvNxt) ? tp.rcvNxt : skb.cb1)
  }
  tcpSendAck(cpu, sk)
}

/**
 * Models `tcp_drop_reason` (net/ipv4/tcp_input.c): counts the loss at the socket and frees the packet. Takes the skb.
 *
 * @param location the function that the tracepoint names.
 */
export function tcpDropReason(cpu: Cpu, sk: Sock, skb: SkBuff, reason: SkbDropReason, location: string): void {
  sk.drops += Math.max(1, gsoSegs(skb))
  kfreeSkb(cpu, skb, reason, location, sk.id)
}
