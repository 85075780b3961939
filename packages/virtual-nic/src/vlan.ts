/**
 * VLAN tags: in the packet on the wire, beside it (`vlanTci`) in the stack. A device that strips tags does it
 * in hardware; for others the stack does.
 */
import type { Cpu } from '@netmem/base'
import { kfreeSkb, pskbMayPull, SKB_VLAN_PRESENT, type SkBuff, skbCow, skbPull, skbPush } from '@netmem/skbuff'
import { ETH_HLEN, ETH_P_802_3_MIN } from './eth.js'
import { type NetDevice, RX_BYTES, RX_PACKETS } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { ETH_P_802_2, ETH_P_802_3, PACKET_HOST, PACKET_OTHERHOST } from './packet-type.js'

/** Models `VLAN_HLEN`. */
export const VLAN_HLEN = 4
/** Models `VLAN_VID_MASK`. */
export const VLAN_VID_MASK = 0x0fff

/**
 * Models `skb_vlan_untag` (net/core/skbuff.c): takes the tag out of the packet and keeps it beside. `data` is
 * behind the Ethernet header.
 *
 * @returns the skb, or null when it was too short and has been freed.
 */
export function vlanUntag(env: NetDevs, cpu: Cpu, skb: SkBuff): SkBuff | null {
  if (!pskbMayPull(cpu, skb, VLAN_HLEN + 2)) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_vlan_untag')
    return null
  }
  // The MAC addresses move: nobody else may be looking at them.
  if (skbCow(cpu, skb, (skb.data - skb.head) | 0) !== 0) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_vlan_untag')
    return null
  }
  const dv = env.mem.dv
  const at = skb.data >>> 0
  skb.vlanTci = dv.getUint16(at)
  skb.vlanProto = skb.protocol
  skb.protocol = encapProto(dv, at)
  skbPull(skb, VLAN_HLEN)
  const mac = (skb.head + skb.macHeader) >>> 0
  env.mem.u8.copyWithin(mac + VLAN_HLEN, mac, mac + ETH_HLEN - 2)
  skb.macHeader += VLAN_HLEN
  skb.networkHeader = (skb.data - skb.head) | 0
  skb.macLen = skb.networkHeader - skb.macHeader
  return skb
}

/** Models `vlan_set_encap_proto`: what is behind the tag; a length instead of a type means 802.2, or raw 802.3. */
function encapProto(dv: DataView, at: number): number {
  const type = dv.getUint16(at + 2)
  if (type >= ETH_P_802_3_MIN) return type
  return dv.getUint16(at + VLAN_HLEN) === 0xffff ? ETH_P_802_3 : ETH_P_802_2
}

/** Models `__vlan_hwaccel_clear_tag`. */
export function vlanHwaccelClearTag(skb: SkBuff): void {
  skb.flags &= ~SKB_VLAN_PRESENT
}

/**
 * Models `__vlan_hwaccel_push_inside` and `__vlan_insert_tag`: the tag goes into the packet, for a device that
 * cannot insert it. `data` is at the MAC header. Takes the skb on failure.
 */
export function vlanHwaccelPushInside(env: NetDevs, cpu: Cpu, skb: SkBuff): SkBuff | null {
  if (skbCow(cpu, skb, VLAN_HLEN) !== 0) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'validate_xmit_skb')
    return null
  }
  const tci = skb.vlanTci
  const proto = skb.vlanProto
  skbPush(skb, VLAN_HLEN)
  const at = skb.data >>> 0
  env.mem.u8.copyWithin(at, at + VLAN_HLEN, at + VLAN_HLEN + ETH_HLEN - 2)
  skb.macHeader -= VLAN_HLEN
  env.mem.dv.setUint16(at + 12, proto)
  env.mem.dv.setUint16(at + 14, tci)
  skb.protocol = proto
  vlanHwaccelClearTag(skb)
  return skb
}

/**
 * Models `vlan_do_receive` (net/8021q/vlan_core.c).
 *
 * @returns `another`: the packet belongs to a VLAN device now and goes round again; `unclaimed`: no device has
 *   this VLAN; `priority`: a tag of VLAN 0, which only carried a priority. The tag is gone in every case.
 */
export function vlanDoReceive(env: NetDevs, skb: SkBuff): 'another' | 'unclaimed' | 'priority' {
  const vid = skb.vlanTci & VLAN_VID_MASK
  const lower = env.devices[skb.dev]!
  const dev = vid === 0 ? undefined : lower.vlans.get(vid)
  vlanHwaccelClearTag(skb)
  if (dev === undefined) return vid === 0 ? 'priority' : 'unclaimed'
  skb.dev = dev.id
  if (skb.pktType === PACKET_OTHERHOST && sameMac(env, skb, dev)) skb.pktType = PACKET_HOST
  dev.stats[RX_PACKETS]!++
  dev.stats[RX_BYTES]! += skb.len
  return 'another'
}

/** The VLAN device may have an address of its own, which the lower device takes for another host's. */
function sameMac(env: NetDevs, skb: SkBuff, dev: NetDevice): boolean {
  const at = (skb.head + skb.macHeader) >>> 0
  return env.mem.dv.getUint16(at) === dev.macHi && env.mem.dv.getInt32(at + 2) === dev.macLo
}
