/**
 * Letting go of an skb. Which function is called says what the packet's end means: consumed, or dropped and
 * why. The difference is only what tracepoints print; the memory goes the same way.
 */
import { type Cpu, inHardirq, irqsDisabled } from '@netmem/base'
import { freePages } from '@netmem/memory'
import { consumedReason, type SkbDropReason } from './drop-reason.js'
import { napiSkbCachePush, napiSkbCachePut, thisCpuNapi } from './napi-skb-cache.js'
import { skbQueueTail } from './queue.js'
import { kfreeSkb, kfreeSkbmem, kfreeSkbUnchecked, skbReleaseAll, skbReleaseData, skbUnref } from './release.js'
import { SHINFO_DATAREF_WORD } from './shared-info.js'
import {
  SKB_CLONED,
  SKB_FCLONE_MASK,
  SKB_HAS_EXTENSIONS,
  SKB_HEAD_FRAG,
  SKB_NOHDR,
  SKB_PP_RECYCLE,
  SKB_SHINFO_USED,
  type SkBuff,
} from './sk-buff.js'

/** Flags that say whether a packet is a clone and nothing else that release must look at. */
const CLONE_MASK = SKB_CLONED | SKB_NOHDR | SKB_HAS_EXTENSIONS

/** Models `consume_skb` (net/core/skbuff.c): the packet did what it was for. */
export function consumeSkb(cpu: Cpu, skb: SkBuff, location: string): void {
  const env = skb.env
  // The usual end by hand (see `skb.clone` in the benchmarks): a clone whose data somebody else still has.
  if (
    (skb.flags & CLONE_MASK) === SKB_CLONED &&
    skb.users === 1 &&
    (skb.refdst | skb.destructor) === 0 &&
    env.trace.consumeSkb === null
  ) {
    const at = (skb.end >>> 2) + SHINFO_DATAREF_WORD
    const left = env.i32[at]! - 1
    if (left !== 0) {
      env.i32[at] = left
      kfreeSkbmem(cpu, skb, location)
      return
    }
  }
  consumeSkbSlow(cpu, skb, location)
}

function consumeSkbSlow(cpu: Cpu, skb: SkBuff, location: string): void {
  if (!skbUnref(skb)) return
  const trace = skb.env.trace
  if (trace.consumeSkb !== null) trace.consumeSkb(cpu, skb.addr, location)
  kfreeSkbUnchecked(cpu, skb, location)
}

/** A packet whose flags under this mask are just `SKB_HEAD_FRAG` is linear, in a page fragment of its own, never cloned. */
const PLAIN_MASK = SKB_HEAD_FRAG | SKB_CLONED | SKB_FCLONE_MASK | SKB_PP_RECYCLE | SKB_HAS_EXTENSIONS | SKB_SHINFO_USED

/**
 * Models `napi_consume_skb` (net/core/skbuff.c): as `consume_skb` from a poll; the head goes to the CPU's cache.
 *
 * @param budget of the poll that runs; 0 means that this is no poll (netpoll), so the cache may not be touched.
 */
export function napiConsumeSkb(cpu: Cpu, skb: SkBuff, budget: number, location = 'napi_consume_skb'): void {
  const env = skb.env
  // Release and put by hand for the usual packet (see `skb.hot` in the benchmarks), with its last holder.
  if (
    (skb.flags & PLAIN_MASK) === SKB_HEAD_FRAG &&
    skb.users === 1 &&
    budget !== 0 &&
    (skb.refdst | skb.destructor) === 0 &&
    env.trace.consumeSkb === null
  ) {
    const page = skb.headPage
    const left = env.refcount[page]! - 1
    if (left > 0) env.refcount[page] = left
    else freePages(env.mem, cpu, page, env.mem.pages.order[page]!, 'skb_release_data')
    if (__ASSERT__) skb.users = 0
    const nc = cpu === env.lastCpu ? env.lastNapi : thisCpuNapi(env, cpu)
    if (nc.hottest === null) nc.hottest = skb
    else napiSkbCachePush(env, cpu, nc, skb)
  } else napiConsumeSkbSlow(cpu, skb, budget, location)
}

function napiConsumeSkbSlow(cpu: Cpu, skb: SkBuff, budget: number, location: string): void {
  if (budget === 0) {
    devConsumeSkbAny(cpu, skb)
    return
  }
  if (!skbUnref(skb)) return
  const trace = skb.env.trace
  if (trace.consumeSkb !== null) trace.consumeSkb(cpu, skb.addr, location)
  if ((skb.flags & SKB_FCLONE_MASK) !== 0) kfreeSkbUnchecked(cpu, skb, location)
  else napiKfreeSkb(cpu, skb, consumedReason)
}

/** Models `__napi_kfree_skb` (net/core/skbuff.c): releases an skb whose references are gone; the head to the cache. */
export function napiKfreeSkb(cpu: Cpu, skb: SkBuff, reason: SkbDropReason): void {
  skbReleaseAll(cpu, skb, reason)
  if (__ASSERT__) skb.users = 0
  napiSkbCachePut(skb.env, cpu, skb)
}

/** Models `__consume_stateless_skb` (net/core/skbuff.c): head state is gone already; `users` is not looked at. */
export function consumeStatelessSkb(cpu: Cpu, skb: SkBuff, location: string): void {
  const env = skb.env
  if (env.trace.consumeSkb !== null) env.trace.consumeSkb(cpu, skb.addr, env.sites.statelessConsume ?? location)
  skbReleaseData(cpu, skb, 'CONSUMED')
  kfreeSkbmem(cpu, skb, location)
}

/** Models `dev_kfree_skb` (include/linux/netdevice.h), which is `consume_skb` by another name. */
export const devKfreeSkb = consumeSkb

/** Models `dev_kfree_skb_any_reason`: a device lets go in any context. */
export function devKfreeSkbAny(
  cpu: Cpu,
  skb: SkBuff,
  reason: SkbDropReason,
  location = 'dev_kfree_skb_any_reason',
): void {
  if (inHardirq(cpu) || irqsDisabled(cpu)) devKfreeSkbIrq(cpu, skb, reason)
  else kfreeSkb(cpu, skb, reason, location)
}

/** Models `dev_consume_skb_any`. */
export const devConsumeSkbAny = (cpu: Cpu, skb: SkBuff): void =>
  devKfreeSkbAny(cpu, skb, consumedReason, 'dev_kfree_skb_any_reason')

/** Models `dev_consume_skb_irq`. */
export const devConsumeSkbIrq = (cpu: Cpu, skb: SkBuff): void => devKfreeSkbIrq(cpu, skb, consumedReason)

/**
 * Models `dev_kfree_skb_irq_reason` (net/core/dev.c): nothing may be freed here, so the skb waits on the CPU's
 * completion queue until its transmit softirq runs (`netTxCompletion`). `cb0` keeps why: 1 consumed, 0 dropped.
 */
export function devKfreeSkbIrq(cpu: Cpu, skb: SkBuff, reason: SkbDropReason): void {
  if (skb.users === 1) skb.users = 0
  else {
    skb.users--
    if (skb.users !== 0) return
  }
  const env = skb.env
  skb.cb0 = reason === consumedReason ? 1 : 0
  env.irqReasons[skb.id] = reason
  skbQueueTail(env.completionQueue[cpu.id]!, skb)
  env.slots.raiseNetTxSoftirq(cpu)
}
