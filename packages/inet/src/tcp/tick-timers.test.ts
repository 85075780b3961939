import { EventQueue } from '@netmem/base'
import { expect, it } from 'vitest'
import { TickTimers } from './tick-timers.js'

it('runs the timers of a tick in the order in which they were set, in one event of the clock', () => {
  const clock = new EventQueue()
  const ran: string[] = []
  const timers = new TickTimers(clock, 4e6, (timer, owner, which) =>
    ran.push(`${timer}:${owner}.${which}@${clock.nowNs}`),
  )
  timers.start(8e6, 7, 1)
  timers.start(4e6, 5, 0)
  timers.start(8e6, 6, 2)
  expect(clock.pending).toBe(2)
  clock.runUntil(10e6)
  expect(ran).toEqual(['2:5.0@4000000', '1:7.1@8000000', '3:6.2@8000000'])
  expect(clock.pending).toBe(0)
})

it('runs a timer that is set for the tick that is running after those already there', () => {
  const clock = new EventQueue()
  const ran: number[] = []
  const timers: TickTimers = new TickTimers(clock, 4e6, (_timer, owner) => {
    ran.push(owner)
    if (owner === 1) timers.start(4e6, 3, 0)
  })
  timers.start(4e6, 1, 0)
  timers.start(4e6, 2, 0)
  clock.runUntil(4e6)
  expect(ran).toEqual([1, 2, 3])
})
