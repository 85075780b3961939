/** What the user put into its tx ring, read once and checked before anything is done with it. */
import {
  XDP_PKT_CONTD,
  XDP_TX_METADATA,
  XSK_UNALIGNED_ADDR_MASK_HIGH,
  XSK_UNALIGNED_OFFSET_SHIFT_HIGH,
} from './uapi.js'
import { xpCrossesNonContigPage } from './xsk-alloc.js'
import type { XskBuffPool } from './xsk-buff-pool.js'
import { type XskQueue, xskqConsGetEntries, xskqConsSkipSpoilt, xskqDescWord } from './xsk-queue.js'

/** Models `struct xdp_desc`: one descriptor, copied out of the ring, so that the user cannot change it under the checks. */
export class XdpDesc {
  addrLo = 0
  addrHi = 0
  /** Bytes, unsigned. */
  len = 0
  options = 0
  /** Where the bytes begin in the area, when the descriptor is valid. */
  offset = 0
}

/** What `xskqConsPeekDesc` found. */
export const TX_NONE = 0
export const TX_VALID = 1
export const TX_INVALID = 2

/** Models `xp_mb_desc`: more of the packet follows. */
export const xpMbDesc = (desc: XdpDesc): boolean => (desc.options & XDP_PKT_CONTD) !== 0

/**
 * Models `xp_validate_desc` (net/xdp/xsk_queue.h): inside the area, inside a chunk in aligned mode, metadata included,
 * and no option that this kernel does not know.
 */
export function xpValidateDesc(pool: XskBuffPool, desc: XdpDesc): boolean {
  const { multiBuffer } = pool.env
  const metadata = pool.umem.txMetadataLen
  const len = desc.len + metadata
  if (multiBuffer ? desc.len === 0 : false) return false
  if (multiBuffer ? (desc.options & ~(XDP_PKT_CONTD | XDP_TX_METADATA)) !== 0 : desc.options !== 0) return false
  if (pool.unaligned) {
    // The offset in the high bits is added to the address.
    if ((desc.addrHi & XSK_UNALIGNED_ADDR_MASK_HIGH) !== 0) return false
    desc.offset = (desc.addrLo >>> 0) + (desc.addrHi >>> XSK_UNALIGNED_OFFSET_SHIFT_HIGH)
    const addr = desc.offset - metadata
    if (len > pool.chunkSize || addr < 0 || addr >= pool.addrsCnt || addr + len > pool.addrsCnt) return false
    return !xpCrossesNonContigPage(pool, addr, len)
  }
  if (desc.addrHi !== 0) return false
  desc.offset = desc.addrLo >>> 0
  const addr = desc.offset - metadata
  if (addr < 0 || addr >= pool.addrsCnt) return false
  return (addr & (pool.chunkSize - 1)) + len <= pool.chunkSize
}

/** Reads the descriptor at the kernel's position. */
function readDesc(q: XskQueue, desc: XdpDesc): void {
  const word = xskqDescWord(q, q.cachedCons)
  desc.addrLo = q.i32[word]!
  desc.addrHi = q.i32[word + 1]!
  desc.len = q.i32[word + 2]! >>> 0
  desc.options = q.i32[word + 3]!
}

/**
 * Models `xskq_cons_peek_desc`: the next descriptor, not taken yet. Kernels with packets in several buffers stop at an
 * invalid one, older ones count it and go on to the next.
 *
 * @returns `TX_NONE`, `TX_VALID` or `TX_INVALID`, with the descriptor in `desc`.
 */
export function xskqConsPeekDesc(pool: XskBuffPool, q: XskQueue, desc: XdpDesc): number {
  if (q.cachedProd === q.cachedCons) xskqConsGetEntries(q)
  const { multiBuffer } = pool.env
  for (let skipped = 0; q.cachedCons !== q.cachedProd; skipped++) {
    if (skipped === q.nentries) {
      xskqConsSkipSpoilt(q)
      break
    }
    readDesc(q, desc)
    if (xpValidateDesc(pool, desc)) return TX_VALID
    if (multiBuffer) return TX_INVALID
    q.invalidDescs++
    q.cachedCons = (q.cachedCons + 1) | 0
  }
  if (multiBuffer) q.queueEmptyDescs++
  return TX_NONE
}
