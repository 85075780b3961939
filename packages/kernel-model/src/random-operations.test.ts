/**
 * 200,000 random moves on six machines, the books proved after each: sizes, options, peers, sysctls, limits of memory
 * groups, time, and allocations that fail. At the end every page is back where it came from.
 */
import { kernelProfile } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { assertQuiescent, auditKernel, trackSteps } from './testing.js'
import { RandomMachine } from './testing-random-machine.js'
import { StepAudit } from './testing-step-audit.js'

const STEPS = 34_000
const FULL_AUDIT_EVERY = 2000
/** What a failure shows of what went before it. */
const SHOWN = 12

const RUNS = [
  ['linux-6.18-x86_64', 'none', 618_001],
  ['linux-6.18-x86_64', 'v1', 618_002],
  ['linux-6.18-x86_64', 'v2', 618_003],
  ['linux-6.1-x86_64', 'none', 61_001],
  ['linux-6.1-x86_64', 'v1', 61_002],
  ['linux-6.1-x86_64', 'v2', 61_003],
] as const

function run(profile: string, group: 'none' | 'v1' | 'v2', seed: number): RandomMachine {
  const machine = new RandomMachine(kernelProfile(profile), seed, group)
  const { kernel } = machine
  const track = trackSteps(kernel)
  const audit = new StepAudit(kernel, FULL_AUDIT_EVERY)
  const history: string[] = []
  for (let step = 0; step < STEPS; step++) {
    track(step)
    try {
      history.push(`${step}: ${machine.step()}`)
      if (history.length > SHOWN) history.shift()
      audit.check()
    } catch (error) {
      throw new Error(`seed ${seed}, step ${step}: ${(error as Error).message}\n${history.join('\n')}`, {
        cause: error,
      })
    }
  }
  machine.finish()
  auditKernel(kernel)
  assertQuiescent(kernel)
  return machine
}

describe('random socket operations leave the books balanced after each, and every page returned', () => {
  it.each(RUNS)(
    '%s, memory group %s, seed %i',
    (profile, group, seed) => {
      const { kernel } = run(profile, group, seed)
      for (const proto of kernel.socks.protos) {
        if (proto.memory === null) continue
        expect(proto.memory.pages + proto.memory.perCpu.reduce((sum, pages) => sum + pages, 0), proto.name).toBe(0)
        expect(proto.sockets, proto.name).toBe(0)
      }
      for (const memcg of kernel.socks.memcgs.list) expect(memcg.sockPages).toBe(0)
    },
    120_000,
  )
})
