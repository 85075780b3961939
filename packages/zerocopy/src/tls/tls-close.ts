/**
 * The end of a TLS socket: what TCP will not take any more is lost, keys and records go, and TCP gets its operations back.
 */
import type { Cpu } from '@netmem/base'
import { pageFragRelease } from '@netmem/page-frag'
import type { Sock, Task } from '@netmem/sockmem'
import { TLS_BASE, TLS_HW, TLS_SW, type TlsContext, tlsGetCtx } from './tls-context.js'
import { tlsCtxFree } from './tls-ctx-free.js'
import { tlsDeviceFreeResourcesTx } from './tls-device.js'
import { TLS_MIB, tlsDecStats } from './tls-env.js'
import {
  tlsSwCancelWorkTx,
  tlsSwFreeCtxRx,
  tlsSwFreeCtxTx,
  tlsSwReleaseResourcesRx,
  tlsSwReleaseResourcesTx,
} from './tls-set-sw.js'

/** Models `tls_sk_proto_close`: what TCP will not take any more is lost, an open record in any case. */
export function tlsSkProtoClose(cpu: Cpu, task: Task, sk: Sock): number {
  const ctx = tlsGetCtx(sk)
  const { env } = ctx
  if (ctx.txConf === TLS_SW) tlsSwCancelWorkTx(ctx)
  env.transport.lockSock(sk)
  tlsSkProtoCleanup(cpu, task, ctx)
  if (sk.writeSpace === env.writeSpace && ctx.skWriteSpace !== null) sk.writeSpace = ctx.skWriteSpace
  sk.ops = ctx.baseOps
  env.transport.releaseSock(cpu, sk)
  if (ctx.txConf === TLS_SW) tlsSwFreeCtxTx(cpu, ctx)
  if (ctx.rxConf === TLS_SW) tlsSwFreeCtxRx(cpu, ctx)
  // What the device may have to send again stays until the last packet is gone.
  if (ctx.txConf !== TLS_HW) sk.ulpData = null
  const ret = ctx.baseOps.release(cpu, task, sk)
  if (ctx.txConf !== TLS_HW) tlsCtxFree(cpu, ctx)
  pageFragRelease(env.socks.mem, cpu, env.kworker.taskFrag, 'tls_sk_proto_close')
  return ret
}

/** Models `tls_sk_proto_cleanup`. */
function tlsSkProtoCleanup(cpu: Cpu, task: Task, ctx: TlsContext): void {
  const { sk } = ctx
  if (ctx.txConf === TLS_SW) {
    tlsSwReleaseResourcesTx(cpu, task, ctx)
    tlsDecStats(sk, TLS_MIB.CurrTxSw)
  } else if (ctx.txConf === TLS_HW) {
    tlsDeviceFreeResourcesTx(cpu, task, ctx)
    tlsDecStats(sk, TLS_MIB.CurrTxDevice)
  }
  if (ctx.rxConf !== TLS_BASE) {
    tlsSwReleaseResourcesRx(cpu, sk)
    tlsDecStats(sk, TLS_MIB.CurrRxSw)
  }
}
