/** Cutting a packet in two and moving bytes between two: what a sender does with its queue. */
import { assert, type Cpu } from '@netmem/base'
import { skbZerocopyClone } from './copy.js'
import { skbUncloneKeeptruesize } from './expand.js'
import { skbFragRef, skbFragUnref } from './frag-pages.js'
import { skbPut, skbSetTailPointer } from './linear.js'
import {
  copyFrag,
  fragLen,
  fragOff,
  fragPfn,
  nrFrags,
  SKBFL_PURE_ZEROCOPY,
  SKBFL_SHARED_FRAG,
  setFragLen,
  setFragOff,
  setNrFrags,
  setShinfoFlags,
  shinfoFlags,
  skbCanCoalesce,
} from './shared-info.js'
import { CHECKSUM_PARTIAL, type SkBuff, skbHeadlen } from './sk-buff.js'
import { skbZcopy, skbZcopyDowngradeManaged } from './zerocopy.js'

/**
 * Models `skb_split` (net/core/skbuff.c): `skb` keeps its first `len` bytes, the empty `skb1` gets the rest.
 * truesize is the caller's business.
 */
export function skbSplit(cpu: Cpu, skb: SkBuff, skb1: SkBuff, len: number): void {
  const head = skbHeadlen(skb)
  skbZcopyDowngradeManaged(skb)
  setShinfoFlags(skb1, shinfoFlags(skb1) | (shinfoFlags(skb) & (SKBFL_SHARED_FRAG | SKBFL_PURE_ZEROCOPY)))
  skbZerocopyClone(cpu, skb1, skb, 0)
  if (len < head) splitInsideHeader(skb, skb1, len, head)
  else splitNoHeader(skb, skb1, len, head)
}

/** Models `skb_split_inside_header`: all fragments go. */
function splitInsideHeader(skb: SkBuff, skb1: SkBuff, len: number, head: number): void {
  const from = (skb.data + len) >>> 0
  skb.env.u8.copyWithin(skbPut(skb1, head - len) >>> 0, from, from + head - len)
  const count = nrFrags(skb)
  for (let i = 0; i < count; i++) copyFrag(skb1, i, skb, i)
  setNrFrags(skb1, count)
  setNrFrags(skb, 0)
  skb1.unreadable = skb.unreadable
  skb1.ppRecycle = skb.ppRecycle
  skb1.dataLen = skb.dataLen
  skb1.len += skb1.dataLen
  skb.dataLen = 0
  skb.len = len
  skbSetTailPointer(skb, len)
}

/** Models `skb_split_no_header`: the fragment that the cut goes through is held by both. */
function splitNoHeader(skb: SkBuff, skb1: SkBuff, len: number, head: number): void {
  const count = nrFrags(skb)
  let pos = head
  let kept = 0
  let moved = 0
  skb1.dataLen = skb.len - len
  skb1.len = skb1.dataLen
  skb1.ppRecycle = skb.ppRecycle
  skb.len = len
  skb.dataLen = len - head
  for (let i = 0; i < count; i++) {
    const size = fragLen(skb, i)
    if (pos + size > len) {
      copyFrag(skb1, moved, skb, i)
      if (pos < len) {
        skbFragRef(skb, i)
        setFragOff(skb1, 0, fragOff(skb1, 0) + len - pos)
        setFragLen(skb1, 0, size - (len - pos))
        setFragLen(skb, i, len - pos)
        kept++
      }
      moved++
    } else kept++
    pos += size
  }
  setNrFrags(skb, kept)
  setNrFrags(skb1, moved)
  skb1.unreadable = skb.unreadable
}

/**
 * Models `skb_shift` (net/core/skbuff.c): moves `bytes` from the front of `skb` to the end of `tgt`, all or
 * nothing. Both are queued, paged and charged; truesize moves byte for byte.
 *
 * @returns `bytes`, or 0 with nothing changed.
 */
export function skbShift(cpu: Cpu, tgt: SkBuff, skb: SkBuff, bytes: number): number {
  assert(bytes <= skb.len, 'skb_shift: more than there is')
  if (skbHeadlen(skb) !== 0 || skbZcopy(tgt) !== 0 || skbZcopy(skb) !== 0) return 0
  const maxFrags = skb.env.sizes.maxFrags
  let todo = bytes
  let from = 0
  let to = nrFrags(tgt)
  let merge = -1
  const prepare = (): boolean =>
    skbUncloneKeeptruesize(cpu, skb, skb.env.gfpPull) === 0 && skbUncloneKeeptruesize(cpu, tgt, skb.env.gfpPull) === 0
  if (to > 0 && skbCanCoalesce(tgt, to, fragPfn(skb, 0), fragOff(skb, 0))) {
    merge = to - 1
    todo -= fragLen(skb, 0)
    if (todo < 0) {
      if (!prepare()) return 0
      setFragLen(tgt, merge, fragLen(tgt, merge) + bytes)
      setFragLen(skb, 0, fragLen(skb, 0) - bytes)
      setFragOff(skb, 0, fragOff(skb, 0) + bytes)
      return shifted(tgt, skb, bytes)
    }
    from++
  }
  if (bytes === skb.len && nrFrags(skb) - from > maxFrags - to) return 0
  if (!prepare()) return 0
  while (todo > 0 && from < nrFrags(skb)) {
    if (to === maxFrags) return 0
    copyFrag(tgt, to, skb, from)
    const size = fragLen(skb, from)
    if (todo >= size) {
      todo -= size
      from++
      to++
      continue
    }
    skbFragRef(skb, from)
    setFragLen(tgt, to, todo)
    setFragOff(skb, from, fragOff(skb, from) + todo)
    setFragLen(skb, from, size - todo)
    todo = 0
    to++
  }
  setNrFrags(tgt, to)
  if (merge >= 0) {
    setFragLen(tgt, merge, fragLen(tgt, merge) + fragLen(skb, 0))
    skbFragUnref(cpu, skb, 0, 'skb_shift')
  }
  let kept = 0
  for (const count = nrFrags(skb); from < count; from++) copyFrag(skb, kept++, skb, from)
  setNrFrags(skb, kept)
  return shifted(tgt, skb, bytes)
}

function shifted(tgt: SkBuff, skb: SkBuff, bytes: number): number {
  tgt.ipSummed = CHECKSUM_PARTIAL
  skb.ipSummed = CHECKSUM_PARTIAL
  skb.len -= bytes
  skb.dataLen -= bytes
  skb.truesize -= bytes
  tgt.len += bytes
  tgt.dataLen += bytes
  tgt.truesize += bytes
  return bytes
}
