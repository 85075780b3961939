/**
 * The timers of a connection: retransmission (which is also the loss probe and the window probe), delayed ACK,
 * keepalive (which is also the end of FIN-WAIT-2), compressed SACKs and pacing. All run in softirq on the
 * CPU that timers run on; if the user owns the socket, the work is left to `tcp_release_cb`.
 */
import { type Cpu, ERRNO, type Gfp } from '@netmem/base'
import { skbPeek, skbQueueEmpty } from '@netmem/skbuff'
import {
  SOCKF_DEAD,
  SOCKF_KEEPOPEN,
  type Sock,
  skErrorReport,
  skMemReclaim,
  skUnderMemoryPressure,
  sockFlag,
  sockPut,
  TCP_CLOSE,
  TCP_FIN_WAIT2,
  TCP_LISTEN,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
} from '@netmem/sockmem'
import { after } from './seq.js'
import { tcpCheckOom, tcpPurgeAndDone } from './tcp-destroy.js'
import {
  TCP_TIMER_COMPRESSED_ACK,
  TCP_TIMER_DELACK,
  TCP_TIMER_KEEPALIVE,
  TCP_TIMER_PACING,
  TCP_TIMER_WRITE,
  type TcpEnv,
} from './tcp-env.js'
import { tcpEnterLoss } from './tcp-loss.js'
import { addStats, incStats, MIB } from './tcp-mib.js'
import { tcpDone, tcpFinTime, tcpTimeWait } from './tcp-minisocks.js'
import { tcpSendAck, tcpSendActiveReset } from './tcp-output.js'
import { tcpSendProbe0, tcpWriteWakeup } from './tcp-probe.js'
import { tcpRackReoTimeout } from './tcp-recovery.js'
import { tcpRetransmitSkb, tcpSendLossProbe } from './tcp-retransmit.js'
import {
  ICSK_ACK_TIMER,
  ICSK_TIME_LOSS_PROBE,
  ICSK_TIME_PROBE0,
  ICSK_TIME_REO_TIMEOUT,
  ICSK_TIME_RETRANS,
  inetCskAckScheduled,
  TCP_CA_DISORDER,
  TCP_CA_LOSS,
  TCP_CA_RECOVERY,
  TCP_DELACK_TIMER_DEFERRED,
  TCP_TSQ_DEFERRED,
  TCP_WRITE_TIMER_DEFERRED,
  type TcpSock,
  tcpIsSack,
  tcpSk,
} from './tcp-sock.js'
import { tcpMstampRefresh, usecsToJiffies } from './tcp-time.js'
import { tcpArmTimer, tcpClearXmitTimer, tcpResetKeepaliveTimer, tcpResetXmitTimer } from './tcp-timer-arm.js'
import { tcpTsqWrite } from './tcp-tsq.js'

// Arithmetic of the retransmission timeout.

/** Models `tcp_set_rto` with `__tcp_set_rto`: smoothed round trip plus its variation. */
export function tcpSetRto(tp: TcpSock): void {
  tp.rto = usecsToJiffies((tp.srttUs >>> 3) + tp.rttvarUs, tp.env.hz)
  const max = Math.floor((tp.ctl.rtoMaxMs[0]! * tp.env.hz) / 1000)
  if (tp.rto > max) tp.rto = max
}

/** Models `tcp_rto_delta_us`: µs until the first unacknowledged packet times out; may be negative. */
export function tcpRtoDeltaUs(tp: TcpSock): number {
  const rtoUs = Math.floor((tp.rto * 1e6) / tp.env.hz)
  const head = skbPeek(tp.rtxQueue)
  return head === null ? rtoUs : rtoUs - ((tp.mstamp - head.cb4) | 0)
}

/** Models `tcp_rearm_rto` (net/ipv4/tcp_input.c). */
export function tcpRearmRto(tp: TcpSock): void {
  if (tp.packetsOut === 0) {
    tcpClearXmitTimer(tp, ICSK_TIME_RETRANS)
    return
  }
  let rto = tp.rto
  // A probe was to come earlier than the timeout: that time has passed already.
  if (tp.pending === ICSK_TIME_REO_TIMEOUT || tp.pending === ICSK_TIME_LOSS_PROBE)
    rto = usecsToJiffies(Math.max(tcpRtoDeltaUs(tp), 1), tp.env.hz)
  tcpResetXmitTimer(tp, ICSK_TIME_RETRANS, rto)
}

/** Models `tcp_probe0_base`: at least the smallest timeout. Jiffies. */
export const tcpProbe0Base = (tp: TcpSock): number => Math.max(tp.rto, usecsToJiffies(tp.ctl.rtoMinUs[0]!, tp.env.hz))

/** Models `tcp_probe0_when`: doubles with every probe that was not answered with an open window. */
export function tcpProbe0When(tp: TcpSock, maxWhen: number): number {
  return Math.min(tcpProbe0Base(tp) * 2 ** Math.min(tp.backoff, 20), maxWhen)
}

// The events.

/** What the clock calls: the socket's id and which of its timers. */
export function tcpTimerHandler(env: TcpEnv, sockId: number, which: number): void {
  const sk = env.sockById(sockId)
  if (sk === null || sk.priv === null) return
  const tp = tcpSk(sk)
  tp.events[which] = 0
  const cpu = env.cpus[0]!
  if (tp.wanted[which]! > env.clock.nowNs) {
    // It was put off after it had been set.
    const at = tp.wanted[which]!
    tp.expires[which] = at
    tp.events[which] =
      which > TCP_TIMER_KEEPALIVE
        ? env.clock.schedule(at, env.timerHandler, sockId, which)
        : env.tickTimers.start(at, sockId, which)
    return
  }
  env.ip.softirqEnter(cpu)
  sk.refcnt += 1
  if (which === TCP_TIMER_WRITE) tcpWriteTimer(cpu, sk)
  else if (which === TCP_TIMER_DELACK) tcpDelackTimer(cpu, sk)
  else if (which === TCP_TIMER_KEEPALIVE) tcpKeepaliveTimer(cpu, sk)
  else if (which === TCP_TIMER_COMPRESSED_ACK) tcpCompressedAckKick(cpu, sk)
  else if (which === TCP_TIMER_PACING) tcpPaceKick(cpu, sk)
  sockPut(cpu, sk)
  env.ip.softirqExit(cpu)
}

function tcpWriteTimer(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.pending === 0) return
  if (sk.owned === 0) tcpWriteTimerHandler(cpu, sk)
  else tp.tsqFlags |= TCP_WRITE_TIMER_DEFERRED
}

/** Models `tcp_write_timer_handler` (net/ipv4/tcp_timer.c). */
export function tcpWriteTimerHandler(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (sk.state === TCP_CLOSE || sk.state === TCP_LISTEN || tp.pending === 0) return
  if (after(tp.timeout, tp.env.jiffies())) {
    tcpArmTimer(tp, TCP_TIMER_WRITE, tp.timeout)
    return
  }
  tcpMstampRefresh(tp)
  const event = tp.pending
  if (event === ICSK_TIME_REO_TIMEOUT) tcpRackReoTimeout(cpu, sk)
  else if (event === ICSK_TIME_LOSS_PROBE) tcpSendLossProbe(cpu, sk)
  else if (event === ICSK_TIME_RETRANS) {
    tp.pending = 0
    tcpRetransmitTimer(cpu, sk)
  } else if (event === ICSK_TIME_PROBE0) {
    tp.pending = 0
    tcpProbeTimer(cpu, sk)
  }
}

function tcpDelackTimer(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if ((tp.ackPending & ICSK_ACK_TIMER) === 0 && tp.compressedAck === 0) return
  if (sk.owned === 0) tcpDelackTimerHandler(cpu, sk)
  else {
    incStats(sk, MIB.DelayedACKLocked)
    tp.tsqFlags |= TCP_DELACK_TIMER_DEFERRED
  }
}

/** Models `tcp_delack_timer_handler` (net/ipv4/tcp_timer.c). */
export function tcpDelackTimerHandler(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (sk.state === TCP_CLOSE || sk.state === TCP_LISTEN) return
  if (tp.compressedAck !== 0) {
    tcpMstampRefresh(tp)
    tcpSackCompressSendAck(cpu, sk)
    return
  }
  if ((tp.ackPending & ICSK_ACK_TIMER) === 0) return
  if (after(tp.ackTimeout, tp.env.jiffies())) {
    tcpArmTimer(tp, TCP_TIMER_DELACK, tp.ackTimeout)
    return
  }
  tp.ackPending &= ~ICSK_ACK_TIMER
  if (!inetCskAckScheduled(tp)) return
  if (tp.ackPingpong === 0) tp.ackAto = Math.min(tp.ackAto << 1, tp.rto)
  else {
    // The expected answer did not come: the connection is not interactive after all.
    tp.ackPingpong = 0
    tp.ackAto = tp.env.atoMin
  }
  tcpMstampRefresh(tp)
  tcpSendAck(cpu, sk)
  incStats(sk, MIB.DelayedACKs)
}

/** Models `tcp_sack_compress_send_ack` (net/ipv4/tcp_input.c). */
export function tcpSackCompressSendAck(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.compressedAck === 0) return
  addStats(sk, MIB.TCPAckCompressed, tp.compressedAck - 1)
  tp.compressedAck = 0
  if (tp.events[TCP_TIMER_COMPRESSED_ACK] !== 0) {
    tp.env.clock.cancel(tp.events[TCP_TIMER_COMPRESSED_ACK]!)
    tp.events[TCP_TIMER_COMPRESSED_ACK] = 0
  }
  tcpSendAck(cpu, sk)
}

/** Models `tcp_compressed_ack_kick`. */
function tcpCompressedAckKick(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.compressedAck === 0) return
  if (sk.owned !== 0) tp.tsqFlags |= TCP_DELACK_TIMER_DEFERRED
  else {
    addStats(sk, MIB.TCPAckCompressed, tp.compressedAck - 1)
    tp.compressedAck = 0
    tcpMstampRefresh(tp)
    tcpSendAck(cpu, sk)
  }
}

/** Models `tcp_pace_kick`: the time between two packets is over. */
function tcpPaceKick(cpu: Cpu, sk: Sock): void {
  if (sk.owned !== 0) tcpSk(sk).tsqFlags |= TCP_TSQ_DEFERRED
  else tcpTsqWrite(cpu, sk)
}

// Nothing came back.

/** Models `tcp_retransmit_timer` (net/ipv4/tcp_timer.c). */
function tcpRetransmitTimer(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const { env } = tp
  if (tp.packetsOut === 0) return
  const skb = skbPeek(tp.rtxQueue)
  if (skb === null) return
  const rtoMax = Math.floor((tp.ctl.rtoMaxMs[0]! * env.hz) / 1000)
  const early = sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV
  if (tp.sndWnd === 0 && !sockFlag(sk, SOCKF_DEAD) && !early) {
    // The window was shut under data in flight: retransmissions are window probes now.
    if (((env.jiffies() - tp.rcvTstamp) | 0) > rtoMax) {
      tcpWriteErr(cpu, sk)
      return
    }
    tcpEnterLoss(cpu, sk)
    tcpRetransmitSkb(cpu, sk, skb, 1)
    tcpBackOff(tp, rtoMax, false)
    return
  }
  incStats(sk, MIB.TCPTimeouts)
  if (tcpWriteTimeout(cpu, sk)) return
  if (tp.retransmits === 0) {
    let counter = -1
    if (tp.caState === TCP_CA_RECOVERY) counter = tcpIsSack(tp) ? MIB.TCPSackRecoveryFail : MIB.TCPRenoRecoveryFail
    else if (tp.caState === TCP_CA_LOSS) counter = MIB.TCPLossFailures
    else if (tp.caState === TCP_CA_DISORDER || tp.sackedOut !== 0)
      counter = tcpIsSack(tp) ? MIB.TCPSackFailures : MIB.TCPRenoFailures
    if (counter >= 0) incStats(sk, counter)
  }
  tcpEnterLoss(cpu, sk)
  tp.retransmits++
  if (tcpRetransmitSkb(cpu, sk, skb, 1) > 0) {
    tcpResetXmitTimer(tp, ICSK_TIME_RETRANS, env.resourceProbeInterval)
    return
  }
  tcpBackOff(tp, rtoMax, true)
}

function tcpBackOff(tp: TcpSock, rtoMax: number, grow: boolean): void {
  if (grow) tp.backoff++
  tp.rto = Math.min(tp.rto * 2, rtoMax)
  tcpResetXmitTimer(tp, ICSK_TIME_RETRANS, tp.rto)
}

/** Models `tcp_write_err`: the peer is given up. */
export function tcpWriteErr(cpu: Cpu, sk: Sock): void {
  sk.err = sk.errSoft !== 0 ? sk.errSoft : ERRNO.ETIMEDOUT
  skErrorReport(cpu, sk)
  tcpPurgeAndDone(cpu, sk)
  incStats(sk, MIB.TCPAbortOnTimeout)
}

/** Models `tcp_write_timeout`: has it been tried long enough? @returns true when the connection is gone. */
function tcpWriteTimeout(cpu: Cpu, sk: Sock): boolean {
  const tp = tcpSk(sk)
  let retryUntil: number
  if (sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV) {
    retryUntil = tp.synRetries !== 0 ? tp.synRetries : tp.ctl.synRetries[0]!
  } else {
    retryUntil = tp.ctl.retries2[0]!
    if (sockFlag(sk, SOCKF_DEAD)) {
      const alive = tp.rto < (tp.ctl.rtoMaxMs[0]! * tp.env.hz) / 1000
      retryUntil = tcpOrphanRetries(sk, alive)
      if (tcpOutOfResources(cpu, sk, alive || tp.retransmits < retryUntil)) return true
    }
  }
  if (tp.retransmits < retryUntil) return false
  tcpWriteErr(cpu, sk)
  return true
}

/** Models `tcp_orphan_retries`. */
function tcpOrphanRetries(sk: Sock, alive: boolean): number {
  const retries = tcpSk(sk).ctl.orphanRetries[0]!
  if (sk.errSoft !== 0 && !alive) return 0
  return retries === 0 && alive ? 8 : retries
}

/** Models `tcp_out_of_resources` (net/ipv4/tcp_timer.c): orphans are the first to go when memory is short. */
export function tcpOutOfResources(cpu: Cpu, sk: Sock, doReset: boolean): boolean {
  const tp = tcpSk(sk)
  const { env } = tp
  let shift = 0
  const rtoMax = (tp.ctl.rtoMaxMs[0]! * env.hz) / 1000
  if (((env.jiffies() - tp.lsndtime) | 0) > 2 * rtoMax || !doReset) shift++
  if (sk.errSoft !== 0) shift++
  if (!tcpCheckOom(sk, shift)) return false
  const recent = ((env.jiffies() - tp.lsndtime) | 0) <= env.timewaitLen
  if (recent || (tp.sndWnd === 0 && tp.packetsOut === 0) || doReset)
    tcpSendActiveReset(cpu, sk, env.mem.gfp.GFP_ATOMIC as Gfp)
  tcpDone(cpu, sk)
  incStats(sk, MIB.TCPAbortOnMemory)
  return true
}

/** Models `tcp_probe_timer` (net/ipv4/tcp_timer.c): the peer's window is still shut. */
function tcpProbeTimer(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  if (tp.packetsOut !== 0 || skbQueueEmpty(sk.writeQueue)) {
    tp.probesOut = 0
    tp.probesTstamp = 0
    return
  }
  let max = tp.ctl.retries2[0]!
  if (sockFlag(sk, SOCKF_DEAD)) {
    const rtoMax = (tp.ctl.rtoMaxMs[0]! * tp.env.hz) / 1000
    const alive = tp.rto * 2 ** tp.backoff < rtoMax
    max = tcpOrphanRetries(sk, alive)
    if (!alive && tp.backoff >= max) {
      tcpWriteErr(cpu, sk)
      return
    }
    if (tcpOutOfResources(cpu, sk, true)) return
  }
  if (tp.probesOut >= max) tcpWriteErr(cpu, sk)
  else tcpSendProbe0(cpu, sk)
}

// Nobody says anything.

/** Models `tcp_keepalive_timer` (net/ipv4/tcp_timer.c). */
function tcpKeepaliveTimer(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const { env } = tp
  if (sk.owned !== 0) {
    tcpResetKeepaliveTimer(tp, Math.floor(env.hz / 20))
    return
  }
  if (sk.state === TCP_LISTEN) return
  tcpMstampRefresh(tp)
  if (sk.state === TCP_FIN_WAIT2 && sockFlag(sk, SOCKF_DEAD)) {
    if (tp.linger2 >= 0) {
      const tmo = tcpFinTime(tp) - env.timewaitLen
      if (tmo > 0) {
        tcpTimeWait(cpu, sk, TCP_FIN_WAIT2, tmo)
        return
      }
    }
    tcpSendActiveReset(cpu, sk, env.mem.gfp.GFP_ATOMIC as Gfp)
    tcpDone(cpu, sk)
    return
  }
  if (!sockFlag(sk, SOCKF_KEEPOPEN) || sk.state === TCP_CLOSE || sk.state === TCP_SYN_SENT) return
  tcpKeepaliveProbe(cpu, sk, tp)
  if (skUnderMemoryPressure(sk)) skMemReclaim(cpu, sk)
}

/** Models `keepalive_time_when`. Jiffies. */
export const tcpKeepaliveTimeWhen = (tp: TcpSock): number =>
  tp.keepaliveTime !== 0 ? tp.keepaliveTime : tp.ctl.keepaliveTime[0]! * tp.env.hz

function tcpKeepaliveProbe(cpu: Cpu, sk: Sock, tp: TcpSock): void {
  const when = tcpKeepaliveTimeWhen(tp)
  if (tp.packetsOut !== 0 || !skbQueueEmpty(sk.writeQueue)) {
    tcpResetKeepaliveTimer(tp, when)
    return
  }
  const now = tp.env.jiffies()
  const elapsed = Math.min((now - tp.lrcvtime) >>> 0, (now - tp.rcvTstamp) >>> 0)
  if (elapsed < when) {
    tcpResetKeepaliveTimer(tp, when - elapsed)
    return
  }
  const probes = tp.keepaliveProbes !== 0 ? tp.keepaliveProbes : tp.ctl.keepaliveProbes[0]!
  if (tp.probesOut >= probes) {
    tcpSendActiveReset(cpu, sk, tp.env.mem.gfp.GFP_ATOMIC as Gfp)
    tcpWriteErr(cpu, sk)
    return
  }
  let next = tp.env.resourceProbeInterval
  if (tcpWriteWakeup(cpu, sk, MIB.TCPKeepAlive) <= 0) {
    tp.probesOut++
    next = tp.keepaliveIntvl !== 0 ? tp.keepaliveIntvl : tp.ctl.keepaliveIntvl[0]! * tp.env.hz
  }
  tcpResetKeepaliveTimer(tp, next)
}

/** Models `tcp_set_keepalive`. */
export function tcpSetKeepalive(_cpu: Cpu, sk: Sock, on: boolean): void {
  if (sk.state === TCP_CLOSE || sk.state === TCP_LISTEN) return
  const tp = tcpSk(sk)
  if (on && !sockFlag(sk, SOCKF_KEEPOPEN)) tcpResetKeepaliveTimer(tp, tcpKeepaliveTimeWhen(tp))
}
