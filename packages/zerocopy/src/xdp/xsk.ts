/**
 * The user's side of AF_XDP rings: a program's own few lines over shared memory, no system calls. The names are those
 * of libxdp (xdp/xsk.h) in this repository's casing; a ring is what `mmap` of the socket gave.
 *
 *     const n = xskRingConsPeek(rx, 64)                       how many packets there are
 *     for (let i = 0; i < n; i++) ... xskRingConsRxAddr(rx, rx.at + i), xskRingConsRxLen(rx, rx.at + i)
 *     xskRingConsRelease(rx, n)                               they are read
 *
 * Producers reserve, fill slots, and submit in the same manner. Indices run freely; only slots are masked.
 */
import type { Memory, UserBuffer } from '@netmem/memory'
import { XDP_RING_NEED_WAKEUP } from './uapi.js'
import {
  XSK_RING_CONSUMER,
  XSK_RING_DESC,
  XSK_RING_FLAGS,
  XSK_RING_PRODUCER,
  XSK_RXTX_DESC_SHIFT,
  XSK_UMEM_DESC_SHIFT,
} from './xsk-queue.js'

/** Which ring a mapping shows. */
export type XskRingKind = 'rx' | 'tx' | 'fill' | 'comp'

/** Models `struct xsk_ring_prod` and `struct xsk_ring_cons`: the user's view of one ring. */
export class XskRing {
  cachedProd = 0
  cachedCons = 0
  /** The first index of what `xskRingProdReserve` or `xskRingConsPeek` found last. */
  at = 0
  readonly i32: Int32Array
  readonly mask: number
  readonly descShift: number
  readonly producerWord: number
  readonly consumerWord: number
  readonly flagsWord: number
  /** The pages of the mapping. */
  readonly pfns: Int32Array

  /** @param entries as they were set with the ring's socket option. */
  constructor(
    readonly mem: Memory,
    buffer: UserBuffer,
    readonly kind: XskRingKind,
    readonly entries: number,
  ) {
    this.i32 = mem.i32
    this.pfns = buffer.pfns
    this.mask = entries - 1
    this.descShift = kind === 'rx' || kind === 'tx' ? XSK_RXTX_DESC_SHIFT : XSK_UMEM_DESC_SHIFT
    const first = buffer.pfns[0]! << 10
    this.producerWord = first + (XSK_RING_PRODUCER >> 2)
    this.consumerWord = first + (XSK_RING_CONSUMER >> 2)
    this.flagsWord = first + (XSK_RING_FLAGS >> 2)
    this.cachedProd = this.i32[this.producerWord]!
    // A producer keeps the consumer a ring ahead: their difference is then the room that there is.
    this.cachedCons = (this.i32[this.consumerWord]! + (kind === 'fill' || kind === 'tx' ? entries : 0)) | 0
  }
}

/** @returns the memory word of a slot. */
function slotWord(ring: XskRing, index: number): number {
  const byte = XSK_RING_DESC + ((index & ring.mask) << ring.descShift)
  return (ring.pfns[byte >>> 12]! << 10) | ((byte & 4095) >>> 2)
}

// Producing: fill and tx.

/** Models `xsk_prod_nb_free`. @returns free slots as far as was known, or after another look when those are not `wanted`. */
export function xskProdNbFree(ring: XskRing, wanted: number): number {
  const free = (ring.cachedCons - ring.cachedProd) | 0
  if (free >= wanted) return free
  ring.cachedCons = (ring.i32[ring.consumerWord]! + ring.entries) | 0
  return (ring.cachedCons - ring.cachedProd) | 0
}

/** Models `xsk_ring_prod__reserve`: all or nothing. @returns `count`, with the first index in `ring.at`, or 0. */
export function xskRingProdReserve(ring: XskRing, count: number): number {
  if (xskProdNbFree(ring, count) < count) return 0
  ring.at = ring.cachedProd
  ring.cachedProd = (ring.cachedProd + count) | 0
  return count
}

/** Models `*xsk_ring_prod__fill_addr`. @param addr bytes into the area; @param high its upper 32 bits. */
export function xskRingProdFillAddr(ring: XskRing, index: number, addr: number, high = 0): void {
  const word = slotWord(ring, index)
  ring.i32[word] = addr
  ring.i32[word + 1] = high
}

/** Models `*xsk_ring_prod__tx_desc`. */
export function xskRingProdTxDesc(
  ring: XskRing,
  index: number,
  addr: number,
  len: number,
  options = 0,
  high = 0,
): void {
  const word = slotWord(ring, index)
  const { i32 } = ring
  i32[word] = addr
  i32[word + 1] = high
  i32[word + 2] = len
  i32[word + 3] = options
}

/** Models `xsk_ring_prod__submit`: the kernel may take them. */
export function xskRingProdSubmit(ring: XskRing, count: number): void {
  ring.i32[ring.producerWord] = (ring.i32[ring.producerWord]! + count) | 0
}

/** Models `xsk_ring_prod__needs_wakeup`: the kernel sleeps until a system call. */
export const xskRingProdNeedsWakeup = (ring: XskRing): boolean =>
  (ring.i32[ring.flagsWord]! & XDP_RING_NEED_WAKEUP) !== 0

// Consuming: rx and completion.

/** Models `xsk_cons_nb_avail`. */
export function xskConsNbAvail(ring: XskRing, wanted: number): number {
  let entries = (ring.cachedProd - ring.cachedCons) | 0
  if (entries === 0) {
    ring.cachedProd = ring.i32[ring.producerWord]!
    entries = (ring.cachedProd - ring.cachedCons) | 0
  }
  return Math.min(entries, wanted)
}

/** Models `xsk_ring_cons__peek`. @returns entries, at most `max`, with the first index in `ring.at`. */
export function xskRingConsPeek(ring: XskRing, max: number): number {
  const entries = xskConsNbAvail(ring, max)
  if (entries > 0) {
    ring.at = ring.cachedCons
    ring.cachedCons = (ring.cachedCons + entries) | 0
  }
  return entries
}

/** Models `xsk_ring_cons__cancel`: the last `count` were not read after all. */
export function xskRingConsCancel(ring: XskRing, count: number): void {
  ring.cachedCons = (ring.cachedCons - count) | 0
}

/** Models `xsk_ring_cons__release`: their slots are the kernel's again. */
export function xskRingConsRelease(ring: XskRing, count: number): void {
  ring.i32[ring.consumerWord] = (ring.i32[ring.consumerWord]! + count) | 0
}

/** Models `xsk_ring_cons__rx_desc(...)->addr`: bytes into the area; of an unaligned one the chunk's. */
export const xskRingConsRxAddr = (ring: XskRing, index: number): number => ring.i32[slotWord(ring, index)]! >>> 0

/** The upper 32 bits of that address: in unaligned mode the offset in the chunk is in the upper half of them. */
export const xskRingConsRxAddrHigh = (ring: XskRing, index: number): number => ring.i32[slotWord(ring, index) + 1]!

/** Models `->len` and `->options`. */
export const xskRingConsRxLen = (ring: XskRing, index: number): number => ring.i32[slotWord(ring, index) + 2]!
export const xskRingConsRxOptions = (ring: XskRing, index: number): number => ring.i32[slotWord(ring, index) + 3]!

/** Models `*xsk_ring_cons__comp_addr`. */
export const xskRingConsCompAddr = (ring: XskRing, index: number): number => ring.i32[slotWord(ring, index)]! >>> 0
export const xskRingConsCompAddrHigh = (ring: XskRing, index: number): number => ring.i32[slotWord(ring, index) + 1]!

/** Models `xsk_umem__add_offset_to_addr`: where the frame of an unaligned address is. */
export const xskUmemAddOffsetToAddr = (addr: number, high: number): number => addr + (high >>> 16)
