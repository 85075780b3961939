/** Taking packets out of TCP's queues for good: each with the accounting that it ends. */
import type { Cpu } from '@netmem/base'
import {
  kfreeSkbUnchecked,
  SKBFL_PURE_ZEROCOPY,
  type SkBuff,
  shinfoFlags,
  skbDequeue,
  skbEndOffset,
  skbTruesize,
  skbUnlink,
} from '@netmem/skbuff'
import { type Sock, skMemUncharge, skWmemQueuedAdd } from '@netmem/sockmem'
import { tcpSk } from './tcp-sock.js'

/** Models `skb_zcopy_pure`: its payload was never charged. */
export const skbZcopyPure = (skb: SkBuff): boolean => (shinfoFlags(skb) & SKBFL_PURE_ZEROCOPY) !== 0

/**
 * Models `tcp_wmem_free_skb`: a packet that was queued for sending is done.
 *
 * @param site the kernel function that the free is inlined into.
 */
export function tcpWmemFreeSkb(cpu: Cpu, sk: Sock, skb: SkBuff, site: string): void {
  skWmemQueuedAdd(sk, -skb.truesize)
  if (skbZcopyPure(skb)) skMemUncharge(cpu, sk, skbTruesize(skb.env.sizes, skbEndOffset(skb)))
  else skMemUncharge(cpu, sk, skb.truesize)
  kfreeSkbUnchecked(cpu, skb, site)
}

/** Models `tcp_rtx_queue_unlink_and_free`. */
export function tcpRtxQueueUnlinkAndFree(cpu: Cpu, sk: Sock, skb: SkBuff, site: string): void {
  skbUnlink(tcpSk(sk).rtxQueue, skb)
  tcpWmemFreeSkb(cpu, sk, skb, site)
}

/** Models `tcp_write_queue_purge` (net/ipv4/tcp.c): the connection ends, nothing more is sent. */
export function tcpWriteQueuePurge(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  for (let skb = skbDequeue(sk.writeQueue); skb !== null; skb = skbDequeue(sk.writeQueue))
    tcpWmemFreeSkb(cpu, sk, skb, 'tcp_write_queue_purge')
  tcpRtxQueuePurge(cpu, sk)
  tp.highestSack = 0
  tp.retransmitSkbHint = 0
  tp.packetsOut = 0
  tp.sackedOut = 0
  tp.lostOut = 0
  tp.retransOut = 0
  tp.backoff = 0
}

/** Models `tcp_rtx_queue_purge`. */
function tcpRtxQueuePurge(cpu: Cpu, sk: Sock): void {
  const queue = tcpSk(sk).rtxQueue
  for (let skb = skbDequeue(queue); skb !== null; skb = skbDequeue(queue))
    tcpWmemFreeSkb(cpu, sk, skb, 'tcp_write_queue_purge')
}
