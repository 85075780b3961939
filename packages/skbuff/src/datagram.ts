/** Between a packet and somebody's buffers: what the last step of `recvmsg` and the first of `sendmsg` do. */
import { type Addr, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { copyFromIter, copyToIter, type IovIter, iovIterGetPages2, iovIterRevert, iterAddr } from '@netmem/memory'
import { csumAdd, csumBlockAdd, csumFold, csumPartial, skbChecksum } from './checksum.js'
import { skbFillPageDesc } from './frags.js'
import { fragAddr, fragLen, fragList, fragOff, fragPfn, nrFrags, setFragLen } from './shared-info.js'
import { CHECKSUM_COMPLETE, CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, type SkBuff, skbHeadlen } from './sk-buff.js'

/**
 * Models `skb_copy_datagram_iter` (net/core/datagram.c): `len` bytes from `offset` on go to the reader.
 *
 * @returns 0, or `-EFAULT` with the iterator where it was.
 */
export function skbCopyDatagramIter(cpu: Cpu, skb: SkBuff, offset: number, iter: IovIter, len: number): number {
  const trace = skb.env.trace
  if (trace.skbCopyDatagramIovec !== null) trace.skbCopyDatagramIovec(cpu, skb.addr, len)
  // The usual case: a linear packet, copied in one piece.
  if (skb.dataLen === 0 && offset + len <= skb.len) {
    const copied = copyToIter(skb.env.mem, cpu, ((skb.data + offset) | 0) as Addr, len, iter)
    if (copied === len) return 0
    iovIterRevert(iter, copied)
    return -ERRNO.EFAULT
  }
  return copyPieces(cpu, skb, offset, iter, len)
}

/** Models `__skb_datagram_iter` for a packet in pieces. */
function copyPieces(cpu: Cpu, skb: SkBuff, offset: number, iter: IovIter, len: number): number {
  const before = iter.count
  if (walkToIter(cpu, skb, offset, iter, len)) return 0
  iovIterRevert(iter, before - iter.count)
  return -ERRNO.EFAULT
}

function walkToIter(cpu: Cpu, skb: SkBuff, offset: number, iter: IovIter, len: number): boolean {
  const mem = skb.env.mem
  let at = offset
  let left = len
  let start = skbHeadlen(skb)
  if (at < start) {
    const chunk = Math.min(start - at, left)
    if (copyToIter(mem, cpu, ((skb.data + at) | 0) as Addr, chunk, iter) !== chunk) return false
    left -= chunk
    at += chunk
  }
  if (left > 0 && skb.unreadable) return false
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i++) {
    const end = start + fragLen(skb, i)
    if (end > at) {
      const chunk = Math.min(end - at, left)
      if (copyToIter(mem, cpu, ((fragAddr(skb, i) + at - start) | 0) as Addr, chunk, iter) !== chunk) return false
      left -= chunk
      at += chunk
    }
    start = end
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = skb.env.skbs[id]!
    const end = start + frag.len
    if (end > at) {
      const chunk = Math.min(end - at, left)
      if (!walkToIter(cpu, frag, at - start, iter, chunk)) return false
      left -= chunk
      at += chunk
    }
    start = end
    id = frag.next
  }
  return left === 0
}

/**
 * Models `skb_copy_datagram_from_iter` (net/core/datagram.c): fills the packet, which has room already, from
 * the writer. @returns 0 or `-EFAULT`.
 */
export function skbCopyDatagramFromIter(cpu: Cpu, skb: SkBuff, offset: number, iter: IovIter, len: number): number {
  const mem = skb.env.mem
  let at = offset
  let left = len
  let start = skbHeadlen(skb)
  if (at < start) {
    const chunk = Math.min(start - at, left)
    if (copyFromIter(mem, cpu, ((skb.data + at) | 0) as Addr, chunk, iter) !== chunk) return -ERRNO.EFAULT
    left -= chunk
    at += chunk
  }
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i++) {
    const end = start + fragLen(skb, i)
    if (end > at) {
      const chunk = Math.min(end - at, left)
      if (copyFromIter(mem, cpu, ((fragAddr(skb, i) + at - start) | 0) as Addr, chunk, iter) !== chunk)
        return -ERRNO.EFAULT
      left -= chunk
      at += chunk
    }
    start = end
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = skb.env.skbs[id]!
    const end = start + frag.len
    if (end > at) {
      const chunk = Math.min(end - at, left)
      if (skbCopyDatagramFromIter(cpu, frag, at - start, iter, chunk) !== 0) return -ERRNO.EFAULT
      left -= chunk
      at += chunk
    }
    start = end
    id = frag.next
  }
  return left === 0 ? 0 : -ERRNO.EFAULT
}

/**
 * Models `__skb_checksum_complete` (net/core/datagram.c): sums the whole packet with what the pseudo header
 * gave (in `skb.csum`). @returns the folded sum, 0 when the packet is intact.
 */
export function skbChecksumComplete(skb: SkBuff): number {
  const sum = csumFold(csumAdd(skb.csum, skbChecksum(skb, 0, skb.len, 0)))
  if (sum === 0 && skb.ipSummed === CHECKSUM_COMPLETE && !skb.csumCompleteSw)
    skb.env.trace.warn?.('netdev_rx_csum_fault', 'hw csum failure')
  skb.csumValid = sum === 0
  skb.csumCompleteSw = true
  return sum
}

/** Models `skb_csum_unnecessary`: nobody needs to look. */
export const skbCsumUnnecessary = (skb: SkBuff): boolean =>
  skb.ipSummed === CHECKSUM_UNNECESSARY || skb.csumValid || (skb.ipSummed === CHECKSUM_PARTIAL && skb.csumStart >= 0)

/**
 * Models `skb_copy_and_csum_datagram_msg` (net/core/datagram.c): checks the checksum over the whole packet and
 * copies what the reader has room for. @returns 0, `-EINVAL` for a bad checksum, `-EFAULT`; the iterator is then
 * where it was.
 */
export function skbCopyAndCsumDatagramMsg(cpu: Cpu, skb: SkBuff, hlen: number, iter: IovIter): number {
  const chunk = skb.len - hlen
  if (chunk <= 0) return 0
  if (skbChecksumComplete(skb) !== 0) return -ERRNO.EINVAL
  return skbCopyDatagramIter(cpu, skb, hlen, iter, Math.min(chunk, iter.count))
}

/** Models `skb_copy_and_csum_bits` (net/core/skbuff.c): copies and sums in one pass. @returns the sum. */
export function skbCopyAndCsumBits(skb: SkBuff, offset: number, to: Addr, len: number): number {
  const { mem, u8 } = skb.env
  let sum = 0
  let position = 0
  eachChunk(skb, offset, len, (from, bytes) => {
    u8.copyWithin((to + position) >>> 0, from >>> 0, (from >>> 0) + bytes)
    sum = csumBlockAdd(sum, csumPartial(mem, from, bytes, 0), position)
    position += bytes
  })
  return sum
}

/** Calls back for every run of bytes in `[offset, offset + len)`, in order; cold paths only. */
export function eachChunk(skb: SkBuff, offset: number, len: number, visit: (from: Addr, bytes: number) => void): void {
  let at = offset
  let left = len
  let start = skbHeadlen(skb)
  if (at < start && left > 0) {
    const chunk = Math.min(start - at, left)
    visit(((skb.data + at) | 0) as Addr, chunk)
    left -= chunk
    at += chunk
  }
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i++) {
    const end = start + fragLen(skb, i)
    if (end > at) {
      const chunk = Math.min(end - at, left)
      visit(((fragAddr(skb, i) + at - start) | 0) as Addr, chunk)
      left -= chunk
      at += chunk
    }
    start = end
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = skb.env.skbs[id]!
    const end = start + frag.len
    if (end > at) {
      const chunk = Math.min(end - at, left)
      eachChunk(frag, at - start, chunk, visit)
      left -= chunk
      at += chunk
    }
    start = end
    id = frag.next
  }
}

/**
 * Models `__zerocopy_sg_from_iter` and `zerocopy_fill_skb_from_iter` (net/core/datagram.c): the writer's pages
 * become fragments. truesize grows by whole pages: a page is held whatever part of it is sent.
 *
 * @param scratch room for `MAX_SKB_FRAGS` frame numbers.
 * @returns bytes of truesize added (the caller charges them), or `-EMSGSIZE` when the slots ran out before `len`,
 *   or `-EFAULT`; what was added stays in the skb either way, and `skb.len` says how much.
 */
export function zerocopyFillSkbFromIter(skb: SkBuff, iter: IovIter, len: number, scratch: Int32Array): number {
  const { mem, sizes } = skb.env
  let left = Math.min(len, iter.count)
  let charged = 0
  let slot = nrFrags(skb)
  while (left > 0) {
    if (slot === sizes.maxFrags) return -ERRNO.EMSGSIZE
    const start = iterAddr(iter) & (sizes.pageBytes - 1)
    const copied = iovIterGetPages2(mem, iter, scratch, 0, left, sizes.maxFrags - slot)
    if (copied <= 0) return -ERRNO.EFAULT
    left -= copied
    const truesize = Math.ceil((copied + start) / sizes.pageBytes) * sizes.pageBytes
    skb.dataLen += copied
    skb.len += copied
    skb.truesize += truesize
    charged += truesize
    slot = addPages(skb, slot, scratch, start, copied)
  }
  return charged
}

/** Neighbouring pages join the fragment before them, whose one reference is then enough. */
function addPages(skb: SkBuff, firstSlot: number, pfns: Int32Array, start: number, bytes: number): number {
  const { mem, sizes, pageHead } = skb.env
  let slot = firstSlot
  let offset = start
  let left = bytes
  for (let n = 0; left > 0; n++) {
    const size = Math.min(left, sizes.pageBytes - offset)
    const pfn = pfns[n]! as Pfn
    const head = pageHead[pfn]! as Pfn
    const at = offset + (pfn - head) * sizes.pageBytes
    left -= size
    offset = 0
    if (slot > firstSlot && fragPfn(skb, slot - 1) === head && fragOff(skb, slot - 1) + fragLen(skb, slot - 1) === at) {
      setFragLen(skb, slot - 1, fragLen(skb, slot - 1) + size)
      mem.pages.refcount[head]!--
      continue
    }
    skbFillPageDesc(skb, slot, head, at, size)
    slot++
  }
  return slot
}
