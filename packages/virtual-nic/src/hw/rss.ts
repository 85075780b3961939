/**
 * Receive side scaling: which queue of the card gets a frame. The hash covers addresses, and ports where the
 * protocol has them and the packet is no fragment; its low bits index a table of queues.
 */
import { netdevRssKeyFill, Toeplitz } from './toeplitz.js'

/** Models `ethtool_rxfh_indir_default` spread over this many entries. */
export const RSS_INDIR_SIZE = 128

export class Rss {
  readonly indirection = new Uint8Array(RSS_INDIR_SIZE)
  toeplitz: Toeplitz
  /** The hash of the latest frame, and whether it covered ports. */
  lastHash = 0
  lastIsL4 = false

  constructor(
    queues: number,
    seed: number,
    /** UDP ports take part, which breaks the order of fragmented datagrams; off by default, as on most cards. */
    readonly udpPorts = false,
  ) {
    this.toeplitz = new Toeplitz(netdevRssKeyFill(seed))
    for (let i = 0; i < RSS_INDIR_SIZE; i++) this.indirection[i] = i % queues
  }
}

/**
 * @param at where the frame starts. @returns the queue. Frames that are neither IPv4 nor IPv6 hash to 0.
 */
export function rssQueue(rss: Rss, u8: Uint8Array, at: number, len: number): number {
  rss.lastHash = 0
  rss.lastIsL4 = false
  const type = len < 14 ? 0 : (u8[at + 12]! << 8) | u8[at + 13]!
  if (type === 0x0800 && len >= 34) hashIpv4(rss, u8, at + 14, len - 14)
  else if (type === 0x86dd && len >= 54) hashIpv6(rss, u8, at + 14, len - 14)
  return rss.indirection[rss.lastHash & (RSS_INDIR_SIZE - 1)]!
}

function hashIpv4(rss: Rss, u8: Uint8Array, ip: number, len: number): void {
  const t = rss.toeplitz
  let hash = t.hash(u8, ip + 12, 8, 0)
  const proto = u8[ip + 9]!
  const ihl = (u8[ip]! & 15) * 4
  const fragment = ((u8[ip + 6]! & 0x3f) | u8[ip + 7]!) !== 0
  if (!fragment && (proto === 6 || (proto === 17 && rss.udpPorts)) && len >= ihl + 4) {
    hash ^= t.hash(u8, ip + ihl, 4, 8)
    rss.lastIsL4 = true
  }
  rss.lastHash = hash
}

function hashIpv6(rss: Rss, u8: Uint8Array, ip: number, len: number): void {
  const t = rss.toeplitz
  let hash = t.hash(u8, ip + 8, 32, 0)
  const next = u8[ip + 6]!
  if ((next === 6 || (next === 17 && rss.udpPorts)) && len >= 44) {
    hash ^= t.hash(u8, ip + 40, 4, 32)
    rss.lastIsL4 = true
  }
  rss.lastHash = hash
}
