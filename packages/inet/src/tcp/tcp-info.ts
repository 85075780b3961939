/** `TCP_INFO`: a connection's state for the user, by field name. */
import { type Sock, TCP_LISTEN } from '@netmem/sockmem'
import { BYTES_ACKED, BYTES_RECEIVED, BYTES_RETRANS, BYTES_SENT, type TcpSock, tcpSk } from './tcp-sock.js'

/** Fields of `struct tcp_info`; times in µs unless said otherwise. */
export type TcpInfo = Readonly<Record<string, number>>

/** Models `tcp_get_info` (net/ipv4/tcp.c). `rcv_wnd` is there from 6.2 on. */
export function tcpGetInfo(sk: Sock): TcpInfo {
  const tp = tcpSk(sk)
  const listening = sk.state === TCP_LISTEN
  const info: Record<string, number> = {
    state: sk.state,
    ca_state: tp.caState,
    retransmits: tp.retransmits,
    probes: tp.probesOut,
    backoff: tp.backoff,
    options: (tp.rx.tstampOk !== 0 ? 1 : 0) | (tp.rx.sackOk !== 0 ? 2 : 0) | (tp.rx.wscaleOk !== 0 ? 4 : 0),
    snd_wscale: tp.rx.sndWscale,
    rcv_wscale: tp.rx.rcvWscale,
    rto: jiffiesUs(tp, tp.rto),
    ato: jiffiesUs(tp, tp.ackAto),
    snd_mss: tp.mssCache,
    rcv_mss: tp.rcvMss,
    unacked: listening ? sk.ackBacklog : tp.packetsOut,
    sacked: listening ? sk.maxAckBacklog : tp.sackedOut,
    lost: tp.lostOut,
    retrans: tp.retransOut,
    pmtu: tp.pmtuCookie,
    rcv_ssthresh: tp.rcvSsthresh,
    rtt: tp.srttUs >>> 3,
    rttvar: tp.mdevUs >>> 2,
    snd_ssthresh: tp.sndSsthresh,
    snd_cwnd: tp.sndCwnd,
    advmss: tp.advmss,
    reordering: tp.reordering,
    rcv_rtt: tp.rcvRttUs >>> 3,
    rcv_space: tp.rcvqSpace,
    total_retrans: tp.totalRetrans,
    pacing_rate: sk.pacingRate,
    max_pacing_rate: sk.maxPacingRate,
    bytes_acked: tp.counts[BYTES_ACKED]!,
    bytes_received: tp.counts[BYTES_RECEIVED]!,
    segs_out: tp.segsOut,
    segs_in: tp.segsIn,
    notsent_bytes: Math.max((tp.writeSeq - tp.sndNxt) | 0, 0),
    min_rtt: tp.minRttUs >>> 0,
    data_segs_in: tp.dataSegsIn,
    data_segs_out: tp.dataSegsOut,
    delivered: tp.delivered,
    bytes_sent: tp.counts[BYTES_SENT]!,
    bytes_retrans: tp.counts[BYTES_RETRANS]!,
    reord_seen: tp.reordSeen,
    rcv_ooopack: tp.rcvOoopack,
    snd_wnd: tp.sndWnd,
  }
  if (tp.env.scalingRatio) info.rcv_wnd = tp.rcvWnd
  return info
}

const jiffiesUs = (tp: TcpSock, jiffies: number): number => Math.floor((jiffies * 1e6) / tp.env.hz)
