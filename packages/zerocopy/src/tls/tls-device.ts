/**
 * Device offload of sending: the records go to TCP as plain text with room for their tags, and the card encrypts
 * them on their way to the cable. The kernel keeps every record until it is acknowledged, because the card may
 * have to be told about one again.
 *
 * Differs: no software fallback for packets that leave by another device after a change of routes.
 */
import { type Cpu, ERRNO, NULL, type Pfn } from '@netmem/base'
import { kfree, kmalloc, kzalloc, putPage } from '@netmem/memory'
import type { Sock, Task } from '@netmem/sockmem'
import { IFF_UP, NETIF_F_HW_TLS_TX } from '@netmem/virtual-nic'
import { skMsgInit } from './sk-msg.js'
import { TLS_1_2_VERSION, type TlsCipherDesc, type TlsCryptoInfo } from './tls-ciphers.js'
import { type TlsContext, tlsGetCtx } from './tls-context.js'
import { tlsCtxFree } from './tls-ctx-free.js'
import { TlsDeviceContextTx, type TlsRecordInfo } from './tls-device-context.js'
import { tlsDevicePushPendingRecord } from './tls-device-send.js'
import { tlsFreePartialRecord } from './tls-push.js'
import { initProtInfo } from './tls-set-sw.js'

/** Bytes of `struct tls_offload_context_tx` with the driver's part, and of `struct tls_record_info`, from their definitions. */
const OFFLOAD_CONTEXT_BYTES = 688
export const TLS_RECORD_INFO_BYTES = 320

/**
 * Models `tls_set_device_offload` (net/tls/tls_device.c).
 *
 * @returns 0, or a negative errno: the CPU has to do it then. -EOPNOTSUPP when the device cannot, or for TLS 1.3.
 */
export function tlsSetDeviceOffload(cpu: Cpu, ctx: TlsContext, info: TlsCryptoInfo, desc: TlsCipherDesc): number {
  const { sk, env } = ctx
  const netdev = env.transport.netdevFor(sk)
  if (netdev === null) return -ERRNO.EINVAL
  if ((netdev.features & NETIF_F_HW_TLS_TX) === 0 || netdev.tlsdevOps === null) return -ERRNO.ENOTSUP
  if (info.version !== TLS_1_2_VERSION) return -ERRNO.ENOTSUP
  if (!desc.offloadable || (netdev.flags & IFF_UP) === 0) return -ERRNO.EINVAL
  const aead = env.crypto.allocAead(desc.name, info.key)
  if (aead === null) return -ERRNO.ENOENT
  const { mem } = env.socks
  const gfp = mem.gfp.GFP_KERNEL
  const device = new TlsDeviceContextTx(netdev, aead)
  device.addr = kzalloc(mem, cpu, OFFLOAD_CONTEXT_BYTES, gfp, 'alloc_offload_ctx_tx')
  if (device.addr === NULL) return -ERRNO.ENOMEM
  device.markerAddr = kmalloc(mem, cpu, TLS_RECORD_INFO_BYTES, gfp, 'tls_set_device_offload')
  if (device.markerAddr === NULL) {
    kfree(mem, cpu, device.addr, 'tls_set_device_offload')
    return -ERRNO.ENOMEM
  }
  initProtInfo(ctx.prot, info.version, desc)
  ctx.tx.iv.set(info.salt)
  ctx.tx.iv.set(info.iv, info.salt.length)
  ctx.tx.recSeq.set(info.recSeq)
  // No packet holds both what was sent as it is and what is to be encrypted.
  env.transport.writeCollapseFence(sk)
  device.startMarker = env.transport.writeSeq(sk)
  device.expectedSeq = device.startMarker
  const err = netdev.tlsdevOps.tlsDevAdd(ctx)
  if (err !== 0) {
    freeDevice(cpu, ctx, device)
    return err
  }
  ctx.device = device
  ctx.pushPendingRecord = tlsDevicePushPendingRecord
  device.skDestruct = sk.destruct
  sk.destruct = tlsDeviceSkDestruct
  env.transport.cleanAcked(sk, tlsTcpCleanAcked)
  return 0
}

/** Models `destroy_record`. */
function destroyRecord(cpu: Cpu, ctx: TlsContext, record: TlsRecordInfo, site: string): void {
  const { mem } = ctx.env.socks
  for (let i = 0; i < record.msg.end; i += 1) putPage(mem, cpu, record.msg.pfns[i]! as Pfn, site)
  skMsgInit(record.msg)
  kfree(mem, cpu, record.addr, site)
}

/** Models `tls_tcp_clean_acked`: what the peer has will not be sent again. */
function tlsTcpCleanAcked(cpu: Cpu, sk: Sock, acked: number): void {
  const ctx = tlsGetCtx(sk)
  const list = (ctx.device as TlsDeviceContextTx).recordsList
  let done = 0
  while (done < list.length && ((list[done]!.endSeq - acked) | 0) <= 0) {
    destroyRecord(cpu, ctx, list[done]!, 'tls_tcp_clean_acked')
    done += 1
  }
  if (done > 0) list.splice(0, done)
}

/** Throws the open record away, as after an error in one that is no data. */
export function tlsDeviceDropOpenRecord(cpu: Cpu, ctx: TlsContext): void {
  const device = ctx.device as TlsDeviceContextTx
  const record = device.openRecord
  if (record === null) return
  device.openRecord = null
  destroyRecord(cpu, ctx, record, 'destroy_record')
}

/** Models `tls_device_free_resources_tx`: the user has closed; what TCP has is still the card's business. */
export function tlsDeviceFreeResourcesTx(cpu: Cpu, _task: Task, ctx: TlsContext): void {
  tlsFreePartialRecord(cpu, ctx)
  ctx.closed = true
}

/** Models `tls_device_sk_destruct` and `tls_device_tx_del_task`: the last packet is gone. */
function tlsDeviceSkDestruct(cpu: Cpu, sk: Sock): void {
  const ctx = tlsGetCtx(sk)
  const device = ctx.device as TlsDeviceContextTx
  device.skDestruct(cpu, sk)
  tlsDeviceDropOpenRecord(cpu, ctx)
  for (const record of device.recordsList) destroyRecord(cpu, ctx, record, 'delete_all_records')
  device.recordsList.length = 0
  device.netdev.tlsdevOps?.tlsDevDel(ctx)
  freeDevice(cpu, ctx, device)
  ctx.device = null
  sk.ulpData = null
  tlsCtxFree(cpu, ctx)
}

function freeDevice(cpu: Cpu, ctx: TlsContext, device: TlsDeviceContextTx): void {
  const { mem } = ctx.env.socks
  kfree(mem, cpu, device.markerAddr, 'tls_device_free_ctx')
  kfree(mem, cpu, device.addr, 'tls_device_free_ctx')
}
