/** Audits that prove the conservation law of page pools, and a machine for tests. */
import { type DmaMachine, dmaMachine } from '@netmem/dma/testing'
import { PG_PFMEMALLOC } from '@netmem/memory'
import { pagePoolsInit } from './destroy.js'
import { pagePoolOwned } from './owners.js'
import { ptrRingForEach } from './ptr-ring.js'
import { BIAS_MAX, type Netmem, type PagePool, type PagePools, PP_ALLOC_CACHE_SIZE, PP_COUNT } from './types.js'

/** What a test of page pools gets. */
export interface PoolMachine extends DmaMachine {
  readonly pools: PagePools
}

/** Makes a machine with page pools; options as of `dmaMachine`. */
export function poolMachine(...options: Parameters<typeof dmaMachine>): PoolMachine {
  const machine = dmaMachine(...options)
  const { mem, trace, events, cpus, dma } = machine
  return { ...machine, pools: pagePoolsInit({ mem, trace, events, cpus, profile: dma.profile }) }
}

const check = (pool: PagePool, ok: boolean, words: string): void => {
  if (!ok) throw new Error(`audit: ${pool.label}: ${words}`)
}

/**
 * Proves: hold - release = cached + in the ring + lent, each page in exactly one place, and resting pages as the next
 * user expects them. @returns the three counts.
 */
export function auditPagePool(pool: PagePool): { cached: number; ring: number; lent: number } {
  const { env, cache } = pool
  const { pages } = env.mem
  const owned = new Set(pagePoolOwned(pool))
  const resting = new Set<Netmem>()
  const rest = (netmem: Netmem, where: string): void => {
    check(pool, owned.has(netmem), `page ${netmem} ${where} does not carry the pool's mark`)
    check(pool, !resting.has(netmem), `page ${netmem} rests twice`)
    resting.add(netmem)
    const refs = netmem > 0 ? pages.ppRefCount[netmem]! : env.niovs.ppRefCount[-1 - netmem]!
    check(pool, refs === 1, `page ${netmem} ${where} has pp_ref_count ${refs}`)
    if (netmem > 0) check(pool, pages.refcount[netmem] === 1, `page ${netmem} ${where} has other references`)
  }
  const count = cache[PP_COUNT]!
  check(pool, count >= 0 && count <= PP_ALLOC_CACHE_SIZE, `${count} pages in the cache`)
  for (let i = 0; i < count; i++) rest(cache[i]!, 'in the cache')
  let ring = 0
  ptrRingForEach(pool.ring, (netmem) => {
    ring++
    rest(netmem, 'in the ring')
  })
  check(pool, ring <= pool.ring.size, 'more in the ring than fit')
  const inflight = (pool.holdCnt - pool.releaseCnt) | 0
  check(pool, inflight === owned.size, `${inflight} held by the counters, ${owned.size} pages carry the mark`)
  let reserves = 0
  for (const netmem of owned) {
    if (netmem < 0) continue
    if ((pages.flags[netmem]! & PG_PFMEMALLOC) !== 0) reserves++
    check(pool, pages.refcount[netmem]! >= 1, `page ${netmem} is free and carries the mark`)
    const mapped = pages.dmaAddr[netmem] !== 0
    if (!pool.dmaMap) check(pool, !mapped, `page ${netmem} is mapped by nobody`)
    else if (pool.destroyCnt === 0) check(pool, mapped, `page ${netmem} is not mapped`)
  }
  check(pool, reserves === pool.reservePages, `${reserves} pages from the reserves, ${pool.reservePages} counted`)
  if (pool.fragPage !== 0) {
    check(pool, owned.has(pool.fragPage) && !resting.has(pool.fragPage), 'the page being cut is not lent')
    if (pool.fragPage > 0) {
      const refs = pages.ppRefCount[pool.fragPage]!
      const least = BIAS_MAX - pool.fragUsers
      check(pool, refs >= least && refs <= BIAS_MAX, `the page being cut has ${refs} references`)
    }
  }
  return { cached: count, ring, lent: owned.size - resting.size }
}

/** Proves that every pool is gone, and no page of memory carries a pool's mark or mapping. */
export function auditPagePoolsQuiescent(env: PagePools): void {
  for (const pool of env.pools) if (pool !== null) throw new Error(`audit: ${pool.label} still exists`)
  const { pages } = env.mem
  for (let pfn = 1; pfn < pages.pp.length; pfn++) {
    if (pages.pp[pfn] !== 0) throw new Error(`audit: page ${pfn} still carries the mark of pool slot ${pages.pp[pfn]}`)
    if (pages.dmaAddr[pfn] !== 0) throw new Error(`audit: page ${pfn} is still mapped`)
  }
  for (let i = 0; i < env.niovs.count; i++)
    if (env.niovs.pp[i] !== 0) throw new Error(`audit: net_iov ${i} still belongs to a pool`)
}
