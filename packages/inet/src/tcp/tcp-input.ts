/**
 * A segment for an established connection: the fast path for what was expected, the slow path for the rest,
 * and the decision whether an ACK goes out now or later.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  fragAddr,
  fragLen,
  kfreeSkbPartial,
  kfreeSkbUnchecked,
  nrFrags,
  type SkBuff,
  type SkbDropReason,
  skbPullUnchecked,
  skbQueueEmpty,
} from '@netmem/skbuff'
import {
  SOCKF_DEAD,
  type Sock,
  sockFlag,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_LAST_ACK,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
} from '@netmem/sockmem'
import { after, before } from './seq.js'
import { ACK_TOO_OLD, tcpAck, tcpStoreTsRecent } from './tcp-ack.js'
import { FLAG_DATA, FLAG_SLOWPATH, FLAG_UPDATE_TS_RECENT } from './tcp-ack-flags.js'
import { tcpDropReason, tcpOowRateLimited, tcpSendChallengeAck, tcpSendDupack } from './tcp-challenge.js'
import { tcpDataQueue, tcpDataReady, tcpQueueRcv } from './tcp-data-queue.js'
import { tcpDieWith } from './tcp-destroy.js'
import { TCP_TIMER_COMPRESSED_ACK, TCP_TIMER_DELACK } from './tcp-env.js'
import { tcpHpWord } from './tcp-fast-path.js'
import { incStats, MIB } from './tcp-mib.js'
import { TCPOLEN_TSTAMP_ALIGNED, tcpParseAlignedTimestamp, tcpParseOptions } from './tcp-options.js'
import { tcpSendAck } from './tcp-output.js'
import { tcpEventDataRecv, tcpInQuickackMode, tcpRcvRttMeasureTs } from './tcp-rcvbuf.js'
import {
  TCP_HEADER_BYTES,
  TCPHDR_ACK,
  TCPHDR_RST,
  TCPHDR_SYN,
  TCPHDR_URG,
  tcpSetSackOffset,
  thBytes,
  thFlags,
  thUrgPtr,
} from './tcp-skb.js'
import {
  ICSK_ACK_NOW,
  ICSK_ACK_PUSHED,
  ICSK_ACK_SCHED,
  ICSK_ACK_TIMER,
  inetCskAckScheduled,
  TCP_ACK_DEFERRED,
  type TcpSock,
  tcpIsSack,
  tcpReceiveWindow,
  tcpSk,
} from './tcp-sock.js'
import { tcpCheckSpace } from './tcp-space.js'
import { tcpMstampRefresh, usecsToJiffies } from './tcp-time.js'
import { tcpArmHrtimer, tcpArmTimer } from './tcp-timer-arm.js'
import { tcpSelectWindowUnchecked } from './tcp-window.js'
import { tcpPushPendingFrames } from './tcp-xmit.js'

const TCP_FASTRETRANS_THRESH = 3
export const TCP_URG_VALID = 0x0100
export const TCP_URG_NOTYET = 0x0200

/** Models `tcp_data_snd_check`: an ACK may have made room on both sides. */
export function tcpDataSndCheck(cpu: Cpu, sk: Sock): void {
  tcpPushPendingFrames(cpu, sk)
  tcpCheckSpace(cpu, sk)
}

/** Models `tcp_send_delayed_ack` (net/ipv4/tcp_output.c): an ACK in a moment, unless data takes it along. */
export function tcpSendDelayedAck(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const { env } = tp
  let ato = tp.ackAto
  if (ato > env.delackMin) {
    let max = Math.floor(env.hz / 2)
    if (tp.ackPingpong !== 0 || (tp.ackPending & ICSK_ACK_PUSHED) !== 0) max = env.delackMax
    if (tp.srttUs !== 0) max = Math.min(max, Math.max(usecsToJiffies(tp.srttUs >>> 3, env.hz), env.delackMin))
    ato = Math.min(ato, max)
  }
  ato = Math.min(ato, env.delackMax, Math.max(usecsToJiffies(tp.ctl.rtoMinUs[0]!, env.hz), 2) - 1)
  const now = env.jiffies()
  let timeout = (now + ato) | 0
  if ((tp.ackPending & ICSK_ACK_TIMER) !== 0) {
    // About to be sent anyway.
    if (!after(tp.ackTimeout, (now + (ato >> 2)) | 0)) {
      tcpSendAck(cpu, sk)
      return
    }
    if (!before(timeout, tp.ackTimeout)) timeout = tp.ackTimeout
  }
  tp.ackPending |= ICSK_ACK_SCHED | ICSK_ACK_TIMER
  tp.ackTimeout = timeout
  tcpArmTimer(tp, TCP_TIMER_DELACK, timeout)
}

/** Models `__tcp_ack_snd_check` (net/ipv4/tcp_input.c). */
function tcpAckSndCheckNow(cpu: Cpu, sk: Sock, ofoPossible: boolean): void {
  const tp = tcpSk(sk)
  const enough =
    ((tp.rcvNxt - tp.rcvWup) | 0) > tp.rcvMss &&
    // The right edge moves too; otherwise the reader's ACK will do.
    (((tp.rcvNxt - tp.copiedSeq) | 0) < sk.rcvlowat || tcpSelectWindowUnchecked(sk) >= tp.rcvWnd)
  if (enough || tcpInQuickackMode(tp) || (tp.ackPending & ICSK_ACK_NOW) !== 0) {
    if (sk.owned !== 0 && tp.ctl.backlogAckDefer[0] !== 0) tp.tsqFlags |= TCP_ACK_DEFERRED
    else tcpSendAck(cpu, sk)
    return
  }
  if (!ofoPossible || skbQueueEmpty(tp.outOfOrderQueue)) {
    tcpSendDelayedAck(cpu, sk)
    return
  }
  if (!tcpIsSack(tp) || tp.compressedAck >= tp.ctl.compSackNr[0]!) {
    tcpSendAck(cpu, sk)
    return
  }
  compressAck(cpu, sk, tp)
}

/** The first three duplicates go at once, the rest of a burst is answered together. */
function compressAck(cpu: Cpu, sk: Sock, tp: TcpSock): void {
  if (tp.compressedAckRcvNxt !== tp.rcvNxt) {
    tp.compressedAckRcvNxt = tp.rcvNxt
    tp.dupAckCounter = 0
  }
  if (tp.dupAckCounter < TCP_FASTRETRANS_THRESH) {
    tp.dupAckCounter++
    tcpSendAck(cpu, sk)
    return
  }
  tp.compressedAck++
  if (tp.events[TCP_TIMER_COMPRESSED_ACK] !== 0) return
  let rtt = tp.rcvRttUs
  if (tp.srttUs !== 0 && tp.srttUs < rtt) rtt = tp.srttUs
  const delay = Math.min((rtt + (rtt >> 2)) * tp.ctl.compSackRttPercent[0]!, tp.ctl.compSackDelayNs[0]!)
  tcpArmHrtimer(tp, TCP_TIMER_COMPRESSED_ACK, tp.env.clock.nowNs + delay)
}

/** Models `tcp_ack_snd_check`. */
export function tcpAckSndCheck(cpu: Cpu, sk: Sock): void {
  if (inetCskAckScheduled(tcpSk(sk))) tcpAckSndCheckNow(cpu, sk, true)
}

/** Models `tcp_sequence`: is the segment in the window at all? */
function tcpSequence(sk: Sock, tp: TcpSock, skb: SkBuff): SkbDropReason | null {
  if (before(skb.cb1, tp.rcvWup)) return 'TCP_OLD_SEQUENCE'
  const end = (tp.rcvNxt + tcpReceiveWindow(tp)) | 0
  if (!after(skb.cb1, end)) return null
  if (after(skb.cb0, end)) return 'TCP_INVALID_SEQUENCE'
  if (!tp.env.features.tcpWindowEndCheck) return null
  // An empty queue takes what goes a little too far, so that it cannot stall.
  if (skbQueueEmpty(sk.receiveQueue)) return null
  return 'TCP_INVALID_END_SEQUENCE'
}

/** Models `tcp_reset_check`: some stacks reset with the number of the FIN they sent. */
const tcpResetCheck = (sk: Sock, tp: TcpSock, skb: SkBuff): boolean =>
  skb.cb0 === ((tp.rcvNxt - 1) | 0) &&
  (sk.state === TCP_CLOSE_WAIT || sk.state === TCP_LAST_ACK || sk.state === TCP_CLOSING)

/** Models `tcp_fast_parse_options`. @returns whether there were any. */
function tcpFastParseOptions(tp: TcpSock, skb: SkBuff): boolean {
  const { u8, mem } = skb.env
  const th = (skb.head + skb.transportHeader) >>> 0
  const bytes = thBytes(u8, th)
  if (bytes === TCP_HEADER_BYTES) {
    tp.rx.sawTstamp = false
    return false
  }
  if (
    tp.rx.tstampOk !== 0 &&
    bytes === TCP_HEADER_BYTES + TCPOLEN_TSTAMP_ALIGNED &&
    tcpParseAlignedTimestamp(u8, th, tp.rx)
  ) {
    if (tp.rx.rcvTsecr !== 0) tp.rx.rcvTsecr = (tp.rx.rcvTsecr - tp.tsoffset) | 0
    return true
  }
  tcpParseOptions(mem, th, tp.rx, true, true, true, true)
  if (tp.rx.sackAt !== 0) tcpSetSackOffset(skb, tp.rx.sackAt)
  if (tp.rx.sawTstamp && tp.rx.rcvTsecr !== 0) tp.rx.rcvTsecr = (tp.rx.rcvTsecr - tp.tsoffset) | 0
  return true
}

const PAWS_24DAYS_S = 24 * 24 * 3600

/** Models `tcp_paws_check`. */
export function tcpPawsCheck(tp: TcpSock, window: number): boolean {
  const { rx } = tp
  if (((rx.tsRecent - rx.rcvTsval) | 0) <= window) return true
  const now = Math.floor(tp.env.clock.nowNs / 1e9) + 1
  return now >= rx.tsRecentStamp + PAWS_24DAYS_S || rx.tsRecent === 0
}

/**
 * Models `tcp_validate_incoming` (net/ipv4/tcp_input.c): timestamps, sequence, RST and SYN.
 *
 * @returns false when the segment was dealt with; it is freed then.
 */
export function tcpValidateIncoming(cpu: Cpu, sk: Sock, skb: SkBuff, synInerr: boolean): boolean {
  const tp = tcpSk(sk)
  const flags = thFlags(skb.env.u8, (skb.head + skb.transportHeader) >>> 0)
  const rst = (flags & TCPHDR_RST) !== 0
  const syn = (flags & TCPHDR_SYN) !== 0
  if (
    tcpFastParseOptions(tp, skb) &&
    tp.rx.sawTstamp &&
    !tcpPawsCheck(tp, 1) &&
    !disorderedAck(tp, skb, flags) &&
    !rst
  ) {
    if (syn) return synChallenge(cpu, sk, skb, synInerr)
    incStats(sk, MIB.PAWSEstab)
    if (!tcpOowRateLimited(sk, skb, MIB.TCPACKSkippedPAWS)) tcpSendDupack(cpu, sk, skb)
    return discard(cpu, sk, skb, 'TCP_RFC7323_PAWS')
  }
  const bad = tcpSequence(sk, tp, skb)
  if (bad !== null) {
    if (rst) {
      if (tcpResetCheck(sk, tp, skb)) return resetBy(cpu, sk, skb)
      return discard(cpu, sk, skb, bad)
    }
    if (syn) return synChallenge(cpu, sk, skb, synInerr)
    if (tp.env.features.tcpWindowEndCheck && bad !== 'TCP_OLD_SEQUENCE') incStats(sk, MIB.BeyondWindow)
    if (!tcpOowRateLimited(sk, skb, MIB.TCPACKSkippedSeq)) tcpSendDupack(cpu, sk, skb)
    return discard(cpu, sk, skb, bad)
  }
  if (rst) {
    if (skb.cb0 === tp.rcvNxt || tcpResetCheck(sk, tp, skb) || (tcpIsSack(tp) && skb.cb0 === highestSackEnd(tp)))
      return resetBy(cpu, sk, skb)
    tcpSendChallengeAck(cpu, sk)
    return discard(cpu, sk, skb, 'TCP_RESET')
  }
  if (syn) {
    const crossed =
      sk.state === TCP_SYN_RECV &&
      sk.socket !== 0 &&
      (flags & TCPHDR_ACK) !== 0 &&
      ((skb.cb0 + 1) | 0) === skb.cb1 &&
      skb.cb1 === tp.rcvNxt &&
      skb.cb3 === tp.sndNxt
    if (!crossed) return synChallenge(cpu, sk, skb, synInerr)
  }
  return true
}

/** Models `tcp_disordered_ack`: a pure ACK that was overtaken. */
function disorderedAck(tp: TcpSock, skb: SkBuff, flags: number): boolean {
  return (
    (flags & TCPHDR_ACK) !== 0 &&
    skb.cb0 === skb.cb1 &&
    skb.cb0 === tp.rcvNxt &&
    skb.cb3 === tp.sndUna &&
    ((tp.rx.tsRecent - tp.rx.rcvTsval) | 0) <= Math.floor((tp.rto * 1024) / tp.env.hz)
  )
}

function highestSackEnd(tp: TcpSock): number {
  let max = tp.rx.numSacks > 0 ? tp.selectiveAcks[1]! : tp.rcvNxt
  for (let i = 1; i < tp.rx.numSacks; i++)
    if (after(tp.selectiveAcks[2 * i + 1]!, max)) max = tp.selectiveAcks[2 * i + 1]!
  return max
}

function synChallenge(cpu: Cpu, sk: Sock, skb: SkBuff, synInerr: boolean): boolean {
  if (synInerr) incStats(sk, MIB.InErrs)
  incStats(sk, MIB.TCPSYNChallenge)
  tcpSendChallengeAck(cpu, sk)
  return discard(cpu, sk, skb, 'TCP_INVALID_SYN')
}

function discard(cpu: Cpu, sk: Sock, skb: SkBuff, reason: SkbDropReason): boolean {
  tcpDropReason(cpu, sk, skb, reason, 'tcp_validate_incoming')
  return false
}

function resetBy(cpu: Cpu, sk: Sock, skb: SkBuff): boolean {
  tcpReset(cpu, sk)
  kfreeSkbUnchecked(cpu, skb, 'tcp_validate_incoming')
  return false
}

/** Models `tcp_reset` (net/ipv4/tcp_input.c): the peer gave up. */
export function tcpReset(cpu: Cpu, sk: Sock): void {
  if (sk.state === TCP_CLOSE) return
  const err =
    sk.state === TCP_SYN_SENT ? ERRNO.ECONNREFUSED : sk.state === TCP_CLOSE_WAIT ? ERRNO.EPIPE : ERRNO.ECONNRESET
  tcpDieWith(cpu, sk, err)
}

/** Models `tcp_urg` and `tcp_check_urg`: one byte that may be read out of order. */
export function tcpUrg(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  const { u8 } = skb.env
  const th = (skb.head + skb.transportHeader) >>> 0
  if ((thFlags(u8, th) & TCPHDR_URG) !== 0) {
    let ptr = thUrgPtr(u8, th)
    if (ptr !== 0) ptr--
    const seq = (ptr + skb.cb0) | 0
    const seen = after(tp.copiedSeq, seq) || before(seq, tp.rcvNxt) || (tp.urgData !== 0 && !after(seq, tp.urgSeq))
    if (!seen) {
      tp.urgData = TCP_URG_NOTYET
      tp.urgSeq = seq
      tp.predFlags = 0
    }
  }
  if (tp.urgData !== TCP_URG_NOTYET) return
  const syn = (thFlags(u8, th) & TCPHDR_SYN) !== 0 ? 1 : 0
  const at = ((tp.urgSeq - skb.cb0) | 0) + thBytes(u8, th) - syn
  if (at < 0 || at >= skb.len) return
  tp.urgData = TCP_URG_VALID | byteAt(skb, at)
  if (!sockFlag(sk, SOCKF_DEAD)) sk.dataReady(cpu, sk)
}

/** One byte of a packet, linear or not. */
function byteAt(skb: SkBuff, offset: number): number {
  const linear = skb.len - skb.dataLen
  if (offset < linear) return skb.env.u8[(skb.data + offset) >>> 0]!
  let at = offset - linear
  for (let i = 0; i < nrFrags(skb); i++) {
    if (at < fragLen(skb, i)) return skb.env.u8[(fragAddr(skb, i) + at) >>> 0]!
    at -= fragLen(skb, i)
  }
  return 0
}

/** Models `tcp_rcv_established` (net/ipv4/tcp_input.c). Takes the skb, `data` at the TCP header. */
export function tcpRcvEstablished(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  const tp = tcpSk(sk)
  const { u8 } = skb.env
  const th = skb.data >>> 0
  const len = skb.len
  tcpMstampRefresh(tp)
  tp.rx.sawTstamp = false
  if (tcpHpWord(u8, th) === tp.predFlags && skb.cb0 === tp.rcvNxt && !after(skb.cb3, tp.sndNxt)) {
    if (fastPath(cpu, sk, tp, skb, th, len)) return
    if (tp.env.fastPathVerdict === FAST_STEP5) {
      slowTail(cpu, sk, tp, skb)
      return
    }
  }
  if (len < thBytes(u8, th)) {
    incStats(sk, MIB.InCsumErrors)
    incStats(sk, MIB.InErrs)
    tcpDropReason(cpu, sk, skb, 'TCP_CSUM', 'tcp_rcv_established')
    return
  }
  const flags = thFlags(u8, th)
  if ((flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN)) === 0) {
    tcpDropReason(cpu, sk, skb, 'TCP_FLAGS', 'tcp_rcv_established')
    return
  }
  if (!tcpValidateIncoming(cpu, sk, skb, true)) return
  slowTail(cpu, sk, tp, skb)
}

const FAST_SLOW = 0
const FAST_STEP5 = 1

/** From step 5 of RFC 793 on: the ACK, then the data. */
function slowTail(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff): void {
  const rc = tcpAck(cpu, sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT)
  if (rc < 0) {
    tcpDropReason(cpu, sk, skb, rc === ACK_TOO_OLD ? 'TCP_TOO_OLD_ACK' : 'TCP_ACK_UNSENT_DATA', 'tcp_rcv_established')
    return
  }
  tcpRcvRttMeasureTs(sk, skb)
  if (tp.urgData === TCP_URG_NOTYET || (thFlags(skb.env.u8, skb.data >>> 0) & TCPHDR_URG) !== 0) tcpUrg(cpu, sk, skb)
  tcpDataQueue(cpu, sk, skb, 'tcp_rcv_established')
  tcpDataSndCheck(cpu, sk)
  tcpAckSndCheck(cpu, sk)
}

/** @returns true when the segment was dealt with. Otherwise `env.fastPathVerdict` says where to go on. */
function fastPath(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, th: number, len: number): boolean {
  const headerLen = tp.tcpHeaderLen
  const stamped = headerLen === TCP_HEADER_BYTES + TCPOLEN_TSTAMP_ALIGNED
  tp.env.fastPathVerdict = FAST_SLOW
  if (stamped) {
    if (!tcpParseAlignedTimestamp(skb.env.u8, th, tp.rx)) return false
    if (tp.rx.rcvTsecr !== 0) tp.rx.rcvTsecr = (tp.rx.rcvTsecr - tp.tsoffset) | 0
    if (((tp.rx.rcvTsval - tp.rx.tsRecent) | 0) < 0) return false
  }
  if (len <= headerLen) {
    if (len < headerLen) {
      incStats(sk, MIB.InErrs)
      tcpDropReason(cpu, sk, skb, 'PKT_TOO_SMALL', 'tcp_rcv_established')
      return true
    }
    if (stamped && tp.rcvNxt === tp.rcvWup) tcpStoreTsRecent(tp)
    tcpAck(cpu, sk, skb, 0)
    kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_established')
    tcpDataSndCheck(cpu, sk)
    tp.rcvRttLastTsecr = tp.rx.rcvTsecr
    return true
  }
  if (after(skb.cb1, (tp.rcvNxt + tcpReceiveWindow(tp)) | 0) && tp.env.features.tcpWindowEndCheck) return false
  if (skb.truesize > sk.forwardAlloc) {
    tp.env.fastPathVerdict = FAST_STEP5
    return false
  }
  if (stamped && tp.rcvNxt === tp.rcvWup) tcpStoreTsRecent(tp)
  tcpRcvRttMeasureTs(sk, skb)
  incStats(sk, MIB.TCPHPHits)
  skbPullUnchecked(skb, headerLen)
  const eaten = tcpQueueRcv(cpu, sk, skb)
  const stolen = tp.env.coalesced.fragstolen
  tcpEventDataRecv(sk, skb)
  let ack = true
  if (skb.cb3 !== tp.sndUna) {
    tcpAck(cpu, sk, skb, FLAG_DATA)
    tcpDataSndCheck(cpu, sk)
    ack = inetCskAckScheduled(tp)
  } else tp.sndWl1 = skb.cb0
  if (ack) tcpAckSndCheckNow(cpu, sk, false)
  if (eaten) kfreeSkbPartial(cpu, skb, stolen, 'tcp_rcv_established')
  tcpDataReady(cpu, sk)
  return true
}
