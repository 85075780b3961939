import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { ethernet, ipv4Udp, pcapBytes, temporaryFile } from '../capture/fixtures.js'
import { generateUdpCapture } from '../capture/generate.js'
import { survey } from '../capture/survey.js'
import { InputError } from '../errors.js'
import { replayText } from '../report/replay-text.js'
import { replayOptions } from './options.js'
import { replayCapture } from './replay.js'
import type { ReplayResult } from './result.js'

const capture = (name: string): string => fileURLToPath(new URL(`../../captures/${name}`, import.meta.url))

function replay(path: string, given: Record<string, unknown> = {}): ReplayResult {
  const options = replayOptions({
    kernel: 'linux-6.18-x86_64',
    reader: 'instant',
    cpus: '1',
    memory: '256M',
    ring: '512',
    speed: '1',
    seed: '1',
    ...given,
  })
  const seen = survey(path)
  const hosts = options.hosts.length > 0 ? options.hosts : seen.busiest === null ? [] : [seen.busiest]
  return replayCapture(path, options, hosts, options.mtu ?? seen.mtu, () => {})
}

const sum = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((a, b) => a + b, 0)

/** The laws that hold whatever the capture and the options. */
function lawful(result: ReplayResult): ReplayResult {
  const { packets } = result
  expect(packets.read).toBe(packets.delivered + packets.dropped + packets.skipped)
  for (const kind of ['delivered', 'dropped', 'skipped'] as const)
    expect([kind, sum(packets.reasons[kind])]).toEqual([kind, packets[kind]])
  expect(sum(result.drops)).toBe(packets.dropped)
  for (const reason of Object.keys(result.drops))
    expect(result.limits.some((limit) => limit.reason === reason)).toBe(true)
  expect(result.leaked).toEqual([])
  expect(result.leaks).toBe(0)
  for (const { kind, peakBytes, endBytes } of result.memory) {
    expect([kind, peakBytes >= endBytes]).toEqual([kind, true])
    expect([kind, endBytes >= 0]).toEqual([kind, true])
  }
  const text = stripVTControlCharacters(replayText(result))
  for (const line of text.split('\n')) expect(line).toMatch(/^.{0,130}$/)
  return result
}

const files = [
  'dns-burst.pcap',
  'fragments.pcap',
  'jumbo.pcap',
  'mixed.pcapng',
  'redis-pipeline.pcap',
  'udp-stream.pcap',
  'web-download.pcap',
  'web-snap96.pcap',
  'web-tso.pcap',
]

describe('bundled captures', () => {
  for (const file of files) {
    it(`replays ${file} with every packet accounted for, no drop and no leak`, () => {
      const result = lawful(replay(capture(file)))
      expect(result.drops).toEqual({})
    })
    for (const host of ['192.0.2.1', '192.0.2.2'])
      for (const reader of ['instant', '20k', 'stalled'])
        it(`replays ${file} as ${host} with a reader that is ${reader}`, () => {
          lawful(replay(capture(file), { host: [host], reader }))
        })
  }

  it('delivers to programs exactly what the peers of a download sent', () => {
    const result = replay(capture('web-download.pcap'), { host: ['192.0.2.2'] })
    expect(result.bytes.readByPrograms).toBe(result.bytes.payloadIn)
    expect(result.bytes.writtenByPrograms).toBe(result.bytes.payloadOut)
  })

  it('does the same on the other kernel, on two processors and with another ring', () => {
    lawful(replay(capture('mixed.pcapng'), { kernel: 'linux-6.1-x86_64', cpus: '2', ring: '64' }))
  })

  it('gives the same result for the same seed', () => {
    const once = JSON.stringify(replay(capture('redis-pipeline.pcap')))
    expect(JSON.stringify(replay(capture('redis-pipeline.pcap')))).toBe(once)
  })
})

describe('drivers and what stands between them and memory', () => {
  const drivers = ['page-pool', 'header-split', 'ring', 'e1000', 'e1000e']
  for (const driver of drivers)
    for (const dma of driver === 'page-pool' || driver === 'e1000e' ? ['direct', 'iommu', 'swiotlb'] : ['direct'])
      it(`delivers the same over ${driver} and ${dma}, with nothing left over`, () => {
        const plain = replay(capture('dns-burst.pcap'))
        const result = lawful(replay(capture('dns-burst.pcap'), { driver, dma }))
        expect(result.packets).toEqual(plain.packets)
        expect(result.bytes.readByPrograms).toBe(plain.bytes.readByPrograms)
        expect(result.machine).toMatchObject({ driver, dma })
        expect(result.dma.bounces > 0).toBe(dma === 'swiotlb')
        expect(result.dma.iommuMaps > 0).toBe(dma === 'iommu')
        expect(result.dma.pools).toHaveLength(driver === 'page-pool' || driver === 'header-split' ? 1 : 0)
        // The card went away: whatever was mapped is not any more.
        expect(result.dma.iommuUnmaps).toBe(result.dma.iommuMaps)
        expect(replayText(result)).toMatch(new RegExp(`driver ${driver}`))
      })

  it('maps a pool page once and a classic buffer for every frame', () => {
    const pool = replay(capture('web-download.pcap'))
    const ring = replay(capture('web-download.pcap'), { driver: 'e1000e' })
    expect(ring.dma.maps).toBeGreaterThan(2 * pool.dma.maps)
    expect(pool.dma.pools[0]!.hitRate).toBeGreaterThan(0.9)
  })

  it('says what would be right', () => {
    expect(() => replay(capture('dns-burst.pcap'), { driver: 'e100' })).toThrow(/page-pool, header-split, ring/)
    expect(() => replay(capture('dns-burst.pcap'), { dma: 'none' })).toThrow(/direct, iommu, swiotlb/)
    expect(() => replay(capture('jumbo.pcap'), { driver: 'e1000' })).toThrow(/MTU up to 1500.*--driver ring/)
    lawful(replay(capture('jumbo.pcap'), { driver: 'ring' }))
  })
})

describe('hostile captures', () => {
  /** Changes bytes of the file behind its header; most captures stay readable, their packets do not. */
  const damage = (name: string, prng: Prng): Uint8Array => {
    const bytes = Uint8Array.from(readFileSync(capture(name)))
    const changes = 1 + prng.below(name.startsWith('dns') ? 400 : 60)
    for (let i = 0; i < changes; i++) bytes[40 + prng.below(bytes.length - 40)] = prng.below(256)
    return bytes
  }

  for (const name of ['dns-burst.pcap', 'fragments.pcap', 'web-snap96.pcap', 'web-tso.pcap', 'jumbo.pcap'])
    it(`ends in a lawful report or in one line for ${name} with random bytes changed`, () => {
      const seed = 4711
      const prng = new Prng(seed)
      for (let round = 0; round < 12; round++) {
        const path = temporaryFile(damage(name, prng))
        try {
          lawful(replay(path, { reader: ['instant', 'stalled', '1M'][round % 3], host: ['192.0.2.1'] }))
        } catch (error) {
          if (!(error instanceof InputError)) throw new Error(`seed ${seed}, round ${round}`, { cause: error })
          expect(error.message).not.toMatch(/\n/)
        }
      }
    })
})

describe('UDP', () => {
  const path = temporaryFile(new Uint8Array(0))
  generateUdpCapture(path, { packets: 5000, payloadBytes: [64, 1400], flows: 7 })

  it('delivers every datagram to a program that reads at once', () => {
    const result = lawful(replay(path))
    expect(result.packets.delivered).toBe(5000)
    expect(result.bytes.readByPrograms).toBe(2500 * (64 + 1400))
  })

  it('drops what a stalled program leaves no room for, and names the buffer', () => {
    const result = lawful(replay(path, { reader: 'stalled' }))
    expect(Object.keys(result.drops)).toEqual(['SOCKET_RCVBUFF'])
    expect(result.packets.delivered).toBeGreaterThan(10)
    expect(result.limits[0].setting).toMatch(/net\.core\.rmem_default/)
    const larger = lawful(replay(path, { reader: 'stalled', rcvbuf: '1000000' }))
    expect(larger.packets.delivered).toBeGreaterThan(result.packets.delivered)
  })

  it('drops less for a faster reader', () => {
    const slow = lawful(replay(path, { reader: '100k' }))
    const fast = lawful(replay(path, { reader: '100M' }))
    expect(fast.packets.dropped).toBeLessThan(slow.packets.dropped)
  })

  it('sees the same traffic behind any link header, also where frames are cut', () => {
    const udp = ipv4Udp({ payload: 200 })
    const at = (sec: number, bytes: number[], wireBytes = bytes.length) => ({ sec, ns: 0, bytes, wireBytes })
    const sll = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0, 8, 0]
    const cases: [number, number[]][] = [
      [1, ethernet(0x0800, udp, [5, 6])],
      [101, udp],
      [113, [...sll, ...udp]],
    ]
    for (const [linkType, frame] of cases) {
      const cut = frame.slice(0, frame.length - 150)
      const bytes = pcapBytes([at(0, frame), at(1, cut, frame.length)], { linkType })
      const result = lawful(replay(temporaryFile(bytes)))
      expect(result.packets.delivered).toBe(2)
      expect(result.bytes.readByPrograms).toBe(400)
      expect([result.capture.cutFrames, result.capture.missingBytes]).toEqual([1, 150])
    }
  })
})
