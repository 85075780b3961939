/** Probing a window that is shut, and a peer that says nothing: one old byte, or a bit of new data if any fits. */
import type { Cpu, Gfp } from '@netmem/base'
import { allocSkb, skbQueueEmpty, skbReserve } from '@netmem/skbuff'
import { type Sock, TCP_CLOSE } from '@netmem/sockmem'
import { before } from './seq.js'
import { tsoFragment } from './tcp-fragment.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpCurrentMss } from './tcp-mss.js'
import { tcpInitNondataSkb, tcpTransmitSkb } from './tcp-output.js'
import { TCPHDR_ACK, TCPHDR_PSH, tcpSetSkbTsoSegs, tcpSkbPcount } from './tcp-skb.js'
import { ICSK_TIME_PROBE0, tcpSk, tcpWndEnd } from './tcp-sock.js'
import { tcpMstampRefresh } from './tcp-time.js'
import { tcpProbe0When } from './tcp-timer.js'
import { tcpResetXmitTimer } from './tcp-timer-arm.js'
import { tcpEventNewDataSent, tcpSendHead } from './tcp-xmit.js'

/** Models `tcp_xmit_probe_skb`: an ACK with a sequence number that makes the peer answer. */
export function tcpXmitProbeSkb(cpu: Cpu, sk: Sock, urgent: boolean, counter: number): number {
  const tp = tcpSk(sk)
  const { mem, skbs, maxTcpHeader } = tp.env
  const skb = allocSkb(skbs, cpu, maxTcpHeader, (mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN) as Gfp)
  if (skb === null) return -1
  skbReserve(skb, maxTcpHeader)
  tcpInitNondataSkb(skb, urgent ? tp.sndUna : (tp.sndUna - 1) | 0, TCPHDR_ACK)
  incStats(sk, counter)
  return tcpTransmitSkb(cpu, sk, skb, false, 0 as Gfp)
}

/** Models `tcp_write_wakeup` (net/ipv4/tcp_output.c). @returns 0, or what sending said. */
export function tcpWriteWakeup(cpu: Cpu, sk: Sock, counter: number): number {
  if (sk.state === TCP_CLOSE) return -1
  const tp = tcpSk(sk)
  const skb = tcpSendHead(sk)
  if (skb === null || !before(skb.cb0, tcpWndEnd(tp))) return tcpXmitProbeSkb(cpu, sk, false, counter)
  const atomic = tp.env.mem.gfp.GFP_ATOMIC as Gfp
  let mss = tcpCurrentMss(sk)
  let segBytes = (tcpWndEnd(tp) - skb.cb0) | 0
  if (before(tp.pushedSeq, skb.cb1)) tp.pushedSeq = skb.cb1
  if (segBytes < ((skb.cb1 - skb.cb0) | 0) || skb.len > mss) {
    segBytes = Math.min(segBytes, mss)
    skb.cb2 |= TCPHDR_PSH
    mss = segBytes
    if (tsoFragment(cpu, sk, skb, segBytes, mss, atomic) !== 0) return -1
  } else if (tcpSkbPcount(skb) === 0) tcpSetSkbTsoSegs(skb, mss)
  skb.cb2 |= TCPHDR_PSH
  const err = tcpTransmitSkb(cpu, sk, skb, true, atomic)
  if (err === 0) tcpEventNewDataSent(cpu, sk, skb)
  return err
}

/** Models `tcp_send_probe0` (net/ipv4/tcp_output.c): a probe, and the time of the next. */
export function tcpSendProbe0(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  tcpMstampRefresh(tp)
  const err = tcpWriteWakeup(cpu, sk, MIB.TCPWinProbe)
  if (tp.packetsOut !== 0 || skbQueueEmpty(sk.writeQueue)) {
    // The probe went out as data: it has a timer of its own.
    tp.probesOut = 0
    tp.backoff = 0
    tp.probesTstamp = 0
    return
  }
  tp.probesOut++
  let timeout = tp.env.resourceProbeInterval
  if (err <= 0) {
    if (tp.backoff < tp.ctl.retries2[0]!) tp.backoff++
    timeout = tcpProbe0When(tp, Math.floor((tp.ctl.rtoMaxMs[0]! * tp.env.hz) / 1000))
  }
  tcpResetXmitTimer(tp, ICSK_TIME_PROBE0, timeout)
}
