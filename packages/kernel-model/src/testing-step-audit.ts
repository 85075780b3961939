/**
 * The audit that can be afforded after every step of a long run: the books of sockets, their protocols, groups and
 * queues, and that counters only grow. What walks all memory (`auditKernel`) runs every so many steps.
 */
import { tcpOf } from '@netmem/inet'
import { auditFrags, auditTcp, auditUdp } from '@netmem/inet/testing'
import { MIB_NAMES } from '@netmem/sockmem'
import { auditSocks } from '@netmem/sockmem/testing'
import type { Kernel } from './kernel.js'
import { auditKernel } from './testing.js'

/** Counters that go both ways. */
const GAUGES = new Set(['Tcp.CurrEstab', 'Tls.TlsCurrTxSw', 'Tls.TlsCurrRxSw'])

export class StepAudit {
  private readonly counters: Float64Array
  private steps = 0

  /** @param every steps between two audits of everything. */
  constructor(
    private readonly kernel: Kernel,
    private readonly every: number,
  ) {
    this.counters = kernel.initNet.ns.mib.slice()
  }

  /** @throws Error whose message names the law that does not hold. */
  check(): void {
    const { kernel } = this
    this.steps += 1
    if (this.steps % this.every === 0) auditKernel(kernel)
    else {
      auditSocks(kernel.socks)
      auditUdp(kernel.inet)
      auditTcp(tcpOf(kernel.inet))
      auditFrags(kernel.inet)
    }
    this.checkCounters()
    const managed = kernel.mem.zones.reduce((sum, zone) => sum + zone.managed - zone.free, 0)
    if (managed < 0) throw new Error('more pages are free than there are')
  }

  private checkCounters(): void {
    const { mib } = this.kernel.initNet.ns
    for (let i = 0; i < mib.length; i++) {
      if (mib[i]! < this.counters[i]! && !GAUGES.has(MIB_NAMES[i]!))
        throw new Error(`${MIB_NAMES[i]} fell from ${this.counters[i]} to ${mib[i]}`)
      this.counters[i] = mib[i]!
    }
  }
}
