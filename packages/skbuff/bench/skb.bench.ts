/**
 * The life of an skb, measured. `setup` makes a machine, `run(n)` lives `n` lives and returns a checksum of its
 * work. Every case allocates a received packet of the 1500-byte class as a driver's poll does: head from the
 * napi cache, data from the napi page fragments.
 */
import { Cpu, kernelProfile, Trace } from '@netmem/base'
import { memoryCreate } from '@netmem/memory'
import {
  allocSkbFclone,
  consumeSkb,
  napiAllocSkb,
  napiConsumeSkb,
  type SkBuff,
  type Skbuffs,
  skbChecksum,
  skbClone,
  skbInit,
  skbPut,
} from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const BYTES = 1500
const WINDOW = 1024

class Bench {
  readonly cpu = new Cpu(0, 0)
  readonly env: Skbuffs

  constructor() {
    const profile = kernelProfile('linux-6.18-x86_64')
    const trace = new Trace()
    const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 2, trace })
    this.env = skbInit({ mem, cpus: 2, trace, profile })
    this.cpu.bhDisabled = 1
    this.cpu.servingSoftirq = 1
  }

  skb(): SkBuff {
    const skb = napiAllocSkb(this.env, this.cpu, 1, BYTES)
    if (skb === null) throw new Error('bench: out of memory')
    return skb
  }
}

const hot = (): BenchCase => {
  let bench: Bench
  return {
    unit: 'ns/op',
    setup: () => {
      bench = new Bench()
    },
    run(n) {
      const { env, cpu } = bench
      let sum = 0
      for (let i = 0; i < n; i++) {
        const skb = napiAllocSkb(env, cpu, 1, BYTES)!
        sum ^= skb.data
        napiConsumeSkb(cpu, skb, 64)
      }
      return sum
    },
  }
}

/** First in, first out over `WINDOW` live skbs: what a busy receive ring does. */
const window = (): BenchCase => {
  let bench: Bench
  const live: SkBuff[] = []
  let at = 0
  return {
    unit: 'ns/op',
    setup: () => {
      bench = new Bench()
      live.length = 0
      at = 0
      for (let i = 0; i < WINDOW; i++) live.push(bench.skb())
    },
    run(n) {
      const { env, cpu } = bench
      const words = env.i32
      const ring = live
      let slot = at
      let sum = 0
      for (let i = 0; i < n; i++) {
        napiConsumeSkb(cpu, ring[slot]!, 64)
        const skb = napiAllocSkb(env, cpu, 1, BYTES)!
        words[skb.data >>> 2] = i
        sum ^= skb.data
        ring[slot] = skb
        slot = (slot + 1) & (WINDOW - 1)
      }
      at = slot
      return sum
    },
  }
}

/** 32 allocations, then 32 frees: the head cache fills and drains, and the slab is not asked. */
const burst = (): BenchCase => {
  let bench: Bench
  const live: SkBuff[] = []
  return {
    unit: 'ns/op',
    setup: () => {
      bench = new Bench()
    },
    run(n) {
      const { env, cpu } = bench
      let sum = 0
      for (let i = 0; i < n; i += 32) {
        for (let j = 0; j < 32; j++) live[j] = napiAllocSkb(env, cpu, 1, BYTES)!
        for (let j = 0; j < 32; j++) {
          sum ^= live[j]!.data
          napiConsumeSkb(cpu, live[j]!, 64)
        }
      }
      return sum
    },
  }
}

/** 1024 allocations, then 1024 frees: the head cache spills to the slab in bulk, every 16 and every 32. */
const sawtooth = (): BenchCase => {
  let bench: Bench
  const live: SkBuff[] = []
  return {
    unit: 'ns/op',
    setup: () => {
      bench = new Bench()
      live.length = 0
      for (let i = 0; i < WINDOW; i++) live.push(bench.skb())
      for (const skb of live) napiConsumeSkb(bench.cpu, skb, 64)
    },
    run(n) {
      const { env, cpu } = bench
      let sum = 0
      for (let i = 0; i < n; i += WINDOW) {
        for (let j = 0; j < WINDOW; j++) live[j] = napiAllocSkb(env, cpu, 1, BYTES)!
        for (let j = 0; j < WINDOW; j++) {
          sum ^= live[j]!.data
          napiConsumeSkb(cpu, live[j]!, 64)
        }
      }
      return sum
    },
  }
}

/** A clone with a head of its own, from the slab and back. */
const clone = (): BenchCase => {
  let bench: Bench
  let skb: SkBuff
  return {
    unit: 'ns/op',
    setup: () => {
      bench = new Bench()
      skb = bench.skb()
      skbPut(skb, BYTES)
    },
    run(n) {
      const { cpu, env } = bench
      const gfp = env.mem.gfp.GFP_ATOMIC
      let sum = 0
      for (let i = 0; i < n; i++) {
        const copy = skbClone(cpu, skb, gfp)!
        sum ^= copy.len
        consumeSkb(cpu, copy, 'bench')
      }
      return sum
    },
  }
}

/** A clone in the companion half of a pair: what TCP does for every transmission. */
const cloneTwin = (): BenchCase => {
  let bench: Bench
  let skb: SkBuff
  return {
    unit: 'ns/op',
    setup: () => {
      bench = new Bench()
      skb = allocSkbFclone(bench.env, bench.cpu, 256, bench.env.mem.gfp.GFP_ATOMIC)!
    },
    run(n) {
      const { cpu, env } = bench
      const gfp = env.mem.gfp.GFP_ATOMIC
      let sum = 0
      for (let i = 0; i < n; i++) {
        const copy = skbClone(cpu, skb, gfp)!
        sum ^= copy.id
        consumeSkb(cpu, copy, 'bench')
      }
      return sum
    },
  }
}

const checksum = (): BenchCase => {
  let skb: SkBuff
  return {
    unit: 'ns/packet',
    setup: () => {
      skb = new Bench().skb()
      skbPut(skb, 1400)
    },
    run(n) {
      let sum = 0
      for (let i = 0; i < n; i++) sum ^= skbChecksum(skb, 0, 1400, i)
      return sum
    },
  }
}

export const cases: Readonly<Record<string, BenchCase>> = {
  'skb.hot': hot(),
  'skb.window1024': window(),
  'skb.burst32': burst(),
  'skb.sawtooth1024': sawtooth(),
  'skb.clone': cloneTwin(),
  'skb.clone-slab': clone(),
  'skb.checksum1400': checksum(),
}
