/**
 * A new head block for an skb that stays what it is: more room, or data of its own instead of data shared
 * with clones. Fragments move or are shared; only the linear part is copied.
 */
import { type Addr, assert, type Cpu, ERRNO, type Gfp, NO_PFN, NULL, type Pfn } from '@netmem/base'
import { allocPages, kfree, putPage } from '@netmem/memory'
import { kmallocReserve, kmallocReserveBytes, NUMA_NO_NODE } from './alloc.js'
import { skbCloned } from './dataref.js'
import { eachFrag, skbFragRef, skbFragUnref, skbPagelen } from './frag-pages.js'
import { skbHeadersOffsetUpdate } from './header-fields.js'
import { skbFreeHead, skbReleaseData } from './release.js'
import {
  fragList,
  nrFrags,
  SHINFO_FRAG_WORDS,
  SHINFO_FRAGS_WORD,
  SKBFL_DONT_ORPHAN,
  setDataref,
  setFrag,
  setNrFrags,
  shinfoFlags,
} from './shared-info.js'
import {
  SKB_CLONED,
  SKB_HEAD_FRAG,
  SKB_NOHDR,
  SKB_PFMEMALLOC,
  SKB_SHINFO_USED,
  type SkBuff,
  skbEndOffset,
  skbShared,
} from './sk-buff.js'
import { netZcopyGet, skbZcopy, skbZcopyClear, skbZcopyDowngradeManaged } from './zerocopy.js'

/**
 * Models `pskb_expand_head` (net/core/skbuff.c). The room is rounded up to what the allocator gives; truesize
 * follows only while no socket is charged for it.
 *
 * @param nhead bytes more before the data. @param ntail bytes more behind it; may be negative.
 * @returns 0, or `-ENOMEM` with nothing changed. @throws KernelBug for a negative `nhead` or a shared skb.
 */
export function pskbExpandHead(cpu: Cpu, skb: SkBuff, nhead: number, ntail: number, gfp: Gfp): number {
  assert(nhead >= 0, 'pskb_expand_head: negative headroom')
  assert(!skbShared(skb), 'pskb_expand_head: of a shared skb')
  const env = skb.env
  const oldRoom = skbEndOffset(skb)
  skbZcopyDowngradeManaged(skb)
  const mask = (skb.flags & SKB_PFMEMALLOC) !== 0 ? gfp | env.mem.gfp.MEMALLOC : gfp
  const bytes = kmallocReserveBytes(env, oldRoom + nhead + ntail, mask)
  const head = kmallocReserve(env, cpu, bytes, mask, NUMA_NO_NODE, 'pskb_expand_head')
  if (head === NULL) return -ERRNO.ENOMEM
  const room = bytes - env.sizes.sharedInfoBytes
  const u8 = env.u8
  const from = skb.head >>> 0
  u8.copyWithin((head >>> 0) + nhead, from, from + ((skb.tail - skb.head) | 0))
  const infoUsed = (skb.flags & SKB_SHINFO_USED) !== 0
  if (infoUsed) {
    const infoBytes = (SHINFO_FRAGS_WORD + nrFrags(skb) * SHINFO_FRAG_WORDS) * 4
    u8.copyWithin((head >>> 0) + room, skb.end >>> 0, (skb.end >>> 0) + infoBytes)
  }
  if (skbCloned(skb)) {
    if (skbOrphanFrags(cpu, skb, mask as Gfp) !== 0) {
      kfree(env.mem, cpu, head, 'pskb_expand_head')
      return -ERRNO.ENOMEM
    }
    // The new shared info is one more user of everything that the old one points to.
    const ubuf = skbZcopy(skb)
    if (ubuf !== 0) netZcopyGet(env, ubuf)
    for (let i = nrFrags(skb) - 1; i >= 0; i--) skbFragRef(skb, i)
    if (fragList(skb) !== 0) skbCloneFraglist(skb)
    skbReleaseData(cpu, skb, 'CONSUMED')
  } else skbFreeHead(cpu, skb, 'pskb_expand_head')
  const move = (head + nhead - skb.head) | 0
  skb.head = head
  skb.data = ((skb.data + move) | 0) as Addr
  skb.tail = ((skb.tail + move) | 0) as Addr
  skb.end = ((head + room) | 0) as Addr
  skb.flags &= ~(SKB_HEAD_FRAG | SKB_CLONED | SKB_NOHDR)
  skbHeadersOffsetUpdate(skb, nhead)
  skb.hdrLen = 0
  if (infoUsed) setDataref(skb, 1)
  if (skbTruesizeIsFree(skb)) skb.truesize += room - oldRoom
  return 0
}

/** Whether truesize may change: nobody is charged, or only an early-demultiplexed socket is attached. */
export const skbTruesizeIsFree = (skb: SkBuff): boolean =>
  skb.sk === 0 || (skb.destructor !== 0 && skb.destructor === skb.env.edemuxDestructor)

/** Models `skb_clone_fraglist`: one more holder for every skb of the list. */
export function skbCloneFraglist(skb: SkBuff): void {
  const skbs = skb.env.skbs
  for (let id = fragList(skb); id !== 0; id = skbs[id]!.next) skbs[id]!.users++
}

/** Models `skb_unclone`: data of its own, if it is shared. @returns 0 or `-ENOMEM`. */
export const skbUnclone = (cpu: Cpu, skb: SkBuff, gfp: Gfp): number =>
  skbCloned(skb) ? pskbExpandHead(cpu, skb, 0, 0, gfp) : 0

/**
 * Models `skb_unclone_keeptruesize`: for a charged skb, whose truesize must not move. Room that rounding
 * added is hidden again by moving the shared info back, unless that would make or unmake a small head.
 */
export function skbUncloneKeeptruesize(cpu: Cpu, skb: SkBuff, gfp: Gfp): number {
  if (!skbCloned(skb)) return 0
  const oldRoom = skbEndOffset(skb)
  const truesize = skb.truesize
  const err = pskbExpandHead(cpu, skb, 0, 0, gfp)
  if (err !== 0) return err
  skb.truesize = truesize
  const room = skbEndOffset(skb)
  if (room === oldRoom) return 0
  const env = skb.env
  const small = env.sizes.smallHeadRoom
  if (small !== 0 && (oldRoom === small || room === small)) {
    env.trace.warn?.('__skb_unclone_keeptruesize', `skb_end_offset() ${oldRoom} -> ${room}`)
    return 0
  }
  const at = skb.end >>> 0
  const infoBytes = (SHINFO_FRAGS_WORD + nrFrags(skb) * SHINFO_FRAG_WORDS) * 4
  env.u8.copyWithin((skb.head >>> 0) + oldRoom, at, at + infoBytes)
  skb.end = ((skb.head + oldRoom) | 0) as Addr
  return 0
}

/** Models `skb_orphan_frags`: before a clone; user fragments that may be orphaned are copied. */
export function skbOrphanFrags(cpu: Cpu, skb: SkBuff, gfp: Gfp): number {
  if (skbZcopy(skb) === 0 || (shinfoFlags(skb) & SKBFL_DONT_ORPHAN) !== 0) return 0
  return skbCopyUbufs(cpu, skb, gfp)
}

/** Models `skb_orphan_frags_rx`: before a packet loops back to a receiver; all user fragments are copied. */
export const skbOrphanFragsRx = (cpu: Cpu, skb: SkBuff, gfp: Gfp): number =>
  skbZcopy(skb) === 0 ? 0 : skbCopyUbufs(cpu, skb, gfp)

/**
 * Models `skb_copy_ubufs` (net/core/skbuff.c): copies user fragments to kernel pages and tells the owner that
 * zero-copy did not happen. @returns 0; `-EINVAL` for a shared skb or no memory for a head; `-ENOMEM`, `-EFAULT`.
 */
export function skbCopyUbufs(cpu: Cpu, skb: SkBuff, gfp: Gfp): number {
  const env = skb.env
  const mem = env.mem
  if (skb.unreadable) return -ERRNO.EFAULT
  if (skbShared(skb) || skbUnclone(cpu, skb, gfp) !== 0) return -ERRNO.EINVAL
  const count = nrFrags(skb)
  if (count !== 0) {
    const total = skbPagelen(skb)
    let order = 0
    while ((env.sizes.pageBytes << order) * env.sizes.maxFrags < total) order++
    const pageBytes = env.sizes.pageBytes << order
    const wanted = Math.ceil(total / pageBytes)
    const pages: Pfn[] = []
    for (let i = 0; i < wanted; i++) {
      const pfn = allocPages(mem, cpu, (gfp | mem.gfp.COMP) as Gfp, order, NUMA_NO_NODE, 'skb_copy_ubufs')
      if (pfn === NO_PFN) {
        // Newest first, as the kernel's list has it.
        while (pages.length > 0) putPage(mem, cpu, pages.pop()!, 'skb_copy_ubufs')
        return -ERRNO.ENOMEM
      }
      pages.push(pfn)
    }
    // The kernel chains the pages as it takes them, so the one taken last is filled first.
    pages.reverse()
    let filled = 0
    eachFrag(skb, (from, bytes) => {
      for (let done = 0; done < bytes; ) {
        const at = filled % pageBytes
        const chunk = Math.min(pageBytes - at, bytes - done)
        const to = (pages[(filled - at) / pageBytes]! << 12) >>> 0
        env.u8.copyWithin(to + at, (from >>> 0) + done, (from >>> 0) + done + chunk)
        done += chunk
        filled += chunk
      }
    })
    if (env.trace.copy !== null) env.trace.copy(cpu, 'skb_copy_ubufs', total)
    for (let i = 0; i < count; i++) skbFragUnref(cpu, skb, i, 'skb_copy_ubufs')
    for (let i = 0; i < wanted; i++) setFrag(skb, i, pages[i]!, 0, i === wanted - 1 ? total - i * pageBytes : pageBytes)
    setNrFrags(skb, wanted)
  }
  skbZcopyClear(cpu, skb, false)
  return 0
}
