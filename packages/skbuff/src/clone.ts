/**
 * A clone is a second descriptor for the same data: the head costs an object, the data a count. truesize is
 * copied, not shared, so charging both counts the data twice; that is what the kernel does.
 */
import { assert, type Cpu, type Gfp } from '@netmem/base'
import { kmemCacheAllocObj } from '@netmem/memory'
import { NUMA_NO_NODE } from './alloc.js'
import { consumedReason } from './drop-reason.js'
import { skbOrphanFrags } from './expand.js'
import { copyChecksum, copyRareFields } from './header-fields.js'
import { skbReleaseAll } from './release.js'
import { SHINFO_DATAREF_WORD, SKBFL_ZEROCOPY_ENABLE, shinfoFlags, skbShinfo } from './shared-info.js'
import {
  SKB_CB_USED,
  SKB_CLONED,
  SKB_FCLONE_CLONE,
  SKB_FCLONE_MASK,
  SKB_FCLONE_ORIG,
  SKB_FCLONE_SHIFT,
  SKB_IP_SUMMED_MASK,
  SKB_NOHDR,
  SKB_PEEKED,
  SKB_PFMEMALLOC,
  SKB_RARE_MASK,
  type SkBuff,
  skbHeadroom,
} from './sk-buff.js'
import { copySkbCb } from './sk-buff-rare.js'

/**
 * Models `skb_clone` (net/core/skbuff.c): the companion of a pair if it is idle, else a head of its own.
 *
 * @returns a clone with one holder and no owner; null when there is no memory (then nothing has changed) or
 *   user fragments could not be copied.
 */
export function skbClone(cpu: Cpu, skb: SkBuff, gfp: Gfp): SkBuff | null {
  const flags = skb.flags
  if ((shinfoFlags(skb) & SKBFL_ZEROCOPY_ENABLE) !== 0 && skbOrphanFrags(cpu, skb, gfp) !== 0) return null
  if ((flags & SKB_FCLONE_MASK) === SKB_FCLONE_ORIG << SKB_FCLONE_SHIFT && skb.fcloneRef === 1) {
    skb.fcloneRef = 2
    return skbCloneInto(skb.twin!, skb, SKB_FCLONE_CLONE << SKB_FCLONE_SHIFT)
  }
  const env = skb.env
  const mask = ((flags & SKB_PFMEMALLOC) !== 0 ? gfp | env.mem.gfp.MEMALLOC : gfp) as Gfp
  const obj = kmemCacheAllocObj(env.skbuffCache, cpu, mask, NUMA_NO_NODE, 'skb_clone')
  return obj < 0 ? null : skbCloneInto(env.headBodies[obj]!, skb, 0)
}

/**
 * Models `__skb_clone`: fills `n` from `skb`; both are clones afterwards. `kind` is the fclone bits of `n`. Kept small
 * enough to be inlined (see `skb.clone` in the benchmarks): what a flag announces is copied by `cloneRest`.
 */
export function skbCloneInto(n: SkBuff, skb: SkBuff, kind: number): SkBuff {
  const at = skbShinfo(skb) + SHINFO_DATAREF_WORD
  const words = skb.env.i32
  const flags = skb.flags | SKB_CLONED
  if (__ASSERT__) assert((words[at]! & 0xffff) > 0, 'skb_clone: of freed data')
  words[at]!++
  skb.flags = flags
  n.flags = (flags & ~(SKB_FCLONE_MASK | SKB_NOHDR | SKB_PEEKED)) | kind
  n.users = 1
  n.next = 0
  n.head = skb.head
  n.data = skb.data
  n.tail = skb.tail
  n.end = skb.end
  n.headPage = skb.headPage
  n.len = skb.len
  n.dataLen = skb.dataLen
  n.truesize = skb.truesize
  n.destructor = 0
  n.sk = 0
  n.dev = skb.dev
  n.refdst = skb.refdst
  n.protocol = skb.protocol
  n.transportHeader = skb.transportHeader
  n.networkHeader = skb.networkHeader
  n.macHeader = skb.macHeader
  n.queueMapping = skb.queueMapping
  n.priority = skb.priority
  n.hash = skb.hash
  n.allocCpu = skb.allocCpu
  n.macLen = skb.macLen
  n.hdrLen = skb.hdrLen
  n.skbIif = skb.skbIif
  if ((flags & REST_MASK) !== 0 || skb.refdst !== 0) cloneRest(n, skb, flags)
  return n
}

/** Flags of packets that have more to copy than the members of every packet. */
const REST_MASK = SKB_CB_USED | SKB_NOHDR | SKB_IP_SUMMED_MASK | SKB_RARE_MASK

function cloneRest(n: SkBuff, skb: SkBuff, flags: number): void {
  if ((flags & SKB_NOHDR) !== 0) n.hdrLen = skbHeadroom(skb)
  if ((flags & SKB_IP_SUMMED_MASK) !== 0) copyChecksum(n, skb)
  if ((flags & SKB_CB_USED) !== 0) copySkbCb(n.rare, skb.rare)
  if ((flags & SKB_RARE_MASK) !== 0 || skb.refdst !== 0) copyRareFields(n, skb)
}

/**
 * Models `skb_morph` (net/core/skbuff.c): `dst` gives up what it holds and becomes a clone of `src`, keeping its place.
 * Neither may be queued.
 */
export function skbMorph(cpu: Cpu, dst: SkBuff, src: SkBuff): SkBuff {
  skbReleaseAll(cpu, dst, consumedReason)
  return skbCloneInto(dst, src, dst.flags & SKB_FCLONE_MASK)
}
