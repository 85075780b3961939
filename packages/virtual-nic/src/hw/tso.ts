/**
 * The card's transmit offloads: summing a packet, and cutting one large TCP or UDP packet into frames. The
 * headers of each frame are written as the kernel's own software segmentation would.
 */

const be16 = (u8: Uint8Array, at: number): number => (u8[at]! << 8) | u8[at + 1]!
const put16 = (u8: Uint8Array, at: number, value: number): void => {
  u8[at] = (value >>> 8) & 0xff
  u8[at + 1] = value & 0xff
}

/** One's complement sum of bytes as big-endian halves, not folded to its complement. */
function sum16(u8: Uint8Array, at: number, len: number, from: number): number {
  let sum = from
  const even = len & ~1
  for (let i = 0; i < even; i += 2) sum += be16(u8, at + i)
  if (even !== len) sum += u8[at + even]! << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536)
  return sum
}

/**
 * Models what a device does for `CHECKSUM_PARTIAL`: the field holds the sum of the pseudo header; the sum from
 * `start` to the end, complemented, replaces it.
 */
export function sumFrame(frame: Uint8Array, len: number, start: number, offset: number): void {
  const value = ~sum16(frame, start, len - start, 0) & 0xffff
  put16(frame, start + offset, value === 0 ? 0xffff : value)
}

/**
 * Cuts a packet into frames of `mss` payload bytes.
 *
 * @param start where the transport header is. @param out room for one frame. @param send gets each frame.
 */
export function tsoCut(
  packet: Uint8Array,
  len: number,
  start: number,
  mss: number,
  out: Uint8Array,
  send: (frame: Uint8Array, len: number) => void,
): void {
  const eth = be16(packet, 12) === 0x8100 ? 18 : 14
  const v6 = be16(packet, eth - 2) === 0x86dd
  const tcp = v6 ? packet[eth + 6] === 6 : packet[eth + 9] === 6
  const header = start + (tcp ? (packet[start + 12]! >> 4) * 4 : 8)
  const seq = be16(packet, start + 4) * 65536 + be16(packet, start + 6)
  const id = be16(packet, eth + 4)
  let frames = 0
  for (let at = header; at < len; at += mss, frames++) {
    const n = Math.min(mss, len - at)
    out.set(packet.subarray(0, header), 0)
    out.set(packet.subarray(at, at + n), header)
    const size = header + n
    const l4 = size - start
    if (v6) put16(out, eth + 4, size - eth - 40)
    else {
      put16(out, eth + 2, size - eth)
      put16(out, eth + 4, id + frames)
      put16(out, eth + 10, 0)
      put16(out, eth + 10, ~sum16(out, eth, start - eth, 0) & 0xffff)
    }
    if (tcp) {
      const s = (seq + at - header) % 4294967296
      put16(out, start + 4, Math.floor(s / 65536))
      put16(out, start + 6, s % 65536)
      const last = at + n >= len
      // FIN and PSH belong to the last byte, CWR to the first segment.
      out[start + 13] = packet[start + 13]! & ~((last ? 0 : 0x09) | (frames === 0 ? 0 : 0x80))
    } else put16(out, start + 4, l4)
    const field = start + (tcp ? 16 : 6)
    put16(out, field, 0)
    const addrs = v6 ? sum16(out, eth + 8, 32, 0) : sum16(out, eth + 12, 8, 0)
    const value = ~sum16(out, start, l4, addrs + (tcp ? 6 : 17) + l4) & 0xffff
    put16(out, field, value === 0 && !tcp ? 0xffff : value)
    send(out, size)
  }
}
