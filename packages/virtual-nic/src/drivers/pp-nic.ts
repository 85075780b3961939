/**
 * A modern ring driver: receive buffers are page-pool pages, mapped once for as long as the pool has them, and
 * the skb is built around the page, so that a packet that has been read goes back to the ring without the page
 * allocator seeing it. XDP runs on the page before there is an skb.
 *
 * Law per receive ring: posted pages = Σ over slots with a page; the pool's lent pages = those + pages in skbs.
 */
import { type Addr, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import {
  type Device,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  dmaAllocCoherent,
  dmaDevNeedSync,
  dmaFreeCoherent,
  dmaSyncSingleForCpu,
} from '@netmem/dma'
import { pageIsPfmemalloc } from '@netmem/memory'
import {
  type HolderWalk,
  type PagePool,
  PP_FLAG_DMA_MAP,
  PP_FLAG_DMA_SYNC_DEV,
  pagePoolAllocPages,
  pagePoolCreate,
  pagePoolDestroy,
  pagePoolGetDmaAddr,
  pagePoolPutFullPage,
  pagePoolRecycleDirect,
} from '@netmem/page-pool'
import {
  buildSkbBody,
  CHECKSUM_UNNECESSARY,
  kfreeSkb,
  napiAllocSkb,
  napiBuildSkb,
  napiSkbCacheGet,
  SKB_HEAD_FRAG,
  SKB_PFMEMALLOC,
  SKB_PP_RECYCLE,
  type SkBuff,
  skbAddRxFrag,
  skbHolders,
  skbPut,
  skbSetHash,
} from '@netmem/skbuff'
import { netdevRegister } from '../dev-register.js'
import { ETH_HLEN, ethTypeTrans } from '../eth.js'
import {
  NETIF_F_HIGHDMA,
  NETIF_F_HW_CSUM,
  NETIF_F_HW_VLAN_CTAG_RX,
  NETIF_F_HW_VLAN_CTAG_TX,
  NETIF_F_RXCSUM,
  NETIF_F_RXHASH,
  NETIF_F_SG,
  NETIF_F_TSO,
  NETIF_F_TSO6,
} from '../features.js'
import { groFreeHeld, napiGroReceive } from '../gro.js'
import { txRingHolders } from '../holders.js'
import { Dim, NET_DIM_RX_PROFILES, netDim } from '../hw/dim.js'
import {
  DESC_BYTES,
  DESC_WORDS,
  HW_INTERRUPTS,
  HW_MISSED,
  type HwQueue,
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
  RX_DROPPED,
  RX_ERRORS,
  RX_MISSED_ERRORS,
  RX_PACKETS,
  TX_DROPPED,
} from '../net-device.js'
import type { NetDevs } from '../net-devs.js'
import { irqEnter, irqExit, localBhDisable, localBhEnable } from '../softirq.js'
import { XDP_PACKET_HEADROOM, type XdpProgram } from '../xdp.js'
import { XdpFragsInfo } from '../xdp-frags.js'
import type { XdpFrame } from '../xdp-frame.js'
import { auditTxRing, nicCleanTx, nicDropTx, nicStartXmit, TxRing } from './nic-tx.js'
import { ppNicDropPartialXdp, ppNicRxXdp, ppNicXdpFlush, ppNicXdpXmit } from './pp-nic-xdp.js'
import { ppNicXskClose, ppNicXskOpen, ppNicXskPoll, type XskQueueState } from './pp-nic-xsk.js'

/** What an skb on a pool page is born with. */
const RX_SKB_FLAGS = SKB_HEAD_FRAG | SKB_PP_RECYCLE
/** Receive buffers refilled at once: doorbells are dear. */
const RX_REFILL_BATCH = 16
/** A small ring refills earlier: a quarter of it at least. */
const refillBatch = (count: number): number => Math.min(RX_REFILL_BATCH, count >> 2)

/** One receive ring as the driver knows it. */
export class PpRxRing {
  nextToClean = 0
  nextToUse = 0
  /** By descriptor: the posted page, 0 none. */
  readonly pages: Int32Array
  pool: PagePool | null = null
  desc = 0 as Addr
  /** Bytes in front of the frame in its page. */
  headroom = 0
  /** A frame of several buffers that is not complete yet: id of its skb, 0 none; and whether it is to be dropped. */
  partial = 0
  partialBad = false
  fragCount = 0
  /** With a program there is no skb yet: the first page of such a frame, 0 none, its bytes, and whether more followed. */
  xdpPage = 0
  xdpLen = 0
  xdpFrags = false
  /** Models `alloc_rx_page_failed`: refills that found no page. */
  allocFailed = 0

  /** Buffers refilled at once. */
  readonly refillBatch: number

  constructor(readonly count: number) {
    this.pages = new Int32Array(count)
    this.refillBatch = refillBatch(count)
  }
}

/** A queue: its card half, rings and NAPI. */
export interface PpNicQueue {
  readonly hw: HwQueue
  readonly index: number
  /** Adaptive moderation, null when the settings are fixed. */
  readonly dim: Dim | null
  readonly rx: PpRxRing
  readonly tx: TxRing
  readonly napi: NapiStruct
  /** Buffers are an AF_XDP socket's: what that needs, null in everyday use. */
  xsk: XskQueueState | null
}

/** The driver's private state. */
export class PpNic {
  readonly queues: PpNicQueue[] = []
  prog: XdpProgram | null = null
  /** Descriptor memory, two blocks per queue: receive, transmit. */
  readonly descAddr: number[] = []
  readonly descDma: number[] = []
  readonly headerSplit: number
  /** What the card says of received frames; without RSS it has no hash to tell. */
  readonly rxFeatures: number
  /** This poll redirected frames, which leave at its end. */
  redirected = false
  readonly xdpOut: XdpFrame[] = []
  readonly fragsInfo = new XdpFragsInfo()
  retryTimer = 0
  retryHandler = 0

  constructor(
    readonly env: NetDevs,
    readonly hw: NicHw,
    headerSplit: number,
  ) {
    this.headerSplit = headerSplit
    this.rxFeatures = NETIF_F_RXCSUM | (hw.rss === null ? 0 : NETIF_F_RXHASH)
  }
}

export interface PpNicParams extends Omit<NicHwParams, 'device'> {
  readonly name: string
  readonly ns?: number
  readonly device: Device
  readonly rxRing?: number
  readonly txRing?: number
  /** Headers up to this many bytes are copied to a small linear part, the rest stays in the page; 0: linear. */
  readonly headerSplit?: number
  /** `rx-usecs` and `rx-frames`. */
  readonly rxUsecs?: number
  readonly rxFrames?: number
  /** Models ethtool's `adaptive-rx`: the two settings above then only begin it. */
  readonly adaptiveRx?: boolean
  /** Capabilities that are on at first, besides scatter-gather. */
  readonly features?: number
}

/**
 * Makes a card with this driver.
 *
 * @returns the device, down; its `priv` is a `PpNic`. Or -errno.
 */
export function ppNicCreate(env: NetDevs, p: PpNicParams): NetDevice | number {
  const hw = new NicHw(env, p)
  const queues = hw.queues.length
  const nic = new PpNic(env, hw, p.headerSplit ?? 0)
  const dev = netdevRegister(env, {
    name: p.name,
    ...(p.ns === undefined ? {} : { ns: p.ns }),
    ops: ppNicOps,
    txQueues: queues,
    rxQueues: queues,
    setup: (d) => {
      d.priv = nic
      d.maxMtu = hw.maxFrameBytes - ETH_HLEN - 4
      const can = NETIF_F_HW_CSUM | NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_RXCSUM | NETIF_F_RXHASH
      d.hwFeatures = NETIF_F_SG | can | (hw.vlanStrip ? NETIF_F_HW_VLAN_CTAG_RX : 0) | NETIF_F_HW_VLAN_CTAG_TX
      d.features = NETIF_F_SG | NETIF_F_HIGHDMA | (p.features ?? can)
    },
  })
  if (typeof dev === 'number') return dev
  nic.retryHandler = env.clock.register(() => refillRetry(dev))
  for (let i = 0; i < queues; i++) {
    const hwq = hw.queues[i]!
    hwq.rxUsecs = p.rxUsecs ?? 0
    hwq.rxFrames = p.rxFrames ?? 1
    const napi = netifNapiAdd(env, dev, ppNicPoll)
    napi.priv = null
    const tx = new TxRing(hw, hwq, i, p.txRing ?? 256, dev.txq[i]!)
    const dim = p.adaptiveRx === true ? new Dim() : null
    const queue: PpNicQueue = { hw: hwq, index: i, dim, rx: new PpRxRing(p.rxRing ?? 512), tx, napi, xsk: null }
    napi.priv = queue
    napi.irqCpu = hwq.cpu
    hwq.handler = (c, q) => {
      napiSchedule(c, nic.queues[q]!.napi)
    }
    nic.queues.push(queue)
  }
  dev.audit = () => auditPpNic(dev, nic)
  dev.holders = (visit) => ppNicHolders(dev, nic, visit)
  return dev
}

// Hot path: the poll.

/**
 * Models a driver's poll function: completes transmits, takes up to `budget` frames, posts new buffers.
 */
function ppNicPoll(cpu: Cpu, napi: NapiStruct, budget: number): number {
  const queue = napi.priv as PpNicQueue
  const dev = napi.dev!
  const nic = dev.priv as PpNic
  if (queue.tx.nextToClean !== queue.tx.nextToUse) nicCleanTx(cpu, queue.tx, budget, 'pp_nic_poll')
  const work =
    queue.xsk === null ? ppNicCleanRx(cpu, dev, nic, queue, budget) : ppNicXskPoll(cpu, dev, nic, queue, budget)
  if (nic.redirected) ppNicXdpFlush(cpu, nic)
  if (work < budget && napiCompleteDone(cpu, napi, work)) {
    if (queue.dim !== null) adapt(dev, nic, queue, queue.dim)
    nic.hw.unmask(queue.index)
  }
  return work
}

/** Models a driver's `net_dim` call at the end of a poll, and the work that applies a new profile. */
function adapt(dev: NetDevice, nic: PpNic, queue: PpNicQueue, dim: Dim): void {
  const { stats } = dev
  if (!netDim(dim, queue.hw.stats[HW_INTERRUPTS]!, stats[RX_PACKETS]!, stats[RX_BYTES]!, nic.env.clock.nowNs)) return
  const profile = NET_DIM_RX_PROFILES[dim.profile]!
  queue.hw.rxUsecs = profile.usecs
  queue.hw.rxFrames = profile.frames
}

/** Takes done descriptors. Shaped for speed: one frame in one buffer, no program, runs straight through. */
function ppNicCleanRx(cpu: Cpu, dev: NetDevice, nic: PpNic, queue: PpNicQueue, budget: number): number {
  const env = nic.env
  const i32 = env.mem.i32
  const ring = queue.rx
  const pages = ring.pages
  const mask = ring.count - 1
  const base = queue.hw.rx.base
  const headroom = ring.headroom
  const skbs = env.skbs
  const { pageBytes, headBytes, sharedInfoBytes } = skbs.sizes
  const room = pageBytes - sharedInfoBytes
  const truesize = pageBytes + headBytes
  const napi = queue.napi
  const pool = ring.pool!
  const needSync = dmaDevNeedSync(nic.hw.device)
  const plain = nic.prog === null && nic.headerSplit === 0
  // Models skb_record_rx_queue, which only devices with several queues need.
  const recordQueue = nic.queues.length > 1 ? queue.index + 1 : 0
  const rxFlags = dev.features & nic.rxFeatures
  let at = ring.nextToClean
  let work = 0
  let bytes = 0
  while (work < budget) {
    const d = base + at * DESC_WORDS
    const status = i32[d + 3]!
    if ((status & RXD_DD) === 0) break
    const pfn = pages[at]!
    const len = i32[d + 2]! & 0xffff
    pages[at] = 0
    i32[d + 3] = 0
    at = (at + 1) & mask
    if (needSync) syncRx(cpu, nic, pool, pfn as Pfn, headroom, len)
    if (plain && (status & (RXD_EOP | RXD_ERROR | RXD_VLAN)) === RXD_EOP && ring.partial === 0 && len >= ETH_HLEN) {
      const skb = napiSkbCacheGet(skbs, cpu)
      if (skb === null) {
        // No memory for a head: the page goes back to the pool and the frame is lost, but the ring lives.
        pagePoolRecycleDirect(cpu, pool, pfn as Pfn)
        dev.stats[RX_DROPPED]!++
        continue
      }
      // What `napiBuildSkb` does, with what this driver knows: the block is one page, and where the frame starts.
      const flags =
        pool.reservePages !== 0 && pageIsPfmemalloc(env.mem, pfn as Pfn) ? RX_SKB_FLAGS | SKB_PFMEMALLOC : RX_SKB_FLAGS
      buildSkbBody(skbs, skb, (pfn << 12) as Addr, room, truesize, flags, pfn as Pfn, cpu.id, headroom, 0)
      skb.tail = (skb.data + len) as Addr
      skb.len = len
      if (recordQueue !== 0) skb.queueMapping = recordQueue
      ethTypeTrans(skb, dev)
      if (rxFlags !== 0) rxOffloads(skb, i32[d]!, status, rxFlags)
      bytes += len
      work++
      napiGroReceive(cpu, napi, skb)
      continue
    }
    ring.nextToClean = at
    work += rxSlow(cpu, dev, nic, queue, pfn as Pfn, d, len, status)
  }
  ring.nextToClean = at
  if (bytes !== 0) {
    dev.stats[RX_PACKETS]! += work
    dev.stats[RX_BYTES]! += bytes
  }
  if (((at - ring.nextToUse - 1) & mask) >= ring.refillBatch) ppNicRefill(cpu, nic, queue)
  return work
}

function rxOffloads(skb: SkBuff, hash: number, status: number, features: number): void {
  if ((features & NETIF_F_RXHASH) !== 0 && hash !== 0) skbSetHash(skb, hash, (status & RXD_L4_HASH) !== 0)
  if ((features & NETIF_F_RXCSUM) !== 0 && (status & RXD_L4_OK) !== 0) {
    skb.ipSummed = CHECKSUM_UNNECESSARY
    skb.csumLevel = 0
  }
}

/** Posts pages until the ring is full or the pool has none. The doorbell is rung once. */
export function ppNicRefill(cpu: Cpu, nic: PpNic, queue: PpNicQueue): void {
  const ring = queue.rx
  const i32 = nic.env.mem.i32
  const pool = ring.pool!
  const mask = ring.count - 1
  const base = queue.hw.rx.base
  let at = ring.nextToUse
  let free = (ring.nextToClean - at - 1) & mask
  while (free > 0) {
    const pfn = pagePoolAllocPages(cpu, pool, nic.env.skbs.gfpAtomic)
    if (pfn === 0) {
      ring.allocFailed++
      break
    }
    const dma = pagePoolGetDmaAddr(pool, pfn) + ring.headroom
    const d = base + at * DESC_WORDS
    ring.pages[at] = pfn
    i32[d] = dma | 0
    i32[d + 1] = dma < 4294967296 ? 0 : Math.floor(dma / 4294967296)
    at = (at + 1) & mask
    free--
  }
  ring.nextToUse = at
  queue.hw.rx.tail = at
  // An empty ring gets no interrupt, so nobody would ever try again: a timer does.
  if (free > 0 && at === ring.nextToClean && nic.retryTimer === 0)
    nic.retryTimer = nic.env.clock.schedule(nic.env.clock.nowNs + RX_RETRY_NS, nic.retryHandler, 0, 0)
}

/** How long a ring without a single buffer waits before it asks for memory again. */
const RX_RETRY_NS = 1_000_000

function refillRetry(dev: NetDevice): void {
  const nic = dev.priv as PpNic
  nic.retryTimer = 0
  if (!dev.running) return
  for (const { hw, napi } of nic.queues) {
    irqEnter(hw.cpu)
    napiSchedule(hw.cpu, napi)
    irqExit(nic.env, hw.cpu)
  }
}

// Cold path.

function syncRx(cpu: Cpu, nic: PpNic, pool: PagePool, pfn: Pfn, offset: number, len: number): void {
  const dma = (pagePoolGetDmaAddr(pool, pfn) + offset) as never
  dmaSyncSingleForCpu(
    cpu,
    nic.hw.device,
    dma,
    len,
    nic.prog === null ? DMA_FROM_DEVICE : DMA_BIDIRECTIONAL,
    'pp_nic_poll',
  )
}

/** Frames of several buffers, with a tag, split headers, a program, or an error. @returns packets that are through. */
function rxSlow(
  cpu: Cpu,
  dev: NetDevice,
  nic: PpNic,
  queue: PpNicQueue,
  pfn: Pfn,
  d: number,
  len: number,
  status: number,
): number {
  const ring = queue.rx
  const end = (status & RXD_EOP) !== 0
  if (nic.prog !== null) {
    const skb = ppNicRxXdp(cpu, dev, nic, queue, pfn, len, status)
    if (skb !== null) deliver(cpu, dev, nic, queue, skb, d, status)
    return end ? 1 : 0
  }
  let skb = ring.partial === 0 ? null : nic.env.skbs.skbs[ring.partial]!
  if (ring.partialBad || (status & RXD_ERROR) !== 0 || (skb === null && len < ETH_HLEN)) {
    if ((status & RXD_ERROR) !== 0 || len < ETH_HLEN) dev.stats[RX_ERRORS]!++
    pagePoolRecycleDirect(cpu, ring.pool!, pfn)
    ring.partialBad = !end
    ring.partial = 0
    if (skb !== null) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'pp_nic_poll')
    return end ? 1 : 0
  }
  if (skb !== null) skbAddRxFrag(skb, ring.fragCount++, pfn, ring.headroom, len, nic.env.profile.page_size)
  else {
    ring.fragCount = 0
    skb = nic.headerSplit > 0 ? splitHeader(cpu, dev, nic, ring, pfn, len) : wholePage(cpu, nic, ring, pfn, len)
    if (skb === null) {
      pagePoolRecycleDirect(cpu, ring.pool!, pfn)
      dev.stats[RX_DROPPED]!++
      ring.partialBad = !end
      return end ? 1 : 0
    }
  }
  if (!end) {
    ring.partial = skb.id
    return 0
  }
  ring.partial = 0
  deliver(cpu, dev, nic, queue, skb, d, status)
  return 1
}

/** What the last descriptor says of a packet, and the packet itself, go to the stack. */
function deliver(
  cpu: Cpu,
  dev: NetDevice,
  nic: PpNic,
  queue: PpNicQueue,
  skb: SkBuff,
  d: number,
  status: number,
): void {
  const i32 = nic.env.mem.i32
  const bytes = skb.len
  if (nic.queues.length > 1) skb.queueMapping = queue.index + 1
  ethTypeTrans(skb, dev)
  rxOffloads(skb, i32[d]!, status, dev.features & nic.rxFeatures)
  if ((status & RXD_VLAN) !== 0) {
    skb.vlanTci = i32[d + 2]! >>> 16
    skb.vlanProto = 0x8100
  }
  dev.stats[RX_PACKETS]!++
  dev.stats[RX_BYTES]! += bytes
  napiGroReceive(cpu, queue.napi, skb)
}

/** The whole page becomes the skb's head. */
export function wholePage(cpu: Cpu, nic: PpNic, ring: PpRxRing, pfn: Pfn, len: number): SkBuff | null {
  const skb = napiBuildSkb(nic.env.skbs, cpu, (pfn << 12) as Addr, nic.env.profile.page_size)
  if (skb === null) return null
  skb.flags |= SKB_PP_RECYCLE
  skb.data = (skb.data + ring.headroom) as Addr
  skb.tail = skb.data
  skbPut(skb, len)
  return skb
}

/** Models header split: headers in a small linear part, payload left in the page. Short frames are copied whole. */
function splitHeader(cpu: Cpu, dev: NetDevice, nic: PpNic, ring: PpRxRing, pfn: Pfn, len: number): SkBuff | null {
  const skb = napiAllocSkb(nic.env.skbs, cpu, dev.id, nic.headerSplit)
  if (skb === null) return null
  const head = Math.min(len, nic.headerSplit)
  const from = ((pfn << 12) + ring.headroom) >>> 0
  nic.env.mem.u8.copyWithin(skbPut(skb, head) >>> 0, from, from + head)
  if (head === len) pagePoolRecycleDirect(cpu, ring.pool!, pfn)
  else {
    skb.flags |= SKB_PP_RECYCLE
    skbAddRxFrag(skb, ring.fragCount++, pfn, ring.headroom + head, len - head, nic.env.profile.page_size)
  }
  return skb
}

// Up and down.

const ppNicOps: NetDeviceOps = {
  open: ppNicOpen,
  stop: ppNicStop,
  uninit: ppNicDestroy,
  startXmit: (cpu, skb, dev) => {
    const { tx } = (dev.priv as PpNic).queues[skb.queueMapping]!
    if (tx.q.tx.enabled && skb.len >= ETH_HLEN) return nicStartXmit(cpu, skb, dev, tx, 'pp_nic_xmit')
    // Not even a header; or rings that could not be made anew: the device is up, and nothing leaves it.
    dev.stats[TX_DROPPED]!++
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'pp_nic_xmit')
    return NETDEV_TX_OK
  },
  getStats64: (dev, out) => {
    for (const q of (dev.priv as PpNic).queues) out[RX_MISSED_ERRORS]! += q.hw.stats[HW_MISSED]!
  },
  xdpSet: (dev, prog, cpu) => {
    const nic = dev.priv as PpNic
    if (prog !== null && !prog.hasFrags && dev.mtu > ppNicXdpMaxMtu(nic)) return -ERRNO.ENOTSUP
    const changes = (nic.prog === null) !== (prog === null)
    // Headroom and mapping direction differ: the rings are made anew.
    if (changes && dev.running) ppNicStop(dev, cpu)
    nic.prog = prog
    return changes && dev.running ? ppNicOpen(dev, cpu) : 0
  },
  changeMtu: (dev, mtu) => {
    const nic = dev.priv as PpNic
    return nic.prog !== null && !nic.prog.hasFrags && mtu > ppNicXdpMaxMtu(nic) ? -ERRNO.EINVAL : 0
  },
  xdpXmit: (cpu: Cpu, dev: NetDevice, frames: XdpFrame[], n: number) => ppNicXdpXmit(cpu, dev, frames, n),
  xdpXmitSg: true,
  xskWakeup: (dev, queue, cpu) => {
    if (!dev.running) return -ERRNO.ENETDOWN
    const nic = dev.priv as PpNic
    if (nic.queues[queue]?.xsk === null) return -ERRNO.EINVAL
    localBhDisable(cpu)
    napiSchedule(cpu, nic.queues[queue]!.napi)
    localBhEnable(nic.env, cpu)
    return 0
  },
  xskPoolSetup: (dev, pool, queue, cpu) => {
    const nic = dev.priv as PpNic
    if (nic.queues[queue] === undefined) return -ERRNO.EINVAL
    const err = pool === null ? 0 : pool.dmaMap(cpu, nic.hw.device)
    if (err !== 0) return err
    // The ring's buffers change hands: it is made anew. Without a program it stays with pages.
    const remake = dev.running && nic.prog !== null
    if (remake) ppNicStop(dev, cpu)
    if (pool === null) {
      dev.xskPools[queue]?.dmaUnmap(cpu)
      dev.xskPools[queue] = null
    }
    const rc = remake ? ppNicOpen(dev, cpu) : 0
    if (rc !== 0) pool?.dmaUnmap(cpu)
    return rc
  },
}

/** The longest packet of which a program that knows no fragments sees everything: one buffer, with a VLAN tag. */
const ppNicXdpMaxMtu = ({ env }: PpNic): number =>
  env.profile.page_size - XDP_PACKET_HEADROOM - env.skbs.sizes.sharedInfoBytes - ETH_HLEN - 4

function ppNicOpen(dev: NetDevice, cpu: Cpu): number {
  const nic = dev.priv as PpNic
  for (const queue of nic.queues) {
    const rc = openQueue(dev, nic, queue, cpu)
    if (rc !== 0) {
      ppNicStop(dev, cpu)
      return rc
    }
  }
  nic.hw.refreshPath()
  for (const queue of nic.queues) {
    napiEnable(queue.napi)
    nic.hw.unmask(queue.index)
  }
  return 0
}

function openQueue(dev: NetDevice, nic: PpNic, queue: PpNicQueue, cpu: Cpu): number {
  const { env, hw } = nic
  const { device } = hw
  const ring = queue.rx
  ring.headroom = nic.prog === null ? env.skbs.sizes.netSkbPad : XDP_PACKET_HEADROOM
  const xsk = dev.xskPools[queue.index] ?? null
  if (xsk?.zc === true && nic.prog !== null) {
    const rc = allocDescs(cpu, nic, queue, xsk.rxFrameBytes)
    if (rc === 0) ppNicXskOpen(cpu, nic, queue, xsk)
    return rc
  }
  const room = env.profile.page_size - ring.headroom - env.skbs.sizes.sharedInfoBytes
  const pool = pagePoolCreate(env.pagePools, cpu, {
    poolSize: ring.count,
    nid: device.node,
    dev: device,
    napi: queue.napi,
    dmaDir: nic.prog === null ? DMA_FROM_DEVICE : DMA_BIDIRECTIONAL,
    maxLen: room,
    offset: ring.headroom,
    flags: PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV,
    netdev: dev.id,
    queueIdx: queue.index,
    label: `${dev.name} rx ${queue.index}`,
  })
  if (typeof pool === 'number') return pool
  ring.pool = pool
  const rc = allocDescs(cpu, nic, queue, room)
  if (rc !== 0) return rc
  ppNicRefill(cpu, nic, queue)
  return ring.nextToUse === 0 ? -ERRNO.ENOMEM : 0
}

/** The descriptors of a queue. @param room bytes that one posted buffer takes. @returns 0 or -ENOMEM. */
function allocDescs(cpu: Cpu, nic: PpNic, queue: PpNicQueue, room: number): number {
  const rx = allocDesc(cpu, nic, queue.rx.count, 2 * queue.index)
  if (rx === 0) return -ERRNO.ENOMEM
  hwRingSetup(queue.hw.rx, rx as Addr, queue.rx.count, room)
  const tx = allocDesc(cpu, nic, queue.tx.count, 2 * queue.index + 1)
  if (tx === 0) return -ERRNO.ENOMEM
  hwRingSetup(queue.hw.tx, tx as Addr, queue.tx.count, 0)
  queue.rx.nextToClean = 0
  queue.rx.nextToUse = 0
  return 0
}

function allocDesc(cpu: Cpu, nic: PpNic, count: number, slot: number): number {
  const handle = { dma: 0 }
  const gfp = nic.env.mem.gfp.GFP_KERNEL
  const addr = dmaAllocCoherent(cpu, nic.hw.device, count * DESC_BYTES, handle as never, gfp as never, 'pp_nic_open')
  nic.descDma[slot] = handle.dma
  nic.descAddr[slot] = addr
  return addr
}

function ppNicStop(dev: NetDevice, cpu: Cpu): void {
  const nic = dev.priv as PpNic
  if (nic.retryTimer !== 0) {
    nic.env.clock.cancel(nic.retryTimer)
    nic.retryTimer = 0
  }
  for (const queue of nic.queues) {
    nic.hw.mask(queue.index)
    napiDisable(queue.napi)
    groFreeHeld(cpu, queue.napi)
    queue.hw.rx.enabled = false
    queue.hw.rx.tail = queue.hw.rx.head
    if (queue.hw.tx.enabled) nicDropTx(cpu, queue.tx, 'pp_nic_stop')
    queue.hw.tx.enabled = false
    const ring = queue.rx
    if (ring.partial !== 0) kfreeSkb(cpu, nic.env.skbs.skbs[ring.partial]!, 'NOT_SPECIFIED', 'pp_nic_stop')
    ring.partial = 0
    ring.partialBad = false
    ppNicDropPartialXdp(cpu, nic, queue)
    ppNicXskClose(queue)
    for (let i = 0; i < ring.count; i++) {
      if (ring.pages[i] !== 0) pagePoolPutFullPage(cpu, ring.pool!, ring.pages[i] as Pfn, false)
      ring.pages[i] = 0
    }
    pagePoolDestroy(cpu, ring.pool)
    ring.pool = null
    freeDesc(cpu, nic, ring.count, 2 * queue.index)
    freeDesc(cpu, nic, queue.tx.count, 2 * queue.index + 1)
  }
}

function freeDesc(cpu: Cpu, nic: PpNic, count: number, slot: number): void {
  const addr = nic.descAddr[slot] ?? 0
  if (addr === 0) return
  const dma = nic.descDma[slot]!
  dmaFreeCoherent(cpu, nic.hw.device, count * DESC_BYTES, addr as Addr, dma as never, 'pp_nic_stop')
  nic.descAddr[slot] = 0
}

/** Models a driver's removal, which unregistering the device does too; once is enough. */
export function ppNicDestroy(dev: NetDevice, cpu: Cpu): void {
  for (const queue of (dev.priv as PpNic).queues) netifNapiDel(cpu, queue.napi, groFreeHeld)
}

/** The driver's answer to "who holds these pages?". */
function ppNicHolders(dev: NetDevice, nic: PpNic, visit: Parameters<HolderWalk>[0]): void {
  for (const { index, rx, tx } of nic.queues) {
    const ring = `rx ring ${index}`
    rx.pages.forEach((page, at) => {
      if (page !== 0) visit(page, { kind: 'device', name: dev.name, where: `${ring}, descriptor ${at}` })
    })
    if (rx.xdpPage !== 0) visit(rx.xdpPage, { kind: 'device', name: dev.name, where: `${ring}, frame not complete` })
    if (rx.partial !== 0) skbHolders(nic.env.skbs.skbs[rx.partial]!, `${dev.name}: ${ring}, packet not complete`, visit)
    txRingHolders(nic.env, tx, `${dev.name}: tx ring ${index}`, visit)
  }
}

/** @throws Error when ring positions, pages and the pool's counts disagree. */
function auditPpNic(dev: NetDevice, nic: PpNic): void {
  for (const queue of nic.queues) {
    const ring = queue.rx
    const name = `${dev.name} queue ${queue.index}`
    const posted = (ring.nextToUse - ring.nextToClean) & (ring.count - 1)
    const buffers = queue.xsk === null ? ring.pages : queue.xsk.heads
    let pages = 0
    for (let i = 0; i < ring.count; i++) if (buffers[i] !== 0) pages++
    if (dev.running && pages !== posted)
      throw new Error(`${name}: ${posted} descriptors posted, ${pages} pages in them`)
    if (!dev.running && pages !== 0) throw new Error(`${name}: down, and ${pages} pages in the ring`)
    const ahead = (queue.hw.rx.head - ring.nextToClean) & (ring.count - 1)
    if (dev.running && ahead > posted) throw new Error(`${name}: the card is ahead of the doorbell`)
    auditTxRing(queue.tx, name)
  }
}
