/**
 * A ring between a user program and the kernel: shared bytes, and the kernel's own idea of how far both are.
 *
 *     +0    producer     free-running, 32 bits: whoever fills the ring
 *     +128  consumer     free-running, 32 bits: whoever empties it
 *     +196  flags        the kernel's word to the user
 *     +320  descriptors  8 bytes (an address) in fill and completion rings, 16 (address, length, options) in rx and tx
 *
 * The user may write anything anywhere at any time. The kernel believes its cached copies, masks every index and
 * checks every address, so that garbage can lose packets but nothing else.
 *
 * Law, with an honest user: 0 <= producer - consumer <= entries.
 */
import type { Cpu } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { ringMemoryAlloc, ringMemoryFree } from './ring-memory.js'

/** Models `struct xdp_ring` and what follows it, byte offsets. */
export const XSK_RING_PRODUCER = 0
export const XSK_RING_CONSUMER = 128
export const XSK_RING_FLAGS = 196
export const XSK_RING_DESC = 320

/** Log2 of the bytes of a descriptor. */
export const XSK_UMEM_DESC_SHIFT = 3
export const XSK_RXTX_DESC_SHIFT = 4

/** Models `struct xsk_queue` (net/xdp/xsk_queue.h). */
export class XskQueue {
  /** The kernel's copies of the two indices: its own is ahead of the shared one until it publishes. */
  cachedProd = 0
  cachedCons = 0
  /** Descriptors that made no sense. */
  invalidDescs = 0
  /** How often the kernel looked and found nothing. */
  queueEmptyDescs = 0
  readonly i32: Int32Array
  readonly ringMask: number
  /** Words of memory. */
  readonly producerWord: number
  readonly consumerWord: number
  readonly flagsWord: number

  constructor(
    readonly mem: Memory,
    /** The pages under the ring, in order. */
    readonly pages: Int32Array,
    readonly nentries: number,
    readonly descShift: number,
  ) {
    this.i32 = mem.i32
    this.ringMask = nentries - 1
    const first = pages[0]! << 10
    this.producerWord = first + (XSK_RING_PRODUCER >> 2)
    this.consumerWord = first + (XSK_RING_CONSUMER >> 2)
    this.flagsWord = first + (XSK_RING_FLAGS >> 2)
  }
}

/** Models `xskq_get_ring_size`: bytes of a ring. */
export const xskqRingBytes = (nentries: number, descShift: number): number =>
  XSK_RING_DESC + nentries * (1 << descShift)

/** @returns the memory word of a free-running index's descriptor. */
export function xskqDescWord(q: XskQueue, index: number): number {
  const byte = XSK_RING_DESC + ((index & q.ringMask) << q.descShift)
  return (q.pages[byte >>> 12]! << 10) | ((byte & 4095) >>> 2)
}

// The kernel consumes: fill and tx rings.

/** Models `__xskq_cons_release`: the user sees how far the kernel is. */
export function xskqConsPublish(q: XskQueue): void {
  q.i32[q.consumerWord] = q.cachedCons
}

/** Models `xskq_cons_get_entries`: publishes, and looks what is new. */
export function xskqConsGetEntries(q: XskQueue): void {
  q.i32[q.consumerWord] = q.cachedCons
  q.cachedProd = q.i32[q.producerWord]!
}

/** Models `xskq_cons_nb_entries`. @returns entries at hand, at most `max`. */
export function xskqConsNbEntries(q: XskQueue, max: number): number {
  const entries = (q.cachedProd - q.cachedCons) >>> 0
  if (entries >= max) return max
  q.cachedProd = q.i32[q.producerWord]!
  return Math.min(max, (q.cachedProd - q.cachedCons) >>> 0)
}

/** Models `xskq_cons_release` and `xskq_cons_release_n`: taken, and published later. */
export function xskqConsRelease(q: XskQueue, count = 1): void {
  q.cachedCons = (q.cachedCons + count) | 0
}

/**
 * Gives up on a ring whose entries all made no sense once round: a producer index that is garbage would show the same
 * ones over and over, up to 2^32 times, and the kernel looks at each. The counts are as if it had.
 */
export function xskqConsSkipSpoilt(q: XskQueue): void {
  q.invalidDescs += (q.cachedProd - q.cachedCons) >>> 0
  q.cachedCons = q.cachedProd
}

/** Models `xskq_cons_cancel_n`: not taken after all. */
export function xskqConsCancel(q: XskQueue, count: number): void {
  q.cachedCons = (q.cachedCons - count) | 0
}

/** Models `xskq_cons_present_entries`: by the shared words, which the user may have spoilt. */
export const xskqConsPresentEntries = (q: XskQueue): number => (q.i32[q.producerWord]! - q.i32[q.consumerWord]!) >>> 0

// The kernel produces: rx and completion rings.

/** Models `xskq_prod_nb_free`. @returns free entries, at most `max`. */
export function xskqProdNbFree(q: XskQueue, max: number): number {
  let free = (q.nentries - (q.cachedProd - q.cachedCons)) >>> 0
  if (free >= max) return max
  q.cachedCons = q.i32[q.consumerWord]!
  free = (q.nentries - (q.cachedProd - q.cachedCons)) >>> 0
  return Math.min(free, max)
}

/** Models `xskq_prod_reserve`. @returns false without room. */
export function xskqProdReserve(q: XskQueue): boolean {
  if (xskqProdNbFree(q, 1) === 0) return false
  q.cachedProd = (q.cachedProd + 1) | 0
  return true
}

/** Models `xskq_prod_cancel_n`. */
export function xskqProdCancel(q: XskQueue, count: number): void {
  q.cachedProd = (q.cachedProd - count) | 0
}

/** Models `xskq_prod_reserve_desc`: the next descriptor of an rx ring. @returns false without room. */
export function xskqProdReserveDesc(q: XskQueue, lo: number, hi: number, len: number, options: number): boolean {
  const at = q.cachedProd
  if ((q.nentries - (at - q.cachedCons)) >>> 0 === 0 && xskqProdNbFree(q, 1) === 0) return false
  const word = xskqDescWord(q, at)
  const { i32 } = q
  i32[word] = lo
  i32[word + 1] = hi
  i32[word + 2] = len
  i32[word + 3] = options
  q.cachedProd = (at + 1) | 0
  return true
}

/** Models `xskq_prod_submit`: what was reserved may be read. */
export function xskqProdSubmit(q: XskQueue): void {
  q.i32[q.producerWord] = q.cachedProd
}

/** Models `xskq_prod_write_addr`: into the completion ring, at the shared producer plus `ahead`. */
export function xskqProdWriteAddr(q: XskQueue, ahead: number, lo: number, hi: number): void {
  const word = xskqDescWord(q, q.i32[q.producerWord]! + ahead)
  q.i32[word] = lo
  q.i32[word + 1] = hi
}

/** Models `xskq_prod_submit_n`: the shared producer moves on from wherever it stands. */
export function xskqProdSubmitN(q: XskQueue, count: number): void {
  q.i32[q.producerWord] = (q.i32[q.producerWord]! + count) | 0
}

/** Models `xskq_prod_is_empty`: the user has read everything. */
export const xskqProdIsEmpty = (q: XskQueue): boolean => q.i32[q.consumerWord] === q.i32[q.producerWord]

// Cold path.

/** Models `xskq_create`. @returns null without memory. */
export function xskqCreate(
  mem: Memory,
  cpu: Cpu,
  nentries: number,
  umemQueue: boolean,
  block: boolean,
): XskQueue | null {
  const shift = umemQueue ? XSK_UMEM_DESC_SHIFT : XSK_RXTX_DESC_SHIFT
  const pages = ringMemoryAlloc(mem, cpu, xskqRingBytes(nentries, shift), block)
  return pages === null ? null : new XskQueue(mem, pages, nentries, shift)
}

/** Models `xskq_destroy`. Takes the queue; null is none. */
export function xskqDestroy(cpu: Cpu, q: XskQueue | null): void {
  if (q !== null) ringMemoryFree(q.mem, cpu, q.pages)
}
