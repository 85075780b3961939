/**
 * One segment on its way out: header, checksum, bookkeeping. Everything that TCP sends passes `tcpTransmitSkb`;
 * data packets go as the companion of their pair, so that the original waits in the retransmit queue and
 * sending costs no allocation.
 */
import { assert, type Cpu, ERRNO, type Gfp } from '@netmem/base'
import {
  allocSkb,
  allocSkbFclone,
  CHECKSUM_PARTIAL,
  pskbCopy,
  type SkBuff,
  setGsoSegs,
  setGsoSize,
  setGsoType,
  skbClone,
  skbCloned,
  skbHeaderRelease,
  skbOrphan,
  skbPush,
  skbQueueTail,
  skbReserve,
  skbResetTransportHeader,
} from '@netmem/skbuff'
import { type Sock, skForcedMemSchedule, skMemCharge, skWmemQueuedAdd, TCP_CLOSE } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { tcpCaEventTxStart, tcpEnterCwr } from './tcp-cong.js'
import { TCP_TIMER_COMPRESSED_ACK } from './tcp-env.js'
import { tcpEstablishedOptionsBytes, tcpWriteEstablishedOptions } from './tcp-header.js'
import { addStats, incStats, MIB } from './tcp-mib.js'
import { tcpSynOptionsBytes, tcpWriteSynOptions } from './tcp-options.js'
import { tcpRateSkbSent } from './tcp-rate.js'
import {
  setBe16,
  setBe32,
  TCP_HEADER_BYTES,
  TCPHDR_ACK,
  TCPHDR_FIN,
  TCPHDR_PSH,
  TCPHDR_RST,
  TCPHDR_SYN,
  TCPHDR_URG,
  tcpFlags,
  tcpSkbMss,
  tcpSkbPcount,
} from './tcp-skb.js'
import {
  BYTES_SENT,
  inetCskAckScheduled,
  inetCskScheduleAck,
  type TcpSock,
  tcpPacketsInFlight,
  tcpSk,
  tcpWndEnd,
} from './tcp-sock.js'
import { tcpJiffies, tcpMstampRefresh, tcpSpendPacket } from './tcp-time.js'
import { tcpClearDackTimer, tcpResetDackTimer, tcpStopTimer } from './tcp-timer-arm.js'
import { tcpSelectWindow } from './tcp-window.js'

/** Models the truesize that `skb_set_tcp_pure_ack` gives: pure ACKs hardly count against small queues. */
const PURE_ACK_TRUESIZE = 2

/** Models `tcp_acceptable_seq`: a sequence number that the peer will not throw away. */
export function tcpAcceptableSeq(tp: TcpSock): number {
  const end = tcpWndEnd(tp)
  if (!before(end, tp.sndNxt) || (tp.rx.wscaleOk !== 0 && ((tp.sndNxt - end) | 0) < 1 << tp.rx.rcvWscale))
    return tp.sndNxt
  return end
}

/** Models `tcp_init_nondata_skb`: a segment that carries flags only. */
export function tcpInitNondataSkb(skb: SkBuff, seq: number, flags: number): void {
  skb.ipSummed = CHECKSUM_PARTIAL
  skb.cb0 = seq
  skb.cb1 = (flags & (TCPHDR_SYN | TCPHDR_FIN)) !== 0 ? (seq + 1) | 0 : seq
  skb.cb2 = flags
  skb.cb3 = 1
}

/**
 * Models `tcp_transmit_skb` (net/ipv4/tcp_output.c).
 *
 * @param cloneIt true for packets that stay in a queue: a clone is sent. False takes the skb.
 * @returns 0, or a negative errno: -ENOBUFS when there was no clone, else what the layers below said.
 */
export function tcpTransmitSkb(cpu: Cpu, sk: Sock, queued: SkBuff, cloneIt: boolean, gfp: Gfp): number {
  const tp = tcpSk(sk)
  if (__ASSERT__) assert(tcpSkbPcount(queued) > 0, 'a segment without a segment count')
  queued.cb4 = tp.mstamp
  tcpSpendPacket(tp.env)
  let skb = queued
  if (cloneIt) {
    // A clone that is still below us shares the header room: then the header gets a block of its own.
    const copy = skbCloned(queued) ? pskbCopy(cpu, queued, gfp) : skbClone(cpu, queued, gfp)
    if (copy === null) return -ERRNO.ENOBUFS
    skb = copy
    skb.dev = 0
  }
  const flags = tcpFlags(skb)
  const pcount = tcpSkbPcount(skb)
  const syn = (flags & TCPHDR_SYN) !== 0
  const headerBytes = TCP_HEADER_BYTES + (syn ? tcpSynBytes(tp) : tcpEstablishedOptionsBytes(tp))
  if (!syn && pcount > 1) skb.cb2 |= TCPHDR_PSH
  skb.pfmemalloc = false
  skbPush(skb, headerBytes)
  skbResetTransportHeader(skb)
  skbOrphan(cpu, skb)
  skb.sk = sk.id
  skb.destructor = sk.env.tcpWfree
  sk.wmemAlloc += skb.truesize

  const payload = skb.len - headerBytes
  tcpBuildHeader(sk, tp, skb, headerBytes)
  setGsoType(skb, tp.gsoType)
  tp.env.ip.sendCheck(sk, skb)
  if ((flags & TCPHDR_ACK) !== 0) tcpEventAckSent(sk, tp)
  if (payload !== 0) {
    tcpEventDataSent(tp)
    tp.dataSegsOut += pcount
    tp.counts[BYTES_SENT]! += payload
  }
  if (after(skb.cb1, tp.sndNxt) || skb.cb0 === skb.cb1) addStats(sk, MIB.OutSegs, pcount)
  tp.segsOut += pcount
  skb.hash = sk.txhash
  setGsoSegs(skb, pcount)
  setGsoSize(skb, tcpSkbMss(skb))

  const err = tp.env.ip.queueXmit(cpu, sk, skb)
  if (err > 0) tcpEnterCwr(sk)
  // Congestion notification is not a failure: the packet is gone either way.
  const rc = err === 2 ? 0 : err > 0 ? -ERRNO.ENOBUFS : err
  if (rc === 0 && cloneIt) tcpRateSkbSent(tp, queued)
  return rc
}

function tcpBuildHeader(sk: Sock, tp: TcpSock, skb: SkBuff, headerBytes: number): void {
  const u8 = skb.env.u8
  const th = skb.data >>> 0
  const flags = tcpFlags(skb)
  setBe16(u8, th, tp.sport)
  setBe16(u8, th + 2, sk.dport)
  setBe32(u8, th + 4, skb.cb0)
  setBe32(u8, th + 8, tp.rcvNxt)
  u8[th + 12] = (headerBytes >> 2) << 4
  u8[th + 13] = flags
  setBe16(u8, th + 16, 0)
  setBe16(u8, th + 18, 0)
  if (tp.sndUp !== tp.sndUna && before(skb.cb0, tp.sndUp)) tcpWriteUrgent(tp, u8, th, skb.cb0)
  if ((flags & TCPHDR_SYN) !== 0) {
    // The window of a SYN is never scaled.
    setBe16(u8, th + 14, Math.min(tp.rcvWnd, 0xffff))
    const ts = tcpUsesTimestamps(tp, flags)
    const sack = tcpOffersSack(tp, flags)
    const wscale = tcpOffersWscale(tp, flags) ? tp.rx.rcvWscale : -1
    tcpWriteSynOptions(
      u8,
      th,
      tp.env.ip.advertiseMss(sk),
      sack,
      ts,
      (tp.tsStamp + tp.tsoffset) | 0,
      tp.rx.tsRecent,
      wscale,
    )
  } else {
    setBe16(u8, th + 14, tcpSelectWindow(sk))
    tcpWriteEstablishedOptions(tp, u8, th + TCP_HEADER_BYTES, (tp.tsStamp + tp.tsoffset) | 0)
  }
}

function tcpWriteUrgent(tp: TcpSock, u8: Uint8Array, th: number, seq: number): void {
  if (before(tp.sndUp, (seq + 0x10000) | 0)) setBe16(u8, th + 18, (tp.sndUp - seq) & 0xffff)
  else if (after((seq + 0xffff) | 0, tp.sndNxt)) setBe16(u8, th + 18, 0xffff)
  else return
  u8[th + 13]! |= TCPHDR_URG
}

// A SYN offers what the sysctls allow; a SYN-ACK of crossed SYNs only what the other end offered too.
const tcpUsesTimestamps = (tp: TcpSock, flags: number): boolean =>
  (flags & TCPHDR_ACK) !== 0 ? tp.rx.tstampOk !== 0 : tp.ctl.timestamps[0] !== 0
const tcpOffersSack = (tp: TcpSock, flags: number): boolean =>
  (flags & TCPHDR_ACK) !== 0 ? tp.rx.sackOk !== 0 : tp.ctl.sack[0] !== 0
const tcpOffersWscale = (tp: TcpSock, flags: number): boolean =>
  (flags & TCPHDR_ACK) !== 0 ? tp.rx.wscaleOk !== 0 : tp.ctl.windowScaling[0] !== 0

function tcpSynBytes(tp: TcpSock): number {
  const flags = tp.rcvNxt !== 0 ? TCPHDR_ACK : 0
  return tcpSynOptionsBytes(tcpOffersSack(tp, flags), tcpUsesTimestamps(tp, flags), tcpOffersWscale(tp, flags) ? 0 : -1)
}

/** Models `tcp_event_data_sent`: an answer soon after data came makes the connection interactive. */
function tcpEventDataSent(tp: TcpSock): void {
  const now = tcpJiffies(tp)
  if (tcpPacketsInFlight(tp) === 0) tcpCaEventTxStart(tp)
  tp.lsndtime = now
  if ((now - tp.lrcvtime) >>> 0 < tp.ackAto && tp.ackPingpong < 255) tp.ackPingpong++
}

/** Models `tcp_event_ack_sent` with `tcp_dec_quickack_mode`. */
function tcpEventAckSent(sk: Sock, tp: TcpSock): void {
  if (tp.compressedAck !== 0) {
    addStats(sk, MIB.TCPAckCompressed, tp.compressedAck)
    tp.compressedAck = 0
    tcpStopTimer(tp, TCP_TIMER_COMPRESSED_ACK)
  }
  if (tp.ackQuick !== 0) {
    const acks = inetCskAckScheduled(tp) ? 1 : 0
    if (acks >= tp.ackQuick) {
      tp.ackQuick = 0
      tp.ackAto = tp.env.atoMin
    } else tp.ackQuick -= acks
  }
  tcpClearDackTimer(tp)
}

/** Models `tcp_queue_skb`: a packet enters the write queue and is charged. */
export function tcpQueueSkb(sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  tp.writeSeq = skb.cb1
  skbHeaderRelease(skb)
  skbQueueTail(sk.writeQueue, skb)
  skWmemQueuedAdd(sk, skb.truesize)
  skMemCharge(sk, skb.truesize)
}

/** Models `tcp_send_ack` (net/ipv4/tcp_output.c). */
export function tcpSendAck(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (sk.state === TCP_CLOSE) return
  const { mem, skbs, maxTcpHeader } = tp.env
  const skb = allocSkb(skbs, cpu, maxTcpHeader, (mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN) as Gfp)
  if (skb === null) {
    // No memory: try again when the delayed ACK timer runs.
    const delay = tp.env.delackMax << tp.ackRetry
    if (delay < (tp.ctl.rtoMaxMs[0]! * tp.env.hz) / 1000) tp.ackRetry++
    inetCskScheduleAck(tp)
    tp.ackAto = tp.env.atoMin
    tcpResetDackTimer(tp, delay)
    return
  }
  skbReserve(skb, maxTcpHeader)
  tcpInitNondataSkb(skb, tcpAcceptableSeq(tp), TCPHDR_ACK)
  skb.truesize = PURE_ACK_TRUESIZE
  tcpTransmitSkb(cpu, sk, skb, false, 0 as Gfp)
}

/** Models `tcp_send_fin` (net/ipv4/tcp_output.c), all but the push that follows. @returns false without memory. */
export function tcpQueueFin(cpu: Cpu, sk: Sock, tail: SkBuff | null): boolean {
  const tp = tcpSk(sk)
  if (tail !== null) {
    tail.cb2 |= TCPHDR_FIN
    tail.cb1 = (tail.cb1 + 1) | 0
    tp.writeSeq = (tp.writeSeq + 1) | 0
    return true
  }
  const { mem, skbs, maxTcpHeader } = tp.env
  const skb = allocSkbFclone(skbs, cpu, maxTcpHeader, (mem.gfp.GFP_ATOMIC | mem.gfp.NOWARN) as Gfp)
  if (skb === null) return false
  skbReserve(skb, maxTcpHeader)
  skForcedMemSchedule(cpu, sk, skb.truesize)
  tcpInitNondataSkb(skb, tp.writeSeq, TCPHDR_ACK | TCPHDR_FIN)
  tcpQueueSkb(sk, skb)
  return true
}

/** Models `tcp_send_active_reset` (net/ipv4/tcp_output.c). */
export function tcpSendActiveReset(cpu: Cpu, sk: Sock, gfp: Gfp): void {
  const tp = tcpSk(sk)
  incStats(sk, MIB.OutRsts)
  const skb = allocSkb(tp.env.skbs, cpu, tp.env.maxTcpHeader, gfp)
  if (skb === null) {
    incStats(sk, MIB.TCPAbortFailed)
    return
  }
  skbReserve(skb, tp.env.maxTcpHeader)
  tcpInitNondataSkb(skb, tcpAcceptableSeq(tp), TCPHDR_ACK | TCPHDR_RST)
  tcpMstampRefresh(tp)
  if (tcpTransmitSkb(cpu, sk, skb, false, gfp) !== 0) incStats(sk, MIB.TCPAbortFailed)
}
