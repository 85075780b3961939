/**
 * One transmit queue of a device: whether the driver or the byte limit has stopped it, and the qdisc whose
 * packets wait above it.
 */
import type { Cpu } from '@netmem/base'
import { Dql, dqlAvail, dqlCompleted, dqlQueued, dqlReset } from './dynamic-queue-limits.js'
import type { NetDevice } from './net-device.js'
import { netifSchedule, type Qdisc } from './qdisc.js'

/** Models `__QUEUE_STATE_DRV_XOFF`: the driver has no room. */
export const QUEUE_STATE_DRV_XOFF = 1
/** Models `__QUEUE_STATE_STACK_XOFF`: byte queue limits hold the stack back. */
export const QUEUE_STATE_STACK_XOFF = 2

/** Models `struct netdev_queue`. */
export class NetdevQueue {
  state = 0
  /** null: `noqueue`. */
  qdisc: Qdisc | null = null
  readonly dql = new Dql()
  /** Models `trans_timeout`: how often the watchdog found this queue stuck. */
  transTimeout = 0
  transStartNs = 0

  constructor(
    readonly dev: NetDevice,
    readonly index: number,
  ) {}
}

/** Models `netif_tx_stop_queue`. */
export function netifTxStopQueue(txq: NetdevQueue): void {
  txq.state |= QUEUE_STATE_DRV_XOFF
}

/** Models `netif_tx_start_queue`. */
export function netifTxStartQueue(txq: NetdevQueue): void {
  txq.state &= ~QUEUE_STATE_DRV_XOFF
}

/** Models `netif_tx_wake_queue` (net/core/dev.c): starts the queue and has its qdisc run in the TX softirq. */
export function netifTxWakeQueue(cpu: Cpu, txq: NetdevQueue): void {
  if ((txq.state & QUEUE_STATE_DRV_XOFF) === 0) return
  txq.state &= ~QUEUE_STATE_DRV_XOFF
  if (txq.qdisc !== null) netifSchedule(cpu, txq.qdisc)
}

/** Models `netif_tx_queue_stopped`. */
export const netifTxQueueStopped = (txq: NetdevQueue): boolean => (txq.state & QUEUE_STATE_DRV_XOFF) !== 0

/** Models `netif_xmit_stopped`: by the driver or by byte queue limits. */
export const netifXmitStopped = (txq: NetdevQueue): boolean => txq.state !== 0

/** Models `netdev_tx_sent_queue`. @param bytes just put into the ring. */
export function netdevTxSentQueue(txq: NetdevQueue, bytes: number): void {
  dqlQueued(txq.dql, bytes)
  txq.transStartNs = txq.dev.env.clock.nowNs
  if (dqlAvail(txq.dql) >= 0) return
  txq.state |= QUEUE_STATE_STACK_XOFF
  // A completion may have made room between the two lines on another CPU; here it can not, but the test is free.
  if (dqlAvail(txq.dql) >= 0) txq.state &= ~QUEUE_STATE_STACK_XOFF
}

/** Models `netdev_tx_completed_queue`. @param packets @param bytes that the hardware has finished. */
export function netdevTxCompletedQueue(cpu: Cpu, txq: NetdevQueue, packets: number, bytes: number): void {
  if (packets === 0) return
  dqlCompleted(txq.dql, bytes, txq.dev.env.clock.nowNs)
  if (dqlAvail(txq.dql) < 0) return
  if ((txq.state & QUEUE_STATE_STACK_XOFF) === 0) return
  txq.state &= ~QUEUE_STATE_STACK_XOFF
  if (txq.qdisc !== null) netifSchedule(cpu, txq.qdisc)
}

/** Models `netdev_tx_reset_queue`. */
export function netdevTxResetQueue(txq: NetdevQueue): void {
  txq.state &= ~QUEUE_STATE_STACK_XOFF
  dqlReset(txq.dql, txq.dev.env.clock.nowNs)
}
