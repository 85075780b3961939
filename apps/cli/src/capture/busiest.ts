/**
 * Which address receives most: an open hash over the destination addresses of the first part of a capture,
 * counting bytes. Bounded: once it is full, addresses that were not there before no longer count.
 */
import { addressFromWords, type HostAddress } from './address.js'
import { ByteSource } from './byte-source.js'
import { Frame } from './frame.js'
import { CaptureReader } from './reader.js'

const SLOTS = 1 << 14
const WORDS = 5
/** How much of the file is looked at: enough to see who receives, little enough not to be noticed. */
export const SCAN_BYTES = 64 << 20

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

/** The address that receives most bytes in the first part of the capture, or null when it holds no IP. */
export function busiestReceiver(path: string): HostAddress | null {
  const source = new ByteSource(path)
  try {
    const reader = new CaptureReader(source)
    const frame = new Frame()
    const count = new AddressCount()
    while (source.offset < SCAN_BYTES && reader.next()) {
      frame.parse(source.bytes, reader.at, reader.capBytes, reader.wireBytes, reader.linkType)
      if (frame.ipVersion !== 0) count.add(frame, reader.wireBytes)
    }
    return count.busiest()
  } finally {
    source.close()
  }
}
