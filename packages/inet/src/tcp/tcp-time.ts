/**
 * The clocks that TCP reads: microseconds for round-trip times, ticks for timers, milliseconds for the
 * timestamp option. All of them wrap at 32 bits and are kept signed; differences are what count. They start a
 * second after boot, so that 0 can mean "never".
 *
 * Virtual time stands still inside a call, yet rates and round trips are measured there. So TCP's own clock
 * goes on: every reading, every copied byte and every packet take it a little further, up to a millisecond ahead
 * of virtual time. The costs are those of a small server; no byte of memory depends on their exact values.
 */
import type { TcpEnv } from './tcp-env.js'
import type { TcpSock } from './tcp-sock.js'

const MAX_LEAD_NS = 1e6
const READING_NS = 1000
/** What copying a byte from the user, a packet on its way out, and a new connection take, in ns. */
const BYTE_NS = 1 / 8
const PACKET_NS = 500
const REQUEST_NS = 6000

/** Lets TCP's clock go on by the time that some work takes. */
function tcpSpend(env: TcpEnv, ns: number): void {
  const now = env.clock.nowNs
  env.softNs = Math.min(Math.max(env.softNs, now) + ns, now + MAX_LEAD_NS)
}
export const tcpSpendCopy = (env: TcpEnv, bytes: number): void => tcpSpend(env, bytes * BYTE_NS)
export const tcpSpendPacket = (env: TcpEnv): void => tcpSpend(env, PACKET_NS)
export const tcpSpendRequest = (env: TcpEnv): void => tcpSpend(env, REQUEST_NS)

/** @returns whether so much happened in one moment that TCP's clock waits for virtual time. */
export const tcpClockAtLimit = (tp: TcpSock): boolean => tp.env.softNs >= tp.env.clock.nowNs + MAX_LEAD_NS

/** Models `tcp_mstamp_refresh` (net/ipv4/tcp_output.c): reads the clock once for the work that follows. */
export function tcpMstampRefresh(tp: TcpSock): void {
  const { env } = tp
  tcpSpend(env, READING_NS)
  tp.clockNs = env.softNs
  const us = Math.floor(env.softNs / 1000) + 1e6
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
