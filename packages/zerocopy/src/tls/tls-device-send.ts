import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import type { Msg, Sock, Task } from '@netmem/sockmem'
import type { TlsContext } from './tls-context.js'
export function tlsDeviceSendmsg(_cpu: Cpu, _task: Task, _sk: Sock, _msg: Msg): number {
  return -ERRNO.ENOTSUP
}
export function tlsDeviceSendpage(
  _cpu: Cpu,
  _task: Task,
  _sk: Sock,
  _page: Pfn,
  _offset: number,
  _bytes: number,
  _flags: number,
): number {
  return -ERRNO.ENOTSUP
}
export function tlsDeviceSpliceEof(_cpu: Cpu, _task: Task, _sk: Sock): void {}
export function tlsDeviceWriteSpace(_cpu: Cpu, _ctx: TlsContext): void {}
