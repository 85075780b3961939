/**
 * Generic segmentation: one large packet becomes the list of packets that fit the wire, when the device
 * cannot do it. The protocol's part is in its offload (`gso-inet.ts`).
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  CHECKSUM_UNNECESSARY,
  type SkBuff,
  skbCow,
  skbHeaderCloned,
  skbPullUnchecked,
  skbPushUnchecked,
} from '@netmem/skbuff'
import type { NetDevs } from './net-devs.js'
import { findOffload } from './offload.js'

/**
 * Models `__skb_gso_segment` and `skb_mac_gso_segment` (net/core/gso.c). The skb stays the caller's, `data` at the
 * MAC header before and after.
 *
 * @param txPath false on receive, where a packet that was merged is cut again.
 * @returns segments linked by `next`; null: the device can take it whole after all; or -errno.
 */
export function skbGsoSegment(
  env: NetDevs,
  cpu: Cpu,
  skb: SkBuff,
  features: number,
  txPath = true,
): SkBuff | null | number {
  // The transport header's checksum field will be written: it must not be shared.
  const unsummed = txPath
    ? skb.ipSummed !== CHECKSUM_PARTIAL && skb.ipSummed !== CHECKSUM_UNNECESSARY
    : skb.ipSummed === CHECKSUM_NONE
  if (unsummed && skbCow(cpu, skb, 0, skbHeaderCloned(skb)) < 0) return -ERRNO.ENOMEM
  skb.macHeader = (skb.data - skb.head) | 0
  skb.macLen = (skb.networkHeader - skb.macHeader) | 0
  const offload = findOffload(env, skb.protocol)
  if (offload === null) return -ERRNO.EPROTONOSUPPORT
  skbPullUnchecked(skb, skb.macLen)
  const segs = offload.gsoSegment(cpu, skb, features)
  skbPushUnchecked(skb, (skb.data - skb.head - skb.macHeader) | 0)
  return segs
}
