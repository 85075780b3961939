import { kernelProfile } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { sizeNicRing } from './nic-ring.js'
import { sizePacketRing } from './packet-ring.js'
import { sizeSwiotlb } from './swiotlb.js'
import { sizeTcpMem } from './tcp-mem.js'
import { sizeUmem } from './umem.js'

const profile = kernelProfile('linux-6.18-x86_64')
const GBIT = 125e6

describe('tcp_mem', () => {
  const of = (connections: number, rateBytes: number, memoryBytes: number | null = null) =>
    sizeTcpMem({ profile, connections, rttNs: 40e6, rateBytes, memoryBytes })
  const need = (connections: number, rateBytes: number): number =>
    of(connections, rateBytes).measured.find(({ name }) => name === 'both')!.value

  it('is a page and more for each connection, however little each sends', () => {
    expect(need(50_000, GBIT)).toBeGreaterThanOrEqual(100_000)
    expect(need(100, 1)).toBe(200)
  })

  it('grows with what is under way', () => {
    expect(need(50, 10 * GBIT)).toBeGreaterThan(need(50, GBIT))
  })

  it('writes three numbers that rise, and says when they cannot be', () => {
    const [low, pressure, most] = of(5000, GBIT).settings[0]!.split('= ')[1]!.split(' ').map(Number)
    expect(low! < pressure! && pressure! < most!).toBe(true)
    expect(of(200, GBIT, 2 ** 20).problem).toMatch(/half/)
    expect(of(200, GBIT, 2 ** 34).problem).toBeNull()
  })
})

describe('nic-ring', () => {
  const of = (stallNs: number, frameBytes = 1514) =>
    sizeNicRing({ profile, rateBytes: 10 * GBIT, frameBytes, mtu: 1500, stallNs, queues: 2 })

  it('is the smallest power of two that misses nothing', () => {
    const answer = of(500e3)
    expect(answer.settings).toEqual(['ethtool -G eth0 rx 512'])
    expect(answer.measured.find(({ name }) => name === 'frames in the stall')!.value).toBe(407)
    expect(of(50e3).settings).toEqual(['ethtool -G eth0 rx 64'])
    expect(of(2e6, 64).problem).toMatch(/missed even with 16384/)
  })

  it('costs a page for each descriptor, for each queue', () => {
    const { measured } = of(500e3)
    const ring = measured.find(({ name }) => name === 'memory of a ring')!.value
    expect(ring).toBeGreaterThan(500 * 4096)
    expect(measured.at(-1)!.value).toBe(2 * ring)
  })
})

describe('swiotlb', () => {
  it('counts what a card on the model takes, and multiplies by the cards', () => {
    const of = (ring: number) => sizeSwiotlb({ profile, nics: 4, queues: 8, ring, txRing: 512, mtu: 1500 })
    expect(of(512).measured[0]!.value).toBeGreaterThanOrEqual(511)
    expect(of(512).measured[2]!.value).toBe((of(512).measured[0]!.value + 512) * 32)
    expect(of(512).settings[0]).toMatch(/^swiotlb=\d+ /)
  })
})

describe('packet-ring', () => {
  it('holds the frames of a stall: the ring it names drops none on the model', () => {
    const load = { profile, rateBytes: GBIT, mtu: 9000, stallNs: 10e6 }
    for (const frameBytes of [60, 1514, 9014]) {
      const { measured, settings, problem } = sizePacketRing({ ...load, frameBytes })
      expect(measured.at(-1)).toMatchObject({ name: 'tried whole', value: 0 })
      expect([settings[0], problem]).toEqual([expect.stringMatching(/^tp_block_size = \d+, tp_block_nr = \d+/), null])
    }
  })
})

describe('umem', () => {
  const load = { profile, rateBytes: 10 * GBIT, mtu: 1500, stallNs: 1e6 }

  it('names rings that miss nothing, and chunks that a frame fits', () => {
    const answer = sizeUmem({ ...load, frameBytes: 1514 })
    expect(answer.settings[0]).toBe('fill ring 1024, receive ring 1024, UMEM 4194304 bytes in chunks of 2048')
    expect(answer.measured.find(({ name }) => name === 'missed')!.value).toBe(0)
    expect(sizeUmem({ ...load, mtu: 3500, frameBytes: 3514, stallNs: 1e5 }).settings[0]).toMatch(/chunks of 4096$/)
  })

  it('refuses an MTU that no chunk holds, and says which one does', () => {
    expect(() => sizeUmem({ ...load, mtu: 9000, frameBytes: 9014 })).toThrow(/at most 3826, or multi-buffer/)
  })
})
