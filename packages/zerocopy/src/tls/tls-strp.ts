/**
 * Where records begin and end in the byte stream. The parser's anchor is an empty packet that borrows the receive
 * queue as its fragment list, so that a record is found and decrypted where TCP put it; only when the socket has no
 * room for the whole record is it copied out piece by piece, so that the peer can send the rest.
 *
 * Invariant: outside `copyMode` the anchor owns no bytes. Differs: the kernel leaves the borrowed list in the anchor
 * and takes care not to look at it once TCP has moved on; here it is given back when whoever has the socket lets go.
 */
import { assert, type Cpu, ERRNO, type Gfp, NO_PFN } from '@netmem/base'
import { allocPages } from '@netmem/memory'
import {
  allocSkb,
  consumeSkb,
  fragAddr,
  fragLen,
  nrFrags,
  type SkBuff,
  setFragLen,
  setFragList,
  setNrFrags,
  skbCopyBits,
  skbCopyHeader,
  skbFillPageDesc,
  skbFragUnref,
} from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { TLS_1_3_VERSION } from './tls-ciphers.js'
import { type TlsContext, type TlsStrparser, type TlsSwContextRx, tlsGetCtx } from './tls-context.js'
import { TLS_HEADER_SIZE, TLS_MAX_PAYLOAD_SIZE, type TlsProtInfo, tlsRecordHasIv } from './tls-framing.js'
import { skbGather } from './tls-gather.js'

/** More than any buffer holds: never ready for want of bytes, only of room. */
const INT_MAX = 0x7fffffff

// `struct strp_msg` and `struct tls_msg` in the control block, behind what TCP keeps there.

/** Where the record begins in the packet, and how long it is; its type. */
export const strpOffset = (skb: SkBuff): number => skb.cb8
export const strpFullLen = (skb: SkBuff): number => skb.cb9
export const tlsControl = (skb: SkBuff): number => skb.cb10
export function setStrpMsg(skb: SkBuff, offset: number, fullLen: number): void {
  skb.cb8 = offset
  skb.cb9 = fullLen
}
export function setTlsControl(skb: SkBuff, control: number): void {
  skb.cb10 = control
}

/** Models `tls_strp_init`. @returns 0 or -ENOMEM. */
export function tlsStrpInit(cpu: Cpu, ctx: TlsContext, strp: TlsStrparser): number {
  const { skbs, mem } = ctx.env.socks
  strp.anchor = allocSkb(skbs, cpu, 0, mem.gfp.GFP_KERNEL as Gfp)
  return strp.anchor === null ? -ERRNO.ENOMEM : 0
}

/** Models `tls_strp_stop`. */
export function tlsStrpStop(strp: TlsStrparser): void {
  strp.stopped = true
}

/** Models `tls_strp_done`: the socket is about to go. */
export function tlsStrpDone(cpu: Cpu, ctx: TlsContext, strp: TlsStrparser): void {
  if (strp.work !== 0) ctx.env.clock.cancel(strp.work)
  strp.work = 0
  const anchor = strp.anchor
  if (anchor === null) return
  if (!strp.copyMode) setFragList(anchor, 0)
  consumeSkb(cpu, anchor, 'tls_strp_anchor_free')
  strp.anchor = null
}

/** Models `tls_strp_abort_strp`: what comes is no TLS; it is said once. */
function tlsStrpAbortStrp(cpu: Cpu, sk: Sock, strp: TlsStrparser, err: number): void {
  if (strp.stopped) return
  strp.stopped = true
  sk.err = -err
  sk.errorReport(cpu, sk)
}

/**
 * Models `tls_rx_msg_size` (net/tls/tls_sw.c): the length of the record that the header tells.
 *
 * @param skb holds the record from `strp.offset` on. @returns bytes, 0 while the header is not all there, or -EMSGSIZE,
 *   -EBADMSG (too short for its tag), -EINVAL (not TLS 1.2 by its version).
 */
function tlsRxMsgSize(cpu: Cpu, ctx: TlsContext, strp: TlsStrparser, skb: SkBuff): number {
  const { prot, env } = ctx
  if (strp.offset + prot.prependSize > skb.len) return 0
  const header = env.header
  skbGather(skb, strp.offset, TLS_HEADER_SIZE, header)
  strp.mark = header[0]!
  const dataLen = (header[3]! << 8) | header[4]!
  const ret = checkHeader(header, dataLen, prot)
  if (ret === 0) return dataLen + TLS_HEADER_SIZE
  tlsStrpAbortStrp(cpu, ctx.sk, strp, ret)
  return ret
}

function checkHeader(header: Uint8Array, dataLen: number, prot: TlsProtInfo): number {
  const overhead = prot.tagSize + (tlsRecordHasIv(prot) ? prot.ivSize : 0)
  if (dataLen > TLS_MAX_PAYLOAD_SIZE + overhead + (prot.version === TLS_1_3_VERSION ? prot.tailSize : 0))
    return -ERRNO.EMSGSIZE
  if (dataLen < overhead) return -ERRNO.EBADMSG
  return header[1] === 3 && header[2] === 3 ? 0 : -ERRNO.EINVAL
}

// Hot path: the record is found in the receive queue.

/** Models `tls_strp_load_anchor_with_queue`: the anchor borrows the queue from the reader's place on. */
function loadAnchorWithQueue(ctx: TlsContext, strp: TlsStrparser, len: number): void {
  const { transport } = ctx.env
  const first = transport.recvSkb(ctx.sk)
  if (first === null) return
  const offset = transport.recvOffset()
  const anchor = strp.anchor as SkBuff
  anchor.len = offset + len
  anchor.dataLen = offset + len
  anchor.truesize = offset + len
  setFragList(anchor, first.id)
  skbCopyHeader(anchor, first)
  anchor.destructor = 0
  strp.offset = offset
}

/** Models `tls_strp_check_queue_ok`: no byte of the record is in the queue twice. */
function checkQueueOk(ctx: TlsContext, strp: TlsStrparser): boolean {
  const { skbs } = ctx.env.socks.skbs
  let skb = ctx.env.transport.recvSkb(ctx.sk) as SkBuff
  let left = strp.offset + strp.fullLen
  let seq = skb.cb0
  while (skb.len < left) {
    seq = (seq + skb.len) | 0
    left -= skb.len
    skb = skbs[skb.next]!
    if (skb.cb0 !== seq) return false
  }
  return true
}

/** Models `tls_strp_read_sock`. @returns 0 or a negative errno. */
function tlsStrpReadSock(cpu: Cpu, ctx: TlsContext, strp: TlsStrparser): number {
  const inq = ctx.env.transport.inq(ctx.sk)
  if (inq < 1) return 0
  if (strp.copyMode) return readCopyin(cpu, ctx)
  if (inq < strp.fullLen) return readCopy(cpu, ctx, strp, true)
  loadAnchorWithQueue(ctx, strp, inq)
  if (strp.fullLen === 0) {
    const size = tlsRxMsgSize(cpu, ctx, strp, strp.anchor as SkBuff)
    if (size < 0) return size
    strp.fullLen = size
    if (size === 0 || inq < size) return readCopy(cpu, ctx, strp, true)
  }
  if (!checkQueueOk(ctx, strp)) return readCopy(cpu, ctx, strp, false)
  msgReady(cpu, ctx, strp)
  return 0
}

/** Models `tls_rx_msg_ready`: the reader is told of records, not of bytes. */
function msgReady(cpu: Cpu, ctx: TlsContext, strp: TlsStrparser): void {
  strp.msgReady = true
  const ready = (ctx.swRx as TlsSwContextRx).savedDataReady
  if (ready !== null) ready(cpu, ctx.sk)
}

/** The anchor is empty again: the receive queue is TCP's alone. */
export function tlsStrpGiveBack(ctx: TlsContext): void {
  const { strp } = ctx.swRx as TlsSwContextRx
  const { anchor } = strp
  if (strp.copyMode || anchor === null) return
  setFragList(anchor, 0)
  anchor.len = 0
  anchor.dataLen = 0
}

/** Models `tls_strp_check_rcv`. */
export function tlsStrpCheckRcv(cpu: Cpu, ctx: TlsContext): void {
  const { strp } = ctx.swRx as TlsSwContextRx
  if (strp.stopped || strp.msgReady) return
  if (tlsStrpReadSock(cpu, ctx, strp) === -ERRNO.ENOMEM) queueStrpWork(cpu, ctx, strp)
}

function queueStrpWork(cpu: Cpu, ctx: TlsContext, strp: TlsStrparser): void {
  if (strp.work === 0) strp.work = ctx.env.queueWork(cpu, ctx.env.strpWorkHandler, ctx)
}

/** Models `tls_data_ready` and `tls_strp_data_ready`: TCP has more bytes. A reader inside a call looks later. */
export function tlsDataReady(cpu: Cpu, sk: Sock): void {
  const ctx = tlsGetCtx(sk)
  const kept = sk.allocation
  sk.allocation = sk.env.mem.gfp.GFP_ATOMIC
  if (sk.owned !== 0) queueStrpWork(cpu, ctx, (ctx.swRx as TlsSwContextRx).strp)
  else {
    tlsStrpCheckRcv(cpu, ctx)
    tlsStrpGiveBack(ctx)
  }
  sk.allocation = kept
}

/** Models `tls_strp_work`. */
export function tlsStrpWork(cpu: Cpu, ctx: TlsContext): void {
  const { swRx, sk, env } = ctx
  if (swRx === null) return
  swRx.strp.work = 0
  env.transport.lockSock(sk)
  tlsStrpCheckRcv(cpu, ctx)
  tlsStrpGiveBack(ctx)
  env.transport.releaseSock(cpu, sk)
}

/**
 * Models `tls_strp_msg_load`: says in the anchor where the ready record is.
 *
 * @param forceRefresh the socket was let go of meanwhile: its queue may be another. @returns false when the stream moved on under the record.
 */
export function tlsStrpMsgLoad(ctx: TlsContext, forceRefresh: boolean): boolean {
  const { strp } = ctx.swRx as TlsSwContextRx
  if (!strp.copyMode && forceRefresh) {
    if (ctx.env.transport.inq(ctx.sk) < strp.fullLen) {
      strp.msgReady = false
      forgetMsg(strp)
      return false
    }
    loadAnchorWithQueue(ctx, strp, strp.fullLen)
  }
  const anchor = strp.anchor as SkBuff
  setStrpMsg(anchor, strp.offset, strp.fullLen)
  setTlsControl(anchor, strp.mark)
  return true
}

function forgetMsg(strp: TlsStrparser): void {
  strp.fullLen = 0
  strp.offset = 0
}

/** Models `tls_strp_msg_done`: the record was used; its bytes leave the stream. */
export function tlsStrpMsgDone(cpu: Cpu, ctx: TlsContext): void {
  const { strp } = ctx.swRx as TlsSwContextRx
  assert(strp.fullLen !== 0, 'tls_strp_msg_done: there is no record')
  if (strp.copyMode) flushAnchorCopy(cpu, strp)
  else ctx.env.transport.readDone(cpu, ctx.sk, strp.fullLen)
  strp.msgReady = false
  forgetMsg(strp)
  tlsStrpCheckRcv(cpu, ctx)
}

// Cold path: no room for the rest of the record, so what is here is copied out.

/** Models `tls_strp_flush_anchor_copy`. */
function flushAnchorCopy(cpu: Cpu, strp: TlsStrparser): void {
  const anchor = strp.anchor as SkBuff
  for (let i = 0; i < nrFrags(anchor); i += 1) skbFragUnref(cpu, anchor, i, 'tls_strp_flush_anchor_copy')
  setNrFrags(anchor, 0)
  anchor.len = 0
  anchor.dataLen = 0
  strp.copyMode = false
}

/** Models `tls_strp_read_copy`. @param qshort only if the rest has no room. @returns 0 or -ENOMEM. */
function readCopy(cpu: Cpu, ctx: TlsContext, strp: TlsStrparser, qshort: boolean): number {
  const { env, sk } = ctx
  if (qshort && !env.transport.epollinReady(sk, INT_MAX)) return 0
  const { mem } = env.socks
  const { pageSize } = sk.env
  const anchor = strp.anchor as SkBuff
  const need = strp.fullLen !== 0 ? strp.fullLen : TLS_MAX_PAYLOAD_SIZE + pageSize
  setFragList(anchor, 0)
  for (let left = need; left > 0; left -= pageSize) {
    const pfn = allocPages(mem, cpu, sk.allocation, 0, -1, 'tls_strp_read_copy')
    if (pfn === NO_PFN) {
      flushAnchorCopy(cpu, strp)
      return -ERRNO.ENOMEM
    }
    skbFillPageDesc(anchor, nrFrags(anchor), pfn, 0, 0)
  }
  strp.copyMode = true
  strp.offset = 0
  anchor.len = 0
  anchor.dataLen = 0
  anchor.truesize = Math.ceil(need / pageSize) * pageSize
  readCopyin(cpu, ctx)
  return 0
}

/** Models `tls_strp_read_copyin`. @returns 0 or a negative errno. */
function readCopyin(cpu: Cpu, ctx: TlsContext): number {
  ctx.env.transport.readSock(cpu, ctx.sk, copyinActor)
  return 0
}

/** Models `tls_strp_copyin` and `tls_strp_copyin_frag`. */
function copyinActor(cpu: Cpu, sk: Sock, inSkb: SkBuff, offset: number, inLen: number): number {
  const ctx = tlsGetCtx(sk)
  const { strp } = ctx.swRx as TlsSwContextRx
  if (strp.msgReady) return 0
  const anchor = strp.anchor as SkBuff
  let taken = 0
  if (strp.fullLen === 0) {
    taken = copyinChunk(anchor, inSkb, offset, Math.min(inLen, pageRoom(sk, anchor)))
    const size = tlsRxMsgSize(cpu, ctx, strp, anchor)
    if (size < 0) return 0
    if (size !== 0 && size < anchor.len) {
      // More than the header's record: the rest stays in the queue.
      const over = anchor.len - size
      setFragLen(anchor, 0, fragLen(anchor, 0) - over)
      anchor.len -= over
      anchor.dataLen -= over
      taken -= over
    }
    strp.fullLen = size
  }
  while (strp.fullLen !== 0 && taken < inLen && strp.fullLen > anchor.len) {
    const chunk = Math.min(inLen - taken, strp.fullLen - anchor.len, pageRoom(sk, anchor))
    taken += copyinChunk(anchor, inSkb, offset + taken, chunk)
  }
  if (strp.fullLen !== 0 && strp.fullLen === anchor.len) msgReady(cpu, ctx, strp)
  return taken
}

const pageRoom = (sk: Sock, anchor: SkBuff): number => sk.env.pageSize - (anchor.len & (sk.env.pageSize - 1))

function copyinChunk(anchor: SkBuff, inSkb: SkBuff, offset: number, chunk: number): number {
  const i = Math.floor(anchor.len / anchor.env.sizes.pageBytes)
  const used = fragLen(anchor, i)
  skbCopyBits(inSkb, offset, ((fragAddr(anchor, i) + used) | 0) as typeof anchor.data, chunk)
  setFragLen(anchor, i, used + chunk)
  anchor.len += chunk
  anchor.dataLen += chunk
  return chunk
}
