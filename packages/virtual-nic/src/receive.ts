/**
 * The core of receive: from a driver or a queue to the handler of the packet's protocol, past generic XDP,
 * VLAN tags, taps and receive handlers.
 */
import type { Cpu } from '@netmem/base'
import {
  kfreeSkb,
  SKB_HEADER_UNSET,
  SKB_PFMEMALLOC,
  SKB_VLAN_PRESENT,
  SKBFL_ZEROCOPY_ENABLE,
  type SkBuff,
  shinfoFlags,
  skbGet,
  skbOrphanFragsRx,
} from '@netmem/skbuff'
import { enqueueToBacklog } from './backlog.js'
import { NET_RX_DROP, type NetDevice, RX_DROPPED, RX_NOHANDLER } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { ETH_P_8021AD, ETH_P_8021Q, PACKET_OTHERHOST, type PacketType, PTYPE_HASH_SIZE } from './packet-type.js'
import { getRpsCpu } from './rps.js'
import { vlanDoReceive, vlanUntag } from './vlan.js'
import { doXdpGeneric } from './xdp-generic.js'

/** Models `RX_HANDLER_*`: what a device's receive handler (bridge, bond) made of the packet. */
export const RX_HANDLER_CONSUMED = 0
export const RX_HANDLER_ANOTHER = 1
export const RX_HANDLER_EXACT = 2
export const RX_HANDLER_PASS = 3

/** Models `netif_receive_skb` (net/core/dev.c): softirq context or bottom halves off. Takes the skb. */
export function netifReceiveSkb(env: NetDevs, cpu: Cpu, skb: SkBuff): number {
  if (env.trace.netifReceiveSkb !== null) env.trace.netifReceiveSkb(cpu, skb.addr, skb.len, env.devices[skb.dev]!.name)
  if (env.rpsNeeded) {
    const target = getRpsCpu(env, skb)
    if (target >= 0) return enqueueToBacklog(env, cpu, skb, target)
  }
  return netifReceiveSkbCore(env, cpu, skb)
}

/**
 * Models `netif_receive_skb_list_internal`: a list linked by `next`, in order. Each packet ends as it would alone.
 *
 * @param first id of the first skb.
 */
export function netifReceiveSkbList(env: NetDevs, cpu: Cpu, first: number): void {
  const skbs = env.skbs.skbs
  let id = first
  while (id !== 0) {
    const skb = skbs[id]!
    id = skb.next
    skb.next = 0
    netifReceiveSkb(env, cpu, skb)
  }
}

/** Models `__netif_receive_skb_core` (net/core/dev.c). Takes the skb. */
export function netifReceiveSkbCore(env: NetDevs, cpu: Cpu, skb: SkBuff): number {
  const dev = env.devices[skb.dev]!
  const network = (skb.data - skb.head) | 0
  skb.networkHeader = network
  if (skb.transportHeader === SKB_HEADER_UNSET) skb.transportHeader = network
  skb.macLen = network - skb.macHeader
  env.softnet[cpu.id]!.processed++
  skb.skbIif = dev.id
  // The plain case of one handler; everything else leaves by one test.
  if ((env.taps | dev.rxSlow | (skb.flags & SKB_VLAN_PRESENT)) === 0) {
    const type = skb.protocol
    const bucket = env.ptypeBase[type & (PTYPE_HASH_SIZE - 1)]!
    if (bucket.length === 1) {
      const pt = bucket[0]!
      if (pt.type === type && (pt.ns === undefined || pt.ns === dev.ns) && (env.userFragsReachIp || !hasUserFrags(skb)))
        return pt.func(cpu, skb, dev, pt, dev)
    }
  }
  return netifReceiveSkbSlow(env, cpu, skb, dev)
}

// Cold path: taps, XDP, VLANs, bridges, several handlers of one type.

/** The packet's fragments may still be user memory: they are copied before anyone may keep the packet. */
const hasUserFrags = (skb: SkBuff): boolean => (shinfoFlags(skb) & SKBFL_ZEROCOPY_ENABLE) !== 0

/** Models `deliver_skb`: one more holder, for a handler that is not the last. */
function deliverSkb(cpu: Cpu, skb: SkBuff, pt: PacketType, dev: NetDevice, orig: NetDevice): number {
  if (skbOrphanFragsRx(cpu, skb, skb.env.mem.gfp.GFP_ATOMIC) !== 0) return NET_RX_DROP
  skbGet(skb)
  return pt.func(cpu, skb, dev, pt, orig)
}

function netifReceiveSkbSlow(env: NetDevs, cpu: Cpu, packet: SkBuff, orig: NetDevice): number {
  let skb = packet
  let first = true
  for (;;) {
    const dev = env.devices[skb.dev]!
    if (!first) {
      env.softnet[cpu.id]!.processed++
      skb.skbIif = dev.id
    }
    first = false
    if (dev.xdpProg !== null) {
      const passed = doXdpGeneric(env, cpu, dev.xdpProg, skb)
      if (passed === null) return NET_RX_DROP
      skb = passed
    }
    if (skb.protocol === ETH_P_8021Q || skb.protocol === ETH_P_8021AD) {
      const untagged = vlanUntag(env, cpu, skb)
      if (untagged === null) return NET_RX_DROP
      skb = untagged
    }
    let prev: PacketType | null = null
    // A packet from the emergency reserves goes to no tap: they could keep it.
    if ((skb.flags & SKB_PFMEMALLOC) === 0) {
      prev = deliverTaps(cpu, skb, dev, orig, env.ptypeAll, prev)
      prev = deliverTaps(cpu, skb, dev, orig, dev.ptypeAll, prev)
    }
    if ((skb.flags & SKB_VLAN_PRESENT) !== 0) {
      if (prev !== null) {
        deliverSkb(cpu, skb, prev, dev, orig)
        prev = null
      }
      const verdict = vlanDoReceive(env, skb)
      if (verdict === 'another') continue
      // A tag that no device claims: only taps may have the packet.
      if (verdict === 'unclaimed') skb.pktType = PACKET_OTHERHOST
    }
    let exact = false
    if (dev.rxHandler !== null) {
      if (prev !== null) {
        deliverSkb(cpu, skb, prev, dev, orig)
        prev = null
      }
      const verdict = dev.rxHandler(cpu, skb, dev)
      if (verdict === RX_HANDLER_CONSUMED) return 0
      if (verdict === RX_HANDLER_ANOTHER) continue
      exact = verdict === RX_HANDLER_EXACT
    }
    return deliver(env, cpu, skb, dev, orig, prev, exact)
  }
}

function deliverTaps(
  cpu: Cpu,
  skb: SkBuff,
  dev: NetDevice,
  orig: NetDevice,
  list: readonly PacketType[],
  prev: PacketType | null,
): PacketType | null {
  let last = prev
  for (const pt of list) {
    if (pt.ns !== undefined && pt.ns !== dev.ns) continue
    if (last !== null) deliverSkb(cpu, skb, last, dev, orig)
    last = pt
  }
  return last
}

/** The protocol's handlers, and the end: the last one gets the caller's reference. */
function deliver(
  env: NetDevs,
  cpu: Cpu,
  skb: SkBuff,
  dev: NetDevice,
  orig: NetDevice,
  tap: PacketType | null,
  exact: boolean,
): number {
  const type = skb.protocol
  let last = tap
  if (!exact) {
    for (const pt of env.ptypeBase[type & (PTYPE_HASH_SIZE - 1)]!) {
      if (pt.type !== type || (pt.ns !== undefined && pt.ns !== dev.ns)) continue
      if (last !== null) deliverSkb(cpu, skb, last, dev, orig)
      last = pt
    }
  }
  for (const pt of dev.ptypeSpecific) {
    if (pt.type !== type) continue
    if (last !== null) deliverSkb(cpu, skb, last, dev, orig)
    last = pt
  }
  if (last !== null) {
    if (env.userFragsReachIp || skbOrphanFragsRx(cpu, skb, env.mem.gfp.GFP_ATOMIC) === 0)
      return last.func(cpu, skb, dev, last, orig)
    // Could not get rid of user memory: the kernel drops the packet here without naming a handler.
    dev.stats[RX_DROPPED]!++
    kfreeSkb(cpu, skb, 'UNHANDLED_PROTO', '__netif_receive_skb_core')
    return NET_RX_DROP
  }
  dev.stats[exact ? RX_NOHANDLER : RX_DROPPED]!++
  kfreeSkb(cpu, skb, 'UNHANDLED_PROTO', '__netif_receive_skb_core')
  return NET_RX_DROP
}
