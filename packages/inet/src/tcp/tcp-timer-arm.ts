/**
 * Setting a socket's timers. As in the kernel a timer that is set later than it was keeps its place and looks
 * again when it runs, so the two timers that move with every segment cost nothing.
 *
 * Timers of a tick's resolution run like those of the kernel's wheel: never before their tick is over, and
 * the further away, the coarser.
 */
import { TCP_TIMER_DELACK, TCP_TIMER_KEEPALIVE, TCP_TIMER_WRITE } from './tcp-env.js'
import { ICSK_TIME_PROBE0, ICSK_TIME_RETRANS, type TcpSock } from './tcp-sock.js'

const LVL_SIZE = 64
const LVL_CLK_SHIFT = 3
const LVL_DEPTH = 9

/** Models `calc_wheel_index` (kernel/time/timer.c). @returns the tick, in jiffies from now, when a timer runs. */
export function timerWheelDelay(now: number, delta: number): number {
  if (delta < LVL_SIZE - 1) return delta + 1
  let level = 1
  while (level < LVL_DEPTH - 1 && delta >= (LVL_SIZE - 1) << (level * LVL_CLK_SHIFT)) level++
  const shift = level * LVL_CLK_SHIFT
  const expires = (now >>> 0) + delta
  const granule = 2 ** shift
  return (Math.floor(expires / granule) + 1) * granule - (now >>> 0)
}

/** Models `sk_reset_timer`: timer `which` of the socket is to run at `expires`, in jiffies. */
export function tcpArmTimer(tp: TcpSock, which: number, expires: number): void {
  const { clock, jiffyNs } = tp.env
  const now = tp.env.jiffies()
  const delta = Math.max((expires - now) | 0, 0)
  const tick = Math.floor(clock.nowNs / jiffyNs) + timerWheelDelay(now, delta)
  const atNs = tick * jiffyNs
  if (tp.events[which] !== 0 && tp.expires[which]! <= atNs) {
    // It will run early and be set again.
    tp.wanted[which] = atNs
    return
  }
  tp.expires[which] = atNs
  tp.wanted[which] = atNs
  tp.events[which] = tp.env.tickTimers.start(atNs, tp.sk.id, which)
}

/** Models `hrtimer_start` for the socket's high-resolution timers. */
export function tcpArmHrtimer(tp: TcpSock, which: number, atNs: number): void {
  tcpStopTimer(tp, which)
  tp.expires[which] = atNs
  tp.wanted[which] = atNs
  tp.events[which] = tp.env.clock.schedule(atNs, tp.env.timerHandler, tp.sk.id, which)
}

/** Models `sk_stop_timer`. */
export function tcpStopTimer(tp: TcpSock, which: number): void {
  if (tp.events[which] === 0) return
  if (which > TCP_TIMER_KEEPALIVE) tp.env.clock.cancel(tp.events[which]!)
  tp.events[which] = 0
}

/** Models `tcp_reset_xmit_timer` for the purposes that share the retransmission timer. @param when jiffies from now. */
export function tcpResetXmitTimer(tp: TcpSock, what: number, when: number): void {
  const max = Math.floor((tp.ctl.rtoMaxMs[0]! * tp.env.hz) / 1000)
  const delay = when > max ? max : when
  tp.pending = what
  tp.timeout = (tp.env.jiffies() + delay) | 0
  tcpArmTimer(tp, TCP_TIMER_WRITE, tp.timeout)
}

/** Models `inet_csk_clear_xmit_timer` for those: the event stays and finds nothing to do. */
export function tcpClearXmitTimer(tp: TcpSock, what: number): void {
  if (what === ICSK_TIME_RETRANS || what === ICSK_TIME_PROBE0) tp.pending = 0
}

/** Models `inet_csk_clear_xmit_timer(ICSK_TIME_DACK)`. */
export function tcpClearDackTimer(tp: TcpSock): void {
  tp.ackPending = 0
  tp.ackRetry = 0
}

/** Models `tcp_reset_xmit_timer(ICSK_TIME_DACK)`. @param when jiffies from now. */
export function tcpResetDackTimer(tp: TcpSock, when: number): void {
  tp.ackPending |= 2
  tp.ackTimeout = (tp.env.jiffies() + when) | 0
  tcpArmTimer(tp, TCP_TIMER_DELACK, tp.ackTimeout)
}

/** Models `tcp_reset_keepalive_timer`. @param when jiffies from now. */
export function tcpResetKeepaliveTimer(tp: TcpSock, when: number): void {
  tcpArmTimer(tp, TCP_TIMER_KEEPALIVE, (tp.env.jiffies() + when) | 0)
}

/** Models `tcp_clear_xmit_timers` and the end of all others: nothing of this socket will run any more. */
export function tcpStopAllTimers(tp: TcpSock): void {
  tp.pending = 0
  tp.ackPending = 0
  for (let which = 0; which < tp.events.length; which++) tcpStopTimer(tp, which)
}
