/**
 * `struct udp_sock`: a UDP socket's own part. Packets are queued on `sk.receiveQueue` by softirq and read from
 * `readerQueue`, which takes over all of it at once, so that reader and softirq seldom meet.
 *
 * Conservation: *sk.rmemAlloc = Σ truesize in both queues + forwardDeficit*.
 */
import { type Addr, NULL } from '@netmem/base'
import { SkbQueue } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import type { InetEnv } from '../inet-env.js'
import { InetSock } from '../inet-sock.js'

/** Models `struct udp_prod_queue`: packets that softirqs of one node pushed and nobody took over yet. */
export class UdpProdQueue {
  /** Ids, the newest first, linked by `next` (a lockless list). */
  first = 0
  /** Bytes of truesize on it, and in the batch being taken over. */
  rmemAlloc = 0
}

export class UdpSock {
  readonly inet = new InetSock()
  readonly env: InetEnv
  readonly readerQueue: SkbQueue
  /** Bytes read and not given back yet. */
  forwardDeficit = 0
  /** How many of them may wait: a quarter of the receive buffer. */
  forwardThreshold = 0
  /** Address family of a datagram under construction, 0 none. */
  pending = 0
  /** Bytes of it. */
  len = 0
  /** UDP_CORK. */
  corkOpt = 0
  /** UDP_SEGMENT: payload bytes per datagram, 0 none. */
  gsoSize = 0
  /** UDP_GRO. */
  groEnabled = 0
  noCheck6Tx = 0
  noCheck6Rx = 0
  encapType = 0
  /** By NUMA node; kernels without them have an empty list. */
  readonly prodQueues: UdpProdQueue[] = []
  /** Address of the producer queues' block, NULL without. */
  prodAddr = NULL as Addr
  /** Reading hands the buffer to the CPU that made it (6.18) instead of freeing it. */
  readonly defersFree: boolean
  /** The function that a free on reading names. */
  readonly recvSite: string
  /** In the table of connected sockets instead of the bound ones. */
  connectedHash = false
  /** Links of the list of sockets on one port: ids. */
  portNext = 0
  portPrev = 0

  constructor(env: InetEnv, recvSite: string) {
    this.env = env
    this.recvSite = recvSite
    this.defersFree = env.profile.features.udpDefersSkbFree
    this.readerQueue = new SkbQueue(env.skbs)
  }
}

/** @returns the UDP part of a socket. */
export const udpSk = (sk: Sock): UdpSock => sk.priv as UdpSock
