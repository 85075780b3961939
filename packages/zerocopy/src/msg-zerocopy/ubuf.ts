/**
 * Notifications of MSG_ZEROCOPY: one for one or several sends whose pages packets still use. It is an skb from the
 * start, charged to option memory, so that nothing can fail when the last packet lets go; until then what it will
 * say is kept in its control block:
 *
 *     cb0 references: the send under way, and every shared info that names it     cb1 id of the first send
 *     cb2 sends | 1 << 16 while no byte was copied     cb3 bytes     cb4, cb5 pinned pages (`mmpin.ts`)
 *
 * Conservation: *made = waiting + on error queues + joined to the one before + given up*.
 */
import { assert, type Cpu, type Gfp } from '@netmem/base'
import {
  consumeSkb,
  kfreeSkb,
  netZcopyGet,
  netZcopyPut,
  registerUbufOps,
  SKBFL_DONT_ORPHAN,
  SKBFL_ZEROCOPY_FRAG,
  type SkBuff,
  skbPeekTail,
  skbQueueTail,
  type UbufOps,
  ubufIndex,
  ubufKind,
  ubufOf,
} from '@netmem/skbuff'
import {
  SO_EE_ORIGIN_ZEROCOPY,
  SOCK_STREAM,
  SOCKF_DEAD,
  type Sock,
  type SockEnv,
  setSkbExtErr,
  skbExtErrOrigin,
  sockHold,
  sockOmalloc,
  sockPut,
  type Task,
} from '@netmem/sockmem'
import type { ZerocopyHazards } from './hazard.js'
import { mmAccountPinnedPages, mmpinInit, mmUnaccountPinnedPages } from './mmpin.js'

/** `ee_code` when the bytes were copied after all (include/uapi/linux/errqueue.h). */
export const SO_EE_CODE_ZEROCOPY_COPIED = 1
/** Sends longer than this in all get a notification each. Bytes. */
const BYTE_LIMIT = 1 << 19
const LEN_MASK = 0xffff
const ZEROCOPY = 1 << 16
const LEN_MAX = 0xfffe

/** The notifications of one machine. Models `msg_zerocopy_ubuf_ops`; state is only what proofs need. */
export class MsgZerocopy implements UbufOps {
  readonly flags = SKBFL_ZEROCOPY_FRAG | SKBFL_DONT_ORPHAN
  /** This owner among the kinds of ubuf. */
  readonly kind: number
  /** Room for the frame numbers of one packet. */
  readonly pages: Int32Array
  /** Watches pinned pages for writes; null: nobody looks. */
  hazards: ZerocopyHazards | null = null
  // Notifications so far: made, put on an error queue, joined to the one before, given up unread.
  made = 0
  queued = 0
  joined = 0
  dropped = 0

  constructor(readonly socks: SockEnv) {
    this.pages = new Int32Array(socks.skbs.sizes.maxFrags)
    this.kind = registerUbufOps(socks.skbs, this)
  }

  get(index: number): void {
    this.skbOf(index).cb0 += 1
  }

  /** Models `msg_zerocopy_complete` (net/core/skbuff.c): one shared info, or the send, lets go. */
  complete(cpu: Cpu, skb: SkBuff | null, index: number, success: boolean): void {
    const note = this.skbOf(index)
    if (!success) {
      note.cb2 &= ~ZEROCOPY
      if (this.hazards !== null) this.hazards.copied(note, skb)
    }
    note.cb0 -= 1
    if (__ASSERT__) assert(note.cb0 >= 0, 'a zero-copy notification is let go once too often')
    if (note.cb0 === 0) msgZerocopyCallback(this, cpu, note)
  }

  skbOf(index: number): SkBuff {
    const skb = this.socks.skbs.skbs[index]
    if (__ASSERT__) assert(skb !== null && skb.users > 0, 'a zero-copy notification that is gone')
    return skb
  }
}

/** Sends that a notification stands for (`uarg->len`). */
export const ubufLen = (note: SkBuff): number => note.cb2 & LEN_MASK
/** Id of its first send (`uarg->id`), unsigned. */
export const ubufId = (note: SkBuff): number => note.cb1 >>> 0

/**
 * Models `msg_zerocopy_alloc` (net/core/skbuff.c). @param bytes of the send.
 *
 * @returns the ubuf with one reference, the caller's; 0 when option memory or pinned pages are at their limit, or
 *   there is no memory: nothing has changed then.
 */
function msgZerocopyAlloc(zc: MsgZerocopy, cpu: Cpu, task: Task, sk: Sock, bytes: number): number {
  const { socks } = zc
  const note = sockOmalloc(cpu, sk, 0, socks.mem.gfp.GFP_KERNEL as Gfp)
  if (note === null) return 0
  mmpinInit(note)
  if (mmAccountPinnedPages(socks, task, note, bytes) !== 0) {
    kfreeSkb(cpu, note, 'NOT_SPECIFIED', 'msg_zerocopy_realloc')
    return 0
  }
  note.cb0 = 1
  note.cb1 = sk.zckey
  note.cb2 = 1 | ZEROCOPY
  note.cb3 = bytes
  sk.zckey = (sk.zckey + 1) | 0
  sockHold(sk)
  zc.made += 1
  return ubufOf(zc.kind, note.id)
}

/**
 * Models `msg_zerocopy_realloc` (net/core/skbuff.c): a notification for a send, the last packet's if that may take
 * it along. The socket must be owned for that.
 *
 * @param ubuf of the packet that the send will append to, 0 none.
 * @returns the ubuf, for a stream with a reference of the caller's; 0: ENOBUFS.
 */
export function msgZerocopyRealloc(
  zc: MsgZerocopy,
  cpu: Cpu,
  task: Task,
  sk: Sock,
  bytes: number,
  ubuf: number,
): number {
  if (ubuf === 0) return msgZerocopyAlloc(zc, cpu, task, sk, bytes)
  // The packet's pages may be somebody else's.
  if (ubufKind(ubuf) !== zc.kind) return 0
  if (sk.owned === 0) {
    sk.env.trace.warn?.('msg_zerocopy_realloc', 'the socket is not owned')
    return 0
  }
  const note = zc.skbOf(ubufIndex(ubuf))
  const stream = sk.type === SOCK_STREAM
  const total = note.cb3 + bytes
  const count = ubufLen(note)
  if (count === LEN_MAX || total > BYTE_LIMIT) return stream ? msgZerocopyAlloc(zc, cpu, task, sk, bytes) : 0
  if (((note.cb1 + count) | 0) !== sk.zckey) return msgZerocopyAlloc(zc, cpu, task, sk, bytes)
  if (mmAccountPinnedPages(zc.socks, task, note, bytes) !== 0) return 0
  note.cb2 += 1
  note.cb3 = total
  sk.zckey = (sk.zckey + 1) | 0
  // A datagram under construction has its reference already.
  if (stream) netZcopyGet(sk.env.skbs, ubuf)
  return ubuf
}

/** Nothing of this send goes by reference: models `uarg_to_msgzc(uarg)->zerocopy = 0`. */
export function msgZerocopyCopied(zc: MsgZerocopy, ubuf: number): void {
  zc.skbOf(ubufIndex(ubuf)).cb2 &= ~ZEROCOPY
}

/** Models `__msg_zerocopy_callback` (net/core/skbuff.c): the last holder is gone, the user is told. Takes the notification. */
function msgZerocopyCallback(zc: MsgZerocopy, cpu: Cpu, note: SkBuff): void {
  const { socks } = zc
  const sk = socks.sockOf(note)
  mmUnaccountPinnedPages(socks, cpu, note)
  if (zc.hazards !== null) zc.hazards.completed(note, sk)
  const count = ubufLen(note)
  // No sends left: there was one, and it failed.
  if (count === 0 || (sk.flags & SOCKF_DEAD) !== 0) {
    zc.dropped += 1
    release(cpu, note, sk)
    return
  }
  const lo = note.cb1
  const code = (note.cb2 & ZEROCOPY) !== 0 ? 0 : SO_EE_CODE_ZEROCOPY_COPIED
  setSkbExtErr(note, 0, SO_EE_ORIGIN_ZEROCOPY, 0, code, lo, (lo + count - 1) | 0)
  const tail = skbPeekTail(sk.errorQueue)
  if (tail !== null && skbExtErrOrigin(tail) === SO_EE_ORIGIN_ZEROCOPY && notifyExtend(tail, lo, count)) {
    zc.joined += 1
    sk.errorReport(cpu, sk)
    release(cpu, note, sk)
    return
  }
  zc.queued += 1
  skbQueueTail(sk.errorQueue, note)
  sk.errorReport(cpu, sk)
  sockPut(cpu, sk)
}

function release(cpu: Cpu, note: SkBuff, sk: Sock): void {
  consumeSkb(cpu, note, '__msg_zerocopy_callback')
  sockPut(cpu, sk)
}

/** Models `skb_zerocopy_notify_extend`: sends that follow the last ones told of join them. Whether they were copied does not matter. */
function notifyExtend(tail: SkBuff, lo: number, count: number): boolean {
  const oldLo = tail.cb6
  const oldHi = tail.cb7
  if (((oldHi - oldLo) >>> 0) + 1 + count >= 2 ** 32) return false
  if (lo !== ((oldHi + 1) | 0)) return false
  tail.cb7 = (oldHi + count) | 0
  return true
}

/** Models `msg_zerocopy_put_abort` (net/core/skbuff.c): the send failed, its id goes to the next. @param haveUref the caller holds a reference. */
function msgZerocopyPutAbort(zc: MsgZerocopy, cpu: Cpu, ubuf: number, haveUref: boolean): void {
  const note = zc.skbOf(ubufIndex(ubuf))
  const sk = zc.socks.sockOf(note)
  sk.zckey = (sk.zckey - 1) | 0
  note.cb2 -= 1
  if (haveUref) zc.complete(cpu, null, ubufIndex(ubuf), true)
}

/** Models `net_zcopy_put_abort` (include/linux/skbuff.h). */
export function netZcopyPutAbort(zc: MsgZerocopy, cpu: Cpu, ubuf: number, haveUref: boolean): void {
  if (ubuf === 0) return
  if (ubufKind(ubuf) === zc.kind) msgZerocopyPutAbort(zc, cpu, ubuf, haveUref)
  else if (haveUref) netZcopyPut(zc.socks.skbs, cpu, ubuf)
}
