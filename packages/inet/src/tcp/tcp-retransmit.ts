/** Sending again: one packet, the packets marked lost, and the tail loss probe. */
import { type Cpu, ERRNO, type Gfp } from '@netmem/base'
import { SKB_FCLONE_ORIG, type SkBuff, skbPeek, skbPeekTail, skbUncloneKeeptruesize } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { before } from './seq.js'
import { tcpAdjustPcount, tcpFragmentRtx, tcpRetransTryCollapse, tcpTrimHead } from './tcp-fragment.js'
import { addStats, incStats, MIB } from './tcp-mib.js'
import { tcpCurrentMss } from './tcp-mss.js'
import { tcpTransmitSkb } from './tcp-output.js'
import {
  TCPCB_EVER_RETRANS,
  TCPCB_LOST,
  TCPCB_RETRANS,
  TCPCB_SACKED_ACKED,
  TCPCB_SACKED_RETRANS,
  TCPHDR_SYN,
  tcpFlags,
  tcpSetSkbTsoSegs,
  tcpSkbPcount,
} from './tcp-skb.js'
import {
  BYTES_RETRANS,
  ICSK_TIME_LOSS_PROBE,
  ICSK_TIME_REO_TIMEOUT,
  ICSK_TIME_RETRANS,
  TCP_CA_CWR,
  TCP_CA_LOSS,
  TCP_CA_OPEN,
  TCP_NAGLE_OFF,
  type TcpSock,
  TSQ_THROTTLED,
  tcpInCwndReduction,
  tcpIsSack,
  tcpPacketsInFlight,
  tcpSk,
  tcpWndEnd,
} from './tcp-sock.js'
import { jiffiesToUsecs, usecsToJiffies } from './tcp-time.js'
import { tcpRearmRto, tcpRtoDeltaUs } from './tcp-timer.js'
import { tcpResetXmitTimer } from './tcp-timer-arm.js'
import { tcpPacingCheck, tcpSendHead, tcpSmallQueueCheck, tcpSndWndTest, tcpTsoSegs, tcpWriteXmit } from './tcp-xmit.js'

/** Models `TCP_TIMEOUT_MIN_US`: in time, not in ticks, which would be far too long where a tick is 4 ms. */
export const TCP_TIMEOUT_MIN_US = 2000

/** Models `skb_fclone_busy`: the pair's second half is a packet of this socket that is still below us. */
const skbFcloneBusy = (skb: SkBuff, sockId: number): boolean =>
  skb.fclone === SKB_FCLONE_ORIG && skb.fcloneRef > 1 && skb.twin!.sk === sockId

/** Models `skb_still_in_host_queue`: the latest copy has not left the machine, so sending another is no use. */
function skbStillInHostQueue(sk: Sock, skb: SkBuff): boolean {
  if (!skbFcloneBusy(skb, sk.id)) return false
  tcpSk(sk).tsqFlags |= TSQ_THROTTLED
  incStats(sk, MIB.TCPSpuriousRtxHostQueues)
  return true
}

/** Models `__tcp_retransmit_skb` (net/ipv4/tcp_output.c). @returns 0 or a negative errno. */
export function tcpRetransmitSkbOnce(cpu: Cpu, sk: Sock, skb: SkBuff, segs: number): number {
  const tp = tcpSk(sk)
  const err = retransmit(cpu, sk, tp, skb, segs)
  const trace = sk.env.trace
  if (trace.tcpRetransmitSkb !== null) trace.tcpRetransmitSkb(sk.id, skb.addr)
  return err
}

function retransmit(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, segs: number): number {
  const atomic = tp.env.mem.gfp.GFP_ATOMIC as Gfp
  if (tp.mtupProbeSize !== 0) tp.mtupProbeSize = 0
  if (skbStillInHostQueue(sk, skb)) return -ERRNO.EBUSY
  if (before(skb.cb0, tp.sndUna) && (tcpFlags(skb) & TCPHDR_SYN) !== 0) {
    // A SYN that carried data: the SYN itself has arrived.
    skb.cb2 &= ~TCPHDR_SYN
    skb.cb0 = (skb.cb0 + 1) | 0
  }
  if (before(skb.cb0, tp.sndUna)) {
    if (before(skb.cb1, tp.sndUna)) {
      sk.env.trace.warn?.('__tcp_retransmit_skb', 'retransmitting what was acknowledged')
      return -ERRNO.EINVAL
    }
    if (tcpTrimHead(cpu, sk, skb, (tp.sndUna - skb.cb0) | 0) !== 0) return -ERRNO.ENOMEM
  }
  const mss = tcpCurrentMss(sk)
  let avail = (tcpWndEnd(tp) - skb.cb0) | 0
  if (avail <= 0) {
    // The peer shrank its window. Only the first packet is sent into a shut one: it serves as the probe.
    if (skb.cb0 !== tp.sndUna) return -ERRNO.EAGAIN
    avail = mss
  }
  let len = mss * segs
  if (len > avail) {
    len = avail - (avail % mss)
    if (len === 0) len = avail
  }
  if (skb.len > len) {
    if (tcpFragmentRtx(cpu, sk, skb, len, mss, atomic) !== 0) return -ERRNO.ENOMEM
  } else {
    if (skbUncloneKeeptruesize(cpu, skb, atomic) !== 0) return -ERRNO.ENOMEM
    const diff = tcpSkbPcount(skb) - tcpSetSkbTsoSegs(skb, mss)
    if (diff !== 0) tcpAdjustPcount(tp, skb, diff)
    avail = Math.min(avail, mss)
    if (skb.len < avail) tcpRetransTryCollapse(cpu, sk, skb, avail)
  }
  const count = tcpSkbPcount(skb)
  addStats(sk, MIB.RetransSegs, count)
  if ((tcpFlags(skb) & TCPHDR_SYN) !== 0) incStats(sk, MIB.TCPSynRetrans)
  tp.totalRetrans += count
  tp.counts[BYTES_RETRANS]! += skb.len
  const err = tcpTransmitSkb(cpu, sk, skb, true, atomic)
  if (err !== 0 && err !== -ERRNO.EBUSY) addStats(sk, MIB.TCPRetransFail, count)
  skb.cb2 |= TCPCB_EVER_RETRANS
  return err
}

/** Models `tcp_retransmit_skb`: counts it as well. */
export function tcpRetransmitSkb(cpu: Cpu, sk: Sock, skb: SkBuff, segs: number): number {
  const tp = tcpSk(sk)
  const err = tcpRetransmitSkbOnce(cpu, sk, skb, segs)
  if (err === 0) {
    skb.cb2 |= TCPCB_RETRANS
    tp.retransOut += tcpSkbPcount(skb)
  }
  if (tp.retransStamp === 0) tp.retransStamp = tp.tsStamp
  if (tp.undoRetrans < 0) tp.undoRetrans = 0
  tp.undoRetrans += tcpSkbPcount(skb)
  return err
}

/** Models `tcp_xmit_retransmit_queue` (net/ipv4/tcp_output.c): packets marked lost, as far as the window goes. */
export function tcpXmitRetransmitQueue(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.packetsOut === 0) return
  const skbs = tp.env.skbs.skbs
  const head = skbPeek(tp.rtxQueue)
  let rearm = false
  let hole = false
  const maxSegs = tcpTsoSegs(tp, tcpCurrentMss(sk))
  let skb: SkBuff | null = tp.retransmitSkbHint !== 0 ? skbs[tp.retransmitSkbHint]! : head
  for (; skb !== null; skb = skb.next === 0 ? null : skbs[skb.next]!) {
    if (tcpPacingCheck(tp)) break
    if (!hole) tp.retransmitSkbHint = skb.id
    let segs = tp.sndCwnd - tcpPacketsInFlight(tp)
    if (segs <= 0) break
    segs = Math.min(segs, maxSegs)
    if (tp.retransOut >= tp.lostOut) break
    if ((skb.cb2 & TCPCB_LOST) === 0) {
      if ((skb.cb2 & (TCPCB_SACKED_RETRANS | TCPCB_SACKED_ACKED)) === 0) hole = true
      continue
    }
    if ((skb.cb2 & (TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS)) !== 0) continue
    if (tcpSmallQueueCheck(sk, tp, skb, 1)) break
    if (tcpRetransmitSkb(cpu, sk, skb, segs) !== 0) break
    addStats(sk, tp.caState !== TCP_CA_LOSS ? MIB.TCPFastRetrans : MIB.TCPSlowStartRetrans, tcpSkbPcount(skb))
    if (tcpInCwndReduction(tp)) tp.prrOut += tcpSkbPcount(skb)
    if (skb === head && tp.pending !== ICSK_TIME_REO_TIMEOUT) rearm = true
  }
  if (rearm) tcpResetXmitTimer(tp, ICSK_TIME_RETRANS, tp.rto)
}

// The tail loss probe: if nothing comes back for two round trips, ask with one packet.

/** Models `tcp_schedule_loss_probe` (net/ipv4/tcp_output.c). @returns false when a probe makes no sense now. */
export function tcpScheduleLossProbe(tp: TcpSock, advancingRto: boolean): boolean {
  const early = tp.ctl.earlyRetrans[0]!
  if ((early !== 3 && early !== 4) || tp.packetsOut === 0 || !tcpIsSack(tp)) return false
  if (tp.caState !== TCP_CA_OPEN && tp.caState !== TCP_CA_CWR) return false
  const { hz } = tp.env
  let timeout = tp.env.timeoutInit
  if (tp.srttUs !== 0) {
    let us = tp.srttUs >>> 2
    // A lone packet's ACK may be delayed at the other end.
    us += tp.packetsOut === 1 ? tp.ctl.rtoMinUs[0]! : TCP_TIMEOUT_MIN_US
    timeout = usecsToJiffies(us, hz)
  }
  const rtoUs = advancingRto ? jiffiesToUsecs(tp.rto, hz) : tcpRtoDeltaUs(tp)
  if (rtoUs > 0) timeout = Math.min(timeout, usecsToJiffies(rtoUs, hz))
  tcpResetXmitTimer(tp, ICSK_TIME_LOSS_PROBE, timeout)
  return true
}

/** Models `tcp_send_loss_probe` (net/ipv4/tcp_output.c): new data if there is any, else the last packet again. */
export function tcpSendLossProbe(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.tlpHighSeq === 0 && tcpProbeSent(cpu, sk, tp)) {
    tp.tlpHighSeq = tp.sndNxt
    incStats(sk, MIB.TCPLossProbes)
    // So that the timer starts from now.
    tp.pending = 0
  }
  tcpRearmRto(tp)
}

function tcpProbeSent(cpu: Cpu, sk: Sock, tp: TcpSock): boolean {
  const atomic = tp.env.mem.gfp.GFP_ATOMIC as Gfp
  const mss = tcpCurrentMss(sk)
  tp.tlpRetrans = 0
  const head = tcpSendHead(sk)
  if (head !== null && tcpSndWndTest(tp, head, mss)) {
    const out = tp.packetsOut
    tcpWriteXmit(cpu, sk, mss, TCP_NAGLE_OFF, 2, atomic)
    return tp.packetsOut > out
  }
  let skb = skbPeekTail(tp.rtxQueue)
  if (skb === null) {
    sk.env.trace.warn?.('tcp_send_loss_probe', 'invalid inflight')
    tp.pending = 0
    return false
  }
  if (skbStillInHostQueue(sk, skb)) return false
  const segs = tcpSkbPcount(skb)
  if (segs > 1 && skb.len > (segs - 1) * mss) {
    if (tcpFragmentRtx(cpu, sk, skb, (segs - 1) * mss, mss, atomic) !== 0) return false
    skb = skb.env.skbs[skb.next]!
  }
  if (tcpRetransmitSkbOnce(cpu, sk, skb, 1) !== 0) return false
  tp.tlpRetrans = 1
  return true
}
