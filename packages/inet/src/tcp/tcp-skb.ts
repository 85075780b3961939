/**
 * What TCP keeps in a packet while it owns it (`TCP_SKB_CB`), packed into the skb's control words, and
 * the TCP header as bytes in the packet.
 *
 *     cb0 seq     cb1 endSeq     cb2 header flags | sacked state | marks
 *     sending:    cb3 segments in this packet | size of one      cb4 when it was last sent, in µs
 *                 cb5 delivered then   cb6 first send time of the flight   cb7 time of the latest delivery
 *     receiving:  cb3 ackSeq
 */
import type { SkBuff } from '@netmem/skbuff'

// Header flags, in the low bits of cb2 (byte 13 of the header).
export const TCPHDR_FIN = 0x01
export const TCPHDR_SYN = 0x02
export const TCPHDR_RST = 0x04
export const TCPHDR_PSH = 0x08
export const TCPHDR_ACK = 0x10
export const TCPHDR_URG = 0x20
export const TCPHDR_ECE = 0x40
export const TCPHDR_CWR = 0x80
export const TCPHDR_SYN_ECN = TCPHDR_SYN | TCPHDR_ECE | TCPHDR_CWR
const FLAGS_MASK = 0xfff

// Models `TCP_SKB_CB(skb)->sacked`, shifted into cb2.
export const TCPCB_SACKED_ACKED = 0x010000
export const TCPCB_SACKED_RETRANS = 0x020000
export const TCPCB_LOST = 0x040000
export const TCPCB_EVER_RETRANS = 0x800000
export const TCPCB_RETRANS = TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS
export const TCPCB_TAGBITS = TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS | TCPCB_LOST
/** Models `TCP_SKB_CB(skb)->eor`: nothing may be appended behind this packet's last byte. */
export const TCPCB_EOR = 0x1000000
/** Models `tx.is_app_limited`. */
export const TCPCB_APP_LIMITED = 0x2000000
// On a received packet the same byte as `sacked` says where the SACK option is, in bytes from the header.
const SACK_OFFSET_SHIFT = 16
const SACK_OFFSET_MASK = 0xff << SACK_OFFSET_SHIFT

export const tcpFlags = (skb: SkBuff): number => skb.cb2 & FLAGS_MASK
export const tcpAddFlags = (skb: SkBuff, flags: number): void => {
  skb.cb2 |= flags
}
export const tcpClearFlags = (skb: SkBuff, flags: number): void => {
  skb.cb2 &= ~flags
}
export const tcpSackOffset = (skb: SkBuff): number => (skb.cb2 & SACK_OFFSET_MASK) >>> SACK_OFFSET_SHIFT
export const tcpSetSackOffset = (skb: SkBuff, offset: number): void => {
  skb.cb2 = (skb.cb2 & ~SACK_OFFSET_MASK) | (offset << SACK_OFFSET_SHIFT)
}

/** Models `tcp_skb_pcount`: how many segments this packet is on the wire. */
export const tcpSkbPcount = (skb: SkBuff): number => skb.cb3 & 0xffff

/** Models `tcp_skb_mss`: the size of one of its segments, or 0 when it is only one. */
export const tcpSkbMss = (skb: SkBuff): number => skb.cb3 >>> 16

/** Models `tcp_set_skb_tso_segs` (net/ipv4/tcp_output.c). @returns the number of segments. */
export function tcpSetSkbTsoSegs(skb: SkBuff, mss: number): number {
  if (skb.len <= mss) {
    skb.cb3 = 1
    return 1
  }
  const segs = Math.ceil(skb.len / mss)
  skb.cb3 = (mss << 16) | segs
  return segs
}

/** Models the parts of `tcp_skb_can_collapse` that differ in this model: may `from` be appended to `to`? */
export const tcpSkbCanCollapse = (to: SkBuff): boolean => (to.cb2 & TCPCB_EOR) === 0

// The header. All its fields are in network order; `th` is its byte offset in physical memory.

export const TCP_HEADER_BYTES = 20
export const MAX_TCP_OPTION_SPACE = 40

export const be16 = (u8: Uint8Array, at: number): number => (u8[at]! << 8) | u8[at + 1]!
export const be32 = (u8: Uint8Array, at: number): number =>
  (u8[at]! << 24) | (u8[at + 1]! << 16) | (u8[at + 2]! << 8) | u8[at + 3]!

export function setBe16(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value >>> 8
  u8[at + 1] = value
}

export function setBe32(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value >>> 24
  u8[at + 1] = value >>> 16
  u8[at + 2] = value >>> 8
  u8[at + 3] = value
}

export const thSource = (u8: Uint8Array, th: number): number => be16(u8, th)
export const thDest = (u8: Uint8Array, th: number): number => be16(u8, th + 2)
export const thSeq = (u8: Uint8Array, th: number): number => be32(u8, th + 4)
export const thAckSeq = (u8: Uint8Array, th: number): number => be32(u8, th + 8)
/** Header length in bytes (`doff * 4`). */
export const thBytes = (u8: Uint8Array, th: number): number => (u8[th + 12]! >> 4) << 2
export const thFlags = (u8: Uint8Array, th: number): number => u8[th + 13]!
export const thWindow = (u8: Uint8Array, th: number): number => be16(u8, th + 14)
export const thUrgPtr = (u8: Uint8Array, th: number): number => be16(u8, th + 18)
