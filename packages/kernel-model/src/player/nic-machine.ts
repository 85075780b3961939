/**
 * The machine of the traces with real network cards: two of them on one hub, with the bounce pool or the IOMMU that
 * the kernel command line asks for. Driver and command line stand in the trace's `about`.
 */
import { traceSubscribe } from '@netmem/base'
import { hubConnect, type NetDevice, type RingNic } from '@netmem/virtual-nic'
import type { BootParams } from '../boot.js'
import type { TraceDocument } from '../trace/document.js'
import { StepError } from './answer.js'
import type { PlayerWorld } from './world.js'

const NICS = 'nics'
const NIC_VERBS: ReadonlySet<string> = new Set(['nic_send', 'io_tlb'])
const MACS = ['52:54:00:12:34:56', '52:54:00:12:34:57'] as const
const SLOTS = ['0000:00:03.0', '0000:00:04.0'] as const
/** The EtherType of the traces' frames: one for local experiments, which no protocol takes. */
export const NIC_ETHERTYPE = 0x88b5
/** The frame with which the recorder saw the link come up, which the second card received. */
const LINK_TEST_BYTES = 60

/** @returns what the trace's kernel was booted with; nothing for traces without cards. */
export function bootLine(document: TraceDocument): Pick<BootParams, 'dma'> {
  if (!hasNics(document)) return {}
  const { about } = document
  if (about.includes('swiotlb=force')) return { dma: { swiotlb: { force: true } } }
  if (about.includes('intel_iommu=on')) return { dma: { iommu: { strict: about.includes('iommu.strict=1') } } }
  return {}
}

const hasNics = (document: TraceDocument): boolean => document.steps.some((step) => NIC_VERBS.has(step.do))

/** DMA events of one card: `swiotlb:swiotlb_bounced` by size, in runs; `iommu:map`, `iommu:unmap`. */
export class NicEvents {
  bounced: [number, number][] = []
  maps = 0
  unmaps = 0

  clear(): void {
    this.bounced = []
    this.maps = 0
    this.unmaps = 0
  }
}

/** The two cards: frames go out of the first and arrive at the second. */
export class NicPair {
  readonly events: readonly [NicEvents, NicEvents] = [new NicEvents(), new NicEvents()]
  private invalidationsSeen = 0

  constructor(
    readonly world: PlayerWorld,
    readonly first: NetDevice,
    readonly second: NetDevice,
  ) {
    traceSubscribe(world.kernel.trace, {
      swiotlbBounced: (slot, _dma, bytes) => {
        const runs = this.of(slot)?.bounced
        const last = runs?.at(-1)
        if (last !== undefined && last[0] === bytes) last[1] += 1
        else runs?.push([bytes, 1])
      },
      iommuMap: (slot) => {
        const events = this.of(slot)
        if (events !== undefined) events.maps += 1
      },
      iommuUnmap: (slot) => {
        const events = this.of(slot)
        if (events !== undefined) events.unmaps += 1
      },
    })
  }

  private of(slot: string): NicEvents | undefined {
    return this.events[SLOTS.indexOf(slot as (typeof SLOTS)[number])]
  }

  /** Forgets what was counted. */
  clear(): void {
    for (const events of this.events) events.clear()
    this.invalidationsSeen = this.invalidations()
  }

  /** @returns IOTLB invalidations sent since `clear`. */
  newInvalidations(): number {
    return this.invalidations() - this.invalidationsSeen
  }

  private invalidations(): number {
    const { links } = this.world.kernel
    return [this.first, this.second].reduce(
      (sum, dev) => sum + (links.pciDevice(dev)?.domain?.iotlbInvalidations ?? 0),
      0,
    )
  }

  /** @returns a frame from the first card to the second, zeros behind its header. */
  frame(bytes: number): Uint8Array {
    const frame = new Uint8Array(Math.max(bytes, 14))
    for (const [at, mac] of [[0, MACS[1]] as const, [6, MACS[0]] as const])
      mac.split(':').forEach((byte, i) => {
        frame[at + i] = Number.parseInt(byte, 16)
      })
    frame[12] = NIC_ETHERTYPE >> 8
    frame[13] = NIC_ETHERTYPE & 0xff
    return frame.subarray(0, bytes)
  }
}

/** Plugs two cards in when the trace needs them, and lets one frame through. */
export function plugNics(world: PlayerWorld): void {
  if (!hasNics(world.document)) return
  const { kernel } = world
  const { net } = world.process
  const driver = /\be1000e\b/.test(world.document.about) ? 'e1000e' : 'e1000'
  const [first, second] = SLOTS.map((slot, i): NetDevice => {
    const dev = kernel.links.nicProbe({ net, name: `eth${i}`, driver, slot })
    if (typeof dev === 'number') throw new StepError(`card ${slot} cannot be set up: errno ${dev}`)
    kernel.links.configure(dev, { mac: MACS[i]! })
    return dev
  }) as [NetDevice, NetDevice]
  hubConnect([first, second].map((dev) => (dev.priv as RingNic).hw))
  for (const dev of [first, second]) {
    const err = kernel.links.setUp(dev, true)
    if (err !== 0) throw new StepError(`${dev.name} does not come up: errno ${err}`)
  }
  const pair = new NicPair(world, first, second)
  world.extra.set(NICS, pair)
  kernel.links.inject(world.process, first, pair.frame(LINK_TEST_BYTES))
  pair.clear()
}

export const nicPair = (world: PlayerWorld): NicPair => world.extra.get(NICS) as NicPair
