/**
 * The cryptography that kTLS uses, as the kernel's crypto API offers it: a table of algorithms by name, some of
 * which this machine has. The package has none of its own; whoever boots the machine hands one in, synchronous,
 * as the kernel's own AES-NI and SIMD ones are when they are called from a task.
 */

/** Models `struct crypto_aead` with its key: authenticated encryption with 12-byte nonces and 16-byte tags. */
export interface TlsAead {
  /** Encrypts `data[0, bytes)` in place and puts the tag behind it, at `data[bytes, bytes + 16)`. */
  seal(nonce: Uint8Array, aad: Uint8Array, data: Uint8Array, bytes: number): void
  /**
   * Decrypts `data[0, bytes)` in place; the tag is at `data[bytes, bytes + 16)`.
   * @returns false when the tag is wrong; what `data` holds then is not to be used.
   */
  open(nonce: Uint8Array, aad: Uint8Array, data: Uint8Array, bytes: number): boolean
}

/** Models the crypto API's table: what `crypto_alloc_aead` looks names up in. */
export interface TlsCryptoProvider {
  /**
   * Models `crypto_alloc_aead` and `crypto_aead_setkey`.
   * @param name the kernel's, such as `gcm(aes)`. @returns null when this machine has no such algorithm (-ENOENT).
   */
  allocAead(name: string, key: Uint8Array): TlsAead | null
}

/** Bytes of an authentication tag; all of TLS's ciphers have the same. */
export const TLS_TAG_SIZE = 16

/** A machine without the algorithms: setting a key fails there with -ENOENT. */
export const NO_TLS_CRYPTO: TlsCryptoProvider = { allocAead: () => null }
