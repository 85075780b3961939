/**
 * TCP options: reading those of a segment, and the few layouts that we write. Options are real bytes in the
 * header; sizes are multiples of four, padded in front with NOPs so that every option is aligned.
 */
import type { Memory } from '@netmem/memory'
import { be16, be32, setBe16, setBe32, TCP_HEADER_BYTES, TCPHDR_SYN, thBytes, thFlags } from './tcp-skb.js'

const TCPOPT_NOP = 1
const TCPOPT_EOL = 0
const TCPOPT_MSS = 2
const TCPOPT_WINDOW = 3
const TCPOPT_SACK_PERM = 4
const TCPOPT_SACK = 5
const TCPOPT_TIMESTAMP = 8

export const TCPOLEN_MSS = 4
export const TCPOLEN_TSTAMP_ALIGNED = 12
export const TCPOLEN_WSCALE_ALIGNED = 4
export const TCPOLEN_SACKPERM_ALIGNED = 4
export const TCPOLEN_SACK_BASE_ALIGNED = 4
export const TCPOLEN_SACK_PERBLOCK = 8
/** Models `TCP_MAX_WSCALE`. */
export const TCP_MAX_WSCALE = 14

/** Models `TCP_DSACK_SEEN` in `sackOk`. */
export const TCP_DSACK_SEEN = 4

/** Models `struct tcp_options_received`. */
export class TcpOptionsReceived {
  tsRecent = 0
  /** Seconds when `tsRecent` was taken; 0 never. */
  tsRecentStamp = 0
  rcvTsval = 0
  rcvTsecr = 0
  sawTstamp = false
  tstampOk = 0
  dsack = 0
  wscaleOk = 0
  /** 1 agreed, plus `TCP_DSACK_SEEN`. */
  sackOk = 0
  sndWscale = 0
  rcvWscale = 0
  numSacks = 0
  userMss = 0
  mssClamp = 0
  /** Where a SACK option was found, in bytes from the header's start; 0 none. */
  sackAt = 0

  /** Models `tcp_clear_options`. */
  clear(): void {
    this.tstampOk = 0
    this.sackOk = 0
    this.wscaleOk = 0
    this.sndWscale = 0
  }
}

/**
 * Models `tcp_parse_options` (net/ipv4/tcp_input.c).
 *
 * @param th byte offset of the header in memory.
 * @param estab true once the connection stands: options of the handshake are then ignored.
 * @param useTs, useSack, useWscale what the namespace's sysctls allow.
 */
export function tcpParseOptions(
  mem: Memory,
  th: number,
  opt: TcpOptionsReceived,
  estab: boolean,
  useTs: boolean,
  useWscale: boolean,
  useSack: boolean,
): void {
  const u8 = mem.u8
  const syn = (thFlags(u8, th) & TCPHDR_SYN) !== 0
  const end = th + thBytes(u8, th)
  opt.sawTstamp = false
  opt.sackAt = 0
  let at = th + TCP_HEADER_BYTES
  while (at < end) {
    const code = u8[at]!
    if (code === TCPOPT_EOL) return
    if (code === TCPOPT_NOP) {
      at++
      continue
    }
    if (at + 1 >= end) return
    const size = u8[at + 1]!
    if (size < 2 || at + size > end) return
    switch (code) {
      case TCPOPT_MSS:
        if (size === TCPOLEN_MSS && syn && !estab) {
          let mss = be16(u8, at + 2)
          if (mss !== 0) {
            if (opt.userMss !== 0 && opt.userMss < mss) mss = opt.userMss
            opt.mssClamp = mss
          }
        }
        break
      case TCPOPT_WINDOW:
        if (size === 3 && syn && !estab && useWscale) {
          opt.wscaleOk = 1
          opt.sndWscale = Math.min(u8[at + 2]!, TCP_MAX_WSCALE)
        }
        break
      case TCPOPT_TIMESTAMP:
        if (size === 10 && ((estab && opt.tstampOk !== 0) || (!estab && useTs))) {
          opt.sawTstamp = true
          opt.rcvTsval = be32(u8, at + 2)
          opt.rcvTsecr = be32(u8, at + 6)
        }
        break
      case TCPOPT_SACK_PERM:
        if (size === 2 && syn && !estab && useSack) {
          opt.sackOk = 1
          opt.numSacks = 0
          opt.dsack = 0
        }
        break
      case TCPOPT_SACK:
        if (size >= 10 && (size - 2) % TCPOLEN_SACK_PERBLOCK === 0 && opt.sackOk !== 0) opt.sackAt = at - th
        break
      default:
        break
    }
    at += size
  }
}

/** Models `tcp_parse_aligned_timestamp`: the layout that every established peer of our kind sends. */
export function tcpParseAlignedTimestamp(u8: Uint8Array, th: number, opt: TcpOptionsReceived): boolean {
  const at = th + TCP_HEADER_BYTES
  if (u8[at] !== TCPOPT_NOP || u8[at + 1] !== TCPOPT_NOP || u8[at + 2] !== TCPOPT_TIMESTAMP || u8[at + 3] !== 10)
    return false
  opt.sawTstamp = true
  opt.rcvTsval = be32(u8, at + 4)
  opt.rcvTsecr = be32(u8, at + 8)
  return true
}

// Writing. Each returns where the next option goes.

export function tcpWriteTimestamp(u8: Uint8Array, at: number, tsval: number, tsecr: number): number {
  setBe32(u8, at, (TCPOPT_NOP << 24) | (TCPOPT_NOP << 16) | (TCPOPT_TIMESTAMP << 8) | 10)
  setBe32(u8, at + 4, tsval)
  setBe32(u8, at + 8, tsecr)
  return at + TCPOLEN_TSTAMP_ALIGNED
}

/** The options of a SYN, in the kernel's order: MSS, (SACK permitted in front of) timestamp, window scale. */
export function tcpWriteSynOptions(
  u8: Uint8Array,
  th: number,
  mss: number,
  sackPerm: boolean,
  timestamps: boolean,
  tsval: number,
  tsecr: number,
  wscale: number,
): number {
  let at = th + TCP_HEADER_BYTES
  setBe32(u8, at, (TCPOPT_MSS << 24) | (TCPOLEN_MSS << 16) | (mss & 0xffff))
  at += TCPOLEN_MSS
  if (timestamps) {
    // The two bytes that would be padding carry the SACK permission.
    if (sackPerm) setBe32(u8, at, (TCPOPT_SACK_PERM << 24) | (2 << 16) | (TCPOPT_TIMESTAMP << 8) | 10)
    else setBe32(u8, at, (TCPOPT_NOP << 24) | (TCPOPT_NOP << 16) | (TCPOPT_TIMESTAMP << 8) | 10)
    setBe32(u8, at + 4, tsval)
    setBe32(u8, at + 8, tsecr)
    at += TCPOLEN_TSTAMP_ALIGNED
  } else if (sackPerm) {
    setBe32(u8, at, (TCPOPT_NOP << 24) | (TCPOPT_NOP << 16) | (TCPOPT_SACK_PERM << 8) | 2)
    at += TCPOLEN_SACKPERM_ALIGNED
  }
  if (wscale >= 0) {
    setBe32(u8, at, (TCPOPT_NOP << 24) | (TCPOPT_WINDOW << 16) | (3 << 8) | wscale)
    at += TCPOLEN_WSCALE_ALIGNED
  }
  return at
}

/** @returns bytes of options that `tcpWriteSynOptions` writes. */
export const tcpSynOptionsBytes = (sackPerm: boolean, timestamps: boolean, wscale: number): number =>
  TCPOLEN_MSS +
  (timestamps ? TCPOLEN_TSTAMP_ALIGNED : sackPerm ? TCPOLEN_SACKPERM_ALIGNED : 0) +
  (wscale >= 0 ? TCPOLEN_WSCALE_ALIGNED : 0)

/** Writes the head of a SACK option for so many blocks. */
export function tcpWriteSackHead(u8: Uint8Array, at: number, blocks: number): number {
  setBe16(u8, at, (TCPOPT_NOP << 8) | TCPOPT_NOP)
  u8[at + 2] = TCPOPT_SACK
  u8[at + 3] = 2 + blocks * TCPOLEN_SACK_PERBLOCK
  return at + TCPOLEN_SACK_BASE_ALIGNED
}
