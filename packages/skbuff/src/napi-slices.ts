/**
 * 6.1 only (feature `napiFrag1kSlices`): heads of small received packets are slices of 1 KiB, four to a page,
 * cut from the back. 6.18 takes them from the small-head cache instead.
 */
import { type Addr, type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, getPage, pageIsPfmemalloc, putPage } from '@netmem/memory'
import { pageFragFree } from '@netmem/page-frag'
import { buildSkbBlock } from './birth.js'
import type { Skbuffs } from './env.js'
import type { NapiAllocCache } from './napi-alloc-cache.js'
import { napiSkbCacheGet } from './napi-skb-cache.js'
import { SKB_HEAD_FRAG, SKB_PFMEMALLOC, type SkBuff } from './sk-buff.js'

/** Bytes of one slice. */
export const SLICE_BYTES = 1024

/** Models the small branch of `__napi_alloc_skb` (6.1) with `page_frag_alloc_1k`. @returns an skb with `pad` of headroom, or null. */
export function napiAllocSlice(env: Skbuffs, cpu: Cpu, dev: number, pad: number): SkBuff | null {
  const nc = env.napi[cpu.id]!
  const head = pageFragAlloc1k(env, cpu, nc)
  if (head === 0) return null
  const skb = napiSkbCacheGet(env, cpu)
  if (skb === null) {
    pageFragFree(env.mem, cpu, head, '__napi_alloc_skb')
    return null
  }
  const born = nc.smallPfmemalloc ? SKB_HEAD_FRAG | SKB_PFMEMALLOC : SKB_HEAD_FRAG
  return buildSkbBlock(env, skb, head, SLICE_BYTES, born, cpu, pad, dev)
}

/**
 * Models `page_frag_alloc_1k` (net/core/skbuff.c of 6.1): the cache holds one reference per slice that it
 * still has; the last slice takes the page's own reference along.
 */
export function pageFragAlloc1k(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache): Addr {
  const offset = nc.smallOffset - SLICE_BYTES
  if (offset >= 0 && nc.smallVirt !== 0) {
    nc.smallOffset = offset
    return ((nc.smallVirt + offset) | 0) as Addr
  }
  const mem = env.mem
  const pfn = allocPages(mem, cpu, env.gfpAtomic, 0, -1, 'page_frag_alloc_1k')
  if (pfn === NO_PFN) return 0 as Addr
  const slices = env.sizes.pageBytes / SLICE_BYTES
  for (let i = 1; i < slices; i++) getPage(mem, pfn)
  nc.smallVirt = (pfn << 12) as Addr
  nc.smallPfmemalloc = pageIsPfmemalloc(mem, pfn)
  nc.smallOffset = env.sizes.pageBytes - SLICE_BYTES
  return ((nc.smallVirt + nc.smallOffset) | 0) as Addr
}

/** Gives back the slices that were never handed out. */
export function napiSlicesDrain(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache): void {
  for (; nc.smallOffset > 0; nc.smallOffset -= SLICE_BYTES)
    putPage(env.mem, cpu, (nc.smallVirt >>> 12) as Pfn, 'page_frag_alloc_1k')
  nc.smallVirt = 0 as Addr
}
