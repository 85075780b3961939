/**
 * Who else holds the data. The low half of `dataref` counts the sk_buffs that refer to the shared info; the
 * high half those among them that gave up the header. The block is freed exactly when the whole word is 0.
 */
import { dataref, SHINFO_DATAREF_WORD, SKB_DATAREF_MASK, SKB_DATAREF_SHIFT, setDataref } from './shared-info.js'
import { SKB_CLONED, SKB_NOHDR, type SkBuff } from './sk-buff.js'

/** Models `skb_cloned`: somebody else refers to this data. */
export const skbCloned = (skb: SkBuff): boolean =>
  (skb.flags & SKB_CLONED) !== 0 && (skb.env.i32[(skb.end >>> 2) + SHINFO_DATAREF_WORD]! & SKB_DATAREF_MASK) !== 1

/** Models `skb_header_cloned`: somebody else refers to the header too. */
export function skbHeaderCloned(skb: SkBuff): boolean {
  if ((skb.flags & SKB_CLONED) === 0) return false
  const refs = skb.env.i32[(skb.end >>> 2) + SHINFO_DATAREF_WORD]!
  return (refs & SKB_DATAREF_MASK) - (refs >> SKB_DATAREF_SHIFT) !== 1
}

/** Models `skb_header_release`: this holder promises not to touch the header. */
export function skbHeaderRelease(skb: SkBuff): void {
  skb.flags |= SKB_NOHDR
  setDataref(skb, dataref(skb) + (1 << SKB_DATAREF_SHIFT))
}

/** Models `__skb_header_release`: the same for an skb that has no clone yet. */
export function skbHeaderReleaseFresh(skb: SkBuff): void {
  skb.flags |= SKB_NOHDR
  setDataref(skb, 1 + (1 << SKB_DATAREF_SHIFT))
}
