import { Cpu, kernelProfile, Trace } from '@netmem/base'
import { memoryCreate } from '@netmem/memory'
import {
  allocSkb,
  CoalesceResult,
  consumeSkb,
  kfreeSkbPartial,
  napiAllocSkb,
  skbClone,
  skbInit,
  skbPut,
  skbTryCoalesce,
} from '@netmem/skbuff'

/** What a payload of so many bytes costs in a fresh buffer, on each of the two kernels. */
function cost(name: string, bytes: number): number {
  const profile = kernelProfile(name)
  const trace = new Trace()
  const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
  const env = skbInit({ mem, cpus: 1, trace, profile })
  return allocSkb(env, new Cpu(0, 0), bytes, mem.gfp.GFP_KERNEL)!.truesize
}

// The smallest buffer costs 832 bytes on 6.18 and 768 on 6.1; 257 bytes cost 1280 on both.
const costs = [1, 257].flatMap((bytes) => ['linux-6.18-x86_64', 'linux-6.1-x86_64'].map((name) => cost(name, bytes)))
if (costs.join() !== '832,768,1280,1280') throw new Error(costs.join())

const profile = kernelProfile('linux-6.18-x86_64')
const trace = new Trace()
const dropped: string[] = []
trace.kfreeSkb = (_cpu, _skb, location, _protocol, reason) => dropped.push(`${reason} in ${location}`)
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
const env = skbInit({ mem, cpus: 1, trace, profile })
const cpu = new Cpu(0, 0)
cpu.bhDisabled = 1

// A packet from a driver's poll: its data is a page fragment, its head comes from the CPU's cache of heads.
const packet = napiAllocSkb(env, cpu, 1, 1500)!
skbPut(packet, 1448)
const clone = skbClone(cpu, packet, mem.gfp.GFP_ATOMIC)!
// A clone costs no data, but charging both counts the data twice: that is what the kernel does.
if (packet.truesize + clone.truesize !== 2 * 2176) throw new Error(`${packet.truesize}`)
consumeSkb(cpu, clone, 'packet_rcv')

// Joined to a full buffer the fragment itself moves, and only what is not a descriptor is charged.
const queued = napiAllocSkb(env, cpu, 1, 1500)!
skbPut(queued, 1500)
const joined = new CoalesceResult()
if (!skbTryCoalesce(cpu, queued, packet, joined)) throw new Error('not joined')
kfreeSkbPartial(cpu, packet, joined.fragstolen, 'tcp_queue_rcv')
if (joined.deltaTruesize !== 2176 - 256 || queued.truesize !== 2176 + 1920) throw new Error(`${queued.truesize}`)
consumeSkb(cpu, queued, 'tcp_recvmsg')
if (dropped.length > 0) throw new Error(dropped.join())
