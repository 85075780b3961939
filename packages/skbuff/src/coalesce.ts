/** Joining two packets into one, and taking the remains apart. */
import { assert, type Cpu, type Pfn } from '@netmem/base'
import { kmemCacheFreeObj } from '@netmem/memory'
import { skbCopyBits, traceCopy } from './bits.js'
import { skbCloned } from './dataref.js'
import { skbFragRef } from './frag-pages.js'
import { skbPut } from './linear.js'
import { kfreeSkbUnchecked, skbReleaseHeadState } from './release.js'
import { copyFrag, fragList, nrFrags, setFrag, setNrFrags } from './shared-info.js'
import { skbTruesize } from './sizes.js'
import { SKB_HEAD_FRAG, type SkBuff, skbEndOffset, skbHeadlen, skbTailroom } from './sk-buff.js'
import { skbZcopy } from './zerocopy.js'

/** What `skbTryCoalesce` reports; the caller owns one and reuses it. */
export class CoalesceResult {
  /** The head block of the other skb is a fragment now: free it with `kfreeSkbPartial`. */
  fragstolen = false
  /** Bytes that `to.truesize` grew by; the caller charges them. */
  deltaTruesize = 0
}

/** Models `skb_head_is_locked`: the head block cannot become a fragment. */
export const skbHeadIsLocked = (skb: SkBuff): boolean => (skb.flags & SKB_HEAD_FRAG) === 0 || skbCloned(skb)

/**
 * Models `skb_try_coalesce` (net/core/skbuff.c): appends the bytes of `from` to `to`, by copy when they fit the
 * tailroom (which costs nothing), else by moving its pieces.
 *
 * @returns false with nothing changed. After true the caller frees `from` with `kfreeSkbPartial`.
 */
export function skbTryCoalesce(cpu: Cpu, to: SkBuff, from: SkBuff, out: CoalesceResult): boolean {
  const env = to.env
  out.fragstolen = false
  if (skbCloned(to) || to.ppRecycle !== from.ppRecycle || to.unreadable !== from.unreadable) return false
  // Older kernels cannot take a second reference on a page-pool fragment.
  if (from.ppRecycle && !env.profile.features.pagePoolNapiDirect && skbCloned(from)) return false
  const len = from.len
  if (len <= skbTailroom(to) && !from.unreadable) {
    if (len > 0) {
      skbCopyBits(from, 0, skbPut(to, len), len)
      traceCopy(cpu, to, 'skb_try_coalesce', len)
    }
    out.deltaTruesize = 0
    return true
  }
  if (fragList(to) !== 0 || fragList(from) !== 0) return false
  if (skbZcopy(to) !== 0 || skbZcopy(from) !== 0) return false
  const have = nrFrags(to)
  const add = nrFrags(from)
  const linear = skbHeadlen(from)
  let delta: number
  let at = have
  if (linear !== 0) {
    if (have + add >= env.sizes.maxFrags || skbHeadIsLocked(from)) return false
    delta = from.truesize - env.sizes.headBytes
    const page = env.pageHead[from.head >>> 12]! as Pfn
    setFrag(to, at++, page, (from.data - (page << 12)) | 0, linear)
    out.fragstolen = true
  } else {
    if (have + add > env.sizes.maxFrags) return false
    delta = from.truesize - skbTruesize(env.sizes, skbEndOffset(from))
  }
  if (delta < len) env.trace.warn?.('skb_try_coalesce', `delta ${delta} < len ${len}`)
  const shared = skbCloned(from)
  for (let i = 0; i < add; i++) {
    copyFrag(to, at++, from, i)
    // A clone keeps its pieces, so each is held once more; else they move.
    if (shared) skbFragRef(from, i)
  }
  setNrFrags(to, at)
  if (!shared) setNrFrags(from, 0)
  to.truesize += delta
  to.len += len
  to.dataLen += len
  out.deltaTruesize = delta
  return true
}

/**
 * Models `kfree_skb_partial` (net/core/skbuff.c): frees what coalescing left. With its head stolen only the
 * descriptor remains. @param location the caller, for the head's free event.
 */
export function kfreeSkbPartial(cpu: Cpu, skb: SkBuff, headStolen: boolean, location: string): void {
  if (!headStolen) {
    kfreeSkbUnchecked(cpu, skb, location)
    return
  }
  if (__ASSERT__) assert(skb.fclone === 0, 'kfree_skb_partial: half of a pair cannot be stolen from')
  skbReleaseHeadState(cpu, skb)
  if (__ASSERT__) skb.users = 0
  kmemCacheFreeObj(skb.env.skbuffCache, cpu, skb.obj, location)
}
