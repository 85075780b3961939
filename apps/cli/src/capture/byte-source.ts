/**
 * A file as a window that moves forward: large reads into one reused buffer, so a capture of any size needs
 * the memory of one window. Only the capture readers touch it; they look at `bytes` between `pos` and `end`
 * and may overwrite what lies before `pos`.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { fileProblem, InputError } from '../errors.js'

export const WINDOW_BYTES = 4 << 20
/** Read at once: little enough that the bytes are still in the processor's cache when they are used. */
export const READ_BYTES = 64 << 10
/** Always writable in front of `pos`: room for an Ethernet header in front of a frame that has none. */
export const LEAD_BYTES = 16
/** As in libpcap: no capture holds a longer frame, so a longer one is damage. */
export const MAX_FRAME_BYTES = 262144
/** The longest run of bytes that `need` provides: a larger record is damage, not a record. */
export const LONGEST_RUN_BYTES = 2 << 20

/** Memory that somebody lends for a window. */
export interface SourceWindow {
  readonly bytes: Uint8Array
  readonly at: number
  /** At least LONGEST_RUN_BYTES + LEAD_BYTES. */
  readonly length: number
}

export class ByteSource {
  bytes: Uint8Array
  view: DataView
  /** Next byte that nobody has used. */
  pos: number
  /** End of what has been read. */
  end: number
  /** Where the window starts and ends in `bytes`. */
  private readonly from: number
  private limit: number
  /** Where `bytes[0]` would be in the file. */
  private base: number
  private ended = false
  private readonly fd: number
  /** Size of the file in bytes; 0 for a pipe, whose size nobody knows. */
  readonly size: number
  /** False for a pipe: it can be read only once. */
  readonly rereadable: boolean

  /** @throws InputError when the file is missing, unreadable or a directory. */
  constructor(
    readonly path: string,
    window: number | SourceWindow = WINDOW_BYTES,
  ) {
    try {
      this.fd = path === '-' ? 0 : openSync(path, 'r')
      const stat = fstatSync(this.fd)
      if (stat.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' })
      this.rereadable = stat.isFile() && path !== '-'
      this.size = stat.isFile() ? stat.size : 0
    } catch (error) {
      throw new InputError(`${path}: ${fileProblem(error)}`)
    }
    const lent = typeof window === 'number' ? { bytes: new Uint8Array(window), at: 0, length: window } : window
    this.bytes = lent.bytes
    this.view = new DataView(lent.bytes.buffer, lent.bytes.byteOffset, lent.bytes.byteLength)
    this.from = lent.at + LEAD_BYTES
    this.limit = lent.at + lent.length
    this.pos = this.from
    this.end = this.from
    this.base = -this.from
  }

  /** Offset in the file of the next unused byte. */
  get offset(): number {
    return this.base + this.pos
  }

  /** Makes `[pos, pos + count)` readable. @returns false when the file ends before that. */
  need(count: number): boolean {
    if (this.end - this.pos >= count) return true
    return this.needSlow(count)
  }

  /** Passes over `count` bytes without keeping them. @returns false when the file ends before that. */
  skip(count: number): boolean {
    let left = count
    while (left > this.end - this.pos) {
      left -= this.end - this.pos
      this.pos = this.end
      if (!this.needSlow(1)) return false
    }
    this.pos += left
    return true
  }

  close(): void {
    if (this.fd !== 0) closeSync(this.fd)
  }

  private needSlow(count: number): boolean {
    if (count > LONGEST_RUN_BYTES) return false
    const kept = this.end - this.pos
    const { from } = this
    if (from + count > this.limit) {
      // Only a window of our own is ever so small (tests do that): one that is lent holds the longest run.
      const larger = new Uint8Array(Math.max(from + count, this.limit * 2))
      larger.set(this.bytes.subarray(this.pos, this.end), from)
      this.bytes = larger
      this.view = new DataView(larger.buffer)
      this.limit = larger.length
    } else this.bytes.copyWithin(from, this.pos, this.end)
    this.base += this.pos - from
    this.pos = from
    this.end = from + kept
    while (!this.ended && this.end - this.pos < count) this.read()
    return this.end - this.pos >= count
  }

  private read(): void {
    try {
      const got = readSync(this.fd, this.bytes, this.end, Math.min(this.limit - this.end, READ_BYTES), null)
      if (got === 0) this.ended = true
      this.end += got
    } catch (error) {
      // A terminal or an empty non-blocking pipe: nothing yet. Asking again is all a synchronous reader can do.
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return
      throw new InputError(`${this.path}: byte ${this.base + this.end}: ${fileProblem(error)}`)
    }
  }
}
