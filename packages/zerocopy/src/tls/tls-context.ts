/**
 * `struct tls_context`: what the ULP adds to a TCP socket. Keys and counters of both directions; for sending, the
 * record that is open and those that TCP has not taken yet; for receiving, the parser and the records that were
 * decrypted and not read.
 *
 * Conservation: *the socket's charges besides its queues = Σ size of both messages of the open record and of all
 * records in `txList`*; `auditTlsSock` proves it.
 */
import { type Addr, type Cpu, NULL } from '@netmem/base'
import { type SkBuff, SkbQueue, type Skbuffs } from '@netmem/skbuff'
import type { Sock, SockCallback, SockOps, Task } from '@netmem/sockmem'
import { SkMsg } from './sk-msg.js'
import type { TlsCryptoInfo } from './tls-ciphers.js'
import type { TlsAead } from './tls-crypto.js'
import type { TlsDeviceContextTx } from './tls-device-context.js'
import type { TlsEnv } from './tls-env.js'
import { CipherContext, TlsProtInfo } from './tls-framing.js'

// Models `TLS_BASE`, `TLS_SW`, `TLS_HW`: how a direction is handled.
export const TLS_BASE = 0
export const TLS_SW = 1
export const TLS_HW = 2
export type TlsConf = 0 | 1 | 2

/** Models `struct tls_rec`: one record on its way out. Pooled; `addr` is its slab object. */
export class TlsRec {
  addr: Addr = NULL
  readonly plaintext = new SkMsg()
  readonly encrypted = new SkMsg()
  contentType = 0
  /** `MSG_*` of the call that closed it. */
  txFlags = 0
  /** Encrypted: TCP may have it. */
  txReady = false
}

/** Models `struct tls_sw_context_tx`. */
export class TlsSwContextTx {
  addr: Addr = NULL
  aead: TlsAead | null = null
  /** The record that sends append to. */
  openRec: TlsRec | null = null
  /** Closed records that TCP has not taken whole, the oldest first. */
  readonly txList: TlsRec[] = []
  /** The event by which `tx_work` runs, 0 none; models BIT_TX_SCHEDULED. */
  txWork = 0
  closing = false
}

/** Models `struct tls_strparser`. */
export class TlsStrparser {
  /** An empty packet whose fragment list is borrowed from the receive queue, or pages that hold a copied record. */
  anchor: SkBuff | null = null
  /** Whole length of the record at the head of the stream, 0 while its header is not there; and where it begins. */
  fullLen = 0
  offset = 0
  /** Type of the record, from its header. */
  mark = 0
  msgReady = false
  copyMode = false
  stopped = false
  /** The event by which `tls_strp_work` runs, 0 none. */
  work = 0
}

/** Models `struct tls_decrypt_arg`: what is asked for, and what came of it. */
export class TlsDecryptArg {
  /** In: may the text go straight to the reader? Out: it did. */
  zc = false
  /** The byte behind the text of TLS 1.3, when it went straight to the reader. */
  tail = 0
  /** The packet that describes the record now. */
  skb: SkBuff | null = null
}

/** What one receive carries along; calls on a socket do not overlap. */
export class TlsRecvState {
  /** Type of what this call gives, 0 while it gave nothing. */
  control = 0
  flushedAt = 0
  /** The receive list has more, of another type. */
  more = false
  readonly darg = new TlsDecryptArg()

  reset(): TlsRecvState {
    this.control = 0
    this.flushedAt = 0
    this.more = false
    return this
  }
}

/** Models `struct tls_sw_context_rx`. */
export class TlsSwContextRx {
  addr: Addr = NULL
  aead: TlsAead | null = null
  readonly strp = new TlsStrparser()
  /** Decrypted records, or rests of them, that the user has not read. */
  readonly rxList: SkbQueue
  savedDataReady: SockCallback | null = null
  readonly recv = new TlsRecvState()
  /** Whether a record may be decrypted straight into the reader's memory. */
  zcCapable = false
  /** A KeyUpdate was read: nothing more is decrypted until there is a new key. */
  keyUpdatePending = false

  constructor(skbs: Skbuffs) {
    this.rxList = new SkbQueue(skbs)
  }
}

export class TlsContext {
  /** The slab object of `struct tls_context`. */
  addr: Addr = NULL
  txConf: TlsConf = TLS_BASE
  rxConf: TlsConf = TLS_BASE
  readonly prot = new TlsProtInfo()
  readonly tx = new CipherContext()
  readonly rx = new CipherContext()
  /** Slab objects of the ivs and sequence numbers, on kernels that allocate them: tx iv, tx seq, rx iv, rx seq. */
  readonly ivAddrs = new Int32Array(4)
  cryptoSend: TlsCryptoInfo | null = null
  cryptoRecv: TlsCryptoInfo | null = null
  swTx: TlsSwContextTx | null = null
  swRx: TlsSwContextRx | null = null
  device: TlsDeviceContextTx | null = null
  /** Models `push_pending_record`: closes the open record before one of another type. */
  pushPendingRecord: ((cpu: Cpu, task: Task, ctx: TlsContext, flags: number) => number) | null = null
  /** A record is open that `push_pending_record` would close. */
  pendingOpenRecordFrags = false
  /** The user has closed the socket; only what the device may have to send again is kept. */
  closed = false
  zerocopySendfile = false
  rxNoPad = false
  /** Pages are being handed to TCP: space that this makes is TCP's own business. */
  splicingPages = false
  /** The message that TCP took in part: from which piece on it is ours, and how far into that; -1 when there is none. */
  partialElem = -1
  partialOffset = 0
  partialMsg: SkMsg | null = null
  /** Models `sk_proto`, and the callback that ours stands in front of. */
  readonly baseOps: SockOps
  skWriteSpace: SockCallback | null = null

  /** Its own port: the socket's may be given back while packets are on their way. */
  readonly localPort: number

  constructor(
    readonly env: TlsEnv,
    /** Its number in `env.contexts`, by which timers find it. */
    readonly id: number,
    readonly sk: Sock,
  ) {
    this.baseOps = sk.ops
    this.localPort = sk.num
  }
}

/** Models `tls_get_ctx`. */
export const tlsGetCtx = (sk: Sock): TlsContext => sk.ulpData as TlsContext
