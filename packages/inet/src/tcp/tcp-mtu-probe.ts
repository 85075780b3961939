/**
 * Path MTU discovery by probing (`net.ipv4.tcp_mtu_probing`): now and then a packet larger than the MSS goes
 * out; if it arrives the MSS may grow. The probe is a fresh packet that takes over the bytes of those it
 * replaces, which are freed.
 */
import type { Cpu, Gfp } from '@netmem/base'
import {
  consumeSkb,
  copyFrag,
  fragLen,
  fragOff,
  fragPfn,
  nrFrags,
  type SkBuff,
  setFragLen,
  setNrFrags,
  skbFragRef,
  skbHeaderRelease,
  skbPeek,
  skbQueueBefore,
} from '@netmem/skbuff'
import { type Sock, skMemCharge, skWmemQueuedAdd, skWmemSchedule } from '@netmem/sockmem'
import { after } from './seq.js'
import { pskbTrimHead, tcpStreamAllocSkb } from './tcp-fragment.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpCurrentMss, tcpMssToMtu, tcpMtuToMss, tcpSyncMss } from './tcp-mss.js'
import { tcpTransmitSkb } from './tcp-output.js'
import { TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, tcpFlags, tcpSetSkbTsoSegs, tcpSkbCanCollapse } from './tcp-skb.js'
import { TCP_CA_OPEN, type TcpSock, tcpPacketsInFlight, tcpSk, tcpWndEnd } from './tcp-sock.js'
import { tcpEatOneSkb, tcpEventNewDataSent } from './tcp-xmit.js'

/** Models `tcp_mtu_probe` (net/ipv4/tcp_output.c). @returns 1 sent, 0 wait for the window, -1 no probe now. */
export function tcpMtuProbe(cpu: Cpu, sk: Sock): number {
  const tp = tcpSk(sk)
  if (
    tp.mtupProbeSize !== 0 ||
    tp.caState !== TCP_CA_OPEN ||
    tp.sndCwnd < 11 ||
    tp.rx.numSacks !== 0 ||
    tp.rx.dsack !== 0
  )
    return -1
  const mss = tcpCurrentMss(sk)
  const size = tcpMtuToMss(tp, (tp.mtupSearchHigh + tp.mtupSearchLow) >> 1)
  const needed = size + (tp.reordering + 1) * tp.mssCache
  const interval = tp.mtupSearchHigh - tp.mtupSearchLow
  if (size > tcpMtuToMss(tp, tp.mtupSearchHigh) || interval < tp.ctl.probeThreshold[0]!) return -1
  if ((tp.writeSeq - tp.sndNxt) >>> 0 < needed || tp.sndWnd < needed) return -1
  if (after((tp.sndNxt + needed) | 0, tcpWndEnd(tp))) return 0
  if (tcpPacketsInFlight(tp) + 2 > tp.sndCwnd) return tcpPacketsInFlight(tp) === 0 ? -1 : 0
  return sendProbe(cpu, sk, tp, size, mss)
}

function sendProbe(cpu: Cpu, sk: Sock, tp: TcpSock, size: number, mss: number): number {
  const head = skbPeek(sk.writeQueue)
  if (head === null || !canCoalesce(head, size)) return -1
  const atomic = tp.env.mem.gfp.GFP_ATOMIC as Gfp
  const nskb = tcpStreamAllocSkb(cpu, sk, atomic, false)
  if (nskb === null) return -1
  if (!clonePayload(cpu, sk, nskb, head, size)) {
    consumeSkb(cpu, nskb, 'tcp_mtu_probe')
    return -1
  }
  skWmemQueuedAdd(sk, nskb.truesize)
  skMemCharge(sk, nskb.truesize)
  nskb.cb0 = head.cb0
  nskb.cb1 = (head.cb0 + size) | 0
  nskb.cb2 = TCPHDR_ACK
  skbQueueBefore(sk.writeQueue, head, nskb)
  takeOver(cpu, sk, nskb, size, mss)
  tcpSetSkbTsoSegs(nskb, nskb.len)
  if (tcpTransmitSkb(cpu, sk, nskb, true, atomic) !== 0) return -1
  // The probe counts as two packets.
  tp.sndCwnd--
  tcpEventNewDataSent(cpu, sk, nskb)
  tp.mtupProbeSize = tcpMssToMtu(tp, nskb.len)
  tp.mtupProbeSeqStart = nskb.cb0
  tp.mtupProbeSeqEnd = nskb.cb1
  return 1
}

/** Models `tcp_can_coalesce_send_queue_head`. */
function canCoalesce(head: SkBuff, size: number): boolean {
  let len = size
  for (let skb = head; len > skb.len; skb = skb.env.skbs[skb.next]!) {
    if (skb.next === 0 || !tcpSkbCanCollapse(skb)) return false
    len -= skb.len
  }
  return true
}

/** Models `tcp_clone_payload`: the probe shares the pages. */
function clonePayload(cpu: Cpu, sk: Sock, to: SkBuff, head: SkBuff, size: number): boolean {
  if (!skWmemSchedule(cpu, sk, to.truesize + size)) return false
  let len = 0
  let count = 0
  for (
    let skb: SkBuff | null = head;
    skb !== null && len < size;
    skb = skb.next === 0 ? null : skb.env.skbs[skb.next]!
  ) {
    for (let i = 0; i < nrFrags(skb) && len < size; i++) {
      const todo = Math.min(fragLen(skb, i), size - len)
      len += todo
      const last = count - 1
      if (
        last >= 0 &&
        fragPfn(skb, i) === fragPfn(to, last) &&
        fragOff(skb, i) === fragOff(to, last) + fragLen(to, last)
      ) {
        setFragLen(to, last, fragLen(to, last) + todo)
        continue
      }
      if (count === to.env.sizes.maxFrags) return false
      copyFrag(to, count, skb, i)
      setFragLen(to, count, todo)
      count++
    }
  }
  for (let i = 0; i < count; i++) skbFragRef(to, i)
  setNrFrags(to, count)
  to.truesize += size
  to.len += size
  to.dataLen += size
  skbHeaderRelease(to)
  return true
}

function takeOver(cpu: Cpu, sk: Sock, nskb: SkBuff, size: number, mss: number): void {
  for (let len = 0; len < size; ) {
    const skb = nskb.env.skbs[nskb.next]!
    const copy = Math.min(skb.len, size - len)
    if (skb.len <= copy) tcpEatOneSkb(cpu, sk, nskb, skb)
    else {
      nskb.cb2 |= tcpFlags(skb) & ~(TCPHDR_FIN | TCPHDR_PSH)
      pskbTrimHead(cpu, skb, copy)
      tcpSetSkbTsoSegs(skb, mss)
      skb.cb0 = (skb.cb0 + copy) | 0
    }
    len += copy
  }
}

/** Models `tcp_mtup_probe_failed`. */
export function tcpMtupProbeFailed(sk: Sock): void {
  const tp = tcpSk(sk)
  tp.mtupSearchHigh = tp.mtupProbeSize - 1
  tp.mtupProbeSize = 0
  incStats(sk, MIB.TCPMTUPFail)
}

/** Models `tcp_mtup_probe_success`: the window counts segments, which are larger now. */
export function tcpMtupProbeSuccess(sk: Sock): void {
  const tp = tcpSk(sk)
  tp.priorSsthresh = 0
  tp.sndCwnd = Math.max(1, Math.floor((tp.sndCwnd * tcpMssToMtu(tp, tp.mssCache)) / tp.mtupProbeSize))
  tp.sndCwndCnt = 0
  tp.mtupSearchLow = tp.mtupProbeSize
  tp.mtupProbeSize = 0
  tcpSyncMss(sk, tp.pmtuCookie)
  incStats(sk, MIB.TCPMTUPSuccess)
}
