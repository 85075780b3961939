/** Frames for tests: real headers, right checksums, payload that counts up. */

export interface FrameOptions {
  readonly dstMac?: readonly number[]
  readonly sport?: number
  readonly dport?: number
  readonly id?: number
  readonly seq?: number
  readonly ack?: number
  readonly flags?: number
  /** Sum the transport; a UDP frame without has 0, which means none. */
  readonly checksum?: boolean
  readonly vlan?: number
  readonly payloadStart?: number
}

const sum = (u8: Uint8Array, at: number, len: number, from = 0): number => {
  let s = from
  for (let i = 0; i < len; i++) s += (i & 1) === 0 ? u8[at + i]! << 8 : u8[at + i]!
  while (s > 0xffff) s = (s & 0xffff) + Math.floor(s / 65536)
  return s
}

function base(total: number, o: FrameOptions, proto: number): { f: Uint8Array; ip: number; dv: DataView } {
  const eth = o.vlan === undefined ? 14 : 18
  const f = new Uint8Array(eth + total)
  const dv = new DataView(f.buffer)
  f.set(o.dstMac ?? [2, 0, 0, 0, 0, 1], 0)
  f.set([2, 0, 0, 0, 0, 0x99], 6)
  if (o.vlan !== undefined) {
    dv.setUint16(12, 0x8100)
    dv.setUint16(14, o.vlan)
  }
  dv.setUint16(eth - 2, 0x0800)
  f[eth] = 0x45
  dv.setUint16(eth + 2, total)
  dv.setUint16(eth + 4, o.id ?? 1)
  dv.setUint16(eth + 6, 0x4000)
  f[eth + 8] = 64
  f[eth + 9] = proto
  dv.setUint32(eth + 12, 0x0a000009)
  dv.setUint32(eth + 16, 0x0a000001)
  dv.setUint16(eth + 10, ~sum(f, eth, 20) & 0xffff)
  return { f, ip: eth, dv }
}

function transportSum(f: Uint8Array, ip: number, proto: number, len: number): number {
  return ~sum(f, ip + 20, len, sum(f, ip + 12, 8) + proto + len) & 0xffff
}

const fill = (f: Uint8Array, at: number, len: number, start = 0): void => {
  for (let i = 0; i < len; i++) f[at + i] = (start + i) & 255
}

/** An Ethernet frame with an IPv4/UDP datagram of `payload` bytes: 42 + payload in all. */
export function udpFrame(payload: number, o: FrameOptions = {}): Uint8Array {
  const { f, ip, dv } = base(28 + payload, o, 17)
  const udp = ip + 20
  dv.setUint16(udp, o.sport ?? 9999)
  dv.setUint16(udp + 2, o.dport ?? 7000)
  dv.setUint16(udp + 4, 8 + payload)
  fill(f, udp + 8, payload, o.payloadStart)
  if (o.checksum === true) dv.setUint16(udp + 6, transportSum(f, ip, 17, 8 + payload) || 0xffff)
  return f
}

/** An Ethernet frame with an IPv4/TCP segment of `payload` bytes and a 20-byte header. */
export function tcpFrame(payload: number, o: FrameOptions = {}): Uint8Array {
  const { f, ip, dv } = base(40 + payload, o, 6)
  const tcp = ip + 20
  dv.setUint16(tcp, o.sport ?? 40000)
  dv.setUint16(tcp + 2, o.dport ?? 80)
  dv.setUint32(tcp + 4, o.seq ?? 1000)
  dv.setUint32(tcp + 8, o.ack ?? 2000)
  f[tcp + 12] = 0x50
  f[tcp + 13] = o.flags ?? 0x10
  dv.setUint16(tcp + 14, 8192)
  fill(f, tcp + 20, payload, o.payloadStart)
  dv.setUint16(tcp + 16, transportSum(f, ip, 6, 20 + payload))
  return f
}
