/**
 * Entering and leaving the states of loss: the retransmission timeout marks everything lost, fast recovery
 * only what is; and if it turns out that nothing was, the window is given back.
 */
import type { Cpu } from '@netmem/base'
import { skbPeek, skbPeekTail } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { FLAG_DATA_SACKED, FLAG_ORIG_SACK_ACKED, FLAG_SND_UNA_ADVANCED } from './tcp-ack-flags.js'
import { CA_EVENT_LOSS, tcpInitCwndReduction, tcpSetCaState } from './tcp-cong.js'
import { incStats, MIB } from './tcp-mib.js'
import { type Alert, tcpMarkSkbLost, tcpTryKeepOpen } from './tcp-recovery.js'
import { tcpAddRenoSack, tcpResetRenoSack } from './tcp-sack.js'
import { TCPCB_LOST, TCPCB_SACKED_ACKED } from './tcp-skb.js'
import {
  TCP_CA_DISORDER,
  TCP_CA_LOSS,
  TCP_CA_OPEN,
  TCP_CA_RECOVERY,
  type TcpSock,
  tcpInCwndReduction,
  tcpIsSack,
  tcpPacketsInFlight,
  tcpSk,
  tcpWndEnd,
} from './tcp-sock.js'
import { tcpJiffies } from './tcp-time.js'

const REXMIT_NEW = 2
const REXMIT_LOST = 1

/** Models `tcp_init_undo`. */
function tcpInitUndo(tp: TcpSock): void {
  tp.undoMarker = tp.sndUna
  tp.undoRetrans = tp.retransOut === 0 ? -1 : tp.retransOut
}

/** Models `tcp_timeout_mark_lost`. */
function tcpTimeoutMarkLost(sk: Sock, tp: TcpSock): void {
  const { skbs } = tp.env.skbs
  const head = skbPeek(tp.rtxQueue)
  const reneg = head !== null && (head.cb2 & TCPCB_SACKED_ACKED) !== 0
  if (reneg) {
    incStats(sk, MIB.TCPSACKReneging)
    tp.sackedOut = 0
    tp.isSackReneg = 1
  } else if (!tcpIsSack(tp)) tcpResetRenoSack(tp)
  for (let skb = head; skb !== null; skb = skb.next === 0 ? null : skbs[skb.next]!) {
    if (reneg) skb.cb2 &= ~TCPCB_SACKED_ACKED
    else if (tcpIsSack(tp) && skb !== head && tp.rackMstamp !== 0 && ((skb.cb4 + tp.rackRttUs - tp.mstamp) | 0) > 0)
      continue
    tcpMarkSkbLost(sk, skb)
  }
}

/** Models `tcp_enter_loss` (net/ipv4/tcp_input.c): the retransmission timer ran out. */
export function tcpEnterLoss(_cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const newRecovery = tp.caState < TCP_CA_RECOVERY
  tcpTimeoutMarkLost(sk, tp)
  if (
    tp.caState <= TCP_CA_DISORDER ||
    !after(tp.highSeq, tp.sndUna) ||
    (tp.caState === TCP_CA_LOSS && tp.retransmits === 0)
  ) {
    tp.priorSsthresh = Math.max(tp.sndSsthresh, tp.sndCwnd)
    tp.priorCwnd = tp.sndCwnd
    tp.sndSsthresh = tp.caOps.ssthresh(tp)
    tp.caOps.cwndEvent(tp, CA_EVENT_LOSS)
    tcpInitUndo(tp)
  }
  tp.sndCwnd = tcpPacketsInFlight(tp) + 1
  tp.sndCwndCnt = 0
  tp.sndCwndStamp = tcpJiffies(tp)
  if (tp.caState <= TCP_CA_DISORDER && tp.sackedOut >= tp.ctl.reordering[0]!)
    tp.reordering = Math.min(tp.reordering, tp.ctl.reordering[0]!)
  tcpSetCaState(tp, TCP_CA_LOSS)
  tp.highSeq = tp.sndNxt
  tp.tlpHighSeq = 0
  // F-RTO: if new data gets through, the timeout was spurious.
  tp.frto = tp.ctl.frto[0] !== 0 && (newRecovery || tp.retransmits !== 0) && tp.mtupProbeSize === 0 ? 1 : 0
}

/** Models `tcp_enter_recovery` (net/ipv4/tcp_input.c). */
export function tcpEnterRecovery(sk: Sock): void {
  const tp = tcpSk(sk)
  incStats(sk, tcpIsSack(tp) ? MIB.TCPSackRecovery : MIB.TCPRenoRecovery)
  tp.priorSsthresh = 0
  tcpInitUndo(tp)
  if (!tcpInCwndReduction(tp)) {
    tp.priorSsthresh = tcpInCwndReduction(tp)
      ? tp.sndSsthresh
      : Math.max(tp.sndSsthresh, (tp.sndCwnd >> 1) + (tp.sndCwnd >> 2))
    tcpInitCwndReduction(tp)
  }
  tcpSetCaState(tp, TCP_CA_RECOVERY)
}

// Taking it back.

/** Models `tcp_packet_delayed`: the ACK echoes a time before the retransmission. */
const tcpPacketDelayed = (tp: TcpSock): boolean =>
  tp.retransStamp !== 0 && tp.rx.sawTstamp && tp.rx.rcvTsecr !== 0 && ((tp.rx.rcvTsecr - tp.retransStamp) | 0) < 0

/** Models `tcp_may_undo`. */
const tcpMayUndo = (tp: TcpSock): boolean => tp.undoMarker !== 0 && (tp.undoRetrans === 0 || tcpPacketDelayed(tp))

/** Models `tcp_undo_cwnd_reduction`. */
function tcpUndoCwndReduction(tp: TcpSock, unmarkLoss: boolean): void {
  if (unmarkLoss) {
    const { skbs } = tp.env.skbs
    for (let skb = skbPeek(tp.rtxQueue); skb !== null; skb = skb.next === 0 ? null : skbs[skb.next]!)
      skb.cb2 &= ~TCPCB_LOST
    tp.lostOut = 0
    tp.retransmitSkbHint = 0
  }
  if (tp.priorSsthresh !== 0) {
    tp.sndCwnd = tp.caOps.undoCwnd(tp)
    if (tp.priorSsthresh > tp.sndSsthresh) tp.sndSsthresh = tp.priorSsthresh
  }
  tp.sndCwndStamp = tcpJiffies(tp)
  tp.undoMarker = 0
  tp.rackAdvanced = 1
}

/** Models `tcp_try_undo_recovery`. @returns true when the window must be held until something above is acknowledged. */
export function tcpTryUndoRecovery(sk: Sock): boolean {
  const tp = tcpSk(sk)
  if (tcpMayUndo(tp)) {
    const loss = tp.caState === TCP_CA_LOSS
    tcpUndoCwndReduction(tp, false)
    incStats(sk, loss ? MIB.TCPLossUndo : MIB.TCPFullUndo)
  } else if (tp.rackReoWndPersist !== 0) tp.rackReoWndPersist--
  if (tp.sndUna === tp.highSeq && !tcpIsSack(tp)) {
    // Without SACK duplicate ACKs of the same flight could start it all again.
    if (tp.retransOut === 0) tp.retransStamp = 0
    return true
  }
  tcpSetCaState(tp, TCP_CA_OPEN)
  tp.isSackReneg = 0
  return false
}

/** Models `tcp_try_undo_dsack`. */
export function tcpTryUndoDsack(sk: Sock): boolean {
  const tp = tcpSk(sk)
  if (tp.undoMarker === 0 || tp.undoRetrans !== 0) return false
  tp.rackReoWndPersist = Math.min(16, tp.rackReoWndPersist + 1)
  tcpUndoCwndReduction(tp, false)
  incStats(sk, MIB.TCPDSACKUndo)
  return true
}

/** Models `tcp_try_undo_partial`: a partial ACK shows that the packets were only late. */
export function tcpTryUndoPartial(sk: Sock): boolean {
  const tp = tcpSk(sk)
  if (tp.undoMarker === 0 || !tcpPacketDelayed(tp)) return false
  if (tp.retransOut !== 0) return true
  if (tp.retransOut === 0) tp.retransStamp = 0
  tcpUndoCwndReduction(tp, true)
  incStats(sk, MIB.TCPPartialUndo)
  tcpTryKeepOpen(tp)
  return false
}

/** Models `tcp_try_undo_loss`. */
function tcpTryUndoLoss(sk: Sock, tp: TcpSock, frtoUndo: boolean): boolean {
  if (!frtoUndo && !tcpMayUndo(tp)) return false
  tcpUndoCwndReduction(tp, true)
  incStats(sk, MIB.TCPLossUndo)
  if (frtoUndo) incStats(sk, MIB.TCPSpuriousRTOs)
  tp.retransmits = 0
  if (tp.retransOut === 0) tp.retransStamp = 0
  if (frtoUndo || tcpIsSack(tp)) {
    tcpSetCaState(tp, TCP_CA_OPEN)
    tp.isSackReneg = 0
  }
  return true
}

/** Models `tcp_process_loss` (net/ipv4/tcp_input.c): an ACK after the timeout, with F-RTO. */
export function tcpProcessLoss(sk: Sock, flag: number, dupacks: number, alert: Alert): void {
  const tp = tcpSk(sk)
  const recovered = !before(tp.sndUna, tp.highSeq)
  const advanced = (flag & FLAG_SND_UNA_ADVANCED) !== 0
  if (advanced && tcpTryUndoLoss(sk, tp, false)) return
  if (tp.frto !== 0) {
    if ((flag & FLAG_ORIG_SACK_ACKED) !== 0 && tcpTryUndoLoss(sk, tp, true)) return
    if (after(tp.sndNxt, tp.highSeq)) {
      if ((flag & FLAG_DATA_SACKED) !== 0 || dupacks !== 0) tp.frto = 0
    } else if (advanced && !recovered) {
      tp.highSeq = tp.sndNxt
      // New data, if there is any, tells more than a retransmission.
      const head = skbPeekTail(sk.writeQueue)
      if (head !== null && after(tcpWndEnd(tp), tp.sndNxt)) {
        alert.rexmit = REXMIT_NEW
        return
      }
      tp.frto = 0
    }
  }
  if (recovered) {
    tcpTryUndoRecovery(sk)
    return
  }
  if (!tcpIsSack(tp)) {
    if (after(tp.sndNxt, tp.highSeq) && dupacks !== 0) tcpAddRenoSack(sk, dupacks)
    else if (advanced) tcpResetRenoSack(tp)
  }
  alert.rexmit = REXMIT_LOST
}
