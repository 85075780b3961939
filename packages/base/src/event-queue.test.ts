import { describe, expect, it } from 'vitest'
import { EventQueue } from './event-queue.js'
import { Prng } from './prng.js'

describe('EventQueue', () => {
  it('runs events by time, and equal times in the order they were scheduled', () => {
    const queue = new EventQueue()
    const ran: string[] = []
    const log = queue.register((a, b) => ran.push(`${queue.nowNs}:${a}.${b}`))
    queue.schedule(20, log, 1)
    queue.schedule(10, log, 2)
    queue.schedule(20, log, 3, 7)
    queue.schedule(10, log, 4)
    while (queue.runNext());
    expect(ran).toEqual(['10:2.0', '10:4.0', '20:1.0', '20:3.7'])
    expect(queue.nextAtNs()).toBe(-1)
  })

  it('runs what is overdue at once, and what a handler schedules for now in the same runUntil', () => {
    const queue = new EventQueue()
    const ran: number[] = []
    const leaf = queue.register((a) => ran.push(a))
    const parent = queue.register(() => {
      queue.schedule(0, leaf, 1)
      queue.schedule(queue.nowNs, leaf, 2)
    })
    queue.schedule(1e9, parent)
    queue.runUntil(1e9)
    expect(ran).toEqual([1, 2])
    queue.runUntil(5e9)
    expect(queue.nowNs).toBe(5e9)
    queue.schedule(2e9, leaf, 3)
    expect(queue.nextAtNs()).toBe(5e9)
  })

  it('cancels each event once, and never a later event that took its slot', () => {
    const queue = new EventQueue()
    const nothing = queue.register(() => {})
    const event = queue.schedule(5, nothing)
    expect(queue.cancel(event)).toBe(true)
    expect(queue.cancel(event)).toBe(false)
    const next = queue.schedule(6, nothing)
    expect(queue.cancel(event)).toBe(false)
    expect(queue.pending).toBe(1)
    queue.runNext()
    expect(queue.cancel(next)).toBe(false)
    expect(queue.cancel(0)).toBe(false)
    expect(queue.cancel(0x7fffffff)).toBe(false)
  })

  // Random schedules, cancels and runs against a sorted list, over gaps from nothing to hours.
  it.each([1, 2, 3, 4, 5, 6])('agrees with a sorted list (seed %i)', (seed) => {
    const rng = new Prng(seed)
    const queue = new EventQueue()
    const model: { at: number; seq: number; id: number }[] = []
    const got: number[] = []
    const handler = queue.register((id) => got.push(id))
    const gaps = [1, 50, 4000, 1e6, 3.6e12]
    for (let step = 0; step < 20_000; step++) {
      const dice = rng.below(10)
      const growing = step % 8000 < 4000
      if (dice < (growing ? 6 : 4)) {
        const at = queue.nowNs + rng.below(gaps[rng.below(gaps.length)]!)
        model.push({ at, seq: step, id: queue.schedule(at, handler, step) })
      } else if (dice === 9 && model.length > 0) {
        const [gone] = model.splice(rng.below(model.length), 1)
        expect(queue.cancel(gone!.id)).toBe(true)
      } else if (dice === 8 && step % 7 === 0) {
        const until = queue.nowNs + rng.below(5000)
        queue.runUntil(until)
        model.sort((a, b) => a.at - b.at || a.seq - b.seq)
        while (model.length > 0 && model[0]!.at <= until) expect(got.shift()).toBe(model.shift()!.seq)
      } else {
        model.sort((a, b) => a.at - b.at || a.seq - b.seq)
        const due = model.shift()
        expect(queue.runNext()).toBe(due !== undefined)
        if (due !== undefined) {
          expect(got.shift()).toBe(due.seq)
          expect(queue.nowNs).toBe(due.at)
        }
      }
      expect(got.length).toBe(0)
      expect(queue.pending).toBe(model.length)
    }
  })
})
