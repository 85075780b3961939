import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { InputError } from '../errors.js'
import { addressText, parseAddress } from './address.js'
import { ByteSource } from './byte-source.js'
import { ethernet, ipv4Udp, pcapBytes, pcapngBuilder, temporaryFile } from './fixtures.js'
import { Frame, FrameKind } from './frame.js'
import { generateUdpCapture } from './generate.js'
import { CaptureReader } from './reader.js'
import { survey } from './survey.js'

interface Seen {
  readonly timeNs: number
  readonly capBytes: number
  readonly wireBytes: number
  readonly linkType: number
  readonly first: number
}

function readAll(bytes: Uint8Array, windowBytes?: number): { seen: Seen[]; reader: CaptureReader } {
  const source = new ByteSource(temporaryFile(bytes), windowBytes)
  try {
    const reader = new CaptureReader(source)
    const seen: Seen[] = []
    while (reader.next()) {
      const { timeNs, capBytes, wireBytes, linkType } = reader
      seen.push({ timeNs, capBytes, wireBytes, linkType, first: source.bytes[reader.at] })
    }
    return { seen, reader }
  } finally {
    source.close()
  }
}

const capture = (name: string): string => fileURLToPath(new URL(`../../captures/${name}`, import.meta.url))

describe('classic pcap', () => {
  const packets = [
    { sec: 1_700_000_000, ns: 999_999_000, bytes: [1, 2, 3] },
    { sec: 1_700_000_001, ns: 1000, bytes: [4], wireBytes: 1500 },
    { sec: 1_700_000_000, ns: 0, bytes: [] },
  ]
  const expected = [
    { timeNs: 0, capBytes: 3, wireBytes: 3, linkType: 1, first: 1 },
    { timeNs: 2000, capBytes: 1, wireBytes: 1500, linkType: 1, first: 4 },
    { timeNs: -999_999_000, capBytes: 0, wireBytes: 0, linkType: 1 },
  ]

  for (const le of [true, false])
    for (const nano of [true, false])
      for (const patched of [true, false])
        if (!(patched && nano))
          it(`reads ${le ? 'little' : 'big'}-endian ${nano ? 'nano' : 'micro'}seconds${patched ? ' with long record headers' : ''}`, () => {
            const { seen } = readAll(pcapBytes(packets, { le, nano, patched }))
            expect(seen).toMatchObject(expected)
          })

  it('takes the longer of two lengths and counts it when a record claims more captured than sent', () => {
    const { seen, reader } = readAll(pcapBytes([{ sec: 0, ns: 0, bytes: [1, 2, 3], wireBytes: 2 }]))
    expect(seen[0].wireBytes).toBe(3)
    expect(reader.oddLengths).toBe(1)
  })

  it('reads records that span the end of the window, however small the window is', () => {
    const many = Array.from({ length: 50 }, (_, i) => ({ sec: 0, ns: i * 1000, bytes: new Array(i).fill(i) }))
    for (const windowBytes of [40, 64, 100, 1000]) {
      const { seen } = readAll(pcapBytes(many), windowBytes)
      expect(seen.map((packet) => packet.capBytes)).toEqual(many.map((packet) => packet.bytes.length))
      expect(seen.slice(1).every((packet, i) => packet.first === i + 1)).toBe(true)
    }
  })
})

describe('pcapng', () => {
  for (const le of [true, false])
    it(`reads several interfaces, resolutions and offsets, skipping other blocks (${le ? 'little' : 'big'}-endian)`, () => {
      const bytes = pcapngBuilder(le)
        .section()
        .iface(1, [{ code: 2, value: [...Buffer.from('eth0')] }])
        .iface(101, [{ code: 9, value: [9] }])
        .iface(1, [{ code: 9, value: [0x80 | 10] }])
        .block(4, [0, 0, 0, 0])
        .packet(0, 1_700_000_000_000_000n, [1])
        .block(0xbad, [1, 2, 3, 4, 5])
        .packet(1, 1_700_000_000_000_000_500n, [2], 99)
        .packet(2, (1_700_000_001n << 10n) + 512n, [3])
        .obsolete(0, 1_700_000_000_000_007n, [4])
        .block(5, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .simple([5, 5, 5])
        .bytes()
      const { seen, reader } = readAll(bytes)
      expect(seen).toEqual([
        { timeNs: 0, capBytes: 1, wireBytes: 1, linkType: 1, first: 1 },
        { timeNs: 500, capBytes: 1, wireBytes: 99, linkType: 101, first: 2 },
        { timeNs: 1.5e9, capBytes: 1, wireBytes: 1, linkType: 1, first: 3 },
        { timeNs: 7000, capBytes: 1, wireBytes: 1, linkType: 1, first: 4 },
        { timeNs: 7000, capBytes: 3, wireBytes: 3, linkType: 1, first: 5 },
      ])
      expect(reader.blocksSkipped).toBe(2)
      expect(reader.interfacesSeen).toBe(3)
      expect(reader.startMs).toBe(1_700_000_000_000)
    })

  it('starts over with interfaces and byte order at a new section', () => {
    const one = pcapngBuilder(true).section().iface(1).packet(0, 5n, [1]).bytes()
    const two = pcapngBuilder(false).section().iface(113).packet(0, 9n, [2]).bytes()
    const { seen } = readAll(Uint8Array.from([...one, ...two]))
    expect(seen.map(({ linkType, timeNs }) => [linkType, timeNs])).toEqual([
      [1, 0],
      [113, 4000],
    ])
  })

  it('cuts a simple packet at the snap length of its interface', () => {
    const { seen } = readAll(pcapngBuilder().section().iface(1, [], 4).simple([1, 2, 3, 4], 90).bytes())
    expect(seen[0]).toMatchObject({ capBytes: 4, wireBytes: 90 })
  })
})

describe('damage', () => {
  const good = {
    pcap: pcapBytes([0, 1, 2].map((i) => ({ sec: i, ns: 0, bytes: ethernet(0x0800, ipv4Udp({ payload: 4 })) }))),
    pcapng: pcapngBuilder()
      .section()
      .iface(1, [{ code: 9, value: [9] }])
      .packet(0, 0n, ethernet(0x0800, ipv4Udp({ payload: 4 }), [7]))
      .block(77, [1, 2, 3])
      .simple(ethernet(0x86dd, [0x60, 0]))
      .bytes(),
  }

  /** Reads to the end and parses every frame. @returns how many packets came, or the error's one line. */
  const outcome = (bytes: Uint8Array): number | string => {
    const source = new ByteSource(temporaryFile(bytes), 64)
    const frame = new Frame()
    try {
      const reader = new CaptureReader(source)
      while (reader.next()) frame.parse(source.bytes, reader.at, reader.capBytes, reader.wireBytes, reader.linkType)
      return reader.packets
    } catch (error) {
      if (!(error instanceof InputError)) throw error
      expect(error.message).not.toMatch(/\n/)
      return error.message
    } finally {
      source.close()
    }
  }

  for (const [name, bytes] of Object.entries(good)) {
    it(`ends ${name} cut at any byte with a place in the file, never with a crash`, () => {
      for (let length = 0; length < bytes.length; length++) {
        const source = new ByteSource(temporaryFile(bytes.slice(0, length)), 64)
        try {
          const reader = new CaptureReader(source)
          while (reader.next());
          const whole = readAll(bytes.slice(0, length)).reader
          if (whole.cutOff !== null) expect(whole.cutOff).toMatch(/byte \d+: the file is cut off/)
        } catch (error) {
          expect(error).toBeInstanceOf(InputError)
        } finally {
          source.close()
        }
      }
    })

    it(`takes any value of any byte of ${name} as packets or as one line of error`, () => {
      for (let at = 0; at < bytes.length; at++)
        for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
          const changed = bytes.slice()
          changed[at] = value
          outcome(changed)
        }
    })
  }

  it('takes random bytes after a good start as packets or as one line of error', () => {
    const prng = new Prng(20240817)
    for (let round = 0; round < 300; round++) {
      const start = round % 2 === 0 ? good.pcap.slice(0, 24) : good.pcapng.slice(0, 60 + (round % 40))
      const noise = Array.from({ length: prng.below(400) }, () => prng.below(256))
      outcome(Uint8Array.from([...start, ...noise]))
    }
  })

  it('names what an unknown file starts with and what would be right', () => {
    expect(outcome(Uint8Array.from([]))).toMatch(/the file is empty, expected a pcap or pcapng capture/)
    expect(outcome(Uint8Array.from([0x1f, 0x8b, 8, 0, 0]))).toMatch(/starts with 1f 8b 08 00, gzip data.*expected pcap/)
    expect(outcome(Uint8Array.from([65]))).toMatch(/starts with 41\); expected pcap/)
    expect(outcome(pcapBytes([], { linkType: 105 }))).toMatch(
      /byte 20: link type 105 \(802\.11\) is not read, expected/,
    )
  })

  it('names the place of a length that cannot be', () => {
    const bytes = good.pcap.slice()
    bytes.set([0xff, 0xff, 0xff, 0x7f], 24 + 8)
    expect(outcome(bytes)).toMatch(
      /byte 32: packet 1 has a captured length of 2147483647 bytes, expected at most 262144/,
    )
  })
})

describe('frames', () => {
  const frame = new Frame()
  const parse = (bytes: number[], linkType = 1, wireBytes = bytes.length): FrameKind =>
    frame.parse(Uint8Array.from([...new Array(16).fill(0), ...bytes]), 16, bytes.length, wireBytes, linkType)
  const udp = ipv4Udp({ payload: 10 })

  it('finds the same datagram behind every link header', () => {
    const sll = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0, 8, 0]
    const sll2 = [8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0]
    const cases: [number[], number][] = [
      [ethernet(0x0800, udp), 1],
      [ethernet(0x0800, udp, [5]), 1],
      [ethernet(0x0800, udp, [5, 6]), 1],
      [udp, 101],
      [udp, 12],
      [udp, 228],
      [[...sll, ...udp], 113],
      [[...sll2, ...udp], 276],
      [[2, 0, 0, 0, ...udp], 0],
      [[0, 0, 0, 2, ...udp], 108],
    ]
    for (const [bytes, linkType] of cases) {
      expect(parse(bytes, linkType)).toBe(FrameKind.Udp)
      expect([frame.srcPort, frame.dstPort, frame.payloadBytes]).toEqual([9999, 7000, 10])
      expect(frame.netWire).toBe(udp.length)
      expect(addressText(frame.ipVersion, frame.dst0, frame.dst1, frame.dst2, frame.dst3)).toBe('192.0.2.1')
    }
  })

  it('counts the payload by the IP length when the frame is cut by the snap length', () => {
    expect(parse(ethernet(0x0800, udp).slice(0, 44), 1, 14 + udp.length)).toBe(FrameKind.Udp)
    expect(frame.payloadBytes).toBe(10)
    expect(frame.capEnd - frame.netAt).toBe(30)
  })

  it('tells fragments, ARP, other protocols and nonsense apart', () => {
    expect(parse(ethernet(0x0800, ipv4Udp({ fragment: 0x2000 })))).toBe(FrameKind.Fragment)
    expect(parse(ethernet(0x0800, ipv4Udp({ fragment: 0x0010 })))).toBe(FrameKind.Fragment)
    expect(parse(ethernet(0x0800, ipv4Udp({ proto: 1 })))).toBe(FrameKind.Icmp)
    expect(parse(ethernet(0x0800, ipv4Udp({ proto: 47 })))).toBe(FrameKind.OtherIp)
    expect(parse(ethernet(0x0806, new Array(28).fill(0)))).toBe(FrameKind.Arp)
    expect(parse(ethernet(0x88cc, [1]))).toBe(FrameKind.NonIp)
    expect(parse([1, 2, 3])).toBe(FrameKind.Malformed)
    expect(parse(ethernet(0x0800, [0x45, 0, 0, 10]))).toBe(FrameKind.Malformed)
    expect(parse(ethernet(0x0800, [0x65, ...udp.slice(1)]))).toBe(FrameKind.Malformed)
    expect(parse(udp, 147)).toBe(FrameKind.UnreadLink)
  })
})

describe('addresses', () => {
  it('reads and writes the same address', () => {
    for (const text of ['192.0.2.1', '255.255.255.255', '::', '::1', '2001:db8::1', 'fe80::1:0:0:2', '1:2:3:4:5:6:7:8'])
      expect(parseAddress(text)?.text).toBe(text)
    expect(parseAddress('::ffff:1.2.3.4')?.text).toBe('::ffff:102:304')
    expect(parseAddress('2001:DB8:0:0:0:0:0:1')?.text).toBe('2001:db8::1')
    for (const text of ['', '1.2.3', '1.2.3.256', 'host', '::1%eth0', '12345::']) expect(parseAddress(text)).toBeNull()
  })
})

describe('bundled captures', () => {
  const counts: Record<string, number> = {
    'dns-burst.pcap': 440,
    'fragments.pcap': 60,
    'jumbo.pcap': 73,
    'mixed.pcapng': 1086,
    'redis-pipeline.pcap': 1170,
    'udp-stream.pcap': 778,
    'web-download.pcap': 586,
    'web-snap96.pcap': 201,
    'web-tso.pcap': 67,
  }
  for (const [name, count] of Object.entries(counts))
    it(`has ${count} packets in ${name}, none of them malformed`, () => {
      const source = new ByteSource(capture(name))
      const reader = new CaptureReader(source)
      const frame = new Frame()
      while (reader.next())
        expect(
          frame.parse(source.bytes, reader.at, reader.capBytes, reader.wireBytes, reader.linkType),
        ).toBeGreaterThan(FrameKind.Malformed)
      expect(reader.packets).toBe(count)
      expect(reader.cutOff).toBeNull()
      source.close()
    })

  it('takes the client for the host of a download and the server for the host of a stream to it', () => {
    expect(survey(capture('web-download.pcap')).busiest?.text).toBe('192.0.2.2')
    expect(survey(capture('udp-stream.pcap')).busiest?.text).toBe('192.0.2.1')
  })

  it('sees the MTU of the network in the MSS that hosts offer, not in frames that are segmented later', () => {
    expect(survey(capture('web-download.pcap')).mtu).toBe(1500)
    expect(survey(capture('web-tso.pcap')).mtu).toBe(1500)
    expect(survey(capture('jumbo.pcap')).mtu).toBe(9000)
  })
})

describe('generated captures', () => {
  it('hold what was asked for, the same bytes each time', () => {
    const path = temporaryFile(new Uint8Array(0))
    const bytes = generateUdpCapture(path, { packets: 1000, payloadBytes: [64, 1400], flows: 3, gapNs: 2_000_000 })
    const file = readFileSync(path)
    expect(file.length).toBe(bytes)
    expect(bytes).toBe(24 + 1000 * 16 + 500 * (42 + 64) + 500 * (42 + 1400))
    const { seen } = readAll(file)
    expect(seen.length).toBe(1000)
    expect(seen[999].timeNs).toBe(999 * 2_000_000)
    generateUdpCapture(path, { packets: 1000, payloadBytes: [64, 1400], flows: 3, gapNs: 2_000_000 })
    expect(readFileSync(path).equals(file)).toBe(true)
  })

  it('refuses a payload that no datagram can carry', () => {
    expect(() => generateUdpCapture('/dev/null', { packets: 1, payloadBytes: [65508] })).toThrow(/from 0 to 65507/)
  })
})
