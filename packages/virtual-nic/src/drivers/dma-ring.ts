/**
 * The ring helpers of a classic driver: descriptors in coherent memory, one skb per receive buffer, mapped for as
 * long as the card may write to it. The names are those of the article that the model was asked to replay; the kernel
 * has no such functions, and what the article's code forgot (error paths, mapping checks, unmapping) is done here.
 *
 * Law: slot i holds a buffer exactly when `skb[i] !== 0`, and then `dma[i]` is a live mapping of `bufBytes` bytes.
 * One slot always stays empty, so that a full ring and an empty one differ.
 */
import { type Addr, type Cpu, type DmaAddr, ERRNO, NULL } from '@netmem/base'
import {
  type Device,
  DMA_FROM_DEVICE,
  type DmaHandle,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMappingError,
  dmaMapSingle,
  dmaUnmapSingle,
} from '@netmem/dma'
import { kfreeSkb, netdevAllocSkbIpAlign } from '@netmem/skbuff'
import { DESC_BYTES, DESC_WORDS } from '../hw/nic-hw.js'
import type { NetDevs } from '../net-devs.js'

/** Models `struct netdev_dma_ring`: a receive ring as its driver knows it. */
export class NetdevDmaRing {
  /** Descriptor memory: the CPU's address and the device's; `NULL` before and after. */
  desc: Addr = NULL
  descDma = 0 as DmaAddr
  /** The next slot to fill, and the next one to look at. */
  nextToUse = 0
  nextToClean = 0
  /** By slot: id of the skb, 0 none; and where the card writes. */
  readonly skb: Int32Array
  readonly dma: Float64Array
  /** Refills that found no memory, and mappings that failed. */
  allocFailed = 0
  mapFailed = 0

  /** @throws RangeError unless `count` is a power of two from 8 on. */
  constructor(
    readonly env: NetDevs,
    readonly device: Device,
    readonly count: number,
    /** Bytes that the card may write to one buffer. */
    readonly bufBytes: number,
  ) {
    if (count < 8 || (count & (count - 1)) !== 0) throw new RangeError(`a ring of ${count}: a power of two from 8 on`)
    this.skb = new Int32Array(count)
    this.dma = new Float64Array(count)
  }
}

/** Slots that may be filled. */
export const dmaRingUnused = (ring: NetdevDmaRing): number =>
  (ring.nextToClean > ring.nextToUse ? 0 : ring.count) + ring.nextToClean - ring.nextToUse - 1

/**
 * Models `netdev_alloc_dma_ring`: zeroed descriptor memory that CPU and card share.
 *
 * @returns 0, or `-ENOMEM` with nothing taken.
 */
export function netdevAllocDmaRing(cpu: Cpu, ring: NetdevDmaRing): number {
  const handle: DmaHandle = { dma: 0 as DmaAddr }
  const gfp = ring.env.mem.gfp.GFP_KERNEL
  const desc = dmaAllocCoherent(cpu, ring.device, ring.count * DESC_BYTES, handle, gfp, 'netdev_alloc_dma_ring')
  if (desc === NULL) return -ERRNO.ENOMEM
  ring.desc = desc
  ring.descDma = handle.dma
  ring.nextToUse = 0
  ring.nextToClean = 0
  return 0
}

/** Gives the descriptor memory back. The buffers must be gone. */
export function netdevFreeDmaRing(cpu: Cpu, ring: NetdevDmaRing): void {
  if (ring.desc === NULL) return
  dmaFreeCoherent(cpu, ring.device, ring.count * DESC_BYTES, ring.desc, ring.descDma, 'netdev_alloc_dma_ring')
  ring.desc = NULL
}

/**
 * Models `netdev_setup_rx_dma_buffers`: fills the whole ring.
 *
 * @param dev id of the net device, 0 for none yet.
 * @returns 0, or `-ENOMEM` with every buffer given back.
 */
export function netdevSetupRxDmaBuffers(cpu: Cpu, ring: NetdevDmaRing, dev = 0): number {
  while (dmaRingUnused(ring) > 0) {
    const rc = postBuffer(cpu, ring, dev)
    if (rc === 0) continue
    netdevCleanRxDmaBuffers(cpu, ring)
    return rc
  }
  return 0
}

/** Models `netdev_clean_rx_dma_buffers`: unmaps and frees every buffer. The card must be stopped. */
export function netdevCleanRxDmaBuffers(cpu: Cpu, ring: NetdevDmaRing): void {
  for (let slot = 0; slot < ring.count; slot++) {
    if (ring.skb[slot] === 0) continue
    const skb = ring.env.skbs.skbs[ring.skb[slot]!]!
    unmapSlot(cpu, ring, slot)
    ring.skb[slot] = 0
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'netdev_clean_rx_dma_buffers')
  }
  ring.nextToUse = 0
  ring.nextToClean = 0
}

/** Refills what may be refilled. @returns how many buffers were posted; fewer when memory or mappings ran out. */
export function netdevRefillRxDmaBuffers(cpu: Cpu, ring: NetdevDmaRing, dev: number): number {
  let posted = 0
  while (dmaRingUnused(ring) > 0 && postBuffer(cpu, ring, dev) === 0) posted++
  return posted
}

/** One buffer into the next slot: the skb that waits there, or a new one. @returns 0 or `-ENOMEM`. */
function postBuffer(cpu: Cpu, ring: NetdevDmaRing, dev: number): number {
  const { env } = ring
  const slot = ring.nextToUse
  const kept = ring.skb[slot]!
  const skb = kept !== 0 ? env.skbs.skbs[kept]! : netdevAllocSkbIpAlign(env.skbs, cpu, dev, ring.bufBytes)
  if (skb === null) {
    ring.allocFailed++
    return -ERRNO.ENOMEM
  }
  if (kept === 0 || ring.dma[slot]! < 0) {
    const dma = dmaMapSingle(cpu, ring.device, skb.data, ring.bufBytes, DMA_FROM_DEVICE, 'netdev_setup_rx_dma_buffers')
    if (dmaMappingError(ring.device, dma) !== 0) {
      ring.mapFailed++
      ring.skb[slot] = 0
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'netdev_setup_rx_dma_buffers')
      return -ERRNO.ENOMEM
    }
    ring.dma[slot] = dma
  }
  ring.skb[slot] = skb.id
  const d = (ring.desc >>> 2) + slot * DESC_WORDS
  const i32 = env.mem.i32
  const dma = ring.dma[slot]!
  i32[d] = dma | 0
  i32[d + 1] = dma < 4294967296 ? 0 : Math.floor(dma / 4294967296)
  i32[d + 2] = 0
  i32[d + 3] = 0
  ring.nextToUse = (slot + 1) & (ring.count - 1)
  return 0
}

/** Ends a slot's mapping; the buffer stays. A kept buffer must be mapped again before the card may have it. */
export function unmapSlot(cpu: Cpu, ring: NetdevDmaRing, slot: number): void {
  if (ring.dma[slot]! < 0) return
  dmaUnmapSingle(
    cpu,
    ring.device,
    ring.dma[slot]! as DmaAddr,
    ring.bufBytes,
    DMA_FROM_DEVICE,
    'netdev_clean_rx_dma_buffers',
  )
  ring.dma[slot] = NOT_MAPPED
}

/** In `NetdevDmaRing.dma`: the slot's buffer is not mapped now. */
export const NOT_MAPPED = -1

/** @throws Error when slots and positions disagree. */
export function auditDmaRing(ring: NetdevDmaRing, name: string): void {
  let held = 0
  for (let slot = 0; slot < ring.count; slot++) {
    if (ring.skb[slot] === 0) continue
    held++
    const skb = ring.env.skbs.skbs[ring.skb[slot]!]!
    if (skb.users !== 1) throw new Error(`${name}: the buffer of slot ${slot} has ${skb.users} holders`)
  }
  const posted = (ring.nextToUse - ring.nextToClean) & (ring.count - 1)
  if (ring.desc !== NULL && held < posted) throw new Error(`${name}: ${posted} slots posted, ${held} buffers held`)
}
