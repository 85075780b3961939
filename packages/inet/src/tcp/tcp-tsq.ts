/**
 * TCP Small Queues: how packets of ours that the device has sent call us back to send the next, and the
 * work that waits until the user lets go of the socket.
 */
import type { Cpu, Gfp } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import {
  type Sock,
  type SockEnv,
  skFree,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_LAST_ACK,
} from '@netmem/sockmem'
import { tcpCurrentMss } from './tcp-mss.js'
import { tcpSendAck } from './tcp-output.js'
import { tcpXmitRetransmitQueue } from './tcp-retransmit.js'
import {
  inetCskAckScheduled,
  TCP_ACK_DEFERRED,
  TCP_DELACK_TIMER_DEFERRED,
  TCP_TSQ_DEFERRED,
  TCP_WRITE_TIMER_DEFERRED,
  TSQ_QUEUED,
  TSQ_THROTTLED,
  tcpSk,
} from './tcp-sock.js'
import { tcpMstampRefresh } from './tcp-time.js'
import { tcpDelackTimerHandler, tcpWriteTimerHandler } from './tcp-timer.js'
import { tcpWriteXmit } from './tcp-xmit.js'

/** Models `tcp_wfree` (net/ipv4/tcp_output.c): the device is done with a packet. */
export function tcpWfree(env: SockEnv, cpu: Cpu, skb: SkBuff): void {
  const sk = env.sockOf(skb)
  // One stays until the socket was looked at.
  sk.wmemAlloc -= skb.truesize - 1
  const tp = tcpSk(sk)
  if (tp !== null && (tp.tsqFlags & (TSQ_THROTTLED | TSQ_QUEUED)) === TSQ_THROTTLED) {
    tp.tsqFlags = (tp.tsqFlags & ~TSQ_THROTTLED) | TSQ_QUEUED
    const { clock } = tp.env
    clock.schedule(clock.nowNs, tp.env.tsqHandler, sk.id)
    return
  }
  skFree(cpu, sk)
}

/** Models `tcp_tsq_workfn`: runs in softirq, soon after. */
export function tcpTsqHandler(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  tp.tsqFlags &= ~TSQ_QUEUED
  if (sk.owned !== 0) tp.tsqFlags |= TCP_TSQ_DEFERRED
  else tcpTsqWrite(cpu, sk)
  skFree(cpu, sk)
}

/** Models `tcp_tsq_write`. */
export function tcpTsqWrite(cpu: Cpu, sk: Sock): void {
  const { state } = sk
  if (
    state !== TCP_ESTABLISHED &&
    state !== TCP_FIN_WAIT1 &&
    state !== TCP_CLOSING &&
    state !== TCP_CLOSE_WAIT &&
    state !== TCP_LAST_ACK
  )
    return
  const tp = tcpSk(sk)
  if (tp.lostOut > tp.retransOut && tp.sndCwnd > tp.packetsOut - tp.sackedOut - tp.lostOut + tp.retransOut) {
    tcpMstampRefresh(tp)
    tcpXmitRetransmitQueue(cpu, sk)
  }
  tcpWriteXmit(cpu, sk, tcpCurrentMss(sk), tp.nonagle, 0, tp.env.mem.gfp.GFP_ATOMIC as Gfp)
}

/** Models `tcp_release_cb` (net/ipv4/tcp_output.c): what had to wait for the user. */
export function tcpReleaseCb(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const flags = tp.tsqFlags
  const deferred = TCP_TSQ_DEFERRED | TCP_WRITE_TIMER_DEFERRED | TCP_DELACK_TIMER_DEFERRED | TCP_ACK_DEFERRED
  if ((flags & deferred) === 0) return
  tp.tsqFlags = flags & ~deferred
  if ((flags & TCP_TSQ_DEFERRED) !== 0) tcpTsqWrite(cpu, sk)
  if ((flags & TCP_WRITE_TIMER_DEFERRED) !== 0) tcpWriteTimerHandler(cpu, sk)
  if ((flags & TCP_DELACK_TIMER_DEFERRED) !== 0) tcpDelackTimerHandler(cpu, sk)
  if ((flags & TCP_ACK_DEFERRED) !== 0 && inetCskAckScheduled(tp)) tcpSendAck(cpu, sk)
}
