/**
 * From a line of a key log to the structures that a program hands to the kernel: what every user of kTLS does after
 * its handshake (RFC 5246 section 6.3, RFC 8446 section 7.3). Test code.
 */
import { createHmac } from 'node:crypto'
import { TLS_1_2_VERSION, TLS_1_3_VERSION, type TlsCipherDesc } from '@netmem/zerocopy'

/** One direction: what `setsockopt(SOL_TLS, ...)` gets. */
export interface DirectionKeys {
  readonly key: Buffer
  /** Salt, then iv: the whole nonce but for the sequence number. */
  readonly nonce: Buffer
}

function hmac(hash: string, key: Uint8Array, data: Uint8Array): Buffer {
  return createHmac(hash, key).update(data).digest()
}

/** Models the PRF of TLS 1.2. */
function prf(hash: string, secret: Buffer, label: string, seed: Buffer, bytes: number): Buffer {
  const data = Buffer.concat([Buffer.from(label), seed])
  let out = Buffer.alloc(0)
  for (let a = hmac(hash, secret, data); out.length < bytes; a = hmac(hash, secret, a))
    out = Buffer.concat([out, hmac(hash, secret, Buffer.concat([a, data]))])
  return out.subarray(0, bytes)
}

/** HKDF-Expand-Label of TLS 1.3 with an empty context; one block is enough for every key. */
export function expandLabel(hash: string, secret: Buffer, label: string, bytes: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`)
  const info = Buffer.concat([Buffer.from([bytes >> 8, bytes & 0xff, name.length]), name, Buffer.from([0])])
  return hmac(hash, secret, Buffer.concat([info, Buffer.from([1])])).subarray(0, bytes)
}

/** @returns client's and server's keys of TLS 1.2. */
export function tls12Keys(
  desc: TlsCipherDesc,
  hash: string,
  master: Buffer,
  clientRandom: Buffer,
  serverRandom: Buffer,
): { client: DirectionKeys; server: DirectionKeys } {
  // GCM and CCM take the salt from here and send the iv; ChaCha20 takes all of it.
  const fixed = desc.saltBytes !== 0 ? desc.saltBytes : desc.ivBytes
  const seed = Buffer.concat([serverRandom, clientRandom])
  const block = prf(hash, master, 'key expansion', seed, 2 * (desc.keyBytes + fixed))
  let at = 0
  const take = (bytes: number): Buffer => {
    at += bytes
    return block.subarray(at - bytes, at)
  }
  const clientKey = take(desc.keyBytes)
  const serverKey = take(desc.keyBytes)
  const nonce = (fixedPart: Buffer): Buffer => Buffer.concat([fixedPart, Buffer.alloc(12 - fixed, 0x5a)])
  return {
    client: { key: clientKey, nonce: nonce(take(fixed)) },
    server: { key: serverKey, nonce: nonce(take(fixed)) },
  }
}

/** @returns one direction's keys of TLS 1.3. */
export function tls13Keys(desc: TlsCipherDesc, hash: string, secret: Buffer): DirectionKeys {
  return { key: expandLabel(hash, secret, 'key', desc.keyBytes), nonce: expandLabel(hash, secret, 'iv', 12) }
}

/** @returns the secret after a KeyUpdate. */
export const nextSecret = (hash: string, secret: Buffer): Buffer =>
  expandLabel(hash, secret, 'traffic upd', secret.length)

/** @returns `struct tls12_crypto_info_*`. */
export function cryptoInfo(desc: TlsCipherDesc, tls13: boolean, keys: DirectionKeys, sequence: number): Buffer {
  const version = tls13 ? TLS_1_3_VERSION : TLS_1_2_VERSION
  const head = Buffer.from([version & 0xff, version >> 8, desc.type & 0xff, desc.type >> 8])
  const recSeq = Buffer.alloc(8)
  recSeq.writeUInt32BE(sequence, 4)
  const salt = keys.nonce.subarray(0, desc.saltBytes)
  return Buffer.concat([head, keys.nonce.subarray(desc.saltBytes), keys.key, salt, recSeq])
}
