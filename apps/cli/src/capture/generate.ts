/**
 * Writes captures: UDP traffic of any size for tests and benchmarks, streamed, so that a file of gigabytes
 * needs the memory of one block. Same options, same bytes.
 */
import { closeSync, openSync, writeSync } from 'node:fs'

export interface UdpCaptureOptions {
  /** How many frames. */
  readonly packets: number
  /** UDP payload bytes of each frame, taken in turn; default one size of 64. */
  readonly payloadBytes?: readonly number[]
  /** Different source ports, taken in turn; default 1. */
  readonly flows?: number
  /** Time between frames; default 1000, a million frames a second. */
  readonly gapNs?: number
  readonly destination?: { readonly address: readonly [number, number, number, number]; readonly port: number }
}

const RECORD_HEADER = 16
const HEADERS = 42
const BLOCK_BYTES = 4 << 20
const SOURCE = [198, 51, 100, 7] as const

/**
 * Writes a nanosecond pcap (little-endian, Ethernet) to `path`.
 *
 * @returns how many bytes the file has.
 * @throws RangeError when a size does not fit a UDP datagram, or there are none.
 */
export function generateUdpCapture(path: string, options: UdpCaptureOptions): number {
  const { packets, payloadBytes = [64], flows = 1, gapNs = 1000 } = options
  const destination = options.destination ?? { address: [192, 0, 2, 1] as const, port: 7000 }
  if (payloadBytes.length === 0) throw new RangeError('payloadBytes is empty, expected at least one size')
  for (const bytes of payloadBytes)
    if (!Number.isInteger(bytes) || bytes < 0 || bytes > 65507)
      throw new RangeError(`payloadBytes ${bytes}, expected a whole number from 0 to 65507`)
  if (!Number.isInteger(flows) || flows < 1 || flows > 32768)
    throw new RangeError(`flows ${flows}, expected a whole number from 1 to 32768`)

  const block = new Uint8Array(BLOCK_BYTES)
  const view = new DataView(block.buffer)
  const fd = openSync(path, 'w')
  let written = 0
  let at = 0
  const flush = (): void => {
    let from = 0
    while (from < at) from += writeSync(fd, block, from, at - from)
    written += at
    at = 0
  }
  try {
    const header = [0xa1b23c4d, 0x0004_0002, 0, 0, 262144, 1]
    for (const word of header) {
      view.setUint32(at, word, true)
      at += 4
    }
    const frames = payloadBytes.map((bytes) => udpFrame(bytes, destination.address, destination.port))
    let sec = 0
    let ns = 0
    for (let n = 0; n < packets; n++) {
      const frame = frames[n % frames.length]
      if (at + RECORD_HEADER + frame.length > BLOCK_BYTES) flush()
      view.setUint32(at, 1_700_000_000 + sec, true)
      view.setUint32(at + 4, ns, true)
      view.setUint32(at + 8, frame.length, true)
      view.setUint32(at + 12, frame.length, true)
      block.set(frame, at + RECORD_HEADER)
      // The checksum of the frame is for source port 0; adding the port to a word takes it off the checksum.
      const port = 20000 + (n % flows)
      const udp = at + RECORD_HEADER + 34
      view.setUint16(udp, port, false)
      view.setUint16(udp + 6, subtract16(view.getUint16(udp + 6, false), port), false)
      at += RECORD_HEADER + frame.length
      ns += gapNs
      while (ns >= 1e9) {
        ns -= 1e9
        sec += 1
      }
    }
    flush()
  } finally {
    closeSync(fd)
  }
  return written
}

/** An Ethernet frame with right checksums, from port 0; payload byte j is j mod 251. */
function udpFrame(payloadBytes: number, destination: readonly number[], port: number): Uint8Array {
  const frame = new Uint8Array(HEADERS + payloadBytes)
  const view = new DataView(frame.buffer)
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0])
  view.setUint16(16, 28 + payloadBytes)
  view.setUint16(18, 1)
  view.setUint16(20, 0x4000)
  frame[22] = 64
  frame[23] = 17
  frame.set(SOURCE, 26)
  frame.set(destination, 30)
  view.setUint16(24, ~sum16(frame, 14, 34) & 0xffff)
  view.setUint16(36, port)
  view.setUint16(38, 8 + payloadBytes)
  for (let j = 0; j < payloadBytes; j++) frame[HEADERS + j] = j % 251
  const pseudo = sum16(frame, 26, 34) + 17 + 8 + payloadBytes
  const sum = fold(sum16(frame, 34, frame.length) + pseudo)
  view.setUint16(40, sum === 0xffff ? 0xffff : ~sum & 0xffff)
  return frame
}

function sum16(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i += 2) sum += (bytes[i] << 8) | (i + 1 < to ? bytes[i + 1] : 0)
  return fold(sum)
}

const fold = (sum: number): number => {
  let folded = sum
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 65536)
  return folded
}

/** One's complement subtraction; 0 would mean "no checksum" in UDP, so it is written as its other form. */
function subtract16(checksum: number, word: number): number {
  const left = checksum - word
  const result = left < 0 ? left + 0xffff : left
  return result === 0 ? 0xffff : result
}
