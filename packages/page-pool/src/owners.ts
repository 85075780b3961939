/**
 * "Who still holds these pages?" The pool itself cannot know: it sees a page leave and, some day, come back. So each
 * layer that holds pages registers a walk over what it holds, and a report asks them all. Nothing of this costs
 * anything until somebody asks, except `trackHolders`, which remembers when each page was taken.
 */
import { ptrRingForEach } from './ptr-ring.js'
import { type HolderWalk, type Netmem, type PageHolder, type PagePool, type PagePools, PP_COUNT } from './types.js'

/** One page that is out of its pool, and everybody who says that it has it. */
export interface PageInFlight {
  readonly netmem: Netmem
  /** References of the pool on the page (`pp_ref_count`), and references of the page itself. */
  readonly ppRefCount: number
  readonly pageRefCount: number
  /** The step in which the page joined the pool; empty unless tracked. */
  readonly takenAt: string
  /** Empty: no registered layer knows it, which is what a leak looks like. */
  readonly holders: readonly PageHolder[]
}

/** Registers a layer. @returns the function that takes it off again. */
export function pagePoolRegisterHolders(env: PagePools, walk: HolderWalk): () => void {
  env.holderWalks.push(walk)
  return () => {
    const at = env.holderWalks.indexOf(walk)
    if (at >= 0) env.holderWalks.splice(at, 1)
  }
}

/** Turns on remembering in which step (`env.step`) each page joined its pool. Off by default: a map entry per page. */
export function pagePoolTrackHolders(env: PagePools, on: boolean): void {
  env.takenAt = on ? (env.takenAt ?? new Map()) : null
}

/** @returns the pages of a pool that rest in it: in the cache, in the ring, and the one being cut (if wholly its own). */
export function pagePoolResting(pool: PagePool): Set<Netmem> {
  const resting = new Set<Netmem>(pool.cache.subarray(0, pool.cache[PP_COUNT]))
  ptrRingForEach(pool.ring, (netmem) => resting.add(netmem))
  return resting
}

/** @returns every page and net_iov that carries the pool's mark, lowest number first. */
export function pagePoolOwned(pool: PagePool): Netmem[] {
  const { pages } = pool.env.mem
  const owned: Netmem[] = []
  for (let pfn = 1; pfn < pages.pp.length; pfn++) if (pages.pp[pfn] === pool.slot) owned.push(pfn)
  const { niovs } = pool.env
  for (let i = 0; i < niovs.count; i++) if (niovs.pp[i] === pool.slot) owned.push(-1 - i)
  return owned
}

const sameHolder = (a: PageHolder, b: PageHolder): boolean =>
  a === b || (a.kind === b.kind && a.name === b.name && a.where === b.where)

/** The report: each page in flight, and who holds it. Walks all of memory; for shutdown problems, not for a hot path. */
export function pagePoolHoldersReport(pool: PagePool): PageInFlight[] {
  const { env } = pool
  const resting = pagePoolResting(pool)
  const found = new Map<Netmem, PageHolder[]>()
  for (const netmem of pagePoolOwned(pool)) if (!resting.has(netmem)) found.set(netmem, [])
  if (found.has(pool.fragPage))
    found.get(pool.fragPage)!.push({ kind: 'page_pool', name: pool.label, where: 'page being cut' })
  for (const walk of env.holderWalks) {
    walk((netmem, holder) => {
      const head = netmem > 0 ? env.mem.pages.head[netmem]! : netmem
      const known = found.get(head)
      // A packet may refer to a page several times.
      if (known !== undefined && !known.some((one) => sameHolder(one, holder))) known.push(holder)
    })
  }
  return [...found].map(([netmem, holders]) => ({
    netmem,
    ppRefCount: netmem > 0 ? pool.ppRefCount[netmem]! : env.niovs.ppRefCount[-1 - netmem]!,
    pageRefCount: netmem > 0 ? pool.refcount[netmem]! : 1,
    takenAt: env.takenAt?.get(netmem) ?? '',
    holders,
  }))
}
