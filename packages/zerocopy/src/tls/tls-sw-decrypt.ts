/**
 * One record from ciphertext to text: straight into the reader's pages when it asks for the whole of it, else into
 * a packet of fresh pages that waits in the receive list.
 */
import { type Cpu, ERRNO, type Gfp, type Pfn } from '@netmem/base'
import {
  type IovIter,
  iovIterGetPages2,
  iovIterNpages,
  iovIterRevert,
  iterAddr,
  kfree,
  kmalloc,
  putPage,
} from '@netmem/memory'
import { allocSkbWithFrags, consumeSkb, nrFrags, type SkBuff, skbCopyHeader } from '@netmem/skbuff'
import type { Msg, Sock } from '@netmem/sockmem'
import { TLS_1_3_VERSION } from './tls-ciphers.js'
import { type TlsContext, type TlsDecryptArg, type TlsSwContextRx, tlsGetCtx } from './tls-context.js'
import { TLS_MIB, tlsIncStats } from './tls-env.js'
import {
  TLS_HANDSHAKE_KEYUPDATE,
  TLS_HEADER_SIZE,
  TLS_RECORD_TYPE_DATA,
  TLS_RECORD_TYPE_HANDSHAKE,
  tlsAdvanceRecordSn,
  tlsMakeAad,
  tlsMakeNonce,
  tlsRecordHasIv,
} from './tls-framing.js'
import { skbGather, skbScatter } from './tls-gather.js'
import { tlsErrAbort } from './tls-push.js'
import { setStrpMsg, setTlsControl, strpFullLen, strpOffset, tlsControl } from './tls-strp.js'

/** Models `TLS_PAGE_ORDER`: the largest pages that text waits in. */
const TLS_PAGE_ORDER = 3
/** Bytes of `struct aead_request` with its cipher's, and of `struct tls_decrypt_ctx`; then 32 per piece. */
const DECRYPT_BYTES = 272
const SCATTERLIST_BYTES = 32

/** Models `tls_rx_one_record` (net/tls/tls_sw.c). @returns 0 or a negative errno; `darg.skb` is the caller's only without `zc`. */
export function tlsRxOneRecord(cpu: Cpu, sk: Sock, msg: Msg | null, darg: TlsDecryptArg): number {
  const ctx = tlsGetCtx(sk)
  const err = tlsDecryptSw(cpu, ctx, msg, darg)
  if (err < 0) return err
  const skb = darg.skb as SkBuff
  setStrpMsg(skb, strpOffset(skb) + ctx.prot.prependSize, strpFullLen(skb) - ctx.prot.overheadSize)
  if (tlsAdvanceRecordSn(ctx.prot, ctx.rx)) tlsErrAbort(cpu, sk, -ERRNO.EBADMSG)
  if (ctx.env.features.tlsRekey) checkPendingRekey(ctx, skb)
  return 0
}

/** Models `tls_check_pending_rekey`: a KeyUpdate ends this key; the program has to give the next. */
function checkPendingRekey(ctx: TlsContext, skb: SkBuff): void {
  if (tlsControl(skb) !== TLS_RECORD_TYPE_HANDSHAKE) return
  if (strpFullLen(skb) < 1) return
  const first = ctx.env.header
  skbGather(skb, strpOffset(skb), 1, first)
  if (first[0] !== TLS_HANDSHAKE_KEYUPDATE) return
  ;(ctx.swRx as TlsSwContextRx).keyUpdatePending = true
  tlsIncStats(ctx.sk, TLS_MIB.RxRekeyReceived)
}

/** Models `tls_decrypt_sw`. */
function tlsDecryptSw(cpu: Cpu, ctx: TlsContext, msg: Msg | null, darg: TlsDecryptArg): number {
  const { sk, prot } = ctx
  const iter = msg === null ? null : msg.iter
  const err = tlsDecryptSg(cpu, ctx, iter, darg)
  if (err < 0) {
    if (err === -ERRNO.EBADMSG) tlsIncStats(sk, TLS_MIB.DecryptError)
    return err
  }
  const anchor = (ctx.swRx as TlsSwContextRx).strp.anchor as SkBuff
  const tls13 = prot.version === TLS_1_3_VERSION
  if (darg.zc && tls13 && darg.tail !== TLS_RECORD_TYPE_DATA) {
    // The program had said that nobody pads: what went to its memory has a longer tail, or is no data.
    darg.zc = false
    iovIterRevert(iter as IovIter, strpFullLen(anchor) - prot.overheadSize)
    if (darg.tail === 0) tlsIncStats(sk, TLS_MIB.RxNoPadViolation)
    tlsIncStats(sk, TLS_MIB.DecryptRetry)
    return tlsDecryptSw(cpu, ctx, msg, darg)
  }
  if (!tls13) return 0
  const skb = darg.skb as SkBuff
  const pad = tlsPaddingLength(ctx, skb, darg)
  if (pad < 0) {
    if (skb !== anchor) consumeSkb(cpu, skb, 'tls_decrypt_sw')
    return pad
  }
  setStrpMsg(skb, strpOffset(skb), strpFullLen(skb) - pad)
  return 0
}

/** Models `tls_padding_length`: zeros behind the type byte of TLS 1.3. @returns their number, or -EBADMSG when all is zero. */
function tlsPaddingLength(ctx: TlsContext, skb: SkBuff, darg: TlsDecryptArg): number {
  const { prot, env } = ctx
  let type = darg.zc ? darg.tail : 0
  let pad = 0
  for (let at = strpFullLen(skb) - prot.tagSize - 1; type === 0; at -= 1) {
    if (at < prot.prependSize) return -ERRNO.EBADMSG
    skbGather(skb, strpOffset(skb) + at, 1, env.header)
    type = env.header[0]!
    if (type === 0) pad += 1
  }
  setTlsControl(skb, type)
  return pad
}

/** Models `tls_decrypt_sg`: ciphertext of the ready record, through the cipher, to where it shall go. */
function tlsDecryptSg(cpu: Cpu, ctx: TlsContext, iter: IovIter | null, darg: TlsDecryptArg): number {
  const { sk, env, prot } = ctx
  const { mem } = env.socks
  const anchor = (ctx.swRx as TlsSwContextRx).strp.anchor as SkBuff
  const fullLen = strpFullLen(anchor)
  const dataLen = fullLen - prot.overheadSize
  let clear: SkBuff | null = null
  if (!darg.zc || iter === null) {
    darg.zc = false
    clear = tlsAllocClrtxtSkb(cpu, ctx, anchor, fullLen)
    if (clear === null) return -ERRNO.ENOMEM
  }
  const pieces = clear !== null ? nrFrags(clear) : iovIterNpages(iter as IovIter, dataLen)
  const bytes = DECRYPT_BYTES + SCATTERLIST_BYTES * (4 + pieces)
  const request = kmalloc(mem, cpu, bytes, sk.allocation, 'tls_decrypt_sg')
  if (request === 0) {
    if (clear !== null) consumeSkb(cpu, clear, 'tls_decrypt_sg')
    return -ERRNO.ENOMEM
  }
  let err = 0
  if (!openRecord(ctx, anchor, dataLen)) err = -ERRNO.EBADMSG
  else if (clear !== null) skbScatter(clear, prot.prependSize, env.staging, dataLen + prot.tailSize)
  else err = toReader(cpu, ctx, iter as IovIter, dataLen)
  if (err === 0 && prot.tailSize !== 0) darg.tail = env.staging[dataLen]!
  kfree(mem, cpu, request, 'tls_decrypt_sg')
  if (err === 0) {
    darg.skb = clear ?? anchor
    return 0
  }
  if (clear !== null) consumeSkb(cpu, clear, 'tls_decrypt_sg')
  return err
}

/** Decrypts the record into `env.staging`. @returns false when its tag is wrong. */
function openRecord(ctx: TlsContext, anchor: SkBuff, dataLen: number): boolean {
  const { env, prot } = ctx
  const { aead } = ctx.swRx as TlsSwContextRx
  const offset = strpOffset(anchor)
  let explicit: Uint8Array | null = null
  if (tlsRecordHasIv(prot)) {
    explicit = env.header
    skbGather(anchor, offset + TLS_HEADER_SIZE, prot.ivSize, explicit)
  }
  const nonce = tlsMakeNonce(env.nonce, prot, ctx.rx, explicit)
  const bytes = dataLen + prot.tailSize
  // A TLS 1.3 record may be shorter than its type byte.
  if (bytes < 0 || dataLen < 0) return false
  const aad = tlsMakeAad(prot.tailSize !== 0 ? env.aad13 : env.aad12, prot, bytes, ctx.rx.recSeq, tlsControl(anchor))
  skbGather(anchor, offset + prot.prependSize, bytes + prot.tagSize, env.staging)
  return aead!.open(nonce, aad, env.staging, bytes)
}

/** Models `tls_alloc_clrtxt_skb`. @returns a packet with room for the whole record in pages, or null. */
function tlsAllocClrtxtSkb(cpu: Cpu, ctx: TlsContext, anchor: SkBuff, fullLen: number): SkBuff | null {
  const { env, sk } = ctx
  const skb = allocSkbWithFrags(env.socks.skbs, cpu, 0, fullLen, TLS_PAGE_ORDER, sk.allocation as Gfp, env.allocError)
  if (skb === null) return null
  skbCopyHeader(skb, anchor)
  skb.len = fullLen
  skb.dataLen = fullLen
  setStrpMsg(skb, 0, fullLen)
  return skb
}

/** Models `tls_setup_from_iter` and the cipher's writing: the reader's pages are held while the text goes there. */
function toReader(cpu: Cpu, ctx: TlsContext, iter: IovIter, dataLen: number): number {
  const { env } = ctx
  const { mem } = env.socks
  const { u8 } = mem
  let done = 0
  while (done < dataLen) {
    const at = iterAddr(iter) >>> 0
    const got = iovIterGetPages2(mem, iter, env.pages, 0, dataLen - done, 1)
    if (got <= 0) {
      iovIterRevert(iter, done)
      return -ERRNO.EFAULT
    }
    u8.set(env.staging.subarray(done, done + got), at)
    putPage(mem, cpu, env.pages[0]! as Pfn, 'tls_decrypt_sg')
    done += got
  }
  return 0
}
