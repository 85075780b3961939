/**
 * The last steps of IPv4 output: the counters, room for the link header, the neighbour, the device.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { kfreeSkb, pskbExpandHead, type SkBuff, skbEndOffset, skbHeadroom, skbPushUnchecked } from '@netmem/skbuff'
import { mibIndex, type NetNs, type SockEnv } from '@netmem/sockmem'
import { devQueueXmit, ETH_P_IP, ethHeaderWrite, IFF_LOOPBACK, type NetDevice } from '@netmem/virtual-nic'
import { type Dst, llReservedSpace } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import type { InetNet, Neighbour } from '../inet-net.js'

const IP_OUT_TRANSMITS = mibIndex('Ip.OutTransmits')
const IP_OUT_OCTETS = mibIndex('IpExt.OutOctets')

/** Models `ip_finish_output2`: the link header, and the device. */
export function ipFinishOutput2(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst): number {
  const { dev } = dst
  net.mib[IP_OUT_TRANSMITS] += 1
  net.mib[IP_OUT_OCTETS] += skb.len
  if (skbHeadroom(skb) < llReservedSpace(dev) && skbExpandHead(env.socks, cpu, skb, llReservedSpace(dev)) !== 0)
    return -ERRNO.ENOMEM
  if (dev.hardHeaderLen === 0) return devQueueXmit(env.devs, cpu, skb)
  return neighOutput(env, cpu, skb, dst)
}

/** Models `neigh_output`: by the hardware address of the next hop. */
function neighOutput(env: InetEnv, cpu: Cpu, skb: SkBuff, dst: Dst): number {
  const { dev } = dst
  const at = skbPushUnchecked(skb, dev.hardHeaderLen) >>> 0
  if ((dev.flags & IFF_LOOPBACK) !== 0) {
    ethHeaderWrite(dev, at, dev.macHi, dev.macLo, ETH_P_IP)
    return devQueueXmit(env.devs, cpu, skb)
  }
  const hop = dst.gateway !== 0 ? dst.gateway : env.mem.dv.getInt32(at + dev.hardHeaderLen + 16)
  if (dst.broadcast || hop === -1) ethHeaderWrite(dev, at, 0xffff, -1, ETH_P_IP)
  else {
    const neigh = neighLookup(env.netOfDev(dev), dev, hop)
    if (neigh === null) {
      kfreeSkb(cpu, skb, 'NEIGH_FAILED', 'neigh_output')
      return -ERRNO.EHOSTUNREACH
    }
    ethHeaderWrite(dev, at, neigh.macHi, neigh.macLo, ETH_P_IP)
  }
  return devQueueXmit(env.devs, cpu, skb)
}

/** Models `__neigh_lookup` of a permanent entry. */
export function neighLookup(net: InetNet, dev: NetDevice, addr: number): Neighbour | null {
  const list = net.neighbours
  for (let i = 0; i < list.length; i += 1) if (list[i].dev === dev && list[i].addr === addr) return list[i]
  return null
}

// Cold path: packets that came without room for this device's header.

/**
 * Models `skb_expand_head` (net/core/skbuff.c) for a packet that nobody shares: more headroom; a sender pays for what
 * the head block grew.
 *
 * @returns 0, or -ENOMEM after freeing the packet.
 */
export function skbExpandHead(socks: SockEnv, cpu: Cpu, skb: SkBuff, headroom: number): number {
  const before = skbEndOffset(skb)
  const more = (headroom - skbHeadroom(skb) + 63) & ~63
  if (pskbExpandHead(cpu, skb, more, 0, skb.env.mem.gfp.GFP_ATOMIC) !== 0) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_expand_head')
    return -ERRNO.ENOMEM
  }
  if (skb.sk !== 0 && skb.destructor === socks.sockWfree) {
    const grown = skbEndOffset(skb) - before
    socks.sockOf(skb).wmemAlloc += grown
    skb.truesize += grown
  }
  return 0
}
