/**
 * Packets of a capture file, one after the other, in place: `next()` moves to the following packet and the
 * fields say where its bytes are in the source's window. Nothing is allocated per packet. The two formats
 * share this class so that the replay loop sees one shape; `pcap.ts` and `pcapng.ts` hold the formats.
 */
import { InputError } from '../errors.js'
import type { ByteSource } from './byte-source.js'
import { openPcap, pcapNext } from './pcap.js'
import { openPcapng, type PcapngInterface, pcapngNext, pcapngStart } from './pcapng.js'

export class CaptureReader {
  /** The packet: bytes `[at, at + capBytes)` of `source.bytes`; `wireBytes` long on the wire. */
  at = 0
  capBytes = 0
  wireBytes = 0
  /** Nanoseconds since the first packet of the file; may step back where the capture's clock did. */
  timeNs = Number.NaN
  linkType = 0
  /** Packets read so far, this one included. */
  packets = 0
  /** Words when the file ends inside a record, else null. What came before it is good. */
  cutOff: string | null = null
  /** Blocks of a pcapng file that hold no packets and were passed over, interfaces and statistics not counted. */
  blocksSkipped = 0
  /** Captured lengths that exceeded the wire length; the larger number is taken. */
  oddLengths = 0
  format: 'pcap' | 'pcapng' = 'pcap'

  // pcap
  littleEndian = true
  recordHeaderBytes = 16
  fractionNs = 1000
  /** Nanoseconds of a second; not a literal where it is used, as the product soon outgrows small integers. */
  secNs = Number.NaN
  firstSec = 0
  firstFraction = 0
  // pcapng
  interfaces: PcapngInterface[] = []
  interfacesSeen = 0
  /** Absolute time of the first packet, nanoseconds since 1970. */
  firstNs: bigint | null = null

  /** @throws InputError when the file is not a capture. */
  constructor(readonly source: ByteSource) {
    // A field that starts as a double stays one; from a small integer it would change its shape on the way.
    this.timeNs = 0
    this.secNs = 1e9
    if (!source.need(1)) throw new InputError(`${source.path}: the file is empty, expected a pcap or pcapng capture`)
    if (!source.need(4)) throw new InputError(this.unknownFormat(source.end - source.pos))
    const magic = source.view.getUint32(source.pos, false)
    if (magic === 0x0a0d0d0a) {
      this.format = 'pcapng'
      openPcapng(this)
    } else if (!openPcap(this, magic)) throw new InputError(this.unknownFormat(4))
  }

  /** Moves to the next packet. @returns false at the end. @throws InputError where the file is damaged. */
  next(): boolean {
    return this.format === 'pcap' ? pcapNext(this) : pcapngNext(this)
  }

  /** Date of the first packet, in milliseconds since 1970, or null while there is none. */
  get startMs(): number | null {
    if (this.packets === 0) return null
    if (this.format === 'pcap') return this.firstSec * 1000 + (this.firstFraction * this.fractionNs) / 1e6
    return pcapngStart(this)
  }

  /** Damage at a place in the file. */
  bad(offset: number, words: string): InputError {
    return new InputError(`${this.source.path}: byte ${offset}: ${words}`)
  }

  /** The file ends inside something. */
  cut(words: string): false {
    this.cutOff = `${this.source.path}: byte ${this.source.offset}: the file is cut off ${words}`
    return false
  }

  private unknownFormat(count: number): string {
    const { source } = this
    const start = [...source.bytes.subarray(source.pos, source.pos + count)]
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join(' ')
    const known: Record<string, string> = {
      '1f 8b': 'gzip data; decompress it first',
      '28 b5': 'zstd data; decompress it first',
      '42 5a': 'bzip2 data; decompress it first',
      'fd 37': 'xz data; decompress it first',
      '50 4b': 'a zip archive; unpack it first',
      '73 6e': 'a snoop capture; convert it to pcap first',
    }
    const guess = known[start.slice(0, 5)]
    return `${source.path}: not a capture (starts with ${start}${guess === undefined ? '' : `, ${guess}`}); expected pcap (a1 b2 c3 d4, a1 b2 3c 4d, either byte order) or pcapng (0a 0d 0d 0a)`
  }
}
