/**
 * Receiving over kTLS: what was decrypted before, then record after record while they are of one type and wanted.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { ITER_KVEC } from '@netmem/memory'
import {
  consumeSkb,
  type SkBuff,
  skbCopyDatagramIter,
  skbDequeue,
  skbPeek,
  skbPeekNext,
  skbQueueEmpty,
  skbQueueHead,
  skbQueueTail,
  skbUnlink,
} from '@netmem/skbuff'
import {
  MSG_EOR,
  MSG_ERRQUEUE,
  MSG_PEEK,
  MSG_WAITALL,
  type Msg,
  RCV_SHUTDOWN,
  type SkbSplicer,
  SOCKF_DONE,
  type Sock,
  skFlushBacklog,
  sockError,
  sockFlag,
  type Task,
} from '@netmem/sockmem'
import { type TlsContext, type TlsRecvState, type TlsSwContextRx, tlsGetCtx } from './tls-context.js'
import { TLS_MAX_PAYLOAD_SIZE, TLS_RECORD_TYPE_DATA } from './tls-framing.js'
import { tlsErrAbort } from './tls-push.js'
import { tlsRecordContentType } from './tls-record-type.js'
import {
  setStrpMsg,
  strpFullLen,
  strpOffset,
  tlsControl,
  tlsStrpCheckRcv,
  tlsStrpGiveBack,
  tlsStrpMsgDone,
  tlsStrpMsgLoad,
} from './tls-strp.js'
import { tlsRxOneRecord } from './tls-sw-decrypt.js'

/** Bytes read between two looks at what arrived meanwhile. */
const FLUSH_BYTES = 128 << 10

/** Models `sock_rcvlowat`. */
function readTarget(sk: Sock, waitAll: boolean, len: number): number {
  const target = waitAll ? len : Math.min(sk.rcvlowat, len)
  return target === 0 ? 1 : target
}

/** Models `tls_sw_recvmsg` (net/tls/tls_sw.c). @returns bytes, 0 at the end of the stream, or a negative errno. */
export function tlsSwRecvmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg, len: number, flags: number): number {
  const ctx = tlsGetCtx(sk)
  if ((flags & MSG_ERRQUEUE) !== 0) return ctx.baseOps.recvmsg(cpu, task, sk, msg, len, flags)
  const { transport } = ctx.env
  transport.lockSock(sk)
  const ret = tlsSwRecvmsgLocked(cpu, ctx, msg, len, flags)
  tlsStrpGiveBack(ctx)
  transport.releaseSock(cpu, sk)
  return ret
}

function tlsSwRecvmsgLocked(cpu: Cpu, ctx: TlsContext, msg: Msg, len: number, flags: number): number {
  const { sk, prot } = ctx
  const rx = ctx.swRx as TlsSwContextRx
  const peek = (flags & MSG_PEEK) !== 0
  const state = rx.recv.reset()
  const { darg } = state
  let copied = processRxList(cpu, rx, msg, state, len, peek)
  if (copied < 0) return copied
  if (len <= copied || state.more || (state.control !== 0 && state.control !== TLS_RECORD_TYPE_DATA)) return copied
  const target = readTarget(sk, (flags & MSG_WAITALL) !== 0, len)
  const zcCapable = msg.iter.kind !== ITER_KVEC && !peek && rx.zcCapable
  let left = len - copied
  let released = true
  let err = 0
  while (left > 0 && (copied < target || rx.strp.msgReady)) {
    err = tlsRxRecWait(cpu, ctx, released)
    if (err <= 0) break
    err = 0
    const anchor = rx.strp.anchor as SkBuff
    const toDecrypt = strpFullLen(anchor) - prot.overheadSize
    darg.zc = zcCapable && toDecrypt <= left && tlsControl(anchor) === TLS_RECORD_TYPE_DATA
    err = tlsRxOneRecord(cpu, sk, msg, darg)
    if (err < 0) {
      tlsErrAbort(cpu, sk, -ERRNO.EBADMSG)
      break
    }
    const skb = darg.skb as SkBuff
    const type = tlsRecordContentType(msg, tlsControl(skb), state.control)
    if (type <= 0) {
      err = type
      tlsStrpMsgDone(cpu, ctx)
      skbQueueTail(rx.rxList, skb)
      break
    }
    state.control = type
    released = tlsReadFlushBacklog(cpu, ctx, left, toDecrypt, copied, state)
    const whole = strpFullLen(skb)
    let chunk = whole
    tlsStrpMsgDone(cpu, ctx)
    if (!darg.zc) {
      chunk = Math.min(whole, left)
      err = skbCopyDatagramIter(cpu, skb, strpOffset(skb), msg.iter, chunk)
      if (err < 0) {
        skbQueueTail(rx.rxList, skb)
        break
      }
      if (peek || chunk < whole) {
        if (!peek) setStrpMsg(skb, strpOffset(skb) + chunk, whole - chunk)
        skbQueueTail(rx.rxList, skb)
        copied += chunk
        left -= chunk
        if (state.control !== TLS_RECORD_TYPE_DATA) break
        continue
      }
      consumeSkb(cpu, skb, 'tls_sw_recvmsg')
    }
    copied += chunk
    left -= chunk
    // Control messages are given one at a time, whole.
    msg.msgFlags |= MSG_EOR
    if (state.control !== TLS_RECORD_TYPE_DATA) break
  }
  return copied !== 0 ? copied : err
}

/**
 * Models `tls_rx_rec_wait` for a reader that does not wait.
 *
 * @returns 1 with a record in the anchor, 0 at the end of the stream, or a negative errno.
 */
function tlsRxRecWait(cpu: Cpu, ctx: TlsContext, released: boolean): number {
  const { sk, env } = ctx
  const rx = ctx.swRx as TlsSwContextRx
  if (rx.keyUpdatePending) return -ERRNO.EKEYEXPIRED
  let refresh = released
  do {
    if (!rx.strp.msgReady) {
      if (sk.err !== 0) return sockError(sk)
      if (!skbQueueEmpty(sk.receiveQueue)) tlsStrpCheckRcv(cpu, ctx)
      if (!rx.strp.msgReady) {
        if ((sk.shutdown & RCV_SHUTDOWN) !== 0 || sockFlag(sk, SOCKF_DONE)) return 0
        return -ERRNO.EAGAIN
      }
    }
    if (tlsStrpMsgLoad(ctx, refresh)) return 1
    refresh = true
  } while (env.features.tlsMsgCanVanish)
  return -ERRNO.EAGAIN
}

/** Models `tls_read_flush_backlog`. @returns whether anything came in. */
function tlsReadFlushBacklog(
  cpu: Cpu,
  ctx: TlsContext,
  left: number,
  decrypted: number,
  done: number,
  state: TlsRecvState,
): boolean {
  const { sk, prot } = ctx
  if (left <= decrypted) return false
  const maxRecord = prot.overheadSize - prot.tailSize + TLS_MAX_PAYLOAD_SIZE
  if (done - state.flushedAt < FLUSH_BYTES && ctx.env.transport.inq(sk) > maxRecord) return false
  state.flushedAt = done
  return skFlushBacklog(cpu, sk)
}

/** Models `process_rx_list`: what was decrypted before. @returns bytes, or a negative errno when there were none. */
function processRxList(
  cpu: Cpu,
  rx: TlsSwContextRx,
  msg: Msg,
  state: TlsRecvState,
  len: number,
  peek: boolean,
): number {
  let skb = skbPeek(rx.rxList)
  let left = len
  while (left > 0 && skb !== null) {
    const whole = strpFullLen(skb)
    const chunk = Math.min(whole, left)
    const type = tlsRecordContentType(msg, tlsControl(skb), state.control)
    let err = Math.min(type, 0)
    if (type > 0) {
      state.control = type
      err = skbCopyDatagramIter(cpu, skb, strpOffset(skb), msg.iter, chunk)
    }
    if (type <= 0 || err < 0) {
      state.more = true
      return left < len ? len - left : err
    }
    left -= chunk
    if (!peek) {
      setStrpMsg(skb, strpOffset(skb) + chunk, whole - chunk)
      if (chunk < whole) break
    }
    msg.msgFlags |= MSG_EOR
    const next = skbPeekNext(rx.rxList, skb)
    if (!peek) {
      skbUnlink(rx.rxList, skb)
      consumeSkb(cpu, skb, 'process_rx_list')
    }
    skb = next
  }
  return len - left
}

/** Models `tls_sw_splice_read`: at most one record's data, as pages. @returns bytes, 0 at the end, or a negative errno. */
export function tlsSwSpliceRead(cpu: Cpu, task: Task, sk: Sock, splicer: SkbSplicer, len: number): number {
  const ctx = tlsGetCtx(sk)
  const { transport } = ctx.env
  transport.lockSock(sk)
  const ret = spliceReadLocked(cpu, task, ctx, splicer, len)
  tlsStrpGiveBack(ctx)
  transport.releaseSock(cpu, sk)
  return ret
}

function spliceReadLocked(cpu: Cpu, task: Task, ctx: TlsContext, splicer: SkbSplicer, len: number): number {
  const { sk } = ctx
  const rx = ctx.swRx as TlsSwContextRx
  let skb = skbDequeue(rx.rxList)
  if (skb === null) {
    const err = tlsRxRecWait(cpu, ctx, true)
    if (err <= 0) return err
    const { darg } = rx.recv
    darg.zc = false
    const failed = tlsRxOneRecord(cpu, sk, null, darg)
    if (failed < 0) {
      tlsErrAbort(cpu, sk, -ERRNO.EBADMSG)
      return failed
    }
    tlsStrpMsgDone(cpu, ctx)
    skb = darg.skb as SkBuff
  }
  if (tlsControl(skb) !== TLS_RECORD_TYPE_DATA) {
    skbQueueHead(rx.rxList, skb)
    return -ERRNO.EINVAL
  }
  const whole = strpFullLen(skb)
  const chunk = Math.min(whole, len)
  const copied = splicer.skbSpliceBits(cpu, task, sk, skb, strpOffset(skb), chunk)
  if (copied < 0 || copied < whole) {
    if (copied > 0) setStrpMsg(skb, strpOffset(skb) + copied, whole - copied)
    skbQueueHead(rx.rxList, skb)
  } else consumeSkb(cpu, skb, 'tls_sw_splice_read')
  return copied
}

/** Models `tls_sw_sock_is_readable`. */
export function tlsSwSockIsReadable(sk: Sock): boolean {
  const rx = tlsGetCtx(sk).swRx as TlsSwContextRx
  return rx.strp.msgReady || !skbQueueEmpty(rx.rxList)
}
