import { describe, expect, it } from 'vitest'
import { withoutTracepoints } from './untraced.js'
import { wirePacketNs } from './wire.js'

describe('a bundle without tracepoints', () => {
  it('has no test of a tracepoint left, and everything else as it was', () => {
    const code =
      'env.trace.kfreeSkb !== null && env.trace.kfreeSkb(cpu); if (trace.copy !== null && n > 0) x(); y !== null'
    expect(withoutTracepoints(code)).toBe('false && env.trace.kfreeSkb(cpu); if (false && n > 0) x(); y !== null')
  })
})

describe('the wire', () => {
  it('takes 67.2 ns for the smallest frame, 14.88 million a second', () => {
    expect(wirePacketNs(18)).toBeCloseTo(67.2)
    expect(1e9 / wirePacketNs(1400)).toBeCloseTo(852_660, -2)
  })
})
