/**
 * The user is done with a socket: an orderly end, an abort when bytes were left unread, or nothing at all when
 * there was no connection. What is left lives on as an orphan or a time-wait sock.
 */
import { type Cpu, ERRNO, type Gfp, type NO_PFN } from '@netmem/base'
import { putPage } from '@netmem/memory'
import { kfreeSkbUnchecked, type SkBuff, skbAttemptDeferFree, skbPeek, skbQueuePurge, skbUnlink } from '@netmem/skbuff'
import {
  releaseBacklog,
  SHUTDOWN_MASK,
  SOCK_BINDADDR_LOCK,
  SOCK_BINDPORT_LOCK,
  SOCKF_DONE,
  SOCKF_LINGER,
  type Sock,
  skErrorReport,
  sockFlag,
  sockHold,
  sockOrphan,
  sockPut,
  sockResetFlag,
  sockRfree,
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
} from '@netmem/sockmem'
import { localBhDisable, localBhEnable } from '@netmem/virtual-nic'
import { inetPutPort } from './inet-bind.js'
import { reqskPut, reqskQueueRemove } from './request-sock.js'
import { after } from './seq.js'
import { inetCskDestroySock, tcpCheckOom } from './tcp-destroy.js'
import { tcpOfoPurge } from './tcp-fin.js'
import { lockSock, tcpReleaseSock } from './tcp-lock.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpFinTime, tcpTimeWait } from './tcp-minisocks.js'
import { tcpSendActiveReset } from './tcp-output.js'
import { tcpWriteQueuePurge } from './tcp-queue.js'
import { TCP_INIT_CWND } from './tcp-rcvbuf.js'
import { tcpCloseState, tcpSendFin } from './tcp-shutdown.js'
import { TCPHDR_FIN, tcpFlags } from './tcp-skb.js'
import { TCP_CA_OPEN, TCP_INFINITE_SSTHRESH, type TcpSock, tcpSk } from './tcp-sock.js'
import { tcpSetState } from './tcp-state-set.js'
import { tcpResetKeepaliveTimer, tcpStopAllTimers } from './tcp-timer-arm.js'

/** Models `tcp_eat_recv_skb` (net/ipv4/tcp.c): a packet that was read, or that nobody will read. */
export function tcpEatRecvSkb(cpu: Cpu, sk: Sock, skb: SkBuff, site: string): void {
  skbUnlink(sk.receiveQueue, skb)
  if (skb.destructor !== sk.env.sockRfree) {
    kfreeSkbUnchecked(cpu, skb, site)
    return
  }
  sockRfree(sk.env, cpu, skb)
  skb.destructor = 0
  skb.sk = 0
  skbAttemptDeferFree(cpu, skb, site)
}

/** Models `tcp_close` (net/ipv4/tcp.c) as `inet_release` calls it. The socket's own reference goes when it is destroyed. */
export function tcpClose(cpu: Cpu, sk: Sock): void {
  lockSock(sk)
  tcpCloseLocked(cpu, sk)
  tcpReleaseSock(cpu, sk)
  sockPut(cpu, sk, tcpSk(sk).env.freeSite('inet_release'))
}

/** Models `__tcp_close`. Differs: a linger time does not make the caller wait. */
function tcpCloseLocked(cpu: Cpu, sk: Sock): void {
  sk.shutdown = SHUTDOWN_MASK
  if (sk.state === TCP_LISTEN) {
    tcpSetState(cpu, sk, TCP_CLOSE)
    inetCskListenStop(cpu, sk)
  } else tcpSayGoodbye(cpu, sk)

  const { state } = sk
  const { devs } = tcpSk(sk).env.ip.inet
  sockHold(sk)
  sockOrphan(cpu, sk)
  localBhDisable(cpu)
  if (sk.backlogTail !== 0) releaseBacklog(cpu, sk)
  sk.proto.orphanCount!.value += 1
  // Unless the backlog has destroyed it already.
  if (state === TCP_CLOSE || sk.state !== TCP_CLOSE) tcpAdjudgeOrphan(cpu, sk)
  localBhEnable(devs, cpu)
}

/** What the peer is told. */
function tcpSayGoodbye(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  let unread = false
  for (let skb = skbPeek(sk.receiveQueue); skb !== null; skb = skbPeek(sk.receiveQueue)) {
    const end = (tcpFlags(skb) & TCPHDR_FIN) !== 0 ? (skb.cb1 - 1) | 0 : skb.cb1
    if (after(end, tp.copiedSeq)) unread = true
    tcpEatRecvSkb(cpu, sk, skb, '__tcp_close')
  }
  if (sk.state === TCP_CLOSE) return
  if (unread) {
    // Bytes were lost: an orderly end would be a lie (RFC 2525).
    incStats(sk, MIB.TCPAbortOnClose)
    tcpSetState(cpu, sk, TCP_CLOSE)
    tcpSendActiveReset(cpu, sk, sk.allocation as Gfp)
  } else if (sockFlag(sk, SOCKF_LINGER) && sk.lingertime === 0) {
    tcpDisconnect(cpu, sk)
    incStats(sk, MIB.TCPAbortOnData)
  } else if (tcpCloseState(cpu, sk)) tcpSendFin(cpu, sk)
}

/** The second half of `__tcp_close`: which orphans may live on, and for how long. */
function tcpAdjudgeOrphan(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const { env } = tp
  const atomic = env.mem.gfp.GFP_ATOMIC as Gfp
  if (sk.state === TCP_FIN_WAIT2) {
    if (tp.linger2 < 0) {
      tcpSetState(cpu, sk, TCP_CLOSE)
      tcpSendActiveReset(cpu, sk, atomic)
      incStats(sk, MIB.TCPAbortOnLinger)
    } else {
      const tmo = tcpFinTime(tp)
      if (tmo <= env.timewaitLen) {
        tcpTimeWait(cpu, sk, TCP_FIN_WAIT2, tmo)
        return
      }
      tcpResetKeepaliveTimer(tp, tmo - env.timewaitLen)
    }
  }
  if (sk.state !== TCP_CLOSE && tcpCheckOom(sk, 0)) {
    tcpSetState(cpu, sk, TCP_CLOSE)
    tcpSendActiveReset(cpu, sk, atomic)
    incStats(sk, MIB.TCPAbortOnMemory)
  }
  if (sk.state === TCP_CLOSE) inetCskDestroySock(cpu, sk)
}

/** Models `inet_csk_listen_stop` (net/ipv4/inet_connection_sock.c): children that nobody accepted are aborted. */
export function inetCskListenStop(cpu: Cpu, sk: Sock): void {
  const { devs } = tcpSk(sk).env.ip.inet
  for (let req = reqskQueueRemove(sk); req !== null; req = reqskQueueRemove(sk)) {
    const child = req.sk!
    localBhDisable(cpu)
    sockHold(child)
    // Models `inet_child_forget`.
    tcpDisconnect(cpu, child)
    sockOrphan(cpu, child)
    child.proto.orphanCount!.value += 1
    inetCskDestroySock(cpu, child)
    reqskPut(cpu, req, 'inet_csk_listen_stop')
    localBhEnable(devs, cpu)
    sockPut(cpu, child)
  }
}

const tcpNeedReset = (state: number): boolean =>
  state === TCP_ESTABLISHED ||
  state === TCP_CLOSE_WAIT ||
  state === TCP_FIN_WAIT1 ||
  state === TCP_FIN_WAIT2 ||
  state === TCP_SYN_RECV

/** Models `tcp_disconnect` (net/ipv4/tcp.c): at once, and so that the socket may be used for another connection. */
export function tcpDisconnect(cpu: Cpu, sk: Sock): number {
  const tp = tcpSk(sk)
  const old = sk.state
  if (old !== TCP_CLOSE) tcpSetState(cpu, sk, TCP_CLOSE)
  if (old === TCP_LISTEN) inetCskListenStop(cpu, sk)
  else if (tcpNeedReset(old) || (tp.sndNxt !== tp.writeSeq && (old === TCP_CLOSING || old === TCP_LAST_ACK))) {
    tcpSendActiveReset(cpu, sk, sk.env.gfpAny(cpu))
    sk.err = ERRNO.ECONNRESET
  } else if (old === TCP_SYN_SENT) sk.err = ERRNO.ECONNRESET
  tcpStopAllTimers(tp)
  skbQueuePurge(cpu, sk.receiveQueue)
  tp.copiedSeq = tp.rcvNxt
  tp.urgData = 0
  sk.peekOff = -1
  tcpWriteQueuePurge(cpu, sk)
  tcpOfoPurge(cpu, tp)
  sk.dport = 0
  if ((sk.userlocks & SOCK_BINDADDR_LOCK) === 0) {
    sk.rcvSaddr = 0
    sk.saddr = 0
    sk.v6?.rcvSaddr.fill(0)
    sk.v6?.saddr.fill(0)
  }
  sk.shutdown = 0
  sockResetFlag(sk, SOCKF_DONE)
  tcpForgetConnection(tp)
  if (tp.bindBucket !== null && (sk.userlocks & SOCK_BINDPORT_LOCK) === 0) inetPutPort(cpu, sk)
  if (sk.fragPage !== 0) {
    putPage(sk.env.mem, cpu, sk.fragPage as typeof NO_PFN, 'tcp_disconnect')
    sk.fragPage = 0
    sk.fragOffset = 0
    sk.fragSize = 0
  }
  skErrorReport(cpu, sk)
  return 0
}

/** What the next connection of this socket must not inherit. */
function tcpForgetConnection(tp: TcpSock): void {
  tp.srttUs = 0
  tp.mdevUs = 1e6
  tp.rcvRttLastTsecr = 0
  // Far from the old numbers, so that a late segment cannot be mistaken.
  tp.writeSeq = (tp.writeSeq + tp.maxWindow + 2) | 0
  if (tp.writeSeq === 0) tp.writeSeq = 1
  tp.backoff = 0
  tp.probesOut = 0
  tp.probesTstamp = 0
  tp.rto = tp.env.timeoutInit
  tp.sndSsthresh = TCP_INFINITE_SSTHRESH
  tp.sndCwnd = TCP_INIT_CWND
  tp.sndCwndCnt = 0
  tp.isCwndLimited = 0
  tp.maxPacketsOut = 0
  tp.windowClamp = 0
  tp.delivered = 0
  tp.caState = TCP_CA_OPEN
  tp.isSackReneg = 0
  tp.retransStamp = 0
  tp.undoMarker = 0
  tp.totalRetrans = 0
  tp.ackPending = 0
  tp.ackQuick = 0
  tp.ackPingpong = 0
  tp.ackAto = 0
  tp.rcvMss = 88
  tp.rx.clear()
  tp.inet.dst = null
  tp.appLimited = -1
  tp.lost = 0
  tp.predFlags = 0
  tp.dsackDups = 0
  tp.reordSeen = 0
  tp.retransOut = 0
  tp.sackedOut = 0
  tp.tlpHighSeq = 0
  tp.lastOowAckTime = 0
  tp.segsIn = 0
  tp.segsOut = 0
  tp.dataSegsIn = 0
  tp.dataSegsOut = 0
  tp.counts.fill(0)
  tp.rcvOoopack = 0
}
