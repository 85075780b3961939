/** Finishing in software the checksum that the stack left to the device. */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_COMPLETE,
  CHECKSUM_NONE,
  csumFold,
  pskbMayPull,
  type SkBuff,
  skbChecksum,
  skbCow,
} from '@netmem/skbuff'

/**
 * Models `skb_checksum_help` (net/core/dev.c). `data` is at the MAC header; `csumStart` and `csumOffset` say what
 * to sum and where to put it.
 *
 * @returns 0, or -errno with the packet unchanged.
 */
export function skbChecksumHelp(cpu: Cpu, skb: SkBuff): number {
  if (skb.ipSummed === CHECKSUM_COMPLETE) {
    skb.ipSummed = CHECKSUM_NONE
    return 0
  }
  const start = (skb.head + skb.csumStart - skb.data) | 0
  const field = start + skb.csumOffset
  if (start < 0 || field + 2 > skb.len) return -ERRNO.EINVAL
  const sum = skbChecksum(skb, start, skb.len - start, 0)
  if (!pskbMayPull(cpu, skb, field + 2) || skbCow(cpu, skb, 0) !== 0) return -ERRNO.ENOMEM
  const at = (skb.data + field) >>> 0
  // A sum of zero is sent as all ones: for UDP, zero would mean "no checksum".
  const folded = csumFold(sum) & 0xffff
  const value = folded === 0 ? 0xffff : folded
  skb.env.u8[at] = value & 0xff
  skb.env.u8[at + 1] = value >>> 8
  skb.ipSummed = CHECKSUM_NONE
  return 0
}
