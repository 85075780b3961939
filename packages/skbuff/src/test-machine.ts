/** A small machine with skbs, for tests of this package and those above it. */

import { trackAllocations } from '@netmem/memory'
import type { TestMachine } from '@netmem/memory/testing'
import { assertNoLeaks, auditMemory, testMachine } from '@netmem/memory/testing'
import { pageFragCacheDrain } from '@netmem/page-frag'
import type { PagePools } from '@netmem/page-pool'
import { assertSkbsQuiescent, auditSkbs } from './audit.js'
import { eachChunk } from './datagram.js'
import { type SkbSlots, type Skbuffs, skbInit } from './env.js'
import { napiSkbCacheResize } from './napi-skb-cache.js'
import { napiSlicesDrain } from './napi-slices.js'
import type { SkBuff } from './sk-buff.js'

/** What a test gets. */
export interface SkbTestMachine extends TestMachine {
  readonly env: Skbuffs
  /** Runs the audits of skbs and memory. */
  audit(): void
  /** Empties the per-CPU caches and proves that nothing is left. */
  finish(): void
}

/** Makes a machine of 64 MiB and 2 CPUs in softirq context, the reference kernel unless told otherwise. */
export function skbTestMachine(
  options: {
    profile?: string
    bytes?: number
    cpus?: number
    nodes?: number
    slots?: Partial<SkbSlots>
    pagePools?: (machine: TestMachine) => PagePools
    skbDeferMax?: number
  } = {},
): SkbTestMachine {
  const machine = testMachine(options)
  const { mem, trace, profile, cpus } = machine
  const env = skbInit({
    mem,
    cpus: cpus.length,
    nodes: options.nodes ?? 1,
    trace,
    profile,
    pagePools: options.pagePools?.(machine) ?? null,
    slots: options.slots ?? {},
    ...(options.skbDeferMax === undefined
      ? {}
      : { sysctl: { skbDeferMax: () => options.skbDeferMax!, maxSkbFrags: () => profile.MAX_SKB_FRAGS } }),
  })
  for (const cpu of cpus) {
    cpu.bhDisabled = 1
    cpu.servingSoftirq = 1
  }
  trackAllocations(mem)
  return {
    ...machine,
    env,
    audit() {
      auditSkbs(env)
      auditMemory(mem)
    },
    finish() {
      assertSkbsQuiescent(env)
      for (const cpu of cpus) {
        napiSkbCacheResize(env, cpu, 0)
        pageFragCacheDrain(env.fragCaches.napi[cpu.id]!, cpu)
        pageFragCacheDrain(env.fragCaches.netdev[cpu.id]!, cpu)
        napiSlicesDrain(env, cpu, env.napi[cpu.id]!)
      }
      auditMemory(mem)
      assertNoLeaks(mem)
    },
  }
}

/** @returns a copy of a packet's bytes, wherever they lie, for the host. */
export function readSkb(skb: SkBuff): Uint8Array {
  const bytes = new Uint8Array(skb.len)
  let at = 0
  eachChunk(skb, 0, skb.len, (from, count) => {
    bytes.set(skb.env.u8.subarray(from >>> 0, (from >>> 0) + count), at)
    at += count
  })
  return bytes
}
