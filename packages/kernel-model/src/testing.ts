/**
 * Proofs for tests: that the books of every package balance at this moment, and that nothing is left when a
 * test is over. `quiesce` gives back what caches hold on to by design, so that the rest is a leak.
 */
import { auditDma } from '@netmem/dma/testing'
import { auditInet } from '@netmem/inet/testing'
import { leakReport, trackAllocations } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { pageFragCacheDrain } from '@netmem/page-frag'
import { napiSkbCacheResize, napiSlicesDrain } from '@netmem/skbuff'
import { auditSkbs } from '@netmem/skbuff/testing'
import { auditSocks } from '@netmem/sockmem/testing'
import { auditNetDevs } from '@netmem/virtual-nic/testing'
import type { TlsEnv } from '@netmem/zerocopy'
import {
  assertPacketsQuiescent,
  assertXskQuiescent,
  auditPackets,
  auditTls,
  auditVfs,
  auditXsk,
} from '@netmem/zerocopy/testing'
import type { Kernel } from './kernel.js'

/** Runs the audits of all packages. @throws Error whose message names the law that does not hold. */
export function auditKernel(kernel: Kernel): void {
  auditMemory(kernel.mem)
  auditDma(kernel.dma)
  auditSkbs(kernel.skbs)
  auditNetDevs(kernel.devs)
  auditSocks(kernel.socks)
  auditInet(kernel.inet)
  auditTls(kernel.inet.owned.tls as TlsEnv)
  auditVfs(kernel.vfs)
  auditXsk(kernel.xsk)
  auditPackets(kernel.packet)
}

/**
 * Starts to remember who allocates what, so that `assertQuiescent` can name the step and the site. What is
 * live already, the kernel's own, is not looked at.
 *
 * @returns a function that says which step runs now.
 */
export function trackSteps(kernel: Kernel): (step: number) => void {
  const tracker = trackAllocations(kernel.mem)
  return (step) => {
    tracker.step = step
  }
}

/** Lets timers and grace periods run out and empties the per-CPU caches. */
export function quiesce(kernel: Kernel): void {
  kernel.settle()
  const { skbs } = kernel
  for (const cpu of kernel.cpus) {
    napiSkbCacheResize(skbs, cpu, 0)
    napiSlicesDrain(skbs, cpu, skbs.napi[cpu.id]!)
    for (const frag of [skbs.fragCaches.napi[cpu.id]!, skbs.fragCaches.netdev[cpu.id]!]) pageFragCacheDrain(frag, cpu)
  }
}

/**
 * Proves that nothing is allocated that `trackSteps` saw being allocated. Processes must have exited.
 *
 * @throws Error that lists what is left, by site and cache, and the first blocks with their steps.
 */
export function assertQuiescent(kernel: Kernel): void {
  quiesce(kernel)
  assertXskQuiescent(kernel.xsk)
  assertPacketsQuiescent(kernel.packet)
  const { tracker } = kernel.mem
  if (tracker === null) throw new Error('assertQuiescent needs trackSteps before the first step')
  // Every namespace has sockets of the kernel's own, which answer for it; they live as long as it does.
  const own = new Set(kernel.inet.nets.flatMap((net) => [net?.icmpSk?.addr, net?.icmp6Sk?.addr]))
  const live = tracker.live().filter((block) => !own.has(block.addr))
  if (live.length === 0) return
  const blocks = live
    .slice(0, 8)
    .map(({ site, cache, bytes, step }) => `step ${step}: ${cache || 'pages'} of ${bytes} bytes from ${site}`)
  throw new Error(`${live.length} blocks are still allocated:\n${[...leakReport(live), ...blocks].join('\n')}`)
}
