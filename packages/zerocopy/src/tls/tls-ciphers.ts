/**
 * What TLS's ciphers are made of, and the structures by which a program hands their keys to the kernel
 * (include/uapi/linux/tls.h).
 */

export const TLS_1_2_VERSION = 0x0303
export const TLS_1_3_VERSION = 0x0304

export const TLS_CIPHER_AES_GCM_128 = 51
export const TLS_CIPHER_AES_GCM_256 = 52
export const TLS_CIPHER_AES_CCM_128 = 53
export const TLS_CIPHER_CHACHA20_POLY1305 = 54
export const TLS_CIPHER_SM4_GCM = 55
export const TLS_CIPHER_SM4_CCM = 56
export const TLS_CIPHER_ARIA_GCM_128 = 57
export const TLS_CIPHER_ARIA_GCM_256 = 58

/** Bytes of a record's sequence number. */
export const TLS_REC_SEQ_SIZE = 8
/** Bytes of `struct tls_crypto_info`: version and cipher, 16 bits each. */
export const TLS_CRYPTO_INFO_SIZE = 4

/** Models `struct tls_cipher_desc` (`tls_cipher_size_desc` on 6.1). Sizes in bytes. */
export interface TlsCipherDesc {
  readonly type: number
  /** The crypto API's name. */
  readonly name: string
  readonly ivBytes: number
  readonly keyBytes: number
  readonly saltBytes: number
  /** What of the iv a TLS 1.2 record carries. */
  readonly nonceBytes: number
  /** Length of the whole structure that setsockopt takes. */
  readonly cryptoInfoBytes: number
  /** NICs encrypt only these. */
  readonly offloadable: boolean
  /** TLS 1.3 has no suite with it. */
  readonly tls12Only: boolean
}

function describe(type: number, name: string, sizes: readonly [iv: number, key: number, salt: number]): TlsCipherDesc {
  const [ivBytes, keyBytes, saltBytes] = sizes
  return {
    type,
    name,
    ivBytes,
    keyBytes,
    saltBytes,
    nonceBytes: type === TLS_CIPHER_CHACHA20_POLY1305 ? 0 : ivBytes,
    cryptoInfoBytes: TLS_CRYPTO_INFO_SIZE + ivBytes + keyBytes + saltBytes + TLS_REC_SEQ_SIZE,
    offloadable: name === 'gcm(aes)',
    tls12Only: name === 'gcm(aria)',
  }
}

const CIPHERS: readonly TlsCipherDesc[] = [
  describe(TLS_CIPHER_AES_GCM_128, 'gcm(aes)', [8, 16, 4]),
  describe(TLS_CIPHER_AES_GCM_256, 'gcm(aes)', [8, 32, 4]),
  describe(TLS_CIPHER_AES_CCM_128, 'ccm(aes)', [8, 16, 4]),
  describe(TLS_CIPHER_CHACHA20_POLY1305, 'rfc7539(chacha20,poly1305)', [12, 32, 0]),
  describe(TLS_CIPHER_SM4_GCM, 'gcm(sm4)', [8, 16, 4]),
  describe(TLS_CIPHER_SM4_CCM, 'ccm(sm4)', [8, 16, 4]),
  describe(TLS_CIPHER_ARIA_GCM_128, 'gcm(aria)', [8, 16, 4]),
  describe(TLS_CIPHER_ARIA_GCM_256, 'gcm(aria)', [8, 32, 4]),
]

/** Models `get_cipher_desc`. @returns null when there is no cipher of that number. */
export function getCipherDesc(type: number): TlsCipherDesc | null {
  return CIPHERS.find((cipher) => cipher.type === type) ?? null
}

/** Models `struct tls12_crypto_info_*`: one direction's version, cipher and secrets, as a program gave them. */
export interface TlsCryptoInfo {
  readonly version: number
  readonly cipherType: number
  readonly iv: Uint8Array
  readonly key: Uint8Array
  readonly salt: Uint8Array
  readonly recSeq: Uint8Array
}

/**
 * Models `tls12_crypto_info_aes_gcm_128` and its siblings: reads the structure of a cipher from a program's bytes: version,
 * cipher, iv, key, salt, sequence number. Copies them.
 */
export function parseCryptoInfo(bytes: Uint8Array, desc: TlsCipherDesc): TlsCryptoInfo {
  let at = TLS_CRYPTO_INFO_SIZE
  const take = (length: number): Uint8Array => {
    at += length
    return bytes.slice(at - length, at)
  }
  return {
    version: bytes[0]! | (bytes[1]! << 8),
    cipherType: bytes[2]! | (bytes[3]! << 8),
    iv: take(desc.ivBytes),
    key: take(desc.keyBytes),
    salt: take(desc.saltBytes),
    recSeq: take(TLS_REC_SEQ_SIZE),
  }
}

/** The other way round, with the iv and the sequence number as they are now. @returns bytes written. */
export function writeCryptoInfo(
  info: TlsCryptoInfo,
  desc: TlsCipherDesc,
  iv: Uint8Array,
  recSeq: Uint8Array,
  out: Uint8Array,
): number {
  let at = writeCryptoInfoHead(info, out)
  for (const part of [iv, info.key, info.salt, recSeq]) {
    out.set(part, at)
    at += part.length
  }
  return desc.cryptoInfoBytes
}

/** Writes `struct tls_crypto_info`. @returns its length. */
export function writeCryptoInfoHead(info: TlsCryptoInfo, out: Uint8Array): number {
  out[0] = info.version & 0xff
  out[1] = info.version >> 8
  out[2] = info.cipherType & 0xff
  out[3] = info.cipherType >> 8
  return TLS_CRYPTO_INFO_SIZE
}
