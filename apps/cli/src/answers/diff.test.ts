import { describe, expect, it } from 'vitest'
import type { ReplayResult } from '../replay/result.js'
import { diffText } from '../report/diff-text.js'
import { compare } from './diff.js'

/** What is compared of a replay. */
function result(over: Partial<ReplayResult> = {}): ReplayResult {
  return {
    schema: 'netmem-replay/1',
    capture: { file: 'a.pcap' },
    machine: { kernel: 'Linux 6.18', rcvbuf: null, sysctl: {} },
    packets: { read: 10, delivered: 10, dropped: 0, skipped: 0 },
    bytes: { truesizePeak: 100, payloadAtPeak: 50, readByPrograms: 5, writtenByPrograms: 0 },
    drops: {},
    memory: [{ kind: 'sockets', peakBytes: 1000 }],
    allocations: [{ cache: 'TCP', path: 'sk_prot_alloc', bytes: 64 }],
    caches: [{ cache: 'page pool', requests: 10, hits: 9 }],
    copies: { bytes: 5, calls: 1 },
    dma: { toMemoryBytes: 1, fromMemoryBytes: 2, maps: 3, syncs: 4 },
    leaks: 0,
    ...over,
  } as unknown as ReplayResult
}

describe('diff', () => {
  it('finds nothing between a replay and itself', () => {
    const answer = compare(result(), result())
    expect(answer.settings).toEqual([])
    expect(answer.rows.every(({ a, b }) => a === b)).toBe(true)
    expect(diffText(['a', 'b'], answer)).toBe('Nothing differs.')
  })

  it('shows settings, changes, and what only one side has', () => {
    const other = result({
      machine: { kernel: 'Linux 6.1', rcvbuf: null, sysctl: { 'net.core.rmem_max': '1' } },
      packets: { read: 10, delivered: 7, dropped: 3, skipped: 0 },
      drops: { SOCKET_RCVBUFF: 3 },
      memory: [{ kind: 'sockets', peakBytes: 2500 }],
    } as unknown as Partial<ReplayResult>)
    const answer = compare(result(), other)
    expect(answer.settings).toEqual([
      { name: 'kernel', a: 'Linux 6.18', b: 'Linux 6.1' },
      { name: 'net.core.rmem_max', a: 'default', b: '1' },
    ])
    const text = diffText(['a', 'b'], answer)
    expect(text).toMatch(/sockets +1\.00 kB +2\.50 kB +2\.5 times/)
    expect(text).toMatch(/SOCKET_RCVBUFF +– +3 +new/)
    expect(text).toMatch(/delivered +10 +7 +-30\.0 %/)
  })
})
