/**
 * A NAPI: the promise to poll a source of packets. An interrupt schedules it on the CPU that took the
 * interrupt; that CPU's softirq polls it until the source is empty or a budget is used up.
 *
 * Invariant: a NAPI is on at most one poll list, and exactly when `NAPIF_STATE_SCHED` is set and nobody (poll,
 * busy poll, thread) is running it.
 */
import { assert, type Cpu } from '@netmem/base'
import type { NetDevice } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { NET_RX_SOFTIRQ, raiseSoftirq } from './softirq.js'

/** Models the bits of `NAPI_STATE_*` (include/linux/netdevice.h). */
export const NAPIF_STATE_SCHED = 1 << 0
export const NAPIF_STATE_MISSED = 1 << 1
export const NAPIF_STATE_DISABLE = 1 << 2
export const NAPIF_STATE_NPSVC = 1 << 3
export const NAPIF_STATE_LISTED = 1 << 4
export const NAPIF_STATE_NO_BUSY_POLL = 1 << 5
export const NAPIF_STATE_IN_BUSY_POLL = 1 << 6
export const NAPIF_STATE_PREFER_BUSY_POLL = 1 << 7
export const NAPIF_STATE_THREADED = 1 << 8
export const NAPIF_STATE_SCHED_THREADED = 1 << 9

/** Models `NAPI_POLL_WEIGHT`. */
export const NAPI_POLL_WEIGHT = 64
/** Models `BUSY_POLL_BUDGET`. */
export const BUSY_POLL_BUDGET = 8
/** Models `GRO_HASH_BUCKETS` and `MAX_GRO_SKBS`: flows per bucket. */
export const GRO_HASH_BUCKETS = 8
export const MAX_GRO_SKBS = 8

/** Models `napi->poll`. Takes up to `budget` packets. @returns how many; fewer than `budget` after completing. */
export type NapiPoll = (cpu: Cpu, napi: NapiStruct, budget: number) => number

/** Models `struct napi_struct`. */
export class NapiStruct {
  state = 0
  /** The next on the same poll list. */
  next: NapiStruct | null = null
  /** CPU whose poll list or poll owns it, -1 nobody. Page pools ask this. */
  listOwner = -1
  // GRO: held packets, 8 buckets of up to 8, the newest first.
  readonly groHash = new Int32Array(GRO_HASH_BUCKETS * MAX_GRO_SKBS)
  readonly groCount = new Int32Array(GRO_HASH_BUCKETS)
  /** Models `gro_bitmask`: buckets that hold something. */
  groBitmask = 0
  /** Models `rx_list`: packets to be passed up together, ids linked by `next`. */
  rxFirst = 0
  rxLast = 0
  rxCount = 0
  /** Models `napi->skb`: the packet that `napi_get_frags` hands out, 0 none. */
  skb = 0
  /** Models `defer_hard_irqs_count`. */
  deferHardIrqsCount = 0
  /** Models `gro_flush_timeout` and `defer_hard_irqs` of this NAPI; -1: the device's values. */
  groFlushTimeoutNs = -1
  deferHardIrqs = -1
  irqSuspendTimeoutNs = 0
  /** Event number of the armed `napi_watchdog`, 0 none. */
  timer = 0
  /** CPU that takes this NAPI's interrupt. */
  irqCpu: Cpu
  /** Ours: polls, and packets they handled. */
  polls = 0
  readonly work = new Float64Array(1)
  /** The driver's own. */
  priv: unknown = null

  constructor(
    readonly env: NetDevs,
    readonly dev: NetDevice | null,
    /** Models `napi_id`. */
    readonly napiId: number,
    readonly poll: NapiPoll,
    readonly weight: number,
  ) {
    this.irqCpu = env.cpus[0]!
  }
}

/** Models a `poll_list`: NAPIs in the order in which they will be polled. */
export class NapiList {
  first: NapiStruct | null = null
  last: NapiStruct | null = null
}

/** Models `list_add_tail`. */
export function napiListAdd(list: NapiList, napi: NapiStruct): void {
  if (__ASSERT__) assert(napi.next === null && list.last !== napi, 'a NAPI is on one poll list only')
  if (list.last === null) list.first = napi
  else list.last.next = napi
  list.last = napi
}

/** Takes the first, or null. */
export function napiListPop(list: NapiList): NapiStruct | null {
  const napi = list.first
  if (napi === null) return null
  list.first = napi.next
  if (list.first === null) list.last = null
  napi.next = null
  return napi
}

/** Models `list_splice_tail_init`: all of `from` goes behind `to`. */
export function napiListSplice(to: NapiList, from: NapiList): void {
  if (from.first === null) return
  if (to.last === null) to.first = from.first
  else to.last.next = from.first
  to.last = from.last
  from.first = null
  from.last = null
}

/**
 * Models `napi_schedule_prep` (net/core/dev.c): tries to become the one who polls.
 *
 * @returns true for exactly one caller until the poll completes; a second caller leaves a note (`MISSED`).
 */
export function napiSchedulePrep(napi: NapiStruct): boolean {
  const state = napi.state
  if ((state & NAPIF_STATE_DISABLE) !== 0) return false
  if ((state & NAPIF_STATE_SCHED) !== 0) {
    napi.state = state | NAPIF_STATE_MISSED
    return false
  }
  napi.state = state | NAPIF_STATE_SCHED
  return true
}

/** Models `__napi_schedule` and `____napi_schedule`: on this CPU's poll list, or to its thread. */
export function napiScheduleUnchecked(cpu: Cpu, napi: NapiStruct): void {
  const env = napi.env
  if ((napi.state & NAPIF_STATE_THREADED) !== 0) {
    napi.state |= NAPIF_STATE_SCHED_THREADED
    env.clock.schedule(env.clock.nowNs, env.timers.thread, napi.napiId, cpu.id)
    return
  }
  const sd = env.softnet[cpu.id]!
  napiListAdd(sd.pollList, napi)
  napi.listOwner = cpu.id
  if (!sd.inNetRxAction) raiseSoftirq(env, cpu, NET_RX_SOFTIRQ)
}

/** Models `napi_schedule`. @returns whether this call scheduled it. */
export function napiSchedule(cpu: Cpu, napi: NapiStruct): boolean {
  if (!napiSchedulePrep(napi)) return false
  napiScheduleUnchecked(cpu, napi)
  return true
}
