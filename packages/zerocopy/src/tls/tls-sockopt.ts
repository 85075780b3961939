/**
 * Options of level SOL_TLS: the keys of both directions, and two promises that a program can make.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import type { OptVal, Sock, Task } from '@netmem/sockmem'
import {
  getCipherDesc,
  parseCryptoInfo,
  TLS_1_2_VERSION,
  TLS_1_3_VERSION,
  TLS_CRYPTO_INFO_SIZE,
  type TlsCipherDesc,
  type TlsCryptoInfo,
  writeCryptoInfo,
  writeCryptoInfoHead,
} from './tls-ciphers.js'
import { TLS_BASE, TLS_HW, TLS_SW, type TlsContext, tlsGetCtx } from './tls-context.js'
import { tlsSetDeviceOffload } from './tls-device.js'
import { TLS_MIB, tlsIncStats } from './tls-env.js'
import { SOL_TLS } from './tls-record-type.js'
import { tlsSetSwOffload, tlsSwStrparserArm, tlsUpdateRxZcCapable, tlsUpdateSwKey } from './tls-set-sw.js'
import { tlsStrpCheckRcv, tlsStrpGiveBack } from './tls-strp.js'

/** Models `TLS_TX`: the option that hands over the keys of what is sent. */
export const TLS_TX = 1
export const TLS_RX = 2
export const TLS_TX_ZEROCOPY_RO = 3
export const TLS_RX_EXPECT_NO_PAD = 4

/** The bytes of an option's value. */
const bytesOf = (val: OptVal): Uint8Array =>
  new Uint8Array(val.words.buffer, val.words.byteOffset, val.words.byteLength)

/** Models `tls_setsockopt` (net/tls/tls_main.c). */
export function tlsSetsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number {
  const ctx = tlsGetCtx(sk)
  if (level !== SOL_TLS) return ctx.baseOps.setsockopt(cpu, task, sk, level, opt, val)
  const { transport } = ctx.env
  transport.lockSock(sk)
  const ret = doTlsSetsockopt(cpu, ctx, opt, val)
  transport.releaseSock(cpu, sk)
  return ret
}

function doTlsSetsockopt(cpu: Cpu, ctx: TlsContext, opt: number, val: OptVal): number {
  switch (opt) {
    case TLS_TX:
    case TLS_RX:
      return setConf(cpu, ctx, val, opt === TLS_TX)
    case TLS_TX_ZEROCOPY_RO:
      if (val.len !== 4 || val.words[0]! >>> 0 > 1) return -ERRNO.EINVAL
      ctx.zerocopySendfile = val.words[0] === 1
      return 0
    case TLS_RX_EXPECT_NO_PAD:
      return setNoPad(ctx, val)
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

/** Models `do_tls_setsockopt_no_pad`. */
function setNoPad(ctx: TlsContext, val: OptVal): number {
  if (ctx.prot.version !== TLS_1_3_VERSION || val.len < 4 || val.words[0]! >>> 0 > 1) return -ERRNO.EINVAL
  if (ctx.rxConf === TLS_BASE) return -ERRNO.EINVAL
  ctx.rxNoPad = val.words[0] === 1
  tlsUpdateRxZcCapable(ctx)
  return 0
}

/** Models `do_tls_setsockopt_conf`. */
function setConf(cpu: Cpu, ctx: TlsContext, val: OptVal, tx: boolean): number {
  const { sk, env } = ctx
  if (val.len < TLS_CRYPTO_INFO_SIZE) return -ERRNO.EINVAL
  const old = tx ? ctx.cryptoSend : ctx.cryptoRecv
  const rekeyError = tx ? TLS_MIB.TxRekeyError : TLS_MIB.RxRekeyError
  if (old !== null && !env.features.tlsRekey) return -ERRNO.EBUSY
  if (old !== null && old.version !== TLS_1_3_VERSION) {
    tlsIncStats(sk, rekeyError)
    return -ERRNO.EBUSY
  }
  const bytes = bytesOf(val)
  const version = bytes[0]! | (bytes[1]! << 8)
  const desc = getCipherDesc(bytes[2]! | (bytes[3]! << 8))
  let rc = -ERRNO.EINVAL
  if (desc !== null && val.len === desc.cryptoInfoBytes && acceptable(ctx, old, version, desc, tx)) {
    const info = parseCryptoInfo(bytes, desc)
    rc = old === null ? setKey(cpu, ctx, tx, info, desc) : updateKey(cpu, ctx, tx, info, desc)
  }
  if (rc !== 0 && old !== null) tlsIncStats(sk, rekeyError)
  return rc
}

/** Models `validate_crypto_info`: both directions speak the same, and a new key changes neither version nor cipher. */
function acceptable(
  ctx: TlsContext,
  old: TlsCryptoInfo | null,
  version: number,
  desc: TlsCipherDesc,
  tx: boolean,
): boolean {
  const same = (info: TlsCryptoInfo | null): boolean =>
    info === null || (info.version === version && info.cipherType === desc.type)
  if (old !== null) return same(old)
  if (version !== TLS_1_2_VERSION && version !== TLS_1_3_VERSION) return false
  if (desc.tls12Only && version !== TLS_1_2_VERSION) return false
  return same(tx ? ctx.cryptoRecv : ctx.cryptoSend)
}

/** The first key of a direction: the device's if it can, else the CPU's. */
function setKey(cpu: Cpu, ctx: TlsContext, tx: boolean, info: TlsCryptoInfo, desc: TlsCipherDesc): number {
  const { sk, env } = ctx
  if (tx && tlsSetDeviceOffload(cpu, ctx, info, desc) === 0) {
    tlsIncStats(sk, TLS_MIB.TxDevice)
    tlsIncStats(sk, TLS_MIB.CurrTxDevice)
    ctx.txConf = TLS_HW
  } else {
    // No device of this model decrypts what it receives.
    const rc = tlsSetSwOffload(cpu, ctx, tx, info, desc)
    if (rc !== 0) return rc
    tlsIncStats(sk, tx ? TLS_MIB.TxSw : TLS_MIB.RxSw)
    tlsIncStats(sk, tx ? TLS_MIB.CurrTxSw : TLS_MIB.CurrRxSw)
    if (tx) ctx.txConf = TLS_SW
    else ctx.rxConf = TLS_SW
  }
  if (tx) {
    ctx.cryptoSend = info
    env.updateSkProt(sk, ctx)
    ctx.skWriteSpace = sk.writeSpace
    sk.writeSpace = env.writeSpace
    return 0
  }
  ctx.cryptoRecv = info
  tlsSwStrparserArm(sk, ctx)
  env.updateSkProt(sk, ctx)
  tlsStrpCheckRcv(cpu, ctx)
  tlsStrpGiveBack(ctx)
  return 0
}

/** A further key of a direction (6.14 and later). */
function updateKey(cpu: Cpu, ctx: TlsContext, tx: boolean, info: TlsCryptoInfo, desc: TlsCipherDesc): number {
  if (tx && ctx.txConf === TLS_HW) return -ERRNO.ENOTSUP
  const rc = tlsUpdateSwKey(cpu, ctx, tx, info, desc)
  if (rc !== 0) return rc
  tlsIncStats(ctx.sk, tx ? TLS_MIB.TxRekeyOk : TLS_MIB.RxRekeyOk)
  if (tx) ctx.cryptoSend = info
  else {
    ctx.cryptoRecv = info
    tlsStrpCheckRcv(cpu, ctx)
    tlsStrpGiveBack(ctx)
  }
  return 0
}

/** Models `tls_getsockopt`. */
export function tlsGetsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number {
  const ctx = tlsGetCtx(sk)
  if (level !== SOL_TLS) return ctx.baseOps.getsockopt(cpu, task, sk, level, opt, val)
  switch (opt) {
    case TLS_TX:
    case TLS_RX:
      return getConf(ctx, val, opt === TLS_TX)
    case TLS_TX_ZEROCOPY_RO:
      if (val.len !== 4) return -ERRNO.EINVAL
      return giveInt(val, ctx.zerocopySendfile ? 1 : 0)
    case TLS_RX_EXPECT_NO_PAD:
      if (ctx.prot.version !== TLS_1_3_VERSION || val.len < 4 || ctx.rxConf === TLS_BASE) return -ERRNO.EINVAL
      return giveInt(val, ctx.rxNoPad ? 1 : 0)
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

function giveInt(val: OptVal, value: number): number {
  val.int = value
  val.words[0] = value
  val.len = 4
  return 0
}

/** Models `do_tls_getsockopt_conf`: version and cipher, or everything as it is now. */
function getConf(ctx: TlsContext, val: OptVal, tx: boolean): number {
  if (val.len < TLS_CRYPTO_INFO_SIZE) return -ERRNO.EINVAL
  const info = tx ? ctx.cryptoSend : ctx.cryptoRecv
  if (info === null) return -ERRNO.EBUSY
  const out = bytesOf(val)
  if (val.len === TLS_CRYPTO_INFO_SIZE) {
    writeCryptoInfoHead(info, out)
    return 0
  }
  const desc = getCipherDesc(info.cipherType) as TlsCipherDesc
  if (val.len !== desc.cryptoInfoBytes) return -ERRNO.EINVAL
  const cctx = tx ? ctx.tx : ctx.rx
  const iv = cctx.iv.slice(desc.saltBytes, desc.saltBytes + desc.ivBytes)
  writeCryptoInfo(info, desc, iv, cctx.recSeq, out)
  return 0
}
