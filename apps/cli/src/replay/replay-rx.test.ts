import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { describe, expect, it } from 'vitest'
import { survey } from '../capture/survey.js'
import { InputError } from '../errors.js'
import { replayRxText } from '../report/replay-rx-text.js'
import { replayOptions } from './options.js'
import { RX_PATHS, type RxPath, rxPaths } from './receive-path.js'
import { type RxPathResult, replayReceivePaths } from './replay-rx.js'

const capture = (name: string): string => fileURLToPath(new URL(`../../captures/${name}`, import.meta.url))

function compare(name: string, given: Record<string, unknown> = {}): Record<RxPath, RxPathResult> {
  const path = capture(name)
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
  const result = replayReceivePaths(path, options, options.mtu ?? survey(path).mtu, RX_PATHS)
  for (const line of stripVTControlCharacters(replayRxText(result)).split('\n')) expect(line).toMatch(/^.{0,130}$/)
  return Object.fromEntries(result.paths.map((path) => [path.path, path])) as Record<RxPath, RxPathResult>
}

const lost = (path: RxPathResult): number => Object.values(path.dropped).reduce((a, b) => a + b, 0)

describe('replay --rx', () => {
  for (const name of ['udp-stream.pcap', 'web-download.pcap', 'web-tso.pcap', 'jumbo.pcap', 'mixed.pcapng'])
    it(`delivers all of ${name}, merged or not, but what AF_XDP has no room for`, () => {
      const { socket, 'packet-mmap': ring, 'af-xdp': xdp } = compare(name)
      expect([lost(socket), lost(ring)]).toEqual([0, 0])
      expect(ring.delivered).toEqual(socket.delivered)
      expect(xdp.delivered.packets + lost(xdp)).toBe(xdp.frames)
      expect(xdp.delivered.packets).toBeGreaterThan(0)
    })

  for (const driver of ['e1000', 'e1000e', 'ring', 'header-split'])
    for (const kernel of ['linux-6.18-x86_64', 'linux-6.1-x86_64'])
      it(`works with ${driver} on ${kernel}`, () => {
        const { socket, 'packet-mmap': ring, 'af-xdp': xdp } = compare('web-download.pcap', { driver, kernel })
        expect(ring.delivered).toEqual(socket.delivered)
        expect(xdp.delivered.packets).toBe(xdp.frames)
      })

  it('shows what each path copies', () => {
    const paths = compare('udp-stream.pcap')
    for (const path of Object.values(paths)) {
      expect([path.path, path.delivered.packets]).toEqual([path.path, path.frames])
      expect([path.path, lost(path)]).toEqual([path.path, 0])
    }
    const { bytes } = paths.socket.delivered
    expect(paths['packet-mmap'].delivered.bytes).toBe(bytes)
    expect(paths['af-xdp'].delivered.bytes).toBe(bytes)
    expect(paths.socket.copies.bytes).toBeGreaterThanOrEqual(bytes)
    expect(paths['packet-mmap'].copies.bytes).toBeGreaterThanOrEqual(bytes)
    expect(paths['packet-mmap'].calls).toBe(0)
    expect(paths.socket.calls).toBeGreaterThan(paths.socket.delivered.packets)
  })

  it('drops where a program does not read', () => {
    const paths = compare('udp-stream.pcap', { reader: 'stalled', rcvbuf: '20k' })
    expect(paths.socket.dropped.tp_drops).toBeGreaterThan(paths.socket.frames / 2)
    expect(lost(paths['packet-mmap'])).toBe(0)
  })

  it('knows its paths', () => {
    expect(rxPaths('af-xdp, socket')).toEqual(['af-xdp', 'socket'])
    expect(() => rxPaths('pcap')).toThrow(InputError)
  })
})
