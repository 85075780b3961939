/** The end of a socket over IP: what every such protocol checks and gives back last. */
import type { Cpu } from '@netmem/base'
import { skbQueuePurge } from '@netmem/skbuff'
import { type Sock, skMemReclaimFinal } from '@netmem/sockmem'

/**
 * Models `inet_sock_destruct` (net/ipv4/af_inet.c): purges the queues and returns forward allocation. What is then
 * still charged is a mistake that the kernel warns of.
 */
export function inetDestroySock(cpu: Cpu, sk: Sock): void {
  skbQueuePurge(cpu, sk.receiveQueue)
  skbQueuePurge(cpu, sk.errorQueue)
  skMemReclaimFinal(cpu, sk)
  const { trace } = sk.env
  if (trace.warn === null) return
  if (sk.rmemAlloc !== 0) trace.warn('inet_sock_destruct', `sk_rmem_alloc is ${sk.rmemAlloc}`)
  if (sk.wmemAlloc !== 0) trace.warn('inet_sock_destruct', `sk_wmem_alloc is ${sk.wmemAlloc}`)
  if (sk.wmemQueued !== 0) trace.warn('inet_sock_destruct', `sk_wmem_queued is ${sk.wmemQueued}`)
  if (sk.forwardAlloc !== 0) trace.warn('inet_sock_destruct', `sk_forward_alloc is ${sk.forwardAlloc}`)
}
