/**
 * A look at the first part of a capture, before anything is replayed: who receives most, and how large the
 * packets on this network may be.
 */
import type { HostAddress } from './address.js'
import { AddressCount } from './busiest.js'
import { ByteSource } from './byte-source.js'
import { Frame, FrameKind } from './frame.js'
import { CaptureReader } from './reader.js'

/** How much of the file is looked at: enough to see who receives, little enough not to be noticed. */
export const SURVEY_BYTES = 16 << 20
const USUAL_MTU = 1500
const TCP_SYN = 0x02

export interface Survey {
  /** Who receives most bytes; null when nobody receives IP. */
  readonly busiest: HostAddress | null
  /** What the MTU must have been: from the MSS that hosts offer, and from datagrams in one piece. Bytes. */
  readonly mtu: number
}

/** @throws InputError when the file is no capture, or is damaged in the part looked at. */
export function survey(path: string): Survey {
  const source = new ByteSource(path)
  try {
    const reader = new CaptureReader(source)
    const frame = new Frame()
    const count = new AddressCount()
    let mtu = USUAL_MTU
    while (source.offset < SURVEY_BYTES && reader.next()) {
      const kind = frame.parse(source.bytes, reader.at, reader.capBytes, reader.wireBytes, reader.linkType)
      if (frame.ipVersion === 0) continue
      count.add(frame, reader.wireBytes)
      if (kind === FrameKind.Tcp) {
        if ((source.bytes[frame.transportAt + 13] & TCP_SYN) !== 0) mtu = Math.max(mtu, offeredMtu(source.bytes, frame))
      } else if (frame.netWire > mtu) mtu = Math.min(frame.netWire, 65535)
    }
    return { busiest: count.busiest(), mtu }
  } finally {
    source.close()
  }
}

/** The MSS option of a SYN comes first when a host offers one; it counts neither IP nor TCP header. */
function offeredMtu(bytes: Uint8Array, frame: Frame): number {
  const at = frame.transportAt + 20
  if (frame.headerBytes < 24 || bytes[at] !== 2 || bytes[at + 1] !== 4) return 0
  return Math.min(((bytes[at + 2] << 8) | bytes[at + 3]) + (frame.ipVersion === 6 ? 60 : 40), 65535)
}
