/**
 * The two network softirqs: receive polls NAPIs under a budget, transmit frees what interrupts could not free
 * and runs stopped queues. And the backlog's own poll function.
 */
import type { Cpu } from '@netmem/base'
import { netTxCompletion, skbDeferFreeFlush, skbDequeue, skbQueueSpliceTailInit } from '@netmem/skbuff'
import { napiPoll } from './napi.js'
import { NAPIF_STATE_SCHED, NapiStruct, napiListPop, napiListSplice, napiScheduleUnchecked } from './napi-struct.js'
import type { NetDevs } from './net-devs.js'
import { qdiscRun } from './pfifo-fast.js'
import { netifReceiveSkbCore } from './receive.js'
import { irqEnter, irqExit, NET_RX_SOFTIRQ, raiseSoftirq } from './softirq.js'
import type { SoftnetData } from './softnet.js'

/**
 * Models `net_rx_action` (net/core/dev.c): polls until the list is empty, the budget is used up or the time is
 * over. A NAPI is polled before the limits are looked at, so each gets at least one poll.
 */
export function netRxAction(env: NetDevs, cpu: Cpu): void {
  const sd = env.softnet[cpu.id]!
  const list = sd.rxList
  const repoll = sd.rxRepoll
  let budget = env.sysctl.netdevBudget
  const limitNs = env.sysctl.netdevBudgetUsecs * 1000
  sd.inNetRxAction = true
  napiListSplice(list, sd.pollList)
  for (;;) {
    skbDeferFreeFlush(cpu, env.skbs)
    const napi = napiListPop(list)
    if (napi === null) {
      if (repoll.first !== null) break
      sd.inNetRxAction = false
      // A NAPI that was scheduled while the last one was polled raised nothing: take it now.
      if (sd.pollList.first === null) {
        netRpsActionAndIrqEnable(env, cpu, sd)
        return
      }
      sd.inNetRxAction = true
      napiListSplice(list, sd.pollList)
      continue
    }
    budget -= napiPoll(cpu, napi, repoll)
    if (budget <= 0 || (env.timed && sd.spentNs >= limitNs)) {
      sd.timeSqueeze++
      break
    }
  }
  // Order for the next round: what was left, then what came meanwhile, then what used its whole weight.
  napiListSplice(list, sd.pollList)
  napiListSplice(list, repoll)
  napiListSplice(sd.pollList, list)
  if (sd.pollList.first !== null) raiseSoftirq(env, cpu, NET_RX_SOFTIRQ)
  sd.inNetRxAction = false
  netRpsActionAndIrqEnable(env, cpu, sd)
}

/** Models `net_rps_action_and_irq_enable`: interrupts the CPUs whose backlogs were filled. */
function netRpsActionAndIrqEnable(env: NetDevs, _cpu: Cpu, sd: SoftnetData): void {
  while (sd.rpsIpiList.length > 0) {
    const target = sd.rpsIpiList.shift()!
    const remote = env.softnet[target.id]!
    // Models `rps_trigger_softirq`, which runs in the interrupt on the other CPU.
    irqEnter(target)
    napiScheduleUnchecked(target, remote.backlog)
    remote.receivedRps++
    irqExit(env, target)
  }
}

/** Models `net_tx_action` (net/core/dev.c): the completion queue, then the queues that may send again. */
export function netTxAction(env: NetDevs, cpu: Cpu): void {
  netTxCompletion(cpu, env.skbs)
  const sd = env.softnet[cpu.id]!
  let left = sd.outputQueue.length
  while (left > 0) {
    left--
    const q = sd.outputQueue.shift()!
    q.scheduled = false
    qdiscRun(cpu, q)
  }
}

/** Models `process_backlog` (net/core/dev.c): the poll function of a CPU's backlog. */
export function processBacklog(cpu: Cpu, napi: NapiStruct, quota: number): number {
  const { env } = napi
  const sd = env.softnet[cpu.id]!
  if (sd.rpsIpiList.length > 0) netRpsActionAndIrqEnable(env, cpu, sd)
  const weight = env.sysctl.devRxWeight
  let work = 0
  for (;;) {
    for (let skb = skbDequeue(sd.processQueue); skb !== null; skb = skbDequeue(sd.processQueue)) {
      netifReceiveSkbCore(env, cpu, skb)
      work++
      if (work >= quota || work >= weight) return work
    }
    if (sd.inputPktQueue.qlen === 0) {
      // Nobody else can have set it meanwhile: the list and the bit are both this CPU's.
      napi.state &= ~NAPIF_STATE_SCHED
      napi.listOwner = -1
      return work
    }
    skbQueueSpliceTailInit(sd.inputPktQueue, sd.processQueue)
  }
}

/** @returns the NAPI that stands for a CPU's backlog; it has no device and cannot be switched off. */
export function backlogNapi(env: NetDevs): NapiStruct {
  return new NapiStruct(env, null, 0, processBacklog, env.sysctl.devRxWeight)
}
