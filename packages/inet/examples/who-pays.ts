import { Cpu, EventQueue, kernelProfile, Trace } from '@netmem/base'
import { inetInit } from '@netmem/inet'
import { iovIterInit, memoryCreate, userAlloc } from '@netmem/memory'
import { pagePoolsInit } from '@netmem/page-pool'
import { skbInit } from '@netmem/skbuff'
import { Msg, SOCK_STREAM, Sysctls, sockEnvCreate, sockSocketpair, Task } from '@netmem/sockmem'
import { netDevInit } from '@netmem/virtual-nic'

// The layers below, each handed what it needs. (`bootKernel` of @netmem/kernel-model does this in one call.)
const profile = kernelProfile('linux-6.18-x86_64')
const trace = new Trace()
const clock = new EventQueue()
const cpus = [new Cpu(0, 0)]
const cpu = cpus[0] as Cpu
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
const pagePools = pagePoolsInit({ mem, profile, trace, events: clock, cpus })
const skbs = skbInit({ mem, pagePools, cpus: 1, trace, profile })
const devs = netDevInit({ mem, skbs, pagePools, cpus, clock, trace, profile, seed: 1 })
const socks = sockEnvCreate({ mem, skbs, cpus, clock, trace, profile, sysctls: new Sysctls(profile) })
inetInit({ socks, devs, seed: 1 })

// A unix stream: 1000 bytes are written and not read. Who is charged, and how much?
const task = new Task(1, cpu, socks.initNet)
const ids = new Int32Array(2)
if (sockSocketpair(socks, cpu, task, SOCK_STREAM, 0, ids) !== 0) throw new Error('no socket pair')
const [writer, reader] = [...ids].map((id) => socks.socks[id])
const buffer = userAlloc(mem, cpu, 4096)
if (writer == null || reader == null || buffer === null) throw new Error('out of memory')

const msg = new Msg()
iovIterInit(msg.iter, buffer, 0, 1000)
if (writer.ops.sendmsg(cpu, task, writer, msg, 1000) !== 1000) throw new Error('not written')

const charged = `writer ${writer.wmemAlloc - 1} bytes, reader ${reader.rmemAlloc} bytes`
if (charged !== 'writer 2304 bytes, reader 0 bytes') throw new Error(charged)
