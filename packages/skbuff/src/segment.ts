/**
 * Software segmentation: one big packet becomes packets of `gso_size` payload each, their bytes shared through
 * fragments where the device can gather, copied where it cannot.
 */
import { type Addr, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { getPage } from '@netmem/memory'
import { allocSkb, NUMA_NO_NODE, SKB_ALLOC_RX } from './alloc.js'
import { skbCopyBits, traceCopy } from './bits.js'
import { skbZerocopyClone } from './copy.js'
import { skbFragRef } from './frag-pages.js'
import { skbCopyHeader, skbHeadersOffsetUpdate } from './header-fields.js'
import { skbPullUnchecked, skbPushUnchecked, skbPut, skbReserve, skbResetMacLen } from './linear.js'
import { kfreeSkbList } from './release.js'
import {
  copyFrag,
  fragLen,
  fragList,
  fragOff,
  gsoSize,
  nrFrags,
  SKBFL_SHARED_FRAG,
  setFrag,
  setFragLen,
  setFragOff,
  setNrFrags,
  setShinfoFlags,
  shinfoFlags,
  skbGsoReset,
} from './shared-info.js'
import { CHECKSUM_NONE, type SkBuff, skbHeadlen, skbHeadroom, skbPfmemalloc } from './sk-buff.js'

/** Models `GSO_BY_FRAGS`: each skb of the fragment list is a segment. */
export const GSO_BY_FRAGS = 0xffff

/** What a segment is made for; the caller owns one and reuses it. */
export interface SegmentFeatures {
  /** Models `NETIF_F_SG`: fragments are fine. */
  readonly sg: boolean
  /** Models `can_checksum_protocol`: the device sums. */
  readonly csum: boolean
}

/**
 * Models `skb_segment` (net/core/skbuff.c). `data` is at the transport payload's header (the caller pulled the
 * rest); every segment gets a copy of everything from the MAC header to `data`.
 *
 * @returns the first segment, linked through `next`, its `prev` the last one; or a negative errno: nothing made.
 *   The packet itself stays the caller's; if its destructor is `ownerTransfer`, that charge moves to the last
 *   segment, whose truesize it takes over.
 */
export function skbSegment(cpu: Cpu, head: SkBuff, features: SegmentFeatures, ownerTransfer = 0): SkBuff | number {
  const env = head.env
  const mss = gsoSize(head)
  const headerLen = (head.data - head.head - head.macHeader) | 0
  skbPushUnchecked(head, headerLen)
  const source = new Pieces(head, headerLen)
  const headroom = skbHeadroom(head)
  const payload = head.len - headerLen
  let first = 0
  let tail: SkBuff | null = null
  let listId = fragList(head)
  let err = 0
  for (let offset = 0; offset < payload; ) {
    let len = Math.min(mss, payload - offset)
    if (mss === GSO_BY_FRAGS) {
      len = env.skbs[listId]!.len
      listId = env.skbs[listId]!.next
    }
    const linear = features.sg ? Math.max(0, Math.min(len, skbHeadlen(head) - headerLen - offset)) : len
    const rx = skbPfmemalloc(head) ? SKB_ALLOC_RX : 0
    const seg = allocSkb(env, cpu, linear + headerLen + headroom, env.gfpPull, rx, NUMA_NO_NODE)
    if (seg === null) {
      err = -ERRNO.ENOMEM
      break
    }
    if (tail === null) first = seg.id
    else tail.next = seg.id
    tail = seg
    skbReserve(seg, headroom)
    skbPut(seg, headerLen)
    skbCopyHeader(seg, head)
    skbHeadersOffsetUpdate(seg, skbHeadroom(seg) - headroom)
    skbResetMacLen(seg)
    env.u8.copyWithin(seg.data >>> 0, head.data >>> 0, (head.data >>> 0) + headerLen)
    if (linear > 0) {
      skbCopyBits(head, headerLen + offset, skbPut(seg, linear), linear)
      traceCopy(cpu, head, 'skb_segment', linear)
    }
    if (linear < len) {
      setShinfoFlags(seg, shinfoFlags(seg) | (shinfoFlags(head) & SKBFL_SHARED_FRAG))
      seg.ppRecycle = head.ppRecycle
      if (skbZerocopyClone(cpu, seg, head, env.gfpPull) !== 0 || !source.share(seg, offset + linear, len - linear)) {
        err = -ERRNO.EINVAL
        break
      }
      seg.dataLen = len - linear
      seg.len += seg.dataLen
      seg.truesize += seg.dataLen
    }
    if (!features.csum) seg.ipSummed = CHECKSUM_NONE
    skbGsoReset(seg)
    offset += len
  }
  skbPullUnchecked(head, headerLen)
  if (err !== 0) {
    kfreeSkbList(cpu, env, first, 'skb_segment')
    return err
  }
  if (tail === null) return -ERRNO.EINVAL
  env.skbs[first]!.prev = tail.id
  if (ownerTransfer !== 0 && head.destructor === ownerTransfer) {
    const truesize = tail.truesize
    tail.truesize = head.truesize
    head.truesize = truesize
    tail.destructor = head.destructor
    head.destructor = 0
    tail.sk = head.sk
    head.sk = 0
  }
  return env.skbs[first]!
}

/** The pieces behind a packet's linear part, in order: its fragments, then those of its fragment list. */
class Pieces {
  private owner: SkBuff
  private index = 0
  /** Payload offset at which the current piece begins. */
  private start: number
  private linearDone = false

  constructor(head: SkBuff, headerLen: number) {
    this.owner = head
    this.start = skbHeadlen(head) - headerLen
    this.linearDone = true
    this.listNext = fragList(head)
  }
  private listNext: number

  /** Gives `seg` fragments for `bytes` of payload from `offset` on, each with a reference. @returns false out of slots. */
  share(seg: SkBuff, offset: number, bytes: number): boolean {
    const maxFrags = seg.env.sizes.maxFrags
    const end = offset + bytes
    let slot = nrFrags(seg)
    for (let at = offset; at < end; ) {
      const size = this.size()
      if (size < 0) return false
      if (this.start + size <= at) {
        this.next(size)
        continue
      }
      if (slot >= maxFrags) return false
      const skip = at - this.start
      const chunk = Math.min(size - skip, end - at)
      if (!this.put(seg, slot, skip, chunk)) return false
      slot++
      setNrFrags(seg, slot)
      at += chunk
    }
    return true
  }

  private size(): number {
    for (;;) {
      if (!this.linearDone) {
        if (skbHeadlen(this.owner) > 0) return skbHeadlen(this.owner)
        this.linearDone = true
      }
      if (this.index < nrFrags(this.owner)) return fragLen(this.owner, this.index)
      if (this.listNext === 0) return -1
      this.owner = this.owner.env.skbs[this.listNext]!
      this.listNext = this.owner.next
      this.index = 0
      this.linearDone = false
    }
  }

  private next(size: number): void {
    this.start += size
    if (!this.linearDone) this.linearDone = true
    else this.index++
  }

  private put(seg: SkBuff, slot: number, skip: number, bytes: number): boolean {
    const owner = this.owner
    if (this.linearDone) {
      copyFrag(seg, slot, owner, this.index)
      skbFragRef(owner, this.index)
      setFragOff(seg, slot, fragOff(seg, slot) + skip)
      setFragLen(seg, slot, bytes)
      return true
    }
    // Models `skb_head_frag_to_page_desc`: a head that is a page fragment can be a piece; another cannot.
    if (!owner.headFrag) return false
    const env = owner.env
    const page = env.pageHead[owner.head >>> 12]! as Pfn
    getPage(env.mem, page)
    setFrag(seg, slot, page, ((owner.data + skip - (page << 12)) | 0) as Addr, bytes)
    return true
  }
}
