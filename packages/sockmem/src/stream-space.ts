/**
 * How much a stream may queue, when its writer is woken, and how the send buffer shrinks when memory is short.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  EPOLLOUT,
  EPOLLWRBAND,
  EPOLLWRNORM,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SOCK_SNDBUF_LOCK,
  SOCKF_NOSPACE,
} from './constants.js'
import type { Sock } from './sock.js'
import { skUnusedReservedMem } from './unused-reserved.js'

/** Models `sk_stream_moderate_sndbuf` (include/net/sock.h): halves the way to what is queued; a buffer set by the user stays. */
export function skStreamModerateSndbuf(sk: Sock): void {
  if ((sk.userlocks & SOCK_SNDBUF_LOCK) !== 0) return
  let bytes = Math.min(sk.sndbuf, sk.wmemQueued >> 1)
  bytes = Math.max(bytes, skUnusedReservedMem(sk))
  sk.sndbuf = Math.max(bytes, sk.env.minSndbuf)
}

/** Models `sk_stream_min_wspace`. Bytes. */
export const skStreamMinWspace = (sk: Sock): number => sk.wmemQueued >> 1

/** Models `sk_stream_wspace`: bytes left, below 0 when over. */
export const skStreamWspace = (sk: Sock): number => sk.sndbuf - sk.wmemQueued

/** Models `sk_wmem_queued_add`. */
export function skWmemQueuedAdd(sk: Sock, bytes: number): void {
  sk.wmemQueued += bytes
}

/** Models `__sk_stream_memory_free`: room in the send buffer, and by the protocol's own rule (`tcp_stream_memory_free`). */
export function skStreamMemoryFreeWake(sk: Sock, wake: number): boolean {
  if (sk.wmemQueued >= sk.sndbuf) return false
  const rule = sk.proto.streamMemoryFree
  return rule === null || rule(sk, wake)
}

/** Models `sk_stream_memory_free`. */
export const skStreamMemoryFree = (sk: Sock): boolean => skStreamMemoryFreeWake(sk, 0)

/** Models `__sk_stream_is_writeable`: at most two thirds full. */
export const skStreamIsWriteableWake = (sk: Sock, wake: number): boolean =>
  skStreamWspace(sk) >= skStreamMinWspace(sk) && skStreamMemoryFreeWake(sk, wake)

/** Models `sk_stream_is_writeable`. */
export const skStreamIsWriteable = (sk: Sock): boolean => skStreamIsWriteableWake(sk, 0)

/** Models `sk_stream_write_space` (net/core/stream.c). */
export function skStreamWriteSpace(cpu: Cpu, sk: Sock): void {
  if (sk.socket === 0 || !skStreamIsWriteableWake(sk, 1)) return
  sk.flags &= ~SOCKF_NOSPACE
  if (sk.env.wake !== null) sk.env.wake(cpu, sk, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
}

/**
 * Models `sk_stream_wait_memory` (net/core/stream.c) for a caller that does not block. Tasks here never sleep inside
 * a call: whoever wants to block lets virtual time run and calls again.
 *
 * @returns -EPIPE when nothing can be sent any more, else -EAGAIN.
 */
export function skStreamWaitMemory(sk: Sock): number {
  if (sk.err !== 0 || (sk.shutdown & SEND_SHUTDOWN) !== 0) return -ERRNO.EPIPE
  sk.flags |= SOCKF_NOSPACE
  return -ERRNO.EAGAIN
}

/** Models `sk_stream_error` (net/core/stream.c): an error waiting on the socket goes before EPIPE. */
export function skStreamError(sk: Sock, err: number): number {
  if (err !== -ERRNO.EPIPE) return err
  const waiting = sk.err
  if (waiting === 0) return -ERRNO.EPIPE
  sk.err = 0
  return -waiting
}

/** Models the tail of `sk_stream_wait_connect`'s test: whether the peer or the user closed a direction. */
export const skIsShutdown = (sk: Sock): boolean => (sk.shutdown & (RCV_SHUTDOWN | SEND_SHUTDOWN)) !== 0
