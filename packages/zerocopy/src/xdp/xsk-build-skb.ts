/** A packet made of descriptors: the first one's bytes become the linear part, each further one a page of its own. */
import { type Addr, type Cpu, ERRNO, NO_PFN } from '@netmem/base'
import { allocPages, freePages } from '@netmem/memory'
import { CHECKSUM_PARTIAL, kfreeSkb, nrFrags, type SkBuff, skbAddRxFrag, skbPut, skbReserve } from '@netmem/skbuff'
import { sockAllocSendSkb } from '@netmem/sockmem'
import { skbChecksumHelp } from '@netmem/virtual-nic'
import {
  XDP_TX_METADATA,
  XDP_TXMD_FLAGS_CHECKSUM,
  XDP_TXMD_FLAGS_LAUNCH_TIME,
  XDP_TXMD_FLAGS_TIMESTAMP,
  XDP_UMEM_TX_SW_CSUM,
} from './uapi.js'
import { umemAddr, umemCopyOut } from './xdp-umem.js'
import type { XdpSock } from './xsk-sock.js'
import { xskSkbAddAddr, xskSkbSetAddr } from './xsk-tx-addrs.js'
import { type XdpDesc, xpMbDesc } from './xsk-tx-desc.js'

/**
 * Models `xsk_build_skb` (net/xdp/xsk.c): the packet so far, with the bytes of `xs.desc` in it. The completion entry is
 * reserved, and the caller gives it back on failure.
 *
 * @returns 0 with the packet in `xs.skb`; -EAGAIN or -ENOBUFS without room or memory, -EINVAL for metadata that makes
 *   no sense, all with `xs.skb` as it was; -EOVERFLOW when the packet has too many pieces.
 */
export function xskBuildSkb(cpu: Cpu, xs: XdpSock, desc: XdpDesc): number {
  return xs.skb === null ? buildFirst(cpu, xs, desc) : buildNext(cpu, xs, xs.skb, desc)
}

function buildFirst(cpu: Cpu, xs: XdpSock, desc: XdpDesc): number {
  const { env, sk } = xs
  const dev = xs.dev!
  const line = env.socks.profile.SMP_CACHE_BYTES
  const headroom = Math.max(env.skbs.sizes.netSkbPad, Math.ceil(dev.neededHeadroom / line) * line)
  const skb = sockAllocSendSkb(cpu, sk, headroom + desc.len + dev.neededTailroom)
  if (skb === null) return env.socks.lastError
  skbReserve(skb, headroom)
  skbPut(skb, desc.len)
  umemCopyOut(env.mem, xs.pool!.umem, desc.offset, skb.data, desc.len)
  if (env.mem.trace.copy !== null) env.mem.trace.copy(cpu, 'xsk_build_skb', desc.len)
  skb.dev = dev.id
  skb.priority = sk.priority
  skb.destructor = env.destructSkb
  xskSkbSetAddr(skb, desc.addrLo, desc.addrHi)
  if ((desc.options & XDP_TX_METADATA) !== 0) {
    const err = xskSkbMetadata(cpu, xs, skb, desc, headroom)
    if (err !== 0) {
      // Its destructor posts the completion, although the caller takes the reservation back.
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'xsk_build_skb')
      return err
    }
  }
  xs.skb = skb
  return 0
}

function buildNext(cpu: Cpu, xs: XdpSock, skb: SkBuff, desc: XdpDesc): number {
  const { env, sk } = xs
  const frags = nrFrags(skb)
  if (frags === env.skbs.sizes.maxFrags - 1 && xpMbDesc(desc)) {
    // The address belongs to the packet that is dropped now.
    return xskSkbAddAddr(env, cpu, skb, desc.addrLo, desc.addrHi) ? -ERRNO.EOVERFLOW : -ERRNO.ENOMEM
  }
  const pfn = allocPages(env.mem, cpu, sk.allocation, 0, -1, 'xsk_build_skb')
  if (pfn === NO_PFN) return -ERRNO.EAGAIN
  if (!xskSkbAddAddr(env, cpu, skb, desc.addrLo, desc.addrHi)) {
    freePages(env.mem, cpu, pfn, 0, 'xsk_build_skb')
    return -ERRNO.ENOMEM
  }
  umemCopyOut(env.mem, xs.pool!.umem, desc.offset, (pfn << 12) as Addr, desc.len)
  if (env.mem.trace.copy !== null) env.mem.trace.copy(cpu, 'xsk_build_skb', desc.len)
  skbAddRxFrag(skb, frags, pfn, 0, desc.len, env.socks.pageSize)
  sk.wmemAlloc += env.socks.pageSize
  return 0
}

/**
 * Models `xsk_skb_metadata`: what the user asks of a packet, in the bytes in front of it.
 *
 * @returns 0, or -EINVAL without an area for metadata, for unknown wishes and for a checksum outside the frame.
 */
function xskSkbMetadata(cpu: Cpu, xs: XdpSock, skb: SkBuff, desc: XdpDesc, headroom: number): number {
  const { umem } = xs.pool!
  if (umem.txMetadataLen === 0) return -ERRNO.EINVAL
  const { i32 } = xs.env.mem
  const at = desc.offset - umem.txMetadataLen
  const flags = i32[umemAddr(umem, at) >>> 2]!
  const known = XDP_TXMD_FLAGS_TIMESTAMP | XDP_TXMD_FLAGS_CHECKSUM | XDP_TXMD_FLAGS_LAUNCH_TIME
  if ((flags & ~known) !== 0 || i32[umemAddr(umem, at + 4) >>> 2] !== 0) return -ERRNO.EINVAL
  if ((flags & XDP_TXMD_FLAGS_CHECKSUM) === 0) return 0
  const request = i32[umemAddr(umem, at + 8) >>> 2]!
  const start = request & 0xffff
  const offset = request >>> 16
  if (start + offset + 2 > desc.len) return -ERRNO.EINVAL
  skb.csumStart = headroom + start
  skb.csumOffset = offset
  skb.ipSummed = CHECKSUM_PARTIAL
  return (umem.flags & XDP_UMEM_TX_SW_CSUM) !== 0 ? skbChecksumHelp(cpu, skb) : 0
}
