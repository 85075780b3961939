/** Copies: of everything, or of the header with the pieces shared. What is copied decides what a copy costs. */
import { type Addr, type Cpu, ERRNO, type Gfp } from '@netmem/base'
import { allocSkb, NUMA_NO_NODE, SKB_ALLOC_FCLONE, SKB_ALLOC_RX } from './alloc.js'
import { skbCopyBits, traceCopy } from './bits.js'
import { skbClone } from './clone.js'
import { skbCloned } from './dataref.js'
import { pskbExpandHead, skbCloneFraglist, skbCopyUbufs, skbOrphanFrags } from './expand.js'
import { skbFragRef } from './frag-pages.js'
import { consumeSkb } from './free.js'
import { skbCopyHeader, skbHeadersOffsetUpdate } from './header-fields.js'
import { skbPut, skbReserve } from './linear.js'
import { skbLinearize } from './nonlinear.js'
import { kfreeSkb } from './release.js'
import {
  copyFrag,
  fragList,
  gsoType,
  nrFrags,
  SKBFL_SHARED_FRAG,
  setFragList,
  setNrFrags,
  setShinfoFlags,
  shinfoFlags,
} from './shared-info.js'
import { skbDataAlign } from './sizes.js'
import { type SkBuff, skbEndOffset, skbHeadlen, skbHeadroom, skbPfmemalloc, skbShared, skbTailroom } from './sk-buff.js'
import { skbZcopy, skbZcopySet } from './zerocopy.js'

/** Models `SKB_GSO_FRAGLIST`. */
const SKB_GSO_FRAGLIST = 1 << 18

const rxFlag = (skb: SkBuff): number => (skbPfmemalloc(skb) ? SKB_ALLOC_RX : 0)

/**
 * Models `skb_copy` (net/core/skbuff.c): a linear copy of everything, headroom included.
 *
 * @returns null without memory, or for fragments that the CPU cannot read.
 */
export function skbCopy(cpu: Cpu, skb: SkBuff, gfp: Gfp): SkBuff | null {
  const env = skb.env
  if (skb.unreadable || (gsoType(skb) & SKB_GSO_FRAGLIST) !== 0) return null
  const headroom = skbHeadroom(skb)
  const n = allocSkb(env, cpu, skbEndOffset(skb) + skb.dataLen, gfp, rxFlag(skb), NUMA_NO_NODE)
  if (n === null) return null
  skbReserve(n, headroom)
  skbPut(n, skb.len)
  skbCopyBits(skb, -headroom, n.head, headroom + skb.len)
  traceCopy(cpu, skb, 'skb_copy', headroom + skb.len)
  skbCopyHeader(n, skb)
  return n
}

/** Models `pskb_copy`: the linear part copied, the pieces shared. */
export const pskbCopy = (cpu: Cpu, skb: SkBuff, gfp: Gfp): SkBuff | null =>
  pskbCopyFclone(cpu, skb, skbHeadroom(skb), gfp, false)

/** Models `pskb_copy_for_clone`: the same with a head that is ready for its clone. */
export const pskbCopyForClone = (cpu: Cpu, skb: SkBuff, gfp: Gfp): SkBuff | null =>
  pskbCopyFclone(cpu, skb, skbHeadroom(skb), gfp, true)

/** Models `__pskb_copy_fclone` (net/core/skbuff.c). truesize is that of the new head plus the shared bytes. */
export function pskbCopyFclone(cpu: Cpu, skb: SkBuff, headroom: number, gfp: Gfp, fclone: boolean): SkBuff | null {
  const flags = rxFlag(skb) | (fclone ? SKB_ALLOC_FCLONE : 0)
  const n = allocSkb(skb.env, cpu, skbHeadlen(skb) + headroom, gfp, flags, NUMA_NO_NODE)
  if (n === null) return null
  const linear = skbHeadlen(skb)
  skbReserve(n, headroom)
  skbPut(n, linear)
  skb.env.u8.copyWithin(n.data >>> 0, skb.data >>> 0, (skb.data >>> 0) + linear)
  traceCopy(cpu, skb, '__pskb_copy_fclone', linear)
  n.truesize += skb.dataLen
  n.dataLen = skb.dataLen
  n.len = skb.len
  // Pages are shared page by page, so a page-pool page must be known as one to whoever frees it.
  n.ppRecycle = skb.ppRecycle
  const count = nrFrags(skb)
  if (count !== 0) {
    if (skbOrphanFrags(cpu, skb, gfp) !== 0 || skbZerocopyClone(cpu, n, skb, gfp) !== 0) {
      kfreeSkb(cpu, n, 'NOT_SPECIFIED', '__pskb_copy_fclone')
      return null
    }
    for (let i = 0; i < nrFrags(skb); i++) {
      copyFrag(n, i, skb, i)
      skbFragRef(skb, i)
    }
    setNrFrags(n, nrFrags(skb))
    setShinfoFlags(n, shinfoFlags(n) | (shinfoFlags(skb) & SKBFL_SHARED_FRAG))
  }
  if (fragList(skb) !== 0) {
    setFragList(n, fragList(skb))
    skbCloneFraglist(n)
  }
  skbCopyHeader(n, skb)
  return n
}

/** Models `skb_zerocopy_clone`: a copy that shares user fragments waits for the same owner. */
export function skbZerocopyClone(cpu: Cpu, n: SkBuff, orig: SkBuff, gfp: number): number {
  const ubuf = skbZcopy(orig)
  if (ubuf === 0) return 0
  const other = skbZcopy(n)
  if (other !== 0) {
    if (gfp === 0) return -ERRNO.ENOMEM
    if (other === ubuf) return 0
    if (skbCopyUbufs(cpu, n, n.env.gfpPull) !== 0) return -ERRNO.EIO
  }
  skbZcopySet(n, ubuf, false)
  return 0
}

/** Models `skb_copy_expand` (net/core/skbuff.c): a linear copy with other head- and tailroom. */
export function skbCopyExpand(
  cpu: Cpu,
  skb: SkBuff,
  newHeadroom: number,
  newTailroom: number,
  gfp: Gfp,
): SkBuff | null {
  if (skb.unreadable || (gsoType(skb) & SKB_GSO_FRAGLIST) !== 0) return null
  const oldHeadroom = skbHeadroom(skb)
  const n = allocSkb(skb.env, cpu, newHeadroom + skb.len + newTailroom, gfp, rxFlag(skb), NUMA_NO_NODE)
  if (n === null) return null
  skbReserve(n, newHeadroom)
  skbPut(n, skb.len)
  const kept = Math.min(newHeadroom, oldHeadroom)
  skbCopyBits(skb, -kept, ((n.head + newHeadroom - kept) | 0) as Addr, skb.len + kept)
  traceCopy(cpu, skb, 'skb_copy_expand', skb.len + kept)
  skbCopyHeader(n, skb)
  skbHeadersOffsetUpdate(n, newHeadroom - oldHeadroom)
  return n
}

/** Models `skb_realloc_headroom`: a copy (of the header, or by a clone) with at least this much headroom. */
export function skbReallocHeadroom(cpu: Cpu, skb: SkBuff, headroom: number): SkBuff | null {
  const env = skb.env
  const lack = headroom - skbHeadroom(skb)
  if (lack <= 0) return pskbCopy(cpu, skb, env.gfpPull)
  const n = skbClone(cpu, skb, env.gfpPull)
  if (n === null) return null
  if (pskbExpandHead(cpu, n, skbDataAlign(env.sizes, lack), 0, env.gfpPull) === 0) return n
  kfreeSkb(cpu, n, 'NOT_SPECIFIED', 'skb_realloc_headroom')
  return null
}

/** Models `skb_cow` and `skb_cow_head`: so much headroom, and (all, or only) the header not shared. @returns 0 or `-ENOMEM`. */
export function skbCow(cpu: Cpu, skb: SkBuff, headroom: number, sharedBefore = skbCloned(skb)): number {
  const lack = Math.max(0, headroom - skbHeadroom(skb))
  if (lack === 0 && !sharedBefore) return 0
  const pad = skb.env.sizes.netSkbPad
  return pskbExpandHead(cpu, skb, Math.ceil(lack / pad) * pad, 0, skb.env.gfpPull)
}

/** Models `skb_share_check`: an skb of one's own; takes the caller's reference either way. */
export function skbShareCheck(cpu: Cpu, skb: SkBuff, gfp: Gfp): SkBuff | null {
  if (!skbShared(skb)) return skb
  const n = skbClone(cpu, skb, gfp)
  if (n === null) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_share_check')
  else consumeSkb(cpu, skb, 'skb_share_check')
  return n
}

/** Models `skb_unshare`: data of one's own, by a copy; takes the caller's reference either way. */
export function skbUnshare(cpu: Cpu, skb: SkBuff, gfp: Gfp): SkBuff | null {
  if (!skbCloned(skb)) return skb
  const n = skbCopy(cpu, skb, gfp)
  if (n === null) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_unshare')
  else consumeSkb(cpu, skb, 'skb_unshare')
  return n
}

/** Models `__skb_pad`: zeroes behind the data, without changing `len`; frees the skb on failure if told so. */
export function skbPad(cpu: Cpu, skb: SkBuff, bytes: number, freeOnError: boolean): number {
  const zero = (): 0 => {
    const at = (skb.data + skb.len) >>> 0
    skb.env.u8.fill(0, at, at + bytes)
    return 0
  }
  if (!skbCloned(skb) && skbTailroom(skb) >= bytes) return zero()
  const lack = skb.dataLen + bytes - ((skb.end - skb.tail) | 0)
  let err = 0
  if (skbCloned(skb) || lack > 0) err = pskbExpandHead(cpu, skb, 0, lack, skb.env.gfpPull)
  if (err === 0) err = skbLinearize(cpu, skb)
  if (err === 0) return zero()
  if (freeOnError) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', '__skb_pad')
  return err
}

/** Models `skb_put_padto` and `__skb_put_padto`: at least `len` bytes, zeroes added. @returns 0 or `-ENOMEM`. */
export function skbPutPadto(cpu: Cpu, skb: SkBuff, len: number, freeOnError = true): number {
  if (skb.len >= len) return 0
  const add = len - skb.len
  const err = skbPad(cpu, skb, add, freeOnError)
  if (err === 0) skbPut(skb, add)
  return err
}
