/**
 * A processor and the context it runs in. Half of the kernel's memory decisions ask where they are
 * (task, softirq, hardirq, interrupts off) and on which CPU and node; here that is an argument.
 */

/** Models what `smp_processor_id`, `numa_node_id` and `preempt_count` answer. Counters nest. */
export class Cpu {
  /** Depth of `local_bh_disable`; a softirq runs with it raised too. */
  bhDisabled = 0
  /** Depth of softirq handlers running on this CPU: 0 or 1. */
  servingSoftirq = 0
  hardirq = 0
  irqsDisabled = 0
  /** Models `PF_MEMALLOC` of the running task: non-zero entitles to the reserves. */
  pfMemalloc = 0

  constructor(
    readonly id: number,
    readonly node: number,
  ) {}
}

/** Models `in_softirq`: a softirq is running, or bottom halves are off. */
export const inSoftirq = (cpu: Cpu): boolean => cpu.bhDisabled !== 0 || cpu.servingSoftirq !== 0

/** Models `in_serving_softirq`: a softirq handler itself is running. */
export const inServingSoftirq = (cpu: Cpu): boolean => cpu.servingSoftirq !== 0

/** Models `in_hardirq`. */
export const inHardirq = (cpu: Cpu): boolean => cpu.hardirq !== 0

/** Models `irqs_disabled`. */
export const irqsDisabled = (cpu: Cpu): boolean => cpu.irqsDisabled !== 0
