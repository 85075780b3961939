/**
 * A record around its bytes: header, what the tag covers besides the text, nonce, and how sequence numbers count.
 */
import { TLS_1_3_VERSION, TLS_CIPHER_CHACHA20_POLY1305, TLS_REC_SEQ_SIZE } from './tls-ciphers.js'
import { TLS_TAG_SIZE } from './tls-crypto.js'

export const TLS_HEADER_SIZE = 5
/** Plain text of one record, in bytes. */
export const TLS_MAX_PAYLOAD_SIZE = 16384
/** Bytes that TLS 1.2 authenticates beside the text: sequence number, type, version, length. */
export const TLS_AAD_SPACE_SIZE = 13
export const TLS_NONCE_SIZE = 12
export const TLS_RECORD_TYPE_ALERT = 21
export const TLS_RECORD_TYPE_HANDSHAKE = 22
export const TLS_RECORD_TYPE_DATA = 23
/** Models `TLS_HANDSHAKE_KEYUPDATE`: a handshake message that ends a key. */
export const TLS_HANDSHAKE_KEYUPDATE = 24

/** Models `struct tls_prot_info`: what both directions of a connection have in common. Sizes in bytes. */
export class TlsProtInfo {
  version = 0
  cipherType = 0
  /** Header, and what of the nonce a record carries. */
  prependSize = 0
  tagSize = 0
  overheadSize = 0
  ivSize = 0
  saltSize = 0
  aadSize = 0
  /** The type byte behind a TLS 1.3 text. */
  tailSize = 0
}

/** Models `struct cipher_context`: a direction's iv (with the salt in front of it) and next sequence number. */
export class CipherContext {
  /** Salt, then iv: the nonce of a record, before the sequence number is mixed in. */
  readonly iv = new Uint8Array(TLS_NONCE_SIZE)
  readonly recSeq = new Uint8Array(TLS_REC_SEQ_SIZE)
}

/** TLS 1.2 with GCM or CCM sends half of its nonce; everybody else derives it from the sequence number. */
const carriesNonce = (prot: TlsProtInfo): boolean =>
  prot.version !== TLS_1_3_VERSION && prot.cipherType !== TLS_CIPHER_CHACHA20_POLY1305

/** Models `tls_bigint_increment`: one more, big-endian, in `bytes[from, from + length)`. @returns true when it wrapped to 0. */
export function tlsBigintIncrement(bytes: Uint8Array, from: number, length: number): boolean {
  for (let i = from + length - 1; i >= from; i -= 1) {
    bytes[i] = (bytes[i]! + 1) & 0xff
    if (bytes[i] !== 0) return false
  }
  return true
}

/** Models `tls_advance_record_sn` (net/tls/tls.h). @returns true when the sequence number wrapped: the connection is over. */
export function tlsAdvanceRecordSn(prot: TlsProtInfo, cctx: CipherContext): boolean {
  const wrapped = tlsBigintIncrement(cctx.recSeq, 0, TLS_REC_SEQ_SIZE)
  if (carriesNonce(prot)) tlsBigintIncrement(cctx.iv, prot.saltSize, prot.ivSize)
  return wrapped
}

/**
 * Models `tls_xor_iv_with_seq` and the copies before it: the nonce of the record with the context's sequence number.
 *
 * @param explicit where the record itself carries the iv, from index 0; null for those that do not, and for sending.
 */
export function tlsMakeNonce(
  out: Uint8Array,
  prot: TlsProtInfo,
  cctx: CipherContext,
  explicit: Uint8Array | null,
): Uint8Array {
  out.set(cctx.iv)
  if (carriesNonce(prot)) {
    if (explicit !== null) for (let i = 0; i < prot.ivSize; i += 1) out[prot.saltSize + i] = explicit[i]!
    return out
  }
  for (let i = 0; i < TLS_REC_SEQ_SIZE; i += 1) out[4 + i] = out[4 + i]! ^ cctx.recSeq[i]!
  return out
}

/** @returns whether records of this connection carry an iv of their own behind the header. */
export const tlsRecordHasIv = carriesNonce

/**
 * Models `tls_make_aad`.
 *
 * @param out `prot.aadSize` bytes long. @param size of the text, with the type byte of TLS 1.3.
 */
export function tlsMakeAad(
  out: Uint8Array,
  prot: TlsProtInfo,
  size: number,
  recSeq: Uint8Array,
  recordType: number,
): Uint8Array {
  let at = 0
  let covered = size
  const tls13 = prot.version === TLS_1_3_VERSION
  if (tls13) covered += TLS_TAG_SIZE
  else {
    out.set(recSeq)
    at = TLS_REC_SEQ_SIZE
  }
  out[at] = tls13 ? TLS_RECORD_TYPE_DATA : recordType
  // TLS 1.3 says 1.2 on the wire, so that middle boxes leave it alone.
  out[at + 1] = 3
  out[at + 2] = 3
  out[at + 3] = covered >> 8
  out[at + 4] = covered & 0xff
  return out
}

/**
 * Models `tls_fill_prepend`: the header, and the iv where records carry it.
 *
 * @param at where in `out` the record begins. @param plaintextLen with the type byte of TLS 1.3.
 */
export function tlsFillPrepend(
  out: Uint8Array,
  at: number,
  prot: TlsProtInfo,
  cctx: CipherContext,
  plaintextLen: number,
  recordType: number,
): void {
  let length = plaintextLen + prot.tagSize
  if (carriesNonce(prot)) {
    length += prot.ivSize
    for (let i = 0; i < prot.ivSize; i += 1) out[at + TLS_HEADER_SIZE + i] = cctx.iv[prot.saltSize + i]!
  }
  out[at] = prot.version === TLS_1_3_VERSION ? TLS_RECORD_TYPE_DATA : recordType
  out[at + 1] = 3
  out[at + 2] = 3
  out[at + 3] = length >> 8
  out[at + 4] = length & 0xff
}
