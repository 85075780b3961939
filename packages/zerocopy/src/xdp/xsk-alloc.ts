/**
 * Where receive buffers come from: what was given back unused first, then what the user posted in the fill ring.
 * Nothing of the fill ring is believed before it was checked.
 */
import { assert, type Cpu, type DmaAddr } from '@netmem/base'
import { DMA_BIDIRECTIONAL, dmaSyncSingleForDevice } from '@netmem/dma'
import { PAGE_SIZE } from '@netmem/memory'
import { XSK_UNALIGNED_ADDR_MASK_HIGH } from './uapi.js'
import { type XskBuffPool, xpInitHead } from './xsk-buff-pool.js'
import { xskqConsGetEntries, xskqConsNbEntries, xskqConsSkipSpoilt, xskqDescWord } from './xsk-queue.js'

/** No buffer. */
export const NO_HEAD = -1

// Hot path: once per packet, or per batch of a driver.

/** Models `xp_check_aligned`, `xp_check_unaligned` and what follows. @returns the head of the posted chunk, or `NO_HEAD`. */
function headOfEntry(pool: XskBuffPool, word: number): number {
  const { i32 } = pool.fq
  const lo = i32[word]!
  if (!pool.unaligned) {
    const head = lo >>> pool.chunkShift
    return i32[word + 1] === 0 && head < pool.origAddr.length ? head : NO_HEAD
  }
  if (!xpUnalignedChunkOk(pool, lo >>> 0, i32[word + 1]!)) return NO_HEAD
  pool.freeHeadsCnt--
  const head = pool.freeHeads[pool.freeHeadsCnt]!
  xpInitHead(pool, head, lo)
  return head
}

/** Models `xp_check_unaligned`: the offset in the high bits is ignored, and the chunk lies in the area. */
function xpUnalignedChunkOk(pool: XskBuffPool, addr: number, hi: number): boolean {
  if ((hi & XSK_UNALIGNED_ADDR_MASK_HIGH) !== 0 || addr + pool.chunkSize > pool.addrsCnt) return false
  return !xpCrossesNonContigPage(pool, addr, pool.chunkSize)
}

/** Models `xp_desc_crosses_non_contig_pg`: a device cannot write over the edge of two pages that are not neighbours to it. */
export function xpCrossesNonContigPage(pool: XskBuffPool, addr: number, bytes: number): boolean {
  const map = pool.dmaMapping
  if (map === null || (addr & (PAGE_SIZE - 1)) + bytes <= PAGE_SIZE) return false
  const page = addr >>> 12
  return map.pages[page]! + PAGE_SIZE !== map.pages[page + 1]
}

/** Models `xp_alloc` (net/xdp/xsk_buff_pool.c). @returns a head, or `NO_HEAD`: nothing was posted. */
export function xpAlloc(cpu: Cpu, pool: XskBuffPool): number {
  const head = pool.freeListCnt === 0 ? xpAllocNew(pool) : takeFree(pool)
  if (head !== NO_HEAD && pool.dmaMapping !== null) syncForDevice(cpu, pool, head)
  return head
}

/** Models `__xp_alloc`: out of the fill ring. Entries that make no sense are skipped and counted. */
function xpAllocNew(pool: XskBuffPool): number {
  if (pool.unaligned && pool.freeHeadsCnt === 0) return NO_HEAD
  const { fq } = pool
  let looked = 0
  for (;;) {
    if (looked === fq.nentries) xskqConsSkipSpoilt(fq)
    if (fq.cachedProd === fq.cachedCons) {
      xskqConsGetEntries(fq)
      looked = 0
      if (fq.cachedProd === fq.cachedCons) {
        fq.queueEmptyDescs++
        return NO_HEAD
      }
    }
    const head = headOfEntry(pool, xskqDescWord(fq, fq.cachedCons))
    fq.cachedCons = (fq.cachedCons + 1) | 0
    if (head !== NO_HEAD) return head
    fq.invalidDescs++
    looked++
  }
}

function takeFree(pool: XskBuffPool): number {
  pool.freeListCnt--
  const head = pool.freeList[pool.freeListCnt]!
  pool.onFreeList[head] = 0
  return head
}

/** Models `xp_alloc_batch`: for a driver that refills its ring. @param out heads. @returns how many. */
export function xpAllocBatch(cpu: Cpu, pool: XskBuffPool, out: Int32Array, max: number): number {
  if (pool.dmaMapping?.needSync === true) return xpAllocBatchSlow(cpu, pool, out, max)
  let n = 0
  while (pool.freeListCnt > 0 && n < max) out[n++] = takeFree(pool)
  if (n === max) return n
  const fresh = xpAllocNewFromFq(pool, out, n, max - n)
  if (fresh === 0) pool.fq.queueEmptyDescs++
  return n + fresh
}

/** Models `xp_alloc_new_from_fq`. */
function xpAllocNewFromFq(pool: XskBuffPool, out: Int32Array, at: number, wanted: number): number {
  const { fq } = pool
  const max = xskqConsNbEntries(fq, pool.unaligned ? Math.min(wanted, pool.freeHeadsCnt) : wanted)
  let n = at
  for (let i = 0; i < max; i++) {
    const head = headOfEntry(pool, xskqDescWord(fq, fq.cachedCons + i))
    if (head === NO_HEAD) fq.invalidDescs++
    else out[n++] = head
  }
  fq.cachedCons = (fq.cachedCons + max) | 0
  return n - at
}

/** Models `xp_alloc_slow`: one by one, as each has to be synced. */
function xpAllocBatchSlow(cpu: Cpu, pool: XskBuffPool, out: Int32Array, max: number): number {
  let n = 0
  while (n < max) {
    const head = xpAlloc(cpu, pool)
    if (head === NO_HEAD) break
    out[n++] = head
  }
  return n
}

function syncForDevice(cpu: Cpu, pool: XskBuffPool, head: number): void {
  const map = pool.dmaMapping!
  if (!map.needSync) return
  const dma = pool.headDma[head]! as DmaAddr
  dmaSyncSingleForDevice(cpu, map.device, dma, pool.frameBytes, DMA_BIDIRECTIONAL, 'xp_dma_sync_for_device')
}

/** Models `xp_can_alloc`: are so many at hand? Entries that make no sense count too. */
export function xpCanAlloc(pool: XskBuffPool, count: number): boolean {
  if (pool.freeListCnt >= count) return true
  const wanted = count - pool.freeListCnt
  const have = xskqConsNbEntries(pool.fq, wanted)
  if (have === 0) pool.fq.queueEmptyDescs++
  return have >= wanted
}

/** Models `xp_free`: unused, and the first to be taken again. Twice is once. Takes the head. */
export function xpFree(pool: XskBuffPool, head: number): void {
  if (pool.onFreeList[head] !== 0) return
  if (__ASSERT__) assert(pool.freeListCnt < pool.freeList.length, 'more free buffers than there are')
  pool.onFreeList[head] = 1
  pool.freeList[pool.freeListCnt] = head
  pool.freeListCnt++
}

/** Models `xp_release`: the chunk is the user's now; in unaligned mode its head is free for another. */
export function xpRelease(pool: XskBuffPool, head: number): void {
  if (!pool.unaligned) return
  pool.freeHeads[pool.freeHeadsCnt] = head
  pool.freeHeadsCnt++
}
