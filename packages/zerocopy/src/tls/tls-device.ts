/** Device offload. */
import { type Cpu, ERRNO } from '@netmem/base'
import type { Task } from '@netmem/sockmem'
import type { TlsCipherDesc, TlsCryptoInfo } from './tls-ciphers.js'
import type { TlsContext } from './tls-context.js'

/** Models `tls_set_device_offload` (net/tls/tls_device.c). @returns 0, or a negative errno: the CPU has to do it. */
export function tlsSetDeviceOffload(_cpu: Cpu, _ctx: TlsContext, _info: TlsCryptoInfo, _desc: TlsCipherDesc): number {
  return -ERRNO.ENOTSUP
}
export function tlsDeviceFreeResourcesTx(_cpu: Cpu, _task: Task, _ctx: TlsContext): void {}
export function tlsDeviceFreeCtxTx(_cpu: Cpu, _ctx: TlsContext): void {}
