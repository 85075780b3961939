/**
 * Making and ending a direction that the CPU encrypts: `tls_set_sw_offload` and its opposites.
 */
import { type Addr, type Cpu, ERRNO, NULL } from '@netmem/base'
import { kfree, kmalloc, kzalloc } from '@netmem/memory'
import { skbQueuePurge } from '@netmem/skbuff'
import type { Sock, Task } from '@netmem/sockmem'
import { TLS_1_3_VERSION, type TlsCipherDesc, type TlsCryptoInfo } from './tls-ciphers.js'
import { type TlsContext, TlsSwContextRx, TlsSwContextTx, tlsGetCtx } from './tls-context.js'
import { TLS_TAG_SIZE } from './tls-crypto.js'
import { TLS_AAD_SPACE_SIZE, TLS_HEADER_SIZE, type TlsProtInfo } from './tls-framing.js'
import { tlsFreeTxRecords } from './tls-push.js'
import { tlsDataReady, tlsStrpDone, tlsStrpInit, tlsStrpStop } from './tls-strp.js'
import { tlsSwPushPendingRecord } from './tls-sw-send.js'

// Sizes on a machine whose profile does not know them: those of the other kernel.
const CONTEXT_TX_BYTES = 184
const CONTEXT_RX_BYTES = 208

/** Models `init_prot_info`: how records of a version and cipher are laid out. */
export function initProtInfo(prot: TlsProtInfo, version: number, desc: TlsCipherDesc): void {
  const tls13 = version === TLS_1_3_VERSION
  prot.version = version
  prot.cipherType = desc.type
  prot.aadSize = tls13 ? TLS_HEADER_SIZE : TLS_AAD_SPACE_SIZE
  prot.tailSize = tls13 ? 1 : 0
  prot.prependSize = TLS_HEADER_SIZE + (tls13 ? 0 : desc.nonceBytes)
  prot.tagSize = TLS_TAG_SIZE
  prot.overheadSize = prot.prependSize + prot.tagSize + prot.tailSize
  prot.ivSize = desc.ivBytes
  prot.saltSize = desc.saltBytes
}

/** Sets a direction's iv and sequence number from what the program gave. */
function initCipherContext(ctx: TlsContext, tx: boolean, info: TlsCryptoInfo): void {
  const cctx = tx ? ctx.tx : ctx.rx
  cctx.iv.set(info.salt)
  cctx.iv.set(info.iv, info.salt.length)
  cctx.recSeq.set(info.recSeq)
}

/**
 * Models `tls_set_sw_offload` (net/tls/tls_sw.c).
 *
 * @returns 0, -ENOMEM, or -ENOENT when this machine has no such cipher; nothing is kept then.
 */
export function tlsSetSwOffload(
  cpu: Cpu,
  ctx: TlsContext,
  tx: boolean,
  info: TlsCryptoInfo,
  desc: TlsCipherDesc,
): number {
  const err = tx ? initCtxTx(cpu, ctx) : initCtxRx(cpu, ctx)
  if (err !== 0) return err
  const rc = fillCtx(cpu, ctx, tx, info, desc)
  if (rc === 0) return 0
  freeIvs(cpu, ctx, tx)
  if (tx) freeCtxTx(cpu, ctx)
  else freeCtxRx(cpu, ctx)
  return rc
}

function fillCtx(cpu: Cpu, ctx: TlsContext, tx: boolean, info: TlsCryptoInfo, desc: TlsCipherDesc): number {
  const { env } = ctx
  initProtInfo(ctx.prot, info.version, desc)
  if (env.features.tlsIvAllocated && !allocIvs(cpu, ctx, tx, desc)) return -ERRNO.ENOMEM
  const aead = env.crypto.allocAead(desc.name, info.key)
  if (aead === null) return -ERRNO.ENOENT
  initCipherContext(ctx, tx, info)
  if (tx) {
    ;(ctx.swTx as TlsSwContextTx).aead = aead
    ctx.pushPendingRecord = tlsSwPushPendingRecord
    return 0
  }
  const rx = ctx.swRx as TlsSwContextRx
  rx.aead = aead
  tlsUpdateRxZcCapable(ctx)
  return tlsStrpInit(cpu, ctx, rx.strp)
}

/** Models the update of a key (6.14 and later): same cipher, same version, the next secrets. @returns 0 or -ENOENT. */
export function tlsUpdateSwKey(
  cpu: Cpu,
  ctx: TlsContext,
  tx: boolean,
  info: TlsCryptoInfo,
  desc: TlsCipherDesc,
): number {
  const aead = ctx.env.crypto.allocAead(desc.name, info.key)
  if (aead === null) return -ERRNO.ENOENT
  initCipherContext(ctx, tx, info)
  if (tx) {
    ;(ctx.swTx as TlsSwContextTx).aead = aead
    return 0
  }
  const rx = ctx.swRx as TlsSwContextRx
  rx.aead = aead
  // Models `tls_finish_key_update`: whoever polls learns that there may be more.
  rx.keyUpdatePending = false
  if (rx.savedDataReady !== null) rx.savedDataReady(cpu, ctx.sk)
  return 0
}

/** Models `tls_update_rx_zc_capable`: padding and types of TLS 1.3 are known only once it is decrypted. */
export function tlsUpdateRxZcCapable(ctx: TlsContext): void {
  ;(ctx.swRx as TlsSwContextRx).zcCapable = ctx.rxNoPad || ctx.prot.version !== TLS_1_3_VERSION
}

function initCtxTx(cpu: Cpu, ctx: TlsContext): number {
  const { env } = ctx
  const { mem } = env.socks
  const addr = kzalloc(mem, cpu, env.sizeOf('tls_sw_context_tx', CONTEXT_TX_BYTES), mem.gfp.GFP_KERNEL, 'init_ctx_tx')
  if (addr === NULL) return -ERRNO.ENOMEM
  ctx.swTx = new TlsSwContextTx()
  ctx.swTx.addr = addr
  return 0
}

function initCtxRx(cpu: Cpu, ctx: TlsContext): number {
  const { env } = ctx
  const { mem } = env.socks
  const addr = kzalloc(mem, cpu, env.sizeOf('tls_sw_context_rx', CONTEXT_RX_BYTES), mem.gfp.GFP_KERNEL, 'init_ctx_rx')
  if (addr === NULL) return -ERRNO.ENOMEM
  ctx.swRx = new TlsSwContextRx(env.socks.skbs)
  ctx.swRx.addr = addr
  return 0
}

function allocIvs(cpu: Cpu, ctx: TlsContext, tx: boolean, desc: TlsCipherDesc): boolean {
  const { mem } = ctx.env.socks
  const at = tx ? 0 : 2
  const gfp = mem.gfp.GFP_KERNEL
  ctx.ivAddrs[at] = kmalloc(mem, cpu, desc.ivBytes + desc.saltBytes, gfp, 'tls_set_sw_offload')
  if (ctx.ivAddrs[at] === NULL) return false
  ctx.ivAddrs[at + 1] = kmalloc(mem, cpu, 8, gfp, 'kmemdup')
  return ctx.ivAddrs[at + 1] !== NULL
}

function freeIvs(cpu: Cpu, ctx: TlsContext, tx: boolean): void {
  const at = tx ? 0 : 2
  for (let i = at; i < at + 2; i += 1) {
    kfree(ctx.env.socks.mem, cpu, ctx.ivAddrs[i]! as Addr, 'tls_sk_proto_cleanup')
    ctx.ivAddrs[i] = NULL
  }
}

// The end of a direction.

/** Models `tls_sw_cancel_work_tx`. */
export function tlsSwCancelWorkTx(ctx: TlsContext): void {
  const tx = ctx.swTx as TlsSwContextTx
  tx.closing = true
  if (tx.txWork !== 0) ctx.env.clock.cancel(tx.txWork)
  tx.txWork = 0
}

/** Models `tls_sw_release_resources_tx`: sends what TCP will take; the rest, and an open record, are lost. */
export function tlsSwReleaseResourcesTx(cpu: Cpu, task: Task, ctx: TlsContext): void {
  freeIvs(cpu, ctx, true)
  tlsFreeTxRecords(cpu, task, ctx)
  ;(ctx.swTx as TlsSwContextTx).aead = null
}

/** Models `tls_sw_free_ctx_tx`. */
export function tlsSwFreeCtxTx(cpu: Cpu, ctx: TlsContext): void {
  freeCtxTx(cpu, ctx)
}

function freeCtxTx(cpu: Cpu, ctx: TlsContext): void {
  kfree(ctx.env.socks.mem, cpu, (ctx.swTx as TlsSwContextTx).addr, 'tls_sw_free_ctx_tx')
  ctx.swTx = null
}

/** Models `tls_sw_strparser_arm`: from now on TCP tells us of bytes, and we tell the reader of records. */
export function tlsSwStrparserArm(sk: Sock, ctx: TlsContext): void {
  ;(ctx.swRx as TlsSwContextRx).savedDataReady = sk.dataReady
  sk.dataReady = tlsDataReady
}

/** Models `tls_sw_release_resources_rx`. */
export function tlsSwReleaseResourcesRx(cpu: Cpu, sk: Sock): void {
  const ctx = tlsGetCtx(sk)
  const rx = ctx.swRx as TlsSwContextRx
  freeIvs(cpu, ctx, false)
  skbQueuePurge(cpu, rx.rxList)
  rx.aead = null
  tlsStrpStop(rx.strp)
  if (rx.savedDataReady !== null) sk.dataReady = rx.savedDataReady
}

/** Models `tls_sw_strparser_done` and `tls_sw_free_ctx_rx`. */
export function tlsSwFreeCtxRx(cpu: Cpu, ctx: TlsContext): void {
  tlsStrpDone(cpu, ctx, (ctx.swRx as TlsSwContextRx).strp)
  freeCtxRx(cpu, ctx)
}

function freeCtxRx(cpu: Cpu, ctx: TlsContext): void {
  kfree(ctx.env.socks.mem, cpu, (ctx.swRx as TlsSwContextRx).addr, 'tls_sw_free_ctx_rx')
  ctx.swRx = null
}
