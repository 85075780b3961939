/** `struct tls_offload_context_tx`: what kTLS and the device that encrypts for it keep of one connection. */
import { type Addr, NULL } from '@netmem/base'
import type { NetDevice } from '@netmem/virtual-nic'
import { SkMsg } from './sk-msg.js'

/** Models `struct tls_record_info`: a record that TCP has and the peer has not acknowledged whole. */
export class TlsRecordInfo {
  addr: Addr = NULL
  /** Its pages: header, plain text as the user gave it, room for the tag. */
  readonly msg = new SkMsg()
  /** Sequence number behind its last byte. */
  endSeq = 0
  /** Bytes on the wire. */
  len = 0
  /** Which record of the connection it is; the device mixes it into the nonce. */
  readonly recSeq = new Uint8Array(8)
  readonly iv = new Uint8Array(12)
}

/** Models `struct tls_offload_context_tx`. */
export class TlsDeviceContextTx {
  addr: Addr = NULL
  /** The record that sends append to, null when none is open. */
  openRecord: TlsRecordInfo | null = null
  /** Records by their place in the stream, the oldest first: what a retransmission may need. */
  readonly recordsList: TlsRecordInfo[] = []
  /** Where offload began: bytes before it were sent as they are. */
  startMarker = 0
  /** What the device expects to send next; anything else is a retransmission and has to be told to it. */
  expectedSeq = 0
  /** Packets that did not come in order, and records looked up for them. */
  resyncs = 0

  constructor(readonly netdev: NetDevice) {}
}
