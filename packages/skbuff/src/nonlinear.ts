/** Moving the border between the linear part and the pieces behind it, and cutting pieces off. */
import { type Addr, assert, bug, type Cpu, ERRNO, NULL } from '@netmem/base'
import { skbCopyBits } from './bits.js'
import { csumBlockSub, skbChecksum } from './checksum.js'
import { skbClone } from './clone.js'
import { skbCloned } from './dataref.js'
import { pskbExpandHead, skbTruesizeIsFree } from './expand.js'
import { skbFragUnref } from './frag-pages.js'
import { consumeSkb } from './free.js'
import { skbPullUnchecked, skbSetTailPointer } from './linear.js'
import { kfreeSkb, kfreeSkbList } from './release.js'
import {
  copyFrag,
  fragLen,
  fragList,
  fragOff,
  gsoType,
  nrFrags,
  setFragLen,
  setFragList,
  setFragOff,
  setGsoType,
  setNrFrags,
  skbIsGso,
} from './shared-info.js'
import { skbTruesize } from './sizes.js'
import {
  CHECKSUM_COMPLETE,
  CHECKSUM_PARTIAL,
  type SkBuff,
  skbEndOffset,
  skbHeadlen,
  skbHeadroom,
  skbShared,
} from './sk-buff.js'
import { skbZcopyClear } from './zerocopy.js'

/** Models `SKB_GSO_DODGY`: the segmentation fields come from somebody untrusted. */
const SKB_GSO_DODGY = 1 << 1

// Linear only.

/** Models `skb_trim` (net/core/skbuff.c): cuts a linear skb to `len`; a shorter one stays as it is. */
export function skbTrim(skb: SkBuff, len: number): void {
  if (skb.len <= len) return
  if (skb.dataLen !== 0) bug('__skb_trim: nonlinear')
  skb.len = len
  skbSetTailPointer(skb, len)
}

// May be nonlinear.

/**
 * Models `pskb_may_pull`: at least `len` bytes are linear afterwards. Pointers into the head may change.
 *
 * @returns false when the skb is shorter or there is no memory.
 */
export function pskbMayPull(cpu: Cpu, skb: SkBuff, len: number): boolean {
  if (len <= skbHeadlen(skb)) return true
  if (len > skb.len) return false
  return pskbPullTail(cpu, skb, len - skbHeadlen(skb)) !== NULL
}

/** Models `pskb_pull`: as `skb_pull`, making the bytes linear first. @returns the new data, or `NULL`. */
export const pskbPull = (cpu: Cpu, skb: SkBuff, len: number): Addr =>
  pskbMayPull(cpu, skb, len) ? skbPullUnchecked(skb, len) : NULL

/**
 * Models `__pskb_pull_tail` (net/core/skbuff.c): moves `delta` bytes from the pieces to the tail of the linear
 * part. The skb must not be shared. truesize does not change.
 *
 * @returns the new tail, or `NULL` with the skb unchanged but for its head block.
 */
export function pskbPullTail(cpu: Cpu, skb: SkBuff, delta: number): Addr {
  const env = skb.env
  if (skb.unreadable) return NULL
  const lack = (skb.tail + delta - skb.end) | 0
  if (lack > 0 || skbCloned(skb)) {
    // 128 more than needed: who pulls once pulls again.
    if (pskbExpandHead(cpu, skb, 0, lack > 0 ? lack + 128 : 0, env.gfpPull) !== 0) return NULL
  }
  if (skbCopyBits(skb, skbHeadlen(skb), skb.tail, delta) !== 0) bug('__pskb_pull_tail: more bytes than there are')
  if (env.trace.copy !== null) env.trace.copy(cpu, '__pskb_pull_tail', delta)
  if (fragList(skb) !== 0) {
    let inPages = 0
    for (let i = nrFrags(skb) - 1; i >= 0; i--) inPages += fragLen(skb, i)
    if (delta > inPages && !eatFragList(cpu, skb, delta - inPages)) return NULL
  }
  eatFrags(cpu, skb, delta)
  skb.tail = ((skb.tail + delta) | 0) as Addr
  skb.dataLen -= delta
  if (skb.dataLen === 0) skbZcopyClear(cpu, skb, false)
  return skb.tail
}

/** Models `skb_linearize` and `__skb_linearize`: everything becomes linear. @returns 0 or `-ENOMEM`. */
export const skbLinearize = (cpu: Cpu, skb: SkBuff): number =>
  skb.dataLen === 0 || pskbPullTail(cpu, skb, skb.dataLen) !== NULL ? 0 : -ERRNO.ENOMEM

/** Models `skb_linearize_cow`: linear and not shared with clones. */
export const skbLinearizeCow = (cpu: Cpu, skb: SkBuff): number =>
  skb.dataLen !== 0 || skbCloned(skb) ? (pskbPullTail(cpu, skb, skb.dataLen) !== NULL ? 0 : -ERRNO.ENOMEM) : 0

/** Models `pskb_trim` (include/linux/skbuff.h): cuts to `len` bytes. @returns 0 or `-ENOMEM`. */
export function pskbTrim(cpu: Cpu, skb: SkBuff, len: number): number {
  if (len >= skb.len) return 0
  if (skb.dataLen !== 0) return pskbTrimSlow(cpu, skb, len)
  skb.len = len
  skbSetTailPointer(skb, len)
  return 0
}

/** Models `pskb_trim_rcsum`: as above, keeping a hardware checksum true. @returns 0, `-ENOMEM` or `-EINVAL`. */
export function pskbTrimRcsum(cpu: Cpu, skb: SkBuff, len: number): number {
  if (len >= skb.len) return 0
  if (skb.ipSummed === CHECKSUM_COMPLETE) {
    skb.csum = csumBlockSub(skb.csum, skbChecksum(skb, len, skb.len - len, 0), len)
  } else if (skb.ipSummed === CHECKSUM_PARTIAL) {
    const linear = Math.min(len, skbHeadlen(skb))
    if (skb.csumStart - skbHeadroom(skb) + skb.csumOffset + 2 > linear) return -ERRNO.EINVAL
  }
  return pskbTrim(cpu, skb, len)
}

/**
 * Models `skb_condense` (net/core/skbuff.c): before an skb waits for long, pulls in pieces that fit the
 * linear part and forgets what truesize still counts for them. The caller must read truesize anew.
 */
export function skbCondense(cpu: Cpu, skb: SkBuff): void {
  if (skb.dataLen !== 0) {
    if (skb.dataLen > ((skb.end - skb.tail) | 0) || skbCloned(skb) || skb.unreadable) return
    pskbPullTail(cpu, skb, skb.dataLen)
  }
  skb.truesize = skbTruesize(skb.env.sizes, skbEndOffset(skb))
}

// Cold path.

/** Models `___pskb_trim`. */
function pskbTrimSlow(cpu: Cpu, skb: SkBuff, len: number): number {
  const env = skb.env
  if (skbCloned(skb)) {
    const err = pskbExpandHead(cpu, skb, 0, 0, env.gfpPull)
    if (err !== 0) return err
  }
  const head = skbHeadlen(skb)
  const count = nrFrags(skb)
  let offset = head
  let kept = 0
  let reached = offset >= len
  while (!reached && kept < count) {
    const end = offset + fragLen(skb, kept)
    if (end >= len) {
      setFragLen(skb, kept, len - offset)
      reached = true
    } else offset = end
    kept++
  }
  if (reached) {
    setNrFrags(skb, kept)
    for (let i = kept; i < count; i++) skbFragUnref(cpu, skb, i, '___pskb_trim')
    const list = fragList(skb)
    if (list !== 0) {
      setFragList(skb, 0)
      kfreeSkbList(cpu, env, list, '___pskb_trim')
    }
  } else {
    const err = trimFragList(cpu, skb, len, offset)
    if (err !== 0) return err
  }
  if (len > head) {
    skb.dataLen -= skb.len - len
    skb.len = len
  } else {
    skb.len = len
    skb.dataLen = 0
    skbSetTailPointer(skb, len)
  }
  if (nrFrags(skb) === 0 && fragList(skb) === 0) skb.unreadable = false
  if (skbTruesizeIsFree(skb)) skbCondense(cpu, skb)
  return 0
}

function trimFragList(cpu: Cpu, skb: SkBuff, len: number, start: number): number {
  const env = skb.env
  let offset = start
  let prev: SkBuff | null = null
  for (let id = fragList(skb); id !== 0; ) {
    let frag = env.skbs[id]!
    if (skbShared(frag)) {
      const own = skbClone(cpu, frag, env.gfpPull)
      if (own === null) return -ERRNO.ENOMEM
      own.next = frag.next
      consumeSkb(cpu, frag, '___pskb_trim')
      frag = own
      if (prev === null) setFragList(skb, own.id)
      else prev.next = own.id
    }
    const end = offset + frag.len
    if (end >= len) {
      if (end > len) {
        const err = pskbTrim(cpu, frag, len - offset)
        if (err !== 0) return err
      }
      const rest = frag.next
      frag.next = 0
      if (rest !== 0) kfreeSkbList(cpu, env, rest, '___pskb_trim')
      return 0
    }
    offset = end
    prev = frag
    id = frag.next
  }
  return 0
}

/** Takes `delta` bytes off the front of the page fragments, and the slots that became empty. */
function eatFrags(cpu: Cpu, skb: SkBuff, delta: number): void {
  const count = nrFrags(skb)
  let eat = delta
  let kept = 0
  for (let i = 0; i < count; i++) {
    const size = fragLen(skb, i)
    if (size <= eat) {
      skbFragUnref(cpu, skb, i, '__pskb_pull_tail')
      eat -= size
      continue
    }
    copyFrag(skb, kept, skb, i)
    if (eat > 0) {
      setFragOff(skb, kept, fragOff(skb, kept) + eat)
      setFragLen(skb, kept, size - eat)
      eat = 0
    }
    kept++
  }
  setNrFrags(skb, kept)
}

/** Takes bytes off the front of the fragment list. @returns false, with nothing eaten, when there is no memory. */
function eatFragList(cpu: Cpu, skb: SkBuff, bytes: number): boolean {
  const env = skb.env
  let eat = bytes
  let clone: SkBuff | null = null
  let stop = 0
  for (let id = fragList(skb); eat > 0; ) {
    const list: SkBuff = env.skbs[id]!
    if (list.len <= eat) {
      eat -= list.len
      id = list.next
      stop = id
      continue
    }
    if (skbIsGso(skb) && !list.headFrag && skbHeadlen(list) !== 0) setGsoType(skb, gsoType(skb) | SKB_GSO_DODGY)
    let own: SkBuff = list
    stop = id
    if (skbShared(list)) {
      clone = skbClone(cpu, list, env.gfpPull)
      if (clone === null) return false
      stop = list.next
      own = clone
    }
    if (pskbPull(cpu, own, eat) === NULL) {
      if (clone !== null) kfreeSkb(cpu, clone, 'NOT_SPECIFIED', '__pskb_pull_tail')
      return false
    }
    eat = 0
  }
  for (let id = fragList(skb); id !== stop; id = fragList(skb)) {
    const list = env.skbs[id]!
    setFragList(skb, list.next)
    consumeSkb(cpu, list, '__pskb_pull_tail')
  }
  if (clone !== null) {
    clone.next = stop
    setFragList(skb, clone.id)
  }
  if (__ASSERT__) assert(eat === 0, '__pskb_pull_tail: the list was too short')
  return true
}
