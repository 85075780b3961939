import { Cpu, kernelProfile, Trace } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import {
  allocPages,
  freePages,
  kfree,
  kmalloc,
  kmemCacheAlloc,
  kmemCacheCreate,
  kmemCacheFree,
  memoryCreate,
} from './index.js'
import { auditMemory } from './testing.js'

describe('smoke', () => {
  it('allocates', () => {
    const mem = memoryCreate({
      profile: kernelProfile('linux-6.18-x86_64'),
      bytes: 64 << 20,
      cpus: 2,
      trace: new Trace(),
    })
    const cpu = new Cpu(0, 0)
    const a = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, 't')
    const b = allocPages(mem, cpu, mem.gfp.GFP_KERNEL | mem.gfp.COMP, 3, -1, 't')
    expect(a).toBeGreaterThan(0)
    freePages(mem, cpu, a, 0, 't')
    freePages(mem, cpu, b, 3, 't')
    const c = kmalloc(mem, cpu, 300, mem.gfp.GFP_ATOMIC, 't')
    kfree(mem, cpu, c, 't')
    const cache = kmemCacheCreate(mem, 'x', 224, { flags: 1, useroffset: 40, usersize: 48 })
    const o = kmemCacheAlloc(cache, cpu, mem.gfp.GFP_ATOMIC, 't')
    kmemCacheFree(cache, cpu, o, 't')
    auditMemory(mem)
    const t0 = performance.now()
    const m4 = memoryCreate({
      profile: kernelProfile('linux-6.18-x86_64'),
      bytes: 2 ** 32,
      cpus: 2,
      trace: new Trace(),
    })
      '4g',
      performance.now() - t0,
      m4.zones.map((z) => [z.managed, ...z.wmark, z.pcp[0]]),
    )
  })
})
