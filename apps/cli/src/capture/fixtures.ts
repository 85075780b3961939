/** Captures built byte by byte, for tests: every format, byte order and link type that the readers know. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface FixturePacket {
  readonly sec: number
  readonly ns: number
  readonly bytes: readonly number[]
  /** Defaults to the length of `bytes`. */
  readonly wireBytes?: number
  /** pcapng: interface number. */
  readonly iface?: number
}

const word = (value: number, bytes: number, le: boolean): number[] => {
  const out = Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) & 255)
  return le ? out : out.reverse()
}

export interface PcapFixture {
  readonly le?: boolean
  readonly nano?: boolean
  readonly linkType?: number
  readonly patched?: boolean
}

export function pcapBytes(packets: readonly FixturePacket[], fixture: PcapFixture = {}): Uint8Array {
  const { le = true, nano = false, linkType = 1, patched = false } = fixture
  const magic = patched ? 0xa1b2cd34 : nano ? 0xa1b23c4d : 0xa1b2c3d4
  const out = [
    ...word(magic, 4, le),
    ...word(2, 2, le),
    ...word(4, 2, le),
    ...word(0, 8, le),
    ...word(65535, 4, le),
    ...word(linkType, 4, le),
  ]
  for (const packet of packets) {
    out.push(...word(packet.sec, 4, le), ...word(nano ? packet.ns : Math.floor(packet.ns / 1000), 4, le))
    out.push(...word(packet.bytes.length, 4, le), ...word(packet.wireBytes ?? packet.bytes.length, 4, le))
    if (patched) out.push(...word(1, 4, le), 0, 0, 0, 0)
    out.push(...packet.bytes)
  }
  return Uint8Array.from(out)
}

export interface PcapngOption {
  readonly code: number
  readonly value: readonly number[]
}

export interface PcapngBuilder {
  section(): PcapngBuilder
  iface(linkType: number, options?: readonly PcapngOption[], snap?: number): PcapngBuilder
  /** An enhanced packet whose 64-bit time is `ticks`. */
  packet(iface: number, ticks: bigint, bytes: readonly number[], wireBytes?: number): PcapngBuilder
  simple(bytes: readonly number[], wireBytes?: number): PcapngBuilder
  obsolete(iface: number, ticks: bigint, bytes: readonly number[]): PcapngBuilder
  block(type: number, body: readonly number[]): PcapngBuilder
  bytes(): Uint8Array
}

export function pcapngBuilder(le = true): PcapngBuilder {
  const out: number[] = []
  const pad = (bytes: readonly number[]): number[] => [...bytes, ...new Array((4 - (bytes.length & 3)) & 3).fill(0)]
  const block = (type: number, body: readonly number[]): PcapngBuilder => {
    const padded = pad(body)
    out.push(...word(type, 4, le), ...word(padded.length + 12, 4, le), ...padded, ...word(padded.length + 12, 4, le))
    return builder
  }
  const options = (list: readonly PcapngOption[]): number[] =>
    list.length === 0
      ? []
      : [
          ...list.flatMap(({ code, value }) => [...word(code, 2, le), ...word(value.length, 2, le), ...pad(value)]),
          0,
          0,
          0,
          0,
        ]
  const time = (ticks: bigint): number[] => [
    ...word(Number(ticks >> 32n), 4, le),
    ...word(Number(ticks & 0xffffffffn), 4, le),
  ]
  const builder: PcapngBuilder = {
    section: () =>
      block(0x0a0d0d0a, [
        ...word(0x1a2b3c4d, 4, le),
        ...word(1, 2, le),
        ...word(0, 2, le),
        ...new Array(8).fill(255),
        ...options([{ code: 3, value: [...Buffer.from('a system')] }]),
      ]),
    iface: (linkType, list = [], snap = 262144) =>
      block(1, [...word(linkType, 2, le), 0, 0, ...word(snap, 4, le), ...options(list)]),
    packet: (iface, ticks, bytes, wireBytes = bytes.length) =>
      block(6, [
        ...word(iface, 4, le),
        ...time(ticks),
        ...word(bytes.length, 4, le),
        ...word(wireBytes, 4, le),
        ...pad(bytes),
        ...options([{ code: 1, value: [...Buffer.from('a comment')] }]),
      ]),
    simple: (bytes, wireBytes = bytes.length) => block(3, [...word(wireBytes, 4, le), ...bytes]),
    obsolete: (iface, ticks, bytes) =>
      block(2, [
        ...word(iface, 2, le),
        255,
        255,
        ...time(ticks),
        ...word(bytes.length, 4, le),
        ...word(bytes.length, 4, le),
        ...bytes,
      ]),
    block,
    bytes: () => Uint8Array.from(out),
  }
  return builder
}

export interface FrameFixture {
  readonly src?: readonly number[]
  readonly dst?: readonly number[]
  readonly sport?: number
  readonly dport?: number
  readonly payload?: number
  readonly proto?: number
  readonly fragment?: number
}

/** The bytes of an IPv4 packet with a UDP header (or as many bytes of another protocol); no UDP checksum. */
export function ipv4Udp(fixture: FrameFixture = {}): number[] {
  const { src = [192, 0, 2, 2], dst = [192, 0, 2, 1], sport = 9999, dport = 7000, payload = 32, proto = 17 } = fixture
  const header = [
    ...[0x45, 0, ...word(28 + payload, 2, false), 0, 1],
    ...[...word(fixture.fragment ?? 0x4000, 2, false), 64, proto, 0, 0],
    ...src,
    ...dst,
  ]
  let sum = 0
  for (let i = 0; i < header.length; i += 2) sum += header[i] * 256 + header[i + 1]
  sum = (sum & 0xffff) + (sum >> 16)
  header.splice(10, 2, ...word(~(sum + (sum >> 16)) & 0xffff, 2, false))
  return [
    ...header,
    ...word(sport, 2, false),
    ...word(dport, 2, false),
    ...word(8 + payload, 2, false),
    0,
    0,
    ...Array.from({ length: payload }, (_, i) => i & 255),
  ]
}

/** Puts an Ethernet header before a packet, with any number of VLAN tags. */
export const ethernet = (etherType: number, packet: readonly number[], vlans: readonly number[] = []): number[] => [
  ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
  ...vlans.flatMap((id, i) => [
    ...word(i === 0 && vlans.length > 1 ? 0x88a8 : 0x8100, 2, false),
    ...word(id, 2, false),
  ]),
  ...word(etherType, 2, false),
  ...packet,
]

/** Writes bytes to a file of their own and returns its path. */
export function temporaryFile(bytes: Uint8Array, name = 'capture.pcap'): string {
  const path = join(mkdtempSync(join(tmpdir(), 'netmem-')), name)
  writeFileSync(path, bytes)
  return path
}
