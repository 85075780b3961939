/**
 * A classic ring driver, after Intel's gigabit drivers: an skb per receive buffer, mapped while the card has it.
 * A small frame is copied out so that its big buffer can go back at once (copybreak): `e1000e` unmaps first and maps
 * the same buffer again, `e1000` leaves it mapped and only syncs.
 */
import { type Cpu, type DmaAddr, ERRNO } from '@netmem/base'
import {
  type Device,
  DMA_FROM_DEVICE,
  type DmaHandle,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
} from '@netmem/dma'
import { CHECKSUM_UNNECESSARY, napiAllocSkb, type SkBuff, skbPut, skbPutPadto, skbSetHash } from '@netmem/skbuff'
import { netdevRegister } from '../dev-register.js'
import { ETH_HLEN, ethTypeTrans } from '../eth.js'
import { NETIF_F_HIGHDMA, NETIF_F_HW_CSUM, NETIF_F_RXCSUM, NETIF_F_SG, NETIF_F_TSO } from '../features.js'
import { groFreeHeld, napiGroReceive } from '../gro.js'
import { txRingHolders } from '../holders.js'
import {
  DESC_BYTES,
  DESC_WORDS,
  HW_MISSED,
  hwRingSetup,
  NicHw,
  type NicHwParams,
  RXD_DD,
  RXD_EOP,
  RXD_ERROR,
  RXD_L4_HASH,
  RXD_L4_OK,
  RXD_VLAN,
} from '../hw/nic-hw.js'
import { napiCompleteDone, napiDisable, napiEnable, netifNapiAdd, netifNapiDel } from '../napi.js'
import { type NapiStruct, napiSchedule } from '../napi-struct.js'
import {
  NETDEV_TX_OK,
  type NetDevice,
  type NetDeviceOps,
  RX_BYTES,
  RX_ERRORS,
  RX_LENGTH_ERRORS,
  RX_MISSED_ERRORS,
  RX_PACKETS,
} from '../net-device.js'
import type { NetDevs } from '../net-devs.js'
import { irqEnter, irqExit } from '../softirq.js'
import {
  auditDmaRing,
  dmaRingUnused,
  NetdevDmaRing,
  NOT_MAPPED,
  netdevAllocDmaRing,
  netdevCleanRxDmaBuffers,
  netdevFreeDmaRing,
  netdevRefillRxDmaBuffers,
  netdevSetupRxDmaBuffers,
  unmapSlot,
} from './dma-ring.js'
import { auditTxRing, nicCleanTx, nicDropTx, nicStartXmit, TxRing } from './nic-tx.js'

/** Models `E1000_RX_BUFFER_WRITE`: buffers refilled at once. */
const RX_BUFFER_WRITE = 16
/** How long a ring without a single buffer waits before it asks for memory again. */
const RX_RETRY_NS = 1_000_000

/** The driver's private state. One queue. */
export class RingNic {
  readonly rx: NetdevDmaRing
  tx!: TxRing
  napi!: NapiStruct
  txDesc = 0
  txDescDma = 0
  /** A frame of several buffers is being thrown away. */
  discarding = false
  retryTimer = 0
  retryHandler = 0

  constructor(
    readonly env: NetDevs,
    readonly hw: NicHw,
    rxRing: number,
    bufBytes: number,
    readonly copybreak: number,
    readonly keepMapped: boolean,
    readonly minXmitBytes: number,
  ) {
    this.rx = new NetdevDmaRing(env, hw.device, rxRing, bufBytes)
  }
}

export interface RingNicParams extends Omit<NicHwParams, 'device' | 'queues'> {
  readonly name: string
  readonly ns?: number
  readonly device: Device
  readonly rxRing?: number
  readonly txRing?: number
  /** Bytes the card may write: header, VLAN tag, payload and checksum; 1522 for an MTU of 1500. */
  readonly bufBytes?: number
  /** Frames shorter than this are copied out; 256 in the kernel, 0 for never. */
  readonly copybreak?: number
  /** A buffer that was copied from stays mapped (`e1000`); else it is unmapped and mapped again (`e1000e`). */
  readonly keepMapped?: boolean
  /** Shorter frames are filled up with zeros before the card has them; 0 leaves that to the card. */
  readonly minXmitBytes?: number
  readonly rxUsecs?: number
  readonly rxFrames?: number
}

/** Makes a card with this driver. @returns the device, down; its `priv` is a `RingNic`. Or -errno. */
export function ringNicCreate(env: NetDevs, p: RingNicParams): NetDevice | number {
  const hw = new NicHw(env, { ...p, queues: 1 })
  const nic = new RingNic(
    env,
    hw,
    p.rxRing ?? 256,
    p.bufBytes ?? 1522,
    p.copybreak ?? 256,
    p.keepMapped ?? false,
    p.minXmitBytes ?? 0,
  )
  const dev = netdevRegister(env, {
    name: p.name,
    ...(p.ns === undefined ? {} : { ns: p.ns }),
    ops: ringNicOps,
    setup: (d) => {
      d.priv = nic
      d.maxMtu = nic.rx.bufBytes - ETH_HLEN - 8
      d.hwFeatures = NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO | NETIF_F_RXCSUM
      d.features = d.hwFeatures | NETIF_F_HIGHDMA
    },
  })
  if (typeof dev === 'number') return dev
  const hwq = hw.queues[0]!
  hwq.rxUsecs = p.rxUsecs ?? 0
  hwq.rxFrames = p.rxFrames ?? 1
  nic.tx = new TxRing(hw, hwq, 0, p.txRing ?? 256, dev.txq[0]!)
  nic.napi = netifNapiAdd(env, dev, ringNicPoll)
  nic.napi.irqCpu = hwq.cpu
  nic.retryHandler = env.clock.register(() => {
    nic.retryTimer = 0
    if (!dev.running) return
    irqEnter(hwq.cpu)
    napiSchedule(hwq.cpu, nic.napi)
    irqExit(env, hwq.cpu)
  })
  hwq.handler = (cpu) => {
    napiSchedule(cpu, nic.napi)
  }
  dev.audit = () => {
    auditDmaRing(nic.rx, dev.name)
    auditTxRing(nic.tx, dev.name)
  }
  dev.holders = (visit) => txRingHolders(env, nic.tx, `${dev.name}: tx ring`, visit)
  return dev
}

// The poll.

function ringNicPoll(cpu: Cpu, napi: NapiStruct, budget: number): number {
  const dev = napi.dev!
  const nic = dev.priv as RingNic
  if (nic.tx.nextToClean !== nic.tx.nextToUse) nicCleanTx(cpu, nic.tx, budget, 'e1000_clean_tx_ring')
  const work = cleanRx(cpu, dev, nic, budget)
  if (work < budget && napiCompleteDone(cpu, napi, work)) nic.hw.unmask(0)
  return work
}

/** Models `e1000_clean_rx_irq`. @returns frames that were passed up or dropped. */
function cleanRx(cpu: Cpu, dev: NetDevice, nic: RingNic, budget: number): number {
  const { env } = nic
  const ring = nic.rx
  const i32 = env.mem.i32
  const base = ring.desc >>> 2
  let work = 0
  while (work < budget) {
    const slot = ring.nextToClean
    const d = base + slot * DESC_WORDS
    const status = i32[d + 3]!
    if ((status & RXD_DD) === 0) break
    const len = i32[d + 2]! & 0xffff
    i32[d + 3] = 0
    ring.nextToClean = (slot + 1) & (ring.count - 1)
    const skb = takeFrame(cpu, dev, nic, slot, len, status)
    if (skb !== null) {
      dev.stats[RX_PACKETS]!++
      dev.stats[RX_BYTES]! += len
      passUp(cpu, dev, nic, skb, i32[d]!, i32[d + 2]! >>> 16, status)
    }
    if ((status & RXD_EOP) !== 0) work++
    if (dmaRingUnused(ring) >= RX_BUFFER_WRITE) refill(cpu, dev, nic)
  }
  if (dmaRingUnused(ring) > 0) refill(cpu, dev, nic)
  return work
}

/** Takes the frame out of a slot. @returns null when it was dropped; the slot's buffer then stays for the next refill. */
function takeFrame(cpu: Cpu, dev: NetDevice, nic: RingNic, slot: number, len: number, status: number): SkBuff | null {
  const { env } = nic
  const ring = nic.rx
  const skb = env.skbs.skbs[ring.skb[slot]!]!
  const small = len < nic.copybreak
  const keep = small && nic.keepMapped
  const dma = ring.dma[slot]! as DmaAddr
  if (keep) dmaSyncSingleForCpu(cpu, nic.hw.device, dma, len, DMA_FROM_DEVICE, 'e1000_copybreak')
  else unmapSlot(cpu, ring, slot)
  // A frame that took several buffers is too long for this card's settings: it is dropped whole.
  const whole = (status & RXD_EOP) !== 0 && !nic.discarding
  if (!whole || (status & RXD_ERROR) !== 0 || len < ETH_HLEN) {
    nic.discarding = (status & RXD_EOP) === 0
    if (!nic.discarding) dev.stats[(status & RXD_ERROR) !== 0 ? RX_ERRORS : RX_LENGTH_ERRORS]!++
    return null
  }
  if (small) {
    const copy = napiAllocSkb(env.skbs, cpu, dev.id, len)
    if (copy !== null) {
      const from = skb.data >>> 0
      env.mem.u8.copyWithin(skbPut(copy, len) >>> 0, from, from + len)
      if (keep) dmaSyncSingleForDevice(cpu, nic.hw.device, dma, len, DMA_FROM_DEVICE, 'e1000_copybreak')
      return copy
    }
    if (keep) unmapSlot(cpu, ring, slot)
  }
  ring.skb[slot] = 0
  ring.dma[slot] = NOT_MAPPED
  skbPut(skb, len)
  skb.dev = dev.id
  return skb
}

function passUp(cpu: Cpu, dev: NetDevice, nic: RingNic, skb: SkBuff, hash: number, vlan: number, status: number): void {
  ethTypeTrans(skb, dev)
  if (hash !== 0 && nic.hw.rss !== null) skbSetHash(skb, hash, (status & RXD_L4_HASH) !== 0)
  if ((dev.features & NETIF_F_RXCSUM) !== 0 && (status & RXD_L4_OK) !== 0) {
    skb.ipSummed = CHECKSUM_UNNECESSARY
    skb.csumLevel = 0
  }
  if ((status & RXD_VLAN) !== 0) {
    skb.vlanTci = vlan
    skb.vlanProto = 0x8100
  }
  napiGroReceive(cpu, nic.napi, skb)
}

function refill(cpu: Cpu, dev: NetDevice, nic: RingNic): void {
  const ring = nic.rx
  netdevRefillRxDmaBuffers(cpu, ring, dev.id)
  nic.hw.queues[0]!.rx.tail = ring.nextToUse
  if (ring.nextToUse === ring.nextToClean && nic.retryTimer === 0)
    nic.retryTimer = nic.env.clock.schedule(nic.env.clock.nowNs + RX_RETRY_NS, nic.retryHandler, 0, 0)
}

// Up and down.

function ringNicOpen(dev: NetDevice, cpu: Cpu): number {
  const nic = dev.priv as RingNic
  const rc = openRings(dev, nic, cpu)
  if (rc !== 0) {
    closeRings(nic, cpu)
    return rc
  }
  const hwq = nic.hw.queues[0]!
  hwRingSetup(hwq.rx, nic.rx.desc, nic.rx.count, nic.rx.bufBytes)
  hwq.rx.tail = nic.rx.nextToUse
  hwRingSetup(hwq.tx, nic.txDesc as never, nic.tx.count, 0)
  nic.hw.refreshPath()
  napiEnable(nic.napi)
  nic.hw.unmask(0)
  return 0
}

function openRings(dev: NetDevice, nic: RingNic, cpu: Cpu): number {
  nic.rx.dma.fill(NOT_MAPPED)
  let rc = netdevAllocDmaRing(cpu, nic.rx)
  if (rc !== 0) return rc
  const handle: DmaHandle = { dma: 0 as DmaAddr }
  const gfp = nic.env.mem.gfp.GFP_KERNEL
  nic.txDesc = dmaAllocCoherent(cpu, nic.hw.device, nic.tx.count * DESC_BYTES, handle, gfp, 'e1000_open')
  nic.txDescDma = handle.dma
  if (nic.txDesc === 0) return -ERRNO.ENOMEM
  rc = netdevSetupRxDmaBuffers(cpu, nic.rx, dev.id)
  return rc
}

function closeRings(nic: RingNic, cpu: Cpu): void {
  netdevCleanRxDmaBuffers(cpu, nic.rx)
  netdevFreeDmaRing(cpu, nic.rx)
  if (nic.txDesc !== 0)
    dmaFreeCoherent(
      cpu,
      nic.hw.device,
      nic.tx.count * DESC_BYTES,
      nic.txDesc as never,
      nic.txDescDma as never,
      'e1000_close',
    )
  nic.txDesc = 0
}

function ringNicStop(dev: NetDevice, cpu: Cpu): void {
  const nic = dev.priv as RingNic
  const hwq = nic.hw.queues[0]!
  nic.hw.mask(0)
  if (nic.retryTimer !== 0) nic.env.clock.cancel(nic.retryTimer)
  nic.retryTimer = 0
  napiDisable(nic.napi)
  groFreeHeld(cpu, nic.napi)
  hwq.rx.enabled = false
  hwq.rx.tail = hwq.rx.head
  nicDropTx(cpu, nic.tx, 'e1000_close')
  hwq.tx.enabled = false
  closeRings(nic, cpu)
}

// Models the start of `e1000_xmit_frame`: a frame that cannot be filled up is freed, which counts as sent.
function ringNicXmit(cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
  const nic = dev.priv as RingNic
  if (skb.len < nic.minXmitBytes && skbPutPadto(cpu, skb, nic.minXmitBytes) !== 0) return NETDEV_TX_OK
  return nicStartXmit(cpu, skb, dev, nic.tx, 'e1000_xmit_frame')
}

const ringNicOps: NetDeviceOps = {
  open: ringNicOpen,
  stop: ringNicStop,
  startXmit: ringNicXmit,
  getStats64: (dev, out) => {
    out[RX_MISSED_ERRORS]! += (dev.priv as RingNic).hw.queues[0]!.stats[HW_MISSED]!
  },
  uninit: (dev, cpu) => netifNapiDel(cpu, (dev.priv as RingNic).napi, groFreeHeld),
}
