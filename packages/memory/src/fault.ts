/**
 * Allocations that fail on purpose. Models what `failslab` and `fail_page_alloc` are for: every error path can
 * be walked, one allocation after the other. Set `mem.fault`, take it away again with null.
 *
 *     mem.fault = failNth(3).bySite('__alloc_skb')
 */
import type { Prng } from '@netmem/base'

/** What is asked for: pages from the page allocator, an object of a named slab cache, or a kmalloc block. */
export type FaultKind = 'page' | 'slab' | 'kmalloc'

type Rule = (matched: number) => boolean
type Filter = (kind: FaultKind, bytes: number, gfp: number, site: string) => boolean

export class FaultInjector {
  /** Allocations seen, those of them that the filters let through, and those made to fail. */
  calls = 0
  matched = 0
  failed = 0
  /** Site and kind of the last one that failed: for the message of a test. */
  lastSite = ''
  lastKind: FaultKind | '' = ''
  private readonly filters: Filter[] = []

  /** @param rule told the 1-based number of the matching allocation, says whether it fails. */
  constructor(private readonly rule: Rule) {}

  /** Called by the allocators. @param bytes asked for; for pages the block's size. @returns whether to fail. */
  shouldFail(kind: FaultKind, bytes: number, gfp: number, site: string): boolean {
    this.calls++
    for (const filter of this.filters) if (!filter(kind, bytes, gfp, site)) return false
    this.matched++
    if (!this.rule(this.matched)) return false
    this.failed++
    this.lastSite = site
    this.lastKind = kind
    return true
  }

  /** Restricts to allocations by this kernel function. @returns this. */
  bySite(site: string): this {
    return this.where((_kind, _bytes, _gfp, at) => at === site)
  }

  /** Restricts to sizes from `min` to `max` bytes, both included. @returns this. */
  bySize(min: number, max: number = min): this {
    return this.where((_kind, bytes) => bytes >= min && bytes <= max)
  }

  /** Restricts to these kinds. @returns this. */
  byKind(...kinds: FaultKind[]): this {
    return this.where((kind) => kinds.includes(kind))
  }

  /** Restricts to what the function accepts. @returns this. */
  where(filter: Filter): this {
    this.filters.push(filter)
    return this
  }
}

/** @returns an injector that fails the n-th matching allocation (from 1), and no other. */
export const failNth = (n: number): FaultInjector => new FaultInjector((matched) => matched === n)

/** @returns an injector that fails every n-th matching allocation; 1 fails all of them. */
export const failEvery = (n: number): FaultInjector => new FaultInjector((matched) => matched % n === 0)

/** @returns an injector that fails each matching allocation with this probability, by a seeded generator. */
export const failProbability = (rng: Prng, probability: number): FaultInjector =>
  new FaultInjector(() => rng.unit() < probability)

/** @returns an injector that only counts: how many allocations does this path make? */
export const failNever = (): FaultInjector => new FaultInjector(() => false)
