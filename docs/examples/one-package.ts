import { Cpu, kernelProfile, Trace } from '@netmem/base'
import { kfree, kmalloc, ksize, memoryCreate } from '@netmem/memory'

// The memory core alone: no packets, no sockets, no kernel around it.
const profile = kernelProfile('linux-6.18-x86_64')
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace: new Trace() })
const cpu = new Cpu(0, 0)

const address = kmalloc(mem, cpu, 700, mem.gfp.GFP_KERNEL, 'example')
if (ksize(mem, address) !== 1024) throw new Error(`700 bytes took ${ksize(mem, address)}`)
// Addresses are places in one ArrayBuffer: bytes written there are there.
mem.u8[address >>> 0] = 42
kfree(mem, cpu, address, 'example')
