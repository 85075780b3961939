/**
 * The network card of a replay, with the driver that was asked for: how received frames get into memory, and what
 * stands between the card and memory.
 */
import type { Cpu } from '@netmem/base'
import { type Device, DMA_BIT_MASK, deviceCreate, deviceRemove, dmaSetMaskAndCoherent } from '@netmem/dma'
import type { BootParams, Kernel } from '@netmem/kernel-model'
import type { PagePool } from '@netmem/page-pool'
import {
  e1000Create,
  e1000eCreate,
  type NetDevice,
  type NicHw,
  PpNic,
  ppNicCreate,
  ppNicDestroy,
  type RingNic,
  ringNicCreate,
} from '@netmem/virtual-nic'
import { InputError } from '../errors.js'
import type { ReplayOptions } from './options.js'

/** What each driver does with received frames, as the help and the report tell it. */
export const DRIVERS = {
  'page-pool': 'pages of a pool, mapped once; the packet is built around the page',
  'header-split': 'the same; headers are copied to a small head, payload stays in the page',
  ring: 'a buffer mapped per frame, short frames copied out; the MTU decides its size',
  e1000: 'the same as Intel PCI cards do it: buffers of 1522 bytes that stay mapped when copied from',
  e1000e: 'the same as Intel PCI Express cards do it: every frame unmaps its buffer',
} as const
export type DriverName = keyof typeof DRIVERS

/** What may stand between the card and memory. */
export const DMA_KINDS = {
  direct: 'the card reaches all memory by itself',
  iommu: 'an IOMMU translates, invalidated lazily',
  swiotlb: 'every transfer bounces through a pool',
} as const
export type DmaKind = keyof typeof DMA_KINDS

/** What the card waits for before it interrupts, as drivers set it when nothing else is asked for. */
const RX_USECS = 20
const RX_FRAMES = 32
const TX_RING = 1024
/** Headers up to this many bytes are split off. */
const SPLIT_BYTES = 256
/** Link header, VLAN tag and checksum around the MTU. */
const FRAME_OVERHEAD = 14 + 4 + 4
/** The pool of a machine whose devices reach all memory by themselves is never this large a part of it. */
const SWIOTLB_SHARE = 8
const SWIOTLB_BYTES = 64 << 20

/** What to boot with, so that the card finds what was asked for. */
export function dmaParams(kind: DmaKind, memoryBytes: number): NonNullable<BootParams['dma']> {
  if (kind === 'iommu') return { iommu: {} }
  if (kind === 'swiotlb')
    return { swiotlb: { bytes: Math.min(SWIOTLB_BYTES, memoryBytes / SWIOTLB_SHARE), force: true } }
  return {}
}

/** A card in its slot. */
export class Card {
  readonly dev: NetDevice
  readonly hw: NicHw
  private readonly device: Device

  /** @param maxFrameBytes the largest frame that a driver takes which takes frames in pieces. @throws InputError */
  constructor(
    private readonly kernel: Kernel,
    options: ReplayOptions,
    mtu: number,
    maxFrameBytes: number,
  ) {
    this.device = deviceCreate(kernel.dma, { name: '0000:00:03.0', driver: options.driver })
    dmaSetMaskAndCoherent(this.device, DMA_BIT_MASK(64))
    const common = {
      name: 'eth0',
      device: this.device,
      rxRing: options.ring,
      txRing: TX_RING,
      rxUsecs: RX_USECS,
      rxFrames: Math.min(RX_FRAMES, options.ring >> 1),
      // A capture of an offloading host holds unfinished checksums, a cut frame none at all.
      rxChecksum: 'trust' as const,
    }
    const dev = create(kernel, options, common, mtu, maxFrameBytes)
    if (typeof dev === 'number')
      throw new InputError(`--driver ${options.driver}: not enough memory for the card, give more --memory`)
    this.dev = dev
    this.hw = (dev.priv as PpNic | RingNic).hw
  }

  /** Page pools by receive queue; none for drivers without. */
  get pools(): readonly PagePool[] {
    const { priv } = this.dev
    if (!(priv instanceof PpNic)) return []
    return priv.queues.map(({ rx }) => rx.pool).filter((pool) => pool !== null)
  }

  /** The card is down: its driver goes, and the card after it. */
  remove(cpu: Cpu): void {
    if (this.dev.priv instanceof PpNic) ppNicDestroy(this.dev, cpu)
    this.kernel.links.remove(this.dev)
    deviceRemove(cpu, this.device)
  }
}

type Common = Parameters<typeof e1000Create>[1] & { readonly rxChecksum: 'trust' }

function create(
  kernel: Kernel,
  { driver, cpus }: ReplayOptions,
  common: Common,
  mtu: number,
  maxFrameBytes: number,
): NetDevice | number {
  const { devs } = kernel
  if (driver === 'page-pool') return ppNicCreate(devs, { ...common, queues: cpus, maxFrameBytes })
  if (driver === 'header-split')
    return ppNicCreate(devs, { ...common, queues: cpus, maxFrameBytes, headerSplit: SPLIT_BYTES })
  // Cards of that time have one queue and take a frame in one piece.
  const bufBytes = mtu + FRAME_OVERHEAD
  if (driver === 'ring') return ringNicCreate(devs, { ...common, bufBytes, maxFrameBytes: bufBytes })
  if (bufBytes > INTEL_FRAME_BYTES)
    throw new InputError(
      `--driver ${driver}: takes an MTU up to ${INTEL_FRAME_BYTES - FRAME_OVERHEAD}, here it is ${mtu}; --driver ring takes more`,
    )
  const intel = { ...common, maxFrameBytes: INTEL_FRAME_BYTES }
  return driver === 'e1000' ? e1000Create(devs, intel) : e1000eCreate(devs, intel)
}

/** What these cards take for an MTU of 1500, VLAN tag included. */
const INTEL_FRAME_BYTES = 1522
