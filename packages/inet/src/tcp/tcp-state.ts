/**
 * The states of a connection other than established: RFC 793's procedure, with what has been learned since.
 */
import type { Cpu } from '@netmem/base'
import { consumeSkb, kfreeSkbUnchecked, type SkBuff, type SkbDropReason } from '@netmem/skbuff'
import {
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SOCKF_DEAD,
  SOCKF_KEEPOPEN,
  type Sock,
  sockFlag,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_LAST_ACK,
  TCP_LISTEN,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_TIME_WAIT,
} from '@netmem/sockmem'
import { localBhDisable, localBhEnable } from '@netmem/virtual-nic'
import type { RequestSock } from './request-sock.js'
import { after, before, between } from './seq.js'
import { ACK_TOO_OLD, tcpAck, tcpAckUpdateRtt, tcpStoreTsRecent } from './tcp-ack.js'
import { FLAG_NO_CHALLENGE_ACK, FLAG_SLOWPATH, FLAG_SYN_ACKED, FLAG_UPDATE_TS_RECENT } from './tcp-ack-flags.js'
import { tcpDropReason, tcpSendChallengeAck } from './tcp-challenge.js'
import { tcpInitCongestionControl, tcpUpdatePacingRate } from './tcp-cong.js'
import { tcpDataQueue } from './tcp-data-queue.js'
import { tcpFastPathOn, tcpFastPathOnAt } from './tcp-fast-path.js'
import { tcpAckSndCheck, tcpDataSndCheck, tcpPawsCheck, tcpReset, tcpUrg, tcpValidateIncoming } from './tcp-input.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpDone, tcpFinTime, tcpTimeWait } from './tcp-minisocks.js'
import { tcpMtupInit, tcpSyncMss } from './tcp-mss.js'
import { TCPOLEN_TSTAMP_ALIGNED, tcpParseOptions } from './tcp-options.js'
import { tcpSendAck } from './tcp-output.js'
import {
  TCP_INIT_CWND,
  TCP_MAX_QUICKACKS,
  tcpEnterQuickackMode,
  tcpInitBufferSpace,
  tcpInitializeRcvMss,
} from './tcp-rcvbuf.js'
import { tcpConnRequest } from './tcp-request.js'
import { tcpShutdownSend } from './tcp-shutdown.js'
import { TCP_HEADER_BYTES, TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN, thFlags, thWindow } from './tcp-skb.js'
import { ICSK_TIME_RETRANS, inetCskScheduleAck, type TcpSock, tcpSk } from './tcp-sock.js'
import { tcpSetState } from './tcp-state-set.js'
import { tcpSendSynack } from './tcp-synack.js'
import { tcpJiffies, tcpMstampRefresh, tcpStampUsDelta } from './tcp-time.js'
import { tcpKeepaliveTimeWhen } from './tcp-timer.js'
import { tcpResetDackTimer, tcpResetKeepaliveTimer, tcpResetXmitTimer } from './tcp-timer-arm.js'

/** Models `tcp_init_transfer` (net/ipv4/tcp_input.c): the handshake is over. */
export function tcpInitTransfer(sk: Sock): void {
  const tp = tcpSk(sk)
  tcpMtupInit(tp)
  // A handshake that had to be repeated begins with one segment.
  tp.sndCwnd = tp.totalRetrans > 1 && tp.undoMarker !== 0 ? 1 : TCP_INIT_CWND
  tp.sndCwndStamp = tcpJiffies(tp)
  tcpInitCongestionControl(tp)
  tcpInitBufferSpace(sk)
}

/** Models `tcp_finish_connect`. */
function tcpFinishConnect(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  tcpSetState(cpu, sk, TCP_ESTABLISHED)
  tp.lrcvtime = tcpJiffies(tp)
  tcpInitTransfer(sk)
  tp.lsndtime = tcpJiffies(tp)
  if (sockFlag(sk, SOCKF_KEEPOPEN)) tcpResetKeepaliveTimer(tp, tcpKeepaliveTimeWhen(tp))
  if (tp.rx.sndWscale === 0) tcpFastPathOnAt(tp, tp.sndWnd)
  else tp.predFlags = 0
}

/** What became of a segment in SYN-SENT. */
const SYNSENT_DONE = 0
const SYNSENT_GO_ON = 1
const SYNSENT_RESET = 2

/** Models `tcp_rcv_synsent_state_process` (net/ipv4/tcp_input.c). */
function synSent(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, th: number): number {
  const { mem, u8 } = skb.env
  const flags = thFlags(u8, th)
  const savedClamp = tp.rx.mssClamp
  const ctl = tp.ctl
  tcpParseOptions(mem, th, tp.rx, false, ctl.timestamps[0] !== 0, ctl.windowScaling[0] !== 0, ctl.sack[0] !== 0)
  if (tp.rx.sawTstamp && tp.rx.rcvTsecr !== 0) tp.rx.rcvTsecr = (tp.rx.rcvTsecr - tp.tsoffset) | 0
  if ((flags & TCPHDR_ACK) !== 0) {
    if (!after(skb.cb3, tp.sndUna) || after(skb.cb3, tp.sndNxt)) {
      if (tp.retransmits === 0) tcpResetXmitTimer(tp, ICSK_TIME_RETRANS, tp.env.timeoutMin)
      return undo(tp, savedClamp, SYNSENT_RESET)
    }
    if (tp.rx.sawTstamp && tp.rx.rcvTsecr !== 0 && !between(tp.rx.rcvTsecr, tp.retransStamp, tp.tsStamp)) {
      incStats(sk, MIB.PAWSActive)
      return undo(tp, savedClamp, SYNSENT_RESET)
    }
    if ((flags & TCPHDR_RST) !== 0) {
      tcpReset(cpu, sk)
      kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_state_process')
      return SYNSENT_DONE
    }
    if ((flags & TCPHDR_SYN) === 0) return synSentDrop(cpu, sk, tp, skb, savedClamp, 'TCP_FLAGS')
    return synSentConnected(cpu, sk, tp, skb, th)
  }
  if ((flags & TCPHDR_RST) !== 0) return synSentDrop(cpu, sk, tp, skb, savedClamp, 'TCP_RESET')
  if (tp.rx.tsRecentStamp !== 0 && tp.rx.sawTstamp && !tcpPawsCheck(tp, 0))
    return synSentDrop(cpu, sk, tp, skb, savedClamp, 'TCP_RFC7323_PAWS')
  if ((flags & TCPHDR_SYN) === 0) return synSentDrop(cpu, sk, tp, skb, savedClamp, 'NOT_SPECIFIED')
  crossedSyn(cpu, sk, tp, skb, th)
  return SYNSENT_DONE
}

function undo(tp: TcpSock, savedClamp: number, outcome: number): number {
  tp.rx.clear()
  tp.rx.mssClamp = savedClamp
  return outcome
}

function synSentDrop(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, savedClamp: number, reason: SkbDropReason): number {
  tcpDropReason(cpu, sk, skb, reason, 'tcp_rcv_state_process')
  return undo(tp, savedClamp, SYNSENT_DONE)
}

/** What a SYN tells of timestamps. */
function takeTimestamps(tp: TcpSock): void {
  if (tp.rx.sawTstamp) {
    tp.rx.tstampOk = 1
    tp.tcpHeaderLen = TCP_HEADER_BYTES + TCPOLEN_TSTAMP_ALIGNED
    tcpStoreTsRecent(tp)
  } else tp.tcpHeaderLen = TCP_HEADER_BYTES
}

function synSentConnected(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, th: number): number {
  tp.sndWl1 = skb.cb0
  if (tp.undoMarker !== 0 && tp.retransStamp !== 0 && tp.rx.sawTstamp && tp.retransStamp === tp.rx.rcvTsecr)
    tp.undoMarker = 0
  tcpAck(cpu, sk, skb, FLAG_SLOWPATH)
  tp.rcvNxt = (skb.cb0 + 1) | 0
  tp.rcvWup = tp.rcvNxt
  tp.sndWnd = thWindow(skb.env.u8, th)
  if (tp.rx.wscaleOk === 0) {
    tp.rx.sndWscale = 0
    tp.rx.rcvWscale = 0
    tp.windowClamp = Math.min(tp.windowClamp, 65535)
  }
  takeTimestamps(tp)
  if (tp.rx.tstampOk !== 0) tp.advmss -= TCPOLEN_TSTAMP_ALIGNED
  tcpSyncMss(sk, tp.pmtuCookie)
  tcpInitializeRcvMss(tp)
  tp.copiedSeq = tp.rcvNxt
  tcpFinishConnect(cpu, sk)
  if (!sockFlag(sk, SOCKF_DEAD)) sk.stateChange(cpu, sk)
  if (tp.deferAccept !== 0 || tp.ackPingpong !== 0) {
    // The user said that data follows at once: it will carry the ACK.
    inetCskScheduleAck(tp)
    tcpEnterQuickackMode(tp, TCP_MAX_QUICKACKS)
    tcpResetDackTimer(tp, tp.env.delackMax)
    kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_state_process')
    return SYNSENT_DONE
  }
  tcpSendAck(cpu, sk)
  return SYNSENT_GO_ON
}

/** Both ends connect to each other at once. */
function crossedSyn(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, th: number): void {
  tcpSetState(cpu, sk, TCP_SYN_RECV)
  takeTimestamps(tp)
  tp.rcvNxt = (skb.cb0 + 1) | 0
  tp.copiedSeq = tp.rcvNxt
  tp.rcvWup = tp.rcvNxt
  tp.sndWnd = thWindow(skb.env.u8, th)
  tp.sndWl1 = skb.cb0
  tp.maxWindow = tp.sndWnd
  tcpMtupInit(tp)
  tcpSyncMss(sk, tp.pmtuCookie)
  tcpInitializeRcvMss(tp)
  tcpSendSynack(cpu, sk)
  kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_state_process')
}

/**
 * Models `tcp_rcv_state_process` (net/ipv4/tcp_input.c). Takes the skb unless it returns a reason, which the
 * caller answers with a reset.
 *
 * @param req the request that a child comes from, for its round-trip time.
 */
export function tcpRcvStateProcess(
  cpu: Cpu,
  sk: Sock,
  skb: SkBuff,
  req: RequestSock | null = null,
): SkbDropReason | null {
  const tp = tcpSk(sk)
  const th = (skb.head + skb.transportHeader) >>> 0
  const flags = thFlags(skb.env.u8, th)
  if (sk.state === TCP_CLOSE) {
    tcpDropReason(cpu, sk, skb, 'TCP_CLOSE', 'tcp_rcv_state_process')
    return null
  }
  if (sk.state === TCP_LISTEN) return listen(cpu, sk, skb, flags)
  if (sk.state === TCP_SYN_SENT) {
    tp.rx.sawTstamp = false
    tcpMstampRefresh(tp)
    const outcome = synSent(cpu, sk, tp, skb, th)
    if (outcome === SYNSENT_RESET) return 'TCP_INVALID_ACK_SEQUENCE'
    if (outcome === SYNSENT_GO_ON) {
      tcpUrg(cpu, sk, skb)
      kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_state_process')
      tcpDataSndCheck(cpu, sk)
    }
    return null
  }
  tcpMstampRefresh(tp)
  tp.rx.sawTstamp = false
  if ((flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN)) === 0) {
    tcpDropReason(cpu, sk, skb, 'TCP_FLAGS', 'tcp_rcv_state_process')
    return null
  }
  if (!tcpValidateIncoming(cpu, sk, skb, false)) return null
  const acceptable = tcpAck(cpu, sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT | FLAG_NO_CHALLENGE_ACK)
  if (acceptable <= 0) {
    if (sk.state === TCP_SYN_RECV) return acceptable === 0 ? 'TCP_OLD_ACK' : 'TCP_ACK_UNSENT_DATA'
    if (acceptable < 0) {
      tcpSendChallengeAck(cpu, sk)
      const reason = acceptable === ACK_TOO_OLD ? 'TCP_TOO_OLD_ACK' : 'TCP_ACK_UNSENT_DATA'
      tcpDropReason(cpu, sk, skb, reason, 'tcp_rcv_state_process')
      return null
    }
  }
  return afterAck(cpu, sk, tp, skb, th, flags, req)
}

function listen(cpu: Cpu, sk: Sock, skb: SkBuff, flags: number): SkbDropReason | null {
  if ((flags & TCPHDR_ACK) !== 0) return 'TCP_FLAGS'
  if ((flags & TCPHDR_RST) !== 0) {
    tcpDropReason(cpu, sk, skb, 'TCP_RESET', 'tcp_rcv_state_process')
    return null
  }
  if ((flags & TCPHDR_SYN) !== 0 && (flags & TCPHDR_FIN) === 0) {
    const { devs } = tcpSk(sk).env.ip.inet
    localBhDisable(cpu)
    tcpConnRequest(cpu, sk, skb)
    localBhEnable(devs, cpu)
    consumeSkb(cpu, skb, 'tcp_rcv_state_process')
    return null
  }
  tcpDropReason(cpu, sk, skb, 'TCP_FLAGS', 'tcp_rcv_state_process')
  return null
}

function afterAck(
  cpu: Cpu,
  sk: Sock,
  tp: TcpSock,
  skb: SkBuff,
  th: number,
  flags: number,
  req: RequestSock | null,
): SkbDropReason | null {
  const fin = (flags & TCPHDR_FIN) !== 0
  switch (sk.state) {
    case TCP_SYN_RECV:
      synRecv(cpu, sk, tp, skb, th, req)
      break
    case TCP_FIN_WAIT1: {
      if (tp.sndUna !== tp.writeSeq) break
      const reason = finWait1(cpu, sk, tp, skb, fin)
      if (reason === CONSUMED) return null
      if (reason !== null) return reason
      break
    }
    case TCP_CLOSING:
      if (tp.sndUna === tp.writeSeq) {
        tcpTimeWait(cpu, sk, TCP_TIME_WAIT, 0)
        kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_state_process')
        return null
      }
      break
    case TCP_LAST_ACK:
      if (tp.sndUna === tp.writeSeq) {
        tcpDone(cpu, sk)
        kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_state_process')
        return null
      }
      break
    default:
      break
  }
  tcpUrg(cpu, sk, skb)
  return segmentText(cpu, sk, tp, skb, fin)
}

/** The third packet of the handshake, at the side that was called. */
function synRecv(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, th: number, req: RequestSock | null): void {
  tp.delivered++
  if (tp.srttUs === 0) {
    const sent = req !== null && req.numRetrans === 0 && req.sntSynackUs !== 0
    const rtt = sent ? tcpStampUsDelta(tp.mstamp, req.sntSynackUs) : -1
    tcpAckUpdateRtt(tp, FLAG_SYN_ACKED, rtt, -1, rtt, tp.env.rs)
  }
  if (tp.rx.tstampOk !== 0) tp.advmss -= TCPOLEN_TSTAMP_ALIGNED
  tp.retransStamp = 0
  tcpInitTransfer(sk)
  tp.copiedSeq = tp.rcvNxt
  tcpSetState(cpu, sk, TCP_ESTABLISHED)
  sk.stateChange(cpu, sk)
  tp.sndUna = skb.cb3
  tp.sndWnd = thWindow(skb.env.u8, th) << tp.rx.sndWscale
  tp.sndWl1 = skb.cb0
  if (tp.caOps.congControl === null) tcpUpdatePacingRate(tp)
  tp.lsndtime = tcpJiffies(tp)
  tcpInitializeRcvMss(tp)
  tcpFastPathOn(tp)
  if ((sk.shutdown & SEND_SHUTDOWN) !== 0) tcpShutdownSend(cpu, sk)
}

const CONSUMED = 'CONSUMED'

/** Our FIN is acknowledged. @returns null to go on, `CONSUMED`, or a reason to reset. */
function finWait1(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, fin: boolean): SkbDropReason | null {
  tcpSetState(cpu, sk, TCP_FIN_WAIT2)
  sk.shutdown |= SEND_SHUTDOWN
  if (!sockFlag(sk, SOCKF_DEAD)) {
    sk.stateChange(cpu, sk)
    return null
  }
  const dataEnd = (skb.cb1 - (fin ? 1 : 0)) | 0
  if (tp.linger2 < 0 || (skb.cb1 !== skb.cb0 && after(dataEnd, tp.rcvNxt))) {
    // Data for a user who is gone.
    tcpDone(cpu, sk)
    incStats(sk, MIB.TCPAbortOnData)
    return 'TCP_ABORT_ON_DATA'
  }
  const tmo = tcpFinTime(tp)
  if (tmo > tp.env.timewaitLen) tcpResetKeepaliveTimer(tp, tmo - tp.env.timewaitLen)
  else if (fin || sk.owned !== 0) tcpResetKeepaliveTimer(tp, tmo)
  else {
    tcpTimeWait(cpu, sk, TCP_FIN_WAIT2, tmo)
    kfreeSkbUnchecked(cpu, skb, 'tcp_rcv_state_process')
    return CONSUMED
  }
  return null
}

function segmentText(cpu: Cpu, sk: Sock, tp: TcpSock, skb: SkBuff, fin: boolean): SkbDropReason | null {
  let queued = false
  const { state } = sk
  const closing = state === TCP_CLOSE_WAIT || state === TCP_CLOSING || state === TCP_LAST_ACK
  const take =
    state === TCP_ESTABLISHED ||
    state === TCP_FIN_WAIT1 ||
    state === TCP_FIN_WAIT2 ||
    (closing && before(skb.cb0, tp.rcvNxt))
  if (take) {
    if (state !== TCP_ESTABLISHED && (sk.shutdown & RCV_SHUTDOWN) !== 0) {
      const dataEnd = (skb.cb1 - (fin ? 1 : 0)) | 0
      if (skb.cb1 !== skb.cb0 && after(dataEnd, tp.rcvNxt)) {
        incStats(sk, MIB.TCPAbortOnData)
        tcpReset(cpu, sk)
        return 'TCP_ABORT_ON_DATA'
      }
    }
    tcpDataQueue(cpu, sk, skb, 'tcp_rcv_state_process')
    queued = true
  }
  if (sk.state !== TCP_CLOSE) {
    tcpDataSndCheck(cpu, sk)
    tcpAckSndCheck(cpu, sk)
  }
  if (!queued) tcpDropReason(cpu, sk, skb, 'NOT_SPECIFIED', 'tcp_rcv_state_process')
  return null
}
