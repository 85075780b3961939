/**
 * A private copy of a packet in page-pool pages, with headroom: what an XDP program needs when the original
 * is shared, paged or tightly packed.
 */
import { type Addr, type Cpu, NULL, type Pfn } from '@netmem/base'
import { type PagePool, pagePoolAlloc, pagePoolAllocVa, pagePoolPutFullPage } from '@netmem/page-pool'
import {
  consumeSkb,
  napiBuildSkb,
  SKB_PP_RECYCLE,
  type SkBuff,
  skbAddRxFrag,
  skbCopyBits,
  skbCopyHeader,
  skbHasFragList,
  skbHeadersOffsetUpdate,
  skbHeadroom,
  skbPut,
  skbReserve,
} from '@netmem/skbuff'
import type { NetDevs } from './net-devs.js'

/**
 * Models `skb_pp_cow_data` (net/core/skbuff.c).
 *
 * @param headroom bytes in front of the copy.
 * @returns the copy, the original being consumed; null with the original untouched.
 */
export function skbPpCowData(env: NetDevs, cpu: Cpu, pool: PagePool, skb: SkBuff, headroom: number): SkBuff | null {
  if (skbHasFragList(skb)) return null
  const sizes = env.skbs.sizes
  const pageBytes = env.profile.page_size
  const maxHead = pageBytes - headroom - sizes.sharedInfoBytes
  if (skb.len > maxHead + sizes.maxFrags * pageBytes) return null
  let size = Math.min(skb.len, maxHead)
  const line = env.profile.SMP_CACHE_BYTES
  const want = ((size + line - 1) & -line) + sizes.sharedInfoBytes + headroom
  const gfp = env.skbs.gfpAtomic
  const data: Addr = pagePoolAllocVa(cpu, pool, want, gfp)
  if (data === NULL) return null
  // Differs: a fragment of odd length before this one puts the kernel's shared info at an odd address. Ours begins up
  // to seven bytes earlier then, which only a packet that fills its block to the last byte notices: in its headroom.
  const odd = (data + pool.outBytes) & 7
  const copy = napiBuildSkb(env.skbs, cpu, data, pool.outBytes - odd)
  if (copy === null) {
    pagePoolPutFullPage(cpu, pool, (data >>> 12) as Pfn, true)
    return null
  }
  copy.truesize += odd
  skbReserve(copy, headroom + size > copy.end - copy.head ? headroom - 8 : headroom)
  skbCopyHeader(copy, skb)
  copy.flags |= SKB_PP_RECYCLE
  skbCopyBits(skb, 0, copy.data, size)
  skbPut(copy, size)
  skbHeadersOffsetUpdate(copy, skbHeadroom(copy) - skbHeadroom(skb))
  let off = size
  for (let i = 0; i < sizes.maxFrags && off < skb.len; i++) {
    size = Math.min(skb.len - off, pageBytes)
    const pfn = pagePoolAlloc(cpu, pool, size, gfp) as Pfn
    if (pfn === 0) {
      consumeSkb(cpu, copy, 'skb_pp_cow_data')
      return null
    }
    skbAddRxFrag(copy, i, pfn, pool.outOffset, size, pool.outBytes)
    skbCopyBits(skb, off, ((pfn << 12) + pool.outOffset) as Addr, size)
    off += size
  }
  consumeSkb(cpu, skb, 'skb_pp_cow_data')
  return copy
}
