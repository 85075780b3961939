import { kernelProfile } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { gfpflagsAllowBlocking, gfpParse, gfpText } from './index.js'
import { testMachine } from './testing.js'

// Every distinct text that the recorded allocation traces hold.
const RECORDED = {
  'linux-6.18-x86_64': [
    'GFP_ATOMIC',
    'GFP_ATOMIC|__GFP_COMP',
    'GFP_ATOMIC|__GFP_NOWARN',
    'GFP_ATOMIC|__GFP_NOWARN|__GFP_NOMEMALLOC',
    'GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC',
    'GFP_ATOMIC|__GFP_ZERO',
    'GFP_KERNEL',
    'GFP_KERNEL_ACCOUNT',
    'GFP_KERNEL_ACCOUNT|__GFP_NOWARN|__GFP_NOMEMALLOC',
    'GFP_KERNEL|__GFP_NOWARN|__GFP_COMP|__GFP_NOMEMALLOC',
    'GFP_KERNEL|__GFP_NOWARN|__GFP_NOMEMALLOC',
    'GFP_KERNEL|__GFP_ZERO',
    'GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_COMP',
    'GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_COMP|__GFP_ACCOUNT',
    'GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NORETRY|__GFP_COMP',
  ],
  'linux-6.1-x86_64': [
    'GFP_ATOMIC',
    'GFP_ATOMIC|__GFP_COMP',
    'GFP_ATOMIC|__GFP_NOWARN',
    'GFP_ATOMIC|__GFP_NOWARN|__GFP_NOMEMALLOC',
    'GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC',
    'GFP_ATOMIC|__GFP_ZERO',
    'GFP_KERNEL',
    'GFP_KERNEL_ACCOUNT',
    'GFP_KERNEL_ACCOUNT|__GFP_NOWARN|__GFP_NOMEMALLOC',
    'GFP_KERNEL|__GFP_NOWARN|__GFP_COMP|__GFP_NOMEMALLOC',
    'GFP_KERNEL|__GFP_NOWARN|__GFP_NOMEMALLOC',
    'GFP_KERNEL|__GFP_ZERO',
    'GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_COMP|__GFP_ACCOUNT',
    'GFP_NOWAIT|__GFP_IO|__GFP_FS|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP',
  ],
} as const

describe.each(Object.entries(RECORDED))('allocation masks of %s', (profile, texts) => {
  const { mem } = testMachine({ profile })

  it.each(texts)('prints %s from its bits', (text) => {
    expect(gfpText(mem, gfpParse(mem, text))).toBe(text)
  })

  it('prints what the page-frag refill asks for as the kernel does', () => {
    const { gfp } = mem
    const mask = (gfp.GFP_KERNEL & ~gfp.DIRECT_RECLAIM) | gfp.COMP | gfp.NOWARN | gfp.NORETRY
    expect(texts).toContain(gfpText(mem, mask))
  })
})

describe('allocation masks', () => {
  it('have the numbers of their kernel', () => {
    const { mem } = testMachine()
    const { mem: old } = testMachine({ profile: 'linux-6.1-x86_64' })
    expect([mem.gfp.GFP_ATOMIC, old.gfp.GFP_ATOMIC]).toEqual([0x820, 0xa20])
    expect([mem.gfp.GFP_NOWAIT, old.gfp.GFP_NOWAIT]).toEqual([0x2800, 0x800])
    expect([mem.gfp.GFP_KERNEL, old.gfp.GFP_KERNEL]).toEqual([0xcc0, 0xcc0])
    expect([mem.gfp.GFP_KERNEL_ACCOUNT, old.gfp.GFP_KERNEL_ACCOUNT]).toEqual([0x400cc0, 0x400cc0])
    expect([mem.gfp.ATOMIC, old.gfp.ATOMIC]).toEqual([0, 0x200])
  })

  it('carry every name of the profile', () => {
    for (const name of ['linux-6.18-x86_64', 'linux-6.1-x86_64']) {
      const { mem } = testMachine({ profile: name })
      const table = kernelProfile(name).gfp
      expect({ ...mem.gfp }).toEqual({ ...table.bits, ...table.masks })
    }
  })

  it('print nothing as none and unknown bits as a number', () => {
    const { mem } = testMachine()
    expect(gfpText(mem, 0)).toBe('none')
    expect(gfpText(mem, mem.gfp.GFP_KERNEL | 0x10000000)).toBe('GFP_KERNEL|0x10000000')
    expect(gfpParse(mem, 'none')).toBe(0)
    expect(() => gfpParse(mem, 'GFP_NONSENSE')).toThrow('no gfp flag "GFP_NONSENSE"')
  })

  it('say whether the caller may sleep', () => {
    const { mem } = testMachine()
    expect(gfpflagsAllowBlocking(mem, mem.gfp.GFP_KERNEL)).toBe(true)
    expect(gfpflagsAllowBlocking(mem, mem.gfp.GFP_ATOMIC)).toBe(false)
  })
})
