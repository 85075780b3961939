/**
 * Timers of a tick's resolution. All that are due at one tick share one event of the clock, as they share a bucket of
 * the kernel's timer wheel: a million sockets have a million timers, at a few hundred different times.
 *
 * A timer that is stopped stays on its tick's list; its owner has forgotten its number and it runs for nobody.
 */
import type { EventQueue } from '@netmem/base'

/** Told the timer's number, whose it is and which of its timers. */
export type TickHandler = (timer: number, owner: number, which: number) => void

/** Numbers per timer on a list: its own, its owner, which. */
const ENTRY = 3

export class TickTimers {
  /** The lists by tick. */
  private readonly ticks = new Map<number, number[]>()
  private readonly spare: number[][] = []
  private readonly clockHandler: number
  private latest = 0

  constructor(
    private readonly clock: EventQueue,
    private readonly tickNs: number,
    private readonly run: TickHandler,
  ) {
    this.clockHandler = clock.register((tick) => this.expire(tick))
  }

  /** @param atNs a whole number of ticks. @returns the timer's number: never 0, never given out twice. */
  start(atNs: number, owner: number, which: number): number {
    const tick = Math.round(atNs / this.tickNs) | 0
    let list = this.ticks.get(tick)
    if (list === undefined) {
      list = this.spare.pop() ?? []
      this.ticks.set(tick, list)
      this.clock.schedule(atNs, this.clockHandler, tick)
    }
    this.latest += 1
    list.push(this.latest, owner, which)
    return this.latest
  }

  private expire(tick: number): void {
    const list = this.ticks.get(tick)!
    // What is set for this same tick from now on runs after these.
    this.ticks.delete(tick)
    for (let at = 0; at < list.length; at += ENTRY) this.run(list[at]!, list[at + 1]!, list[at + 2]!)
    list.length = 0
    this.spare.push(list)
  }
}
