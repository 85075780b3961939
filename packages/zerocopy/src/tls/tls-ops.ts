/**
 * The operations of a TLS socket, in front of TCP's: which of them are TLS's own depends on what is set for either
 * direction, so there is a table of them for each TCP below (`tls_prots` and `tls_proto_ops`).
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { EPOLLIN, EPOLLRDNORM, RCV_SHUTDOWN, type Sock, type SockOps, TCP_ESTABLISHED } from '@netmem/sockmem'
import { tlsSkProtoClose } from './tls-close.js'
import {
  TLS_BASE,
  TLS_HW,
  TLS_SW,
  type TlsConf,
  type TlsContext,
  type TlsSwContextRx,
  tlsGetCtx,
} from './tls-context.js'
import { tlsDeviceSendmsg, tlsDeviceSendpage, tlsDeviceSpliceEof, tlsDeviceWriteSpace } from './tls-device-send.js'
import type { TlsEnv } from './tls-env.js'
import { tlsSwWriteSpace } from './tls-push.js'
import { tlsGetsockopt, tlsSetsockopt } from './tls-sockopt.js'
import { tlsSwRecvmsg, tlsSwSockIsReadable, tlsSwSpliceRead } from './tls-sw-recv.js'
import { tlsSwSendmsg, tlsSwSendpage, tlsSwSpliceEof } from './tls-sw-send.js'

/** Models `update_sk_prot` (net/tls/tls_main.c). */
export function tlsUpdateSkProt(sk: Sock, ctx: TlsContext): void {
  let table = ctx.env.opsTables.get(ctx.baseOps)
  if (table === undefined) {
    table = buildProtos(ctx.env, ctx.baseOps)
    ctx.env.opsTables.set(ctx.baseOps, table)
  }
  sk.ops = table[ctx.txConf * 3 + ctx.rxConf]!
}

/** Models `build_protos` and `build_proto_ops`. */
function buildProtos(env: TlsEnv, base: SockOps): SockOps[] {
  const table: SockOps[] = []
  for (const tx of [TLS_BASE, TLS_SW, TLS_HW] as const)
    for (const rx of [TLS_BASE, TLS_SW, TLS_HW] as const) table.push(buildOps(env, base, tx, rx))
  return table
}

function buildOps(env: TlsEnv, base: SockOps, tx: TlsConf, rx: TlsConf): SockOps {
  const ops: SockOps = {
    ...base,
    name: 'tls',
    setsockopt: tlsSetsockopt,
    getsockopt: tlsGetsockopt,
    release: tlsSkProtoClose,
    // Models `tls_disconnect`: keys belong to one connection.
    connect: (cpu, task, sk, addr, flags) =>
      addr.family === 0 ? -ERRNO.ENOTSUP : base.connect(cpu, task, sk, addr, flags),
  }
  if (tx === TLS_SW)
    Object.assign(ops, {
      sendmsg: tlsSwSendmsg,
      ...(env.features.sendpage ? { sendpage: tlsSwSendpage } : { spliceEof: tlsSwSpliceEof }),
    })
  if (tx === TLS_HW)
    Object.assign(ops, {
      sendmsg: tlsDeviceSendmsg,
      ...(env.features.sendpage ? { sendpage: tlsDeviceSendpage } : { spliceEof: tlsDeviceSpliceEof }),
    })
  if (rx !== TLS_BASE)
    Object.assign(ops, {
      recvmsg: tlsSwRecvmsg,
      spliceRead: tlsSwSpliceRead,
      poll: env.features.tlsPoll ? tlsSkPoll : tlsPollReadable,
    })
  return ops
}

/** Models `tcp_poll` with `sk_is_readable`, before TLS had a poll of its own: bytes of half a record are readable too. */
function tlsPollReadable(cpu: Cpu, sk: Sock): number {
  const mask = tlsGetCtx(sk).baseOps.poll(cpu, sk)
  return tlsSwSockIsReadable(sk) ? mask | EPOLLIN | EPOLLRDNORM : mask
}

/** Models `tls_sk_poll`: readable with a whole record, and not while a new key is awaited. */
function tlsSkPoll(cpu: Cpu, sk: Sock): number {
  const ctx = tlsGetCtx(sk)
  const mask = tlsPollReadable(cpu, sk)
  if (sk.state !== TCP_ESTABLISHED || (sk.shutdown & RCV_SHUTDOWN) !== 0) return mask
  const rx = ctx.swRx as TlsSwContextRx
  return !tlsSwSockIsReadable(sk) || rx.keyUpdatePending ? mask & ~(EPOLLIN | EPOLLRDNORM) : mask
}

/** Models `tls_write_space`: TCP has room again, for what is encrypted and for writers. */
export function tlsWriteSpace(cpu: Cpu, sk: Sock): void {
  const ctx = tlsGetCtx(sk)
  if (!ctx.splicingPages) {
    if (ctx.txConf === TLS_HW) tlsDeviceWriteSpace(cpu, ctx)
    else if (ctx.txConf === TLS_SW) tlsSwWriteSpace(cpu, ctx)
  }
  if (ctx.skWriteSpace !== null) ctx.skWriteSpace(cpu, sk)
}
