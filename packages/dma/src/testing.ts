/**
 * Audits that prove the conservation laws of the DMA layer, and a machine for tests. `auditDma` may be called after
 * any step; `auditDmaQuiescent` when every driver claims to have given everything back.
 */
import { type Cpu, EventQueue, type Trace } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { testMachine } from '@netmem/memory/testing'
import type { Device } from './device.js'
import { type Dma, type DmaParams, dmaInit } from './dma.js'
import { iovaQueued } from './iova-fq.js'
import { iovaCached } from './iova-rcache.js'
import { IO_TLB_SEGSIZE, type IoTlbSlots } from './swiotlb-slots.js'

/** What a test of DMA gets: a memory machine, a clock, and its DMA layer. */
export interface DmaMachine {
  readonly mem: Memory
  readonly trace: Trace
  readonly cpus: readonly Cpu[]
  readonly cpu: Cpu
  readonly events: EventQueue
  readonly dma: Dma
  /** Lines of the kernel log and warnings, in order. */
  readonly log: string[]
}

/** Makes a machine of 64 MiB (see `testMachine`) with the given DMA layer. */
export function dmaMachine(
  options: Partial<Pick<DmaParams, 'swiotlb' | 'iommu' | 'debug' | 'bounceUnalignedKmalloc'>> = {},
  memory: Parameters<typeof testMachine>[0] = {},
): DmaMachine {
  const machine = testMachine(memory)
  const log: string[] = []
  machine.trace.printk = (words) => log.push(words)
  machine.trace.warn = (_site, words) => log.push(words)
  const events = new EventQueue()
  const dma = dmaInit({ ...machine, events, ...options })
  return { ...machine, events, dma, log }
}

const check = (ok: boolean, words: string): void => {
  if (!ok) throw new Error(`audit: ${words}`)
}

/** Proves: each slot is free or in one mapping, and every count that is kept agrees with the slots. */
export function auditIoTlbSlots(slots: IoTlbSlots): void {
  let used = 0
  for (let i = 0; i < slots.nslabs; i++) {
    const free = slots.allocBytes[i] === 0
    if (!free) {
      used++
      check(slots.list[i] === 0, `swiotlb slot ${i} is in use and counted as free`)
      continue
    }
    const last = i % IO_TLB_SEGSIZE === IO_TLB_SEGSIZE - 1
    const run = last || slots.allocBytes[i + 1] !== 0 ? 1 : slots.list[i + 1]! + 1
    check(slots.list[i] === run, `swiotlb slot ${i} says ${slots.list[i]} free in a row, there are ${run}`)
  }
  check(used === slots.used, `swiotlb: ${used} slots in use, ${slots.used} counted`)
  const inAreas = slots.areas.reduce((sum, area) => sum + area.used, 0)
  check(inAreas === used, `swiotlb: areas count ${inAreas} slots, ${used} are in use`)
  check(slots.usedHiwater >= used, 'swiotlb: high water below the level')
}

/** Proves: device addresses are disjoint, and each is reserved, cached, queued or mapped. */
export function auditIommu(dev: Device): void {
  const { domain, iommuDma } = dev
  if (domain === null || iommuDma === null) return
  const { iovad, rcaches, fqs } = iommuDma
  let above = Number.POSITIVE_INFINITY
  let pages = 0
  let count = 0
  for (let iova = iovad.anchor.below; iova !== null; iova = iova.below) {
    check(iova.lo <= iova.hi && iova.hi < above && iova.lo >= iovad.startPfn, `iova ${iova.lo}-${iova.hi} overlaps`)
    check(iovad.index.get(iova.lo) === iova, `iova ${iova.lo} is not in the index`)
    above = iova.lo
    pages += iova.hi - iova.lo + 1
    count++
  }
  check(count === iovad.index.size && pages === iovad.usedPages, 'iova: index and list disagree')
  const idle = [...iovaCached(rcaches), ...(fqs === null ? [] : iovaQueued(fqs))]
  check(new Set(idle).size === idle.length, 'iova: an address is cached or queued twice')
  for (const pfn of idle) {
    const iova = iovad.index.get(pfn)
    check(iova !== undefined, `iova ${pfn} is cached and unknown to the domain`)
    for (let p = iova!.lo; p <= iova!.hi; p++) check(domain.iovaToPfn(p) === 0, `iova page ${p} is idle and mapped`)
  }
  let live = 0
  for (const table of domain.tables.values()) for (const pte of table) if (pte !== 0 && (pte & 4) === 0) live++
  check(live === domain.mappedPages, `iommu: ${live} pages mapped, ${domain.mappedPages} counted`)
}

/** Proves the laws of the whole layer: slots, addresses, pools, and (with debugging on) one entry per mapping. */
export function auditDma(env: Dma): void {
  if (env.ioTlb !== null) auditIoTlbSlots(env.ioTlb.slots)
  for (const dev of env.devices) {
    auditIommu(dev)
    check(dev.mappings >= 0 && dev.coherentBlocks >= 0, `${dev.name}: unmapped more than it mapped`)
    for (const pool of dev.pools) {
      const blocks = new Set([...pool.free, ...pool.live.keys()])
      check(blocks.size === pool.nrBlocks, `dma pool ${pool.name}: blocks lost or doubled`)
      check(pool.live.size === pool.nrActive, `dma pool ${pool.name}: active count`)
    }
    if (env.debug !== null && !dev.removed) {
      const entries = env.debug.entries.ofDevice(dev).length
      const live = dev.mappings + dev.coherentBlocks
      check(entries === live, `${dev.name}: ${live} mappings, ${entries} known to the debug facility`)
    }
  }
}

/** Proves that nothing is mapped, bounced or lent any more. */
export function auditDmaQuiescent(env: Dma): void {
  auditDma(env)
  check(env.ioTlb === null || env.ioTlb.slots.used === 0, `swiotlb: ${env.ioTlb?.slots.used} slots still in use`)
  for (const dev of env.devices) {
    check(dev.mappings === 0, `${dev.name}: ${dev.mappings} mappings left`)
    check(dev.coherentBlocks === 0, `${dev.name}: ${dev.coherentBlocks} coherent blocks left`)
    check(dev.domain === null || dev.domain.mappedPages === 0, `${dev.name}: pages mapped in the IOMMU`)
    for (const granted of [dev.readable, dev.writable])
      check(
        granted.every((n) => n === 0),
        `${dev.name}: still reaches a page`,
      )
  }
  check(env.lines === null || env.lines.pages.size === 0, 'line cache: pages left')
}
