/** One capture, received in several ways: a machine and a program for each, and what each cost. */
import { traceSubscribe } from '@netmem/base'
import { sysClose } from '@netmem/kernel-model'
import { type Sock, skRmemAllocGet } from '@netmem/sockmem'
import { ByteSource } from '../capture/byte-source.js'
import { ETH_HLEN, Frame, makeEthernet } from '../capture/frame.js'
import { LINKTYPE_ETHERNET } from '../capture/link-types.js'
import { CaptureReader } from '../capture/reader.js'
import { bootMachine, MAX_CARD_FRAME, Machine } from './machine.js'
import type { Reader, ReplayOptions } from './options.js'
import { type Receiver, type RxPath, receiver, usedBytes } from './receive-path.js'

/** Packets between two looks at memory and at what has come without an event. */
const LOOK_EVERY = 32
/** After the last packet: past the timers that give what is left to the program. */
const AFTER_NS = 50_000_000

/** What one path cost. */
export interface RxPathResult {
  readonly path: RxPath
  /** Frames that were put on the wire. */
  readonly frames: number
  readonly delivered: { readonly packets: number; readonly bytes: number }
  readonly dropped: Readonly<Record<string, number>>
  /** System calls that the program made to receive. */
  readonly calls: number
  /** Bytes that the CPU copied, and by which kernel functions. */
  readonly copies: {
    readonly calls: number
    readonly bytes: number
    readonly sites: readonly { readonly site: string; readonly calls: number; readonly bytes: number }[]
  }
  readonly memory: {
    /** Rings and areas that are there from the start. */
    readonly fixedBytes: number
    /** Most truesize that waited in the socket's queue. */
    readonly queuedPeakBytes: number
    /** Most memory in use, over what the machine at rest had. */
    readonly peakBytes: number
  }
}

export interface RxResult {
  readonly schema: 'netmem-replay-rx/1'
  readonly capture: { readonly file: string; readonly packets: number; readonly skipped: number }
  readonly machine: { readonly kernel: string; readonly driver: string; readonly mtu: number; readonly reader: string }
  readonly paths: readonly RxPathResult[]
}

/** @throws InputError when the file is no capture, or an option does not fit. */
export function replayReceivePaths(
  file: string,
  options: ReplayOptions,
  mtu: number,
  paths: readonly RxPath[],
): RxResult {
  let packets = 0
  let skipped = 0
  const results = paths.map((path) => {
    const run = new Run(path, { ...options, cpus: 1 }, mtu)
    run.capture(file)
    packets = run.packets
    skipped = run.skipped
    return run.end()
  })
  return {
    schema: 'netmem-replay-rx/1',
    capture: { file, packets, skipped },
    machine: {
      kernel: `Linux ${options.profile.release}`,
      driver: options.driver,
      mtu,
      reader: options.readerText,
    },
    paths: results,
  }
}

class Run {
  packets = 0
  skipped = 0
  private frames = 0
  private nowNs = 0
  private peak = 0
  private queuedPeak = 0
  private readonly machine: Machine
  private readonly program: Receiver
  private readonly process
  private readonly base: number
  private readonly sites = new Map<string, { calls: number; bytes: number }>()
  private readonly unsubscribe: () => void
  private readonly frame = new Frame()

  constructor(
    private readonly path: RxPath,
    private readonly options: ReplayOptions,
    mtu: number,
  ) {
    const kernel = bootMachine(options)
    this.machine = new Machine(kernel, options, [], mtu)
    this.process = kernel.spawn()
    this.base = usedBytes(this.process)
    this.program = receiver(path, this.machine, this.process, options)
    this.unsubscribe = traceSubscribe(kernel.trace, {
      copy: (_cpu, site, bytes) => {
        const known = this.sites.get(site)
        if (known === undefined) this.sites.set(site, { calls: 1, bytes })
        else {
          known.calls += 1
          known.bytes += bytes
        }
      },
    })
    let busy = false
    this.machine.afterEvent = () => {
      if (busy) return
      busy = true
      this.look()
      if (mayRead(options.reader, this.program.bytes, this.machine.nowNs)) this.program.poll()
      busy = false
    }
  }

  capture(file: string): void {
    const source = new ByteSource(file, this.machine.window)
    try {
      const reader = new CaptureReader(source)
      while (reader.next()) this.packet(reader)
      this.packets = reader.packets
    } finally {
      source.close()
    }
  }

  private packet(reader: CaptureReader): void {
    const { machine } = this
    // A clock that was set back stands still.
    this.nowNs = Math.max(this.nowNs, Math.floor(reader.timeNs / this.options.speed))
    if (this.nowNs > machine.nowNs) machine.advance(this.nowNs)
    const bytes = reader.source.bytes
    let { at, capBytes, wireBytes } = reader
    if (reader.linkType !== LINKTYPE_ETHERNET) {
      const { frame } = this
      frame.parse(bytes, at, capBytes, wireBytes, reader.linkType)
      if (frame.ipVersion === 0) wireBytes = 0
      else {
        at = makeEthernet(reader.source.view, frame, machine.linkWords)
        capBytes = frame.netCap + ETH_HLEN
        wireBytes = frame.netWire + ETH_HLEN
      }
    }
    if (wireBytes < ETH_HLEN || wireBytes > MAX_CARD_FRAME) {
      this.skipped += 1
      return
    }
    machine.inject(bytes, at, capBytes, wireBytes)
    this.frames += 1
    if (this.frames % LOOK_EVERY === 0) machine.afterEvent()
  }

  private look(): void {
    this.peak = Math.max(this.peak, usedBytes(this.process) - this.base)
    for (const sk of this.machine.kernel.socks.socks as (Sock | null)[])
      if (sk !== null) this.queuedPeak = Math.max(this.queuedPeak, skRmemAllocGet(sk))
  }

  end(): RxPathResult {
    const { machine, program, process } = this
    machine.advance(machine.nowNs + AFTER_NS)
    machine.afterEvent()
    const dropped = program.drops()
    if (machine.missed > 0) dropped.RX_MISSED = machine.missed
    const waiting = program.waiting()
    const lost = Object.values(dropped).reduce((sum, count) => sum + count, 0)
    const unseen = this.frames - program.packets - waiting - lost
    // Frames of several buffers, mostly: the driver drops them before a program that takes one.
    if (waiting >= 0 && unseen > 0) dropped.driver = unseen
    this.unsubscribe()
    const sites = [...this.sites].map(([site, { calls, bytes }]) => ({ site, calls, bytes }))
    sites.sort((a, b) => b.bytes - a.bytes)
    const result: RxPathResult = {
      path: this.path,
      frames: this.frames,
      delivered: { packets: program.packets, bytes: program.bytes },
      dropped,
      calls: program.calls,
      copies: {
        calls: sites.reduce((sum, site) => sum + site.calls, 0),
        bytes: sites.reduce((sum, site) => sum + site.bytes, 0),
        sites,
      },
      memory: { fixedBytes: program.fixedBytes, queuedPeakBytes: this.queuedPeak, peakBytes: this.peak },
    }
    machine.afterEvent = () => {}
    program.close()
    for (const fd of process.files.open()) sysClose(process, fd)
    machine.kernel.exit(process)
    machine.down()
    return result
  }
}

/** A program that reads at a rate is a little ahead of it when it takes all that there is at once. */
function mayRead(reader: Reader, bytes: number, nowNs: number): boolean {
  if (reader.kind === 'instant') return true
  return reader.kind === 'rate' && bytes <= (reader.bytesPerSec * nowNs) / 1e9
}
