import { describe, expect, it } from 'vitest'
import { Frame, FrameKind } from '../capture/frame.js'
import { SegmentBuilder, SegmentOptions, synOptions, TCP_ACK, TCP_SYN, timestampOption } from './segment.js'
import { TcpFlow } from './tcp-flow.js'

const mac = Uint8Array.of(2, 0, 0, 0, 0, 1)

describe('SegmentBuilder', () => {
  for (const version of [4, 6])
    it(`builds IPv${version} segments that read back as they were meant`, () => {
      const flow = new TcpFlow(0, version, 0, 1, 2, 3, 0x0a000001, 5, 6, 7, 0x0a000002, 80, 40000)
      const builder = new SegmentBuilder(mac, mac)
      builder.build(flow, -5, 7, TCP_ACK, 500, timestampOption(11, 22), 1000)
      const frame = new Frame()
      expect(frame.parse(builder.bytes, 0, builder.capBytes, builder.wireBytes, 1)).toBe(FrameKind.Tcp)
      expect([frame.srcPort, frame.dstPort, frame.payloadBytes, frame.headerBytes]).toEqual([40000, 80, 1000, 32])
      expect([frame.src3, frame.dst3, frame.src0]).toEqual([0x0a000002, 0x0a000001, version === 6 ? 5 : 0])
      const options = new SegmentOptions()
      options.parse(builder.bytes, frame.transportAt + 20, frame.transportAt + frame.headerBytes)
      expect([options.hasTimestamp, options.timestamp, options.echo]).toEqual([true, 11, 22])
    })

  it('builds a SYN whose options read back', () => {
    const options = new SegmentOptions()
    for (const stamp of [null, 77]) {
      const bytes = Uint8Array.from(synOptions(1460, 7, stamp, 0))
      expect(bytes.length % 4).toBe(0)
      options.parse(bytes, 0, bytes.length)
      expect([options.mss, options.scale, options.hasTimestamp]).toEqual([1460, 7, stamp !== null])
    }
    expect(TCP_SYN).toBe(2)
  })

  it('stops at options that make no sense', () => {
    const options = new SegmentOptions()
    for (const bytes of [[5], [5, 0], [5, 200, 1], [8, 10, 1], [0, 5, 10]]) {
      options.parse(Uint8Array.from(bytes), 0, bytes.length)
      expect([options.sackBlocks, options.hasTimestamp]).toEqual([0, false])
    }
  })
})
