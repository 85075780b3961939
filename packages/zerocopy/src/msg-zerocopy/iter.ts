/** The user's pages become a packet's fragments, and who sends them is charged whole pages. */
import { type Cpu, ERRNO } from '@netmem/base'
import { iovIterRevert } from '@netmem/memory'
import {
  pskbTrim,
  type SkBuff,
  skbZcopy,
  skbZcopyPure,
  skbZcopySet,
  ubufIndex,
  ubufKind,
  zerocopyFillSkbFromIter,
} from '@netmem/skbuff'
import { type Msg, SOCK_STREAM, type Sock, skMemCharge, skWmemQueuedAdd } from '@netmem/sockmem'
import type { MsgZerocopy } from './ubuf.js'

/**
 * Models `__zerocopy_sg_from_iter` (net/core/datagram.c). What was added before an error stays, charged.
 *
 * @param sk for a stream: who is charged (a datagram's packet names its own owner).
 * @returns 0, -EMSGSIZE when the slots ran out, -EFAULT.
 */
function zerocopySgFromIter(zc: MsgZerocopy, sk: Sock, skb: SkBuff, msg: Msg, bytes: number): number {
  const before = skb.truesize
  const err = zerocopyFillSkbFromIter(skb, msg.iter, bytes, zc.pages)
  const truesize = skb.truesize - before
  if (sk.type === SOCK_STREAM) {
    skWmemQueuedAdd(sk, truesize)
    // A packet of nothing but user pages is not charged for them: the user has paid for those already.
    if (!skbZcopyPure(skb)) skMemCharge(sk, truesize)
  } else sk.wmemAlloc += truesize
  return Math.min(err, 0)
}

/**
 * Models `skb_zerocopy_iter_stream` (net/core/skbuff.c).
 *
 * @returns bytes appended, fewer than asked when slots ran out; -EEXIST: the packet answers to somebody else, so a
 *   new one is needed; -EMSGSIZE: it has no slot at all; -EFAULT. After an error it is as before.
 */
export function skbZerocopyIterStream(
  zc: MsgZerocopy,
  cpu: Cpu,
  sk: Sock,
  skb: SkBuff,
  msg: Msg,
  bytes: number,
  ubuf: number,
): number {
  const before = skb.len
  const ops = skb.env.ubufOps[ubufKind(ubuf)]!
  if (ops.linkSkb !== undefined) {
    const err = ops.linkSkb(skb, ubufIndex(ubuf))
    if (err !== 0) return err
  } else if (skbZcopy(skb) !== 0 && skbZcopy(skb) !== ubuf) return -ERRNO.EEXIST
  if (zc.hazards !== null) zc.hazards.pinned(zc, sk, ubuf, msg.iter, bytes)
  const err = zerocopySgFromIter(zc, sk, skb, msg, bytes)
  if (err === -ERRNO.EFAULT || (err === -ERRNO.EMSGSIZE && skb.len === before)) {
    iovIterRevert(msg.iter, skb.len - before)
    // While it names an owner its truesize, which is charged, stays as it is.
    const owner = skb.sk
    skb.sk = sk.id
    pskbTrim(cpu, skb, before)
    skb.sk = owner
    return err
  }
  skbZcopySet(skb, ubuf, false)
  return skb.len - before
}

/** Models `skb_zerocopy_iter_dgram` (include/linux/skbuff.h). @returns 0 or a negative errno. */
export function skbZerocopyIterDgram(zc: MsgZerocopy, sk: Sock, skb: SkBuff, msg: Msg, bytes: number): number {
  if (zc.hazards !== null) zc.hazards.pinned(zc, sk, skbZcopy(skb), msg.iter, bytes)
  return zerocopySgFromIter(zc, sk, skb, msg, bytes)
}
