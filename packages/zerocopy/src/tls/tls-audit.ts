/** What must hold for every kTLS socket after every step; each breach throws an `Error` that says in words what it is. */
import { nrFrags, type SkBuff } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { MAX_MSG_FRAGS, type SkMsg } from './sk-msg.js'
import { TLS_HW, TLS_SW, TlsContext, type TlsRec } from './tls-context.js'
import { TLS_MIB, type TlsEnv } from './tls-env.js'
import { TLS_MAX_PAYLOAD_SIZE } from './tls-framing.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`kTLS audit: ${words()}`)
}

/** Bytes of a message from piece `first` on. */
function bytesFrom(msg: SkMsg, first: number): number {
  let bytes = 0
  for (let i = first; i < msg.end; i += 1) bytes += msg.lens[i]!
  return bytes
}

/** The records that a socket still has, the open one last. */
function recordsOf(ctx: TlsContext): TlsRec[] {
  const tx = ctx.swTx
  if (tx === null) return []
  return tx.openRec === null ? [...tx.txList] : [...tx.txList, tx.openRec]
}

/** Bytes that a socket's records have charged to it, beside what its queues hold. */
export function tlsChargedBytes(sk: Sock): number {
  const ctx = sk.ulpData
  if (!(ctx instanceof TlsContext)) return 0
  let bytes = 0
  for (const rec of recordsOf(ctx)) {
    const sent = ctx.partialMsg === rec.encrypted ? ctx.partialElem : 0
    bytes += rec.plaintext.size + bytesFrom(rec.encrypted, sent)
  }
  if (ctx.device !== null && ctx.partialMsg !== null) bytes += bytesFrom(ctx.partialMsg, ctx.partialElem)
  return bytes
}

function auditMsg(ctx: TlsContext, msg: SkMsg, name: string): void {
  const { pages } = ctx.env.socks.mem
  check(msg.end <= MAX_MSG_FRAGS, () => `${name}: ${msg.end} pieces`)
  check(msg.size === bytesFrom(msg, 0), () => `${name}: says ${msg.size} bytes, its pieces have ${bytesFrom(msg, 0)}`)
  for (let i = 0; i < msg.end; i += 1) {
    check(msg.lens[i]! > 0, () => `${name}: piece ${i} is empty`)
    const held = pages.refcount[pages.head[msg.pfns[i]!]!]!
    check(held > 0, () => `${name}: page ${msg.pfns[i]} of piece ${i} is free`)
  }
}

/** The laws of one socket: records hold what they say, and the parser's anchor owns bytes only where it copied them. */
export function auditTlsSock(ctx: TlsContext): void {
  const { sk, prot, swRx } = ctx
  const name = `socket ${sk.id}`
  check(ctx.env.contexts[ctx.id] === ctx, () => `${name}: nobody knows its context`)
  for (const rec of recordsOf(ctx)) {
    const open = rec === ctx.swTx!.openRec
    auditMsg(ctx, rec.plaintext, `${name}: text of a record`)
    auditMsg(ctx, rec.encrypted, `${name}: ciphertext of a record`)
    check(rec.plaintext.size <= TLS_MAX_PAYLOAD_SIZE, () => `${name}: a record of ${rec.plaintext.size} bytes`)
    check(
      rec.txReady !== open,
      () => `${name}: a record is ${open ? 'open and encrypted' : 'listed and not encrypted'}`,
    )
    const room = rec.encrypted.size - prot.overheadSize
    check(
      rec.plaintext.size === 0 || room >= rec.plaintext.size,
      () => `${name}: ciphertext has room for ${room} bytes`,
    )
  }
  if (ctx.device !== null) {
    let end: number | null = null
    for (const record of ctx.device.recordsList) {
      auditMsg(ctx, record.msg, `${name}: a record of its device`)
      const start = (record.endSeq - record.msg.size) | 0
      check(end === null || start === end, () => `${name}: a record begins at ${start}, not at ${end}`)
      end = record.endSeq
    }
  }
  if (swRx === null) return
  const anchor = swRx.strp.anchor as SkBuff
  if (!swRx.strp.copyMode)
    check(nrFrags(anchor) === 0, () => `${name}: the anchor owns pages though nothing was copied`)
  check(!swRx.strp.msgReady || swRx.strp.fullLen > 0, () => `${name}: a record of no length is ready`)
}

/** The laws of a machine's kTLS: every socket, and the counters of what is in use. */
export function auditTls(env: TlsEnv): void {
  const inUse = new Map<Float64Array, [number, number, number]>()
  for (const ctx of env.contexts) {
    if (ctx === null) continue
    auditTlsSock(ctx)
    const counts = inUse.get(ctx.sk.net.mib) ?? [0, 0, 0]
    if (ctx.txConf === TLS_SW) counts[0] += 1
    if (ctx.rxConf === TLS_SW) counts[1] += 1
    if (ctx.txConf === TLS_HW && !ctx.closed) counts[2] += 1
    inUse.set(ctx.sk.net.mib, counts)
  }
  for (const net of env.socks.nets) {
    const counts = inUse.get(net.mib) ?? [0, 0, 0]
    for (const [i, counter] of [TLS_MIB.CurrTxSw, TLS_MIB.CurrRxSw, TLS_MIB.CurrTxDevice].entries())
      check(
        net.mib[counter] === counts[i],
        () => `namespace ${net.id} counts ${net.mib[counter]} directions of kind ${i}, there are ${counts[i]}`,
      )
  }
}
