/**
 * TCP segments that no capture holds: the handshake of a connection that began before the capture did, an
 * acknowledgement that the real peer had no need of, data that waited for a window. Headers only; payload
 * is zeros, as the wire length is larger than what is here.
 *
 *     Ethernet 14 | IPv4 20 or IPv6 40 | TCP 20 | options
 */
import { ETH_HLEN, ETH_P_IP, ETH_P_IPV6, IPPROTO_TCP } from '../capture/frame.js'

export const TCP_FIN = 0x01
export const TCP_SYN = 0x02
export const TCP_RST = 0x04
export const TCP_PSH = 0x08
export const TCP_ACK = 0x10

/** Who speaks to whom; words are signed 32-bit, IPv4 in the last. */
export interface SegmentPath {
  readonly version: number
  readonly remote0: number
  readonly remote1: number
  readonly remote2: number
  readonly remote3: number
  readonly local0: number
  readonly local1: number
  readonly local2: number
  readonly local3: number
  readonly remotePort: number
  readonly localPort: number
}

export class SegmentBuilder {
  /** The header bytes; `wireBytes` of frame are meant. */
  readonly bytes = new Uint8Array(256)
  private readonly view = new DataView(this.bytes.buffer)
  capBytes = 0
  wireBytes = 0

  constructor(hostMac: Uint8Array, peerMac: Uint8Array) {
    this.bytes.set(hostMac, 0)
    this.bytes.set(peerMac, 6)
  }

  /**
   * Builds a segment from the peer to the host.
   *
   * @param window as the header holds it (scaled).
   * @param options bytes of TCP options, a multiple of 4; at most 40.
   */
  build(
    path: SegmentPath,
    seq: number,
    ack: number,
    flags: number,
    window: number,
    options: readonly number[],
    payloadBytes: number,
  ): void {
    const { bytes, view } = this
    const tcpBytes = 20 + options.length + payloadBytes
    let tcp = ETH_HLEN + 20
    if (path.version === 6) {
      tcp = ETH_HLEN + 40
      view.setUint16(12, ETH_P_IPV6)
      view.setUint32(14, 0x60000000)
      view.setUint16(18, tcpBytes)
      view.setUint16(20, (IPPROTO_TCP << 8) | 64)
      const words = [path.remote0, path.remote1, path.remote2, path.remote3]
      words.push(path.local0, path.local1, path.local2, path.local3)
      words.forEach((word, i) => {
        view.setInt32(22 + 4 * i, word)
      })
    } else {
      view.setUint16(12, ETH_P_IP)
      view.setUint16(14, 0x4500)
      view.setUint16(16, 20 + tcpBytes)
      view.setUint32(18, 0x00004000)
      view.setUint16(22, (64 << 8) | IPPROTO_TCP)
      view.setUint16(24, 0)
      view.setInt32(26, path.remote3)
      view.setInt32(30, path.local3)
      let sum = 0
      for (let at = 14; at < 34; at += 2) sum += view.getUint16(at)
      sum = (sum & 0xffff) + (sum >>> 16)
      view.setUint16(24, ~(sum + (sum >>> 16)) & 0xffff)
    }
    view.setUint16(tcp, path.remotePort)
    view.setUint16(tcp + 2, path.localPort)
    view.setInt32(tcp + 4, seq)
    view.setInt32(tcp + 8, ack)
    view.setUint16(tcp + 12, (((20 + options.length) >> 2) << 12) | flags)
    view.setUint16(tcp + 14, window)
    view.setUint32(tcp + 16, 0)
    bytes.set(options, tcp + 20)
    this.capBytes = tcp + 20 + options.length
    this.wireBytes = this.capBytes + payloadBytes
  }
}

/** The timestamp option, aligned as Linux writes it. */
export const timestampOption = (value: number, echo: number): number[] => [1, 1, 8, 10, ...be32(value), ...be32(echo)]

/** The options of a SYN: largest segment, SACK, window scale and (unless `value` is null) a timestamp. */
export function synOptions(mss: number, scale: number, value: number | null, echo: number): number[] {
  const stamp = value === null ? [1, 1] : [8, 10, ...be32(value), ...be32(echo)]
  return [2, 4, mss >> 8, mss & 255, 4, 2, ...stamp, 1, 3, 3, scale]
}

const be32 = (word: number): number[] => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]

/** What a segment's options say; reused for every segment. */
export class SegmentOptions {
  hasTimestamp = false
  timestamp = 0
  echo = 0
  /** Where the echo is in the bytes, to be rewritten; -1 none. */
  echoAt = -1
  /** SACK blocks: where they start and how many there are. */
  sackAt = -1
  sackBlocks = 0
  scale = -1
  mss = 0

  /** Reads the options in `[at, end)`; stops at the first that makes no sense. */
  parse(bytes: Uint8Array, at: number, end: number): void {
    this.hasTimestamp = false
    this.echoAt = -1
    this.sackAt = -1
    this.sackBlocks = 0
    this.scale = -1
    this.mss = 0
    // By far the most frequent form, read without a loop.
    if (end - at === 12 && bytes[at] === 1 && bytes[at + 1] === 1 && bytes[at + 2] === 8) {
      this.stamp(bytes, at + 4)
      return
    }
    let p = at
    while (p < end) {
      const kind = bytes[p]
      if (kind === 0) return
      if (kind === 1) {
        p += 1
        continue
      }
      const length = p + 1 < end ? bytes[p + 1] : 0
      if (length < 2 || p + length > end) return
      if (kind === 8 && length === 10) this.stamp(bytes, p + 2)
      else if (kind === 5) {
        this.sackAt = p + 2
        this.sackBlocks = (length - 2) >> 3
      } else if (kind === 3 && length === 3) this.scale = Math.min(bytes[p + 2], 14)
      else if (kind === 2 && length === 4) this.mss = (bytes[p + 2] << 8) | bytes[p + 3]
      p += length
    }
  }

  private stamp(bytes: Uint8Array, at: number): void {
    this.hasTimestamp = true
    this.timestamp = readBe32(bytes, at)
    this.echo = readBe32(bytes, at + 4)
    this.echoAt = at + 4
  }
}

/** @returns a signed word. */
export const readBe32 = (bytes: Uint8Array, at: number): number =>
  (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]

export function writeBe32(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >>> 24
  bytes[at + 1] = (word >>> 16) & 255
  bytes[at + 2] = (word >>> 8) & 255
  bytes[at + 3] = word & 255
}
