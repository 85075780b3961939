/**
 * The way out: from a protocol to a device's queue. Everything happens with bottom halves off, and re-enabling
 * them is what delivers a loopback packet before the sender's call returns.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { kfreeSkb, type SkBuff } from '@netmem/skbuff'
import { reciprocalScale, skbGetHash } from './flow-hash.js'
import { devHardStartXmit, devXmitComplete } from './hard-start-xmit.js'
import { NET_XMIT_CN, NETDEV_TX_BUSY, type NetDevice, TX_DROPPED } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { type NetdevQueue, netifXmitStopped } from './netdev-queue.js'
import { devXmitSkb } from './pfifo-fast.js'
import { localBhDisable, localBhEnable } from './softirq.js'
import { validateXmitSkb } from './validate-xmit.js'

/** Models `netdev_core_pick_tx`: the driver's choice, else by flow. */
export function netdevCorePickTx(env: NetDevs, dev: NetDevice, skb: SkBuff): NetdevQueue {
  if (dev.realNumTxQueues === 1) return dev.txq[0]!
  const index =
    dev.ops.selectQueue !== undefined
      ? dev.ops.selectQueue(dev, skb)
      : reciprocalScale(skbGetHash(env, skb), dev.realNumTxQueues)
  skb.queueMapping = index < dev.realNumTxQueues ? index : 0
  return dev.txq[skb.queueMapping]!
}

/**
 * Models `__dev_queue_xmit` and `dev_queue_xmit` (net/core/dev.c). Takes the skb; `skb.dev` says where to.
 *
 * @returns 0, a positive `NET_XMIT_*`, or -errno (`-ENETDOWN` when a queueless device could not take it).
 */
export function devQueueXmit(env: NetDevs, cpu: Cpu, skb: SkBuff): number {
  const dev = env.devices[skb.dev]!
  skb.macHeader = (skb.data - skb.head) | 0
  localBhDisable(cpu)
  if (env.trace.netDevQueue !== null) env.trace.netDevQueue(cpu, skb.addr, skb.len, dev.name)
  const txq = netdevCorePickTx(env, dev, skb)
  let rc: number
  if (dev.running && !dev.carrier) rc = noopEnqueue(cpu, skb, dev)
  else rc = txq.qdisc !== null ? devXmitSkb(cpu, txq.qdisc, skb) : xmitNoQueue(env, cpu, skb, dev, txq)
  localBhEnable(env, cpu)
  return rc
}

/** Models `noop_enqueue` (net/sched/sch_generic.c): what the link watch puts above a device that lost its carrier. */
function noopEnqueue(cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
  dev.stats[TX_DROPPED]!++
  kfreeSkb(cpu, skb, 'QDISC_DROP', '__dev_queue_xmit')
  return NET_XMIT_CN
}

/** The part of `__dev_queue_xmit` for devices without a queue: loopback, veth, tunnels. */
function xmitNoQueue(env: NetDevs, cpu: Cpu, packet: SkBuff, dev: NetDevice, txq: NetdevQueue): number {
  if (!dev.running) {
    // The kernel's comment calls this the illegal case: the device went down under the sender.
    dev.stats[TX_DROPPED]!++
    kfreeSkb(cpu, packet, 'DEV_READY', '__dev_queue_xmit')
    return -ERRNO.ENETDOWN
  }
  const sd = env.softnet[cpu.id]!
  if (sd.xmitRecursion > env.xmitRecursionLimit) {
    if (env.trace.printk !== null)
      env.trace.printk(`Dead loop on virtual device ${dev.name} (net ${dev.ns}), fix it urgently!`)
    dev.stats[TX_DROPPED]!++
    kfreeSkb(cpu, packet, 'RECURSION_LIMIT', '__dev_queue_xmit')
    return -ERRNO.ENETDOWN
  }
  const skb = validateXmitSkb(env, cpu, packet, dev)
  if (skb === null) return -ERRNO.ENOMEM
  let left: SkBuff | null = skb
  if (!netifXmitStopped(txq)) {
    sd.xmitRecursion++
    left = devHardStartXmit(env, cpu, skb, dev, txq)
    sd.xmitRecursion--
    if (left === null && devXmitComplete(env.xmitRc)) return env.xmitRc
  }
  if (env.trace.printk !== null) env.trace.printk(`Virtual device ${dev.name} asks to queue packet!`)
  freeList(env, cpu, left)
  dev.stats[TX_DROPPED]!++
  return -ERRNO.ENETDOWN
}

function freeList(env: NetDevs, cpu: Cpu, first: SkBuff | null): void {
  let skb = first
  while (skb !== null) {
    const next: SkBuff | null = skb.next === 0 ? null : env.skbs.skbs[skb.next]!
    skb.next = 0
    kfreeSkb(cpu, skb, 'DEV_READY', '__dev_queue_xmit')
    skb = next
  }
}

/**
 * Models `__dev_direct_xmit` (net/core/dev.c): past the qdisc, for packet sockets with `PACKET_QDISC_BYPASS` and
 * AF_XDP.
 *
 * @returns the driver's answer; `NETDEV_TX_BUSY` leaves the skb with the caller.
 */
export function devDirectXmit(env: NetDevs, cpu: Cpu, skb: SkBuff, queue: number): number {
  const dev = env.devices[skb.dev]!
  if (!dev.running || !dev.carrier) return dropDirect(cpu, dev, skb)
  const valid = validateXmitSkb(env, cpu, skb, dev)
  if (valid !== skb || skb.next !== 0) {
    if (valid !== null) freeList(env, cpu, valid)
    dev.stats[TX_DROPPED]!++
    return 1
  }
  const txq = dev.txq[queue < dev.realNumTxQueues ? queue : 0]!
  skb.queueMapping = txq.index
  localBhDisable(cpu)
  let rc = NETDEV_TX_BUSY
  const sd = env.softnet[cpu.id]!
  sd.xmitRecursion++
  // Models netdev_start_xmit: taps and tracepoints are passed by too.
  if (!netifXmitStopped(txq)) rc = dev.ops.startXmit(cpu, skb, dev)
  sd.xmitRecursion--
  localBhEnable(env, cpu)
  return rc
}

function dropDirect(cpu: Cpu, dev: NetDevice, skb: SkBuff): number {
  dev.stats[TX_DROPPED]!++
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', '__dev_direct_xmit')
  return 1
}
