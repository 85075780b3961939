/**
 * Running a NAPI: polling with a weight, completing, the timers that put interrupts off, busy polling and
 * polling by a thread.
 */
import { assert, type Cpu } from '@netmem/base'
import { skbDeferFreeFlush } from '@netmem/skbuff'
import { groFlush, groNormalList } from './gro.js'
import {
  BUSY_POLL_BUDGET,
  NAPI_POLL_WEIGHT,
  NAPIF_STATE_DISABLE,
  NAPIF_STATE_IN_BUSY_POLL,
  NAPIF_STATE_LISTED,
  NAPIF_STATE_MISSED,
  NAPIF_STATE_NO_BUSY_POLL,
  NAPIF_STATE_NPSVC,
  NAPIF_STATE_PREFER_BUSY_POLL,
  NAPIF_STATE_SCHED,
  NAPIF_STATE_SCHED_THREADED,
  NAPIF_STATE_THREADED,
  type NapiList,
  type NapiPoll,
  NapiStruct,
  napiListAdd,
  napiSchedulePrep,
  napiScheduleUnchecked,
} from './napi-struct.js'
import type { NetDevice } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { localBhDisable, localBhEnable } from './softirq.js'

/**
 * Models `netif_napi_add_weight` (net/core/dev.c): the NAPI exists, disabled.
 *
 * @param weight packets per poll, 1 to 64. @throws RangeError below 1; above 64 the kernel only complains.
 */
export function netifNapiAdd(env: NetDevs, dev: NetDevice, poll: NapiPoll, weight = NAPI_POLL_WEIGHT): NapiStruct {
  if (!(weight >= 1)) throw new RangeError(`napi weight ${weight}: must be at least 1`)
  if (weight > NAPI_POLL_WEIGHT && env.trace.printk !== null)
    env.trace.printk(`netif_napi_add_weight() called with weight ${weight}`)
  const napi = new NapiStruct(env, dev, env.napiById.length, poll, weight)
  napi.state = NAPIF_STATE_SCHED | NAPIF_STATE_NPSVC | NAPIF_STATE_LISTED
  env.napiById.push(napi)
  dev.napis.push(napi)
  return napi
}

/** Models `napi_enable`: from now on it can be scheduled. */
export function napiEnable(napi: NapiStruct): void {
  assert((napi.state & NAPIF_STATE_SCHED) !== 0, 'napi_enable: it is enabled already')
  napi.state &= ~(NAPIF_STATE_SCHED | NAPIF_STATE_NPSVC | NAPIF_STATE_DISABLE | NAPIF_STATE_MISSED)
  if (napi.dev?.threaded === true) napi.state |= NAPIF_STATE_THREADED
}

/**
 * Models `napi_disable`: waits until nobody polls. What is scheduled is taken off its list, as the wait would
 * end with an empty poll; held packets stay held until `netifNapiDel`.
 */
export function napiDisable(napi: NapiStruct): void {
  const { env } = napi
  if ((napi.state & NAPIF_STATE_SCHED) !== 0) for (const sd of env.softnet) napiUnlist(sd.pollList, napi)
  napiTimerCancel(napi)
  napi.listOwner = -1
  napi.state =
    (napi.state & ~(NAPIF_STATE_MISSED | NAPIF_STATE_THREADED | NAPIF_STATE_SCHED_THREADED | NAPIF_STATE_DISABLE)) |
    NAPIF_STATE_SCHED |
    NAPIF_STATE_NPSVC
}

/** Models `__netif_napi_del`: frees what GRO held; the NAPI is gone. It must be disabled. */
export function netifNapiDel(cpu: Cpu, napi: NapiStruct, freeHeld: (cpu: Cpu, napi: NapiStruct) => void): void {
  freeHeld(cpu, napi)
  napi.state &= ~NAPIF_STATE_LISTED
  napi.env.napiById[napi.napiId] = null
  const list = napi.dev?.napis
  const at = list === undefined ? -1 : list.indexOf(napi)
  if (at >= 0) list!.splice(at, 1)
}

function napiUnlist(list: NapiList, napi: NapiStruct): void {
  let prev: NapiStruct | null = null
  for (let at = list.first; at !== null; prev = at, at = at.next) {
    if (at !== napi) continue
    if (prev === null) list.first = napi.next
    else prev.next = napi.next
    if (list.last === napi) list.last = prev
    napi.next = null
    return
  }
}

/**
 * Models `__napi_poll` and `napi_poll` (net/core/dev.c): one poll of up to the NAPI's weight.
 *
 * @param repoll where a NAPI that used its whole weight goes, to be polled again in this softirq.
 * @returns packets handled.
 */
export function napiPoll(cpu: Cpu, napi: NapiStruct, repoll: NapiList | null): number {
  const { env, weight } = napi
  let work = 0
  if ((napi.state & NAPIF_STATE_SCHED) !== 0) {
    work = napi.poll(cpu, napi, weight)
    napi.polls++
    if (env.trace.napiPoll !== null)
      env.trace.napiPoll(cpu, napi.napiId, napi.dev === null ? '(no_device)' : napi.dev.name, work, weight)
    if (env.timed) env.softnet[cpu.id]!.spentNs += work * env.costs.rxPacketNs
  }
  if (work > weight && env.trace.printk !== null)
    env.trace.printk(
      `NAPI poll function ${napi.dev?.name ?? '(no_device)'} returned ${work}, exceeding its budget of ${weight}.`,
    )
  if (work < weight) return work
  // It used its whole weight, so it owns itself still: the driver must not have completed.
  if ((napi.state & NAPIF_STATE_DISABLE) !== 0) {
    napiCompleteDone(cpu, napi, 0)
    return work
  }
  if ((napi.state & NAPIF_STATE_PREFER_BUSY_POLL) !== 0) {
    if (napiCompleteDone(cpu, napi, work)) napiSchedulePrep(napi) && napiScheduleUnchecked(cpu, napi)
    return work
  }
  // Packets held for more than a jiffy may not wait for another round; fresh ones may.
  groFlush(cpu, napi, env.profile.HZ >= 1000)
  groNormalList(cpu, napi)
  if (repoll !== null) napiListAdd(repoll, napi)
  return work
}

/**
 * Models `napi_complete_done` (net/core/dev.c): the source is empty.
 *
 * @param work packets that this poll handled.
 * @returns true when the driver is to re-enable its interrupt; false when the NAPI runs again without one.
 */
export function napiCompleteDone(cpu: Cpu, napi: NapiStruct, work: number): boolean {
  if ((napi.state & (NAPIF_STATE_NPSVC | NAPIF_STATE_IN_BUSY_POLL)) !== 0) return false
  let timeoutNs = 0
  let rearm = true
  const dev = napi.dev
  if (dev !== null) {
    const flushNs = napi.groFlushTimeoutNs >= 0 ? napi.groFlushTimeoutNs : dev.groFlushTimeoutNs
    if (work > 0) {
      if (napi.groBitmask !== 0) timeoutNs = flushNs
      napi.deferHardIrqsCount = napi.deferHardIrqs >= 0 ? napi.deferHardIrqs : dev.napiDeferHardIrqs
    }
    if (napi.deferHardIrqsCount > 0) {
      napi.deferHardIrqsCount--
      timeoutNs = flushNs
      if (timeoutNs > 0) rearm = false
    }
  }
  // With a timer running, only packets older than a jiffy go; without, all of them.
  if (napi.groBitmask !== 0) groFlush(cpu, napi, timeoutNs > 0)
  if (napi.rxCount !== 0) groNormalList(cpu, napi)
  napi.listOwner = -1
  if ((napi.state & NAPIF_STATE_MISSED) !== 0) {
    // Somebody wanted it scheduled while it ran: it is, once more.
    napi.state &= ~NAPIF_STATE_MISSED
    napiScheduleUnchecked(cpu, napi)
    return false
  }
  napi.state &= ~(NAPIF_STATE_SCHED | NAPIF_STATE_SCHED_THREADED | NAPIF_STATE_PREFER_BUSY_POLL)
  if (timeoutNs > 0) napiTimerStart(napi, timeoutNs)
  return rearm
}

/** Models `napi_complete`. */
export const napiComplete = (cpu: Cpu, napi: NapiStruct): boolean => napiCompleteDone(cpu, napi, 0)

// The timer that flushes GRO and polls while interrupts are put off.

function napiTimerStart(napi: NapiStruct, ns: number): void {
  napiTimerCancel(napi)
  const { clock, timers } = napi.env
  napi.timer = clock.schedule(clock.nowNs + ns, timers.watchdog, napi.napiId, 0)
}

function napiTimerCancel(napi: NapiStruct): void {
  if (napi.timer === 0) return
  napi.env.clock.cancel(napi.timer)
  napi.timer = 0
}

/** Models `napi_watchdog`: a timer interrupt that schedules the NAPI. */
export function napiWatchdog(cpu: Cpu, napi: NapiStruct): void {
  napi.timer = 0
  const idle = (napi.state & NAPIF_STATE_DISABLE) === 0 && (napi.state & NAPIF_STATE_SCHED) === 0
  if (idle && napiSchedulePrep(napi)) napiScheduleUnchecked(cpu, napi)
}

/**
 * Models `napi_busy_loop` (net/core/dev.c), one round of it: a reader polls the device itself.
 *
 * @param budget packets, `BUSY_POLL_BUDGET` by default. @returns packets handled.
 */
export function napiBusyLoop(cpu: Cpu, napi: NapiStruct, budget = BUSY_POLL_BUDGET, prefer = false): number {
  const { env } = napi
  const busy = NAPIF_STATE_SCHED | NAPIF_STATE_DISABLE | NAPIF_STATE_NO_BUSY_POLL | NAPIF_STATE_IN_BUSY_POLL
  if ((napi.state & busy) !== 0) {
    if (prefer) napi.state |= NAPIF_STATE_PREFER_BUSY_POLL
    return 0
  }
  localBhDisable(cpu)
  napi.state |= NAPIF_STATE_SCHED | NAPIF_STATE_IN_BUSY_POLL | (prefer ? NAPIF_STATE_PREFER_BUSY_POLL : 0)
  const work = napi.poll(cpu, napi, budget)
  if (env.trace.napiPoll !== null) env.trace.napiPoll(cpu, napi.napiId, napi.dev?.name ?? '(no_device)', work, budget)
  groNormalList(cpu, napi)
  skbDeferFreeFlush(cpu, env.skbs)
  busyPollStop(cpu, napi, budget, work)
  localBhEnable(env, cpu)
  return work
}

/** Models `busy_poll_stop`: hands the NAPI back, scheduling it if there was more than the budget allowed. */
function busyPollStop(cpu: Cpu, napi: NapiStruct, budget: number, work: number): void {
  const missed = (napi.state & NAPIF_STATE_MISSED) !== 0
  napi.state &= ~(NAPIF_STATE_IN_BUSY_POLL | NAPIF_STATE_MISSED)
  if (work === budget || missed) {
    groFlush(cpu, napi, false)
    groNormalList(cpu, napi)
    napiScheduleUnchecked(cpu, napi)
    return
  }
  // The driver's own completion was refused while we polled, so its interrupt is still off: poll once more.
  napi.state &= ~NAPIF_STATE_SCHED
  if (napiSchedulePrep(napi)) napiScheduleUnchecked(cpu, napi)
}

/** Models `dev_set_threaded`: the device's NAPIs are polled by threads of their own. */
export function devSetThreaded(dev: NetDevice, on: boolean): void {
  dev.threaded = on
  for (const napi of dev.napis) {
    if (on) napi.state |= NAPIF_STATE_THREADED
    else napi.state &= ~NAPIF_STATE_THREADED
  }
}

/** Models `napi_threaded_poll_loop`: the thread polls until the NAPI completes, letting softirqs run in between. */
export function napiThreadedPoll(cpu: Cpu, napi: NapiStruct): void {
  const { env } = napi
  while ((napi.state & NAPIF_STATE_SCHED_THREADED) !== 0 && (napi.state & NAPIF_STATE_SCHED) !== 0) {
    localBhDisable(cpu)
    napi.listOwner = cpu.id
    const again: NapiList = { first: null, last: null }
    napiPoll(cpu, napi, again)
    napi.next = null
    localBhEnable(env, cpu)
    if (again.first === null) break
  }
}
