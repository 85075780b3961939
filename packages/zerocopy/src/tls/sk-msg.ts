/**
 * `struct sk_msg`: bytes of a record as pieces of pages, each with a reference and charged to the socket. A record
 * has two of them: its plain text, and the room that its ciphertext goes to.
 *
 * Conservation: *every byte of `size` is charged to the socket, every piece holds one reference on its page*.
 * Differs: the kernel's ring of pieces starts over at its end; only programs that cut messages make it do so, so
 * here pieces are `[0, end)`.
 */
import { type Addr, assert, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { copyFromIter, getPage, type IovIter, iovIterGetPages2, iovIterRevert, iterAddr, putPage } from '@netmem/memory'
import { PageFrag } from '@netmem/page-frag'
import { type Sock, skMemCharge, skMemUncharge, skWmemSchedule, sockPageFragRefill, type Task } from '@netmem/sockmem'

/** Models `MAX_MSG_FRAGS`. */
export const MAX_MSG_FRAGS = 17

/** Models `struct sk_msg` with its `struct sk_msg_sg`. */
export class SkMsg {
  readonly pfns = new Int32Array(MAX_MSG_FRAGS)
  readonly offsets = new Int32Array(MAX_MSG_FRAGS)
  readonly lens = new Int32Array(MAX_MSG_FRAGS)
  /** Pieces in use. */
  end = 0
  /** Bytes in all pieces. */
  size = 0
  /** The piece that copying goes on in, and how far it is. */
  curr = 0
  copybreak = 0
}

/** Models `sk_msg_init`. */
export function skMsgInit(msg: SkMsg): void {
  msg.end = 0
  msg.size = 0
  msg.curr = 0
  msg.copybreak = 0
}

/** Models `sk_msg_full`. */
export const skMsgFull = (msg: SkMsg): boolean => msg.end === MAX_MSG_FRAGS

/** Models `sk_msg_page_add`: takes a reference of its own. The bytes are the caller's to charge. */
export function skMsgPageAdd(sk: Sock, msg: SkMsg, pfn: Pfn, bytes: number, offset: number): void {
  getPage(sk.env.mem, pfn)
  append(msg, pfn, offset, bytes)
}

function append(msg: SkMsg, pfn: number, offset: number, bytes: number): void {
  const i = msg.end
  if (__ASSERT__) assert(i < MAX_MSG_FRAGS, 'sk_msg: a piece more than it has room for')
  msg.pfns[i] = pfn
  msg.offsets[i] = offset
  msg.lens[i] = bytes
  msg.end = i + 1
  msg.size += bytes
}

/**
 * Models `sk_msg_alloc` (net/core/skmsg.c): grows the message to `bytes`, from the page fragment that sends use.
 *
 * @returns 0; -ENOMEM (the message is then as before) without a page or room in the protocol's memory; -ENOSPC when
 *   there are too many pieces, with as much as they hold.
 */
export function skMsgAlloc(cpu: Cpu, task: Task, sk: Sock, msg: SkMsg, bytes: number, own: PageFrag): number {
  const pfrag = sk.useTaskFrag !== 0 ? task.taskFrag : loadSockFrag(sk, own)
  const before = msg.size
  let ret = 0
  for (let left = bytes - msg.size; left > 0; ) {
    if (!sockPageFragRefill(cpu, sk, pfrag)) {
      ret = -ERRNO.ENOMEM
      break
    }
    const use = Math.min(left, pfrag.size - pfrag.offset)
    if (!skWmemSchedule(cpu, sk, use)) {
      ret = -ERRNO.ENOMEM
      break
    }
    const last = msg.end - 1
    if (last >= 0 && msg.pfns[last] === pfrag.page && msg.offsets[last]! + msg.lens[last]! === pfrag.offset) {
      msg.lens[last]! += use
      msg.size += use
    } else {
      if (skMsgFull(msg)) {
        ret = -ERRNO.ENOSPC
        break
      }
      skMsgPageAdd(sk, msg, pfrag.page, use, pfrag.offset)
    }
    skMemCharge(sk, use)
    pfrag.offset += use
    left -= use
  }
  if (sk.useTaskFrag === 0) storeSockFrag(sk, pfrag)
  if (ret === -ERRNO.ENOMEM) skMsgTrim(cpu, sk, msg, before)
  return ret
}

/** Models `sk_page_frag` of sockets that may send in any context: they fill a page of their own. */
function loadSockFrag(sk: Sock, own: PageFrag): PageFrag {
  own.page = sk.fragPage as Pfn
  own.offset = sk.fragOffset
  own.size = sk.fragSize
  return own
}

function storeSockFrag(sk: Sock, own: PageFrag): void {
  sk.fragPage = own.page
  sk.fragOffset = own.offset
  sk.fragSize = own.size
}

/**
 * Models `sk_msg_clone` (net/core/skmsg.c): `dst` gets references to `len` bytes of `src` from `off` on, charged once more.
 *
 * @returns 0, or -ENOSPC when `dst` has no room for more pieces, or `src` not so many bytes.
 */
export function skMsgClone(sk: Sock, dst: SkMsg, src: SkMsg, off: number, len: number): number {
  let i = 0
  let skip = off
  while (skip > 0 && src.lens[i]! <= skip) {
    skip -= src.lens[i]!
    i += 1
    if (i === src.end && skip > 0) return -ERRNO.ENOSPC
  }
  for (let left = len; left > 0; ) {
    if (i === src.end) return -ERRNO.ENOSPC
    const bytes = Math.min(src.lens[i]! - skip, left)
    const from = src.offsets[i]! + skip
    const last = dst.end - 1
    if (last >= 0 && dst.pfns[last] === src.pfns[i] && dst.offsets[last]! + dst.lens[last]! === from) {
      dst.lens[last]! += bytes
      dst.size += bytes
    } else if (skMsgFull(dst)) return -ERRNO.ENOSPC
    else skMsgPageAdd(sk, dst, src.pfns[i]! as Pfn, bytes, from)
    skMemCharge(sk, bytes)
    skip = 0
    left -= bytes
    i += 1
  }
  return 0
}

/** Models `sk_msg_trim` (net/core/skmsg.c): cuts the message to `len` bytes; what is cut is uncharged. */
export function skMsgTrim(cpu: Cpu, sk: Sock, msg: SkMsg, len: number): void {
  let trim = msg.size - len
  if (trim <= 0) return
  while (trim > 0) {
    const last = msg.end - 1
    const bytes = msg.lens[last]!
    if (trim < bytes) {
      msg.lens[last] = bytes - trim
      skMemUncharge(cpu, sk, trim)
      if (msg.curr === last && msg.copybreak > bytes - trim) msg.copybreak = bytes - trim
      break
    }
    trim -= bytes
    skMemUncharge(cpu, sk, bytes)
    putPage(sk.env.mem, cpu, msg.pfns[last]! as Pfn, 'sk_msg_trim')
    msg.end = last
  }
  msg.size = len
  if (len === 0) {
    msg.curr = 0
    msg.copybreak = 0
  } else if (msg.curr >= msg.end) {
    msg.curr = msg.end - 1
    msg.copybreak = msg.lens[msg.curr]!
  }
}

/** Models `sk_msg_free`: everything back. @returns bytes that it held. */
export function skMsgFree(cpu: Cpu, sk: Sock, msg: SkMsg): number {
  return skMsgFreeFrom(cpu, sk, msg, 0)
}

/** Gives back the pieces from `first` on, when those before it are somebody else's by now. @returns their bytes. */
export function skMsgFreeFrom(cpu: Cpu, sk: Sock, msg: SkMsg, first: number): number {
  let freed = 0
  for (let i = first; i < msg.end; i += 1) {
    skMemUncharge(cpu, sk, msg.lens[i]!)
    putPage(sk.env.mem, cpu, msg.pfns[i]! as Pfn, 'sk_msg_free_elem')
    freed += msg.lens[i]!
  }
  skMsgInit(msg)
  return freed
}

/**
 * Models `sk_msg_zerocopy_from_iter` (net/core/skmsg.c): the user's own pages become pieces, without a copy.
 *
 * @returns 0, or -EFAULT when they are too many or not all there: the iterator is then as before, while the message
 *   keeps what it got; the caller trims it.
 */
export function skMsgZerocopyFromIter(sk: Sock, iter: IovIter, msg: SkMsg, bytes: number, pfns: Int32Array): number {
  const { mem, pageSize } = sk.env
  const before = msg.size
  for (let left = bytes; left > 0; ) {
    let offset = iterAddr(iter) & (pageSize - 1)
    const most = MAX_MSG_FRAGS - msg.end
    let got = most === 0 ? 0 : iovIterGetPages2(mem, iter, pfns, 0, left, most)
    if (got <= 0) {
      iovIterRevert(iter, msg.size - before)
      return -ERRNO.EFAULT
    }
    left -= got
    for (let i = 0; got > 0; i += 1) {
      const use = Math.min(got, pageSize - offset)
      append(msg, pfns[i]!, offset, use)
      skMemCharge(sk, use)
      offset = 0
      got -= use
    }
    msg.copybreak = 0
    msg.curr = msg.end
  }
  return 0
}

/** Models `sk_msg_memcopy_from_iter` (net/core/skmsg.c): copies into the pieces after what was copied before. @returns bytes of the last copy, or a negative errno. */
export function skMsgMemcopyFromIter(cpu: Cpu, sk: Sock, iter: IovIter, msg: SkMsg, bytes: number): number {
  let left = bytes
  let i = msg.curr
  let ret = -ERRNO.ENOSPC
  do {
    if (msg.copybreak >= msg.lens[i]!) {
      msg.copybreak = 0
      i += 1
      if (i === msg.end) break
    }
    const copy = Math.min(msg.lens[i]! - msg.copybreak, left)
    const to = ((msg.pfns[i]! << 12) + msg.offsets[i]! + msg.copybreak) | 0
    msg.copybreak += copy
    ret = copyFromIter(sk.env.mem, cpu, to as Addr, copy, iter)
    if (ret !== copy) {
      ret = -ERRNO.EFAULT
      break
    }
    left -= copy
    if (left === 0) break
    msg.copybreak = 0
    i += 1
  } while (i !== msg.end)
  msg.curr = i
  return ret
}

/** Copies the message's bytes from `skip` on out of memory. @returns bytes copied. */
export function skMsgRead(sk: Sock, msg: SkMsg, skip: number, out: Uint8Array): number {
  const { u8 } = sk.env.mem
  let from = skip
  let at = 0
  for (let i = 0; i < msg.end; i += 1) {
    const bytes = msg.lens[i]! - from
    if (bytes > 0) {
      const start = ((msg.pfns[i]! << 12) + msg.offsets[i]! + from) >>> 0
      out.set(u8.subarray(start, start + bytes), at)
      at += bytes
    }
    from = Math.max(0, from - msg.lens[i]!)
  }
  return at
}

/** Writes `bytes` of `data` into the message's memory, from its byte `skip` on. */
export function skMsgWrite(sk: Sock, msg: SkMsg, skip: number, data: Uint8Array, bytes: number): void {
  const { u8 } = sk.env.mem
  let from = skip
  let at = 0
  for (let i = 0; i < msg.end && at < bytes; i += 1) {
    const room = Math.min(msg.lens[i]! - from, bytes - at)
    if (room > 0) {
      u8.set(data.subarray(at, at + room), ((msg.pfns[i]! << 12) + msg.offsets[i]! + from) >>> 0)
      at += room
    }
    from = Math.max(0, from - msg.lens[i]!)
  }
  if (__ASSERT__) assert(at === bytes, 'sk_msg: ciphertext has no room')
}

/** Stands for a socket's own fragment while a call uses that; one per machine. */
export const newSockFrag = (): PageFrag => new PageFrag()
