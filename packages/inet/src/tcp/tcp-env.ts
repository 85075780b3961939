/**
 * One machine's TCP: what all its TCP sockets share. The tables by which a segment finds its socket, the
 * slab caches of request and time-wait socks, the clock's handlers, and the profile's numbers in the form that
 * the hot path reads.
 */
import { type Cpu, type EventQueue, type KernelProfile, Prng } from '@netmem/base'
import {
  type KmemCache,
  kmemCacheCreate,
  type Memory,
  SLAB_ACCOUNT,
  SLAB_HWCACHE_ALIGN,
  SLAB_PANIC,
  SLAB_TYPESAFE_BY_RCU,
} from '@netmem/memory'
import { CoalesceResult, type Skbuffs } from '@netmem/skbuff'
import type { NetNs, Proto, Sock, SockEnv } from '@netmem/sockmem'
import type { MsgZerocopy } from '@netmem/zerocopy'
import { PageMsg } from '../page-msg.js'
import { InetBindTable } from './inet-bind.js'
import { FlowKey, InetHashinfo } from './inet-hashtables.js'
import type { RequestSock } from './request-sock.js'
import type { TcpIp } from './tcp-af.js'
import type { TimewaitSock } from './tcp-minisocks.js'
import { TcpOptionsReceived } from './tcp-options.js'
import { RateSample } from './tcp-rate.js'
import { Alert } from './tcp-recovery.js'
import { SacktagState } from './tcp-sack.js'
import { SendState } from './tcp-sendmsg.js'
import type { TcpUlpOps } from './tcp-ulp.js'
import { InitialWindow } from './tcp-window.js'
import type { TickTimers } from './tick-timers.js'

/** Models `TCP_TIMEOUT_INIT` and neighbours, in seconds. */
const TIMEOUT_INIT_S = 1
const TIMEWAIT_LEN_S = 60

/** Timers of a socket: places in `TcpSock.events`. */
export const TCP_TIMER_WRITE = 0
export const TCP_TIMER_DELACK = 1
export const TCP_TIMER_KEEPALIVE = 2
export const TCP_TIMER_COMPRESSED_ACK = 3
export const TCP_TIMER_PACING = 4

/** Behaviour that differs between kernels, by name, as plain fields. */
export interface TcpFeatures {
  /** Models `tcp_grow_skb` (6.11): a short packet is filled from the next before it is sent. */
  readonly tcpGrowSkb: boolean
  /** The receiver's round trip and reading rate know what is still queued (6.16), and holes raise the buffer. */
  readonly tcpRcvQueueAware: boolean
  /** A segment that ends beyond the window is refused (6.17). */
  readonly tcpWindowEndCheck: boolean
  /** The last call of a function is compiled into a jump, so that a free is reported at an outer caller. */
  readonly tailCallFrees: boolean
  /** Models `inet_bind2_bucket_create` being part of its caller. */
  readonly bind2CreateInlined: boolean
  /** The first window may be larger than 64 KiB (6.5). */
  readonly tcpLargeInitialWindow: boolean
  /** Models `kfree_rcu` of bind buckets (6.10). */
  readonly bindBucketFreesByRcu: boolean
  /** An ACK after a refused segment offers no window (6.6). */
  readonly tcpNomemZeroWindow: boolean
}

export class TcpEnv {
  readonly mem: Memory
  readonly skbs: Skbuffs
  readonly clock: EventQueue
  readonly profile: KernelProfile
  readonly features: TcpFeatures
  /** Models `tp->scaling_ratio` being there at all (6.6). */
  readonly scalingRatio: boolean
  readonly hz: number
  readonly jiffyNs: number
  /** Models `MAX_TCP_HEADER`, bytes. */
  readonly maxTcpHeader: number
  // In jiffies.
  readonly atoMin: number
  readonly delackMin: number
  readonly delackMax: number
  readonly timeoutMin: number
  readonly timeoutInit: number
  readonly timewaitLen: number
  readonly resourceProbeInterval: number
  readonly hashinfo: InetHashinfo
  readonly bindTable: InetBindTable
  readonly requestCache: KmemCache
  readonly requestCache6: KmemCache
  readonly twCache: KmemCache
  readonly twCache6: KmemCache
  readonly prng: Prng
  /** TCP's own clock in ns, at or ahead of virtual time; see `tcp-time.ts`. */
  softNs = 0
  /** Time-wait socks alive on this machine. */
  twCount = 0
  /** Timers of a tick's resolution: retransmission, delayed ACK, keepalive. */
  tickTimers!: TickTimers
  /** The clock's handler of the others: arg0 is the socket's id, arg1 a `TCP_TIMER_*`. */
  timerHandler = 0
  requestTimerHandler = 0
  twTimerHandler = 0
  tsqHandler = 0
  /** Filled by `tcpInit`. */
  /** Scratch of the ACK that is being processed. */
  readonly rs = new RateSample()
  readonly sendState = new SendState()
  readonly pageMsg = new PageMsg()
  readonly sacktag = new SacktagState()
  readonly alert = new Alert()
  readonly coalesced = new CoalesceResult()
  /** The ends that a reply goes between. */
  readonly replyKey = new FlowKey()
  readonly scratchOptions = new TcpOptionsReceived()
  readonly initialWindow = new InitialWindow()
  /** A segment for a request is to be answered with a reset. */
  reqReset = false
  /** Where a segment goes on that left the fast path. */
  fastPathVerdict = 0
  /** Models `tcp_ulp_list`. */
  readonly ulps: TcpUlpOps[] = []
  /** Requests by number, for their timers. */
  readonly requests: (RequestSock | null)[] = []
  readonly freeRequestIds: number[] = []
  readonly timewaits: (TimewaitSock | null)[] = []
  readonly freeTimewaitIds: number[] = []
  proto!: Proto
  proto6!: Proto
  ip!: TcpIp
  /** Notifications of sends by reference. */
  zerocopy!: MsgZerocopy

  constructor(
    readonly socks: SockEnv,
    readonly cpus: readonly Cpu[],
    seed: number,
  ) {
    this.mem = socks.mem
    this.skbs = socks.skbs
    this.clock = socks.clock
    const profile = socks.profile
    this.profile = profile
    this.features = profile.features
    this.scalingRatio = profile.features.tcpScalingRatio
    this.hz = profile.HZ
    this.jiffyNs = 1e9 / profile.HZ
    this.maxTcpHeader = profile.derived.MAX_TCP_HEADER!
    this.atoMin = Math.floor(profile.HZ / 25)
    this.delackMin = Math.floor(profile.HZ / 25)
    this.delackMax = Math.floor(profile.HZ / 5)
    this.timeoutMin = 2
    this.timeoutInit = TIMEOUT_INIT_S * profile.HZ
    this.timewaitLen = TIMEWAIT_LEN_S * profile.HZ
    this.resourceProbeInterval = Math.floor(profile.HZ / 2)
    this.hashinfo = new InetHashinfo(socks)
    this.prng = new Prng(seed)
    const cache = (name: string, flags: number): KmemCache =>
      kmemCacheCreate(this.mem, name, Number(profile.slab_sysfs[name]?.object_size ?? 128), {
        flags: flags | SLAB_ACCOUNT,
      })
    this.requestCache = cache('request_sock_TCP', SLAB_TYPESAFE_BY_RCU)
    this.requestCache6 = cache('request_sock_TCPv6', SLAB_TYPESAFE_BY_RCU)
    this.twCache = cache('tw_sock_TCP', SLAB_TYPESAFE_BY_RCU)
    this.twCache6 = cache('tw_sock_TCPv6', SLAB_TYPESAFE_BY_RCU)
    const bucketFlags = SLAB_HWCACHE_ALIGN | SLAB_PANIC
    this.bindTable = new InetBindTable(
      this.mem,
      cache('tcp_bind_bucket', bucketFlags),
      cache('tcp_bind2_bucket', bucketFlags),
    )
  }

  /** Models `jiffies`, as a signed number that wraps. */
  jiffies(): number {
    return this.socks.jiffies | 0
  }

  /** @returns the function that a free at the end of a function is reported at: `caller`, or undefined for that function itself. */
  freeSite(caller: string): string | undefined {
    return this.features.tailCallFrees ? caller : undefined
  }

  /** @returns time-wait socks of a namespace. */
  timewaitSockets(net: NetNs): number {
    let count = 0
    for (const tw of this.timewaits) if (tw != null && tw.net === net) count += 1
    return count
  }

  /** @returns a TCP socket that still exists, or null. */
  sockById(id: number): Sock | null {
    return this.socks.socks[id] ?? null
  }
}
