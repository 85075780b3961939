/** Between a packet and somebody's buffers: what the last step of `recvmsg` and the first of `sendmsg` do. */
import { type Addr, assert, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import {
  copyFromIter,
  copyToIter,
  type IovIter,
  iovIterAdvance,
  iovIterGetPages2,
  iovIterRevert,
  iterAddr,
  type UserBuffer,
} from '@netmem/memory'
import { csumAdd, csumBlockAdd, csumFold, csumPartial, skbChecksum } from './checksum.js'
import {
  fragAddr,
  fragLen,
  fragList,
  nrFrags,
  SHINFO_FRAG_WORDS,
  SHINFO_FRAGS_WORD,
  setNrFrags,
  skbShinfo,
} from './shared-info.js'
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
  const pageBytes = sizes.pageBytes
  let left = Math.min(len, iter.count)
  let charged = 0
  while (left > 0) {
    const slots = sizes.maxFrags - nrFrags(skb)
    if (slots === 0) return -ERRNO.EMSGSIZE
    const start = iterAddr(iter) & (pageBytes - 1)
    const { ubuf } = iter
    const copied =
      ubuf !== null
        ? addUserPages(skb, iter, ubuf, Math.min(left, slots * pageBytes - start))
        : addPages(skb, scratch, start, iovIterGetPages2(mem, iter, scratch, 0, left, slots))
    if (copied <= 0) return -ERRNO.EFAULT
    left -= copied
    const truesize = Math.ceil((copied + start) / pageBytes) * pageBytes
    skb.dataLen += copied
    skb.len += copied
    skb.truesize += truesize
    charged += truesize
  }
  return charged
}

/** Pages of which references are held become fragments. @returns `bytes`. */
function addPages(skb: SkBuff, pfns: Int32Array, start: number, bytes: number): number {
  const { pageBytes } = skb.env.sizes
  let slot = nrFrags(skb)
  let offset = start
  for (let n = 0, left = bytes; left > 0; n++) {
    const size = Math.min(left, pageBytes - offset)
    slot = addPage(skb, slot, pfns[n]! as Pfn, offset, size, false)
    left -= size
    offset = 0
  }
  if (bytes > 0) setNrFrags(skb, slot)
  return bytes
}

/** The same straight from one user buffer, which most writes come from. @returns bytes added, 0 where nothing is mapped. */
function addUserPages(skb: SkBuff, iter: IovIter, ubuf: UserBuffer, bytes: number): number {
  const { pageBytes } = skb.env.sizes
  const from = iter.iovOffset
  const end = Math.min(from + bytes, ubuf.mappedBytes)
  let slot = nrFrags(skb)
  for (let at = from; at < end; ) {
    const offset = at & (pageBytes - 1)
    const size = Math.min(end - at, pageBytes - offset)
    slot = addPage(skb, slot, ubuf.pfns[at >>> 12]! as Pfn, offset, size, true)
    at += size
  }
  if (end <= from) return 0
  setNrFrags(skb, slot)
  iovIterAdvance(iter, end - from)
  return end - from
}

/**
 * One more page; what continues the last fragment joins it, whose one reference is then enough. Shaped for speed:
 * see `tx.zerocopy.64K` of the benchmarks.
 *
 * @param take a reference is still to be taken. @returns the next free slot.
 */
function addPage(skb: SkBuff, slot: number, pfn: Pfn, offset: number, size: number, take: boolean): number {
  const { env } = skb
  const head = env.pageHead[pfn]!
  const at = offset + (pfn - head) * env.sizes.pageBytes
  const words = env.i32
  const here = skbShinfo(skb) + SHINFO_FRAGS_WORD + slot * SHINFO_FRAG_WORDS
  if (slot > 0) {
    const last = here - SHINFO_FRAG_WORDS
    if (words[last] === head && words[last + 3]! + words[last + 2]! === at) {
      words[last + 2]! += size
      if (!take) env.refcount[head]!--
      return slot
    }
  }
  if (__ASSERT__) assert(env.refcount[head]! > 0, 'get_page: of a free page')
  if (take) env.refcount[head]!++
  words[here] = head
  words[here + 1] = 0
  words[here + 2] = size
  words[here + 3] = at
  return slot + 1
}
