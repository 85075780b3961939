/**
 * The transmit half that the ring drivers share: an skb becomes descriptors, the card reads them, completion
 * unmaps and frees. The queue stops while a packet of the most fragments might not fit.
 *
 * Law: descriptors in use = Σ over packets in flight of (1 + fragments); each holds exactly one mapping.
 */
import type { Cpu, DmaAddr } from '@netmem/base'
import { DMA_TO_DEVICE, dmaMapPhys, dmaMappingError, dmaUnmapPhys } from '@netmem/dma'
import {
  CHECKSUM_PARTIAL,
  devConsumeSkbAny,
  fragLen,
  fragOff,
  fragPfn,
  gsoSize,
  kfreeSkb,
  napiConsumeSkb,
  nrFrags,
  SHINFO_FRAG_WORDS,
  SHINFO_FRAGS_WORD,
  SKB_VLAN_PRESENT,
  type SkBuff,
  skbHeadlen,
} from '@netmem/skbuff'
import { DESC_WORDS, type HwQueue, type NicHw, TXD_CSUM, TXD_DD, TXD_EOP, TXD_TSO, TXD_VLAN } from '../hw/nic-hw.js'
import { NETDEV_TX_BUSY, NETDEV_TX_OK, type NetDevice, TX_BYTES, TX_DROPPED, TX_PACKETS } from '../net-device.js'
import {
  type NetdevQueue,
  netdevTxCompletedQueue,
  netdevTxSentQueue,
  netifTxQueueStopped,
  netifTxStopQueue,
  netifTxWakeQueue,
} from '../netdev-queue.js'
import { SHINFO_NR_FRAGS_BYTE, xdpFrameHardEnd } from '../xdp-frags.js'
import type { XdpFrame } from '../xdp-frame.js'
import { xdpReturn } from '../xdp-redirect.js'

/** In `TxRing.skb`: an XDP frame, not a packet. */
const TX_XDP_FRAME = -1
/** In `TxRing.skb`: a chunk of an AF_XDP area, which somebody else has mapped. */
const TX_XSK = -2

/** The driver's view of one transmit ring. */
export class TxRing {
  nextToUse = 0
  nextToClean = 0
  /** By descriptor: id of the packet whose last descriptor it is, `TX_XDP_FRAME` for a frame, 0 else. */
  readonly skb: Int32Array
  /** The frame, where `skb` says so. */
  readonly frames: (XdpFrame | null)[] = []
  readonly dma: Float64Array
  readonly bytes: Int32Array
  /** Bytes that BQL was told of, on a packet's last descriptor. */
  readonly wireBytes: Int32Array
  restarts = 0
  /** AF_XDP chunks that the card is done with, since somebody last asked. */
  xskDone = 0

  constructor(
    readonly hw: NicHw,
    readonly q: HwQueue,
    readonly index: number,
    readonly count: number,
    readonly txq: NetdevQueue,
  ) {
    this.skb = new Int32Array(count)
    this.dma = new Float64Array(count)
    this.bytes = new Int32Array(count)
    this.wireBytes = new Int32Array(count)
  }
}

/** Descriptors that may still be used; one always stays empty so that full and empty differ. */
export const txUnused = (ring: TxRing): number =>
  (ring.nextToClean > ring.nextToUse ? 0 : ring.count) + ring.nextToClean - ring.nextToUse - 1

/** Stop below this many: room for the linear part, every fragment, and one to spare. */
const stopBelow = (ring: TxRing): number => ring.hw.env.skbs.sizes.maxFrags + 2

/** Models a driver's `ndo_start_xmit`. Takes the skb unless it answers `NETDEV_TX_BUSY`. */
export function nicStartXmit(cpu: Cpu, skb: SkBuff, dev: NetDevice, ring: TxRing, site: string): number {
  const frags = nrFrags(skb)
  if (txUnused(ring) < frags + 1) {
    netifTxStopQueue(ring.txq)
    return NETDEV_TX_BUSY
  }
  const { device, env } = ring.hw
  const i32 = env.mem.i32
  const first = ring.nextToUse
  let at = first
  let done = 0
  // Fragments by index, with -1 for the linear part, which comes first.
  for (let i = -1; i < frags; i++) {
    const bytes = i < 0 ? skbHeadlen(skb) : fragLen(skb, i)
    const phys = i < 0 ? skb.data >>> 0 : fragPfn(skb, i) * env.profile.page_size + fragOff(skb, i)
    const dma = dmaMapPhys(cpu, device, phys, bytes, DMA_TO_DEVICE, 0, site)
    if (dmaMappingError(device, dma) !== 0) {
      txUnmapRange(cpu, ring, first, done, site)
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', site)
      dev.stats[TX_DROPPED]!++
      return NETDEV_TX_OK
    }
    ring.dma[at] = dma
    ring.bytes[at] = bytes
    ring.skb[at] = 0
    const d = ring.q.tx.base + at * DESC_WORDS
    i32[d] = dma | 0
    i32[d + 1] = Math.floor(dma / 4294967296)
    i32[d + 2] = bytes
    i32[d + 3] = i + 1 === frags ? TXD_EOP : 0
    done++
    at = (at + 1) & (ring.count - 1)
  }
  const last = (at + ring.count - 1) & (ring.count - 1)
  ring.skb[last] = skb.id
  ring.wireBytes[last] = skb.len
  offloadBits(i32, ring.q.tx.base + first * DESC_WORDS, skb)
  ring.nextToUse = at
  dev.stats[TX_PACKETS]!++
  dev.stats[TX_BYTES]! += skb.len
  netdevTxSentQueue(ring.txq, skb.len)
  if (txUnused(ring) < stopBelow(ring)) netifTxStopQueue(ring.txq)
  // Everything above is visible to the card before it is told: the kernel's write barrier.
  ring.hw.doorbell(ring.index, at)
  return NETDEV_TX_OK
}

function offloadBits(i32: Int32Array, d: number, skb: SkBuff): void {
  let command = i32[d + 3]!
  if (skb.ipSummed === CHECKSUM_PARTIAL) {
    const start = (skb.head + skb.csumStart - skb.data) | 0
    command |= TXD_CSUM
    i32[d + 2] = i32[d + 2]! | (start << 16) | (skb.csumOffset << 26)
    const mss = gsoSize(skb)
    if (mss !== 0) {
      command |= TXD_TSO
      i32[d + 1] = i32[d + 1]! | (mss << 16)
    }
  }
  if ((skb.flags & SKB_VLAN_PRESENT) !== 0) command |= TXD_VLAN | (skb.vlanTci << 16)
  i32[d + 3] = command
}

/** Puts one XDP frame into the ring without ringing the doorbell. @returns false, with nothing taken, when it does not fit. */
export function nicXmitFrame(cpu: Cpu, ring: TxRing, frame: XdpFrame, site: string): boolean {
  const { device, env } = ring.hw
  const i32 = env.mem.i32
  const end = xdpFrameHardEnd(frame, env.xdpFrameBytes, env.skbs.sizes.sharedInfoBytes)
  const frags = frame.hasFrags ? env.mem.u8[end + SHINFO_NR_FRAGS_BYTE]! : 0
  if (txUnused(ring) < frags + 1) return false
  const first = ring.nextToUse
  let at = first
  for (let i = -1; i < frags; i++) {
    const w = (end >>> 2) + SHINFO_FRAGS_WORD + i * SHINFO_FRAG_WORDS
    const bytes = i < 0 ? frame.len : i32[w + 2]!
    const phys = i < 0 ? frame.data >>> 0 : i32[w]! * env.profile.page_size + i32[w + 3]!
    const dma = dmaMapPhys(cpu, device, phys, bytes, DMA_TO_DEVICE, 0, site)
    if (dmaMappingError(device, dma) !== 0) {
      txUnmapRange(cpu, ring, first, i + 1, site)
      return false
    }
    ring.dma[at] = dma
    ring.bytes[at] = bytes
    ring.skb[at] = 0
    const d = ring.q.tx.base + at * DESC_WORDS
    i32[d] = dma | 0
    i32[d + 1] = Math.floor(dma / 4294967296)
    i32[d + 2] = bytes
    i32[d + 3] = i + 1 === frags ? TXD_EOP : 0
    at = (at + 1) & (ring.count - 1)
  }
  const last = (at + ring.count - 1) & (ring.count - 1)
  ring.skb[last] = TX_XDP_FRAME
  ring.frames[last] = frame
  ring.nextToUse = at
  return true
}

/**
 * Puts one AF_XDP descriptor into the ring without ringing the doorbell. The caller has seen to it that there is room.
 *
 * @param more the packet goes on in the next one.
 */
export function nicXmitXsk(ring: TxRing, dma: number, bytes: number, more: boolean): void {
  const { i32 } = ring.hw.env.mem
  const at = ring.nextToUse
  const d = ring.q.tx.base + at * DESC_WORDS
  ring.skb[at] = TX_XSK
  ring.bytes[at] = bytes
  i32[d] = dma | 0
  i32[d + 1] = Math.floor(dma / 4294967296)
  i32[d + 2] = bytes
  i32[d + 3] = more ? 0 : TXD_EOP
  ring.nextToUse = (at + 1) & (ring.count - 1)
}

/** Models a driver's transmit completion in its poll. @param budget as for `napi_consume_skb`. @returns packets. */
export function nicCleanTx(cpu: Cpu, ring: TxRing, budget: number, site: string): number {
  const { env } = ring.hw
  const i32 = env.mem.i32
  let packets = 0
  let bytes = 0
  let at = ring.nextToClean
  while (at !== ring.nextToUse) {
    // Look at the packet's last descriptor: the card marks them in order.
    let last = at
    while (ring.skb[last] === 0) last = (last + 1) & (ring.count - 1)
    if ((i32[ring.q.tx.base + last * DESC_WORDS + 3]! & TXD_DD) === 0) break
    const count = ((last - at) & (ring.count - 1)) + 1
    const id = ring.skb[last]!
    ring.skb[last] = 0
    if (id === TX_XSK) {
      ring.bytes[last] = 0
      ring.xskDone++
      at = (last + 1) & (ring.count - 1)
      continue
    }
    txUnmapRange(cpu, ring, at, count, site)
    at = (last + 1) & (ring.count - 1)
    if (id === TX_XDP_FRAME) {
      xdpReturn(env, cpu, ring.frames[last]!, budget !== 0)
      ring.frames[last] = null
      continue
    }
    const skb = env.skbs.skbs[id]!
    bytes += ring.wireBytes[last]!
    packets++
    if (budget === 0) devConsumeSkbAny(cpu, skb)
    else napiConsumeSkb(cpu, skb, budget)
  }
  ring.nextToClean = at
  if (packets !== 0) netdevTxCompletedQueue(cpu, ring.txq, packets, bytes)
  else if (ring.xskDone === 0) return 0
  // Waking needs more room than stopping did, so that the queue does not flap.
  if (netifTxQueueStopped(ring.txq) && txUnused(ring) >= 2 * stopBelow(ring)) {
    ring.restarts++
    netifTxWakeQueue(cpu, ring.txq)
  }
  return packets
}

function txUnmapRange(cpu: Cpu, ring: TxRing, from: number, count: number, site: string): void {
  for (let i = 0; i < count; i++) {
    const at = (from + i) & (ring.count - 1)
    dmaUnmapPhys(cpu, ring.hw.device, ring.dma[at]! as DmaAddr, ring.bytes[at]!, DMA_TO_DEVICE, 0, site)
    ring.bytes[at] = 0
  }
}

/** The device goes down: packets that the card had not finished are dropped. */
export function nicDropTx(cpu: Cpu, ring: TxRing, site: string): void {
  nicCleanTx(cpu, ring, 0, site)
  for (let at = ring.nextToClean; at !== ring.nextToUse; at = (at + 1) & (ring.count - 1)) {
    const id = ring.skb[at]!
    if (id === TX_XSK) {
      ring.bytes[at] = 0
      ring.xskDone++
    } else txUnmapRange(cpu, ring, at, 1, site)
    if (id === TX_XDP_FRAME) xdpReturn(ring.hw.env, cpu, ring.frames[at]!, false)
    else if (id > 0) kfreeSkb(cpu, ring.hw.env.skbs.skbs[id]!, 'NOT_SPECIFIED', site)
    ring.skb[at] = 0
  }
  ring.nextToUse = 0
  ring.nextToClean = 0
}

/** @throws Error when descriptors, mappings and packets in flight disagree. */
export function auditTxRing(ring: TxRing, name: string): void {
  for (let at = 0; at < ring.count; at++) {
    const used = ((at - ring.nextToClean) & (ring.count - 1)) < ((ring.nextToUse - ring.nextToClean) & (ring.count - 1))
    if (used !== ring.bytes[at]! > 0)
      throw new Error(`${name}: transmit descriptor ${at} is used ${used}, mapped ${!used}`)
    if (!used && ring.skb[at] !== 0) throw new Error(`${name}: transmit descriptor ${at} keeps skb ${ring.skb[at]}`)
  }
}
