/**
 * The block format: sections, each with its own byte order and its own interfaces, and packets that name an
 * interface. Names, statistics, secrets and unknown blocks are passed over by their length.
 *
 *     type 4 | block bytes 4 | body, padded to 4 | block bytes 4
 *     enhanced packet body: interface 4 | time high 4 | time low 4 | captured 4 | wire 4 | bytes | options
 */
import { InputError } from '../errors.js'
import { LONGEST_RUN_BYTES, MAX_FRAME_BYTES } from './byte-source.js'
import type { CaptureReader } from './reader.js'

const SECTION_HEADER = 0x0a0d0d0a
const INTERFACE_DESCRIPTION = 1
const OBSOLETE_PACKET = 2
const SIMPLE_PACKET = 3
const ENHANCED_PACKET = 6
const INTERFACE_STATISTICS = 5

const OPTION_END = 0
const OPTION_TIME_RESOLUTION = 9
const OPTION_TIME_OFFSET = 14

const MAX_INTERFACES = 4096

/** One interface of the section; times are ticks of `ticksPerSec`, exact differences kept as doubles. */
export interface PcapngInterface {
  readonly linkType: number
  readonly snapBytes: number
  readonly nsPerTick: number
  readonly ticksPerSec: bigint
  readonly offsetSec: bigint
  /** The first timestamp, and its distance from the first of the file; -1 until there is a packet. */
  firstHigh: number
  firstLow: number
  baseNs: number
}

/** Reads the first section header. */
export function openPcapng(reader: CaptureReader): void {
  const { source } = reader
  if (!source.need(28))
    throw new InputError(
      `${source.path}: byte ${source.offset + source.end - source.pos}: the file ends inside the first pcapng section header of at least 28 bytes`,
    )
  if (!readSection(reader)) throw new InputError(reader.cutOff as string)
}

/** Moves to the next packet block. */
export function pcapngNext(reader: CaptureReader): boolean {
  const { source } = reader
  while (true) {
    if (source.end - source.pos < 8 && !source.need(8))
      return source.end === source.pos ? false : reader.cut('inside the header of a block')
    const le = reader.littleEndian
    const pos = source.pos
    const type = source.view.getUint32(pos, le)
    if (type === SECTION_HEADER) {
      if (!readSection(reader)) return false
      continue
    }
    const blockBytes = source.view.getUint32(pos + 4, le)
    if (blockBytes < 12 || (blockBytes & 3) !== 0)
      throw reader.bad(
        source.offset + 4,
        `a block has a length of ${blockBytes} bytes, expected a multiple of 4 that is at least 12; the file is damaged here`,
      )
    switch (type) {
      case ENHANCED_PACKET:
      case OBSOLETE_PACKET:
      case SIMPLE_PACKET:
      case INTERFACE_DESCRIPTION:
        if (source.end - pos < blockBytes && !wholeBlock(reader, blockBytes)) return false
        checkTrailer(reader, blockBytes)
        if (type === INTERFACE_DESCRIPTION) readInterface(reader, blockBytes)
        else {
          readPacket(reader, type, blockBytes)
          return true
        }
        break
      default:
        if (type !== INTERFACE_STATISTICS) reader.blocksSkipped += 1
        if (!source.skip(blockBytes)) return reader.cut(`inside a block of ${blockBytes} bytes`)
    }
  }
}

/** Date of the first packet in milliseconds since 1970. */
export const pcapngStart = (reader: CaptureReader): number | null =>
  reader.firstNs === null ? null : Number(reader.firstNs / 1000n) / 1000

function readPacket(reader: CaptureReader, type: number, blockBytes: number): void {
  const { source, littleEndian: le } = reader
  const { view, pos } = source
  const simple = type === SIMPLE_PACKET
  const index = simple ? 0 : type === OBSOLETE_PACKET ? view.getUint16(pos + 8, le) : view.getUint32(pos + 8, le)
  const bodyAt = simple ? 12 : 28
  if (blockBytes < bodyAt + 4)
    throw reader.bad(source.offset + 4, `a packet block of ${blockBytes} bytes, expected at least ${bodyAt + 4}`)
  if (index >= reader.interfaces.length)
    throw reader.bad(
      source.offset + 8,
      `packet ${reader.packets + 1} is of interface ${index}, but this section has described ${reader.interfaces.length}`,
    )
  const iface = reader.interfaces[index]
  const room = blockBytes - bodyAt - 4
  let wireBytes = view.getUint32(pos + (simple ? 8 : 24), le)
  const capBytes = simple
    ? Math.min(wireBytes, iface.snapBytes === 0 ? wireBytes : iface.snapBytes, room)
    : view.getUint32(pos + 20, le)
  if (capBytes > room || capBytes > MAX_FRAME_BYTES)
    throw reader.bad(
      source.offset + 20,
      `packet ${reader.packets + 1} has a captured length of ${capBytes} bytes in a block with room for ${room}, at most ${MAX_FRAME_BYTES}`,
    )
  if (wireBytes > MAX_FRAME_BYTES)
    throw reader.bad(
      source.offset + (simple ? 8 : 24),
      `packet ${reader.packets + 1} has a wire length of ${wireBytes} bytes, expected at most ${MAX_FRAME_BYTES}`,
    )
  if (capBytes > wireBytes) {
    wireBytes = capBytes
    reader.oddLengths += 1
  }
  if (!simple) {
    const high = view.getUint32(pos + 12, le)
    const low = view.getUint32(pos + 16, le)
    if (iface.firstHigh < 0) firstTime(reader, iface, high, low)
    reader.timeNs = iface.baseNs + ((high - iface.firstHigh) * 4294967296 + (low - iface.firstLow)) * iface.nsPerTick
  }
  reader.at = pos + bodyAt
  reader.capBytes = capBytes
  reader.wireBytes = wireBytes
  reader.linkType = iface.linkType
  reader.packets += 1
  source.pos = pos + blockBytes
}

// Cold path: sections, interfaces, damage.

function firstTime(reader: CaptureReader, iface: PcapngInterface, high: number, low: number): void {
  const ticks = (BigInt(high) << 32n) | BigInt(low)
  const ns = (ticks * 1_000_000_000n) / iface.ticksPerSec + iface.offsetSec * 1_000_000_000n
  if (reader.firstNs === null) reader.firstNs = ns
  iface.firstHigh = high
  iface.firstLow = low
  iface.baseNs = Number(ns - reader.firstNs)
}

function wholeBlock(reader: CaptureReader, blockBytes: number): boolean {
  const { source } = reader
  if (blockBytes > LONGEST_RUN_BYTES)
    throw reader.bad(
      source.offset + 4,
      `a block of ${blockBytes} bytes, expected at most ${LONGEST_RUN_BYTES}; the file is damaged here`,
    )
  if (source.need(blockBytes)) return true
  return reader.cut(
    `inside a block: ${source.end - source.pos} of its ${blockBytes} bytes are there, after packet ${reader.packets}`,
  )
}

function checkTrailer(reader: CaptureReader, blockBytes: number): void {
  const { source } = reader
  const again = source.view.getUint32(source.pos + blockBytes - 4, reader.littleEndian)
  if (again !== blockBytes)
    throw reader.bad(
      source.offset + blockBytes - 4,
      `a block ends with the length ${again}, expected ${blockBytes} as at its start; the file is damaged here`,
    )
}

function readSection(reader: CaptureReader): boolean {
  const { source } = reader
  if (!source.need(12)) return reader.cut('inside a section header')
  const order = source.view.getUint32(source.pos + 8, false)
  if (order !== 0x1a2b3c4d && order !== 0x4d3c2b1a)
    throw reader.bad(
      source.offset + 8,
      `a section has the byte order mark ${order.toString(16).padStart(8, '0')}, expected 1a2b3c4d in either order`,
    )
  const le = order === 0x4d3c2b1a
  const blockBytes = source.view.getUint32(source.pos + 4, le)
  if (blockBytes < 28 || (blockBytes & 3) !== 0)
    throw reader.bad(
      source.offset + 4,
      `a section header has a length of ${blockBytes} bytes, expected a multiple of 4 that is at least 28`,
    )
  if (!wholeBlock(reader, blockBytes)) return false
  reader.littleEndian = le
  const major = source.view.getUint16(source.pos + 12, le)
  if (major !== 1)
    throw reader.bad(
      source.offset + 12,
      `pcapng version ${major}.${source.view.getUint16(source.pos + 14, le)}, expected 1.0`,
    )
  checkTrailer(reader, blockBytes)
  reader.interfaces = []
  source.pos += blockBytes
  return true
}

function readInterface(reader: CaptureReader, blockBytes: number): void {
  const { source, littleEndian: le } = reader
  const { view, pos } = source
  if (blockBytes < 20) throw reader.bad(source.offset + 4, `an interface block of ${blockBytes} bytes, expected 20`)
  if (reader.interfacesSeen >= MAX_INTERFACES)
    throw reader.bad(source.offset, `more than ${MAX_INTERFACES} interfaces; the file is damaged here`)
  let ticksPerSec = 1_000_000n
  let offsetSec = 0n
  const end = pos + blockBytes - 4
  let at = pos + 16
  while (at + 4 <= end) {
    const code = view.getUint16(at, le)
    const bytes = view.getUint16(at + 2, le)
    if (code === OPTION_END || at + 4 + bytes > end) break
    if (code === OPTION_TIME_RESOLUTION && bytes >= 1) {
      const value = view.getUint8(at + 4)
      // The top bit chooses powers of 2; 10^20 and 2^64 ticks a second are beyond any clock.
      const power = BigInt(Math.min(value & 0x7f, value & 0x80 ? 64 : 20))
      ticksPerSec = value & 0x80 ? 2n ** power : 10n ** power
    } else if (code === OPTION_TIME_OFFSET && bytes >= 8) offsetSec = view.getBigInt64(at + 4, le)
    at += 4 + ((bytes + 3) & ~3)
  }
  reader.interfaces.push({
    linkType: view.getUint16(pos + 8, le),
    snapBytes: view.getUint32(pos + 12, le),
    nsPerTick: 1e9 / Number(ticksPerSec),
    ticksPerSec,
    offsetSec,
    firstHigh: -1,
    firstLow: 0,
    baseNs: 0,
  })
  reader.interfacesSeen += 1
  source.pos = pos + blockBytes
}
