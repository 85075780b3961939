/**
 * Softirqs: work that a CPU does when it leaves an interrupt or re-enables bottom halves. Nothing here runs
 * by itself; a CPU runs its softirqs inside the call that makes them possible, so when a send over loopback
 * returns, the packet has been delivered.
 */
import { assert, type Cpu } from '@netmem/base'
import type { NetDevs } from './net-devs.js'

/** Models the numbers of `enum` softirq (include/linux/interrupt.h): lower ones run first. */
export const HI_SOFTIRQ = 0
export const TIMER_SOFTIRQ = 1
export const NET_TX_SOFTIRQ = 2
export const NET_RX_SOFTIRQ = 3
export const TASKLET_SOFTIRQ = 6
export const NR_SOFTIRQS = 10

/** Models `MAX_SOFTIRQ_RESTART`: rounds before the rest is left to ksoftirqd. */
export const MAX_SOFTIRQ_RESTART = 10

/** A softirq's handler: `softirq_action`. */
export type SoftirqAction = (env: NetDevs, cpu: Cpu) => void

/** Models `open_softirq`: upper layers hang their tasklets and timers here. */
export function openSoftirq(env: NetDevs, nr: number, action: SoftirqAction): void {
  env.softirqVec[nr] = action
}

/** Models `__raise_softirq_irqoff`: marks it; somebody else makes it run. */
export function raiseSoftirq(env: NetDevs, cpu: Cpu, nr: number): void {
  env.softnet[cpu.id]!.pending |= 1 << nr
}

/** Models `local_bh_disable`. */
export function localBhDisable(cpu: Cpu): void {
  cpu.bhDisabled++
}

/** Models `local_bh_enable`: the outermost one runs what became pending meanwhile. */
export function localBhEnable(env: NetDevs, cpu: Cpu): void {
  if (__ASSERT__) assert(cpu.bhDisabled > 0, 'local_bh_enable without local_bh_disable')
  cpu.bhDisabled--
  if (cpu.bhDisabled === 0 && cpu.hardirq === 0 && env.softnet[cpu.id]!.pending !== 0) doSoftirq(env, cpu)
}

/** Models `irq_enter`. */
export function irqEnter(cpu: Cpu): void {
  cpu.hardirq++
}

/** Models `irq_exit`: softirqs run when the interrupt hit a CPU that allowed them. */
export function irqExit(env: NetDevs, cpu: Cpu): void {
  if (__ASSERT__) assert(cpu.hardirq > 0, 'irq_exit without irq_enter')
  cpu.hardirq--
  if (cpu.hardirq === 0 && cpu.bhDisabled === 0 && env.softnet[cpu.id]!.pending !== 0) doSoftirq(env, cpu)
}

/**
 * Models `do_softirq` and `__do_softirq` (kernel/softirq.c).
 *
 * Differs: after `MAX_SOFTIRQ_RESTART` rounds the kernel wakes ksoftirqd, which goes on when the scheduler lets
 * it; here the wake-up is counted and the work goes on at once, unless the machine has a cost model, in which
 * case the rest waits until the CPU has spent the time that the work so far took.
 */
export function doSoftirq(env: NetDevs, cpu: Cpu): void {
  if (cpu.bhDisabled !== 0 || cpu.hardirq !== 0) return
  const sd = env.softnet[cpu.id]!
  if (env.timed && env.clock.nowNs < sd.busyUntilNs) {
    resumeWhenFree(env, cpu)
    return
  }
  cpu.servingSoftirq = 1
  cpu.bhDisabled++
  let rounds = MAX_SOFTIRQ_RESTART
  while (sd.pending !== 0) {
    const pending = sd.pending
    sd.pending = 0
    for (let nr = 0; nr < NR_SOFTIRQS; nr++) {
      if ((pending & (1 << nr)) === 0) continue
      const action = env.softirqVec[nr]
      if (action !== null && action !== undefined) action(env, cpu)
    }
    if (env.timed && sd.spentNs > 0) {
      sd.busyUntilNs = env.clock.nowNs + sd.spentNs
      sd.busyNs += sd.spentNs
      sd.spentNs = 0
      break
    }
    if (--rounds === 0) {
      if (sd.pending !== 0) sd.ksoftirqdWakeups++
      rounds = MAX_SOFTIRQ_RESTART
    }
  }
  cpu.bhDisabled--
  cpu.servingSoftirq = 0
  if (sd.pending !== 0) resumeWhenFree(env, cpu)
}

/** With a cost model, arrivals during the time that work takes must find the CPU busy: it goes on by an event. */
function resumeWhenFree(env: NetDevs, cpu: Cpu): void {
  const sd = env.softnet[cpu.id]!
  if (sd.resumeScheduled) return
  sd.resumeScheduled = true
  sd.ksoftirqdWakeups++
  env.clock.schedule(Math.max(sd.busyUntilNs, env.clock.nowNs), env.timers.resume, cpu.id, 0)
}
