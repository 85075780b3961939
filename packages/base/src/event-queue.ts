/**
 * Virtual time: a queue of events ordered by nanosecond, first in first out among equal times. Interrupts,
 * timers and workqueues are events; nothing here looks at the host's clock.
 */
import type { Ns } from './brands.js'

/** Called with the two numbers given to `schedule`. */
export type EventHandler = (arg0: number, arg1: number) => void

export class EventQueue {
  /** Virtual time: that of the event that runs, else the latest that ran. */
  nowNs = 0 as Ns
  private readonly handlers: EventHandler[] = []
  private readonly at: number[] = []
  private readonly order: number[] = []
  private readonly what: number[] = []

  /** @returns the number by which `schedule` names this handler. */
  register(handler: EventHandler): number {
    this.handlers.push(handler)
    return this.handlers.length - 1
  }
}
