/**
 * The Toeplitz hash by which network cards spread flows over queues: every set bit of the input adds a 32-bit
 * window of the key. A table per input byte turns that into one look-up per byte.
 */
import { Prng } from '@netmem/base'

/** Bytes of an RSS key. */
export const RSS_KEY_BYTES = 40
/** Input of the longest kind: two IPv6 addresses and two ports. */
const MAX_INPUT_BYTES = 36

/** The key of Microsoft's RSS specification, by which its published test vectors are made. */
export const RSS_SPEC_KEY = Uint8Array.from([
  0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
  0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
  0x01, 0xfa,
])

/** Models `netdev_rss_key_fill`: a random key, here from the machine's seed. */
export function netdevRssKeyFill(seed: number): Uint8Array {
  const rng = new Prng(seed)
  return Uint8Array.from({ length: RSS_KEY_BYTES }, () => rng.below(256))
}

/** The key as look-up tables. */
export class Toeplitz {
  /** `table[256 * position + byte]`. */
  private readonly table = new Int32Array(MAX_INPUT_BYTES * 256)

  /** @throws RangeError for a key that is not 40 bytes long. */
  constructor(readonly key: Uint8Array) {
    if (key.length !== RSS_KEY_BYTES) throw new RangeError(`an RSS key has ${RSS_KEY_BYTES} bytes, not ${key.length}`)
    for (let at = 0; at < MAX_INPUT_BYTES; at++)
      for (let byte = 0; byte < 256; byte++) {
        let hash = 0
        for (let bit = 0; bit < 8; bit++) if ((byte & (0x80 >> bit)) !== 0) hash ^= this.window(at * 8 + bit)
        this.table[256 * at + byte] = hash
      }
  }

  /** Hashes `bytes` bytes of `u8` from `at` as input bytes `position` on. @returns 32 bits, signed. */
  hash(u8: Uint8Array, at: number, bytes: number, position: number): number {
    const table = this.table
    let h = 0
    for (let i = 0; i < bytes; i++) h ^= table[256 * (position + i) + u8[at + i]!]!
    return h
  }

  /** The 32 key bits from bit `at` on. */
  private window(at: number): number {
    let value = 0
    for (let i = 0; i < 32; i++) {
      const bit = at + i
      value = (value << 1) | ((this.key[bit >> 3]! >> (7 - (bit & 7))) & 1)
    }
    return value
  }
}
