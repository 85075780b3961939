/** What programs do to the ends of a frame: the helpers that move them. */
import { type Addr, ERRNO } from '@netmem/base'
import { SHINFO_FRAG_WORDS, SHINFO_FRAGS_WORD } from '@netmem/skbuff'
import { SHINFO_XDP_FRAGS_SIZE_WORD, type XdpBuff, xdpDataHardEnd, xdpGetBuffLen } from './xdp.js'
import { SHINFO_NR_FRAGS_BYTE } from './xdp-frags.js'
import { xdpReturnPage } from './xdp-frame.js'

/** Bytes of an Ethernet header, which no program may cut off. */
const ETH_HLEN = 14

/**
 * Models `bpf_xdp_adjust_head` (net/core/filter.c).
 *
 * @param delta negative to push bytes in front, positive to cut bytes off. @returns 0 or `-EINVAL`.
 */
export function bpfXdpAdjustHead(xdp: XdpBuff, delta: number): number {
  const data = (xdp.data + delta) | 0
  const metaLen = xdp.data - xdp.dataMeta
  // The frame's own descriptor lives at the start of the buffer, and an Ethernet header must remain.
  if (data < xdp.dataHardStart + xdp.frameDescBytes + metaLen || data > xdp.dataEnd - 14) return -ERRNO.EINVAL
  if (metaLen > 0) xdp.mem.u8.copyWithin(data - metaLen, xdp.dataMeta >>> 0, xdp.data >>> 0)
  xdp.data = data as Addr
  xdp.dataMeta = (data - metaLen) as Addr
  return 0
}

/** Models `bpf_xdp_adjust_tail` (net/core/filter.c). @param delta bytes; growth is zeroed. @returns 0 or -errno. */
export function bpfXdpAdjustTail(xdp: XdpBuff, delta: number): number {
  if (xdp.hasFrags) return delta < 0 ? bpfXdpFragsShrinkTail(xdp, -delta) : bpfXdpFragsIncreaseTail(xdp, delta)
  const end = (xdp.dataEnd + delta) | 0
  if (end > xdpDataHardEnd(xdp) || end < xdp.data + 14) return -ERRNO.EINVAL
  if (delta > 0) xdp.mem.u8.fill(0, xdp.dataEnd >>> 0, end >>> 0)
  xdp.dataEnd = end as Addr
  return 0
}

/** Models `bpf_xdp_adjust_meta`. @param delta negative to make room for metadata. @returns 0 or -errno. */
export function bpfXdpAdjustMeta(xdp: XdpBuff, delta: number): number {
  const meta = (xdp.dataMeta + delta) | 0
  const len = xdp.data - meta
  if (meta < xdp.dataHardStart || meta > xdp.data) return -ERRNO.EINVAL
  // Metadata travels beside the packet in a byte-wide field and is compared by words.
  if ((len & 3) !== 0 || len > 252) return -ERRNO.EACCES
  xdp.dataMeta = meta as Addr
  return 0
}

/** Models `bpf_xdp_frags_shrink_tail` (net/core/filter.c): whole fragments go back where they came from. */
function bpfXdpFragsShrinkTail(xdp: XdpBuff, bytes: number): number {
  if (bytes > xdpGetBuffLen(xdp) - ETH_HLEN) return -ERRNO.EINVAL
  const { i32, u8 } = xdp.mem
  const end = xdpDataHardEnd(xdp) >>> 0
  const w = end >>> 2
  let n = u8[end + SHINFO_NR_FRAGS_BYTE]!
  let left = bytes
  while (n > 0 && left > 0) {
    const at = w + SHINFO_FRAGS_WORD + (n - 1) * SHINFO_FRAG_WORDS
    const cut = Math.min(left, i32[at + 2]!)
    left -= cut
    i32[at + 2] = i32[at + 2]! - cut
    if (i32[at + 2] !== 0) break
    xdpReturnPage(xdp.mem, xdp.cpu!, ((i32[at]! << 12) + i32[at + 3]!) as Addr, xdp.memType, xdp.pool, false)
    n--
  }
  u8[end + SHINFO_NR_FRAGS_BYTE] = n
  i32[w + SHINFO_XDP_FRAGS_SIZE_WORD] = i32[w + SHINFO_XDP_FRAGS_SIZE_WORD]! - (bytes - left)
  if (n === 0) {
    xdp.hasFrags = false
    xdp.dataEnd = (xdp.dataEnd - left) as Addr
  }
  return 0
}

/**
 * Models `bpf_xdp_frags_increase_tail`: the last fragment grows into the room behind it.
 *
 * @returns 0, `-EOPNOTSUPP` when the driver did not say how big its buffers are, `-EINVAL` without room.
 */
function bpfXdpFragsIncreaseTail(xdp: XdpBuff, bytes: number): number {
  if (xdp.fragSize === 0 || xdp.fragSize > xdp.frameSz) return -ERRNO.ENOTSUP
  const { i32, u8 } = xdp.mem
  const end = xdpDataHardEnd(xdp) >>> 0
  const w = end >>> 2
  const at = w + SHINFO_FRAGS_WORD + (u8[end + SHINFO_NR_FRAGS_BYTE]! - 1) * SHINFO_FRAG_WORDS
  const used = i32[at + 2]! + i32[at + 3]!
  if (bytes > xdp.fragSize - used) return -ERRNO.EINVAL
  const from = ((i32[at]! << 12) + used) >>> 0
  u8.fill(0, from, from + bytes)
  i32[at + 2] = i32[at + 2]! + bytes
  i32[w + SHINFO_XDP_FRAGS_SIZE_WORD] = i32[w + SHINFO_XDP_FRAGS_SIZE_WORD]! + bytes
  return 0
}
