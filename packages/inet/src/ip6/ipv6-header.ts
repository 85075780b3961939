/** The IPv6 header in packet memory, and addresses as four big-endian words. */
import type { Memory } from '@netmem/memory'
import { swap16 } from '../ip/ip-header.js'

export const IPV6_HLEN = 40
/** Models `sizeof(struct frag_hdr)`. */
export const FRAG_HLEN = 8
/** Models `IPV6_MAXPLEN`: payload length is a 16-bit field. */
export const IPV6_MAXPLEN = 65535
export const IPV6_MIN_MTU = 1280

// Offsets of fields.
export const IPV6_PAYLOAD_LEN = 4
export const IPV6_NEXTHDR = 6
export const IPV6_HOP_LIMIT = 7
export const IPV6_SADDR = 8
export const IPV6_DADDR = 24

/** Models `ipv6_addr_any`. */
export const ipv6AddrAny = (a: Int32Array): boolean => (a[0] | a[1] | a[2] | a[3]) === 0
/** Models `ipv6_addr_loopback`. */
export const ipv6AddrLoopback = (a: Int32Array): boolean => (a[0] | a[1] | a[2] | (a[3] ^ 1)) === 0
/** Models `ipv6_addr_is_multicast`. */
export const ipv6AddrIsMulticast = (a: Int32Array): boolean => a[0] >>> 24 === 0xff
/** Models `ipv6_addr_equal`. */
export const ipv6AddrEqual = (a: Int32Array, b: Int32Array): boolean =>
  a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3]

/** Copies an address from packet memory. @param at byte offset. */
export function readIpv6Addr(mem: Memory, at: number, out: Int32Array): void {
  const { dv } = mem
  out[0] = dv.getInt32(at)
  out[1] = dv.getInt32(at + 4)
  out[2] = dv.getInt32(at + 8)
  out[3] = dv.getInt32(at + 12)
}

export function writeIpv6Addr(mem: Memory, at: number, addr: Int32Array): void {
  const { dv } = mem
  dv.setInt32(at, addr[0])
  dv.setInt32(at + 4, addr[1])
  dv.setInt32(at + 8, addr[2])
  dv.setInt32(at + 12, addr[3])
}

/** Models `csum_ipv6_magic` before folding: the pseudo header's sum in memory order. */
export function csumIpv6Nofold(saddr: Int32Array, daddr: Int32Array, length: number, protocol: number): number {
  let sum = 0
  for (let i = 0; i < 4; i += 1)
    sum += swap16(saddr[i] >>> 16) + swap16(saddr[i] & 0xffff) + swap16(daddr[i] >>> 16) + swap16(daddr[i] & 0xffff)
  return sum + swap16(length & 0xffff) + swap16(length >>> 16) + (protocol << 8)
}

/** @returns four words of an IPv6 address in text, or null. Embedded IPv4 and zones are not accepted. */
export function ipv6Parse(text: string): Int32Array | null {
  const halves = text.split('::')
  if (halves.length > 2) return null
  const left = halves[0] === '' ? [] : halves[0].split(':')
  const right = halves.length === 1 || halves[1] === '' ? [] : halves[1].split(':')
  const missing = 8 - left.length - right.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null
  const groups = [...left, ...Array<string>(Math.max(missing, 0)).fill('0'), ...right]
  const out = new Int32Array(4)
  for (let i = 0; i < 8; i += 1) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(groups[i])) return null
    out[i >> 1] |= Number.parseInt(groups[i], 16) << (i & 1 ? 0 : 16)
  }
  return out
}
