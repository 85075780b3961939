/**
 * Joining one packet to a held one. Its bytes become fragments if they are in pages; otherwise the whole skb goes
 * on the held packet's fragment list.
 */
import type { Pfn } from '@netmem/base'
import {
  copyFrag,
  fragLen,
  fragOff,
  nrFrags,
  type SkBuff,
  setFrag,
  setFragLen,
  setFragList,
  setFragOff,
  setNrFrags,
  skbHeaderRelease,
  skbHeadlen,
  skbPullUnchecked,
} from '@netmem/skbuff'
import { GRO_FLUSH, GRO_FREE, GRO_FREE_STOLEN_HEAD, GRO_SAME_FLOW, skbGroLen, skbGroOffset } from './gro-cb.js'

/** Models `GRO_LEGACY_MAX_SIZE`: the merged packet's length must fit IPv4's field. */
const GRO_MAX_BYTES = 65536

/**
 * Models `skb_gro_receive` (net/core/gro.c).
 *
 * @param p the held packet. @param skb joins it; its `cb0` says how its descriptor is to be freed.
 * @returns false, with nothing changed, when they cannot be merged.
 */
export function skbGroReceive(p: SkBuff, skb: SkBuff): boolean {
  const env = p.env
  const { sizes } = env
  // Pool pages and others are given back in different ways; one packet cannot hold both.
  if (p.ppRecycle !== skb.ppRecycle) return false
  const len = skbGroLen(skb)
  if (p.len + len >= GRO_MAX_BYTES || (skb.cb0 & GRO_FLUSH) !== 0) return false
  const last = env.skbs[p.cb2]!
  const headlen = skbHeadlen(skb)
  const offset = skbGroOffset(skb)
  const had = nrFrags(last)
  const more = nrFrags(skb)
  let owner = last
  let delta = 0
  if (headlen <= offset && had + more <= sizes.maxFrags) {
    for (let i = 0; i < more; i++) copyFrag(last, had + i, skb, i)
    setFragOff(last, had, fragOff(last, had) + offset - headlen)
    setFragLen(last, had, fragLen(last, had) - (offset - headlen))
    setNrFrags(last, had + more)
    setNrFrags(skb, 0)
    // The fragments' memory goes along; the head's stays behind and is freed.
    const own = ((skb.end - skb.head) | 0) + sizes.sharedInfoBytes + sizes.headBytes
    delta = skb.truesize - own
    skb.truesize = own
    skb.len -= skb.dataLen
    skb.dataLen = 0
    skb.cb0 |= GRO_FREE
  } else if (headlen > offset && skb.headFrag && had + 1 + more <= sizes.maxFrags) {
    const page = env.pageHead[skb.head >>> 12]! as Pfn
    setFrag(last, had, page, (skb.data + offset - (page << 12)) | 0, headlen - offset)
    for (let i = 0; i < more; i++) copyFrag(last, had + 1 + i, skb, i)
    setNrFrags(last, had + 1 + more)
    delta = skb.truesize - sizes.headBytes
    skb.truesize = sizes.headBytes
    skb.cb0 |= GRO_FREE_STOLEN_HEAD
  } else {
    delta = skb.truesize
    appendToList(p, skb, offset, headlen)
    owner = p
  }
  p.cb3 += skb.cb3
  grow(p, len, delta)
  if (owner !== p) grow(owner, len, delta)
  skb.cb0 |= GRO_SAME_FLOW
  return true
}

function grow(skb: SkBuff, len: number, truesize: number): void {
  skb.dataLen += len
  skb.truesize += truesize
  skb.len += len
}

/** The whole skb, its headers pulled off, goes behind what is on the list. */
function appendToList(p: SkBuff, skb: SkBuff, offset: number, headlen: number): void {
  skb.destructor = 0
  skb.sk = 0
  let pull = offset
  if (offset > headlen) {
    const eat = offset - headlen
    setFragOff(skb, 0, fragOff(skb, 0) + eat)
    setFragLen(skb, 0, fragLen(skb, 0) - eat)
    skb.dataLen -= eat
    skb.len -= eat
    pull = headlen
  }
  skbPullUnchecked(skb, pull)
  const last = p.env.skbs[p.cb2]!
  skb.next = 0
  if (last === p) setFragList(p, skb.id)
  else last.next = skb.id
  p.cb2 = skb.id
  skbHeaderRelease(skb)
}

/** Models `skb_gro_receive_list`: every packet stays whole, headers and all, on the held packet's list. */
export function skbGroReceiveList(p: SkBuff, skb: SkBuff): boolean {
  if (p.len + skb.len >= GRO_MAX_BYTES) return false
  const offset = skbGroOffset(skb)
  if (offset > skbHeadlen(skb)) return false
  const last = p.env.skbs[p.cb2]!
  skb.next = 0
  if (last === p) setFragList(p, skb.id)
  else last.next = skb.id
  skbPullUnchecked(skb, offset)
  p.cb2 = skb.id
  p.cb3++
  p.dataLen += skb.len
  skb.destructor = 0
  skb.sk = 0
  p.truesize += skb.truesize
  p.len += skb.len
  skb.cb0 |= GRO_SAME_FLOW
  return true
}
