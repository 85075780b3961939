/**
 * Putting fragments together, the part that IPv4 and IPv6 share: a queue per datagram, a limit on what all
 * queues of a namespace may hold, a timer per queue.
 *
 * Conservation, per namespace: *mem = Σ over queues of (queueBytes + Σ truesize of its fragments)*.
 */
import type { Cpu } from '@netmem/base'
import { type KmemCache, kmemCacheAllocObj, kmemCacheFreeObj, NO_OBJ } from '@netmem/memory'
import {
  CHECKSUM_COMPLETE,
  CHECKSUM_NONE,
  CoalesceResult,
  consumeSkb,
  csumAdd,
  kfreeSkb,
  kfreeSkbPartial,
  type SkBuff,
  type SkbDropReason,
  setFragList,
  skbClone,
  skbHasFragList,
  skbMorph,
  skbOrphan,
  skbPushUnchecked,
  skbTryCoalesce,
  skbUnclone,
} from '@netmem/skbuff'
import type { InetEnv } from './inet-env.js'

// Flags of a queue.
export const INET_FRAG_FIRST_IN = 1
export const INET_FRAG_LAST_IN = 2
export const INET_FRAG_COMPLETE = 4
/** Its time was over: only then its fragments count as dropped. */
export const INET_FRAG_DROP = 16

// What `inetFragQueueInsert` answers besides 0.
export const IPFRAG_DUP = 1
export const IPFRAG_OVERLAP = 2

/** Models `struct inet_frag_queue` with `struct ipq` or `struct frag_queue` around it. One per slab object. */
export class FragQueue {
  flags = 0
  /** Bytes of the whole datagram, as far as known. */
  len = 0
  /** Payload bytes here so far. */
  meat = 0
  maxSize = 0
  maxDfSize = 0
  /** Ids of the fragments, in order of their offsets, linked by `next`. */
  first = 0
  last = 0
  /** Device that the latest fragment came in on. */
  iif = 0
  ecn = 0
  timer = 0
  /** References: the table's and each user's. */
  refcnt = 0
  // The key.
  id = 0
  saddr = 0
  daddr = 0
  protocol = 0
  readonly saddr6 = new Int32Array(4)
  readonly daddr6 = new Int32Array(4)
  /** Next queue in the same bucket, by object number plus 1. */
  hashNext = 0
  /** In the table: lookups may find it. */
  hashed = false
  fqdir!: Fqdir
  /** Address family tells whose timer it is. */
  ipv6 = false

  constructor(readonly obj: number) {}
}

/** Models `struct fqdir`: limits and use of one namespace and IP version. */
export class Fqdir {
  /** Bytes held by all queues (`FRAG: memory` of sockstat). */
  mem = 0
  /** Queues alive (`FRAG: inuse`). */
  queues = 0

  constructor(
    readonly highThresh: Float64Array,
    readonly lowThresh: Float64Array,
    /** Seconds that a queue waits for its rest. */
    readonly time: Float64Array,
    readonly maxDist: Float64Array,
    readonly ns: number,
    readonly frags: InetFrags,
  ) {}
}

const BUCKETS = 1024

/** Models `struct inet_frags`: the cache and the table of one IP version. */
export class InetFrags {
  readonly bodies: FragQueue[] = []
  /** Object number plus 1 of each bucket's first queue. */
  readonly table = new Int32Array(BUCKETS)
  readonly timerHandler: number
  readonly coalesce = new CoalesceResult()
  /** Called when a queue's time is over; the queue is still hashed and referenced. */
  expire!: (queue: FragQueue) => void

  constructor(
    readonly env: InetEnv,
    readonly cache: KmemCache,
    /** Bytes that a queue itself counts with (`qsize`). */
    readonly queueBytes: number,
  ) {
    this.timerHandler = env.clock.register((obj) => {
      const queue = this.bodies[obj]
      queue.timer = 0
      this.expire(queue)
    })
  }
}

export const fragHash = (id: number, saddr: number, daddr: number, protocol: number): number => {
  let h = Math.imul(id ^ (protocol << 16), 0x9e3779b1) ^ Math.imul(saddr, 0x85ebca6b) ^ Math.imul(daddr, 0xc2b2ae35)
  h ^= h >>> 15
  return h & (BUCKETS - 1)
}

/**
 * Models `inet_frag_create`: a queue from the slab, in the table, its timer running.
 *
 * @returns null without memory.
 */
export function inetFragCreate(cpu: Cpu, fqdir: Fqdir, hash: number): FragQueue | null {
  const { frags } = fqdir
  const { env } = frags
  const gfp = env.mem.gfp
  const obj = kmemCacheAllocObj(frags.cache, cpu, (gfp.GFP_ATOMIC | gfp.ZERO) as never, -1, 'inet_frag_find')
  if (obj === NO_OBJ) return null
  let queue = frags.bodies[obj]
  if (queue === undefined) {
    queue = new FragQueue(obj)
    frags.bodies[obj] = queue
  }
  queue.flags = 0
  queue.len = 0
  queue.meat = 0
  queue.maxSize = 0
  queue.maxDfSize = 0
  queue.first = 0
  queue.last = 0
  queue.ecn = 0
  queue.fqdir = fqdir
  queue.refcnt = 1
  queue.hashed = true
  queue.hashNext = frags.table[hash]
  frags.table[hash] = obj + 1
  fqdir.mem += frags.queueBytes
  fqdir.queues += 1
  queue.timer = env.clock.schedule((env.clock.nowNs + fqdir.time[0] * 1e9) as never, frags.timerHandler, obj, 0)
  return queue
}

/** Models `inet_frag_kill`: out of the table, timer off; who still holds it may go on. */
export function inetFragKill(queue: FragQueue, hash: number): void {
  const { frags } = queue.fqdir
  if (queue.timer !== 0) {
    frags.env.clock.cancel(queue.timer)
    queue.timer = 0
  }
  if (!queue.hashed) return
  queue.hashed = false
  queue.flags |= INET_FRAG_COMPLETE
  let at = frags.table[hash]
  if (at === queue.obj + 1) frags.table[hash] = queue.hashNext
  else
    while (at !== 0) {
      const other = frags.bodies[at - 1]
      if (other.hashNext === queue.obj + 1) {
        other.hashNext = queue.hashNext
        break
      }
      at = other.hashNext
    }
}

/** Models `inet_frag_destroy`: frees what was not put together; the queue itself goes after a grace period, silently. */
export function inetFragDestroy(cpu: Cpu, queue: FragQueue): void {
  const { fqdir } = queue
  const { frags } = fqdir
  const { env } = frags
  let reason: SkbDropReason = env.mem.profile.features.dropReasonConsumed ? 'CONSUMED' : 'NOT_SPECIFIED'
  if ((queue.flags & INET_FRAG_DROP) !== 0) reason = 'FRAG_REASM_TIMEOUT'
  let sum = 0
  for (let id = queue.first; id !== 0; ) {
    const skb = env.skbs.skbs[id]
    id = skb.next
    skb.next = 0
    sum += skb.truesize
    kfreeSkb(cpu, skb, reason, 'inet_frag_rbtree_purge')
  }
  queue.first = 0
  queue.last = 0
  fqdir.mem -= sum + frags.queueBytes
  fqdir.queues -= 1
  env.socks.rcu.running += 1
  kmemCacheFreeObj(frags.cache, cpu, queue.obj, 'inet_frag_destroy_rcu')
  env.socks.rcu.running -= 1
}

// A fragment's place: `cb0` is its offset in the datagram, `len` what it covers. `cb1` is 1 at the head of a run:
// fragments that came one after the other without a gap, which count as one piece when others are compared with them.

/**
 * Models `inet_frag_queue_insert` (net/ipv4/inet_fragment.c). Nearly always a fragment follows the last one. Otherwise
 * what lies within one run is a duplicate; runs that happen to touch are still two.
 *
 * @returns 0 and takes the skb; IPFRAG_DUP or IPFRAG_OVERLAP and leaves it.
 */
export function inetFragQueueInsert(queue: FragQueue, skb: SkBuff, offset: number, end: number): number {
  const { skbs } = skb.env
  skb.cb0 = offset
  skb.cb1 = 1
  skb.next = 0
  if (queue.last === 0) {
    queue.first = skb.id
    queue.last = skb.id
    return 0
  }
  const last = skbs[queue.last]
  const lastEnd = last.cb0 + last.len
  if (lastEnd < end) {
    if (offset < lastEnd) return IPFRAG_OVERLAP
    if (offset === lastEnd) skb.cb1 = 0
    last.next = skb.id
    queue.last = skb.id
    return 0
  }
  let before = 0
  for (let id = queue.first; id !== 0; ) {
    const start = skbs[id].cb0
    if (end <= start) break
    let tail = id
    for (id = skbs[id].next; id !== 0 && skbs[id].cb1 === 0; id = skbs[id].next) tail = id
    const runEnd = skbs[tail].cb0 + skbs[tail].len
    if (offset >= start && end <= runEnd) return IPFRAG_DUP
    if (offset < runEnd) return IPFRAG_OVERLAP
    before = tail
  }
  if (before === 0) {
    skb.next = queue.first
    queue.first = skb.id
  } else {
    skb.next = skbs[before].next
    skbs[before].next = skb.id
  }
  return 0
}

/**
 * Models `inet_frag_reasm_prepare` (net/ipv4/inet_fragment.c): the fragment that came last becomes the packet,
 * because its caller holds it; it takes the first fragment's contents and a clone takes its place in the row.
 *
 * @returns false without memory.
 */
export function inetFragReasmPrepare(cpu: Cpu, queue: FragQueue, skb: SkBuff): boolean {
  const { env } = queue.fqdir.frags
  const { skbs } = env.skbs
  const gfp = env.mem.gfp.GFP_ATOMIC
  const head = skbs[queue.first]
  if (head !== skb) {
    const clone = skbClone(cpu, skb, gfp)
    if (clone === null) return false
    clone.cb0 = skb.cb0
    replace(queue, skb, clone)
    const rest = head.next
    head.next = 0
    skb.next = 0
    skbMorph(cpu, skb, head)
    skb.next = rest
    queue.first = skb.id
    if (queue.last === head.id) queue.last = skb.id
    consumeSkb(cpu, head, 'inet_frag_reasm_prepare')
  }
  const before = skb.truesize
  if (skbUnclone(cpu, skb, gfp) !== 0) return false
  queue.fqdir.mem += skb.truesize - before
  return !skbHasFragList(skb)
}

function replace(queue: FragQueue, skb: SkBuff, by: SkBuff): void {
  const { skbs } = skb.env
  by.next = skb.next
  let id = queue.first
  while (skbs[id].next !== skb.id) id = skbs[id].next
  skbs[id].next = by.id
  if (queue.last === skb.id) queue.last = by.id
}

/**
 * Models `inet_frag_reasm_finish` (net/ipv4/inet_fragment.c): the other fragments are copied into the first one's room,
 * moved into its slots, or hung on its list.
 *
 * @param tryCoalesce false for packets that are only looked at.
 */
export function inetFragReasmFinish(cpu: Cpu, queue: FragQueue, head: SkBuff, tryCoalesce: boolean): void {
  const { fqdir } = queue
  const { frags } = fqdir
  const { skbs } = head.env
  skbPushUnchecked(head, (head.data - head.head - head.networkHeader) | 0)
  let sum = head.truesize
  let last: SkBuff | null = null
  for (let id = head.next; id !== 0; ) {
    const skb = skbs[id]
    id = skb.next
    skb.next = 0
    sum += skb.truesize
    if (head.ipSummed !== skb.ipSummed) head.ipSummed = CHECKSUM_NONE
    else if (head.ipSummed === CHECKSUM_COMPLETE) head.csum = csumAdd(head.csum, skb.csum)
    if (tryCoalesce && skbTryCoalesce(cpu, head, skb, frags.coalesce))
      kfreeSkbPartial(cpu, skb, frags.coalesce.fragstolen, 'inet_frag_reasm_finish')
    else {
      skb.prev = 0
      skb.sk = 0
      head.dataLen += skb.len
      head.len += skb.len
      head.truesize += skb.truesize
      if (last === null) setFragList(head, skb.id)
      else last.next = skb.id
      last = skb
    }
  }
  fqdir.mem -= sum
  head.next = 0
  head.prev = 0
  queue.first = 0
  queue.last = 0
}

/** What a fragment gives up while it waits: its sender. */
export const fragOrphan = (cpu: Cpu, skb: SkBuff): void => skbOrphan(cpu, skb)
