/** A small machine for tests of this package and those above it. */
import { Cpu, type KernelProfile, kernelProfile, Trace } from '@netmem/base'
import { memoryCreate } from './boot.js'
import { type LiveAllocation, leakReport } from './leaks.js'
import type { Memory } from './memory.js'

/** What a test gets. */
export interface TestMachine {
  readonly mem: Memory
  readonly trace: Trace
  readonly cpus: readonly Cpu[]
  readonly cpu: Cpu
  readonly profile: KernelProfile
}

/** Makes a machine: 64 MiB, 2 CPUs, one node and the reference kernel unless told otherwise. */
export function testMachine(
  options: {
    profile?: string
    bytes?: number
    cpus?: number
    nodes?: number
    zoneEnds?: { dma: number; dma32: number }
  } = {},
): TestMachine {
  const { profile: name = 'linux-6.18-x86_64', bytes = 64 << 20, cpus: count = 2, nodes = 1, zoneEnds } = options
  const profile = kernelProfile(name)
  const trace = new Trace()
  const mem = memoryCreate({ profile, bytes, cpus: count, nodes, trace, ...(zoneEnds ? { zoneEnds } : {}) })
  const cpus = mem.cpuNode.map((node, id) => new Cpu(id, node))
  return { mem, trace, cpus, cpu: cpus[0]!, profile }
}

/** @throws Error that lists what is still allocated and by whom; `mem.tracker` must be on. */
export function assertNoLeaks(mem: Memory): void {
  const live: LiveAllocation[] = mem.tracker?.live() ?? []
  if (live.length > 0) throw new Error(`still allocated:\n${leakReport(live).join('\n')}`)
}
