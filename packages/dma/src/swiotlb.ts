/**
 * Bounce buffers: when a device cannot reach a buffer, or must not see what lies beside it, the mapping is a
 * copy in a pool that every device reaches. The copy goes both ways, and only for the mapped bytes.
 */
import { assert, type Cpu, type DmaAddr, type Pfn } from '@netmem/base'
import { takeContiguous } from './contiguous.js'
import { type Device, dmaCapable, dmaResetNeedSync, grantPages, physToDma } from './device.js'
import type { Dma } from './dma.js'
import { lineClean } from './noncoherent.js'
import {
  IO_TLB_DEFAULT_SIZE,
  IO_TLB_MIN_SLABS,
  IO_TLB_SEGSIZE,
  IO_TLB_SHIFT,
  IO_TLB_SIZE,
  IoTlbSlots,
  ioTlbFindSlots,
  ioTlbReleaseSlots,
  limitNareas,
  nrSlots,
} from './swiotlb-slots.js'
import {
  DMA_ATTR_NO_WARN,
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_FROM_DEVICE,
  DMA_MAPPING_ERROR,
  DMA_TO_DEVICE,
  type DmaDirection,
} from './types.js'

export { IO_TLB_SEGSIZE, IO_TLB_SIZE } from './swiotlb-slots.js'

/** What the `swiotlb=` boot parameter says. */
export interface SwiotlbParams {
  /** Pool size; 64 MiB when absent. Rounded up to whole segments of 256 KiB, halved until memory has it. */
  readonly bytes?: number
  /** Areas; one per CPU when absent. Rounded up to a power of two. */
  readonly areas?: number
  /** Bounce everything. */
  readonly force?: boolean
  /** Refuse to log the "buffer is full" line more often than this; 10 per 5 s as the kernel's rate limit. */
  readonly logBurst?: number
}

/** Models `struct io_tlb_mem`: one pool. Σ used slots = Σ slots of live bounced mappings. */
export class IoTlbMem {
  bounced = 0
  fullCount = 0
  copiedToDeviceBytes = 0
  copiedFromDeviceBytes = 0
  logBudget: number
  logRefillNs = 0
  constructor(
    readonly slots: IoTlbSlots,
    readonly blocks: readonly Pfn[],
    readonly forceBounce: boolean,
    readonly logBurst: number,
  ) {
    this.logBudget = logBurst
  }
}

/** Models `swiotlb_init` (kernel/dma/swiotlb.c). @returns null when not even 1 MiB in a row could be had. */
export function swiotlbInit(env: Dma, p: SwiotlbParams): IoTlbMem | null {
  const bytes = p.bytes ?? IO_TLB_DEFAULT_SIZE
  if (!(bytes > 0) || bytes > 2 ** 31) throw new RangeError(`swiotlb: ${bytes} bytes is not a pool size`)
  const areas = p.areas ?? env.cpus.length
  let nslabs = Math.max(IO_TLB_MIN_SLABS, Math.ceil(bytes / IO_TLB_SIZE / IO_TLB_SEGSIZE) * IO_TLB_SEGSIZE)
  // Areas must come out even, so a pool of several areas is a power of two.
  if (limitNareas(areas, nslabs) > 1) nslabs = 2 ** Math.ceil(Math.log2(nslabs))
  for (; nslabs >= IO_TLB_MIN_SLABS; nslabs /= 2) {
    const run = takeContiguous(env.mem, env.cpus[0]!, nslabs * IO_TLB_SIZE, 'swiotlb_init_late')
    if (run === null) continue
    const start = run.first * env.pageBytes
    env.mem.u8.fill(0, start, start + nslabs * IO_TLB_SIZE)
    const slots = new IoTlbSlots(start, nslabs, limitNareas(areas, nslabs))
    return new IoTlbMem(slots, run.blocks, p.force ?? false, p.logBurst ?? 10)
  }
  env.trace.printk?.('software IO TLB: Failed to allocate the bounce pool')
  return null
}

/** Models `is_swiotlb_active`. */
export const isSwiotlbActive = (dev: Device): boolean => dev.ioTlb !== null

/** Models `is_swiotlb_force_bounce`. */
export const isSwiotlbForceBounce = (dev: Device): boolean => dev.ioTlb?.forceBounce ?? false

/** Models `is_swiotlb_buffer`: does a physical address lie in the pool? */
export function isSwiotlbBuffer(dev: Device, phys: number): boolean {
  const pool = dev.ioTlb
  if (pool === null) return false
  const at = phys - pool.slots.start
  return at >= 0 && at < pool.slots.nslabs * IO_TLB_SIZE
}

/**
 * Models `swiotlb_map` (kernel/dma/swiotlb.c): finds slots, copies the buffer in whatever the direction is, so
 * that a device which writes less than it was given does not hand stale slot contents to the driver.
 *
 * @returns the slot's address, or DMA_MAPPING_ERROR; then nothing is taken.
 */
export function swiotlbMap(
  cpu: Cpu,
  dev: Device,
  phys: number,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
): DmaAddr {
  const { trace } = dev.env
  const pool = dev.ioTlb!
  if (trace.swiotlbBounced !== null) trace.swiotlbBounced(dev.name, phys, bytes, pool.forceBounce)
  const tlb = swiotlbTblMapSingle(cpu, dev, phys, bytes, attrs)
  if (tlb < 0) return DMA_MAPPING_ERROR
  if (!dmaCapable(dev, tlb, bytes)) {
    swiotlbTblUnmapSingle(cpu, dev, tlb, bytes, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC)
    if (trace.warn !== null) {
      trace.warn(
        'swiotlb_map',
        `${dev.name}: swiotlb addr 0x${tlb.toString(16)}+${bytes} overflow ` +
          `(mask ${dev.dmaMask.toString(16)}, bus limit ${dev.busDmaLimit.toString(16)}).`,
      )
    }
    return DMA_MAPPING_ERROR
  }
  if (!dev.coherent && (attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0) lineClean(dev.env, tlb, bytes)
  grantPages(dev, tlb, bytes, dir)
  return physToDma(tlb)
}

/**
 * Models `swiotlb_tbl_map_single`: slots that keep the device's low address bits, and the copy into them.
 *
 * @returns the physical address in the pool, or -1 when no area has room.
 */
export function swiotlbTblMapSingle(cpu: Cpu, dev: Device, phys: number, bytes: number, attrs: number): number {
  const pool = dev.ioTlb!
  const { slots } = pool
  const pad = phys & dev.minAlignMask & (IO_TLB_SIZE - 1)
  const total = bytes + pad
  const first =
    nrSlots(total) > IO_TLB_SEGSIZE
      ? -1
      : ioTlbFindSlots(slots, cpu.id, phys, total, dev.minAlignMask, dev.env.pageBytes)
  if (first < 0) {
    pool.fullCount++
    if ((attrs & DMA_ATTR_NO_WARN) === 0) logFull(dev, pool, bytes)
    return -1
  }
  const count = nrSlots(total)
  for (let i = 0; i < count; i++) slots.origAddr[first + i] = phys - pad + i * IO_TLB_SIZE
  slots.padBytes[first] = pad
  dmaResetNeedSync(dev)
  pool.bounced++
  const tlb = slots.start + first * IO_TLB_SIZE + pad
  swiotlbBounce(cpu, dev, tlb, bytes, DMA_TO_DEVICE)
  return tlb
}

/** Models `swiotlb_tbl_unmap_single`: copies out for the CPU unless told not to, then frees the slots. */
export function swiotlbTblUnmapSingle(
  cpu: Cpu,
  dev: Device,
  tlb: number,
  bytes: number,
  dir: DmaDirection,
  attrs: number,
): void {
  if ((attrs & DMA_ATTR_SKIP_CPU_SYNC) === 0 && dir !== DMA_TO_DEVICE) {
    swiotlbBounce(cpu, dev, tlb, bytes, DMA_FROM_DEVICE)
  }
  const { slots } = dev.ioTlb!
  const first = (tlb - slots.start) >> IO_TLB_SHIFT
  const mapped = slots.allocBytes[first]!
  // An address whose slot is free was unmapped before; the kernel would corrupt its free counts here.
  assert(mapped !== 0, `swiotlb: ${dev.name} unmaps 0x${tlb.toString(16)}, which is not in use`)
  ioTlbReleaseSlots(slots, first, nrSlots(mapped))
}

/** Models `swiotlb_sync_single_for_device`: the CPU's bytes go to the slot, for the directions in which it wrote. */
export function swiotlbSyncSingleForDevice(cpu: Cpu, dev: Device, tlb: number, bytes: number, dir: DmaDirection): void {
  if (dir !== DMA_FROM_DEVICE) swiotlbBounce(cpu, dev, tlb, bytes, DMA_TO_DEVICE)
}

/** Models `swiotlb_sync_single_for_cpu`: the device's bytes come back from the slot. */
export function swiotlbSyncSingleForCpu(cpu: Cpu, dev: Device, tlb: number, bytes: number, dir: DmaDirection): void {
  if (dir !== DMA_TO_DEVICE) swiotlbBounce(cpu, dev, tlb, bytes, DMA_FROM_DEVICE)
}

/** Models `swiotlb_bounce`: copies, and never outside what was mapped: a longer request is cut with a warning. */
function swiotlbBounce(cpu: Cpu, dev: Device, tlb: number, bytes: number, dir: DmaDirection): void {
  const { slots } = dev.ioTlb!
  const { trace, mem } = dev.env
  const slot = (tlb - slots.start) >> IO_TLB_SHIFT
  const offset = tlb & (IO_TLB_SIZE - 1)
  const mapped = slots.allocBytes[slot]!
  if (mapped === 0) return
  let size = bytes
  if (offset < slots.padBytes[slot]!) {
    trace.warn?.(
      'swiotlb_bounce',
      `${dev.name}: Access before mapping start detected. orig offset ${slots.padBytes[slot]}, requested offset ${offset}.`,
    )
    return
  }
  if (size > mapped - offset) {
    trace.warn?.(
      'swiotlb_bounce',
      `${dev.name}: Buffer overflow detected. Allocation size: ${mapped - offset}. Mapping size: ${bytes}.`,
    )
    size = mapped - offset
  }
  const orig = (slots.origAddr[slot]! + offset) >>> 0
  const pool = dev.ioTlb!
  if (dir === DMA_TO_DEVICE) {
    mem.u8.copyWithin(tlb, orig, orig + size)
    pool.copiedToDeviceBytes += size
  } else {
    mem.u8.copyWithin(orig, tlb, tlb + size)
    pool.copiedFromDeviceBytes += size
  }
  if (trace.copy !== null) trace.copy(cpu, 'swiotlb_bounce', size)
}

// The kernel's rate limit: a burst of ten lines, then silence until five seconds are over.
const RATELIMIT_INTERVAL_NS = 5e9

function logFull(dev: Device, pool: IoTlbMem, bytes: number): void {
  const { trace, events } = dev.env
  if (trace.printk === null) return
  if (events.nowNs >= pool.logRefillNs) {
    pool.logRefillNs = events.nowNs + RATELIMIT_INTERVAL_NS
    pool.logBudget = pool.logBurst
  }
  if (pool.logBudget === 0) return
  pool.logBudget--
  trace.printk(
    `${dev.driver} ${dev.name}: swiotlb buffer is full (sz: ${bytes} bytes), ` +
      `total ${pool.slots.nslabs} (slots), used ${pool.slots.used} (slots)`,
  )
}

/** What debugfs shows under `swiotlb/`: slots in the pool, in use, and the most that ever were. */
export function swiotlbUsage(env: Dma): { io_tlb_nslabs: number; io_tlb_used: number; io_tlb_used_hiwater: number } {
  const slots = env.ioTlb?.slots
  return {
    io_tlb_nslabs: slots?.nslabs ?? 0,
    io_tlb_used: slots?.used ?? 0,
    io_tlb_used_hiwater: slots?.usedHiwater ?? 0,
  }
}

/** @returns whether the device may touch those bytes of the pool: they lie inside one live mapping. */
export function swiotlbRangeMapped(dev: Device, phys: number, bytes: number): boolean {
  const { slots } = dev.ioTlb!
  const slot = (phys - slots.start) >> IO_TLB_SHIFT
  const offset = phys & (IO_TLB_SIZE - 1)
  return offset >= slots.padBytes[slot]! && offset + bytes <= slots.allocBytes[slot]!
}
