/**
 * The replay itself: packets in the order of the capture, each given to the machine or to a program of it
 * at its time, and whatever the machine does in between. The loop makes nothing: frames are parsed where the
 * reader's window holds them, and the only copy is the network card's own.
 */

import type { HostAddress } from '../capture/address.js'
import { completeIcmpChecksum, ETH_HLEN, Frame, FrameKind, makeEthernet } from '../capture/frame.js'
import type { CaptureReader } from '../capture/reader.js'
import { MAX_CARD_FRAME, type Machine } from './machine.js'
import { Moved, type Programs } from './programs.js'
import { Ending, Sum, type Tally } from './tally.js'
import type { TcpPeers } from './tcp-peers.js'

/** After the last packet, programs and peers get so much virtual time to finish, unless nothing moves any more. */
const DRAIN_NS = 3600e9

const DAY_NS = 86400e9
/** 46 days. */
const LATEST_NS = 4e15

/** The capture's clock, in nanoseconds: what is added to its times, and the latest so far. */
enum Time {
  Shift = 0,
  Now = 1,
}

export class ReplayEngine {
  readonly frame = new Frame()
  /** How often the capture's clock was set. */
  clockSteps = 0
  /** By `Time`. */
  private readonly clock = new Float64Array(2)
  private readonly host: HostAddress
  private readonly oneIpv4: boolean

  constructor(
    private readonly machine: Machine,
    private readonly programs: Programs,
    private readonly peers: TcpPeers,
    readonly tally: Tally,
    private readonly hosts: readonly HostAddress[],
    private readonly speed: number,
  ) {
    this.host = hosts[0]
    this.oneIpv4 = hosts.length === 1 && hosts[0].version === 4
  }

  /** Takes the packet that the reader stands at. */
  packet(reader: CaptureReader): void {
    const { tally, frame } = this
    const bytes = reader.source.bytes
    const { at, capBytes, wireBytes } = reader
    tally.sums[Sum.Wire] += wireBytes
    if (capBytes < wireBytes) {
      tally.sums[Sum.CutFrames] += 1
      tally.sums[Sum.MissingBytes] += wireBytes - capBytes
    }
    const atNs = this.virtualTime(reader.timeNs)
    if (atNs > this.machine.nowNs) this.machine.advance(atNs)
    const kind = frame.parse(bytes, at, capBytes, wireBytes, reader.linkType)
    if (frame.ipVersion === 0) {
      tally.endings[withoutIp(kind)] += 1
      return
    }
    const to = this.localOf(frame.ipVersion, frame.dst0, frame.dst1, frame.dst2, frame.dst3)
    const from = this.localOf(frame.ipVersion, frame.src0, frame.src1, frame.src2, frame.src3)
    if (to >= 0 && from < 0) {
      this.inward(reader, bytes, kind, to)
      // The card may have interrupted at once, when enough frames had come.
      if (this.programs.anyReady) this.machine.afterEvent()
    } else if (from >= 0 && to < 0) this.outward(bytes, kind, from, wireBytes)
    else tally.endings[from >= 0 ? Ending.SkipLoopback : isGroup(frame) ? Ending.SkipGroup : Ending.SkipOtherHosts] += 1
  }

  /**
   * Virtual time of a packet. A capture's clock may be set while it runs, or its times may be nonsense: a step
   * back of more than a second, or forward of more than a day, is taken as no time at all.
   */
  private virtualTime(timeNs: number): number {
    const { clock } = this
    const at = timeNs + clock[Time.Shift]
    const now = clock[Time.Now]
    if (at > now) {
      if (at - now > DAY_NS) this.clockStepped(timeNs)
      else clock[Time.Now] = at
    } else if (now - at > 1e9) this.clockStepped(timeNs)
    // Beyond this, doubles no longer hold nanoseconds: time stands still.
    const elapsed = this.speed === 1 ? clock[Time.Now] : clock[Time.Now] / this.speed
    return Math.floor(Math.min(elapsed, LATEST_NS))
  }

  private clockStepped(timeNs: number): void {
    this.clock[Time.Shift] = this.clock[Time.Now] - timeNs
    this.clockSteps += 1
  }

  /** Time from the first packet to the last, as captured. */
  get durationNs(): number {
    return this.clock[Time.Now]
  }

  /** @returns the number of one of the host's addresses, or -1. */
  private localOf(version: number, w0: number, w1: number, w2: number, w3: number): number {
    if (this.oneIpv4) return w3 === this.host.w3 && version === 4 ? 0 : -1
    const { hosts } = this
    for (let i = 0; i < hosts.length; i++) {
      const host = hosts[i]
      if (host.w3 === w3 && host.version === version && host.w0 === w0 && host.w1 === w1 && host.w2 === w2) return i
    }
    return -1
  }

  private inward(reader: CaptureReader, bytes: Uint8Array, kind: FrameKind, local: number): void {
    const { tally, frame, machine } = this
    tally.sums[Sum.FramesIn] += 1
    tally.sums[Sum.WireIn] += reader.wireBytes
    tally.sums[Sum.PayloadIn] += frame.payloadBytes
    const ip = frame.netWire
    if (ip + ETH_HLEN > MAX_CARD_FRAME) {
      tally.endings[Ending.SkipTooLong] += 1
      return
    }
    // The card's own and the sender's link address, so that every link type and any captured machine fits.
    const at = makeEthernet(reader.source.view, frame, machine.linkWords)
    const capBytes = frame.netCap + ETH_HLEN
    const wireBytes = ip + ETH_HLEN
    switch (kind) {
      case FrameKind.Udp: {
        const program = this.programs.udpAt(local, frame.dstPort)
        if (program !== null) program.moved[Moved.PacketsIn] += 1
        machine.inject(bytes, at, capBytes, wireBytes)
        tally.endings[Ending.InUdp] += 1
        return
      }
      case FrameKind.Tcp: {
        const ending = this.peers.fromPeer(frame, bytes, at, capBytes, wireBytes, local)
        if (ending !== Ending.Count) tally.endings[ending] += 1
        return
      }
      case FrameKind.Icmp:
        if (frame.netCap < ip) completeIcmpChecksum(bytes, frame)
        machine.inject(bytes, at, capBytes, wireBytes)
        tally.endings[Ending.InIcmp] += 1
        return
      case FrameKind.Fragment:
        machine.inject(bytes, at, capBytes, wireBytes)
        tally.endings[Ending.InFragment] += 1
        return
      default:
        machine.inject(bytes, at, capBytes, wireBytes)
        tally.endings[Ending.InOther] += 1
    }
  }

  private outward(bytes: Uint8Array, kind: FrameKind, local: number, wireBytes: number): void {
    const { tally, frame } = this
    tally.sums[Sum.FramesOut] += 1
    tally.sums[Sum.WireOut] += wireBytes
    tally.sums[Sum.PayloadOut] += frame.payloadBytes
    tally.endings[this.send(bytes, kind, local)] += 1
    this.machine.settleCall()
  }

  private send(bytes: Uint8Array, kind: FrameKind, local: number): Ending {
    const { frame } = this
    if (kind === FrameKind.Tcp) return this.peers.fromHost(frame, bytes, local)
    if (kind === FrameKind.Icmp) return Ending.SkipOutIcmp
    if (kind === FrameKind.Fragment) return Ending.SkipOutFragment
    if (kind !== FrameKind.Udp) return Ending.SkipOutOther
    const program = this.programs.udpAt(local, frame.srcPort)
    if (program === null) return Ending.SkipOutNoSocket
    const payload = frame.transportAt + 8
    const sent = this.programs.udpSend(
      program,
      frame.ipVersion,
      frame.dst0,
      frame.dst1,
      frame.dst2,
      frame.dst3,
      frame.dstPort,
      bytes,
      payload,
      Math.max(0, Math.min(frame.payloadBytes, frame.capEnd - payload)),
      frame.payloadBytes,
    )
    return sent >= 0 ? Ending.OutUdp : Ending.SkipOutNoSocket
  }

  /** Lets what is under way come to its end: interrupts, slow readers, peers that wait, full send buffers. */
  drain(): void {
    const { machine, peers } = this
    peers.acknowledgeAll()
    machine.settleCall()
    const until = machine.nowNs + DRAIN_NS
    while (machine.step(until - machine.nowNs));
  }

  /** Settles what only the end of the replay can tell: segments never sent, writes never taken. */
  close(): void {
    const { tally, peers } = this
    tally.endings[Ending.SkipHeld] += peers.stillHeld()
    for (const flow of peers.flows) {
      const unwritten = flow.writeEnds.length
      tally.endings[Ending.OutTcp] -= unwritten
      tally.endings[Ending.SkipUnsent] += unwritten
    }
  }
}

function withoutIp(kind: FrameKind): Ending {
  if (kind === FrameKind.Arp) return Ending.SkipArp
  if (kind === FrameKind.NonIp) return Ending.SkipNonIp
  return kind === FrameKind.UnreadLink ? Ending.SkipUnreadLink : Ending.SkipMalformed
}

const isGroup = (frame: Frame): boolean =>
  frame.ipVersion === 4 ? frame.dst3 >>> 28 === 0xe || frame.dst3 === -1 : frame.dst0 >>> 24 === 0xff
