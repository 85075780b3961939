/**
 * How packets get through a qdisc: straight to the driver while nothing waits, else into the band of their
 * priority and out again when the driver has room.
 */
import { assert, type Cpu } from '@netmem/base'
import { kfreeSkb, type SkBuff, skbDequeue, skbQueueTail } from '@netmem/skbuff'
import { devHardStartXmit } from './hard-start-xmit.js'
import { NET_XMIT_DROP, NETDEV_TX_OK } from './net-device.js'
import { netifXmitStopped } from './netdev-queue.js'
import { netifSchedule, PFIFO_FAST_BANDS, type Qdisc } from './qdisc.js'
import { validateXmitSkbList } from './validate-xmit.js'

/** Models `sch_default_prio2band`: which band serves which priority. */
const PRIO2BAND = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
assert(Math.max(...PRIO2BAND) === PFIFO_FAST_BANDS - 1, 'a priority without a band')

/** Models `pfifo_fast_enqueue`. Takes the skb. @returns `NETDEV_TX_OK` or `NET_XMIT_DROP`. */
function pfifoFastEnqueue(cpu: Cpu, q: Qdisc, skb: SkBuff): number {
  const band = q.bands[PRIO2BAND[skb.priority & 15]!]!
  if (band.qlen >= q.limit) {
    q.drops++
    q.overlimits++
    kfreeSkb(cpu, skb, 'QDISC_DROP', '__dev_queue_xmit')
    return NET_XMIT_DROP
  }
  q.backlogBytes += skb.len
  q.qlen++
  skbQueueTail(band, skb)
  return NETDEV_TX_OK
}

/** Models `dequeue_skb`: what the driver refused goes first, and was validated already. */
function dequeueSkb(q: Qdisc): SkBuff | null {
  for (let i = 0; i < PFIFO_FAST_BANDS; i++) {
    const skb = q.bands[i]!.qlen === 0 ? null : skbDequeue(q.bands[i]!)
    if (skb === null) continue
    q.qlen--
    q.backlogBytes -= skb.len
    return skb
  }
  return null
}

/** Models `dev_requeue_skb`: keeps the order of a list that the driver refused. */
function devRequeueSkb(q: Qdisc, first: SkBuff): void {
  const skbs = q.env.skbs.skbs
  let skb = first
  for (;;) {
    const next = skb.next
    skb.next = 0
    q.requeues++
    skbQueueTail(q.requeued, skb)
    if (next === 0) return
    skb = skbs[next]!
  }
}

/**
 * Models `sch_direct_xmit` (net/sched/sch_generic.c): gives one packet, or the segments of one, to the driver.
 *
 * @param validate false for what was refused before: it is segmented and checksummed already.
 * @returns true when the driver took everything.
 */
function schDirectXmit(cpu: Cpu, q: Qdisc, skb: SkBuff, validate: boolean): boolean {
  const dev = q.txq.dev
  const list = validate ? validateXmitSkbList(q.env, cpu, skb, dev) : skb
  if (list === null) return true
  if (netifXmitStopped(q.txq)) {
    devRequeueSkb(q, list)
    return false
  }
  const left = devHardStartXmit(q.env, cpu, list, dev, q.txq)
  if (left === null) {
    q.packets++
    return true
  }
  devRequeueSkb(q, left)
  return false
}

/** Models `__qdisc_run`: up to `dev_tx_weight` packets; the TX softirq goes on with the rest. */
export function qdiscRun(cpu: Cpu, q: Qdisc): void {
  if (q.running) return
  q.running = true
  let quota = q.env.sysctl.devTxWeight
  while (!netifXmitStopped(q.txq)) {
    const refused = q.requeued.qlen > 0 ? skbDequeue(q.requeued) : null
    const skb = refused ?? dequeueSkb(q)
    if (skb === null || !schDirectXmit(cpu, q, skb, refused === null)) break
    quota--
    if (quota <= 0) {
      netifSchedule(cpu, q)
      break
    }
  }
  q.running = false
}

/**
 * Models `__dev_xmit_skb` (net/core/dev.c): straight to the driver when nothing waits (`TCQ_F_CAN_BYPASS`), else
 * into the queue. Takes the skb.
 *
 * @returns `NETDEV_TX_OK` or `NET_XMIT_DROP`. What a driver that was reached directly said is not passed on.
 */
export function devXmitSkb(cpu: Cpu, q: Qdisc, skb: SkBuff): number {
  if (q.qlen === 0 && q.requeued.qlen === 0 && !q.running && !netifXmitStopped(q.txq)) {
    q.running = true
    schDirectXmit(cpu, q, skb, true)
    q.running = false
    if (q.qlen > 0) qdiscRun(cpu, q)
    return NETDEV_TX_OK
  }
  const rc = pfifoFastEnqueue(cpu, q, skb)
  qdiscRun(cpu, q)
  return rc
}

/** Models `dev_reset_queue`: frees what waits. */
export function qdiscReset(cpu: Cpu, q: Qdisc): void {
  for (;;) {
    const skb = q.requeued.qlen > 0 ? skbDequeue(q.requeued) : dequeueSkb(q)
    if (skb === null) return
    kfreeSkb(cpu, skb, 'QUEUE_PURGE', 'qdisc_reset')
  }
}
