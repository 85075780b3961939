/**
 * The Internet checksum (RFC 1071), really computed. Sums are 32-bit one's complement numbers kept as signed
 * integers; bytes count in memory order, two by two, so a sum is independent of how it was put together.
 */
import { type Addr, bug } from '@netmem/base'
import { fragAddr, fragLen, fragList, nrFrags } from './shared-info.js'
import { type SkBuff, skbHeadlen } from './sk-buff.js'

/** Models `csum_add`: one's complement addition of two 32-bit sums. */
export function csumAdd(a: number, b: number): number {
  const sum = (a >>> 0) + (b >>> 0)
  return (sum + (sum > 0xffffffff ? 1 : 0)) | 0
}

/** Models `csum_sub`. */
export const csumSub = (a: number, b: number): number => csumAdd(a, ~b)

/** Models `csum_block_add`: `b` is of bytes that start `offset` bytes behind those of `a`. */
export const csumBlockAdd = (a: number, b: number, offset: number): number =>
  csumAdd(a, (offset & 1) !== 0 ? (b << 24) | (b >>> 8) : b)

/** Models `csum_block_sub`. */
export const csumBlockSub = (a: number, b: number, offset: number): number => csumBlockAdd(a, ~b, offset)

/** Models `csum_fold`: to the 16 bits that go into a header, complemented; low byte first in memory. */
export function csumFold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16)
  folded = (folded & 0xffff) + (folded >>> 16)
  return ~folded & 0xffff
}

/**
 * Models `csum_partial` (arch/x86/lib/csum-partial_64.c): adds `len` bytes at `addr` to a sum. A word at a
 * time, as the sum of 16-bit halves in a double never loses a bit.
 */
export function csumPartial(env: { u8: Uint8Array; i32: Int32Array }, addr: Addr, len: number, sum: number): number {
  const { u8, i32 } = env
  let at = addr >>> 0
  const end = at + len
  // An odd start shifts every byte into the other half: sum as if even, then swap.
  const odd = (at & 1) !== 0 && len > 0
  let low = 0
  let high = 0
  if (odd) {
    high += u8[at]!
    at++
  }
  // From here on `low` collects bytes at even, `high` at odd distance from the (even) address.
  if ((at & 2) !== 0 && at + 2 <= end) {
    low += u8[at]! | (u8[at + 1]! << 8)
    at += 2
  }
  let total = low + high * 256
  const words = (end - at) >> 2
  let word = at >>> 2
  const last = word + words
  for (; word + 4 <= last; word += 4) {
    const a = i32[word]!
    const b = i32[word + 1]!
    const c = i32[word + 2]!
    const d = i32[word + 3]!
    total +=
      (a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) + (c & 0xffff) + (c >>> 16) + (d & 0xffff) + (d >>> 16)
  }
  for (; word < last; word++) {
    const a = i32[word]!
    total += (a & 0xffff) + (a >>> 16)
  }
  at += words << 2
  if (at + 2 <= end) {
    total += u8[at]! | (u8[at + 1]! << 8)
    at += 2
  }
  if (at < end) total += u8[at]!
  let part = total % 0xffffffff
  if (part === 0 && total !== 0) part = 0xffffffff
  let folded = part | 0
  if (odd) {
    // Fold to 16 bits, then swap the halves of the half.
    let half = (folded & 0xffff) + (folded >>> 16)
    half = (half & 0xffff) + (half >>> 16)
    folded = ((half & 0xff) << 8) | (half >>> 8)
  }
  return csumAdd(folded, sum)
}

/** Models `skb_checksum` (net/core/skbuff.c): of `len` bytes at `offset`, wherever they lie, added to `sum`. */
export function skbChecksum(skb: SkBuff, offset: number, len: number, sum: number): number {
  const env = skb.env
  let total = sum
  let at = offset
  let left = len
  let position = 0
  const head = skbHeadlen(skb)
  if (at < head) {
    const chunk = Math.min(head - at, left)
    total = csumPartial(env, ((skb.data + at) | 0) as Addr, chunk, total)
    left -= chunk
    if (left === 0) return total
    at += chunk
    position = chunk
  }
  if (skb.unreadable) return 0
  let start = head
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i++) {
    const end = start + fragLen(skb, i)
    if (end > at) {
      const chunk = Math.min(end - at, left)
      const part = csumPartial(env, ((fragAddr(skb, i) + at - start) | 0) as Addr, chunk, 0)
      total = csumBlockAdd(total, part, position)
      left -= chunk
      at += chunk
      position += chunk
    }
    start = end
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = env.skbs[id]!
    const end = start + frag.len
    if (end > at) {
      const chunk = Math.min(end - at, left)
      total = csumBlockAdd(total, skbChecksum(frag, at - start, chunk, 0), position)
      left -= chunk
      at += chunk
      position += chunk
    }
    start = end
    id = frag.next
  }
  if (left !== 0) bug('skb_checksum: beyond the end of the packet')
  return total
}
