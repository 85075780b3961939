import { describe, expect, it } from 'vitest'
import { Cpu } from './cpu.js'
import { ERRNO, errnoName } from './errno.js'
import { Prng } from './prng.js'
import { Trace, traceSubscribe } from './trace.js'

describe('tracepoints', () => {
  it('are null until somebody subscribes, and null again when the last one leaves', () => {
    const trace = new Trace()
    expect(Object.values(trace).every((hook) => hook === null)).toBe(true)
    const calls: string[] = []
    const one = traceSubscribe(trace, { warn: (site) => calls.push(`one ${site}`) })
    const two = traceSubscribe(trace, { warn: (site) => calls.push(`two ${site}`), printk: () => {} })
    trace.warn?.('inet_sock_destruct', '')
    one()
    trace.warn?.('sk_stream_kill_queues', '')
    one()
    two()
    expect(calls).toEqual(['one inet_sock_destruct', 'two inet_sock_destruct', 'two sk_stream_kill_queues'])
    expect(trace.warn).toBeNull()
    expect(trace.printk).toBeNull()
  })

  it('belong to one machine: another Trace sees nothing', () => {
    const trace = new Trace()
    traceSubscribe(new Trace(), { warn: () => {} })
    expect(trace.warn).toBeNull()
  })
})

describe('small things', () => {
  it('names errors in both directions', () => {
    expect(errnoName(-ERRNO.ENOBUFS)).toBe('ENOBUFS')
    expect(errnoName(9999)).toBe('9999')
  })

  it('gives the same random numbers for the same seed, spread over the range', () => {
    const a = new Prng(7)
    const b = new Prng(7)
    const counts = new Array(10).fill(0)
    for (let i = 0; i < 10_000; i++) {
      const x = a.below(10)
      expect(x).toBe(b.below(10))
      counts[x]++
    }
    for (const count of counts) expect(count).toBeGreaterThan(800)
    expect(new Prng(0).next()).not.toBe(new Prng(1).next())
  })

  it('starts a CPU in task context', () => {
    const cpu = new Cpu(1, 0)
    expect([cpu.bhDisabled, cpu.servingSoftirq, cpu.hardirq, cpu.irqsDisabled]).toEqual([0, 0, 0, 0])
  })
})
