/**
 * The other ends of the host's TCP connections. What the capture's peers sent is given to the modelled host
 * as it was, except that acknowledgements of the host's data are moved to the model's sequence numbers. The
 * modelled host answers as itself; where its answers differ from those in the capture, the peer behaves as
 * a peer would: it waits for the window, and acknowledges what it has got.
 *
 * Replayed: the peer's segments (order, repetition, sizes, times, options), and what the host's programs
 * wrote, as writes of the same bytes at the same times. Synthesised: handshakes that the capture lacks,
 * acknowledgements of what the model sent later than the real host did, bytes that the capture missed.
 */
import type { Frame } from '../capture/frame.js'
import { FlowTable } from './flow-table.js'
import { Moved } from './programs.js'
import {
  readBe32,
  type SegmentBuilder,
  SegmentOptions,
  synOptions,
  TCP_ACK,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  timestampOption,
  writeBe32,
} from './segment.js'
import { Ending, type Tally } from './tally.js'
import { Phase, seqDiff, TcpFlow } from './tcp-flow.js'

/** The modelled machine as its peers see it. */
export interface PeerWire {
  /** Gives the network card a frame now: `capBytes` at `at`, zeros up to `wireBytes`. */
  inject(bytes: Uint8Array, at: number, capBytes: number, wireBytes: number): void
  /** Lets the machine do the next thing that is due within `ns`. @returns false when there is none. */
  step(withinNs: number): boolean
}

/** The host's programs, as connections need them. */
export interface PeerPrograms {
  listen(flow: TcpFlow): boolean
  connect(flow: TcpFlow): boolean
  /** Writes `count` bytes, of which `capBytes` at `at` are known. */
  write(flow: TcpFlow, bytes: Uint8Array, at: number, capBytes: number, count: number): void
  shutdown(flow: TcpFlow): void
  abort(flow: TcpFlow): void
}

export const MAX_FLOWS = 1 << 16
/** How long a peer waits for the model's part of a handshake, in virtual nanoseconds. */
const HANDSHAKE_NS = 2_000_000
/** Captured bytes that are missing are written as zeros up to this many; more is another connection. */
const MOST_MISSING = 16 << 20
const SCALE = 7
/** Models `TCP_MIN_MSS`, bytes. */
const LEAST_MSS = 88

export class TcpPeers {
  readonly flows: TcpFlow[] = []
  /** Frames that the peers added, by what for. */
  readonly synthesised = { handshake: 0, ack: 0, split: 0, missing: 0 }
  /** Segments that had to wait for the model's window, now and over all. */
  waited = 0
  private readonly table = new FlowTable()
  private readonly touched: TcpFlow[] = []
  private readonly options = new SegmentOptions()

  constructor(
    private readonly wire: PeerWire,
    private readonly programs: PeerPrograms,
    private readonly tally: Tally,
    private readonly builder: SegmentBuilder,
    private readonly mss: number,
  ) {}

  find(
    version: number,
    local: number,
    localPort: number,
    r0: number,
    r1: number,
    r2: number,
    r3: number,
    remotePort: number,
  ): TcpFlow | null {
    const at = this.table.get(r0, r1, r2, r3, (localPort << 16) | remotePort, local * 2 + (version === 6 ? 1 : 0))
    return at < 0 ? null : this.flows[at]
  }

  // From the peer to the host.

  /**
   * A captured segment to the host: `frame` in `bytes`, as an Ethernet frame at `at`.
   *
   * @returns how it ended; `Ending.Count` when it waits for the window and will be counted later.
   */
  fromPeer(frame: Frame, bytes: Uint8Array, at: number, capBytes: number, wireBytes: number, local: number): Ending {
    const tcp = frame.transportAt
    const flags = bytes[tcp + 13]
    const seq = readBe32(bytes, tcp + 4)
    const ack = readBe32(bytes, tcp + 8)
    const { options } = this
    options.parse(bytes, tcp + 20, tcp + frame.headerBytes)
    let flow = this.find(
      frame.ipVersion,
      local,
      frame.dstPort,
      frame.src0,
      frame.src1,
      frame.src2,
      frame.src3,
      frame.srcPort,
    )
    if ((flags & (TCP_SYN | TCP_ACK | TCP_RST)) === TCP_SYN)
      return this.peerSyn(flow, frame, bytes, at, capBytes, wireBytes, local, seq)
    if (flow !== null && flow.phase === Phase.Closed) {
      // The connection is over, and yet the peer goes on: the modelled host says so itself.
      this.give(flow, bytes, at, capBytes, wireBytes, tcp, ack, flags)
      return Ending.InTcp
    }
    if (flow === null) {
      if ((flags & TCP_RST) !== 0 || (flags & TCP_ACK) === 0) return Ending.SkipNoStart
      flow = this.add(frame, local, true)
      if (flow === null) return Ending.SkipTooManyFlows
      const began = (flags & TCP_SYN) !== 0 ? this.openMidway(flow, ack) : this.beginMidway(flow, seq, ack)
      if (!began) return Ending.SkipNoStart
    }
    if ((flags & TCP_ACK) !== 0) {
      if (!flow.capIssKnown) {
        // The host's SYN or SYN-ACK is not in the capture: the first acknowledgement tells where it began.
        flow.capIss = (ack - 1) | 0
        flow.capIssKnown = true
        flow.capSent = ack
        flow.settleDelta()
      }
      if (!flow.modelIssKnown && !this.awaitModel(flow)) return Ending.SkipNoStart
      if (!flow.capAckedKnown || seqDiff(ack, flow.capAcked) > 0) {
        flow.capAcked = ack
        flow.capAckedKnown = true
      }
    }
    if (options.hasTimestamp) flow.peerStamp = options.timestamp
    flow.peerWindow = (bytes[tcp + 14] << 8) | bytes[tcp + 15]
    if ((flags & TCP_SYN) !== 0) this.peerIntroduces(flow, seq)
    const length = frame.payloadBytes + (flags & TCP_FIN)
    if (length > 0 && this.mustWait(flow, seq, length, flags)) return Ending.Count
    this.give(flow, bytes, at, capBytes, wireBytes, tcp, ack, flags)
    return Ending.InTcp
  }

  private peerSyn(
    old: TcpFlow | null,
    frame: Frame,
    bytes: Uint8Array,
    at: number,
    capBytes: number,
    wireBytes: number,
    local: number,
    seq: number,
  ): Ending {
    let flow = old
    if (flow === null || flow.peerMost !== ((seq + 1) | 0) || flow.phase !== Phase.Opening) {
      if (flow !== null && flow.phase !== Phase.Closed) this.programs.abort(flow)
      flow = this.add(frame, local, true)
      if (flow === null) return Ending.SkipTooManyFlows
      if (!this.programs.listen(flow)) return Ending.SkipNoStart
      this.peerIntroduces(flow, seq)
    }
    this.wire.inject(bytes, at, capBytes, wireBytes)
    return Ending.InTcp
  }

  /** The peer's SYN or SYN-ACK, whose options `this.options` holds. */
  private peerIntroduces(flow: TcpFlow, seq: number): void {
    const { options } = this
    flow.peerNext = (seq + 1) | 0
    flow.peerMost = flow.peerNext
    flow.peerKnown = true
    flow.peerScale = options.scale
    flow.stamps = options.hasTimestamp
    flow.peerStamp = options.timestamp
    if (options.mss !== 0) flow.peerMss = Math.max(options.mss, LEAST_MSS)
  }

  /** Moves the host's numbers in a captured segment to the model's, in place, and gives it to the host. */
  private give(
    flow: TcpFlow,
    bytes: Uint8Array,
    at: number,
    capBytes: number,
    wireBytes: number,
    tcp: number,
    ack: number,
    flags: number,
  ): void {
    const { options } = this
    if ((flags & TCP_ACK) !== 0) {
      const moved = this.ackFor(flow, ack)
      writeBe32(bytes, tcp + 8, moved)
      if (seqDiff(moved, flow.ackGiven) > 0) flow.ackGiven = moved
      for (let block = 0; block < options.sackBlocks * 2; block++) {
        const edge = options.sackAt + 4 * block
        writeBe32(bytes, edge, (readBe32(bytes, edge) + flow.delta) | 0)
      }
      if (options.echoAt >= 0) writeBe32(bytes, options.echoAt, this.echoFor(flow, options.echo))
    }
    if (flow.program !== null) flow.program.moved[Moved.PacketsIn] += 1
    this.wire.inject(bytes, at, capBytes, wireBytes)
  }

  /** The model may be behind the real host: the peer cannot acknowledge what it has not got. */
  private ackFor(flow: TcpFlow, ack: number): number {
    const moved = (ack + flow.delta) | 0
    return seqDiff(moved, flow.modelSent) > 0 ? flow.modelSent : moved
  }

  private echoFor(flow: TcpFlow, echo: number): number {
    if (!flow.stampDeltaKnown) return flow.modelStamp
    const moved = (echo + flow.stampDelta) | 0
    return seqDiff(moved, flow.modelStamp) > 0 ? flow.modelStamp : moved
  }

  /** @returns true when the segment was put aside because the model's window does not reach so far. */
  private mustWait(flow: TcpFlow, seq: number, length: number, flags: number): boolean {
    const end = (seq + length) | 0
    if (!flow.peerKnown) {
      flow.peerNext = flow.peerMost = seq
      flow.peerKnown = true
    }
    const again = seqDiff(end, flow.peerMost) <= 0
    if (seqDiff(seq, flow.peerNext) <= 0 && seqDiff(end, flow.peerNext) > 0)
      flow.peerNext = seqDiff(flow.peerMost, end) > 0 ? flow.peerMost : end
    if (!again) flow.peerMost = end
    if (again && flow.heldCount === 0) return false
    if (flow.heldCount === 0 && (!flow.modelHeard || seqDiff(end, flow.rightEdge) <= (flags & TCP_FIN))) return false
    flow.held.push({ seq, bytes: length - (flags & TCP_FIN), flags })
    this.waited += 1
    this.touch(flow)
    return true
  }

  // From the host to the peer.

  /** A captured segment of the host: what its program wrote, and what it had received. @returns how it ended. */
  fromHost(frame: Frame, bytes: Uint8Array, local: number): Ending {
    const tcp = frame.transportAt
    const flags = bytes[tcp + 13]
    const seq = readBe32(bytes, tcp + 4)
    const ack = readBe32(bytes, tcp + 8)
    const { options } = this
    options.parse(bytes, tcp + 20, tcp + frame.headerBytes)
    let flow = this.find(
      frame.ipVersion,
      local,
      frame.srcPort,
      frame.dst0,
      frame.dst1,
      frame.dst2,
      frame.dst3,
      frame.dstPort,
    )
    if ((flags & TCP_SYN) !== 0) {
      if ((flags & TCP_ACK) === 0) return this.hostSyn(flow, frame, local, seq)
      if (flow === null) {
        flow = this.add(frame, local, false)
        if (flow === null) return Ending.SkipTooManyFlows
        if (!this.beginMidway(flow, ack, (seq + 1) | 0)) return Ending.SkipNoStart
      }
      if (!flow.capIssKnown) {
        flow.capIss = seq
        flow.capIssKnown = true
        flow.capSent = (seq + 1) | 0
        flow.capSynStamp = options.timestamp
        flow.settleDelta()
      }
      return Ending.SkipOutHandshake
    }
    if (flow === null) {
      if ((flags & TCP_RST) !== 0) return Ending.SkipReset
      if ((flags & TCP_ACK) === 0) return Ending.SkipNoStart
      flow = this.add(frame, local, false)
      if (flow === null) return Ending.SkipTooManyFlows
      if (!this.beginMidway(flow, ack, seq)) return Ending.SkipNoStart
    }
    if ((flags & TCP_RST) !== 0) {
      this.programs.abort(flow)
      return Ending.SkipReset
    }
    if (!flow.capIssKnown) {
      flow.capIss = (seq - 1) | 0
      flow.capIssKnown = true
      flow.capSent = seq
      flow.settleDelta()
    }
    if ((flags & TCP_ACK) !== 0 && flow.peerKnown) this.fillHole(flow, ack)
    const length = frame.payloadBytes
    const fresh = seqDiff((seq + length) | 0, flow.capSent)
    if ((flags & TCP_FIN) !== 0 && !flow.hostFin && fresh >= 0) flow.hostFin = true
    let ending = Ending.SkipOutAck
    if (length > 0 && fresh <= 0) ending = Ending.SkipOutAgain
    else if (fresh > MOST_MISSING) return Ending.SkipNoStart
    else if (length > 0) {
      flow.capSent = (seq + length) | 0
      // The first bytes may have been sent before, or be missing in the capture: the program writes what is new.
      const known = Math.min(length, fresh)
      const from = tcp + frame.headerBytes + (length - known)
      const capBytes = fresh > length ? 0 : Math.max(0, Math.min(known, frame.capEnd - from))
      this.programs.write(flow, bytes, from, capBytes, fresh)
      ending = Ending.OutTcp
    }
    if ((flags & TCP_FIN) !== 0) {
      this.programs.shutdown(flow)
      if (length === 0) ending = Ending.OutTcp
    }
    return ending
  }

  private hostSyn(old: TcpFlow | null, frame: Frame, local: number, seq: number): Ending {
    if (old?.capIssKnown && old.capIss === seq) return Ending.SkipOutHandshake
    if (old !== null && old.phase !== Phase.Closed) this.programs.abort(old)
    const flow = this.add(frame, local, false)
    if (flow === null) return Ending.SkipTooManyFlows
    flow.active = true
    flow.capIss = seq
    flow.capIssKnown = true
    flow.capSent = (seq + 1) | 0
    flow.capSynStamp = this.options.timestamp
    return this.programs.connect(flow) ? Ending.SkipOutHandshake : Ending.SkipOutNoSocket
  }

  /** The real host acknowledged bytes that the capture lacks: the peer did send them, so they are sent now. */
  private fillHole(flow: TcpFlow, ack: number): void {
    const missing = seqDiff(ack, flow.peerNext)
    if (missing <= 0 || flow.phase === Phase.Closed || flow.heldCount > 0) return
    if (missing > MOST_MISSING) return
    // A lone FIN that was missed counts one number, and cannot be told from one byte.
    let seq = flow.peerNext
    let left = missing
    while (left > 0) {
      const bytes = Math.min(left, flow.peerMss)
      this.synthesised.missing += 1
      this.mustWaitOrSend(flow, seq, bytes)
      seq = (seq + bytes) | 0
      left -= bytes
    }
    flow.peerNext = ack
    if (seqDiff(ack, flow.peerMost) > 0) flow.peerMost = ack
    else flow.peerNext = flow.peerMost
  }

  private mustWaitOrSend(flow: TcpFlow, seq: number, bytes: number): void {
    if (flow.heldCount > 0 || (flow.modelHeard && seqDiff((seq + bytes) | 0, flow.rightEdge) > 0)) {
      flow.held.push({ seq, bytes, flags: -1 })
      this.touch(flow)
    } else this.send(flow, seq, TCP_ACK | TCP_PSH, bytes)
  }

  // Connections that began before the capture did.

  /** The peer opens a connection whose SYN is not in the capture, up to the numbers that the capture shows. */
  private beginMidway(flow: TcpFlow, peerNext: number, hostNext: number): boolean {
    flow.capIss = (hostNext - 1) | 0
    flow.capIssKnown = true
    flow.capSent = hostNext
    flow.peerNext = flow.peerMost = peerNext
    flow.peerKnown = true
    flow.stamps = this.options.hasTimestamp
    flow.peerStamp = this.options.timestamp
    flow.peerScale = SCALE
    flow.peerMss = this.mss
    if (!this.programs.listen(flow)) return false
    const stamp = flow.stamps ? (flow.peerStamp - 1) | 0 : null
    this.builder.build(flow, (peerNext - 1) | 0, 0, TCP_SYN, 0xffff, synOptions(this.mss, SCALE, stamp, 0), 0)
    this.synthesised.handshake += 1
    this.wire.inject(this.builder.bytes, 0, this.builder.capBytes, this.builder.wireBytes)
    if (!this.awaitModel(flow)) return false
    flow.capAcked = hostNext
    flow.capAckedKnown = true
    this.synthesised.handshake += 1
    this.send(flow, flow.peerNext, TCP_ACK, 0)
    while (flow.program === null && this.wire.step(HANDSHAKE_NS));
    return true
  }

  /** The host's SYN is missing, the peer's SYN-ACK is there: the host connects now. */
  private openMidway(flow: TcpFlow, ack: number): boolean {
    flow.active = true
    flow.capIss = (ack - 1) | 0
    flow.capIssKnown = true
    flow.capSent = ack
    return this.programs.connect(flow) && this.awaitModel(flow)
  }

  private awaitModel(flow: TcpFlow): boolean {
    while (!flow.modelIssKnown && this.wire.step(HANDSHAKE_NS));
    return flow.modelIssKnown
  }

  // What the model sends.

  /**
   * The modelled host sent a TCP segment: headers at `tcp` in `memory`, `payloadBytes` of payload. Only notes
   * it down; `afterStep` acts on it, when the machine is not in the middle of its own work.
   */
  sent(flow: TcpFlow, memory: Uint8Array, tcp: number, payloadBytes: number): void {
    const flags = memory[tcp + 13]
    const seq = readBe32(memory, tcp + 4)
    const headerBytes = (memory[tcp + 12] >> 4) << 2
    const { options } = this
    options.parse(memory, tcp + 20, tcp + headerBytes)
    if (options.hasTimestamp) flow.modelStamp = options.timestamp
    if ((flags & TCP_RST) !== 0) {
      flow.phase = Phase.Closed
      return
    }
    const end = (seq + payloadBytes + (flags & TCP_FIN) + ((flags & TCP_SYN) >> 1)) | 0
    if ((flags & TCP_SYN) !== 0) {
      if (!flow.modelIssKnown) {
        flow.modelIss = seq
        flow.modelIssKnown = true
        flow.modelSent = end
        flow.ackGiven = seq
        flow.modelSynStamp = options.timestamp
        flow.settleDelta()
      }
      flow.modelScale = Math.max(options.scale, 0)
    }
    if (seqDiff(end, flow.modelSent) > 0) flow.modelSent = end
    if ((flags & TCP_ACK) !== 0) {
      const ack = readBe32(memory, tcp + 8)
      const window = (memory[tcp + 14] << 8) | memory[tcp + 15]
      const scale = (flags & TCP_SYN) !== 0 || flow.peerScale < 0 ? 0 : flow.modelScale
      const edge = (ack + window * 2 ** scale) | 0
      if (!flow.modelHeard || seqDiff(edge, flow.rightEdge) > 0) flow.rightEdge = edge
      flow.modelAck = ack
      flow.modelHeard = true
    }
    this.touch(flow)
  }

  /** Peers react to what the model sent meanwhile. */
  afterStep(): void {
    for (let i = 0; i < this.touched.length; i++) {
      const flow = this.touched[i]
      flow.touched = false
      if (flow.phase === Phase.Closed) continue
      if (flow.heldCount > 0) this.release(flow)
      this.catchUp(flow)
    }
    if (this.touched.length > 0) this.touched.length = 0
  }

  private touch(flow: TcpFlow): void {
    if (flow.touched) return
    flow.touched = true
    this.touched.push(flow)
  }

  /** Acknowledges what the model sent after the capture's peer had acknowledged it already. */
  private catchUp(flow: TcpFlow): void {
    if (!flow.capAckedKnown || !flow.modelIssKnown || !flow.capIssKnown) return
    const due = this.ackFor(flow, flow.capAcked)
    if (seqDiff(due, flow.ackGiven) <= 0 || !flow.peerKnown || flow.ackGiven === flow.modelIss) return
    this.synthesised.ack += 1
    this.send(flow, this.nextOf(flow), TCP_ACK, 0)
  }

  /** Sends what fits the window now, in order; a segment that fits in part is split where nothing else moves. */
  private release(flow: TcpFlow): void {
    while (flow.heldCount > 0) {
      const segment = flow.held[flow.heldFrom]
      const fin = segment.flags > 0 ? segment.flags & TCP_FIN : 0
      const room = seqDiff(flow.rightEdge, segment.seq)
      if (segment.bytes > room) {
        if (room <= 0 || flow.modelAck !== segment.seq) return
        this.synthesised.split += 1
        this.send(flow, segment.seq, TCP_ACK | TCP_PSH, room)
        segment.seq = (segment.seq + room) | 0
        segment.bytes -= room
        return
      }
      this.send(flow, segment.seq, TCP_ACK | (segment.bytes > 0 ? TCP_PSH : 0) | fin, segment.bytes)
      flow.heldFrom += 1
      if (segment.flags >= 0) this.tally.endings[Ending.InTcp] += 1
      if (flow.heldFrom === flow.held.length) {
        flow.held = []
        flow.heldFrom = 0
      }
    }
  }

  /** The number that the peer's next bare acknowledgement carries. */
  private nextOf(flow: TcpFlow): number {
    return flow.heldCount > 0 ? flow.held[flow.heldFrom].seq : flow.peerMost
  }

  private send(flow: TcpFlow, seq: number, flags: number, payloadBytes: number): void {
    const ack = flow.capAckedKnown ? this.ackFor(flow, flow.capAcked) : flow.modelSent
    if (seqDiff(ack, flow.ackGiven) > 0) flow.ackGiven = ack
    const options = flow.stamps ? timestampOption(flow.peerStamp, flow.modelStamp) : []
    this.builder.build(flow, seq, ack, flags, flow.peerWindow, options, payloadBytes)
    this.wire.inject(this.builder.bytes, 0, this.builder.capBytes, this.builder.wireBytes)
  }

  // The end of the capture.

  /** From now on every peer acknowledges whatever it gets: what the capture's peers did later is not known. */
  acknowledgeAll(): void {
    for (const flow of this.flows) {
      if (flow.phase === Phase.Closed || !flow.modelIssKnown || !flow.capIssKnown) continue
      flow.capAcked = (flow.modelSent - flow.delta + 0x3fffffff) | 0
      flow.capAckedKnown = true
      this.touch(flow)
    }
  }

  /** @returns segments that still wait for a window, those of the capture only. */
  stillHeld(): number {
    let held = 0
    for (const flow of this.flows)
      for (let i = flow.heldFrom; i < flow.held.length; i++) if (flow.held[i].flags >= 0) held += 1
    return held
  }

  /** @param fromPeer whether `frame` is one of the peer's; else its source is the host. */
  private add(frame: Frame, local: number, fromPeer: boolean): TcpFlow | null {
    if (this.flows.length >= MAX_FLOWS) return null
    const f = frame
    const flow = fromPeer
      ? new TcpFlow(
          this.flows.length,
          f.ipVersion,
          local,
          f.dst0,
          f.dst1,
          f.dst2,
          f.dst3,
          f.src0,
          f.src1,
          f.src2,
          f.src3,
          f.dstPort,
          f.srcPort,
        )
      : new TcpFlow(
          this.flows.length,
          f.ipVersion,
          local,
          f.src0,
          f.src1,
          f.src2,
          f.src3,
          f.dst0,
          f.dst1,
          f.dst2,
          f.dst3,
          f.srcPort,
          f.dstPort,
        )
    this.flows.push(flow)
    this.table.set(
      flow.remote0,
      flow.remote1,
      flow.remote2,
      flow.remote3,
      (flow.localPort << 16) | flow.remotePort,
      local * 2 + (f.ipVersion === 6 ? 1 : 0),
      flow.index,
    )
    return flow
  }
}
