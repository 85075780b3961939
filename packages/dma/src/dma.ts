/**
 * The machine's DMA layer: which back ends it has, its devices, its debug facility. Everything that maps
 * goes through a `Device`, which belongs to exactly one of these.
 */
import type { Cpu, EventQueue, KernelProfile, Trace } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { Device, type DeviceParams } from './device.js'
import { DmaDebug, type DmaDebugParams } from './dma-debug.js'
import { type IommuParams, iommuAttachDevice } from './iommu-dma.js'
import type { LineCache } from './noncoherent.js'
import { type IoTlbMem, type SwiotlbParams, swiotlbInit } from './swiotlb.js'

/** What the DMA layer needs from the machine. */
export interface DmaParams {
  readonly mem: Memory
  readonly profile: KernelProfile
  readonly trace: Trace
  readonly cpus: readonly Cpu[]
  /** For the flush queue's and the depot's timers. */
  readonly events: EventQueue
  /** Absent or null: no bounce pool, as on a machine whose devices all reach all memory. */
  readonly swiotlb?: SwiotlbParams | null
  /** Absent or null: no IOMMU. */
  readonly iommu?: IommuParams | null
  /** Absent or false: off, as in distribution kernels. */
  readonly debug?: DmaDebugParams | boolean
  /** Models `CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC`: non-coherent devices bounce buffers that share cache lines. */
  readonly bounceUnalignedKmalloc?: boolean
}

/** A device that touched memory it was not given: what an IOMMU's fault log, or a machine check, would say. */
export interface DmaFault {
  readonly device: string
  readonly dma: number
  readonly bytes: number
  readonly write: boolean
  /** `unmapped`: no mapping at all; `protection`: mapped for the other direction only; `memory`: no memory there. */
  readonly reason: 'unmapped' | 'protection' | 'memory'
  readonly step: string
}

/** The DMA layer of one machine. */
export class Dma {
  readonly mem: Memory
  readonly profile: KernelProfile
  readonly trace: Trace
  readonly cpus: readonly Cpu[]
  readonly events: EventQueue
  readonly pageBytes: number
  readonly pageShift: number
  readonly pageMask: number
  /** Models `zone_dma_limit`: last byte of the zone for the poorest devices, and of the next one. */
  readonly zoneDmaLimit: number
  readonly zoneDma32Limit: number
  readonly bounceUnalignedKmalloc: boolean
  readonly iommu: IommuParams | null
  readonly devices: Device[] = []
  ioTlb: IoTlbMem | null = null
  debug: DmaDebug | null = null
  /** What memory holds where the CPU's cached lines differ from it; null until a device does not snoop. */
  lines: LineCache | null = null
  readonly faults: DmaFault[] = []
  /** What the scenario is doing now; mappings remember it, and reports name it. */
  step = ''

  constructor(p: DmaParams) {
    this.mem = p.mem
    this.profile = p.profile
    this.trace = p.trace
    this.cpus = p.cpus
    this.events = p.events
    this.pageBytes = p.profile.page_size
    this.pageShift = Math.log2(p.profile.page_size)
    this.pageMask = p.profile.page_size - 1
    this.zoneDmaLimit = zoneEnd(p.mem, ZONE_DMA) * this.pageBytes - 1
    this.zoneDma32Limit = Math.max(zoneEnd(p.mem, ZONE_DMA32) * this.pageBytes - 1, this.zoneDmaLimit)
    this.bounceUnalignedKmalloc = p.bounceUnalignedKmalloc ?? false
    this.iommu = p.iommu ?? null
  }
}

// Models `ZONE_DMA` and `ZONE_DMA32` of `enum zone_type`.
const ZONE_DMA = 0
const ZONE_DMA32 = 1

const zoneEnd = (mem: Memory, type: number): number =>
  Math.max(...mem.zones.filter((zone) => zone.type === type).map((zone) => zone.endPfn))

/** Sets up DMA for a machine: takes the bounce pool out of its memory, turns the debug facility on. */
export function dmaInit(p: DmaParams): Dma {
  const env = new Dma(p)
  if (p.swiotlb !== undefined && p.swiotlb !== null) env.ioTlb = swiotlbInit(env, p.swiotlb)
  if (p.debug !== undefined && p.debug !== false) env.debug = new DmaDebug(env, p.debug === true ? {} : p.debug)
  return env
}

/** Adds a device and chooses its back end: the machine's IOMMU if it has one and the device is behind it, else direct. */
export function deviceCreate(env: Dma, p: DeviceParams): Device {
  if (p.name === '') throw new RangeError('a device needs a name')
  const dev = new Device(env, env.devices.length, p)
  if (env.iommu !== null && p.iommu !== false) iommuAttachDevice(env, dev, env.iommu)
  env.devices.push(dev)
  return dev
}
