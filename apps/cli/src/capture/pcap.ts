/**
 * The classic capture format: a header of 24 bytes, then records of 16 bytes and the captured bytes. Four
 * magic numbers tell byte order and whether fractions of a second are micro- or nanoseconds; a fifth pair
 * marks a variant with longer record headers that some Linux distributions once wrote.
 *
 *     magic 4 | major 2 | minor 2 | zone 4 | accuracy 4 | snap length 4 | link type 4
 *     seconds 4 | fraction 4 | captured bytes 4 | wire bytes 4 | the captured bytes
 */
import { InputError } from '../errors.js'
import { MAX_FRAME_BYTES } from './byte-source.js'
import { linkTypeIsRead, linkTypesRead, linkTypeText } from './link-types.js'
import type { CaptureReader } from './reader.js'

const FILE_HEADER_BYTES = 24
const RECORD_HEADER_BYTES = 16
const PATCHED_RECORD_HEADER_BYTES = 24

/** @returns false when the magic number (read big-endian) is not one of pcap's. */
export function openPcap(reader: CaptureReader, magic: number): boolean {
  switch (magic) {
    case 0xa1b2c3d4:
    case 0xa1b23c4d:
    case 0xa1b2cd34:
      reader.littleEndian = false
      break
    case 0xd4c3b2a1:
    case 0x4d3cb2a1:
    case 0x34cdb2a1:
      reader.littleEndian = true
      break
    default:
      return false
  }
  const { source } = reader
  if (!source.need(FILE_HEADER_BYTES))
    throw new InputError(
      `${source.path}: byte ${source.offset + source.end - source.pos}: the file ends inside the pcap header of ${FILE_HEADER_BYTES} bytes`,
    )
  if (magic === 0xa1b23c4d || magic === 0x4d3cb2a1) reader.fractionNs = 1
  reader.recordHeaderBytes =
    magic === 0xa1b2cd34 || magic === 0x34cdb2a1 ? PATCHED_RECORD_HEADER_BYTES : RECORD_HEADER_BYTES
  const { view, pos } = source
  const major = view.getUint16(pos + 4, reader.littleEndian)
  const minor = view.getUint16(pos + 6, reader.littleEndian)
  if (major !== 2) throw reader.bad(4, `pcap version ${major}.${minor}, expected 2.4`)
  // The upper half of the word holds the length of the frame check sequence, which nobody writes.
  reader.linkType = view.getUint32(pos + 20, reader.littleEndian) & 0x0fff_ffff
  if (!linkTypeIsRead(reader.linkType))
    throw reader.bad(20, `${linkTypeText(reader.linkType)} is not read, expected ${linkTypesRead}`)
  source.pos += FILE_HEADER_BYTES
  return true
}

// Hot path: once per packet.

/** Moves to the next record. */
export function pcapNext(reader: CaptureReader): boolean {
  const { source } = reader
  const headerBytes = reader.recordHeaderBytes
  if (source.end - source.pos < headerBytes && !source.need(headerBytes))
    return source.end === source.pos ? false : reader.cut(`inside the header of packet ${reader.packets + 1}`)
  const le = reader.littleEndian
  let pos = source.pos
  const sec = source.view.getUint32(pos, le)
  const fraction = source.view.getUint32(pos + 4, le)
  const capBytes = source.view.getUint32(pos + 8, le)
  const wireBytes = source.view.getUint32(pos + 12, le)
  if (capBytes > MAX_FRAME_BYTES || wireBytes > MAX_FRAME_BYTES) throw damaged(reader, capBytes, wireBytes)
  if (source.end - pos < headerBytes + capBytes) {
    if (!source.need(headerBytes + capBytes)) return cutInside(reader, headerBytes, capBytes)
    pos = source.pos
  }
  reader.at = pos + headerBytes
  reader.capBytes = capBytes
  reader.wireBytes = wireBytes
  if (capBytes > wireBytes) {
    reader.wireBytes = capBytes
    reader.oddLengths += 1
  }
  source.pos = pos + headerBytes + capBytes
  if (reader.packets === 0) {
    reader.firstSec = sec
    reader.firstFraction = fraction
  }
  reader.packets += 1
  reader.timeNs = (sec - reader.firstSec) * reader.secNs + (fraction - reader.firstFraction) * reader.fractionNs
  return true
}

// Cold path: the file ends or is damaged.

function damaged(reader: CaptureReader, capBytes: number, wireBytes: number): InputError {
  const [what, at, value] = capBytes > MAX_FRAME_BYTES ? ['captured', 8, capBytes] : ['wire', 12, wireBytes]
  return reader.bad(
    reader.source.offset + at,
    `packet ${reader.packets + 1} has a ${what} length of ${value} bytes, expected at most ${MAX_FRAME_BYTES}; the file is damaged here`,
  )
}

function cutInside(reader: CaptureReader, headerBytes: number, capBytes: number): false {
  const there = reader.source.end - reader.source.pos - headerBytes
  return reader.cut(`inside packet ${reader.packets + 1}: ${there} of its ${capBytes} captured bytes are there`)
}
