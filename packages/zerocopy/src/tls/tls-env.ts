/**
 * One machine's kTLS: what all its TLS sockets share, and what it needs from TCP, which is in a package above.
 */
import type { Cpu, EventQueue, Ns } from '@netmem/base'
import { IovIter } from '@netmem/memory'
import type { PageFrag } from '@netmem/page-frag'
import { AllocSkbError, type SkBuff } from '@netmem/skbuff'
import { Msg, mibIndex, type Sock, type SockCallback, type SockEnv, type SockOps, Task } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import { MAX_MSG_FRAGS, newSockFrag } from './sk-msg.js'
import type { TlsContext, TlsRec } from './tls-context.js'
import type { TlsCryptoProvider } from './tls-crypto.js'
import { TLS_AAD_SPACE_SIZE, TLS_HEADER_SIZE, TLS_MAX_PAYLOAD_SIZE, TLS_NONCE_SIZE } from './tls-framing.js'

/** Models `sk_read_actor_t`: takes bytes `[offset, offset + len)` of a packet. @returns bytes taken, 0 to stop. */
export type TlsReadActor = (cpu: Cpu, sk: Sock, skb: SkBuff, offset: number, len: number) => number

/** The functions of TCP that kTLS calls; `inet` fills them. All but the first expect the socket to be locked. */
export interface TlsTransport {
  /** Models `lock_sock` and `release_sock`. */
  lockSock(sk: Sock): void
  releaseSock(cpu: Cpu, sk: Sock): void
  /** Models `tcp_rate_check_app_limited`. */
  rateCheckAppLimited(sk: Sock): void
  /** Models `tcp_inq`. */
  inq(sk: Sock): number
  /** Models `tcp_recv_skb` at the reader's place. @returns the packet with the next byte, or null; see `recvOffset`. */
  recvSkb(sk: Sock): SkBuff | null
  /** Where in the packet that `recvSkb` gave the next byte is. */
  recvOffset(): number
  /** Models `tcp_read_done`. */
  readDone(cpu: Cpu, sk: Sock, len: number): void
  /** Models `tcp_read_sock`, until the actor takes nothing. */
  readSock(cpu: Cpu, sk: Sock, actor: TlsReadActor): void
  /** Models `tcp_epollin_ready`. */
  epollinReady(sk: Sock, target: number): boolean
  /** Models `tcp_sk(sk)->write_seq`: the next sequence number that is written. */
  writeSeq(sk: Sock): number
  /** Models `tcp_write_collapse_fence`: what is queued and what comes later stay different packets. */
  writeCollapseFence(sk: Sock): void
  /** Models `clean_acked_data_enable`: `freed(cpu, sk, ack)` for every ACK of something new. */
  cleanAcked(sk: Sock, freed: (cpu: Cpu, sk: Sock, ack: number) => void): void
  /** Models `get_netdev_for_sock`: the device that its packets leave by, null when there is no route. */
  netdevFor(sk: Sock): NetDevice | null
}

export interface TlsParams {
  readonly socks: SockEnv
  readonly crypto: TlsCryptoProvider
  readonly transport: TlsTransport
}

/** Counters of /proc/net/tls_stat as indices of `NetNs.mib`. */
export const TLS_MIB = {
  CurrTxSw: mibIndex('Tls.TlsCurrTxSw'),
  CurrRxSw: mibIndex('Tls.TlsCurrRxSw'),
  CurrTxDevice: mibIndex('Tls.TlsCurrTxDevice'),
  CurrRxDevice: mibIndex('Tls.TlsCurrRxDevice'),
  TxSw: mibIndex('Tls.TlsTxSw'),
  RxSw: mibIndex('Tls.TlsRxSw'),
  TxDevice: mibIndex('Tls.TlsTxDevice'),
  RxDevice: mibIndex('Tls.TlsRxDevice'),
  DecryptError: mibIndex('Tls.TlsDecryptError'),
  RxDeviceResync: mibIndex('Tls.TlsRxDeviceResync'),
  DecryptRetry: mibIndex('Tls.TlsDecryptRetry'),
  RxNoPadViolation: mibIndex('Tls.TlsRxNoPadViolation'),
  RxRekeyOk: mibIndex('Tls.TlsRxRekeyOk'),
  RxRekeyError: mibIndex('Tls.TlsRxRekeyError'),
  TxRekeyOk: mibIndex('Tls.TlsTxRekeyOk'),
  TxRekeyError: mibIndex('Tls.TlsTxRekeyError'),
  RxRekeyReceived: mibIndex('Tls.TlsRxRekeyReceived'),
} as const

/** Models `TLS_INC_STATS`. */
export function tlsIncStats(sk: Sock, counter: number): void {
  sk.net.mib[counter]! += 1
}

/** Models `TLS_DEC_STATS`. */
export function tlsDecStats(sk: Sock, counter: number): void {
  sk.net.mib[counter]! -= 1
}

/** Behaviour that differs between kernels, by name. */
export interface TlsFeatures {
  /** A TLS 1.3 direction may get a new key (6.14), and a KeyUpdate stops receiving until it does. */
  readonly tlsRekey: boolean
  /** Models `tls_sk_poll`: readable only with a whole record (6.2 and later). */
  readonly tlsPoll: boolean
  /** MSG_EOR is a flag that sends know (6.5). */
  readonly tlsSendEor: boolean
  /** Ivs and sequence numbers are allocations of their own (before 6.7). */
  readonly tlsIvAllocated: boolean
  /** A record that was parsed is looked for again when the stream may have moved on under it (6.17). */
  readonly tlsMsgCanVanish: boolean
  /** Pages go to TCP by `sendpage` (before 6.5), not by MSG_SPLICE_PAGES. */
  readonly sendpage: boolean
}

// Longest record, with the type byte, and a tag behind it.
const STAGING_BYTES = TLS_MAX_PAYLOAD_SIZE + 2048

export class TlsEnv {
  readonly socks: SockEnv
  readonly crypto: TlsCryptoProvider
  readonly transport: TlsTransport
  readonly clock: EventQueue
  readonly features: TlsFeatures
  /** TLS sockets by number, for the work that runs later. */
  readonly contexts: (TlsContext | null)[] = [null]
  readonly freeIds: number[] = []
  /** Bodies of records that are not in use. */
  readonly freeRecs: TlsRec[] = []
  /** Operations of TLS sockets, by the operations of the TCP socket below and by what is set. */
  readonly opsTables = new Map<SockOps, SockOps[]>()
  readonly txWorkHandler: number
  readonly strpWorkHandler: number
  /** Bodies of the two works; set by whoever owns them. */
  txWork: (cpu: Cpu, ctx: TlsContext) => void = () => {}
  strpWork: (cpu: Cpu, ctx: TlsContext) => void = () => {}
  /** Puts a socket's operations in place, and what stands in front of its `writeSpace`; `tlsInit` fills both. */
  updateSkProt: (sk: Sock, ctx: TlsContext) => void = () => {}
  writeSpace: SockCallback = () => {}

  // Scratch of the record in hand; calls do not overlap.
  readonly staging = new Uint8Array(STAGING_BYTES)
  readonly nonce = new Uint8Array(TLS_NONCE_SIZE)
  readonly aad12 = new Uint8Array(TLS_AAD_SPACE_SIZE)
  readonly aad13 = new Uint8Array(TLS_HEADER_SIZE)
  readonly header = new Uint8Array(TLS_HEADER_SIZE + TLS_NONCE_SIZE)
  readonly pages = new Int32Array(MAX_MSG_FRAGS)
  readonly bvecPfn = new Int32Array(1)
  readonly bvecOffset = new Int32Array(1)
  readonly bvecLen = new Int32Array(1)
  readonly spliceMsg = new Msg()
  readonly pageIter = new IovIter()
  readonly sockFrag: PageFrag = newSockFrag()
  readonly allocError = new AllocSkbError()
  /** Who work runs as: a kworker, which has no memory of its own here. */
  readonly kworker: Task
  /** Bytes that a failed record gave back and its send must not count. */
  freedByFailure = 0

  constructor(params: TlsParams) {
    this.socks = params.socks
    this.crypto = params.crypto
    this.transport = params.transport
    this.clock = params.socks.clock
    this.features = params.socks.profile.features
    this.kworker = new Task(0, params.socks.cpus[0]!, params.socks.initNet)
    const run = (work: 'txWork' | 'strpWork') => (id: number, cpu: number) => {
      const ctx = this.contexts[id]
      if (ctx != null) this[work](this.socks.cpus[cpu]!, ctx)
    }
    this.txWorkHandler = this.clock.register(run('txWork'))
    this.strpWorkHandler = this.clock.register(run('strpWork'))
  }

  /** Models `queue_work`: runs as soon as whoever is running now is done. @returns the event. */
  queueWork(cpu: Cpu, handler: number, ctx: TlsContext): number {
    return this.clock.schedule(this.clock.nowNs as Ns, handler, ctx.id, cpu.id)
  }

  /** @returns the size of a kernel structure, bytes. */
  sizeOf(name: string, otherwise: number): number {
    return this.socks.profile.structs[name]?.size ?? otherwise
  }
}
