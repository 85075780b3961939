/**
 * The per-CPU backlog, the way into the stack for packets without a NAPI of their own: loopback, veth,
 * `netif_rx`, and packets that another CPU steered here.
 *
 * Limit: a packet is refused when the input queue already holds more than `netdev_max_backlog`, so max + 1
 * packets fit.
 */
import type { Cpu } from '@netmem/base'
import { kfreeSkb, type SkBuff, skbQueueTail } from '@netmem/skbuff'
import { skbGetHash } from './flow-hash.js'
import { NAPIF_STATE_SCHED, napiScheduleUnchecked } from './napi-struct.js'
import { NET_RX_DROP, NET_RX_SUCCESS, RX_DROPPED } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { localBhDisable, localBhEnable, NET_RX_SOFTIRQ, raiseSoftirq } from './softirq.js'
import { FLOW_LIMIT_HISTORY, FlowLimit, type SoftnetData } from './softnet.js'

/**
 * Models `enqueue_to_backlog` (net/core/dev.c). Takes the skb, whatever it returns.
 *
 * @param cpu who calls. @param target whose backlog.
 */
export function enqueueToBacklog(env: NetDevs, cpu: Cpu, skb: SkBuff, target: number): number {
  const dev = env.devices[skb.dev]!
  const sd = env.softnet[target]!
  if (!dev.running) {
    dev.stats[RX_DROPPED]!++
    kfreeSkb(cpu, skb, 'DEV_READY', 'enqueue_to_backlog')
    return NET_RX_DROP
  }
  const qlen = sd.inputPktQueue.qlen
  if (qlen > env.sysctl.maxBacklog || skbFlowLimit(env, sd, skb, qlen)) {
    sd.dropped++
    dev.stats[RX_DROPPED]!++
    kfreeSkb(cpu, skb, 'CPU_BACKLOG', 'enqueue_to_backlog')
    return NET_RX_DROP
  }
  if (qlen === 0 && (sd.backlog.state & NAPIF_STATE_SCHED) === 0) {
    sd.backlog.state |= NAPIF_STATE_SCHED
    napiScheduleRps(env, cpu, sd)
  }
  skbQueueTail(sd.inputPktQueue, skb)
  return NET_RX_SUCCESS
}

/** Models `napi_schedule_rps`: another CPU is told by an interrupt, when this CPU's softirq ends. */
function napiScheduleRps(env: NetDevs, cpu: Cpu, sd: SoftnetData): void {
  if (sd.cpu.id === cpu.id) {
    napiScheduleUnchecked(cpu, sd.backlog)
    return
  }
  env.softnet[cpu.id]!.rpsIpiList.push(sd.cpu)
  raiseSoftirq(env, cpu, NET_RX_SOFTIRQ)
}

/**
 * Models `skb_flow_limit` (net/core/dev.c): while the backlog is half full, a flow that made more than half of
 * the last packets is refused. Off unless the CPU's bit is set in `flowLimitCpuBitmap`.
 */
function skbFlowLimit(env: NetDevs, sd: SoftnetData, skb: SkBuff, qlen: number): boolean {
  if (qlen < env.sysctl.maxBacklog >> 1) return false
  if ((env.sysctl.flowLimitCpuBitmap & (1 << sd.cpu.id)) === 0) return false
  if (sd.flowLimit === null) sd.flowLimit = new FlowLimit(env.sysctl.flowLimitTableLen)
  const fl = sd.flowLimit
  skb.networkHeader = (skb.data - skb.head) | 0
  const flow = skbGetHash(env, skb) & (fl.buckets.length - 1)
  const oldest = fl.history[fl.historyHead]!
  fl.history[fl.historyHead] = flow
  fl.historyHead = (fl.historyHead + 1) & (FLOW_LIMIT_HISTORY - 1)
  if (fl.buckets[oldest]! > 0) fl.buckets[oldest]!--
  if (++fl.buckets[flow]! > FLOW_LIMIT_HISTORY >> 1) {
    fl.count++
    sd.flowLimitCount++
    return true
  }
  return false
}

/** Models `__netif_rx` (net/core/dev.c): softirq context or bottom halves off. Takes the skb. */
export function netifRxUnchecked(env: NetDevs, cpu: Cpu, skb: SkBuff): number {
  if (env.trace.netifRx !== null) env.trace.netifRx(cpu, skb.addr, skb.len, env.devices[skb.dev]!.name)
  return enqueueToBacklog(env, cpu, skb, cpu.id)
}

/** Models `netif_rx`: any context; in task context the packet is delivered before it returns. */
export function netifRx(env: NetDevs, cpu: Cpu, skb: SkBuff): number {
  if (cpu.hardirq !== 0 || cpu.bhDisabled !== 0) return netifRxUnchecked(env, cpu, skb)
  localBhDisable(cpu)
  const rc = netifRxUnchecked(env, cpu, skb)
  localBhEnable(env, cpu)
  return rc
}
