/**
 * The clocks that TCP reads: microseconds for round-trip times, ticks for timers, milliseconds for the
 * timestamp option. All of them wrap at 32 bits and are kept signed; differences are what count. They start a
 * second after boot, so that 0 can mean "never".
 *
 * Virtual time stands still inside a call, but no two readings of a real clock that measures round trips are
 * the same: each reading comes at least a microsecond after the one before, up to a millisecond ahead of virtual time.
 */
import type { TcpSock } from './tcp-sock.js'

const MAX_LEAD_US = 1000

/** Models `tcp_mstamp_refresh` (net/ipv4/tcp_output.c): reads the clock once for the work that follows. */
export function tcpMstampRefresh(tp: TcpSock): void {
  const { env } = tp
  const now = Math.floor(env.clock.nowNs / 1000) + 1e6
  const next = env.latestUs + 1
  const us = next <= now ? now : Math.min(next, now + MAX_LEAD_US)
  env.latestUs = us
  tp.mstamp = us | 0
  tp.tsStamp = Math.floor(us / 1000) | 0
}

/** Models `tcp_jiffies32`. */
export const tcpJiffies = (tp: TcpSock): number => tp.env.jiffies()

/** Models `tcp_time_stamp_ts`: the clock of our timestamp options, in milliseconds, without the connection's offset. */
export const tcpTimeStamp = (tp: TcpSock): number => tp.tsStamp

/** Models `tcp_stamp_us_delta`: microseconds from `t0` to `t1`, never negative. */
export const tcpStampUsDelta = (t1: number, t0: number): number => Math.max((t1 - t0) | 0, 0)

/** Models `usecs_to_jiffies`: ticks that last at least so long. */
export const usecsToJiffies = (us: number, hz: number): number => Math.ceil((us * hz) / 1e6)

/** Models `jiffies_to_usecs`. */
export const jiffiesToUsecs = (jiffies: number, hz: number): number => Math.floor((jiffies * 1e6) / hz)
