/**
 * Sending over kTLS with the CPU's own cryptography: bytes gather in the open record until it is full or the
 * caller says that no more come; then it is encrypted into pages of its own, and those go to TCP.
 */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { type IovIter, ITER_KVEC, iovIterAdvance, iovIterCount, iovIterSingleSegCount, iterAddr } from '@netmem/memory'
import {
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_MORE,
  MSG_NO_SHARED_FRAGS,
  MSG_NOSIGNAL,
  MSG_SENDPAGE_NOTLAST,
  MSG_SPLICE_PAGES,
  type Msg,
  SOCKF_NOSPACE,
  type Sock,
  skMemCharge,
  skStreamError,
  skStreamMemoryFree,
  skStreamWaitMemory,
  type Task,
} from '@netmem/sockmem'
import {
  type SkMsg,
  skMsgAlloc,
  skMsgClone,
  skMsgFree,
  skMsgFull,
  skMsgMemcopyFromIter,
  skMsgPageAdd,
  skMsgRead,
  skMsgTrim,
  skMsgWrite,
  skMsgZerocopyFromIter,
} from './sk-msg.js'
import { TLS_1_3_VERSION } from './tls-ciphers.js'
import { type TlsContext, type TlsRec, type TlsSwContextTx, tlsGetCtx } from './tls-context.js'
import {
  TLS_MAX_PAYLOAD_SIZE,
  TLS_RECORD_TYPE_DATA,
  tlsAdvanceRecordSn,
  tlsFillPrepend,
  tlsMakeAad,
  tlsMakeNonce,
} from './tls-framing.js'
import { tlsErrAbort, tlsFreeOpenRec, tlsGetRec, tlsRunTxWorkNow, tlsTxRecords } from './tls-push.js'
import { tlsProcessCmsg } from './tls-record-type.js'

/** Models `MSG_SENDPAGE_NOPOLICY` and `MSG_CMSG_COMPAT`. */
const MSG_SENDPAGE_NOPOLICY = 0x10000
const MSG_CMSG_COMPAT = 0x80000000 | 0
const SEND_FLAGS = MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CMSG_COMPAT
const SEND_FLAGS_EOR = SEND_FLAGS | MSG_SPLICE_PAGES | MSG_EOR | MSG_SENDPAGE_NOPOLICY
const SENDPAGE_FLAGS =
  MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_SENDPAGE_NOTLAST | MSG_SENDPAGE_NOPOLICY | MSG_NO_SHARED_FRAGS

// Closing a record.

/** Models `tls_do_encryption` (net/tls/tls_sw.c): encrypts the open record and lists it for TCP. */
function tlsDoEncryption(cpu: Cpu, ctx: TlsContext, tx: TlsSwContextTx, rec: TlsRec): void {
  const { env, prot, sk } = ctx
  const text = env.staging
  let bytes = skMsgRead(sk, rec.plaintext, 0, text)
  const tls13 = prot.version === TLS_1_3_VERSION
  if (tls13) {
    text[bytes] = rec.contentType
    bytes += prot.tailSize
  }
  const aad = tlsMakeAad(tls13 ? env.aad13 : env.aad12, prot, bytes, ctx.tx.recSeq, rec.contentType)
  const nonce = tlsMakeNonce(env.nonce, prot, ctx.tx, null)
  tx.aead!.seal(nonce, aad, text, bytes)
  skMsgWrite(sk, rec.encrypted, prot.prependSize, text, bytes + prot.tagSize)
  tlsFillPrepend(env.header, 0, prot, ctx.tx, bytes, rec.contentType)
  skMsgWrite(sk, rec.encrypted, 0, env.header, prot.prependSize)
  tx.txList.push(rec)
  rec.txReady = true
  tx.openRec = null
  if (tlsAdvanceRecordSn(prot, ctx.tx)) tlsErrAbort(cpu, sk, -ERRNO.EBADMSG)
}

/**
 * Models `tls_push_record`: closes the open record and sends it. @returns 0 or a negative errno.
 *
 * Differs: a record is never cut in two, which only programs on messages and records with more pieces than
 * `MAX_MSG_FRAGS` ask for.
 */
function tlsPushRecord(cpu: Cpu, task: Task, ctx: TlsContext, flags: number, recordType: number): number {
  const tx = ctx.swTx as TlsSwContextTx
  const rec = tx.openRec
  if (rec === null) return 0
  rec.txFlags = flags
  rec.contentType = recordType
  ctx.pendingOpenRecordFrags = false
  // What was asked for and not used, when a send was cut short.
  skMsgTrim(cpu, ctx.sk, rec.encrypted, rec.plaintext.size + ctx.prot.overheadSize)
  tlsDoEncryption(cpu, ctx, tx, rec)
  return tlsTxRecords(cpu, task, ctx.sk, flags)
}

/** Models `bpf_exec_tx_verdict` without programs. Bytes of a record that failed are in `env.freedByFailure`. */
export function tlsExecTxVerdict(
  cpu: Cpu,
  task: Task,
  ctx: TlsContext,
  msg: SkMsg,
  recordType: number,
  flags: number,
): number {
  const { env, sk } = ctx
  env.freedByFailure = 0
  const err = tlsPushRecord(cpu, task, ctx, flags, recordType)
  if (err === 0 || sk.err !== ERRNO.EBADMSG) return err
  env.freedByFailure = skMsgFree(cpu, sk, msg)
  tlsFreeOpenRec(cpu, env, sk, ctx.swTx as TlsSwContextTx)
  return -sk.err
}

/** Models `tls_sw_push_pending_record`: a record of another type is to come. */
export function tlsSwPushPendingRecord(cpu: Cpu, task: Task, ctx: TlsContext, flags: number): number {
  const rec = (ctx.swTx as TlsSwContextTx).openRec
  if (rec === null || rec.plaintext.size === 0) return 0
  return tlsExecTxVerdict(cpu, task, ctx, rec.plaintext, TLS_RECORD_TYPE_DATA, flags)
}

/** Models `tls_trim_both_msgs`. */
function tlsTrimBothMsgs(cpu: Cpu, ctx: TlsContext, rec: TlsRec, size: number): void {
  skMsgTrim(cpu, ctx.sk, rec.plaintext, size)
  skMsgTrim(cpu, ctx.sk, rec.encrypted, size > 0 ? size + ctx.prot.overheadSize : 0)
}

// The calls.

/** Models `tls_sw_sendmsg` (net/tls/tls_sw.c). @returns bytes taken, or a negative errno. */
export function tlsSwSendmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg): number {
  const ctx = tlsGetCtx(sk)
  const { env } = ctx
  if ((msg.flags & ~(env.features.tlsSendEor ? SEND_FLAGS_EOR : SEND_FLAGS)) !== 0) return -ERRNO.ENOTSUP
  env.transport.lockSock(sk)
  const ret = tlsSwSendmsgLocked(cpu, task, sk, msg)
  env.transport.releaseSock(cpu, sk)
  return ret
}

/** Models `tls_sw_sendmsg_locked`. */
function tlsSwSendmsgLocked(cpu: Cpu, task: Task, sk: Sock, msg: Msg): number {
  const ctx = tlsGetCtx(sk)
  const { env } = ctx
  const tx = ctx.swTx as TlsSwContextTx
  const { iter, flags } = msg
  const eor = (flags & MSG_MORE) === 0
  if (!eor && (flags & MSG_EOR) !== 0) return -ERRNO.EINVAL
  let recordType = TLS_RECORD_TYPE_DATA
  if (msg.control !== null) {
    const type = tlsProcessCmsg(cpu, task, ctx, msg)
    if (type < 0 && type !== -ERRNO.EAGAIN) return skStreamError(sk, type)
    // When what was open could not leave whole, the type is not looked at.
    if (type >= 0) recordType = type
  }
  let copied = 0
  let ret = 0
  while (iovIterCount(iter) > 0) {
    if (sk.err !== 0) {
      ret = -sk.err
      break
    }
    const rec = tx.openRec ?? tlsGetRec(cpu, env, sk)
    tx.openRec = rec
    if (rec === null) {
      ret = -ERRNO.ENOMEM
      break
    }
    const pl = rec.plaintext
    const origSize = pl.size
    const room = TLS_MAX_PAYLOAD_SIZE - origSize
    let full = iovIterCount(iter) >= room
    let tryToCopy = full ? room : iovIterCount(iter)
    const required = origSize + tryToCopy + ctx.prot.overheadSize
    if (!skStreamMemoryFree(sk)) {
      sk.flags |= SOCKF_NOSPACE
      ret = giveUp(cpu, ctx, rec, origSize)
      break
    }
    ret = skMsgAlloc(cpu, task, sk, rec.encrypted, required, env.sockFrag)
    if (ret !== 0) {
      if (ret !== -ERRNO.ENOSPC) {
        ret = giveUp(cpu, ctx, rec, origSize)
        break
      }
      tryToCopy -= required - rec.encrypted.size
      full = true
      ret = 0
    }
    if (tryToCopy > 0 && (flags & MSG_SPLICE_PAGES) !== 0) {
      const spliced = tlsSwSendmsgSplice(sk, iter, pl, tryToCopy)
      if (spliced < 0) {
        ret = spliced
        break
      }
      copied += spliced
      ctx.pendingOpenRecordFrags = true
      if (!full && !eor && !skMsgFull(pl)) continue
    } else if (iter.kind !== ITER_KVEC && (full || eor) && takeUserPages(cpu, sk, iter, pl, tryToCopy, env.pages)) {
      copied += tryToCopy
    } else {
      const taken = copyIn(cpu, ctx, rec, iter, tryToCopy)
      if (taken < 0) {
        if (taken === -ERRNO.EFAULT) tlsTrimBothMsgs(cpu, ctx, rec, origSize)
        ret = taken
        break
      }
      if (taken < tryToCopy) full = true
      ctx.pendingOpenRecordFrags = true
      copied += taken
      if (!full && !eor) continue
    }
    ret = tlsExecTxVerdict(cpu, task, ctx, pl, recordType, flags)
    copied -= env.freedByFailure
    if (ret !== 0 && ret !== -ERRNO.EAGAIN) break
    tlsRunTxWorkNow(cpu, task, ctx, flags)
  }
  ret = skStreamError(sk, ret)
  return copied > 0 ? copied : ret
}

/** No room, in the send buffer or in memory: what this round added goes again. */
function giveUp(cpu: Cpu, ctx: TlsContext, rec: TlsRec, origSize: number): number {
  const err = skStreamWaitMemory(ctx.sk)
  tlsTrimBothMsgs(cpu, ctx, rec, origSize)
  return err
}

/** A record that is closed at once needs no copy of its text. @returns false when the pages cannot be had. */
function takeUserPages(cpu: Cpu, sk: Sock, iter: IovIter, pl: SkMsg, bytes: number, pages: Int32Array): boolean {
  const before = pl.size
  if (skMsgZerocopyFromIter(sk, iter, pl, bytes, pages) === 0) return true
  skMsgTrim(cpu, sk, pl, before)
  return false
}

/** The text of an open record lies where its ciphertext will: models `tls_clone_plaintext_msg` and the copy. @returns bytes, or a negative errno. */
function copyIn(cpu: Cpu, ctx: TlsContext, rec: TlsRec, iter: IovIter, bytes: number): number {
  const { sk, prot } = ctx
  const pl = rec.plaintext
  const before = pl.size
  const ret = skMsgClone(sk, pl, rec.encrypted, prot.prependSize + before, bytes)
  const room = pl.size - before
  if (ret !== 0) skMsgTrim(cpu, sk, rec.encrypted, pl.size + prot.overheadSize)
  if (room === 0) return 0
  const copied = skMsgMemcopyFromIter(cpu, sk, iter, pl, room)
  return copied < 0 ? copied : room
}

/** Models `tls_sw_sendmsg_splice`: pages that somebody lends become the record's text. @returns bytes, or -EIO. */
function tlsSwSendmsgSplice(sk: Sock, iter: IovIter, pl: SkMsg, bytes: number): number {
  const { pageSize } = sk.env
  let left = bytes
  while (left > 0 && !skMsgFull(pl)) {
    const at = iterAddr(iter) & (pageSize - 1)
    const use = Math.min(left, iovIterSingleSegCount(iter), pageSize - at)
    if (use <= 0) return left === bytes ? -ERRNO.EIO : bytes - left
    skMsgPageAdd(sk, pl, (iterAddr(iter) >>> 12) as Pfn, use, at)
    skMemCharge(sk, use)
    iovIterAdvance(iter, use)
    left -= use
  }
  return bytes - left
}

/** Models `tls_sw_sendpage` (before 6.5): part of a page is lent to the open record. @returns bytes, or a negative errno. */
export function tlsSwSendpage(
  cpu: Cpu,
  task: Task,
  sk: Sock,
  page: Pfn,
  offset: number,
  bytes: number,
  flags: number,
): number {
  if ((flags & ~SENDPAGE_FLAGS) !== 0) return -ERRNO.ENOTSUP
  const { transport } = tlsGetCtx(sk).env
  transport.lockSock(sk)
  const ret = tlsSwDoSendpage(cpu, task, sk, page, offset, bytes, flags)
  transport.releaseSock(cpu, sk)
  return ret
}

/**
 * Models `tls_sw_do_sendpage`. Differs: without room for more pieces of ciphertext it waits for memory; the kernel
 * takes a length less than nothing then.
 */
function tlsSwDoSendpage(
  cpu: Cpu,
  task: Task,
  sk: Sock,
  page: Pfn,
  offset: number,
  bytes: number,
  flags: number,
): number {
  const ctx = tlsGetCtx(sk)
  const { env } = ctx
  const tx = ctx.swTx as TlsSwContextTx
  const eor = (flags & MSG_SENDPAGE_NOTLAST) === 0
  let copied = 0
  let ret = 0
  while (copied < bytes) {
    if (sk.err !== 0) {
      ret = -sk.err
      break
    }
    const rec = tx.openRec ?? tlsGetRec(cpu, env, sk)
    tx.openRec = rec
    if (rec === null) {
      ret = -ERRNO.ENOMEM
      break
    }
    const pl = rec.plaintext
    const room = TLS_MAX_PAYLOAD_SIZE - pl.size
    const full = bytes - copied >= room
    const copy = full ? room : bytes - copied
    const required = pl.size + copy + ctx.prot.overheadSize
    const free = skStreamMemoryFree(sk)
    if (!free || skMsgAlloc(cpu, task, sk, rec.encrypted, required, env.sockFrag) !== 0) {
      if (!free) sk.flags |= SOCKF_NOSPACE
      ret = giveUp(cpu, ctx, rec, pl.size)
      break
    }
    skMsgPageAdd(sk, pl, page, copy, offset + copied)
    pl.copybreak = 0
    pl.curr = pl.end
    skMemCharge(sk, copy)
    copied += copy
    ctx.pendingOpenRecordFrags = true
    if (!full && !eor && !skMsgFull(pl)) continue
    ret = tlsExecTxVerdict(cpu, task, ctx, pl, TLS_RECORD_TYPE_DATA, flags)
    copied -= env.freedByFailure
    if (ret !== 0 && ret !== -ERRNO.EAGAIN) break
  }
  ret = skStreamError(sk, ret)
  return copied > 0 ? copied : ret
}

/** Models `tls_sw_splice_eof`: a splice that promised more ended; what is open goes. */
export function tlsSwSpliceEof(cpu: Cpu, task: Task, sk: Sock): void {
  const ctx = tlsGetCtx(sk)
  const tx = ctx.swTx as TlsSwContextTx
  if (tx.openRec === null) return
  const { transport } = ctx.env
  transport.lockSock(sk)
  tlsSwPushPendingRecord(cpu, task, ctx, 0)
  transport.releaseSock(cpu, sk)
}
