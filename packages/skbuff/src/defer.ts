/**
 * Freeing far from home. An skb that another CPU allocated is sent back to that CPU, whose caches it warms,
 * instead of being freed here; and what may not be freed in a hard interrupt waits for the transmit softirq.
 */
import type { Cpu } from '@netmem/base'
import { consumedReason, type SkbDropReason } from './drop-reason.js'
import type { Skbuffs } from './env.js'
import { napiConsumeSkb, napiKfreeSkb } from './free.js'
import { skbDequeue } from './queue.js'
import { kfreeSkbUnchecked, traceDrop } from './release.js'
import { SKB_FCLONE_MASK, type SkBuff } from './sk-buff.js'

/**
 * Models `skb_attempt_defer_free` (net/core/skbuff.c). Takes the caller's reference, which must be the last
 * (`users` 1). Emits neither `consume_skb` nor, where the head goes to the napi cache, a free of the head.
 *
 * 6.18 counts first and never takes the count back, so a full list stays closed until its flush; 6.1 compares
 * before it counts.
 *
 * @param location the caller's name, for the head's free event.
 */
export function skbAttemptDeferFree(cpu: Cpu, skb: SkBuff, location: string): void {
  const env = skb.env
  const home = skb.allocCpu
  if (home === cpu.id || home >= env.deferNodes.length || !env.slots.cpuOnline(home)) {
    kfreeSkbNapiCache(cpu, skb, location)
    return
  }
  const lockless = env.profile.features.skbDeferLockless
  const node = env.deferNodes[home]![lockless ? cpu.node : 0]!
  const max = env.sysctl.skbDeferMax()
  const before = node.count
  if (lockless ? before + 1 > max : before >= max) {
    if (lockless) node.count = before + 1
    kfreeSkbNapiCache(cpu, skb, location)
    return
  }
  node.count = before + 1
  // Both kernels push at the front of a plain list, so what came last is freed first.
  skb.next = node.first
  node.first = skb.id
  if (before !== max >> 1 || node.ipiScheduled) return
  node.ipiScheduled = true
  env.slots.kickDeferListPurge(cpu, home)
}

/**
 * Models `skb_defer_free_flush` (net/core/dev.c): this CPU frees what others sent home. Called by the receive
 * softirq and by busy polling.
 */
export function skbDeferFreeFlush(cpu: Cpu, env: Skbuffs): void {
  for (const node of env.deferNodes[cpu.id]!) {
    if (node.first === 0) continue
    let id = node.first
    node.first = 0
    node.count = 0
    node.ipiScheduled = false
    while (id !== 0) {
      const skb = env.skbs[id]!
      id = skb.next
      napiConsumeSkb(cpu, skb, 1)
    }
  }
}

/**
 * Models `kfree_skb_napi_cache` (net/core/skbuff.c): free here and now, the head to this CPU's napi cache.
 * 6.1 has no such way out and frees the head to its slab.
 */
export function kfreeSkbNapiCache(cpu: Cpu, skb: SkBuff, location: string): void {
  if ((skb.flags & SKB_FCLONE_MASK) !== 0 || !skb.env.profile.features.udpDefersSkbFree) {
    kfreeSkbUnchecked(cpu, skb, location)
    return
  }
  cpu.bhDisabled++
  napiKfreeSkb(cpu, skb, consumedReason)
  cpu.bhDisabled--
}

/**
 * Models the first half of `net_tx_action` (net/core/dev.c): frees the CPU's completion queue.
 *
 * Tracepoints name `net_tx_action`; heads go to the napi cache, as that is where the softirq runs.
 */
export function netTxCompletion(cpu: Cpu, env: Skbuffs): void {
  const list = env.completionQueue[cpu.id]!
  for (let skb = skbDequeue(list); skb !== null; skb = skbDequeue(list)) {
    const reason = env.irqReasons[skb.id] as SkbDropReason
    traceDrop(cpu, skb, reason, 'net_tx_action', 0)
    skb.users = 1
    if ((skb.flags & SKB_FCLONE_MASK) !== 0) kfreeSkbUnchecked(cpu, skb, 'net_tx_action')
    else napiKfreeSkb(cpu, skb, reason)
  }
}
