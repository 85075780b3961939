/** The card's own arithmetic: is a frame's transport checksum right? */

/**
 * @param at where the Ethernet frame starts.
 * @returns true for an unfragmented TCP or UDP packet whose checksum is right; false when it is wrong, absent
 *   (UDP over IPv4 with 0) or when the card does not know the protocol.
 */
export function frameChecksumOk(u8: Uint8Array, at: number, len: number): boolean {
  if (len < 34) return false
  const type = (u8[at + 12]! << 8) | u8[at + 13]!
  const ip = at + 14
  if (type === 0x0800) {
    const ihl = (u8[ip]! & 15) * 4
    const total = (u8[ip + 2]! << 8) | u8[ip + 3]!
    const proto = u8[ip + 9]!
    const fragment = ((u8[ip + 6]! & 0x3f) | u8[ip + 7]!) !== 0
    if (fragment || total > len - 14 || total < ihl + 8 || (proto !== 6 && proto !== 17)) return false
    const l4 = total - ihl
    if (proto === 17 && u8[ip + ihl + 6] === 0 && u8[ip + ihl + 7] === 0) return false
    return sums(u8, ip + 12, 8, proto, ip + ihl, l4)
  }
  if (type === 0x86dd && len >= 54) {
    const proto = u8[ip + 6]!
    const l4 = (u8[ip + 4]! << 8) | u8[ip + 5]!
    if ((proto !== 6 && proto !== 17) || l4 > len - 54) return false
    return sums(u8, ip + 8, 32, proto, ip + 40, l4)
  }
  return false
}

/** Pseudo header and segment add up to all ones. */
function sums(u8: Uint8Array, addrs: number, addrBytes: number, proto: number, l4: number, len: number): boolean {
  let sum = proto + len
  for (let i = 0; i < addrBytes; i += 2) sum += (u8[addrs + i]! << 8) | u8[addrs + i + 1]!
  const even = len & ~1
  for (let i = 0; i < even; i += 2) sum += (u8[l4 + i]! << 8) | u8[l4 + i + 1]!
  if (even !== len) sum += u8[l4 + even]! << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536)
  return sum === 0xffff
}
