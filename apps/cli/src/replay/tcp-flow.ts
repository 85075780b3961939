/**
 * One connection of the capture and its counterpart on the modelled machine. The peer's sequence numbers are
 * the same on both; the host's differ by `delta`, since the model chooses its own initial number.
 *
 *     captured host number + delta = modelled host number
 */
import type { Program } from './programs.js'
import type { SegmentPath } from './segment.js'

/** Sequence numbers are signed words that wrap: only differences mean something. */
export const seqDiff = (a: number, b: number): number => (a - b) | 0

export enum Phase {
  /** The model has not answered yet. */
  Opening = 0,
  Open = 1,
  Closed = 2,
}

/** A segment of the peer that waits for the model's window: as many numbers as it takes to write it again. */
export interface HeldSegment {
  seq: number
  bytes: number
  flags: number
}

export class TcpFlow implements SegmentPath {
  phase = Phase.Opening
  /** The program's socket; null before accept or connect, and after close. */
  program: Program | null = null
  /** The host opened it. */
  active = false

  // The host's sequence numbers.
  capIss = 0
  capIssKnown = false
  modelIss = 0
  modelIssKnown = false
  delta = 0
  /** Captured: next number that the host will send. */
  capSent = 0
  /** Captured: highest acknowledgement of the peer. */
  capAcked = 0
  capAckedKnown = false
  /** Modelled: one past the highest number sent; highest acknowledgement given to the model. */
  modelSent = 0
  ackGiven = 0

  // What the model told its peer.
  modelAck = 0
  rightEdge = 0
  modelScale = 0
  modelStamp = 0
  modelHeard = false

  // The peer.
  /** One past what the peer sent without a hole, and one past the highest it sent. */
  peerNext = 0
  peerMost = 0
  peerKnown = false
  peerStamp = 0
  peerWindow = 0xffff
  peerScale = -1
  stamps = false
  stampDelta = 0
  stampDeltaKnown = false
  capSynStamp = 0
  modelSynStamp = 0
  peerMss = 1460
  held: HeldSegment[] = []
  heldFrom = 0

  // The program.
  /** Bytes that the program has yet to write, and the frames they were captured in: their ends, cumulative. */
  toWrite = 0
  written = 0
  readonly writeEnds: number[] = []
  wantsShutdown = false
  shutDown = false
  peerFin = false
  hostFin = false

  /** On the list of flows to look at after this step. */
  touched = false

  constructor(
    readonly index: number,
    readonly version: number,
    /** Number of the local address among the hosts. */
    readonly local: number,
    readonly local0: number,
    readonly local1: number,
    readonly local2: number,
    readonly local3: number,
    readonly remote0: number,
    readonly remote1: number,
    readonly remote2: number,
    readonly remote3: number,
    readonly localPort: number,
    readonly remotePort: number,
  ) {}

  get heldCount(): number {
    return this.held.length - this.heldFrom
  }

  /** Call when either initial number has become known. */
  settleDelta(): void {
    if (this.capIssKnown && this.modelIssKnown) this.delta = (this.modelIss - this.capIss) | 0
    if (this.capSynStamp !== 0 && this.modelSynStamp !== 0 && !this.stampDeltaKnown) {
      this.stampDelta = (this.modelSynStamp - this.capSynStamp) | 0
      this.stampDeltaKnown = true
    }
  }
}
