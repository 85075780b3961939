import { describe, expect, it } from 'vitest'
import { buildFrame, internetChecksum } from './frames.js'

const target = { mac: '02:00:00:00:00:0b', ip: '10.0.0.2', ethernet: true }

describe('frames that a trace describes', () => {
  it('are 42 bytes and the payload for UDP, and 28 on a device without Ethernet', () => {
    expect(buildFrame({ udp: 100 }, target)).toHaveLength(142)
    expect(buildFrame({ udp: 100 }, { ...target, ethernet: false })).toHaveLength(128)
  })

  it('carry checksums that verify: the sum over a checked header is zero', () => {
    const bytes = buildFrame({ udp: 33 }, target)
    expect(internetChecksum(bytes, 14, 34)).toBe(0)
    const pseudo = (0x0a00 + 0x0009 + 0x0a00 + 0x0002 + 17 + 41) | 0
    expect(internetChecksum(bytes, 34, bytes.length, pseudo)).toBe(0)
  })

  it('are spoilt as asked: bad sums, deltas, cut and padded', () => {
    const bad = buildFrame({ udp: 8, ip_csum: 'bad', udp_len_delta: 1, truncate: 40, pad_to: 64 }, target)
    expect(bad).toHaveLength(64)
    expect(internetChecksum(bad, 14, 34)).not.toBe(0)
    expect((bad[38]! << 8) | bad[39]!).toBe(17)
    expect(bad.slice(40).every((byte) => byte === 0)).toBe(true)
    expect(buildFrame({ udp: 1, udp_csum: 'zero' }, target).slice(40, 42)).toEqual(new Uint8Array(2))
  })

  it('are the cut header alone when a raw frame is shorter than it', () => {
    expect([...buildFrame({ raw: 8 }, target)]).toEqual([2, 0, 0, 0, 0, 0x0b, 2, 0])
    expect([...buildFrame({ raw: 16 }, target).slice(12)]).toEqual([0x88, 0xb5, 0, 0])
  })
})
