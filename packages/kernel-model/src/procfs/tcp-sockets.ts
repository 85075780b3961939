/** /proc/net/tcp and tcp6: listeners and connections, connections in the making, and those that only wait. */
import { type FlowKey, type TcpSock, tcpOf, tcpSk } from '@netmem/inet'
import { AF_INET6, type Sock, TCP_LISTEN } from '@netmem/sockmem'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import { decimal, hex, jiffiesToClock, pointer, socketsOf, sockINo, v4End, v6End } from './socket-columns.js'

const TMPSZ = 149
const SYN_RECV = 3
const KEEPALIVE_TIMER = 2
const HEAD4 = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'.padEnd(
  TMPSZ,
)
const HEAD6 =
  '  sl  local_address                         remote_address                        ' +
  'st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'

/** The columns that all kinds of entry have. */
interface Row {
  readonly ends: string
  readonly state: number
  readonly txQueue: number
  readonly rxQueue: number
  /** What the timer is for: 1 retransmission, 2 keepalive, 3 time-wait, 4 window probes, 0 none. */
  readonly timer: number
  readonly when: number
  readonly retransmits: number
  readonly uid: number
  /** What follows the uid. */
  readonly rest: string
}

const lineOf = (slot: number, row: Row): string =>
  `${decimal(slot, 4)}: ${row.ends} ${hex(row.state, 2)} ${hex(row.txQueue, 8)}:${hex(row.rxQueue, 8)} ` +
  `${hex(row.timer, 2)}:${hex(row.when, 8)} ${hex(row.retransmits, 8)} ${decimal(row.uid, 5)} ${row.rest}`

/** @returns what the socket's timer is for, and in how many jiffies it runs. */
function timerOf(kernel: Kernel, tp: TcpSock): { timer: number; jiffies: number } {
  const now = kernel.socks.jiffies
  if (tp.pending === 3) return { timer: 4, jiffies: (tp.timeout - now) | 0 }
  if (tp.pending !== 0) return { timer: 1, jiffies: (tp.timeout - now) | 0 }
  if (tp.events[KEEPALIVE_TIMER] !== 0)
    return { timer: 2, jiffies: Math.ceil((tp.wanted[KEEPALIVE_TIMER]! - kernel.clock.nowNs) / kernel.socks.jiffyNs) }
  return { timer: 0, jiffies: 0 }
}

/** Each pending timer holds a reference, which the model does not count. */
const pendingTimers = (tp: TcpSock): number => tp.events.reduce((sum, event) => sum + (event === 0 ? 0 : 1), 0)

/** Models `get_tcp4_sock` (net/ipv4/tcp_ipv4.c) and `get_tcp6_sock`. */
function sockRow(kernel: Kernel, sk: Sock, pingpongThreshold: number): Row {
  const tp = tcpSk(sk)
  const listening = sk.state === TCP_LISTEN
  const { timer, jiffies } = timerOf(kernel, tp)
  const clock = (value: number): number => jiffiesToClock(kernel, value)
  const pingpong = tp.ackPingpong >= pingpongThreshold ? 1 : 0
  const threshold = listening ? 0 : tp.sndSsthresh >= 0x7fffffff ? -1 : tp.sndSsthresh
  const ends =
    sk.v6 === null
      ? `${v4End(sk.rcvSaddr, tp.sport)} ${v4End(sk.daddr, sk.dport)}`
      : `${v6End(sk.v6.rcvSaddr, tp.sport)} ${v6End(sk.v6.daddr, sk.dport)}`
  return {
    ends,
    state: sk.state,
    txQueue: listening ? 0 : (tp.writeSeq - tp.sndUna) | 0,
    rxQueue: listening ? sk.ackBacklog : Math.max((tp.rcvNxt - tp.copiedSeq) | 0, 0),
    timer,
    when: clock(jiffies),
    retransmits: tp.retransmits,
    uid: 0,
    rest:
      `${decimal(tp.probesOut, 8)} ${sockINo(sk)} ${sk.refcnt + pendingTimers(tp)} ${pointer(sk.addr)} ` +
      `${clock(tp.rto)} ${clock(tp.ackAto)} ${((tp.ackQuick << 1) | pingpong) >>> 0} ${tp.sndCwnd} ${threshold}`,
  }
}

const keyEnds = (key: FlowKey): string =>
  key.family === AF_INET6
    ? `${v6End(key.laddr6, key.lport)} ${v6End(key.raddr6, key.rport)}`
    : `${v4End(key.laddr, key.lport)} ${v4End(key.raddr, key.rport)}`

function* rows(kernel: Kernel, net: Net, name: string, family: number): Generator<Row> {
  const tcp = tcpOf(kernel.inet)
  const pingpong = kernel.profile.features.tcpScalingRatio ? 1 : 3
  const socks = [...socketsOf(kernel, net, [name])].filter((sk) => tcpSk(sk).hashed !== 0)
  for (const sk of socks) if (sk.state === TCP_LISTEN) yield sockRow(kernel, sk, pingpong)
  for (const req of tcp.requests) {
    if (req == null || !req.hashed || req.key.family !== family || req.listener.net !== net.ns) continue
    yield {
      ends: keyEnds(req.key),
      state: SYN_RECV,
      txQueue: 0,
      rxQueue: 0,
      timer: 1,
      when: 0,
      retransmits: req.numTimeout,
      uid: 0,
      rest: `${decimal(0, 8)} 0 ${req.refcnt} ${pointer(req.addr)}`,
    }
  }
  for (const sk of socks) if (sk.state !== TCP_LISTEN) yield sockRow(kernel, sk, pingpong)
  for (const tw of tcp.timewaits) {
    if (tw == null || tw.family !== family || tw.net !== net.ns) continue
    yield {
      ends: keyEnds(tw.key),
      state: tw.substate,
      txQueue: 0,
      rxQueue: 0,
      timer: 3,
      when: jiffiesToClock(kernel, Math.ceil((tw.expiresNs - kernel.clock.nowNs) / kernel.socks.jiffyNs)),
      retransmits: 0,
      uid: 0,
      rest: `${decimal(0, 8)} 0 3 ${pointer(tw.addr)}`,
    }
  }
}

/** Models `tcp4_seq_show` (net/ipv4/tcp_ipv4.c). @returns the text of /proc/net/tcp. */
export function tcp4SeqShow(kernel: Kernel, net: Net): string {
  const lines = [...rows(kernel, net, 'TCP', 2)].map((row, slot) => lineOf(slot, row).padEnd(TMPSZ))
  return `${[HEAD4, ...lines].join('\n')}\n`
}

/** Models `tcp6_seq_show` (net/ipv6/tcp_ipv6.c). @returns the text of /proc/net/tcp6. */
export function tcp6SeqShow(kernel: Kernel, net: Net): string {
  const lines = [...rows(kernel, net, 'TCPv6', AF_INET6)].map((row, slot) => lineOf(slot, row))
  return `${[HEAD6, ...lines].join('\n')}\n`
}
