/** Emptying a queue for good. */
import type { Cpu } from '@netmem/base'
import type { SkbDropReason } from './drop-reason.js'
import { type SkbQueue, skbDequeue } from './queue.js'
import { kfreeSkb } from './release.js'

/** Models `skb_queue_purge_reason` (net/core/skbuff.c) and `skb_queue_purge`: frees everything in order, one by one. */
export function skbQueuePurge(
  cpu: Cpu,
  list: SkbQueue,
  reason: SkbDropReason = list.env.dropReasonPurge,
  location = list.env.sites.queuePurge,
): void {
  for (let skb = skbDequeue(list); skb !== null; skb = skbDequeue(list)) kfreeSkb(cpu, skb, reason, location)
}
