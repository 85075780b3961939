/**
 * Cutting packets of the write and retransmit queues, and joining them again. Only the pages change hands;
 * truesize is split by bytes, and the new packet's own overhead is charged at once, limits or not: it must
 * be possible to send what is queued.
 */
import { type Cpu, ERRNO, type Gfp } from '@netmem/base'
import {
  allocSkbFclone,
  CHECKSUM_PARTIAL,
  copyFrag,
  fragLen,
  fragOff,
  kfreeSkbUnchecked,
  nrFrags,
  type SkBuff,
  setFragLen,
  setFragOff,
  setNrFrags,
  skbCloned,
  skbEndOffset,
  skbFragUnref,
  skbHeaderRelease,
  skbPeek,
  skbPeekTail,
  skbQueueAfter,
  skbReserve,
  skbShift,
  skbSplit,
  skbTruesize,
  skbUncloneKeeptruesize,
} from '@netmem/skbuff'
import {
  type Sock,
  skEnterMemoryPressure,
  skForcedMemSchedule,
  skMemCharge,
  skMemUncharge,
  skStreamModerateSndbuf,
  skWmemQueuedAdd,
  skWmemSchedule,
} from '@netmem/sockmem'
import { after, before } from './seq.js'
import { incStats, MIB } from './tcp-mib.js'
import { skbZcopyPure, tcpRtxQueueUnlinkAndFree } from './tcp-queue.js'
import {
  TCPCB_EOR,
  TCPCB_EVER_RETRANS,
  TCPCB_LOST,
  TCPCB_SACKED_ACKED,
  TCPCB_SACKED_RETRANS,
  TCPHDR_FIN,
  TCPHDR_PSH,
  TCPHDR_SYN,
  tcpFlags,
  tcpSetSkbTsoSegs,
  tcpSkbCanCollapse,
  tcpSkbMss,
  tcpSkbPcount,
} from './tcp-skb.js'
import { type TcpSock, tcpIsSack, tcpSk, tcpWndEnd } from './tcp-sock.js'

// Bits of cb2 that stay with the first half, or go to the second.
const SACKED_MASK = 0xff0000
const GSO_LEGACY_MAX_SIZE = 65536

/**
 * Models `tcp_stream_alloc_skb` (net/ipv4/tcp.c): an empty packet for the write queue.
 *
 * @param force charge it whatever the limits say.
 * @returns null without memory, or (not forced) when the protocol refuses the charge.
 */
export function tcpStreamAllocSkb(cpu: Cpu, sk: Sock, gfp: Gfp, force: boolean): SkBuff | null {
  const { skbs, maxTcpHeader } = tcpSk(sk).env
  const skb = allocSkbFclone(skbs, cpu, maxTcpHeader, gfp)
  if (skb === null) {
    skEnterMemoryPressure(cpu, sk)
    skStreamModerateSndbuf(sk)
    return null
  }
  skb.truesize = skbTruesize(skbs.sizes, skbEndOffset(skb))
  if (force) skForcedMemSchedule(cpu, sk, skb.truesize)
  else if (!skWmemSchedule(cpu, sk, skb.truesize)) {
    kfreeSkbUnchecked(cpu, skb, 'tcp_stream_alloc_skb')
    return null
  }
  skbReserve(skb, maxTcpHeader)
  skb.ipSummed = CHECKSUM_PARTIAL
  skb.cb0 = 0
  skb.cb1 = 0
  skb.cb2 = 0
  skb.cb3 = 0
  skb.cb4 = 0
  skb.cb7 = 0
  return skb
}

/** What both cuts share: numbers, flags and pages. The new packet is charged and not linked yet. */
function splitInto(cpu: Cpu, sk: Sock, skb: SkBuff, buff: SkBuff, len: number): void {
  skWmemQueuedAdd(sk, buff.truesize)
  skMemCharge(sk, buff.truesize)
  const moved = skb.len - len
  buff.truesize += moved
  skb.truesize -= moved
  buff.cb0 = (skb.cb0 + len) | 0
  buff.cb1 = skb.cb1
  skb.cb1 = buff.cb0
  const flags = tcpFlags(skb)
  skb.cb2 &= ~(TCPHDR_FIN | TCPHDR_PSH)
  buff.cb2 = flags | (skb.cb2 & TCPCB_EOR)
  skb.cb2 &= ~TCPCB_EOR
  skbSplit(cpu, skb, buff, len)
}

/** Models `tso_fragment` (net/ipv4/tcp_output.c): cuts a packet that was never sent. @returns 0 or -ENOMEM. */
export function tsoFragment(cpu: Cpu, sk: Sock, skb: SkBuff, len: number, mss: number, gfp: Gfp): number {
  const buff = tcpStreamAllocSkb(cpu, sk, gfp, true)
  if (buff === null) return -ERRNO.ENOMEM
  splitInto(cpu, sk, skb, buff, len)
  tcpSetSkbTsoSegs(skb, mss)
  tcpSetSkbTsoSegs(buff, mss)
  skbHeaderRelease(buff)
  skbQueueAfter(sk.writeQueue, skb, buff)
  return 0
}

/**
 * Models `tcp_fragment` for the retransmit queue (net/ipv4/tcp_output.c).
 *
 * @returns 0, or -ENOMEM: no memory, or so much is queued that only splitting could have done it.
 */
export function tcpFragmentRtx(cpu: Cpu, sk: Sock, skb: SkBuff, len: number, mss: number, gfp: Gfp): number {
  const tp = tcpSk(sk)
  const limit = sk.sndbuf + 2 * skbTruesize(skb.env.sizes, GSO_LEGACY_MAX_SIZE)
  if (sk.wmemQueued >> 1 > limit && skb !== skbPeek(tp.rtxQueue) && skb !== skbPeekTail(tp.rtxQueue)) {
    incStats(sk, MIB.TCPWqueueTooBig)
    return -ERRNO.ENOMEM
  }
  if (skbUncloneKeeptruesize(cpu, skb, gfp) !== 0) return -ERRNO.ENOMEM
  const buff = tcpStreamAllocSkb(cpu, sk, gfp, true)
  if (buff === null) return -ERRNO.ENOMEM
  const oldSegs = tcpSkbPcount(skb)
  splitInto(cpu, sk, skb, buff, len)
  buff.cb2 |= skb.cb2 & SACKED_MASK
  buff.cb4 = skb.cb4
  tcpSetSkbTsoSegs(skb, mss)
  tcpSetSkbTsoSegs(buff, mss)
  buff.cb5 = skb.cb5
  buff.cb6 = skb.cb6
  buff.cb7 = skb.cb7
  if (!before(tp.sndNxt, buff.cb1)) {
    const diff = oldSegs - tcpSkbPcount(skb) - tcpSkbPcount(buff)
    if (diff !== 0) tcpAdjustPcount(tp, skb, diff)
  }
  skbHeaderRelease(buff)
  skbQueueAfter(tp.rtxQueue, skb, buff)
  return 0
}

/** Models `tcp_adjust_pcount`: a sent packet now is `decr` segments fewer. */
export function tcpAdjustPcount(tp: TcpSock, skb: SkBuff, decr: number): void {
  tp.packetsOut -= decr
  if ((skb.cb2 & TCPCB_SACKED_ACKED) !== 0) tp.sackedOut -= decr
  if ((skb.cb2 & TCPCB_SACKED_RETRANS) !== 0) tp.retransOut -= decr
  if ((skb.cb2 & TCPCB_LOST) !== 0) tp.lostOut -= decr
  if (!tcpIsSack(tp) && decr > 0) tp.sackedOut -= Math.min(tp.sackedOut, decr)
}

/** Models `__pskb_trim_head`: drops bytes from the front of a packet whose payload is all in pages. */
export function pskbTrimHead(cpu: Cpu, skb: SkBuff, len: number): void {
  let eat = len
  let kept = 0
  const count = nrFrags(skb)
  for (let i = 0; i < count; i++) {
    const size = fragLen(skb, i)
    if (size <= eat) {
      skbFragUnref(cpu, skb, i, 'tcp_trim_head')
      eat -= size
      continue
    }
    copyFrag(skb, kept, skb, i)
    if (eat !== 0) {
      setFragOff(skb, kept, fragOff(skb, kept) + eat)
      setFragLen(skb, kept, fragLen(skb, kept) - eat)
      eat = 0
    }
    kept++
  }
  setNrFrags(skb, kept)
  skb.dataLen -= len
  skb.len = skb.dataLen
}

/** Models `tcp_trim_head` (net/ipv4/tcp_output.c): the front of a packet was acknowledged. @returns 0 or -ENOMEM. */
export function tcpTrimHead(cpu: Cpu, sk: Sock, skb: SkBuff, len: number): number {
  if (skbUncloneKeeptruesize(cpu, skb, skb.env.mem.gfp.GFP_ATOMIC as Gfp) !== 0) return -ERRNO.ENOMEM
  pskbTrimHead(cpu, skb, len)
  skb.cb0 = (skb.cb0 + len) | 0
  skb.truesize -= len
  skWmemQueuedAdd(sk, -len)
  if (!skbZcopyPure(skb)) skMemUncharge(cpu, sk, len)
  if (tcpSkbPcount(skb) > 1) tcpSetSkbTsoSegs(skb, tcpSkbMss(skb))
  return 0
}

/** Models `tcp_retrans_try_collapse`: small neighbours of a packet that is sent again go along with it. */
export function tcpRetransTryCollapse(cpu: Cpu, sk: Sock, to: SkBuff, room: number): void {
  const tp = tcpSk(sk)
  if (tp.ctl.retransCollapse[0] === 0 || (tcpFlags(to) & TCPHDR_SYN) !== 0) return
  if (!tcpCanCollapse(to)) return
  let space = room - to.len
  while (to.next !== 0) {
    const next = to.env.skbs[to.next]!
    if (!tcpCanCollapse(next) || !tcpSkbCanCollapse(to)) return
    space -= next.len
    if (space < 0 || after(next.cb1, tcpWndEnd(tp))) return
    if (!tcpCollapseRetrans(cpu, sk, tp, to, next)) return
  }
}

const tcpCanCollapse = (skb: SkBuff): boolean =>
  tcpSkbPcount(skb) <= 1 && !skbCloned(skb) && (skb.cb2 & TCPCB_SACKED_ACKED) === 0

/** Models `tcp_collapse_retrans`. */
function tcpCollapseRetrans(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, next: SkBuff): boolean {
  const bytes = next.len
  if (bytes !== 0) {
    // The sum of both lengths stays one segment's, so counts of segments hold.
    const segs = skb.cb3
    if (skbShift(cpu, skb, next, bytes) === 0) return false
    skb.cb3 = segs
  }
  if (tp.highestSack === next.id) tp.highestSack = skb.id
  skb.cb1 = next.cb1
  skb.cb2 |= tcpFlags(next) | (next.cb2 & (TCPCB_EVER_RETRANS | TCPCB_EOR))
  if (tp.retransmitSkbHint === next.id) tp.retransmitSkbHint = skb.id
  tcpAdjustPcount(tp, next, tcpSkbPcount(next))
  tcpRtxQueueUnlinkAndFree(cpu, sk, next, 'tcp_retrans_try_collapse')
  return true
}
