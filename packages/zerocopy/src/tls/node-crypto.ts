/**
 * A provider over Node's `crypto` module, which its user passes in: this file imports nothing, so that the
 * package runs where there is no such module.
 *
 *     import crypto from 'node:crypto'
 *     bootKernel({ profile, crypto: tlsCryptoFromNode(crypto) })
 */
import { TLS_TAG_SIZE, type TlsAead, type TlsCryptoProvider } from './tls-crypto.js'

/** The part of a Node cipher object that is used. */
export interface NodeCipher {
  setAAD(aad: Uint8Array, options?: { plaintextLength: number }): unknown
  update(data: Uint8Array): Uint8Array
  final(): Uint8Array
}

/** The part of `node:crypto` that is used. */
export interface NodeCrypto {
  getCiphers(): string[]
  createCipheriv(
    algorithm: string,
    key: Uint8Array,
    iv: Uint8Array,
    options: { authTagLength: number },
  ): NodeCipher & { getAuthTag(): Uint8Array }
  createDecipheriv(
    algorithm: string,
    key: Uint8Array,
    iv: Uint8Array,
    options: { authTagLength: number },
  ): NodeCipher & { setAuthTag(tag: Uint8Array): unknown }
}

const OPTIONS = { authTagLength: TLS_TAG_SIZE }

/** @returns OpenSSL's name of an algorithm that the kernels of the profiles have, or null. */
function opensslName(name: string, keyBytes: number): string | null {
  if (name === 'gcm(aes)') return `aes-${keyBytes * 8}-gcm`
  if (name === 'ccm(aes)') return `aes-${keyBytes * 8}-ccm`
  return name === 'rfc7539(chacha20,poly1305)' ? 'chacha20-poly1305' : null
}

class NodeAead implements TlsAead {
  constructor(
    private readonly crypto: NodeCrypto,
    private readonly algorithm: string,
    private readonly key: Uint8Array,
    /** CCM puts the length into its first block, and wants the tag before any ciphertext. */
    private readonly plaintextLength: { plaintextLength: number } | undefined,
  ) {}

  seal(nonce: Uint8Array, aad: Uint8Array, data: Uint8Array, bytes: number): void {
    const cipher = this.crypto.createCipheriv(this.algorithm, this.key, nonce, OPTIONS)
    this.setAad(cipher, aad, bytes)
    data.set(cipher.update(data.subarray(0, bytes)), 0)
    cipher.final()
    data.set(cipher.getAuthTag(), bytes)
  }

  open(nonce: Uint8Array, aad: Uint8Array, data: Uint8Array, bytes: number): boolean {
    const cipher = this.crypto.createDecipheriv(this.algorithm, this.key, nonce, OPTIONS)
    cipher.setAuthTag(data.subarray(bytes, bytes + TLS_TAG_SIZE))
    this.setAad(cipher, aad, bytes)
    try {
      // CCM has checked the tag when `update` returns, the others when `final` does; both throw.
      const text = cipher.update(data.subarray(0, bytes))
      cipher.final()
      data.set(text, 0)
      return true
    } catch {
      return false
    }
  }

  private setAad(cipher: NodeCipher, aad: Uint8Array, bytes: number): void {
    if (this.plaintextLength === undefined) {
      cipher.setAAD(aad)
      return
    }
    this.plaintextLength.plaintextLength = bytes
    cipher.setAAD(aad, this.plaintextLength)
  }
}

/** @returns the AES-GCM, AES-CCM and ChaCha20-Poly1305 that a Node has; ARIA and SM4 are not in the profiles' kernels. */
export function tlsCryptoFromNode(crypto: NodeCrypto): TlsCryptoProvider {
  const known = new Set(crypto.getCiphers())
  return {
    allocAead(name, key) {
      const algorithm = opensslName(name, key.length)
      if (algorithm === null || !known.has(algorithm)) return null
      return new NodeAead(crypto, algorithm, key, name === 'ccm(aes)' ? { plaintextLength: 0 } : undefined)
    },
  }
}
