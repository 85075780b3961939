/**
 * The IPv4 header in packet memory: where its fields are, and its checksum. Addresses are big-endian words
 * kept as signed 32-bit integers: 127.0.0.1 is 0x7f000001.
 */
import type { Addr } from '@netmem/base'
import type { Memory } from '@netmem/memory'

export const IP_HLEN = 20
/** Models `IP_MAX_MTU`: total length is a 16-bit field. */
export const IP_MAX_MTU = 0xffff
export const IP_CE = 0x8000
export const IP_DF = 0x4000
export const IP_MF = 0x2000
export const IP_OFFSET = 0x1fff

// Offsets of fields.
export const IP_TOS = 1
export const IP_TOT_LEN = 2
export const IP_ID = 4
export const IP_FRAG_OFF = 6
export const IP_TTL = 8
export const IP_PROTOCOL = 9
export const IP_CHECK = 10
export const IP_SADDR = 12
export const IP_DADDR = 16

export const INADDR_ANY = 0
export const INADDR_BROADCAST = -1
export const INADDR_LOOPBACK = 0x7f000001

/** Models `ipv4_is_multicast`. */
export const ipv4IsMulticast = (addr: number): boolean => (addr & 0xf0000000) >>> 0 === 0xe0000000
/** Models `ipv4_is_loopback`. */
export const ipv4IsLoopback = (addr: number): boolean => addr >>> 24 === 127

/** Models `ip_fast_csum`: the checksum over a header, 0 when a received one is right. @param at byte offset, even. */
export function ipFastCsum(mem: Memory, at: number, words32: number): number {
  const { u16 } = mem
  let sum = 0
  const first = at >>> 1
  // Nearly every header is the shortest one. Benchmark: `rx.udp`.
  if (words32 === 5) {
    sum = u16[first] + u16[first + 1] + u16[first + 2] + u16[first + 3] + u16[first + 4]
    sum += u16[first + 5] + u16[first + 6] + u16[first + 7] + u16[first + 8] + u16[first + 9]
  } else for (let i = 0; i < words32 << 1; i += 1) sum += u16[first + i]
  sum = (sum & 0xffff) + (sum >>> 16)
  sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** Models `ip_send_check`: writes the header's checksum. The sum is in memory order, so it is stored as it is. */
export function ipSendCheck(mem: Memory, iph: number): void {
  mem.u16[(iph + IP_CHECK) >>> 1] = 0
  mem.u16[(iph + IP_CHECK) >>> 1] = ipFastCsum(mem, iph, mem.u8[iph] & 15)
}

/** Models `csum_tcpudp_nofold` of the pseudo header. @param length bytes of header and data behind the IP header. */
export function csumTcpudpNofold(saddr: number, daddr: number, length: number, protocol: number): number {
  // In memory order: each big-endian half word is swapped.
  let sum = swap16(saddr >>> 16) + swap16(saddr & 0xffff) + swap16(daddr >>> 16) + swap16(daddr & 0xffff)
  sum += swap16(length & 0xffff) + swap16(length >>> 16) + (protocol << 8)
  return sum
}

export const swap16 = (half: number): number => ((half & 0xff) << 8) | ((half >>> 8) & 0xff)

/** @returns the header's address as a byte offset into memory. */
export const byteOffset = (addr: Addr): number => addr >>> 0

/** @returns an IPv4 address of `a.b.c.d`, or null. */
export function ipv4Parse(text: string): number | null {
  const parts = text.split('.')
  if (parts.length !== 4) return null
  let addr = 0
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return null
    addr = (addr << 8) | Number(part)
  }
  return addr | 0
}

export const ipv4Text = (addr: number): string =>
  `${addr >>> 24}.${(addr >>> 16) & 255}.${(addr >>> 8) & 255}.${addr & 255}`
