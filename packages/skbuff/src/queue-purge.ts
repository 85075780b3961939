/** Emptying a queue for good. */
import type { Cpu } from '@netmem/base'
import type { SkbDropReason } from './drop-reason.js'
import { type SkbQueue, skbDequeue, skbQueueHeadInit } from './queue.js'
import { kfreeSkb, kfreeSkbListReason } from './release.js'

/**
 * Models `skb_queue_purge_reason` (net/core/skbuff.c) and `skb_queue_purge`: frees everything in order.
 * 6.18 empties the list first and frees it as one.
 */
export function skbQueuePurge(
  cpu: Cpu,
  list: SkbQueue,
  reason: SkbDropReason = list.env.dropReasonPurge,
  location = list.env.sites.queuePurge,
): void {
  const env = list.env
  if (env.profile.features.skbSmallHeadCache) {
    const first = list.first
    skbQueueHeadInit(list)
    kfreeSkbListReason(cpu, env, first, reason, location)
  } else for (let skb = skbDequeue(list); skb !== null; skb = skbDequeue(list)) kfreeSkb(cpu, skb, reason, location)
}
