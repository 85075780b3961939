/**
 * Heads for received packets. Small ones come from the slab, middling ones are cut from the CPU's page
 * fragment cache, big ones come from the slab again: the fragment cache promises no more than a page.
 */
import { type Addr, type Cpu, type Gfp, inHardirq, irqsDisabled, NULL } from '@netmem/base'
import { kmemCacheAllocObj } from '@netmem/memory'
import { pageFragAllocAlign, pageFragAllocSlow, pageFragFree } from '@netmem/page-frag'
import { allocSkb, NUMA_NO_NODE, SKB_ALLOC_NAPI, SKB_ALLOC_RX } from './alloc.js'
import { buildSkbBlock, buildSkbBody } from './birth.js'
import type { Skbuffs } from './env.js'
import type { NapiAllocCache } from './napi-alloc-cache.js'
import { napiSkbCacheGet, napiSkbCacheGetStacked, thisCpuNapi } from './napi-skb-cache.js'
import { napiAllocSlice } from './napi-slices.js'
import { skbHeadAlign } from './sizes.js'
import { SKB_HEAD_FRAG, SKB_PFMEMALLOC, type SkBuff } from './sk-buff.js'

/**
 * Models `napi_alloc_skb` (6.9 on) and `__napi_alloc_skb` (net/core/skbuff.c). Softirq context of `cpu`.
 *
 * @param dev id of the device; the caller's napi instance knows it.
 * @param len bytes wanted behind the headroom of `NET_SKB_PAD + NET_IP_ALIGN`.
 * @returns an skb with that headroom, or null.
 */
export function napiAllocSkb(env: Skbuffs, cpu: Cpu, dev: number, len: number): SkBuff | null {
  const nc = cpu === env.lastCpu ? env.lastNapi : thisCpuNapi(env, cpu)
  const frag = nc.page
  const start = frag.offset
  const next = start + nc.sameBytes
  // The usual case by hand (see `skb.hot` in the benchmarks): the same length again, and the page has room.
  if (len !== nc.sameLen || next > frag.fastSize) return napiAllocSkbSlow(env, cpu, nc, dev, len)
  frag.pagecntBias--
  frag.offset = next
  const head = ((frag.virt + start) | 0) as Addr
  let skb = nc.hottest
  if (skb !== null) nc.hottest = null
  else {
    skb = napiSkbCacheGetStacked(env, cpu, nc)
    if (skb === null) return napiAllocSkbUndo(env, cpu, head)
  }
  buildSkbBody(env, skb, head, nc.sameRoom, nc.sameTruesize, SKB_HEAD_FRAG, frag.pfn, nc.cpu, env.napiPad, dev)
  return skb
}

/**
 * Models `__netdev_alloc_skb` (net/core/skbuff.c): any context; the fragment cache that fits it.
 *
 * @returns an skb with a headroom of `NET_SKB_PAD`, or null.
 */
export function netdevAllocSkb(
  env: Skbuffs,
  cpu: Cpu,
  dev: number,
  len: number,
  gfp: Gfp = env.mem.gfp.GFP_ATOMIC as Gfp,
): SkBuff | null {
  const sizes = env.sizes
  const pad = sizes.netSkbPad
  const room = len + pad
  const { DIRECT_RECLAIM, DMA, MEMALLOC } = env.mem.gfp
  if (room <= sizes.rxSlabRoom || room > sizes.rxPageRoom || (gfp & (DIRECT_RECLAIM | DMA)) !== 0) {
    const skb = allocSkb(env, cpu, room, gfp, SKB_ALLOC_RX, NUMA_NO_NODE)
    return skb === null ? null : finishRx(skb, pad, dev)
  }
  const mask = (env.memallocSocks ? gfp | MEMALLOC : gfp) as Gfp
  const bytes = ((room + sizes.lineBytes - 1) & -sizes.lineBytes) + sizes.sharedInfoBytes
  const caches = inHardirq(cpu) || irqsDisabled(cpu) ? env.fragCaches.netdev : env.fragCaches.napi
  const frag = caches[cpu.id]!
  const head = pageFragAllocAlign(frag, cpu, bytes, mask, 1)
  if (head === NULL) return null
  const obj = kmemCacheAllocObj(env.skbuffCache, cpu, env.gfpAtomic, NUMA_NO_NODE, env.sites.buildSkb)
  if (obj < 0) {
    pageFragFree(env.mem, cpu, head, '__netdev_alloc_skb')
    return null
  }
  const skb = env.headBodies[obj]!
  const born = frag.pfmemalloc === true ? SKB_HEAD_FRAG | SKB_PFMEMALLOC : SKB_HEAD_FRAG
  return buildSkbBlock(env, skb, head, bytes, born, cpu, pad, dev)
}

/** Models `netdev_alloc_skb_ip_align`: `NET_IP_ALIGN` more headroom, which is 0 where unaligned access is cheap. */
export function netdevAllocSkbIpAlign(env: Skbuffs, cpu: Cpu, dev: number, len: number): SkBuff | null {
  const align = env.sizes.netIpAlign
  const skb = netdevAllocSkb(env, cpu, dev, len + align)
  if (align !== 0 && skb !== null) {
    skb.data = ((skb.data + align) | 0) as Addr
    skb.tail = ((skb.tail + align) | 0) as Addr
  }
  return skb
}

/** Models `dev_alloc_skb`: no device. */
export const devAllocSkb = (env: Skbuffs, cpu: Cpu, len: number): SkBuff | null => netdevAllocSkb(env, cpu, 0, len)

// Cold path: another length, sizes outside the middle, and caches that are used up.

function napiAllocSkbSlow(env: Skbuffs, cpu: Cpu, nc: NapiAllocCache, dev: number, len: number): SkBuff | null {
  const pad = env.napiPad
  const room = len + pad
  if (room <= env.rxSlabRoom || room > env.rxPageRoom) return napiAllocSkbSlab(env, cpu, dev, room, pad)
  const frag = nc.page
  const mask = (env.memallocSocks ? env.gfpAtomic | env.mem.gfp.MEMALLOC : env.gfpAtomic) as Gfp
  const same = len === nc.sameLen
  const bytes = same ? nc.sameBytes : skbHeadAlign(env.sizes, room)
  // The same length again, and no fit: the page is used up.
  const head =
    same && frag.fastSize !== 0
      ? pageFragAllocSlow(frag, cpu, bytes, mask, 1)
      : pageFragAllocAlign(frag, cpu, bytes, mask, 1)
  if (head === NULL) return null
  const skb = napiSkbCacheGet(env, cpu)
  if (skb === null) return napiAllocSkbUndo(env, cpu, head)
  if (!same) {
    nc.sameLen = len
    nc.sameBytes = bytes
    nc.sameRoom = bytes - env.sharedInfoBytes
    nc.sameTruesize = bytes + env.headBytes
  }
  const born = frag.pfmemalloc ? SKB_HEAD_FRAG | SKB_PFMEMALLOC : SKB_HEAD_FRAG
  // Whichever chunk the piece is from, it is the one that the cache has now.
  buildSkbBody(env, skb, head, nc.sameRoom, nc.sameTruesize, born, frag.pfn, cpu.id, pad, dev)
  return skb
}

function napiAllocSkbUndo(env: Skbuffs, cpu: Cpu, head: Addr): null {
  pageFragFree(env.mem, cpu, head, 'napi_alloc_skb')
  return null
}

function napiAllocSkbSlab(env: Skbuffs, cpu: Cpu, dev: number, room: number, pad: number): SkBuff | null {
  if (env.profile.features.napiFrag1kSlices && room <= env.rxSlabRoom) return napiAllocSlice(env, cpu, dev, pad)
  const skb = allocSkb(env, cpu, room, env.gfpAtomic, SKB_ALLOC_RX | SKB_ALLOC_NAPI, NUMA_NO_NODE)
  return skb === null ? null : finishRx(skb, pad, dev)
}

function finishRx(skb: SkBuff, pad: number, dev: number): SkBuff {
  const data = ((skb.data + pad) | 0) as Addr
  skb.data = data
  skb.tail = data
  skb.dev = dev
  return skb
}
