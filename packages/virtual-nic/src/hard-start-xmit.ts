/**
 * The last step before a driver: taps see what leaves, then the driver takes it or says that it is busy.
 */
import type { Cpu } from '@netmem/base'
import { type SkBuff, skbClone } from '@netmem/skbuff'
import { NETDEV_TX_BUSY, NETDEV_TX_OK, type NetDevice } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { type NetdevQueue, netifXmitStopped } from './netdev-queue.js'
import { PACKET_OUTGOING, type PacketType } from './packet-type.js'

/** Models `dev_xmit_complete`: everything below 16 means that the driver has taken the skb. */
export const devXmitComplete = (rc: number): boolean => rc < NETDEV_TX_BUSY

/**
 * Models `dev_hard_start_xmit` (net/core/dev.c): a list linked by `next`, which the driver takes one by one.
 *
 * @returns the rest that was not taken, or null. `env.xmitRc` is the last answer of the driver.
 */
export function devHardStartXmit(
  env: NetDevs,
  cpu: Cpu,
  first: SkBuff,
  dev: NetDevice,
  txq: NetdevQueue,
): SkBuff | null {
  let skb: SkBuff | null = first
  env.xmitRc = NETDEV_TX_OK
  while (skb !== null) {
    const next: SkBuff | null = skb.next === 0 ? null : env.skbs.skbs[skb.next]!
    skb.next = 0
    const rc = xmitOne(env, cpu, skb, dev)
    env.xmitRc = rc
    if (!devXmitComplete(rc)) {
      skb.next = next === null ? 0 : next.id
      return skb
    }
    skb = next
    if (skb !== null && netifXmitStopped(txq)) {
      env.xmitRc = NETDEV_TX_BUSY
      return skb
    }
  }
  return null
}

/** Models `xmit_one` and `netdev_start_xmit`. @returns what the driver said. */
function xmitOne(env: NetDevs, cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
  if (env.taps !== 0) devQueueXmitNit(env, cpu, skb, dev)
  const { addr, len } = skb
  if (env.trace.netDevStartXmit !== null) env.trace.netDevStartXmit(cpu, addr, len, dev.name)
  const rc = dev.ops.startXmit(cpu, skb, dev)
  if (env.trace.netDevXmit !== null) env.trace.netDevXmit(cpu, addr, len, rc, dev.name)
  return rc
}

/**
 * Models `dev_queue_xmit_nit` (net/core/dev.c): every tap gets a clone of what leaves, except the tap that
 * sent it. One clone is shared: all but the last tap get a reference.
 */
export function devQueueXmitNit(env: NetDevs, cpu: Cpu, skb: SkBuff, dev: NetDevice): void {
  let clone: SkBuff | null = null
  let last: PacketType | null = null
  for (let pass = 0; pass < 2; pass++) {
    for (const pt of pass === 0 ? env.ptypeAll : dev.ptypeAll) {
      if (pt.ignoreOutgoing === true || (pt.ns !== undefined && pt.ns !== dev.ns)) continue
      if (pt.skipOwn?.(skb) === true) continue
      if (last !== null) {
        clone!.users++
        last.func(cpu, clone!, env.devices[skb.dev]!, last, dev)
        last = pt
        continue
      }
      clone = skbClone(cpu, skb, env.mem.gfp.GFP_ATOMIC)
      if (clone === null) return
      clone.macHeader = (clone.data - clone.head) | 0
      const networkOffset = (clone.head + clone.networkHeader - clone.data) | 0
      if (networkOffset < 0 || networkOffset > clone.len) clone.networkHeader = (clone.data - clone.head) | 0
      clone.transportHeader = clone.networkHeader
      clone.pktType = PACKET_OUTGOING
      last = pt
    }
  }
  if (last !== null) last.func(cpu, clone!, env.devices[skb.dev]!, last, dev)
}
