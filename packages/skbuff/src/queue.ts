/**
 * `struct sk_buff_head`: a doubly linked list of skbs by id, and its length. The head belongs to whoever
 * embeds it; a queued skb is in exactly one queue and its `next` and `prev` are the queue's.
 *
 * Differs: the kernel's list is circular through the head; here both ends carry 0, the id of no skb.
 */
import { assert } from '@netmem/base'
import type { Skbuffs } from './env.js'
import type { SkBuff } from './sk-buff.js'

/** Models `struct sk_buff_head`. `first` and `last` are ids, 0 when empty. */
export class SkbQueue {
  first = 0
  last = 0
  qlen = 0

  constructor(readonly env: Skbuffs) {}
}

/** Models `skb_queue_head_init`. */
export function skbQueueHeadInit(list: SkbQueue): void {
  list.first = 0
  list.last = 0
  list.qlen = 0
}

/** Models `skb_queue_empty`. */
export const skbQueueEmpty = (list: SkbQueue): boolean => list.first === 0
/** Models `skb_queue_len`. */
export const skbQueueLen = (list: SkbQueue): number => list.qlen
/** Models `skb_peek`. */
export const skbPeek = (list: SkbQueue): SkBuff | null => (list.first === 0 ? null : list.env.skbs[list.first]!)
/** Models `skb_peek_tail`. */
export const skbPeekTail = (list: SkbQueue): SkBuff | null => (list.last === 0 ? null : list.env.skbs[list.last]!)
/** Models `skb_peek_next`. */
export const skbPeekNext = (list: SkbQueue, skb: SkBuff): SkBuff | null =>
  skb.next === 0 ? null : list.env.skbs[skb.next]!
/** Models `skb_queue_is_last`. */
export const skbQueueIsLast = (list: SkbQueue, skb: SkBuff): boolean => list.last === skb.id
/** Models `skb_queue_is_first`. */
export const skbQueueIsFirst = (list: SkbQueue, skb: SkBuff): boolean => list.first === skb.id

/** Models `skb_queue_tail` and `__skb_queue_tail`: takes the caller's reference. */
export function skbQueueTail(list: SkbQueue, skb: SkBuff): void {
  const last = list.last
  skb.next = 0
  skb.prev = last
  if (last === 0) list.first = skb.id
  else list.env.skbs[last]!.next = skb.id
  list.last = skb.id
  list.qlen++
}

/** Models `skb_queue_head` and `__skb_queue_head`. */
export function skbQueueHead(list: SkbQueue, skb: SkBuff): void {
  const first = list.first
  skb.prev = 0
  skb.next = first
  if (first === 0) list.last = skb.id
  else list.env.skbs[first]!.prev = skb.id
  list.first = skb.id
  list.qlen++
}

/** Models `__skb_queue_after`: `skb` goes behind `prev`, which is in the list. */
export function skbQueueAfter(list: SkbQueue, prev: SkBuff, skb: SkBuff): void {
  const next = prev.next
  skb.prev = prev.id
  skb.next = next
  prev.next = skb.id
  if (next === 0) list.last = skb.id
  else list.env.skbs[next]!.prev = skb.id
  list.qlen++
}

/** Models `skb_append`: `skb` goes behind `old`. */
export const skbAppend = (old: SkBuff, skb: SkBuff, list: SkbQueue): void => skbQueueAfter(list, old, skb)

/** Models `__skb_queue_before`: `skb` goes in front of `next`, which is in the list. */
export function skbQueueBefore(list: SkbQueue, next: SkBuff, skb: SkBuff): void {
  if (next.prev === 0) skbQueueHead(list, skb)
  else skbQueueAfter(list, list.env.skbs[next.prev]!, skb)
}

/** Models `skb_unlink` and `__skb_unlink`: the caller has the reference now. */
export function skbUnlink(list: SkbQueue, skb: SkBuff): void {
  const { next, prev } = skb
  if (__ASSERT__)
    assert(prev !== 0 ? list.env.skbs[prev]!.next === skb.id : list.first === skb.id, 'skb_unlink: not in this list')
  if (prev === 0) list.first = next
  else list.env.skbs[prev]!.next = next
  if (next === 0) list.last = prev
  else list.env.skbs[next]!.prev = prev
  skb.next = 0
  skb.prev = 0
  list.qlen--
}

/** Models `skb_dequeue` and `__skb_dequeue`: the oldest; the caller has its reference now. */
export function skbDequeue(list: SkbQueue): SkBuff | null {
  const first = list.first
  if (first === 0) return null
  const skb = list.env.skbs[first]!
  const next = skb.next
  list.first = next
  if (next === 0) list.last = 0
  else list.env.skbs[next]!.prev = 0
  skb.next = 0
  skb.prev = 0
  list.qlen--
  return skb
}

/** Models `skb_dequeue_tail`. */
export function skbDequeueTail(list: SkbQueue): SkBuff | null {
  const skb = skbPeekTail(list)
  if (skb !== null) skbUnlink(list, skb)
  return skb
}

/** Models `skb_queue_splice_tail_init`: everything in `from` goes behind everything in `to`. */
export function skbQueueSpliceTailInit(from: SkbQueue, to: SkbQueue): void {
  if (from.first === 0) return
  if (to.last === 0) to.first = from.first
  else {
    to.env.skbs[to.last]!.next = from.first
    to.env.skbs[from.first]!.prev = to.last
  }
  to.last = from.last
  to.qlen += from.qlen
  skbQueueHeadInit(from)
}

/** Models `skb_queue_splice_init`: everything in `from` goes in front of everything in `to`. */
export function skbQueueSpliceInit(from: SkbQueue, to: SkbQueue): void {
  if (from.first === 0) return
  if (to.first === 0) to.last = from.last
  else {
    to.env.skbs[to.first]!.prev = from.last
    to.env.skbs[from.last]!.next = to.first
  }
  to.first = from.first
  to.qlen += from.qlen
  skbQueueHeadInit(from)
}
