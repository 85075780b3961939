/** The end of a TCP socket: its queues, timers, port, counts; then its memory, once nobody holds it. */
import type { Cpu } from '@netmem/base'
import { skbQueueEmpty, skbQueuePurge } from '@netmem/skbuff'
import {
  SHUTDOWN_MASK,
  SOCKF_DEAD,
  type Sock,
  skErrorReport,
  skMemoryAllocated,
  skMemReclaimFinal,
  skProtMemLimits,
  skSocketsAllocatedDec,
  sockFlag,
  sockPut,
} from '@netmem/sockmem'
import { inetPutPort } from './inet-bind.js'
import { tcpOfoPurge } from './tcp-fin.js'
import { tcpDone } from './tcp-minisocks.js'
import { tcpWriteQueuePurge } from './tcp-queue.js'
import { tcpSk } from './tcp-sock.js'
import { tcpStopAllTimers } from './tcp-timer-arm.js'

/** Models `tcp_v4_destroy_sock` (net/ipv4/tcp_ipv4.c). */
export function tcpDestroySock(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  tcpStopAllTimers(tp)
  tcpWriteQueuePurge(cpu, sk)
  tcpOfoPurge(cpu, tp)
  if (tp.bindBucket !== null) inetPutPort(cpu, sk)
  skSocketsAllocatedDec(cpu, sk)
  tp.destroyed = true
}

/** Models `sk_stream_kill_queues` (net/core/stream.c). */
function skStreamKillQueues(cpu: Cpu, sk: Sock): void {
  skbQueuePurge(cpu, sk.receiveQueue, sk.env.skbs.dropReasonPurge, 'sk_stream_kill_queues')
  if (!skbQueueEmpty(sk.writeQueue)) sk.env.trace.warn?.('sk_stream_kill_queues', 'write queue not empty')
  skMemReclaimFinal(cpu, sk)
  if (sk.wmemQueued !== 0) sk.env.trace.warn?.('sk_stream_kill_queues', `wmem_queued ${sk.wmemQueued}`)
}

/** Models `inet_csk_destroy_sock` (net/ipv4/inet_connection_sock.c): drops the socket's own reference. */
export function inetCskDestroySock(cpu: Cpu, sk: Sock): void {
  tcpDestroySock(cpu, sk)
  skStreamKillQueues(cpu, sk)
  sk.proto.orphanCount!.value -= 1
  sockPut(cpu, sk)
}

/** Models `inet_sock_destruct` (net/ipv4/af_inet.c): the last reference is gone. */
export function tcpSockDestruct(cpu: Cpu, sk: Sock): void {
  skbQueuePurge(cpu, sk.receiveQueue)
  skbQueuePurge(cpu, sk.errorQueue)
  skMemReclaimFinal(cpu, sk)
  const trace = sk.env.trace
  if (sk.rmemAlloc !== 0) trace.warn?.('inet_sock_destruct', `rmem_alloc ${sk.rmemAlloc}`)
  if (sk.wmemAlloc !== 0) trace.warn?.('inet_sock_destruct', `wmem_alloc ${sk.wmemAlloc}`)
  if (sk.wmemQueued !== 0) trace.warn?.('inet_sock_destruct', `wmem_queued ${sk.wmemQueued}`)
  if (sk.forwardAlloc !== 0) trace.warn?.('inet_sock_destruct', `forward_alloc ${sk.forwardAlloc}`)
}

/** Models `inet_csk_prepare_forced_close`'s end: a child that was never hashed. */
export function inetCskDropChild(cpu: Cpu, child: Sock): void {
  child.flags |= SOCKF_DEAD
  child.proto.orphanCount!.value += 1
  tcpDone(cpu, child)
}

/** Models `tcp_check_oom`: too many orphans, or too much memory over the hard limit. */
export function tcpCheckOom(sk: Sock, shift: number): boolean {
  const orphans = sk.proto.orphanCount!.value
  if (orphans * 2 ** shift > tcpSk(sk).ctl.maxOrphans[0]!) return true
  return sk.wmemQueued > sk.env.minSndbuf && skMemoryAllocated(sk) > skProtMemLimits(sk, 2)
}

/** Models `tcp_write_queue_purge` and `tcp_done` together, as at the end of retries. */
export function tcpPurgeAndDone(cpu: Cpu, sk: Sock): void {
  tcpWriteQueuePurge(cpu, sk)
  tcpDone(cpu, sk)
}

/** Models `tcp_reset`'s end for a socket that dies with an error. */
export function tcpDieWith(cpu: Cpu, sk: Sock, err: number): void {
  sk.err = err
  tcpWriteQueuePurge(cpu, sk)
  tcpDone(cpu, sk)
  sk.shutdown = SHUTDOWN_MASK
  if (!sockFlag(sk, SOCKF_DEAD)) skErrorReport(cpu, sk)
}
