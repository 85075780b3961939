/** Making a veth packet one that an XDP program may write to. `data` is at the MAC header. */
import { type Addr, type Cpu, NO_PFN } from '@netmem/base'
import { allocPages, putPage } from '@netmem/memory'
import {
  buildSkb,
  consumeSkb,
  nrFrags,
  pskbExpandHead,
  type SkBuff,
  skbAddRxFrag,
  skbCloned,
  skbCopyBits,
  skbCopyHeader,
  skbHeadersOffsetUpdate,
  skbHeadlen,
  skbHeadroom,
  skbIsNonlinear,
  skbPut,
  skbReserve,
  skbShared,
} from '@netmem/skbuff'
import type { NetDevs } from '../net-devs.js'
import { skbPpCowData } from '../skb-pp-cow.js'
import {
  MEM_TYPE_PAGE_SHARED,
  SHINFO_XDP_FRAGS_SIZE_WORD,
  XDP_PACKET_HEADROOM,
  type XdpBuff,
  xdpPrepareBuff,
} from '../xdp.js'
import type { VethRq } from './veth-queue.js'

/**
 * Models `veth_convert_skb_to_xdp_buff` (drivers/net/veth.c). Takes the skb.
 *
 * @returns the packet that `xdp` now views, or null: freed for want of memory.
 */
export function vethConvertSkbToXdpBuff(
  env: NetDevs,
  cpu: Cpu,
  rq: VethRq,
  packet: SkBuff,
  xdp: XdpBuff,
): SkBuff | null {
  let skb = packet
  // Models skb_head_is_locked: a head from kmalloc cannot be sent on as a page.
  const locked = skbShared(skb) || !skb.headFrag || skbCloned(skb) || nrFrags(skb) !== 0
  if (locked || (rq.pool !== null && skbHeadroom(skb) < XDP_PACKET_HEADROOM)) {
    const copy =
      rq.pool !== null ? skbPpCowData(env, cpu, rq.pool, skb, XDP_PACKET_HEADROOM) : copyToPages(env, cpu, skb)
    if (copy === null) {
      consumeSkb(cpu, skb, 'veth_xdp_rcv_skb')
      return null
    }
    skb = copy
  } else if (skbHeadroom(skb) < XDP_PACKET_HEADROOM) {
    if (pskbExpandHead(cpu, skb, XDP_PACKET_HEADROOM, 0, env.mem.gfp.GFP_ATOMIC) !== 0) {
      consumeSkb(cpu, skb, 'veth_xdp_rcv_skb')
      return null
    }
  }
  const frameSz = ((skb.end - skb.head) | 0) + env.skbs.sizes.sharedInfoBytes
  xdpPrepareBuff(xdp, skb.head, frameSz, skbHeadroom(skb), skbHeadlen(skb))
  xdp.rxDev = rq.dev.id
  xdp.rxQueueIndex = rq.index
  xdp.memType = MEM_TYPE_PAGE_SHARED
  xdp.pool = null
  if (skbIsNonlinear(skb)) {
    env.mem.i32[(skb.end >>> 2) + SHINFO_XDP_FRAGS_SIZE_WORD] = skb.dataLen
    xdp.hasFrags = true
  }
  return skb
}

/**
 * The kernels without a page pool here: the packet is copied to whole fresh pages, a head page and fragments.
 *
 * @returns the copy, the original being consumed; null with the original untouched.
 */
function copyToPages(env: NetDevs, cpu: Cpu, skb: SkBuff): SkBuff | null {
  const { sizes } = env.skbs
  const page = sizes.pageBytes
  const headroom = XDP_PACKET_HEADROOM + sizes.netIpAlign
  const maxHead = page - headroom - sizes.sharedInfoBytes
  if (skb.len > page * sizes.maxFrags + maxHead) return null
  // The kernel's compiler folds this into its caller, which is what tracepoints name.
  const site = 'veth_xdp_rcv_skb'
  const gfp = (env.mem.gfp.GFP_ATOMIC | env.mem.gfp.NOWARN) as typeof env.mem.gfp.GFP_ATOMIC
  const head = allocPages(env.mem, cpu, gfp, 0, -1, site)
  if (head === NO_PFN) return null
  const copy = buildSkb(env.skbs, cpu, (head << 12) as Addr, page)
  if (copy === null) {
    putPage(env.mem, cpu, head, site)
    return null
  }
  skbReserve(copy, headroom)
  let size = Math.min(skb.len, maxHead)
  skbCopyBits(skb, 0, copy.data, size)
  skbPut(copy, size)
  skbCopyHeader(copy, skb)
  skbHeadersOffsetUpdate(copy, skbHeadroom(copy) - skbHeadroom(skb))
  for (let off = size, i = 0; off < skb.len; off += size, i++) {
    const pfn = allocPages(env.mem, cpu, gfp, 0, -1, site)
    if (pfn === NO_PFN) {
      consumeSkb(cpu, copy, site)
      return null
    }
    size = Math.min(skb.len - off, page)
    skbAddRxFrag(copy, i, pfn, 0, size, page)
    skbCopyBits(skb, off, (pfn << 12) as Addr, size)
  }
  consumeSkb(cpu, skb, site)
  return copy
}
