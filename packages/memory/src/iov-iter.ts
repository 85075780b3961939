/**
 * A position in somebody's memory: one user buffer, several, pages of a pipe, or kernel memory. Socket calls
 * copy through it without knowing which. One object is reused for call after call; setting it up allocates nothing.
 */
import { type Addr, assert, type Cpu, type Pfn } from '@netmem/base'
import { memcpy } from './bytes.js'
import type { Memory } from './memory.js'
import { getPage } from './pages.js'
import { type UserBuffer, userAddr } from './user-buffer.js'
import { checkHeapObject } from './usercopy.js'

/** Models `enum iter_type`. */
export const ITER_UBUF = 0
export const ITER_IOVEC = 1
export const ITER_BVEC = 2
export const ITER_KVEC = 3
export type IterType = 0 | 1 | 2 | 3

const NO_INTS = new Int32Array(0)

/** Models `struct iov_iter`. Invariant: `count` bytes follow the position `(seg, iovOffset)`. */
export class IovIter {
  kind: IterType = ITER_UBUF
  /** Bytes left. */
  count = 0
  /** Current segment, and the position in it. For one user buffer the position in that. */
  seg = 0
  iovOffset = 0
  nrSegs = 0
  ubuf: UserBuffer | null = null
  /** Segments: user buffers (ITER_IOVEC), frame numbers (ITER_BVEC) or addresses (ITER_KVEC), with offset and length. */
  bufs: readonly UserBuffer[] = []
  bases: Int32Array = NO_INTS
  offsets: Int32Array = NO_INTS
  lens: Int32Array = NO_INTS
}

/** Models `import_ubuf`: one stretch of user memory. */
export function iovIterInit(iter: IovIter, ubuf: UserBuffer, offset: number, count: number): void {
  iter.kind = ITER_UBUF
  iter.ubuf = ubuf
  iter.iovOffset = offset
  iter.count = count
  iter.seg = 0
  iter.nrSegs = 1
}

/** Models `iov_iter_init` with several stretches of user memory, as for writev. Arrays are borrowed. */
export function iovIterVec(
  iter: IovIter,
  bufs: readonly UserBuffer[],
  offsets: Int32Array,
  lens: Int32Array,
  nrSegs: number,
): void {
  iter.bufs = bufs
  start(iter, ITER_IOVEC, NO_INTS, offsets, lens, nrSegs)
}

/** Models `iov_iter_bvec`: pieces of pages, as from a pipe. Arrays are borrowed. @param count bytes, at most their sum. */
export function iovIterBvec(
  iter: IovIter,
  pfns: Int32Array,
  offsets: Int32Array,
  lens: Int32Array,
  nrSegs: number,
  count?: number,
): void {
  start(iter, ITER_BVEC, pfns, offsets, lens, nrSegs)
  if (count !== undefined) iter.count = Math.min(count, iter.count)
}

/** Models `iov_iter_kvec`: kernel memory. Arrays are borrowed. */
export function iovIterKvec(iter: IovIter, addrs: Int32Array, lens: Int32Array, nrSegs: number): void {
  start(iter, ITER_KVEC, addrs, NO_INTS, lens, nrSegs)
}

function start(
  iter: IovIter,
  kind: IterType,
  bases: Int32Array,
  offsets: Int32Array,
  lens: Int32Array,
  nrSegs: number,
): void {
  iter.kind = kind
  iter.ubuf = null
  iter.bases = bases
  iter.offsets = offsets
  iter.lens = lens
  iter.nrSegs = nrSegs
  iter.seg = 0
  iter.iovOffset = 0
  iter.count = 0
  for (let seg = 0; seg < nrSegs; seg++) iter.count += lens[seg]!
}

/**
 * Models `copy_from_iter`: from the iterator into kernel memory.
 *
 * @returns bytes copied; fewer than asked at the iterator's end or where user memory is not mapped.
 */
export function copyFromIter(mem: Memory, cpu: Cpu, dst: Addr, bytes: number, iter: IovIter): number {
  const copied = copyIter(mem, iter, dst, bytes, false)
  if (mem.trace.copy !== null && copied > 0) mem.trace.copy(cpu, '_copy_from_iter', copied)
  return copied
}

/** Models `copy_from_iter_full`: all or nothing. @returns whether all was there; else the position is as before. */
export function copyFromIterFull(mem: Memory, cpu: Cpu, dst: Addr, bytes: number, iter: IovIter): boolean {
  const copied = copyFromIter(mem, cpu, dst, bytes, iter)
  if (copied === bytes) return true
  iovIterRevert(iter, copied)
  return false
}

/** Models `copy_to_iter`: from kernel memory into the iterator. @returns bytes copied, as `copyFromIter`. */
export function copyToIter(mem: Memory, cpu: Cpu, src: Addr, bytes: number, iter: IovIter): number {
  const copied = copyIter(mem, iter, src, bytes, true)
  if (mem.trace.copy !== null && copied > 0) mem.trace.copy(cpu, '_copy_to_iter', copied)
  return copied
}

/** Models `copy_page_from_iter`. */
export const copyPageFromIter = (
  mem: Memory,
  cpu: Cpu,
  pfn: Pfn,
  offset: number,
  bytes: number,
  iter: IovIter,
): number => copyFromIter(mem, cpu, ((pfn << 12) + offset) as Addr, bytes, iter)

/** Models `copy_page_to_iter`. */
export const copyPageToIter = (mem: Memory, cpu: Cpu, pfn: Pfn, offset: number, bytes: number, iter: IovIter): number =>
  copyToIter(mem, cpu, ((pfn << 12) + offset) as Addr, bytes, iter)

function copyIter(mem: Memory, iter: IovIter, kernel: Addr, bytes: number, toIter: boolean): number {
  const wanted = Math.min(bytes, iter.count)
  if (__ASSERT__ && iter.kind <= ITER_IOVEC) checkHeapObject(mem, kernel, wanted, toIter)
  const ubuf = iter.ubuf
  // The usual case: one buffer, in one piece, all of it mapped.
  if (ubuf !== null && ubuf.base !== 0 && iter.iovOffset + wanted <= ubuf.mappedBytes) {
    const user = (ubuf.base + iter.iovOffset) as Addr
    if (toIter) memcpy(mem, user, kernel, wanted)
    else memcpy(mem, kernel, user, wanted)
    iter.iovOffset += wanted
    iter.count -= wanted
    return wanted
  }
  let done = 0
  while (done < wanted) {
    const chunk = Math.min(iterChunk(iter), wanted - done)
    if (chunk <= 0) break
    const at = iterAddr(iter)
    const other = (kernel + done) as Addr
    if (toIter) memcpy(mem, at, other, chunk)
    else memcpy(mem, other, at, chunk)
    iovIterAdvance(iter, chunk)
    done += chunk
  }
  return done
}

/** @returns bytes from the position on that lie together in physical memory and may be touched. */
function iterChunk(iter: IovIter): number {
  if (iter.kind === ITER_UBUF) return userChunk(iter.ubuf!, iter.iovOffset, iter.count)
  while (iter.seg < iter.nrSegs && iter.iovOffset === iter.lens[iter.seg]) {
    iter.seg++
    iter.iovOffset = 0
  }
  const left = iter.lens[iter.seg]! - iter.iovOffset
  if (iter.kind === ITER_IOVEC) return userChunk(iter.bufs[iter.seg]!, iter.offsets[iter.seg]! + iter.iovOffset, left)
  return left
}

function userChunk(ubuf: UserBuffer, offset: number, most: number): number {
  const mapped = Math.min(most, ubuf.mappedBytes - offset)
  return ubuf.base !== 0 ? mapped : Math.min(mapped, 4096 - (offset & 4095))
}

/** @returns the address of the byte at the position. */
export function iterAddr(iter: IovIter): Addr {
  const { seg, iovOffset } = iter
  if (iter.kind === ITER_UBUF) return userAddr(iter.ubuf!, iovOffset)
  if (iter.kind === ITER_IOVEC) return userAddr(iter.bufs[seg]!, iter.offsets[seg]! + iovOffset)
  if (iter.kind === ITER_BVEC) return ((iter.bases[seg]! << 12) + iter.offsets[seg]! + iovOffset) as Addr
  return (iter.bases[seg]! + iovOffset) as Addr
}

/** Models `iov_iter_advance`: skips bytes. @param bytes at most `count`. */
export function iovIterAdvance(iter: IovIter, bytes: number): void {
  assert(bytes <= iter.count, 'iov_iter_advance: past the end')
  iter.count -= bytes
  iter.iovOffset += bytes
  if (iter.kind === ITER_UBUF) return
  while (iter.seg < iter.nrSegs && iter.iovOffset >= iter.lens[iter.seg]!) {
    iter.iovOffset -= iter.lens[iter.seg]!
    iter.seg++
  }
}

/** Models `iov_iter_revert`: takes back the last `bytes` of advance. */
export function iovIterRevert(iter: IovIter, bytes: number): void {
  iter.count += bytes
  iter.iovOffset -= bytes
  if (iter.kind === ITER_UBUF) return
  while (iter.iovOffset < 0) {
    assert(iter.seg > 0, 'iov_iter_revert: before the start')
    iter.seg--
    iter.iovOffset += iter.lens[iter.seg]!
  }
}

/** Models `iov_iter_truncate`: ends after at most `bytes`. */
export function iovIterTruncate(iter: IovIter, bytes: number): void {
  if (iter.count > bytes) iter.count = bytes
}

/** Models `iov_iter_reexpand`: undoes a truncate. */
export function iovIterReexpand(iter: IovIter, bytes: number): void {
  iter.count = bytes
}

/** Models `iov_iter_count`. */
export const iovIterCount = (iter: IovIter): number => iter.count

/** Models `iov_iter_is_bvec`, `iov_iter_is_kvec` and `user_backed_iter`. */
export const userBackedIter = (iter: IovIter): boolean => iter.kind <= ITER_IOVEC

/** Models `iov_iter_single_seg_count`: bytes in the current segment. */
export function iovIterSingleSegCount(iter: IovIter): number {
  if (iter.kind === ITER_UBUF) return iter.count
  return iter.seg < iter.nrSegs ? Math.min(iter.count, iter.lens[iter.seg]! - iter.iovOffset) : 0
}

/** Models `iov_iter_npages`: pages that what is left touches, at most `most`. */
export function iovIterNpages(iter: IovIter, most: number): number {
  if (iter.kind === ITER_UBUF) {
    if (iter.count === 0) return 0
    return Math.min(most, ((iter.iovOffset & 4095) + iter.count + 4095) >>> 12)
  }
  let pages = 0
  let left = iter.count
  for (let seg = iter.seg; seg < iter.nrSegs && left > 0; seg++) {
    const skip = seg === iter.seg ? iter.iovOffset : 0
    const bytes = Math.min(iter.lens[seg]! - skip, left)
    const base = iter.kind === ITER_KVEC ? iter.bases[seg]! : iter.offsets[seg]!
    pages += (((base + skip) & 4095) + bytes + 4095) >>> 12
    left -= bytes
  }
  return Math.min(most, pages)
}

/**
 * Models `iov_iter_get_pages2`: takes a reference on each page under the next bytes, and moves past them.
 *
 * @param pfns receives frame numbers from index `at`; one stretch of contiguous pages at most `maxPages` long.
 * @returns bytes covered; the first begins at `offsetInPage` of the position that `iterAddr` gave before the call.
 */
export function iovIterGetPages2(
  mem: Memory,
  iter: IovIter,
  pfns: Int32Array,
  at: number,
  maxBytes: number,
  maxPages: number,
): number {
  const wanted = Math.min(maxBytes, iter.count)
  let done = 0
  let used = 0
  while (done < wanted && used < maxPages) {
    const chunk = iterChunk(iter)
    if (chunk <= 0) break
    const addr = iterAddr(iter)
    // Only the first page may begin, and only the last may end, in its middle.
    if (used > 0 && (addr & 4095) !== 0) break
    const bytes = Math.min(chunk, wanted - done, 4096 - (addr & 4095))
    const pfn = (addr >>> 12) as Pfn
    getPage(mem, pfn)
    pfns[at + used] = pfn
    used++
    done += bytes
    iovIterAdvance(iter, bytes)
    if (((addr + bytes) & 4095) !== 0) break
  }
  return done
}
