/**
 * A cable with faults: frames are lost, doubled, damaged, delayed, overtaken, or wait for bandwidth. Everything
 * random comes from a seed, so a run can be repeated; everything that takes time is an event of virtual time.
 */
import { type EventQueue, Prng } from '@netmem/base'
import type { WirePort } from '../hw/nic-hw.js'

/** What can go wrong. Probabilities from 0 to 1; all default to a perfect cable. */
export interface LinkParams {
  readonly seed?: number
  readonly loss?: number
  readonly duplicate?: number
  /** One random bit of the frame is turned. */
  readonly corrupt?: number
  /** The frame waits `reorderNs` longer than others, which overtake it. */
  readonly reorder?: number
  readonly reorderNs?: number
  readonly delayNs?: number
  /** Up to this much more or less, evenly spread; never before a frame's own arrival. */
  readonly jitterNs?: number
  /** Bits per second; 0 for no limit. Counts 24 bytes of preamble, checksum and gap per frame. */
  readonly bandwidth?: number
  /** Bytes that may wait for bandwidth; what does not fit is lost. */
  readonly queueBytes?: number
}

/** Models what Ethernet adds to a frame on the wire: preamble 8, checksum 4, gap 12. */
export const WIRE_OVERHEAD_BYTES = 24

/** One direction of a cable. Frames enter by `receive`, as on any port. */
export class Link implements WirePort {
  // Counts of frames.
  readonly counts = { sent: 0, delivered: 0, lost: 0, duplicated: 0, corrupted: 0, reordered: 0, overflowed: 0 }
  /** Frames under way: bytes by slot number. */
  private readonly inFlight: (Uint8Array | null)[] = []
  private readonly freeSlots: number[] = []
  private busyUntilNs = 0
  private waitingBytes = 0
  private readonly rng: Prng
  private readonly handler: number

  /** @throws RangeError for a probability outside [0, 1] or a negative time. */
  constructor(
    private readonly clock: EventQueue,
    private readonly to: WirePort,
    private readonly p: LinkParams = {},
  ) {
    for (const name of ['loss', 'duplicate', 'corrupt', 'reorder'] as const)
      if (!((p[name] ?? 0) >= 0 && (p[name] ?? 0) <= 1)) throw new RangeError(`link ${name} ${p[name]}: from 0 to 1`)
    for (const name of ['reorderNs', 'delayNs', 'jitterNs', 'bandwidth', 'queueBytes'] as const)
      if (!((p[name] ?? 0) >= 0)) throw new RangeError(`link ${name} ${p[name]}: not below 0`)
    this.rng = new Prng(p.seed ?? 1)
    this.handler = clock.register((slot, queued) => this.arrive(slot, queued))
  }

  /** Frames under way. */
  get pending(): number {
    return this.inFlight.length - this.freeSlots.length
  }

  receive(bytes: Uint8Array, at: number, len: number): void {
    this.counts.sent++
    if (this.chance(this.p.loss)) {
      this.counts.lost++
      return
    }
    this.carry(bytes, at, len)
    if (this.chance(this.p.duplicate)) {
      this.counts.duplicated++
      this.carry(bytes, at, len)
    }
  }

  private chance(probability: number | undefined): boolean {
    return probability !== undefined && probability > 0 && this.rng.unit() < probability
  }

  private carry(bytes: Uint8Array, at: number, len: number): void {
    const corrupt = this.chance(this.p.corrupt)
    const late = this.chance(this.p.reorder)
    if (late) this.counts.reordered++
    let waitNs = (this.p.delayNs ?? 0) + (late ? (this.p.reorderNs ?? 0) : 0)
    const jitter = this.p.jitterNs ?? 0
    if (jitter > 0) waitNs = Math.max(0, waitNs + Math.round((this.rng.unit() * 2 - 1) * jitter))
    const queued = this.transmitNs(len)
    if (queued < 0) {
      this.counts.overflowed++
      return
    }
    // A perfect cable takes no time and no copy.
    if (waitNs === 0 && queued === 0 && !corrupt) {
      this.counts.delivered++
      this.to.receive(bytes, at, len)
      return
    }
    const copy = bytes.slice(at, at + len)
    if (corrupt) {
      this.counts.corrupted++
      const bit = this.rng.below(len * 8)
      copy[bit >> 3]! ^= 1 << (bit & 7)
    }
    const slot = this.freeSlots.pop() ?? this.inFlight.push(null) - 1
    this.inFlight[slot] = copy
    const size = queued > 0 ? len : 0
    this.waitingBytes += size
    this.clock.schedule(this.clock.nowNs + waitNs + queued, this.handler, slot, size)
  }

  /** @returns nanoseconds until the frame's last bit is out, 0 without a limit, -1 when it cannot wait. */
  private transmitNs(len: number): number {
    const bandwidth = this.p.bandwidth ?? 0
    if (bandwidth === 0) return 0
    if (this.waitingBytes + len > (this.p.queueBytes ?? Number.POSITIVE_INFINITY)) return -1
    const now = this.clock.nowNs
    const start = Math.max(now, this.busyUntilNs)
    this.busyUntilNs = start + Math.ceil(((len + WIRE_OVERHEAD_BYTES) * 8e9) / bandwidth)
    return this.busyUntilNs - now
  }

  private arrive(slot: number, size: number): void {
    const frame = this.inFlight[slot]!
    this.inFlight[slot] = null
    this.freeSlots.push(slot)
    this.waitingBytes -= size
    this.counts.delivered++
    this.to.receive(frame, 0, frame.length)
  }
}

/** Connects two ports both ways, each direction with faults of its own. @returns both directions. */
export function linkConnect(
  clock: EventQueue,
  a: WirePort & { wire: WirePort | null },
  b: WirePort & { wire: WirePort | null },
  ab: LinkParams = {},
  ba: LinkParams = ab,
): [Link, Link] {
  const there = new Link(clock, b, ab)
  const back = new Link(clock, a, { ...ba, seed: (ba.seed ?? 1) + 1 })
  a.wire = there
  b.wire = back
  return [there, back]
}
