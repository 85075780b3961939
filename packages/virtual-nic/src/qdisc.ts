/**
 * The queue above a driver, as data: the three bands of `pfifo_fast` and what the driver refused. `pfifo-fast.ts`
 * moves packets through it.
 */
import type { Cpu } from '@netmem/base'
import { SkbQueue } from '@netmem/skbuff'
import type { NetDevs } from './net-devs.js'
import type { NetdevQueue } from './netdev-queue.js'
import { NET_TX_SOFTIRQ, raiseSoftirq } from './softirq.js'

/** Models `PFIFO_FAST_BANDS`. */
export const PFIFO_FAST_BANDS = 3

/** Models `struct Qdisc`. Counts are packets unless named otherwise. */
export class Qdisc {
  readonly bands: SkbQueue[] = []
  /** Models `gso_skb`: packets already taken off the queue that the driver refused. */
  readonly requeued: SkbQueue
  qlen = 0
  backlogBytes = 0
  drops = 0
  overlimits = 0
  requeues = 0
  packets = 0
  /** Models `__QDISC_STATE2_RUNNING`. */
  running = false
  /** Models `__QDISC_STATE_SCHED`: waits in a CPU's output queue. */
  scheduled = false

  constructor(
    readonly env: NetDevs,
    readonly txq: NetdevQueue,
    /** Packets per band: the device's transmit queue length. */
    public limit: number,
  ) {
    for (let i = 0; i < PFIFO_FAST_BANDS; i++) this.bands.push(new SkbQueue(env.skbs))
    this.requeued = new SkbQueue(env.skbs)
  }
}

/** Models `__netif_schedule` (net/core/dev.c): this CPU's TX softirq will run the queue. */
export function netifSchedule(cpu: Cpu, q: Qdisc): void {
  if (q.scheduled) return
  q.scheduled = true
  q.env.softnet[cpu.id]!.outputQueue.push(q)
  raiseSoftirq(q.env, cpu, NET_TX_SOFTIRQ)
}
