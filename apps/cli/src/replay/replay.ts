/** One capture through one machine, from the first packet to the books at the end. */

import type { Kernel, Net } from '@netmem/kernel-model'
import { quiesce } from '@netmem/kernel-model/testing'
import { kmemCacheInuse, type SlabCore } from '@netmem/memory'
import type { HostAddress } from '../capture/address.js'
import { ByteSource } from '../capture/byte-source.js'
import { ETH_HLEN, ETH_P_IP, ETH_P_IPV6, IPPROTO_TCP } from '../capture/frame.js'
import { linkTypeText } from '../capture/link-types.js'
import { CaptureReader } from '../capture/reader.js'
import { dropAdvice } from './advice.js'
import { ReplayEngine } from './engine.js'
import { bootMachine, Cable, Machine } from './machine.js'
import type { ReplayOptions } from './options.js'
import { type LocalAddress, Moved, Programs } from './programs.js'
import type { LimitFacts, ReplayResult, SocketFacts } from './result.js'
import { readBe32, SegmentBuilder } from './segment.js'
import { Ending, Sum, Tally } from './tally.js'
import { TcpPeers } from './tcp-peers.js'
import { Timeline } from './timeline.js'
import { CHARGE, KINDS, KINDS_ABOUT, Usage } from './usage.js'
import { Watch } from './watch.js'

/** Called now and then with the bytes read so far, their number in all (0 unknown), and packets. */
export type Progress = (bytes: number, of: number, packets: number) => void

/** Called after the last packet, when nothing is closed yet. */
export type AtLastPacket = (kernel: Kernel, net: Net) => void

/** Called before each packet with the machine's time: may wait, and may look at the machine. */
export type Pace = (kernel: Kernel, nowNs: number) => void

/** Packets between two looks at the host's clock. */
const PROGRESS_EVERY = 1 << 16
const LISTED_SOCKETS = 100
/** Programs and peers may keep each other busy; after so many rounds at one time the clock goes on. */
const MOST_ROUNDS = 1000
/** Of the first looks every so many takes in all memory, not only the socket charge, which is cheap; later, fewer do. */
const FULL_LOOK_EVERY = 32
const FIRST_LOOKS = 4096
const FULL_LOOK_LATER = 512

/**
 * @param hosts the addresses of the modelled machine; empty when the capture holds no IP.
 * @throws InputError when the file is no capture or is damaged, or an option does not fit this machine.
 */
export function replayCapture(
  path: string,
  options: ReplayOptions,
  hosts: readonly HostAddress[],
  mtu: number,
  progress: Progress,
  atLastPacket: AtLastPacket = () => {},
  pace: Pace | null = null,
): ReplayResult {
  const kernel = bootMachine(options)
  const books = new Books(kernel)
  const machine = new Machine(kernel, options, hosts, mtu)
  const tally = new Tally()
  const locals = hosts.map(
    (host): LocalAddress => ({ version: host.version, words: [host.w0, host.w1, host.w2, host.w3], text: host.text }),
  )
  const programs = new Programs(kernel, options, locals, (localPort, peer, local) =>
    locals[local].version === 6
      ? peers.find(6, local, localPort, peer.addr6[0], peer.addr6[1], peer.addr6[2], peer.addr6[3], peer.port)
      : peers.find(4, local, localPort, 0, 0, 0, peer.addr, peer.port),
  )
  const wire = {
    inject: (bytes: Uint8Array, at: number, capBytes: number, wireBytes: number) =>
      machine.inject(bytes, at, capBytes, wireBytes),
    step: (withinNs: number) => machine.step(withinNs),
  }
  const builder = new SegmentBuilder(machine.hostMac, machine.peerMac)
  const peers: TcpPeers = new TcpPeers(wire, programs, tally, builder, mtu - 40)
  const usage = new Usage(kernel, machine)
  usage.rest(programs)
  const watch = new Watch(kernel.trace, kernel.mem, kernel.skbs)
  const timeline = new Timeline(KINDS)
  const meter = new Meter(machine, programs, usage, timeline, watch)
  machine.onSent = (bytes, at, len) => heardOnCable(peers, hosts, bytes, at, len)
  let busy = false
  machine.afterEvent = () => {
    // What programs and peers do may itself end in an interrupt: that is seen to in the next round.
    if (busy) return
    busy = true
    let rounds = 0
    do {
      programs.measure()
      meter.look()
      programs.run()
      peers.afterStep()
    } while (programs.anyReady && ++rounds < MOST_ROUNDS)
    busy = false
  }
  meter.fullLook()
  const source = new ByteSource(path, machine.window)
  const engine = new ReplayEngine(machine, programs, peers, tally, hosts, options.speed)
  const linkTypes = new Set<number>()
  let reader: CaptureReader
  try {
    reader = new CaptureReader(source)
    let linkType = -1
    while (reader.next()) {
      if (reader.linkType !== linkType) {
        linkType = reader.linkType
        linkTypes.add(linkType)
      }
      if (pace !== null) pace(kernel, machine.nowNs)
      engine.packet(reader)
      if ((reader.packets & (PROGRESS_EVERY - 1)) === 0) progress(source.offset, source.size, reader.packets)
    }
  } finally {
    source.close()
  }
  tally.sums[Sum.Read] = reader.packets
  machine.advance(machine.nowNs + 1_000_000)
  meter.fullLook()
  meter.ended = true
  const atEnd = Float64Array.from(usage.values)
  atLastPacket(kernel, kernel.initNet)
  engine.drain()
  engine.close()
  const sockets = socketFacts(programs)
  const caches = cacheFacts(machine, watch)
  const pools = machine.poolStats()
  watch.stop()
  programs.closeAll()
  machine.down()
  const leaked = books.compare()
  return report()

  function report(): ReplayResult {
    const drops = watch.drops()
    if (machine.missed > 0) drops.RX_MISSED = machine.missed
    if (machine.oversize > 0) drops.RX_LENGTH = machine.oversize
    const given = tally.count(Ending.InUdp, Ending.OutUdp)
    const dropped = clampDrops(drops, given)
    const delivered = takeFrom(tally.words(Ending.InUdp, Ending.SkipArp), dropped)
    const skipped = tally.words(Ending.SkipArp, Ending.Count)
    const skippedSum = tally.count(Ending.SkipArp, Ending.Count)
    const heldBack = tally.endings[Ending.SkipHeld]
    return {
      schema: 'netmem-replay/1',
      capture: {
        file: path,
        format: reader.format,
        linkTypes: [...linkTypes].map((type) => linkTypeText(type).replace(/^link type \d+ \((.*)\)$/, '$1')),
        interfaces: reader.format === 'pcapng' ? reader.interfacesSeen : 1,
        start: startText(reader.startMs),
        durationNs: engine.durationNs,
        cutFrames: tally.sums[Sum.CutFrames],
        missingBytes: tally.sums[Sum.MissingBytes],
        cutOff: reader.cutOff,
      },
      machine: {
        kernel: `Linux ${options.profile.release}`,
        host: hosts.map((host) => host.text),
        hostFound: options.hosts.length === 0,
        cpus: options.cpus,
        memoryBytes: options.memoryBytes,
        ring: options.ring,
        driver: options.driver,
        dma: options.dma,
        mtu,
        reader: options.readerText,
        speed: options.speed,
        rcvbuf: options.rcvbuf,
        sndbuf: options.sndbuf,
        sysctl: Object.fromEntries(options.sysctl),
      },
      packets: {
        read: tally.sums[Sum.Read],
        delivered: tally.sums[Sum.Read] - dropped - skippedSum,
        dropped,
        skipped: skippedSum,
        reasons: { delivered, dropped: drops, skipped },
        in: tally.sums[Sum.FramesIn],
        out: tally.sums[Sum.FramesOut],
        synthesised: synthesised(peers),
      },
      bytes: {
        wire: tally.sums[Sum.Wire],
        captured: tally.sums[Sum.Wire] - tally.sums[Sum.MissingBytes],
        payload: tally.sums[Sum.PayloadIn] + tally.sums[Sum.PayloadOut],
        wireIn: tally.sums[Sum.WireIn],
        wireOut: tally.sums[Sum.WireOut],
        payloadIn: tally.sums[Sum.PayloadIn],
        payloadOut: tally.sums[Sum.PayloadOut],
        readByPrograms: programs.moved[Moved.BytesRead],
        writtenByPrograms: programs.moved[Moved.BytesWritten],
        truesizePeak: timeline.peak[CHARGE],
        payloadAtPeak: meter.payloadAtPeak,
      },
      drops,
      limits: limitFacts(drops, heldBack, tally.endings[Ending.SkipUnsent]),
      memory: KINDS.map((kind, i) => ({
        kind,
        about: KINDS_ABOUT[i],
        peakBytes: timeline.peak[i],
        endBytes: atEnd[i],
      })),
      allocations: watch.allocations(),
      caches,
      copies: watch.copies(),
      dma: watch.dma(machine.cable[Cable.BytesIn], machine.cable[Cable.BytesSent], pools),
      sockets,
      timeline: {
        bucketNs: timeline.bucketNs,
        kinds: [...KINDS],
        peaks: KINDS.map((_kind, i) => timeline.row(i, timeline.count)),
        drops: timeline.counts(),
      },
      leaks: leaked.count,
      leaked: leaked.words,
      warnings: warnings(reader, watch, hosts, engine.clockSteps, tally),
    }
  }
}

/** Looks at memory: the socket charge often, everything now and then. */
class Meter {
  payloadAtPeak = 0
  /** The capture is over: only what programs have still to read is of interest now. */
  ended = false
  private peak = 0
  private lastRmem = 0
  private looks = 0
  private nextNs = Number.NaN

  constructor(
    private readonly machine: Machine,
    private readonly programs: Programs,
    private readonly usage: Usage,
    private readonly timeline: Timeline,
    private readonly watch: Watch,
  ) {
    // Begun as a double: see `EventQueue`.
    this.nextNs = 0
  }

  /** After the work of an interrupt, before programs read. */
  look(): void {
    const { rmem } = this.programs
    if (this.ended && rmem === this.lastRmem) return
    this.lastRmem = rmem
    this.looks += 1
    const now = this.machine.nowNs
    if (rmem > this.peak) {
      this.peak = rmem
      this.payloadAtPeak = this.programs.queuedPayload()
    } else if (now < this.nextNs && this.looks % (this.looks < FIRST_LOOKS ? FULL_LOOK_EVERY : FULL_LOOK_LATER) !== 0)
      return
    this.nextNs = now + this.timeline.bucketNs
    this.fullLook()
  }

  fullLook(): void {
    const { machine } = this
    const dropped = this.watch.dropFrames + machine.missed + machine.oversize
    this.timeline.sample(machine.nowNs, this.usage.measure(this.programs), dropped)
  }
}

/** Every slab cache and the pages, before and after: what is left over is a leak. */
class Books {
  private readonly objects = new Map<SlabCore, number>()
  private readonly used: number

  constructor(private readonly kernel: Kernel) {
    for (const core of kernel.mem.slabCores) if (core !== null) this.objects.set(core, kmemCacheInuse(core))
    this.used = this.otherPages()
  }

  compare(): { count: number; words: string[] } {
    quiesce(this.kernel)
    // The sockets that ICMP answers from belong to the namespace; a real kernel has them from boot.
    const own = this.kernel.inet.nets.flatMap((net) => [net.icmpSk, net.icmp6Sk]).map((sk) => sk?.proto.cache?.core)
    const words: string[] = []
    let count = 0
    for (const core of this.kernel.mem.slabCores) {
      if (core === null) continue
      const more = kmemCacheInuse(core) - (this.objects.get(core) ?? 0) - own.filter((cache) => cache === core).length
      if (more === 0) continue
      count += Math.abs(more)
      words.push(`${more} of ${core.name}`)
    }
    const pages = this.otherPages() - this.used
    if (pages !== 0) {
      count += Math.abs(pages)
      words.push(`${pages} pages`)
    }
    return { count, words }
  }

  private otherPages(): number {
    const { mem } = this.kernel
    let pages = 0
    for (const zone of mem.zones) {
      pages += zone.managed - zone.free
      for (const pcp of zone.pcp) pages -= pcp.count
    }
    for (const core of mem.slabCores)
      if (core !== null) for (const slabs of core.nodeSlabs) pages -= slabs << core.order
    return pages
  }
}

/** The machine sent a frame: its peers hear of TCP segments. */
function heardOnCable(
  peers: TcpPeers,
  hosts: readonly HostAddress[],
  bytes: Uint8Array,
  at: number,
  len: number,
): void {
  const type = (bytes[at + 12] << 8) | bytes[at + 13]
  const ip = at + ETH_HLEN
  if (type === ETH_P_IP) {
    if (bytes[ip + 9] !== IPPROTO_TCP) return
    const tcp = ip + ((bytes[ip] & 15) << 2)
    const src = readBe32(bytes, ip + 12)
    for (let local = 0; local < hosts.length; local++) {
      if (hosts[local].version !== 4 || hosts[local].w3 !== src) continue
      const flow = peers.find(4, local, port(bytes, tcp), 0, 0, 0, readBe32(bytes, ip + 16), port(bytes, tcp + 2))
      const total = (bytes[ip + 2] << 8) | bytes[ip + 3]
      if (flow !== null) peers.sent(flow, bytes, tcp, total - (tcp - ip) - ((bytes[tcp + 12] >> 4) << 2))
      return
    }
  } else if (type === ETH_P_IPV6 && bytes[ip + 6] === IPPROTO_TCP) {
    const tcp = ip + 40
    const src = readBe32(bytes, ip + 20)
    for (let local = 0; local < hosts.length; local++) {
      if (hosts[local].version !== 6 || hosts[local].w3 !== src) continue
      const w = (i: number): number => readBe32(bytes, ip + 24 + 4 * i)
      const flow = peers.find(6, local, port(bytes, tcp), w(0), w(1), w(2), w(3), port(bytes, tcp + 2))
      if (flow !== null) peers.sent(flow, bytes, tcp, len - (tcp - at) - ((bytes[tcp + 12] >> 4) << 2))
      return
    }
  }
}

const port = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1]

function startText(ms: number | null): string | null {
  if (ms === null || !(Math.abs(ms) < 8.64e15)) return null
  return new Date(ms).toISOString()
}

function synthesised(peers: TcpPeers): Record<string, number> {
  const { handshake, ack, split, missing } = peers.synthesised
  const out: Record<string, number> = {}
  if (handshake > 0) out['handshakes that the capture lacks'] = handshake
  if (ack > 0) out['ACKs of what the model sent later'] = ack
  if (split > 0) out['segments split to fit the window'] = split
  if (missing > 0) out['segments that the capture missed'] = missing
  return out
}

/**
 * One captured frame is dropped once at most, but the kernel may drop what several frames became, or frames
 * that peers added: the counts cannot exceed what was given to the machine.
 */
function clampDrops(drops: Record<string, number>, given: number): number {
  let sum = 0
  for (const reason of Object.keys(drops)) {
    drops[reason] = Math.min(drops[reason], given - sum)
    sum += drops[reason]
    if (drops[reason] === 0) delete drops[reason]
  }
  return sum
}

/** Takes dropped packets off the kinds that were given to the machine, those of the largest kind first. */
function takeFrom(kinds: Record<string, number>, dropped: number): Record<string, number> {
  let left = dropped
  const incoming = Object.keys(kinds).filter((kind) => !kind.startsWith('from '))
  for (const kind of incoming.sort((a, b) => kinds[b] - kinds[a])) {
    const taken = Math.min(left, kinds[kind])
    kinds[kind] -= taken
    left -= taken
    if (kinds[kind] === 0) delete kinds[kind]
  }
  return kinds
}

function limitFacts(drops: Record<string, number>, heldBack: number, unsent: number): LimitFacts[] {
  const facts = Object.entries(drops)
    .sort((a, b) => b[1] - a[1])
    .map(([reason, packets]): LimitFacts => ({ reason, packets, ...dropAdvice(reason) }))
  if (heldBack > 0)
    facts.push({
      reason: 'window closed',
      packets: heldBack,
      limit: 'peers still wait for the receive window of TCP connections whose programs do not read',
      setting: 'a faster reader, --rcvbuf, net.ipv4.tcp_rmem (third number)',
    })
  if (unsent > 0)
    facts.push({
      reason: 'send buffer full',
      packets: unsent,
      limit: 'programs could not write: the send buffer was full and stayed so',
      setting: '--sndbuf, net.ipv4.tcp_wmem (third number)',
    })
  return facts
}

function cacheFacts(machine: Machine, watch: Watch): ReplayResult['caches'] {
  const facts: { cache: string; requests: number; hits: number; about: string }[] = []
  const pools = machine.poolStats()
  for (const [index, { fast, refill, slow }] of pools.entries())
    facts.push({
      cache: pools.length === 1 ? 'page pool' : `page pool ${index}`,
      requests: fast + refill + slow,
      hits: fast + refill,
      about: 'receive buffers, as pages used again',
    })
  facts.push(...watch.slabFacts())
  return facts
}

function socketFacts(programs: Programs): ReplayResult['sockets'] {
  const list = programs.list
    .map(
      (program): SocketFacts => ({
        proto: program.tcp ? 'tcp' : 'udp',
        local: program.local,
        remote: program.remote,
        packetsIn: program.moved[Moved.PacketsIn],
        bytesRead: program.moved[Moved.BytesRead],
        bytesWritten: program.moved[Moved.BytesWritten],
        drops: program.open ? program.sk.drops : program.drops,
        rcvbuf: program.open ? program.sk.rcvbuf : program.rcvbuf,
        rmemPeak: program.rmemPeak,
        rmemEnd: program.open ? program.rmem : program.closedRmem,
      }),
    )
    .sort((a, b) => b.bytesRead + b.bytesWritten - a.bytesRead - a.bytesWritten || b.packetsIn - a.packetsIn)
  const tcp = list.filter((socket) => socket.proto === 'tcp').length
  return { udp: list.length - tcp, tcp, list: list.slice(0, LISTED_SOCKETS) }
}

function warnings(
  reader: CaptureReader,
  watch: Watch,
  hosts: readonly HostAddress[],
  clockSteps: number,
  tally: Tally,
): string[] {
  const words: string[] = []
  if (reader.cutOff !== null) words.push(`${reader.cutOff}; this is what was readable`)
  if (reader.oddLengths > 0) words.push(`${reader.oddLengths} frames were longer than their wire length says`)
  if (hosts.length > 0 && tally.sums[Sum.FramesIn] + tally.sums[Sum.FramesOut] === 0)
    words.push(`${hosts.map((host) => host.text).join(', ')} neither sends nor receives anything in this capture`)
  if (clockSteps > 0)
    words.push(`the capture's clock was set ${clockSteps} times while it ran; each time, no time passed`)
  if (hosts.length === 0)
    words.push('no IP address receives anything here, so there was no host to model; --host names one')
  return words.concat(watch.warnings.map((line) => `the kernel says: ${line}`))
}
