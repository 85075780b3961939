/**
 * A route as packets hold it (`struct dst_entry`): by number in `SkBuff.refdst`. Routes belong to their
 * namespace's table and live as long as it; nobody counts references.
 */
import type { NetDevice } from '@netmem/virtual-nic'

/** Models `struct dst_entry` with `struct rtable` or `struct rt6_info` around it. */
export class Dst {
  /** A path MTU learned for this route, 0 none; bytes. */
  pmtu = 0
  /** Models `rate_tokens` and `rate_last` of the peer: ICMP errors towards this route. Jiffies. */
  errorTokens = 0
  errorStamp = 0

  constructor(
    /** Index in `InetEnv.dsts`; never 0. */
    readonly id: number,
    readonly family: number,
    readonly dev: NetDevice,
    /** Delivered here (`RTCF_LOCAL`), instead of sent on. */
    readonly local: boolean,
    /** `RTCF_BROADCAST` or `RTCF_MULTICAST`. */
    readonly broadcast: boolean,
    /** Next hop as an IPv4 word, 0 for neighbours of the device. */
    readonly gateway: number,
    readonly gateway6: Int32Array | null,
  ) {}
}

/** Models `dst_mtu` by way of `ipv4_mtu`, `ip6_mtu`: bytes a packet on this route may have. */
export function dstMtu(dst: Dst, most: number): number {
  const mtu = dst.pmtu !== 0 && dst.pmtu < dst.dev.mtu ? dst.pmtu : dst.dev.mtu
  return Math.min(mtu, most)
}

/** Models `LL_RESERVED_SPACE`: room for the link header, in whole sixteens. */
export const llReservedSpace = (dev: NetDevice): number => ((dev.hardHeaderLen + dev.neededHeadroom) & ~15) + 16
