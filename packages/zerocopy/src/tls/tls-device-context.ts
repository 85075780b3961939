/** `struct tls_offload_context_tx`: what kTLS and the device that encrypts for it keep of one connection. */
import { type Addr, NULL } from '@netmem/base'
import type { SockCallback } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import { SkMsg } from './sk-msg.js'
import { TLS_REC_SEQ_SIZE } from './tls-ciphers.js'
import type { TlsAead } from './tls-crypto.js'

/** Models `struct tls_record_info`: a record from its first byte until the peer has acknowledged the last. */
export class TlsRecordInfo {
  /** Its pages: header, plain text, room for the tag. Each piece holds one reference; nothing is charged for it. */
  readonly msg = new SkMsg()
  /** Sequence number behind its last byte; 0 while it is open. */
  endSeq = 0
  /** Which record of the connection it is: the tag covers that. */
  readonly recSeq = new Uint8Array(TLS_REC_SEQ_SIZE)

  constructor(readonly addr: Addr) {}
}

/** Models `struct tls_offload_context_tx`. */
export class TlsDeviceContextTx {
  addr: Addr = NULL
  /** The record that marks where offload began; it only takes memory here. */
  markerAddr: Addr = NULL
  /** The record that sends append to, null when none is open. */
  openRecord: TlsRecordInfo | null = null
  /** Records in the order of the stream: what a retransmission may need. */
  readonly recordsList: TlsRecordInfo[] = []
  /** The pieces that TCP is being given (`sg_tx_data`). */
  readonly sgTx = new SkMsg()
  /** Sequence number where offload began: bytes before it were sent as they are. */
  startMarker = 0
  /** Models `sk_destruct` of the socket below. */
  skDestruct: SockCallback = () => {}

  // The card's part.

  /** What comes next if nothing was lost. */
  expectedSeq = 0
  /** Packets out of this order, for which the card had to be told of the record again (`tx_tls_ooo`). */
  resyncs = 0
  /** Packets whose record was not known any more (`tx_tls_drop_no_sync_data`). */
  drops = 0

  constructor(
    readonly netdev: NetDevice,
    /** The card's cipher. */
    readonly aead: TlsAead,
  ) {}
}
