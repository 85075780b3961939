/**
 * Making a packet fit its device: tags, segments and checksums that the hardware cannot do are done here.
 */
import type { Cpu } from '@netmem/base'
import {
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  CHECKSUM_UNNECESSARY,
  consumeSkb,
  gsoSegs,
  gsoType,
  kfreeSkb,
  nrFrags,
  SKB_VLAN_PRESENT,
  type SkBuff,
  skbHasFragList,
  skbIsGso,
  skbIsNonlinear,
  skbLinearize,
} from '@netmem/skbuff'
import { skbChecksumHelp } from './checksum-help.js'
import {
  NETIF_F_CSUM_MASK,
  NETIF_F_FRAGLIST,
  NETIF_F_GSO_SOFTWARE,
  NETIF_F_HW_CSUM,
  NETIF_F_HW_VLAN_CTAG_TX,
  NETIF_F_IP_CSUM,
  NETIF_F_IPV6_CSUM,
  NETIF_F_SG,
  netGsoOk,
} from './features.js'
import { skbGsoSegment } from './gso.js'
import { type NetDevice, TX_DROPPED } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { ETH_P_IP, ETH_P_IPV6 } from './packet-type.js'
import { vlanHwaccelPushInside } from './vlan.js'

/** Models `netif_skb_features` (net/core/dev.c): what this device may do with this packet. */
export function netifSkbFeatures(skb: SkBuff, dev: NetDevice): number {
  let features = dev.features
  if (skbIsGso(skb) && (gsoSegs(skb) > dev.gsoMaxSegs || skb.len >= dev.gsoMaxSize || gsoType(skb) === 0))
    features &= ~NETIF_F_GSO_SOFTWARE
  if (dev.ops.featuresCheck !== undefined) features &= dev.ops.featuresCheck(skb, dev, features)
  return harmonizeFeatures(skb, features)
}

/** Models `harmonize_features`: a device that cannot checksum this protocol cannot segment it either. */
function harmonizeFeatures(skb: SkBuff, features: number): number {
  if (skb.ipSummed === CHECKSUM_NONE || canChecksumProtocol(features, skb.protocol)) return features
  return features & ~(NETIF_F_CSUM_MASK | NETIF_F_GSO_SOFTWARE)
}

/** Models `can_checksum_protocol`. */
function canChecksumProtocol(features: number, protocol: number): boolean {
  if ((features & NETIF_F_HW_CSUM) !== 0) return true
  if (protocol === ETH_P_IP) return (features & NETIF_F_IP_CSUM) !== 0
  return protocol === ETH_P_IPV6 && (features & NETIF_F_IPV6_CSUM) !== 0
}

/** Models `netif_needs_gso`. */
function netifNeedsGso(skb: SkBuff, features: number): boolean {
  if (!skbIsGso(skb)) return false
  if (!netGsoOk(features, gsoType(skb)) || (skbHasFragList(skb) && (features & NETIF_F_FRAGLIST) === 0)) return true
  return skb.ipSummed !== CHECKSUM_PARTIAL && skb.ipSummed !== CHECKSUM_UNNECESSARY
}

/** Models `skb_needs_linearize`. */
const skbNeedsLinearize = (skb: SkBuff, features: number): boolean =>
  skbIsNonlinear(skb) &&
  ((skbHasFragList(skb) && (features & NETIF_F_FRAGLIST) === 0) ||
    (nrFrags(skb) !== 0 && (features & NETIF_F_SG) === 0))

/**
 * Models `validate_xmit_skb` (net/core/dev.c). Takes the skb.
 *
 * @returns the packet, or its segments linked by `next`, or null: dropped and counted.
 */
export function validateXmitSkb(env: NetDevs, cpu: Cpu, packet: SkBuff, dev: NetDevice): SkBuff | null {
  const features = netifSkbFeatures(packet, dev)
  let skb = packet
  if ((skb.flags & SKB_VLAN_PRESENT) !== 0 && (features & NETIF_F_HW_VLAN_CTAG_TX) === 0) {
    const tagged = vlanHwaccelPushInside(env, cpu, skb)
    if (tagged === null) {
      dev.stats[TX_DROPPED]!++
      return null
    }
    skb = tagged
  }
  if (netifNeedsGso(skb, features)) {
    const segs = skbGsoSegment(env, cpu, skb, features)
    if (typeof segs === 'number') return dropInvalid(cpu, skb, dev)
    if (segs !== null) {
      consumeSkb(cpu, skb, 'validate_xmit_skb')
      return segs
    }
    return skb
  }
  if (skbNeedsLinearize(skb, features) && skbLinearize(cpu, skb) !== 0) return dropInvalid(cpu, skb, dev)
  if (skb.ipSummed === CHECKSUM_PARTIAL) {
    skb.transportHeader = skb.csumStart
    if (skbCsumHwoffloadHelp(cpu, skb, features) !== 0) return dropInvalid(cpu, skb, dev)
  }
  return skb
}

/** Models `skb_csum_hwoffload_help`: the checksum is written here unless the device will. @returns 0 or -errno. */
function skbCsumHwoffloadHelp(cpu: Cpu, skb: SkBuff, features: number): number {
  if ((features & NETIF_F_HW_CSUM) !== 0) return 0
  if ((features & (NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM)) !== 0 && (skb.csumOffset === 6 || skb.csumOffset === 16))
    return 0
  return skbChecksumHelp(cpu, skb)
}

function dropInvalid(cpu: Cpu, skb: SkBuff, dev: NetDevice): null {
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'validate_xmit_skb')
  dev.stats[TX_DROPPED]!++
  return null
}

/** Models `validate_xmit_skb_list`: a list linked by `next`, each packet perhaps becoming several. */
export function validateXmitSkbList(env: NetDevs, cpu: Cpu, first: SkBuff, dev: NetDevice): SkBuff | null {
  const skbs = env.skbs.skbs
  let head: SkBuff | null = null
  let tail: SkBuff | null = null
  let skb: SkBuff | null = first
  while (skb !== null) {
    const next: SkBuff | null = skb.next === 0 ? null : skbs[skb.next]!
    skb.next = 0
    const valid: SkBuff | null = validateXmitSkb(env, cpu, skb, dev)
    if (valid !== null) {
      if (tail === null) head = valid
      else tail.next = valid.id
      tail = valid
      while (tail.next !== 0) tail = skbs[tail.next]!
    }
    skb = next
  }
  return head
}
