/** Handing a packet from one device to another inside the machine. */
import type { Cpu } from '@netmem/base'
import {
  kfreeSkb,
  SKB_HAS_EXTENSIONS,
  SKB_HAS_MARK,
  type SkBuff,
  skbExtPut,
  skbIsGso,
  skbOrphanFrags,
} from '@netmem/skbuff'
import { ethTypeTrans } from './eth.js'
import { IFF_UP, NET_RX_DROP, NET_RX_SUCCESS, type NetDevice, RX_DROPPED } from './net-device.js'

/**
 * Models `__dev_forward_skb` (net/core/dev.c): the packet is the receiving device's now, its link header off. The
 * sender stays charged until somebody orphans it.
 *
 * @returns `NET_RX_SUCCESS`, or `NET_RX_DROP` with the skb freed.
 */
export function devForwardSkb(cpu: Cpu, dev: NetDevice, skb: SkBuff): number {
  const { env } = dev
  // A packet that fits no device, and one for a device that is down, go no further.
  const fits = skb.len <= dev.mtu + dev.hardHeaderLen + 4 || skbIsGso(skb)
  if (skbOrphanFrags(cpu, skb, env.mem.gfp.GFP_ATOMIC) !== 0 || (dev.flags & IFF_UP) === 0 || !fits) {
    dev.stats[RX_DROPPED]!++
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'veth_xmit')
    return NET_RX_DROP
  }
  skbScrubPacket(cpu, skb, skb.dev === 0 || env.devices[skb.dev]?.ns !== dev.ns)
  skb.priority = 0
  ethTypeTrans(skb, dev)
  return NET_RX_SUCCESS
}

/** Models `skb_scrub_packet` (net/core/skbuff.c). @param crossing into another namespace: the mark goes too. */
export function skbScrubPacket(cpu: Cpu, skb: SkBuff, crossing: boolean): void {
  skb.pktType = 0
  if (skb.refdst !== 0) {
    skb.env.slots.dstRelease(cpu, skb.refdst)
    skb.refdst = 0
  }
  if ((skb.flags & SKB_HAS_EXTENSIONS) !== 0) skbExtPut(cpu, skb)
  if (crossing) skb.flags &= ~SKB_HAS_MARK
}
