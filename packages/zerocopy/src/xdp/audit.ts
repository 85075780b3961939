/** Audits of AF_XDP: what is counted is there, and every chunk is in exactly one place. */
import type { SkBuff } from '@netmem/skbuff'
import { type PpNic, ppNicXskHeld } from '@netmem/virtual-nic'
import type { XskBuffPool } from './xsk-buff-pool.js'
import type { XskEnv } from './xsk-env.js'
import { type XskQueue, xskqDescWord } from './xsk-queue.js'
import { XSK_BOUND } from './xsk-state.js'
import { xskSkbAddrs } from './xsk-tx-addrs.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`AF_XDP audit: ${words()}`)
}

/**
 * What holds whatever the user does to the rings.
 *
 * @throws Error when free lists and their marks disagree, an area has other users than its sockets, a bound queue is
 *   not its device's, or addresses of packets in flight are counted wrong.
 */
export function auditXsk(env: XskEnv): void {
  for (const pool of env.pools) auditPool(pool)
  const users = new Map<object, number>()
  for (const { umem } of env.all) if (umem !== null) users.set(umem, (users.get(umem) ?? 0) + 1)
  for (const [umem, count] of users) {
    const { users: said, pfns } = umem as { users: number; pfns: Int32Array }
    check(said >= count, () => `an area with ${count} sockets counts ${said}`)
    for (const pfn of pfns) check(env.mem.pages.refcount[pfn]! > 0, () => `page ${pfn} of an area is free`)
  }
  for (const xs of env.all) {
    if (xs.state !== XSK_BOUND) continue
    check(xs.pool !== null && env.pools.includes(xs.pool), () => 'a bound socket without a live pool')
    check(xs.dev!.xskPools[xs.queueId] != null, () => `queue ${xs.queueId} of ${xs.dev!.name} does not know its pool`)
  }
  const { records, free } = env.addrs
  for (let i = 1; i < records.length; i++)
    check(free.includes(i) === (records[i]!.addr === 0), () => `address record ${i} is free and in use`)
}

function auditPool(pool: XskBuffPool): void {
  const seen = new Set<number>()
  for (let i = 0; i < pool.freeListCnt; i++) {
    const head = pool.freeList[i]!
    check(!seen.has(head), () => `head ${head} is on the free list twice`)
    check(pool.onFreeList[head] === 1, () => `head ${head} is on the free list without its mark`)
    seen.add(head)
  }
  const marks = pool.onFreeList.reduce((sum, mark) => sum + mark, 0)
  check(marks === pool.freeListCnt, () => `${marks} marks for ${pool.freeListCnt} free buffers`)
  for (let i = 0; i < pool.freeHeadsCnt; i++) {
    const head = pool.freeHeads[i]!
    check(!seen.has(head), () => `head ${head} is free twice`)
    seen.add(head)
  }
}

/** Entries of a ring that nobody has taken yet, as the kernel counts them. */
function* entries(q: XskQueue, from: number, to: number): Generator<number> {
  for (let at = from; at !== to; at = (at + 1) | 0) yield xskqDescWord(q, at)
}

/**
 * With honest users, aligned chunks: every chunk is in exactly one place.
 *
 * @param hands chunk numbers that the users hold. @throws Error naming a chunk that is nowhere or in two places.
 */
export function auditXskFrames(pool: XskBuffPool, hands: Iterable<number>): void {
  const { env } = pool
  const where = new Map<number, string>()
  const put = (addr: number, place: string): void => {
    const chunk = (addr >>> 0) >>> pool.chunkShift
    const before = where.get(chunk)
    check(before === undefined, () => `chunk ${chunk} is in ${place} and in ${before}`)
    where.set(chunk, place)
  }
  for (const chunk of hands) put(chunk * pool.chunkSize, "the user's hands")
  const { fq, cq } = pool
  const { i32 } = env.mem
  for (const word of entries(fq, fq.cachedCons, i32[fq.producerWord]!)) put(i32[word]!, 'the fill ring')
  for (let i = 0; i < pool.freeListCnt; i++) put(pool.origAddr[pool.freeList[i]!]!, 'the free list')
  const queue = pool.netdev === null ? undefined : (pool.netdev.priv as Partial<PpNic>).queues?.[pool.queueId]
  if (queue !== undefined) for (const head of ppNicXskHeld(queue)) put(pool.origAddr[head]!, 'the driver')
  for (const xs of env.all) {
    if (xs.pool !== pool) continue
    const { rx, tx } = xs
    if (rx !== null)
      for (const word of entries(rx, i32[rx.consumerWord]!, rx.cachedProd)) put(i32[word]!, 'the rx ring')
    if (tx !== null)
      for (const word of entries(tx, tx.cachedCons, i32[tx.producerWord]!)) put(i32[word]!, 'the tx ring')
  }
  // In zero-copy mode what is in flight stands in the completion ring already, behind what may be read.
  const end = pool.dmaMapping === null ? i32[cq.producerWord]! : cq.cachedProd
  for (const word of entries(cq, i32[cq.consumerWord]!, end)) put(i32[word]!, 'the completion ring')
  for (const skb of inFlight(pool)) for (const addr of xskSkbAddrs(env, skb)) put(addr, `packet ${skb.id}`)
  check(where.size === pool.umem.chunks, () => `${pool.umem.chunks - where.size} chunks are nowhere`)
}

/** Packets on their way out that stand for chunks of this pool. */
const inFlight = (pool: XskBuffPool): SkBuff[] =>
  pool.env.skbs.skbs.filter(
    (skb): skb is SkBuff =>
      skb != null &&
      skb.users > 0 &&
      skb.destructor === pool.env.destructSkb &&
      pool.env.all.some((xs) => xs.sk.id === skb.sk && xs.pool === pool),
  )

/** @throws Error when something of AF_XDP is left. */
export function assertXskQuiescent(env: XskEnv): void {
  auditXsk(env)
  check(env.all.length === 0, () => `${env.all.length} sockets are left`)
  check(env.pools.length === 0, () => `${env.pools.length} pools are left`)
  check(env.umems === 0, () => `${env.umems} areas are left`)
  const live = env.addrs.records.length - 1 - env.addrs.free.length
  check(live === 0, () => `${live} address records are left`)
}
