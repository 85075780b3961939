/**
 * What happens when the last holder lets go, in the kernel's order: the owner is uncharged (head state)
 * before the data goes, the data goes when no clone uses it, and the descriptor goes last.
 */
import { type Addr, assert, type Cpu, inHardirq, type Pfn } from '@netmem/base'
import { freePages, kfree, kmemCacheFreeObj, kmemCacheFreeObjBulk, putPage } from '@netmem/memory'
import { pageFragFree } from '@netmem/page-frag'
import { napiPpPutPage } from '@netmem/page-pool'
import { consumedReason, type SkbDropReason } from './drop-reason.js'
import type { Skbuffs } from './env.js'
import { skbExtPut } from './extensions.js'
import {
  fragList,
  SHINFO_DATAREF_WORD,
  SHINFO_FRAG_LIST_WORD,
  SHINFO_FRAG_WORDS,
  SHINFO_FRAGS_WORD,
  SKB_DATAREF_SHIFT,
  SKBFL_MANAGED_FRAG_REFS,
  SKBFL_ZEROCOPY_ENABLE,
} from './shared-info.js'
import {
  SKB_CLONED,
  SKB_FCLONE_MASK,
  SKB_FCLONE_ORIG,
  SKB_FCLONE_SHIFT,
  SKB_HAS_EXTENSIONS,
  SKB_HEAD_FRAG,
  SKB_NOHDR,
  SKB_PP_RECYCLE,
  SKB_SHINFO_USED,
  type SkBuff,
} from './sk-buff.js'
import { skbZcopyClear } from './zerocopy.js'

/** Models `skb_release_all` (net/core/skbuff.c): head state, then data; the descriptor itself stays. */
export function skbReleaseAll(cpu: Cpu, skb: SkBuff, reason: SkbDropReason): void {
  skbReleaseHeadState(cpu, skb)
  skbReleaseData(cpu, skb, reason)
}

/** Models `skb_release_head_state`: route, destructor (never in a hard interrupt), extensions. */
export function skbReleaseHeadState(cpu: Cpu, skb: SkBuff): void {
  if ((skb.refdst | skb.destructor | (skb.flags & SKB_HAS_EXTENSIONS)) !== 0) skbReleaseHeadStateSlow(cpu, skb)
}

/**
 * Models `skb_release_data` (net/core/skbuff.c): drops this skb's hold on the shared data, and with the last
 * hold the fragments, the fragment list and the head block.
 */
export function skbReleaseData(cpu: Cpu, skb: SkBuff, reason: SkbDropReason): void {
  const env = skb.env
  const words = env.i32
  const info = skb.end >>> 2
  const flags = skb.flags
  if ((flags & SKB_CLONED) !== 0) {
    const held = (flags & SKB_NOHDR) !== 0 ? (1 << SKB_DATAREF_SHIFT) + 1 : 1
    const left = words[info + SHINFO_DATAREF_WORD]! - held
    if (left !== 0) {
      if (__ASSERT__) assert(left > 0, 'skb_release_data: dataref below zero')
      words[info + SHINFO_DATAREF_WORD] = left
      // The data stays with the clones; this skb must not recycle what is not its own.
      skb.flags = flags & ~SKB_PP_RECYCLE
      return
    }
  }
  // The first word holds flags and nr_frags: zero for a plain linear packet.
  if (
    (flags & SKB_SHINFO_USED) !== 0 &&
    ((words[info]! & 0x00ff00ff) !== 0 || words[info + SHINFO_FRAG_LIST_WORD]! !== 0)
  )
    skbReleaseFrags(cpu, env, skb, reason)
  if ((flags & (SKB_HEAD_FRAG | SKB_PP_RECYCLE)) === SKB_HEAD_FRAG) {
    // `page_frag_free` by hand: G1 and G2 pay for every call.
    const page = env.pageHead[skb.head >>> 12]! as Pfn
    const left = env.refcount[page]! - 1
    if (left !== 0) env.refcount[page] = left
    else freePages(env.mem, cpu, page, env.mem.pages.order[page]!, 'skb_release_data')
  } else skbFreeHead(cpu, skb, 'skb_release_data')
}

/**
 * Models `skb_free_head` (net/core/skbuff.c): the head block alone.
 *
 * @param site the function that the free event names: the kernel inlines this one.
 */
export function skbFreeHead(cpu: Cpu, skb: SkBuff, site: string): void {
  const mem = skb.env.mem
  if ((skb.flags & SKB_HEAD_FRAG) !== 0) {
    if (skbPpRecycle(cpu, skb, skb.head)) return
    pageFragFree(mem, cpu, skb.head, site)
  } else kfree(mem, cpu, skb.head, site)
}

/** Models `skb_pp_recycle`: the block goes back to its page pool, if it has one. */
export function skbPpRecycle(cpu: Cpu, skb: SkBuff, addr: Addr): boolean {
  if ((skb.flags & SKB_PP_RECYCLE) === 0) return false
  return skb.env.pagePools !== null && napiPpPutPage(skb.env.pagePools, cpu, (addr >>> 12) as Pfn)
}

/**
 * Models `kfree_skbmem` (net/core/skbuff.c): the descriptor alone, by the kind it is.
 *
 * @param site the caller's name; the kernel tail-calls this one, so that is what the event prints.
 */
export function kfreeSkbmem(cpu: Cpu, skb: SkBuff, site: string): void {
  if (__ASSERT__) skb.users = 0
  const kind = skb.flags & SKB_FCLONE_MASK
  if (kind === 0) {
    kmemCacheFreeObj(skb.env.skbuffCache, cpu, skb.obj, site)
    return
  }
  const orig = kind === SKB_FCLONE_ORIG << SKB_FCLONE_SHIFT ? skb : skb.twin!
  // As for `users`, the last reference is not written down.
  if (orig.fcloneRef === 1) kmemCacheFreeObj(skb.env.fcloneCache, cpu, skb.obj, site)
  else orig.fcloneRef--
}

/** Models `__kfree_skb` (net/core/skbuff.c): everything goes; no tracepoint, no look at `users`. */
export function kfreeSkbUnchecked(cpu: Cpu, skb: SkBuff, site: string): void {
  skbReleaseAll(cpu, skb, 'NOT_SPECIFIED')
  kfreeSkbmem(cpu, skb, site)
}

/** Models `skb_unref`: true for the last holder, whose count stays 1. */
export function skbUnref(skb: SkBuff): boolean {
  if (__ASSERT__) assert(skb.users > 0, 'skb_unref: the skb has been freed already')
  if (skb.users === 1) return true
  skb.users--
  return false
}

/**
 * Models `kfree_skb` with a reason (`sk_skb_reason_drop` on 6.18): the packet was dropped.
 *
 * @param location the calling kernel function, as the tracepoint prints it.
 * @param rxSk id of the socket that was to receive it, 0 when there is none.
 */
export function kfreeSkb(cpu: Cpu, skb: SkBuff, reason: SkbDropReason, location: string, rxSk = 0): void {
  if (!skbUnref(skb)) return
  traceDrop(cpu, skb, reason, location, rxSk)
  kfreeSkbUnchecked(cpu, skb, location)
}

/** Says why a packet ended: `consume_skb` for the reason CONSUMED, else `kfree_skb`. */
export function traceDrop(cpu: Cpu, skb: SkBuff, reason: SkbDropReason, location: string, rxSk: number): void {
  const trace = skb.env.trace
  if (reason === consumedReason) {
    if (trace.consumeSkb !== null) trace.consumeSkb(cpu, skb.addr, location)
  } else if (trace.kfreeSkb !== null) trace.kfreeSkb(cpu, skb.addr, location, skb.protocol, reason, rxSk)
}

// Cold path: packets that are owned, routed, in pieces, or waited for.

function skbReleaseHeadStateSlow(cpu: Cpu, skb: SkBuff): void {
  const env = skb.env
  if (skb.refdst !== 0) {
    env.slots.dstRelease(cpu, skb.refdst)
    skb.refdst = 0
  }
  if (skb.destructor !== 0) {
    if (inHardirq(cpu)) env.trace.warn?.('skb_release_head_state', 'destructor in hard interrupt context')
    env.destructors[skb.destructor]!(cpu, skb)
    skb.destructor = 0
  }
  if ((skb.flags & SKB_HAS_EXTENSIONS) !== 0) skbExtPut(cpu, skb)
}

function skbReleaseFrags(cpu: Cpu, env: Skbuffs, skb: SkBuff, reason: SkbDropReason): void {
  const words = env.i32
  const info = skb.end >>> 2
  const first = words[info]!
  const list = fragList(skb)
  if ((first & SKBFL_ZEROCOPY_ENABLE) !== 0) skbZcopyClear(cpu, skb, true)
  if ((first & SKBFL_MANAGED_FRAG_REFS) === 0) {
    const count = (first >> 16) & 0xff
    const pools = (skb.flags & SKB_PP_RECYCLE) !== 0 ? env.pagePools : null
    for (let i = 0, at = info + SHINFO_FRAGS_WORD; i < count; i++, at += SHINFO_FRAG_WORDS) {
      const page = words[at]! as Pfn
      if (pools === null || !napiPpPutPage(pools, cpu, page)) putPage(env.mem, cpu, page, 'skb_release_data')
    }
  }
  if (list !== 0) kfreeSkbListReason(cpu, env, list, reason, 'skb_release_data')
}

// Lists: heads return to the slab sixteen at a time.

/** Models `KFREE_SKB_BULK_SIZE`. */
export const KFREE_SKB_BULK_SIZE = 16

/**
 * Models `kfree_skb_list` and `kfree_skb_list_reason` (net/core/skbuff.c): drops every skb of a list. From 6.3
 * on heads are collected and freed in bulk, which no tracepoint sees; before, each by itself.
 *
 * @param first id of the first skb, 0 for an empty list.
 */
export function kfreeSkbListReason(
  cpu: Cpu,
  env: Skbuffs,
  first: number,
  reason: SkbDropReason,
  location: string,
): void {
  if (!env.profile.features.skbSmallHeadCache) {
    kfreeSkbListOneByOne(cpu, env, first, location)
    return
  }
  let bulk: Int32Array | null = null
  let count = 0
  for (let id = first; id !== 0; ) {
    const skb = env.skbs[id]!
    id = skb.next
    // A fragment list may hang below a fragment list: the buffer belongs to one call.
    if (!skbUnref(skb)) continue
    traceDrop(cpu, skb, reason, location, 0)
    if ((skb.flags & SKB_FCLONE_MASK) !== 0) {
      kfreeSkbUnchecked(cpu, skb, location)
      continue
    }
    skbReleaseAll(cpu, skb, reason)
    if (__ASSERT__) skb.users = 0
    bulk ??= env.bulkBuffers.pop() ?? new Int32Array(KFREE_SKB_BULK_SIZE)
    bulk[count++] = skb.obj
    if (count === KFREE_SKB_BULK_SIZE) {
      kmemCacheFreeObjBulk(env.skbuffCache, cpu, count, bulk, 0, location)
      count = 0
    }
  }
  if (bulk === null) return
  if (count > 0) kmemCacheFreeObjBulk(env.skbuffCache, cpu, count, bulk, 0, location)
  env.bulkBuffers.push(bulk)
}

function kfreeSkbListOneByOne(cpu: Cpu, env: Skbuffs, first: number, location: string): void {
  for (let id = first; id !== 0; ) {
    const skb = env.skbs[id]!
    if (__ASSERT__) assert(skb.next !== id, 'an skb list that follows itself')
    id = skb.next
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', location)
  }
}

/** Models `kfree_skb_list`. */
export const kfreeSkbList = (cpu: Cpu, env: Skbuffs, first: number, location: string): void =>
  kfreeSkbListReason(cpu, env, first, 'NOT_SPECIFIED', location)
