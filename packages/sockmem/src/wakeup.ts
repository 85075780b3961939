/**
 * The callbacks that a socket calls when something happens to it. The plain ones here tell the machine's
 * wake slot; protocols put their own in their sockets.
 */
import type { Cpu } from '@netmem/base'
import { EPOLLERR, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDNORM, EPOLLWRBAND, EPOLLWRNORM } from './constants.js'
import type { Sock } from './sock.js'

/** Models `sock_def_readable` (net/core/sock.c). */
export function sockDefReadable(cpu: Cpu, sk: Sock): void {
  if (sk.env.wake !== null) sk.env.wake(cpu, sk, EPOLLIN | EPOLLPRI | EPOLLRDNORM)
}

/** Models `sock_writeable` (include/net/sock.h): less than half of the send buffer is in flight. */
export const sockWriteable = (sk: Sock): boolean => sk.wmemAlloc < sk.sndbuf >> 1

/** Models `sock_def_write_space` (net/core/sock.c): a writer is woken only when it can make real progress. */
export function sockDefWriteSpace(cpu: Cpu, sk: Sock): void {
  if (sk.env.wake !== null && sockWriteable(sk)) sk.env.wake(cpu, sk, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
}

/** Models `sock_def_error_report` (net/core/sock.c). */
export function sockDefErrorReport(cpu: Cpu, sk: Sock): void {
  if (sk.env.wake !== null) sk.env.wake(cpu, sk, EPOLLERR)
}

/** Models `sock_def_wakeup` (net/core/sock.c). */
export function sockDefWakeup(cpu: Cpu, sk: Sock): void {
  if (sk.env.wake !== null) sk.env.wake(cpu, sk, 0)
}

/** Models `sock_def_destruct` (net/core/sock.c): nothing to do. */
export function sockDefDestruct(_cpu: Cpu, _sk: Sock): void {}

/** Models `sk_error_report`. */
export function skErrorReport(cpu: Cpu, sk: Sock): void {
  sk.errorReport(cpu, sk)
}
