/** One op lends a buffer of 1522 bytes to a device and takes it back, through each back end. */
import { type Addr, Cpu, EventQueue, kernelProfile, Trace } from '@netmem/base'
import {
  DMA_FROM_DEVICE,
  type DmaParams,
  deviceCreate,
  dmaInit,
  dmaMappingError,
  dmaMapSingle,
  dmaUnmapSingle,
} from '@netmem/dma'
import { memoryCreate } from '@netmem/memory'

export interface BenchCase {
  /** Performs `n` operations and returns a checksum of the work. */
  run(n: number): number
}

export function mapUnmap(options: Pick<DmaParams, 'swiotlb' | 'iommu'>): BenchCase {
  const profile = kernelProfile('linux-6.18-x86_64')
  const trace = new Trace()
  const cpu = new Cpu(0, 0)
  const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
  const events = new EventQueue()
  const dev = deviceCreate(dmaInit({ mem, profile, trace, cpus: [cpu], events, ...options }), { name: 'eth0' })
  const buffer = (32 << 20) as Addr
  return {
    run(n) {
      let failed = 0
      for (let i = 0; i < n; i++) {
        const dma = dmaMapSingle(cpu, dev, buffer, 1522, DMA_FROM_DEVICE, 'bench')
        failed += dmaMappingError(dev, dma)
        dmaUnmapSingle(cpu, dev, dma, 1522, DMA_FROM_DEVICE, 'bench')
      }
      return failed
    },
  }
}

export const cases = {
  'dma_map_single, direct': () => mapUnmap({}),
  'dma_map_single, swiotlb': () => mapUnmap({ swiotlb: { bytes: 4 << 20, force: true } }),
  'dma_map_single, iommu strict': () => mapUnmap({ iommu: { strict: true } }),
  'dma_map_single, iommu lazy': () => mapUnmap({ iommu: {} }),
}
