import { type Addr, Cpu, EventQueue, kernelProfile, Trace } from '@netmem/base'
import {
  DMA_FROM_DEVICE,
  deviceCreate,
  dmaEngineWrite,
  dmaInit,
  dmaMappingError,
  dmaMapSingle,
  dmaUnmapSingle,
  swiotlbUsage,
} from '@netmem/dma'
import { kmalloc, memoryCreate } from '@netmem/memory'

const profile = kernelProfile('linux-6.18-x86_64')
const trace = new Trace()
const cpus = [new Cpu(0, 0)]
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })

// A machine booted with swiotlb=force, and the facility that watches drivers.
const dma = dmaInit({
  mem,
  profile,
  trace,
  cpus,
  events: new EventQueue(),
  swiotlb: { bytes: 4 << 20, force: true },
  debug: true,
})
const nic = deviceCreate(dma, { name: '0000:00:03.0', driver: 'e1000e' })

// The driver lends a buffer; the device gets a copy of it in the pool, and writes there.
const buffer = kmalloc(mem, cpus[0]!, 2048, mem.gfp.GFP_KERNEL, 'alloc_rx') as Addr
const handle = dmaMapSingle(cpus[0]!, nic, buffer, 1522, DMA_FROM_DEVICE, 'alloc_rx')
if (dmaMappingError(nic, handle) !== 0) throw new Error('swiotlb buffer is full')
dmaEngineWrite(nic, handle, new TextEncoder().encode('frame'), 0, 5)
const before = String.fromCharCode(...mem.u8.subarray(buffer, buffer + 5))
dmaUnmapSingle(cpus[0]!, nic, handle, 1522, DMA_FROM_DEVICE, 'clean_rx')
const after = String.fromCharCode(...mem.u8.subarray(buffer, buffer + 5))

if (before === 'frame' || after !== 'frame') throw new Error('the bytes come with the unmap, not before')
if (swiotlbUsage(dma).io_tlb_used !== 0) throw new Error('a slot is still in use')
// Its mapping is gone, so a late write of the device is a fault and not a corrupted buffer.
if (dmaEngineWrite(nic, handle, new Uint8Array(1), 0, 1) !== -14 || dma.faults.length !== 1) throw new Error('no fault')
if (dma.debug!.errors.length !== 0) throw new Error(dma.debug!.errors[0]!.text)
