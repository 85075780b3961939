/**
 * Sending through a card that encrypts: text is copied into page fragments behind a header, or with the read-only
 * promise lent from the page cache, and closed with room for the tag.
 */
import { type Addr, type Cpu, ERRNO, type Gfp, NULL, type Pfn } from '@netmem/base'
import {
  copyFromIter,
  type IovIter,
  iovIterAdvance,
  iovIterBvec,
  iovIterCount,
  iovIterSingleSegCount,
  iterAddr,
  kmalloc,
} from '@netmem/memory'
import { type PageFrag, skbPageFragRefill } from '@netmem/page-frag'
import {
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_SENDPAGE_DECRYPTED,
  MSG_SENDPAGE_NOTLAST,
  MSG_SPLICE_PAGES,
  type Msg,
  type Sock,
  skEnterMemoryPressure,
  skMemCharge,
  skStreamModerateSndbuf,
  skStreamWaitMemory,
  sockPageFragRefill,
  type Task,
} from '@netmem/sockmem'
import { MAX_MSG_FRAGS, skMsgInit, skMsgPageAdd, skMsgWrite } from './sk-msg.js'
import { type TlsContext, tlsGetCtx } from './tls-context.js'
import { type TlsDeviceContextTx, TlsRecordInfo } from './tls-device-context.js'
import { TLS_MAX_PAYLOAD_SIZE, TLS_RECORD_TYPE_DATA, tlsAdvanceRecordSn, tlsFillPrepend } from './tls-framing.js'
import { tlsErrAbort, tlsIsPartiallySentRecord, tlsPushPartialRecord, tlsPushSg } from './tls-push.js'
import { tlsProcessCmsg } from './tls-record-type.js'

const FLAGS = MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_SENDPAGE_NOTLAST
const FLAGS_EOR = FLAGS | MSG_SPLICE_PAGES | MSG_EOR
/** Models `struct tls_record_info`, as `tls-device.ts` has it. */
const RECORD_INFO_BYTES = 320

/** Models `tls_device_sendmsg` (net/tls/tls_device.c). @returns bytes taken, or a negative errno. */
export function tlsDeviceSendmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg): number {
  const ctx = tlsGetCtx(sk)
  const { transport } = ctx.env
  transport.lockSock(sk)
  let type = TLS_RECORD_TYPE_DATA
  if (msg.control !== null) type = tlsProcessCmsg(cpu, task, ctx, msg)
  // Without the promise that nobody writes to them, pages are copied.
  const flags = ctx.zerocopySendfile ? msg.flags : msg.flags & ~MSG_SPLICE_PAGES
  const ret = type < 0 ? type : tlsPushData(cpu, task, ctx, msg.iter, flags, type)
  transport.releaseSock(cpu, sk)
  return ret
}

/** Models `tls_device_sendpage` (before 6.5). */
export function tlsDeviceSendpage(
  cpu: Cpu,
  task: Task,
  sk: Sock,
  page: Pfn,
  offset: number,
  bytes: number,
  flags: number,
): number {
  const ctx = tlsGetCtx(sk)
  const { transport, bvecPfn, bvecOffset, bvecLen, pageIter } = ctx.env
  bvecPfn[0] = page
  bvecOffset[0] = offset
  bvecLen[0] = bytes
  iovIterBvec(pageIter, bvecPfn, bvecOffset, bvecLen, 1)
  // "Not the last" holds the record open as MSG_MORE does.
  const more = (flags & MSG_SENDPAGE_NOTLAST) !== 0 ? flags | MSG_MORE : flags
  transport.lockSock(sk)
  const how = ctx.zerocopySendfile ? more | MSG_SPLICE_PAGES : more
  const ret = tlsPushData(cpu, task, ctx, pageIter, how, TLS_RECORD_TYPE_DATA)
  transport.releaseSock(cpu, sk)
  return ret
}

/** Models `tls_device_splice_eof`: a splice that promised more ended. */
export function tlsDeviceSpliceEof(cpu: Cpu, task: Task, sk: Sock): void {
  const ctx = tlsGetCtx(sk)
  if (!ctx.pendingOpenRecordFrags) return
  const { transport } = ctx.env
  transport.lockSock(sk)
  tlsDevicePushPendingRecord(cpu, task, ctx, 0)
  transport.releaseSock(cpu, sk)
}

/** Models `tls_device_push_pending_record`: what is open goes, as data. */
export function tlsDevicePushPendingRecord(cpu: Cpu, task: Task, ctx: TlsContext, flags: number): number {
  const { pageIter, bvecPfn, bvecOffset, bvecLen } = ctx.env
  iovIterBvec(pageIter, bvecPfn, bvecOffset, bvecLen, 0)
  return tlsPushData(cpu, task, ctx, pageIter, flags & ~MSG_SPLICE_PAGES, TLS_RECORD_TYPE_DATA)
}

/** Models `tls_device_write_space`: TCP has room for the rest of a record. */
export function tlsDeviceWriteSpace(cpu: Cpu, ctx: TlsContext): void {
  if (ctx.sk.owned !== 0 || !tlsIsPartiallySentRecord(ctx)) return
  const { sk, env } = ctx
  const kept = sk.allocation
  sk.allocation = env.socks.mem.gfp.GFP_ATOMIC
  tlsPushPartialRecord(cpu, env.kworker, ctx, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_SENDPAGE_DECRYPTED)
  sk.allocation = kept
}

/** Models `tls_push_data`. @returns bytes taken, or a negative errno. */
function tlsPushData(cpu: Cpu, task: Task, ctx: TlsContext, iter: IovIter, flags: number, type: number): number {
  const { sk, env, prot } = ctx
  const device = ctx.device as TlsDeviceContextTx
  if ((flags & ~(env.features.tlsSendEor ? FLAGS_EOR : FLAGS | MSG_SPLICE_PAGES)) !== 0) return -ERRNO.ENOTSUP
  const more = (flags & MSG_MORE) !== 0
  if (more && (flags & MSG_EOR) !== 0) return -ERRNO.EINVAL
  if (sk.err !== 0) return -sk.err
  const lend = (flags & MSG_SPLICE_PAGES) !== 0
  const pushFlags = (flags & ~MSG_SPLICE_PAGES) | MSG_SENDPAGE_DECRYPTED
  if (tlsIsPartiallySentRecord(ctx)) {
    const rc = tlsPushPartialRecord(cpu, task, ctx, pushFlags)
    if (rc < 0) return rc
  }
  const size = iovIterCount(iter)
  const pfrag = task.taskFrag
  const maxRecord = TLS_MAX_PAYLOAD_SIZE + prot.prependSize
  let rc = 0
  for (let done = false; !done; ) {
    if (!tlsDoAllocation(cpu, ctx, device, pfrag)) {
      rc = skStreamWaitMemory(sk)
      const open = device.openRecord
      if (open === null || open.msg.size <= prot.prependSize || type !== TLS_RECORD_TYPE_DATA) break
      // What there is goes, so that the caller can be told how much that was.
      done = true
    } else {
      const record = device.openRecord as TlsRecordInfo
      const room = Math.min(iovIterCount(iter), maxRecord - record.msg.size)
      const copied =
        room === 0 ? 0 : lend ? lendPages(sk, record, iter, room) : copyIn(cpu, ctx, record, iter, room, pfrag)
      if (copied < 0) {
        rc = copied
        break
      }
    }
    const record = device.openRecord as TlsRecordInfo
    if (iovIterCount(iter) === 0) {
      if (more) {
        ctx.pendingOpenRecordFrags = true
        break
      }
      done = true
    }
    if (!done && record.msg.size < maxRecord && record.msg.end < MAX_MSG_FRAGS - 1) continue
    rc = closeAndPush(cpu, task, ctx, device, record, pfrag, pushFlags, type)
    if (rc < 0) break
  }
  const taken = size - iovIterCount(iter)
  return taken > 0 ? taken : rc
}

/** Models `tls_do_allocation`: a record with its header, and a page to go on in. */
function tlsDoAllocation(cpu: Cpu, ctx: TlsContext, device: TlsDeviceContextTx, pfrag: PageFrag): boolean {
  const { sk, env, prot } = ctx
  const { mem } = env.socks
  if (device.openRecord === null) {
    const high = env.socks.highOrderAllocDisable[0] !== 0
    if (!skbPageFragRefill(mem, cpu, prot.prependSize, pfrag, sk.allocation as Gfp, high)) {
      skEnterMemoryPressure(cpu, sk)
      skStreamModerateSndbuf(sk)
      return false
    }
    const addr = kmalloc(mem, cpu, RECORD_INFO_BYTES, sk.allocation, 'tls_create_new_record')
    if (addr === NULL) return false
    device.openRecord = new TlsRecordInfo(addr)
    appendFrag(sk, device.openRecord, pfrag, prot.prependSize)
    if (pfrag.size > pfrag.offset) return true
  }
  return sockPageFragRefill(cpu, sk, pfrag)
}

/** Models `tls_append_frag`: the next bytes of the fragment are the record's. */
function appendFrag(sk: Sock, record: TlsRecordInfo, pfrag: PageFrag, bytes: number): void {
  const { msg } = record
  const last = msg.end - 1
  if (last >= 0 && msg.pfns[last] === pfrag.page && msg.offsets[last]! + msg.lens[last]! === pfrag.offset) {
    msg.lens[last]! += bytes
    msg.size += bytes
  } else skMsgPageAdd(sk, msg, pfrag.page, bytes, pfrag.offset)
  pfrag.offset += bytes
}

/** Models `tls_device_copy_data`. @returns bytes, or -EFAULT. */
function copyIn(
  cpu: Cpu,
  ctx: TlsContext,
  record: TlsRecordInfo,
  iter: IovIter,
  most: number,
  pfrag: PageFrag,
): number {
  const bytes = Math.min(most, pfrag.size - pfrag.offset)
  const to = ((pfrag.page << 12) + pfrag.offset) | 0
  if (copyFromIter(ctx.env.socks.mem, cpu, to as Addr, bytes, iter) !== bytes) return -ERRNO.EFAULT
  appendFrag(ctx.sk, record, pfrag, bytes)
  return bytes
}

/** The read-only promise: pieces of the page cache as they are. @returns bytes. */
function lendPages(sk: Sock, record: TlsRecordInfo, iter: IovIter, most: number): number {
  const { pageSize } = sk.env
  const at = iterAddr(iter) & (pageSize - 1)
  const bytes = Math.min(most, iovIterSingleSegCount(iter), pageSize - at)
  skMsgPageAdd(sk, record.msg, (iterAddr(iter) >>> 12) as Pfn, bytes, at)
  iovIterAdvance(iter, bytes)
  return bytes
}

/** Models `tls_device_record_close` and `tls_push_record`: room for the tag, the header, and off to TCP. */
function closeAndPush(
  cpu: Cpu,
  task: Task,
  ctx: TlsContext,
  device: TlsDeviceContextTx,
  record: TlsRecordInfo,
  pfrag: PageFrag,
  flags: number,
  type: number,
): number {
  const { sk, env, prot } = ctx
  const { msg } = record
  const text = msg.size - prot.prependSize
  const high = env.socks.highOrderAllocDisable[0] !== 0
  // Whatever lies there: the card writes the tag on the wire, not here.
  if (!skbPageFragRefill(env.socks.mem, cpu, prot.tagSize, pfrag, sk.allocation as Gfp, high)) return -ERRNO.ENOMEM
  appendFrag(sk, record, pfrag, prot.tagSize)
  tlsFillPrepend(env.header, 0, prot, ctx.tx, text, type)
  skMsgWrite(sk, msg, 0, env.header, prot.prependSize)
  record.recSeq.set(ctx.tx.recSeq)
  record.endSeq = (env.transport.writeSeq(sk) + msg.size) | 0
  device.recordsList.push(record)
  device.openRecord = null
  ctx.pendingOpenRecordFrags = false
  if (tlsAdvanceRecordSn(prot, ctx.tx)) tlsErrAbort(cpu, sk, -ERRNO.EBADMSG)
  const { sgTx } = device
  skMsgInit(sgTx)
  for (let i = 0; i < msg.end; i += 1) skMsgPageAdd(sk, sgTx, msg.pfns[i]! as Pfn, msg.lens[i]!, msg.offsets[i]!)
  skMemCharge(sk, sgTx.size)
  return tlsPushSg(cpu, task, ctx, sgTx, 0, 0, flags)
}
