/**
 * `struct sock`: one shape for every protocol. The fields here are what accounting, wake-ups and lookup
 * need; a protocol keeps the rest in `priv`, set once when the socket is made. All but the last few fields
 * are small integers, so a million sockets are a million equal objects.
 *
 * Conservation, for protocols that count (`Proto.memory`):
 * *forwardAlloc + every byte charged = 4096 × pages this socket took from its protocol*.
 */
import type { Addr, Cpu } from '@netmem/base'
import { SkbQueue } from '@netmem/skbuff'
import { TCP_CLOSE } from './constants.js'
import type { MemCgroup } from './memcg.js'
import type { NetNs } from './net-ns.js'
import type { Proto } from './proto.js'
import type { SkFilter } from './sk-filter.js'
import type { SockEnv } from './sock-env.js'
import type { SockOps } from './sock-ops.js'

/** Models `sk_data_ready` and its three siblings. */
export type SockCallback = (cpu: Cpu, sk: Sock) => void

/** IPv6 addresses of a socket, four words each in network order as `Int32` (big-endian words). */
export class SockV6 {
  readonly rcvSaddr = new Int32Array(4)
  readonly saddr = new Int32Array(4)
  readonly daddr = new Int32Array(4)
}

/** Models `struct sock`, with the part of `struct socket` that the user's end is. */
export class Sock {
  /** Address of the slab object, 0 after it is freed. */
  addr = 0 as Addr
  /** Address of the user's end (`struct socket` in its inode), 0 when nobody holds it: orphan or not accepted. */
  socket = 0 as Addr
  /** Models `sock->state`: an `SS_*` number. */
  socketState = 0
  family = 0
  type = 0
  protocol = 0
  /** Models `sk_state`, a `TCP_*` number for every family. */
  state = TCP_CLOSE
  /** References by users, tables and timers (`sk_refcnt`); memory goes when these and `wmemAlloc` are 0. */
  refcnt = 1

  /** Bytes of truesize queued for reading. */
  rmemAlloc = 0
  rcvbuf = 0
  /** 1 for the socket itself, plus truesize of packets handed down (`sk_wmem_alloc`), in bytes. */
  wmemAlloc = 1
  sndbuf = 0
  /** Truesize in the write and retransmit queues of a stream, in bytes. */
  wmemQueued = 0
  /** Bytes taken from the protocol in whole pages and not used; signed, and below 0 for a moment at times. */
  forwardAlloc = 0
  /** Bytes of options, filters and notifications. */
  omemAlloc = 0
  /** Bytes that `SO_RESERVE_MEM` keeps for this socket. */
  reservedMem = 0
  /** Truesize waiting on the backlog, in bytes. */
  backlogLen = 0
  backlogHead = 0
  backlogTail = 0
  /** Packets dropped at this socket. */
  drops = 0

  userlocks = 0
  /** `SOCKF_*` bits. */
  flags = 0
  shutdown = 0
  /** A positive errno waiting to be reported, 0 when none. */
  err = 0
  errSoft = 0
  /** Models `sk_lock.owned`: a task is inside a call on this socket. */
  owned = 0
  rcvlowat = 1
  /** Seconds of SO_LINGER, in effect with SOCKF_LINGER. */
  lingertime = 0
  /** Timeouts in jiffies; -1 waits for ever. */
  rcvtimeo = -1
  sndtimeo = -1
  priority = 0
  mark = 0
  boundDevIf = 0
  incomingCpu = -1
  peekOff = -1
  llUsec = 0
  busyPollBudget = 0
  txrehash = 0
  txhash = 0
  maxPacingRate = 4294967295
  pacingRate = 4294967295
  /** The mask that this socket allocates with in task context (`sk_allocation`). */
  allocation = 0
  /** Models `sk_use_task_frag`: sends fill the task's page fragment instead of the socket's own. */
  useTaskFrag = 1
  zckey = 0
  tskey = 0
  /** Bits of SO_TIMESTAMPING (`sk_tsflags`). */
  tsflags = 0
  ackBacklog = 0
  maxAckBacklog = 0

  /** Local port (`inet_num`), host order. */
  num = 0
  /** Remote port, host order. */
  dport = 0
  /** Local address as a packet carries it, `inet_rcv_saddr`: what it is bound to. 0 any. */
  rcvSaddr = 0
  /** Source address of what it sends. */
  saddr = 0
  daddr = 0
  /** Links of the owning protocol's lookup table: ids, 0 none. */
  hashNext = 0
  hashPrev = 0

  /** Space for one page fragment of this socket's own (`sk_frag`). */
  fragPage = 0
  fragOffset = 0
  fragSize = 0

  proto: Proto
  ops: SockOps
  net: NetNs
  env: SockEnv
  memcg: MemCgroup | null = null
  filter: SkFilter | null = null
  v6: SockV6 | null = null
  /** The protocol's own part (`UdpSock`, `TcpSock`, `UnixSock`, ...). */
  priv: unknown = null
  /** Models `icsk_ulp_data`: state of the protocol attached above TCP (`TlsContext`), null when there is none. */
  ulpData: unknown = null
  readonly receiveQueue: SkbQueue
  readonly errorQueue: SkbQueue
  readonly writeQueue: SkbQueue
  dataReady: SockCallback
  writeSpace: SockCallback
  errorReport: SockCallback
  stateChange: SockCallback
  /** Models `sk_destruct`: what the protocol does before the memory goes. */
  destruct: SockCallback

  constructor(
    readonly id: number,
    env: SockEnv,
    net: NetNs,
    proto: Proto,
    ops: SockOps,
    callback: SockCallback,
  ) {
    this.env = env
    this.net = net
    this.proto = proto
    this.ops = ops
    this.receiveQueue = new SkbQueue(env.skbs)
    this.errorQueue = new SkbQueue(env.skbs)
    this.writeQueue = new SkbQueue(env.skbs)
    this.dataReady = callback
    this.writeSpace = callback
    this.errorReport = callback
    this.stateChange = callback
    this.destruct = callback
  }
}

/** Models `sock_flag`. */
export const sockFlag = (sk: Sock, flag: number): boolean => (sk.flags & flag) !== 0

/** Models `sock_set_flag`. */
export const sockSetFlag = (sk: Sock, flag: number): void => {
  sk.flags |= flag
}

/** Models `sock_reset_flag`. */
export const sockResetFlag = (sk: Sock, flag: number): void => {
  sk.flags &= ~flag
}

/** Models `sock_valbool_flag`. */
export const sockValboolFlag = (sk: Sock, flag: number, on: boolean): void => {
  if (on) sk.flags |= flag
  else sk.flags &= ~flag
}

/** Models `sock_error`: takes the waiting error. @returns 0 or a negative errno. */
export function sockError(sk: Sock): number {
  const err = sk.err
  if (err === 0) return 0
  sk.err = 0
  return -err
}
