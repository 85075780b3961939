/**
 * Encrypted records on their way into TCP's write queue, page by page and without a copy; and what is left when
 * TCP takes only part of one.
 */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { iovIterBvec, kfree, kzalloc, putPage } from '@netmem/memory'
import { MSG_SENDPAGE_NOTLAST, MSG_SPLICE_PAGES, type Sock, skMemUncharge, type Task } from '@netmem/sockmem'
import { type SkMsg, skMsgFree, skMsgFreeFrom, skMsgInit } from './sk-msg.js'
import { type TlsContext, TlsRec, type TlsSwContextTx, tlsGetCtx } from './tls-context.js'
import type { TlsEnv } from './tls-env.js'

/**
 * Bytes of `struct tls_rec` with its cipher request: two messages of 17 pieces and their tables. Worked out from the
 * structure's definition; no profile has it.
 */
const TLS_REC_BYTES = 1904

/** Models `tls_err_abort`: the connection is over. @param err a negative errno. */
export function tlsErrAbort(cpu: Cpu, sk: Sock, err: number): void {
  sk.err = -err
  sk.errorReport(cpu, sk)
}

/** Models `tls_get_rec`. @returns an empty record, or null without memory. */
export function tlsGetRec(cpu: Cpu, env: TlsEnv, sk: Sock): TlsRec | null {
  const addr = kzalloc(env.socks.mem, cpu, TLS_REC_BYTES, sk.allocation, 'tls_get_rec')
  if (addr === 0) return null
  const rec = env.freeRecs.pop() ?? new TlsRec()
  rec.addr = addr
  rec.txReady = false
  rec.txFlags = 0
  return rec
}

/** Models `tls_free_rec`. */
export function tlsFreeRec(cpu: Cpu, env: TlsEnv, sk: Sock, rec: TlsRec): void {
  skMsgFree(cpu, sk, rec.encrypted)
  skMsgFree(cpu, sk, rec.plaintext)
  freeBody(cpu, env, rec, 'tls_free_rec')
}

function freeBody(cpu: Cpu, env: TlsEnv, rec: TlsRec, site: string): void {
  kfree(env.socks.mem, cpu, rec.addr, site)
  env.freeRecs.push(rec)
}

/** Models `tls_free_open_rec`. */
export function tlsFreeOpenRec(cpu: Cpu, env: TlsEnv, sk: Sock, tx: TlsSwContextTx): void {
  const rec = tx.openRec
  if (rec === null) return
  tx.openRec = null
  tlsFreeRec(cpu, env, sk, rec)
}

/**
 * Models `tls_push_sg` (net/tls/tls_main.c): hands the pieces of a message to TCP, from `elem` on. A piece that TCP
 * has whole is no longer ours. @returns 0, or what TCP said; the rest is then remembered as the partial record.
 */
export function tlsPushSg(
  cpu: Cpu,
  task: Task,
  ctx: TlsContext,
  msg: SkMsg,
  elem: number,
  firstOffset: number,
  flags: number,
): number {
  const { sk, env } = ctx
  let offset = firstOffset
  ctx.splicingPages = true
  for (let i = elem; i < msg.end; i += 1) {
    const pfn = msg.pfns[i]! as Pfn
    while (offset < msg.lens[i]!) {
      const ret = pushPiece(cpu, task, ctx, msg, i, offset, i === msg.end - 1, flags)
      if (ret <= 0) {
        ctx.partialElem = i
        ctx.partialOffset = offset
        ctx.partialMsg = msg
        ctx.splicingPages = false
        return ret
      }
      offset += ret
    }
    offset = 0
    putPage(env.socks.mem, cpu, pfn, 'tls_push_sg')
    skMemUncharge(cpu, sk, msg.lens[i]!)
  }
  skMsgInit(msg)
  ctx.splicingPages = false
  return 0
}

/** One call of TCP. @returns bytes taken, or a negative errno. */
function pushPiece(
  cpu: Cpu,
  task: Task,
  ctx: TlsContext,
  msg: SkMsg,
  i: number,
  offset: number,
  last: boolean,
  flags: number,
): number {
  const { sk, env, baseOps } = ctx
  const at = msg.offsets[i]! + offset
  const bytes = msg.lens[i]! - offset
  env.transport.rateCheckAppLimited(sk)
  if (env.features.sendpage) {
    const how = last ? flags : flags | MSG_SENDPAGE_NOTLAST
    return baseOps.sendpage!(cpu, task, sk, msg.pfns[i]! as Pfn, at, bytes, how)
  }
  const call = env.spliceMsg
  call.reset(flags | MSG_SPLICE_PAGES)
  env.bvecPfn[0] = msg.pfns[i]!
  env.bvecOffset[0] = at
  env.bvecLen[0] = bytes
  iovIterBvec(call.iter, env.bvecPfn, env.bvecOffset, env.bvecLen, 1)
  return baseOps.sendmsg(cpu, task, sk, call, bytes)
}

/** Models `tls_is_partially_sent_record`. */
export const tlsIsPartiallySentRecord = (ctx: TlsContext): boolean => ctx.partialElem >= 0

/** Models `tls_push_partial_record`. */
export function tlsPushPartialRecord(cpu: Cpu, task: Task, ctx: TlsContext, flags: number): number {
  const { partialElem, partialOffset, partialMsg } = ctx
  ctx.partialElem = -1
  ctx.partialMsg = null
  return tlsPushSg(cpu, task, ctx, partialMsg as SkMsg, partialElem, partialOffset, flags)
}

/** Models `tls_free_partial_record`. */
export function tlsFreePartialRecord(cpu: Cpu, ctx: TlsContext): void {
  if (ctx.partialElem < 0) return
  skMsgFreeFrom(cpu, ctx.sk, ctx.partialMsg as SkMsg, ctx.partialElem)
  ctx.partialElem = -1
  ctx.partialMsg = null
}

/** Passes as `flags` of `tlsTxRecords` for those that each record was closed with. */
export const RECORD_FLAGS = -1

/** Models `tls_tx_records` (net/tls/tls_sw.c): what is encrypted goes to TCP, in order. @returns 0 or a negative errno. */
export function tlsTxRecords(cpu: Cpu, task: Task, sk: Sock, flags: number): number {
  const ctx = tlsGetCtx(sk)
  const tx = ctx.swTx as TlsSwContextTx
  let rc = 0
  if (tlsIsPartiallySentRecord(ctx)) {
    const rec = tx.txList[0]!
    rc = tlsPushPartialRecord(cpu, task, ctx, flags === RECORD_FLAGS ? rec.txFlags : flags)
    if (rc === 0) recordSent(cpu, ctx, tx)
  }
  while (rc === 0 && tx.txList.length !== 0 && tx.txList[0]!.txReady) {
    const rec = tx.txList[0]!
    rc = tlsPushSg(cpu, task, ctx, rec.encrypted, 0, 0, flags === RECORD_FLAGS ? rec.txFlags : flags)
    if (rc === 0) recordSent(cpu, ctx, tx)
  }
  if (rc < 0 && rc !== -ERRNO.EAGAIN) tlsErrAbort(cpu, sk, rc)
  return rc
}

/** The record at the head of the list is TCP's; its plain text is not needed any more. */
function recordSent(cpu: Cpu, ctx: TlsContext, tx: TlsSwContextTx): void {
  const rec = tx.txList.shift()!
  skMsgFree(cpu, ctx.sk, rec.plaintext)
  freeBody(cpu, ctx.env, rec, 'tls_tx_records')
}

/** Models the part of `tls_sw_release_resources_tx` that frees records: a last try to send them first. */
export function tlsFreeTxRecords(cpu: Cpu, task: Task, ctx: TlsContext): void {
  const tx = ctx.swTx as TlsSwContextTx
  tlsTxRecords(cpu, task, ctx.sk, RECORD_FLAGS)
  if (ctx.partialMsg !== null) {
    tlsFreePartialRecord(cpu, ctx)
    recordSent(cpu, ctx, tx)
  }
  for (const rec of tx.txList) tlsFreeRec(cpu, ctx.env, ctx.sk, rec)
  tx.txList.length = 0
  tlsFreeOpenRec(cpu, ctx.env, ctx.sk, tx)
}

/**
 * Models `tx_work_handler`: TCP has room again, or a record that could not leave may. Runs as a task of its own.
 */
export function tlsTxWork(cpu: Cpu, ctx: TlsContext): void {
  const { env, sk, swTx } = ctx
  if (swTx === null || swTx.txWork === 0) return
  swTx.txWork = 0
  if (swTx.closing) return
  env.transport.lockSock(sk)
  tlsTxRecords(cpu, env.kworker, sk, RECORD_FLAGS)
  env.transport.releaseSock(cpu, sk)
}

/** Models `tls_sw_write_space`. */
export function tlsSwWriteSpace(cpu: Cpu, ctx: TlsContext): void {
  const tx = ctx.swTx as TlsSwContextTx
  if (tx.txList.length === 0 || !tx.txList[0]!.txReady || tx.txWork !== 0 || tx.closing) return
  tx.txWork = ctx.env.queueWork(cpu, ctx.env.txWorkHandler, ctx)
}

/** Sends now what `tx_work` was to send later. */
export function tlsRunTxWorkNow(cpu: Cpu, task: Task, ctx: TlsContext, flags: number): void {
  const tx = ctx.swTx as TlsSwContextTx
  if (tx.txWork === 0) return
  ctx.env.clock.cancel(tx.txWork)
  tx.txWork = 0
  tlsTxRecords(cpu, task, ctx.sk, flags)
}
