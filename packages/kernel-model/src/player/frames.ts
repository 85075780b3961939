/**
 * The frames that traces describe in words, as bytes: Ethernet, IPv4 and UDP headers with everything that a
 * trace may spoil, and a payload of zeros.
 */
import { ipv4Bytes } from '../ipv4.js'
import type { JsonObject } from '../trace/json.js'

/** Where a frame goes: the receiving device's addresses, and whether it has an Ethernet header. */
export interface FrameTarget {
  /** Six bytes in hexadecimal, colons allowed. */
  readonly mac: string
  readonly ip: string
  readonly ethernet: boolean
}

const SOURCE_MAC = '02:00:00:00:00:99'
const ETH_HLEN = 14
const IP_HLEN = 20
const UDP_HLEN = 8

function putMac(bytes: Uint8Array, at: number, mac: string): void {
  const hex = mac.replaceAll(':', '')
  for (let i = 0; i < 6; i++) bytes[at + i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)
}

function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = (value >> 8) & 0xff
  bytes[at + 1] = value & 0xff
}

/** @returns the Internet checksum (16 bits) of the bytes and of `seed`, a sum so far. */
export function internetChecksum(bytes: Uint8Array, from: number, to: number, seed = 0): number {
  let sum = seed
  for (let i = from; i < to; i += 2) sum += (bytes[i]! << 8) | (i + 1 < to ? bytes[i + 1]! : 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  return ~sum & 0xffff
}

const integerOf = (spec: JsonObject, key: string, otherwise: number): number => {
  const value = spec[key]
  if (typeof value === 'number') return value
  return typeof value === 'string' ? Number.parseInt(value, 16) : otherwise
}
const textOf = (spec: JsonObject, key: string, otherwise: string): string => {
  const value = spec[key]
  return typeof value === 'string' ? value : otherwise
}

function rawFrame(spec: JsonObject, target: FrameTarget): Uint8Array {
  const total = spec.raw as number
  const bytes = new Uint8Array(Math.max(total, ETH_HLEN))
  putMac(bytes, 0, textOf(spec, 'dst_mac', target.mac))
  putMac(bytes, 6, SOURCE_MAC)
  putU16(bytes, 12, integerOf(spec, 'ethertype', 0x88b5))
  const frame = bytes.slice(0, total)
  return target.ethernet ? frame : frame.slice(ETH_HLEN)
}

/** @param spec a trace's `frame`. @returns the bytes of it. */
export function buildFrame(spec: JsonObject, target: FrameTarget): Uint8Array {
  if (typeof spec.raw === 'number') return rawFrame(spec, target)
  const payload = spec.udp as number
  let bytes = new Uint8Array(ETH_HLEN + IP_HLEN + UDP_HLEN + payload)
  putMac(bytes, 0, textOf(spec, 'dst_mac', target.mac))
  putMac(bytes, 6, SOURCE_MAC)
  putU16(bytes, 12, integerOf(spec, 'ethertype', 0x0800))
  const ip = ETH_HLEN
  bytes[ip] = integerOf(spec, 'ver_ihl', 0x45)
  putU16(bytes, ip + 2, IP_HLEN + UDP_HLEN + payload + integerOf(spec, 'ip_len_delta', 0))
  putU16(bytes, ip + 4, 0x1234)
  putU16(bytes, ip + 6, integerOf(spec, 'ip_frag', 0x4000))
  bytes[ip + 8] = integerOf(spec, 'ttl', 64)
  bytes[ip + 9] = integerOf(spec, 'proto', 17)
  bytes.set(ipv4Bytes(textOf(spec, 'src_ip', '10.0.0.9')), ip + 12)
  bytes.set(ipv4Bytes(textOf(spec, 'dst_ip', target.ip)), ip + 16)
  const ipSum = internetChecksum(bytes, ip, ip + IP_HLEN)
  putU16(bytes, ip + 10, spec.ip_csum === 'bad' ? ipSum ^ 0x5555 : ipSum)
  const udp = ip + IP_HLEN
  putU16(bytes, udp, integerOf(spec, 'sport', 9999))
  putU16(bytes, udp + 2, integerOf(spec, 'dport', 7000))
  putU16(bytes, udp + 4, UDP_HLEN + payload + integerOf(spec, 'udp_len_delta', 0))
  putU16(bytes, udp + 6, udpChecksum(spec, bytes, ip, udp, payload))
  if (!target.ethernet) bytes = bytes.slice(ETH_HLEN)
  if (typeof spec.truncate === 'number') bytes = bytes.slice(0, spec.truncate)
  if (typeof spec.pad_to === 'number' && spec.pad_to > bytes.length) {
    const padded = new Uint8Array(spec.pad_to)
    padded.set(bytes)
    bytes = padded
  }
  return bytes
}

function udpChecksum(spec: JsonObject, bytes: Uint8Array, ip: number, udp: number, payload: number): number {
  if (spec.udp_csum === 'zero') return 0
  // The pseudo header has the length that is right; the UDP header itself is summed as it stands.
  let seed = 17 + UDP_HLEN + payload
  for (let i = 0; i < 8; i += 2) seed += (bytes[ip + 12 + i]! << 8) | bytes[ip + 13 + i]!
  seed += ((bytes[udp]! << 8) | bytes[udp + 1]!) + ((bytes[udp + 2]! << 8) | bytes[udp + 3]!)
  seed += (bytes[udp + 4]! << 8) | bytes[udp + 5]!
  const sum = internetChecksum(bytes, udp + UDP_HLEN, udp + UDP_HLEN + payload, seed) || 0xffff
  return spec.udp_csum === 'bad' ? sum ^ 0x5555 : sum
}
