/**
 * Virtual time: events ordered by nanosecond, first in first out among equal times. Interrupts, timers and
 * workqueues are events; nothing here looks at the host's clock.
 *
 * A calendar queue (R. Brown, CACM 31/10, 1988) on typed arrays: time is cut into days of `dayNs`, day d lives
 * in bucket `d mod buckets`, and a bucket is a list sorted by time. Days are as long as the gap between near
 * events, so that a list holds about one event of today; when that no longer holds the calendar is re-cut.
 * `bench/event-queue.bench.ts` compares it with heaps.
 */
import { assert } from './assert.js'
import type { Ns } from './brands.js'

/** Called at the event's time with the two small integers given to `schedule`. */
export type EventHandler = (arg0: number, arg1: number) => void

const NONE = -1
const MIN_BUCKETS = 64
const FIRST_CAPACITY = 64
// An event's number is a small integer: its slot, and how often the slot was used in the bits above. A number that
// was cancelled or has run names nothing, until the same slot has been used 1024 times more.
const SLOT_BITS = 21
const SLOTS = 1 << SLOT_BITS
// A slot's tag: the handler in the low bits, the use count above.
const HANDLER_BITS = 16
const HANDLERS = 1 << HANDLER_BITS
const TAG_MASK = (1 << (HANDLER_BITS + 31 - SLOT_BITS)) - 1
// A search or an insertion of up to so many steps is a lucky one.
const LUCKY_STEPS = 6
const WASTE_LIMIT = 1 << 14
const MOST_SPARSE = 1 << 13

export class EventQueue {
  /** Virtual time in nanoseconds: that of the event that runs, else of the latest that ran or of `runUntil`. */
  nowNs = Number.NaN as Ns
  /** Events scheduled and neither run nor cancelled. */
  pending = 0

  private readonly handlers: EventHandler[] = []

  // One array per member: the search touches times and links alone, and those of a thousand events stay in the cache.
  private at = new Float64Array(FIRST_CAPACITY)
  private next = new Int32Array(FIRST_CAPACITY)
  private prev = new Int32Array(FIRST_CAPACITY)
  private tag = new Int32Array(FIRST_CAPACITY)
  private arg0 = new Int32Array(FIRST_CAPACITY)
  private arg1 = new Int32Array(FIRST_CAPACITY)
  private freeSlot = NONE
  // Slot 0 is never used, so that no event's number is 0.
  private slotCount = 1

  // The calendar: each bucket's first event (whose `prev` is the last: lists are rings), the bucket where the search
  // begins and when its day ends.
  private first = new Int32Array(MIN_BUCKETS).fill(NONE)
  private mask = MIN_BUCKETS - 1
  private dayNs = Number.NaN
  private perNs = 1 / 1024
  private today = 0
  private todayEndsNs = Number.NaN
  // Steps beyond the lucky few since the calendar was cut; too many, and it is cut anew.
  private wasted = 0

  constructor() {
    // What begins as no number stays a double; a small integer that outgrows 2^31 on the way would make the engine
    // throw away everything that it compiled for this class, and a field without a first value would box its numbers.
    this.nowNs = 0 as Ns
    this.dayNs = 1024
    this.todayEndsNs = 1024
  }

  /** Registers code once, so that scheduling allocates nothing. @returns the number by which `schedule` names it. */
  register(handler: EventHandler): number {
    if (this.handlers.length === HANDLERS) throw new RangeError(`more than ${HANDLERS} event handlers`)
    this.handlers.push(handler)
    return this.handlers.length - 1
  }

  /**
   * @param atNs when; a time in the past means now.
   * @param handler a number from `register`.
   * @param arg0 passed on, as is `arg1`: 32-bit integers.
   * @returns the event's number, a small integer greater than 0, for `cancel`. Forget it when the event runs.
   */
  schedule(atNs: number, handler: number, arg0 = 0, arg1 = 0): number {
    if (__ASSERT__) {
      assert(atNs >= 0 && atNs <= Number.MAX_SAFE_INTEGER, 'event time is not a number of nanoseconds')
      assert(handler >= 0 && handler < this.handlers.length, 'event handler was never registered')
      assert((arg0 | 0) === arg0 && (arg1 | 0) === arg1, 'event arguments are 32-bit integers')
    }
    const t = Math.max(atNs, this.nowNs)
    let slot = this.freeSlot
    if (slot === NONE) slot = this.newSlot()
    else this.freeSlot = this.next[slot]!
    const use = this.tag[slot]! >>> HANDLER_BITS
    this.at[slot] = t
    this.tag[slot] = (use << HANDLER_BITS) | handler
    this.arg0[slot] = arg0
    this.arg1[slot] = arg1
    this.insert(slot)
    if (++this.pending > 2 * this.mask || this.wasted > WASTE_LIMIT) this.recut()
    return (use << SLOT_BITS) | slot
  }

  /** @returns false when the event has run or was cancelled before: then nothing happens. */
  cancel(event: number): boolean {
    const slot = event & (SLOTS - 1)
    if (event <= 0 || slot >= this.slotCount) return false
    if (this.tag[slot]! >>> HANDLER_BITS !== event >> SLOT_BITS) return false
    this.unlink(slot, (this.at[slot]! * this.perNs) & this.mask)
    return true
  }

  /** @returns the time of the next event, or -1 when there is none. */
  nextAtNs(): number {
    const slot = this.earliest()
    return slot === NONE ? -1 : this.at[slot]!
  }

  /** Runs the next event. @returns false when there is none. */
  runNext(): boolean {
    const slot = this.earliest()
    if (slot === NONE) return false
    const { next, prev } = this
    const after = next[slot]!
    if (after === slot) this.first[this.today] = NONE
    else {
      const before = prev[slot]!
      this.first[this.today] = after
      next[before] = after
      prev[after] = before
    }
    next[slot] = this.freeSlot
    this.freeSlot = slot
    this.pending--
    this.nowNs = this.at[slot]! as Ns
    const tag = this.tag[slot]!
    this.tag[slot] = (tag + HANDLERS) & TAG_MASK
    // The slot is free again, but nobody has taken it yet.
    this.handlers[tag & (HANDLERS - 1)]!(this.arg0[slot]!, this.arg1[slot]!)
    return true
  }

  /** Runs every event up to and including `ns`, those that they schedule too, and leaves the time at `ns`. */
  runUntil(ns: number): void {
    for (let slot = this.earliest(); slot !== NONE && this.at[slot]! <= ns; slot = this.earliest()) this.runNext()
    if (ns > this.nowNs) this.nowNs = ns as Ns
  }

  // The calendar itself.

  // Takes its time from `at`: a double as an argument would be boxed on the heap wherever this is not inlined.
  private insert(slot: number): void {
    const { at, next, prev, first } = this
    const t = at[slot]!
    // After a look far ahead an event may come before the day where the search would begin.
    if (t < this.todayEndsNs - this.dayNs) this.startAt(t)
    const bucket = (t * this.perNs) & this.mask
    const head = first[bucket]!
    if (head === NONE) {
      first[bucket] = slot
      next[slot] = slot
      prev[slot] = slot
      return
    }
    // From the back: a burst of equal times, or of growing ones, appends in one step and stays first in first out.
    let before = prev[head]!
    if (at[before]! > t) before = this.placeBefore(slot, bucket, before)
    const after = next[before]!
    next[slot] = after
    prev[slot] = before
    next[before] = slot
    prev[after] = slot
  }

  // Walks back from `last` to where the event belongs. @returns the event that it comes after, in the ring.
  private placeBefore(slot: number, bucket: number, last: number): number {
    const { at, prev } = this
    const t = at[slot]!
    const head = this.first[bucket]!
    let before = last
    let steps = 0
    do {
      steps++
      if (before === head) {
        this.first[bucket] = slot
        before = last
        break
      }
      before = prev[before]!
    } while (at[before]! > t)
    if (steps > LUCKY_STEPS) this.wasted += steps
    return before
  }

  private unlink(slot: number, bucket: number): void {
    const { next, prev } = this
    const after = next[slot]!
    if (after === slot) this.first[bucket] = NONE
    else {
      const before = prev[slot]!
      if (this.first[bucket] === slot) this.first[bucket] = after
      next[before] = after
      prev[after] = before
    }
    this.tag[slot] = (this.tag[slot]! + HANDLERS) & TAG_MASK
    next[slot] = this.freeSlot
    this.freeSlot = slot
    this.pending--
  }

  private earliest(): number {
    // Without this an empty calendar is searched for a whole lap.
    if (this.pending === 0) return NONE
    const { first, at, mask } = this
    let bucket = this.today
    let endsNs = this.todayEndsNs
    let slot = first[bucket]!
    let days = 0
    while (slot === NONE || at[slot]! >= endsNs) {
      if (++days > mask) return this.earliestFarAway()
      bucket = (bucket + 1) & mask
      endsNs += this.dayNs
      slot = first[bucket]!
    }
    if (days > LUCKY_STEPS) this.wasted += days
    this.today = bucket
    this.todayEndsNs = endsNs
    return slot
  }

  private startAt(ns: number): void {
    const day = Math.floor(ns * this.perNs)
    this.today = day & this.mask
    this.todayEndsNs = (day + 1) * this.dayNs
  }

  // Nothing within a whole lap of the calendar: compare the heads of all buckets and jump to that day.
  private earliestFarAway(): number {
    if (this.wasted > WASTE_LIMIT || (this.mask >= MIN_BUCKETS && this.pending * 8 < this.mask)) this.recut()
    let best = NONE
    for (const slot of this.first) if (slot !== NONE && (best === NONE || this.at[slot]! < this.at[best]!)) best = slot
    this.wasted += this.mask
    this.startAt(this.at[best]!)
    return best
  }

  // Cold: when the calendar is too small, or its days no longer fit the events.

  private recut(): void {
    const slots: number[] = []
    for (const head of this.first) {
      let slot = head
      if (slot !== NONE)
        do {
          slots.push(slot)
          slot = this.next[slot]!
        } while (slot !== head)
    }
    // Equal times share a bucket, whose list is in order; a stable sort keeps that order.
    slots.sort((a, b) => this.at[a]! - this.at[b]!)
    // Twice as many buckets as events make most lists empty or single; beyond the cache, a second miss costs more.
    const sparse = slots.length <= MOST_SPARSE ? 2 : 1
    let buckets = MIN_BUCKETS
    while (buckets < sparse * slots.length) buckets *= 2
    // The near half tells the gap between events that matter soon; the far half may be timers that never run.
    const near = slots.length >> 1
    const span = near > 1 ? this.at[slots[near]!]! - this.at[slots[0]!]! : this.dayNs
    let dayNs = 1
    while (sparse * dayNs <= span / Math.max(1, near) && dayNs < 2 ** 40) dayNs *= 2
    this.first = new Int32Array(buckets).fill(NONE)
    this.mask = buckets - 1
    this.dayNs = dayNs
    this.perNs = 1 / dayNs
    this.startAt(this.nowNs)
    for (const slot of slots) this.insert(slot)
    this.wasted = 0
  }

  private newSlot(): number {
    const slot = this.slotCount++
    if (slot === this.at.length) {
      if (slot === SLOTS) throw new RangeError(`more than ${SLOTS} events pending`)
      this.at = copyInto(new Float64Array(slot * 2), this.at)
      this.next = copyInto(new Int32Array(slot * 2), this.next)
      this.prev = copyInto(new Int32Array(slot * 2), this.prev)
      this.tag = copyInto(new Int32Array(slot * 2), this.tag)
      this.arg0 = copyInto(new Int32Array(slot * 2), this.arg0)
      this.arg1 = copyInto(new Int32Array(slot * 2), this.arg1)
    }
    return slot
  }
}

function copyInto<A extends Float64Array | Int32Array>(to: A, from: A): A {
  to.set(from)
  return to
}
