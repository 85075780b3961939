/**
 * `struct tcp_sock` with the `inet_connection_sock` in front of it: everything TCP remembers about one
 * connection or listener. One shape for all; sequence numbers are signed 32-bit (`seq.ts`), times are
 * microseconds or jiffies that wrap likewise, counters beyond 2^31 live in `counts`.
 *
 * Conservation: *sk.wmemQueued = Σ truesize of the write and retransmit queues*;
 * *sk.rmemAlloc = Σ truesize of the receive, out-of-order and error queues*; `auditTcpSock` proves both.
 */
import { SkbQueue } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { InetSock } from '../inet-sock.js'
import type { RequestSockQueue } from './request-sock.js'
import type { TcpCongestionOps } from './tcp-cong.js'
import type { TcpEnv } from './tcp-env.js'
import { TcpOptionsReceived } from './tcp-options.js'
import type { TcpSysctls } from './tcp-sysctls.js'

// Models `icsk_ack.pending`.
export const ICSK_ACK_SCHED = 1
export const ICSK_ACK_TIMER = 2
export const ICSK_ACK_PUSHED = 4
export const ICSK_ACK_PUSHED2 = 8
export const ICSK_ACK_NOW = 16
export const ICSK_ACK_NOMEM = 32

// Models `icsk_pending`: what the retransmission timer is for.
export const ICSK_TIME_RETRANS = 1
export const ICSK_TIME_PROBE0 = 3
export const ICSK_TIME_LOSS_PROBE = 5
export const ICSK_TIME_REO_TIMEOUT = 6

// Models `icsk_ca_state`.
export const TCP_CA_OPEN = 0
export const TCP_CA_DISORDER = 1
export const TCP_CA_CWR = 2
export const TCP_CA_RECOVERY = 3
export const TCP_CA_LOSS = 4

// Models `tp->nonagle`.
export const TCP_NAGLE_OFF = 1
export const TCP_NAGLE_CORK = 2
export const TCP_NAGLE_PUSH = 4

// Models `sk_tsq_flags`: work for `tcp_release_cb`.
export const TSQ_THROTTLED = 1
export const TSQ_QUEUED = 2
export const TCP_TSQ_DEFERRED = 4
export const TCP_WRITE_TIMER_DEFERRED = 8
export const TCP_DELACK_TIMER_DEFERRED = 16
export const TCP_ACK_DEFERRED = 32

/** Models `TCP_INFINITE_SSTHRESH`. */
export const TCP_INFINITE_SSTHRESH = 0x7fffffff
/** Models `TCP_NUM_SACKS`: ranges a receiver remembers. */
export const TCP_NUM_SACKS = 4

// Places in `counts`.
export const BYTES_RECEIVED = 0
export const BYTES_ACKED = 1
export const BYTES_SENT = 2
export const BYTES_RETRANS = 3

/**
 * Numbers beyond 31 bits, all 0. A plain array: a typed one is ten times its own size when it is so small. It begins
 * with fractions so that the engine keeps doubles in it from the start.
 */
const doubles = (count: number): number[] => new Array<number>(count).fill(0.5).fill(0)

export class TcpSock {
  // Receiving.
  rcvNxt = 0
  copiedSeq = 0
  /** `rcvNxt` when the latest window was sent. */
  rcvWup = 0
  /** The window we offered, in bytes. */
  rcvWnd = 0
  rcvSsthresh = 0
  windowClamp = 0
  /** Payload bytes per 256 bytes of truesize, as the peer's segments showed (6.6 and later). */
  scalingRatio = 128
  advmss = 536
  segsIn = 0
  dataSegsIn = 0
  rcvOoopack = 0
  readonly outOfOrderQueue: SkbQueue
  private sacks: Int32Array | null = null
  /** Ends of the latest duplicate, to be reported. */
  duplicateSackSeq = 0
  duplicateSackEnd = 0
  urgData = 0
  urgSeq = 0
  /** Header word that an expected segment has (`pred_flags`), 0 when none is expected. */
  predFlags = 0
  rcvRttUs = 0
  rcvRttSeq = 0
  rcvRttTime = 0
  rcvRttLastTsecr = 0
  rcvqSpace = 0
  rcvqSeq = 0
  rcvqTime = 0
  compressedAck = 0
  compressedAckRcvNxt = 0
  dupAckCounter = 0
  lastOowAckTime = 0
  lingerFin = 0

  // Delayed acknowledgements (`icsk_ack`).
  ackPending = 0
  ackQuick = 0
  ackPingpong = 0
  ackRetry = 0
  ackAto = 0
  ackTimeout = 0
  lrcvtime = 0
  lastSegSize = 0
  rcvMss = 88

  // Sending.
  sndUna = 0
  sndNxt = 0
  writeSeq = 0
  pushedSeq = 0
  sndSml = 0
  sndUp = 0
  sndWl1 = 0
  sndWnd = 0
  maxWindow = 0
  mssCache = 536
  pmtuCookie = 0
  tcpHeaderLen = 20
  gsoSegs = 0
  nonagle = 0
  notsentLowat = 0
  /** In flight, as segments. */
  packetsOut = 0
  retransOut = 0
  sackedOut = 0
  lostOut = 0
  maxPacketsOut = 0
  cwndUsageSeq = 0
  isCwndLimited = 0
  /** Packets sent and not yet acknowledged, by sequence: `sk->tcp_rtx_queue`. */
  readonly rtxQueue: SkbQueue
  /** Ids of skbs in `rtxQueue`, 0 none. */
  highestSack = 0
  retransmitSkbHint = 0
  segsOut = 0
  dataSegsOut = 0
  delivered = 0
  deliveredMstamp = 0
  firstTxMstamp = 0
  appLimited = 0
  /** When the latest packet went, µs, and when the next may, ns. */
  wstamp = 0
  wstampNs = 0
  /** The clock as it was last read (`tcp_clock_cache`), ns. */
  clockNs = 0
  rateDelivered = 0
  rateIntervalUs = 0
  lost = 0
  totalRetrans = 0
  lsndtime = 0
  rcvTstamp = 0
  tsqFlags = 0
  gsoMaxSize = 65343
  gsoMaxSegs = 65535
  gsoType = 0
  /** Local port as headers carry it: it outlives the claim on the port (`inet_sport`). */
  sport = 0
  /** Device features of the route: scatter-gather, checksum, segmentation. */
  routeCaps = 0

  // Round-trip time, µs times 8 where the kernel has it so.
  srttUs = 0
  mdevUs = 0
  mdevMaxUs = 0
  rttvarUs = 0
  rttSeq = 0
  minRttUs = 0xffffffff | 0
  minRttStamp = 0
  /** Retransmission timeout in jiffies. */
  rto = 0
  backoff = 0
  retransmits = 0
  probesOut = 0
  probesTstamp = 0
  /** The retransmission timer's purpose (`icsk_pending`) and its time in jiffies. */
  pending = 0
  timeout = 0
  mstamp = 0
  /** The same moment for timestamp options, ms. */
  tsStamp = 0
  tsoffset = 0

  // Congestion.
  sndCwnd = 10
  sndCwndCnt = 0
  sndCwndUsed = 0
  sndCwndStamp = 0
  sndCwndClamp = 0x7fffffff
  sndSsthresh = TCP_INFINITE_SSTHRESH
  caState = TCP_CA_OPEN
  caOps: TcpCongestionOps
  /** Sixteen words of the congestion control's own. */
  readonly ca: number[] = doubles(16)
  priorCwnd = 0
  priorSsthresh = 0
  prrDelivered = 0
  prrOut = 0
  highSeq = 0
  undoMarker = 0
  undoRetrans = 0
  retransStamp = 0
  tlpHighSeq = 0
  tlpRetrans = 0
  reordering = 3
  reordSeen = 0
  frto = 0
  dsackDups = 0
  isSackReneg = 0
  rackMstamp = 0
  rackEndSeq = 0
  rackRttUs = 0
  rackAdvanced = 0
  rackReoWndSteps = 1
  rackReoWndPersist = 0
  rackDsackSeen = 0
  rackLastDelivered = 0

  // Path MTU discovery by probing (`icsk_mtup`).
  mtupEnabled = 0
  mtupSearchHigh = 0
  mtupSearchLow = 0
  mtupProbeSize = 0
  mtupProbeSeqStart = 0
  mtupProbeSeqEnd = 0

  // The user's wishes.
  userTimeout = 0
  keepaliveTime = 0
  keepaliveIntvl = 0
  keepaliveProbes = 0
  linger2 = 0
  deferAccept = 0
  synRetries = 0

  /** What is IP's of this socket; its route is here. */
  readonly inet = new InetSock()

  // Options.
  readonly rx = new TcpOptionsReceived()

  /** Pending clock events by `TCP_TIMER_*`, 0 none. Numbers of events are beyond 2^31. */
  readonly events: number[] = doubles(5)
  /** When each pending event comes, in ns. */
  readonly expires: number[] = doubles(5)
  /** When each is meant to run now: later than `expires` when it was put off. In ns, as is `expires`. */
  readonly wanted: number[] = doubles(5)
  /** Byte counters, by `BYTES_*`. */
  readonly counts: number[] = doubles(4)

  /** A listener's connection requests and children waiting for accept; null for others. */
  acceptQueue: RequestSockQueue | null = null
  /** The protocol above this socket (`icsk_ulp_ops`), or null. */
  ulpOps: import('./tcp-ulp.js').TcpUlpOps | null = null
  /** Models `icsk_clean_acked`: who keeps what was sent until it is acknowledged, or null. */
  cleanAcked: ((cpu: import('@netmem/base').Cpu, sk: Sock, ack: number) => void) | null = null
  /** Bind bucket that the local port is held by, or null. */
  bindBucket: import('./inet-bind.js').InetBindBucket | null = null
  bind2Bucket: import('./inet-bind.js').InetBindBucket | null = null
  /** Bytes of network header: 20 or 40. */
  netHeaderLen = 20
  hashed = 0
  /** Its memory is given back; only references keep the object. */
  destroyed = false

  constructor(
    readonly sk: Sock,
    readonly env: TcpEnv,
    readonly ctl: TcpSysctls,
    caOps: TcpCongestionOps,
  ) {
    this.caOps = caOps
    this.outOfOrderQueue = new SkbQueue(env.skbs)
    this.rtxQueue = new SkbQueue(env.skbs)
  }

  /** The packets that came out of order and are not merged yet: ranges `[2i, 2i+1)`. */
  get selectiveAcks(): Int32Array {
    // Most connections never miss a packet, and a million of them need the room.
    this.sacks ??= new Int32Array(TCP_NUM_SACKS * 2)
    return this.sacks
  }
}

/** Models `tcp_sk`. */
export const tcpSk = (sk: Sock): TcpSock => sk.priv as TcpSock

/** Models `tcp_wnd_end`: the first sequence number beyond what the peer can take. */
export const tcpWndEnd = (tp: TcpSock): number => (tp.sndUna + tp.sndWnd) | 0

/** Models `tcp_left_out`: segments that left the network, delivered out of order or lost. */
export const tcpLeftOut = (tp: TcpSock): number => tp.sackedOut + tp.lostOut

/** Models `tcp_packets_in_flight`. */
export const tcpPacketsInFlight = (tp: TcpSock): number => tp.packetsOut - tp.sackedOut - tp.lostOut + tp.retransOut

/** Models `tcp_is_sack` and its opposite `tcp_is_reno`. */
export const tcpIsSack = (tp: TcpSock): boolean => tp.rx.sackOk !== 0

/** Models `tcp_in_cwnd_reduction`. */
export const tcpInCwndReduction = (tp: TcpSock): boolean => tp.caState === TCP_CA_CWR || tp.caState === TCP_CA_RECOVERY

/** Models `tcp_receive_window`: what is left of the window we offered. */
export function tcpReceiveWindow(tp: TcpSock): number {
  const win = (tp.rcvWup + tp.rcvWnd - tp.rcvNxt) | 0
  return win < 0 ? 0 : win
}

/** Models `inet_csk_schedule_ack`. */
export const inetCskScheduleAck = (tp: TcpSock): void => {
  tp.ackPending |= ICSK_ACK_SCHED
}

/** Models `inet_csk_ack_scheduled`. */
export const inetCskAckScheduled = (tp: TcpSock): boolean => (tp.ackPending & ICSK_ACK_SCHED) !== 0
