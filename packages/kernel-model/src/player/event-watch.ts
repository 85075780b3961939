/**
 * Tracepoints that ring traces count between two looks: drop reasons, and pages that enter and leave page
 * pools. Each subscribes at the first step of a trace, so nothing is missed.
 */
import { traceSubscribe } from '@netmem/base'
import type { Kernel } from '../kernel.js'
import type { PlayerWorld } from './world.js'

/** Counts `skb:kfree_skb` by reason. */
export class DropWatch {
  private reasons = new Map<string, number>()

  constructor(kernel: Kernel) {
    traceSubscribe(kernel.trace, {
      kfreeSkb: (_cpu, _skb, _location, _protocol, reason) => {
        this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1)
      },
    })
  }

  /** @returns the counts since the last call, by reason, sorted. */
  take(): { [reason: string]: number } {
    const counts = Object.fromEntries([...this.reasons].sort(([a], [b]) => (a < b ? -1 : 1)))
    this.reasons = new Map()
    return counts
  }
}

/** Counts `page_pool:page_pool_state_hold` and `_release` by pool. */
export class PoolWatch {
  private pools = new Map<number, { hold: number; release: number }>()

  constructor(kernel: Kernel) {
    traceSubscribe(kernel.trace, {
      pagePoolStateHold: (_cpu, pool) => {
        this.of(pool).hold += 1
      },
      pagePoolStateRelease: (_cpu, pool) => {
        this.of(pool).release += 1
      },
    })
  }

  private of(pool: number): { hold: number; release: number } {
    let counts = this.pools.get(pool)
    if (counts === undefined) {
      counts = { hold: 0, release: 0 }
      this.pools.set(pool, counts)
    }
    return counts
  }

  /** @returns the pools with any event since the last call, the busiest first. */
  take(): { hold: number; release: number }[] {
    const counts = [...this.pools.values()].sort((a, b) => b.hold - a.hold || b.release - a.release)
    this.pools = new Map()
    return counts
  }
}

const DROPS = 'drop-watch'
const POOLS = 'pool-watch'

/** Subscribes to what the trace's verbs will ask for. Call before the first step. */
export function startWatches(world: PlayerWorld): void {
  const verbs = new Set(world.document.steps.map((step) => step.do))
  if (verbs.has('drops')) world.extra.set(DROPS, new DropWatch(world.kernel))
  if (verbs.has('page_pool_events')) world.extra.set(POOLS, new PoolWatch(world.kernel))
}

/** What was counted since the last look at either: the recorder reads both from one buffer, which it then empties. */
export function takeEvents(world: PlayerWorld): {
  reasons: ReturnType<DropWatch['take']>
  pools: ReturnType<PoolWatch['take']>
} {
  const drops = world.extra.get(DROPS) as DropWatch | undefined
  const pools = world.extra.get(POOLS) as PoolWatch | undefined
  return { reasons: drops?.take() ?? {}, pools: pools?.take() ?? [] }
}
