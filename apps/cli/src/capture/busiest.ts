/**
 * Which address receives most: an open hash over the destination addresses of the first part of a capture,
 * counting bytes. Bounded: once it is full, addresses that were not there before no longer count.
 */
import { addressFromWords, type HostAddress } from './address.js'
import type { Frame } from './frame.js'

const SLOTS = 1 << 14
const WORDS = 5

export class AddressCount {
  /** Per slot: version (0 free), four address words. */
  private readonly keys = new Int32Array(SLOTS * WORDS)
  private readonly bytes = new Float64Array(SLOTS)
  /** Which came first: settles equal counts. */
  private readonly order = new Int32Array(SLOTS)
  private used = 0

  /** Counts one frame of `wireBytes` to the destination of `frame`. */
  add(frame: Frame, wireBytes: number): void {
    const { ipVersion: v, dst0: a, dst1: b, dst2: c, dst3: d } = frame
    let slot = (Math.imul(a ^ Math.imul(b, 31) ^ Math.imul(c, 131) ^ d, 0x9e3779b1) >>> 0) & (SLOTS - 1)
    const { keys } = this
    while (true) {
      const k = slot * WORDS
      if (keys[k] === 0) {
        if (this.used > SLOTS / 2) return
        this.order[slot] = this.used
        this.used += 1
        keys[k] = v
        keys[k + 1] = a
        keys[k + 2] = b
        keys[k + 3] = c
        keys[k + 4] = d
        break
      }
      if (keys[k] === v && keys[k + 4] === d && keys[k + 1] === a && keys[k + 2] === b && keys[k + 3] === c) break
      slot = (slot + 1) & (SLOTS - 1)
    }
    this.bytes[slot] += wireBytes
  }

  /** @returns the address of one host with most bytes, the first seen among equals; null when there is none. */
  busiest(): HostAddress | null {
    let best: HostAddress | null = null
    let most = 0
    let order = 0
    for (let slot = 0; slot < SLOTS; slot++) {
      const k = slot * WORDS
      const bytes = this.bytes[slot]
      if (bytes < most || bytes === 0 || (bytes === most && this.order[slot] > order)) continue
      const address = addressFromWords(
        this.keys[k],
        this.keys[k + 1],
        this.keys[k + 2],
        this.keys[k + 3],
        this.keys[k + 4],
      )
      if (!isOneHost(address)) continue
      best = address
      most = bytes
      order = this.order[slot]
    }
    return best
  }
}

/** Not multicast, not broadcast, not unspecified. */
function isOneHost(address: HostAddress): boolean {
  if (address.version === 6)
    return address.w0 >>> 24 !== 0xff && (address.w0 | address.w1 | address.w2 | address.w3) !== 0
  return address.w3 >>> 28 !== 0xe && address.w3 !== -1 && address.w3 !== 0
}
