import { Cpu, kernelProfile, Trace } from '@netmem/base'
import { iovIterInit, memoryCreate, userAlloc, userRead } from '@netmem/memory'
import { Msg, NetNs, Sysctls, Task } from '@netmem/sockmem'
import {
  createPipeFiles,
  diskInodeCreate,
  inodeOpen,
  Loff,
  O_NONBLOCK,
  O_RDONLY,
  sysSpliceFiles,
  sysTeeFiles,
  vfsInit,
} from '@netmem/zerocopy'

const profile = kernelProfile('linux-6.18-x86_64')
const trace = new Trace()
const cpu = new Cpu(0, 0)
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
const sysctls = new Sysctls(profile)
const vfs = vfsInit({ mem, cpu, profile, trace, sysctls })
const task = new Task(1, cpu, new NetNs(0, profile, sysctls))
const copies: number[] = []
trace.copy = (_cpu, _site, bytes) => copies.push(bytes)
const copied = (): number => copies.reduce((sum, bytes) => sum + bytes, 0)

// 100000 bytes on a disk, and two pipes of sixteen slots.
const content = Uint8Array.from({ length: 100_000 }, (_, i) => i % 251)
const file = inodeOpen(diskInodeCreate(vfs, content), O_RDONLY)
const first = createPipeFiles(vfs, cpu, task, O_NONBLOCK)!
const second = createPipeFiles(vfs, cpu, task, O_NONBLOCK)!

// Into the first pipe, and from there into both: pages of the page cache go round by reference.
const spliced = sysSpliceFiles(vfs, cpu, task, file, new Loff(5000), first.write, null, 200_000, 0)
// Sixteen slots, the first with what page 1 has from byte 904 on.
if (spliced !== 16 * 4096 - 904) throw new Error(`splice: ${spliced}`)
const teed = sysTeeFiles(first.read, second.write, 10_000, 0)
if (teed !== 10_000 || copied() !== 0) throw new Error(`tee: ${teed}, ${copied()} bytes copied`)

// Only who reads with read(2) has the bytes copied.
const buffer = userAlloc(mem, cpu, 10_000)!
const msg = new Msg()
iovIterInit(msg.iter, buffer, 0, 10_000)
const read = second.read.fop.readIter!(cpu, task, second.read, msg, new Loff())
if (read !== 10_000 || copied() !== 10_000) throw new Error(`read: ${read}, ${copied()} bytes copied`)
if (userRead(mem, buffer, 0, 10_000).some((byte, i) => byte !== content[5000 + i])) throw new Error('other bytes')
