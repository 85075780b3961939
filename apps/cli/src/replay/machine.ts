/**
 * The modelled machine of a replay: a kernel with one network card, whose cable the replay holds. Frames go in
 * by `inject`; frames that the machine sends come out at `onSent`; in between, `advance` lets time pass, one
 * event after the other, so that programs and peers act at the moment they are woken.
 */
import { assert, type EventQueue, type Pfn } from '@netmem/base'
import { inet6AddrAdd, inetAddrAdd, inetRouteAdd, neighAdd } from '@netmem/inet'
import { bootKernel, type Kernel } from '@netmem/kernel-model'
import { allocPages, freePages, pageAddress } from '@netmem/memory'
import { type PagePoolStats, pagePoolGetStats } from '@netmem/page-pool'
import { skbDeferFreeFlush } from '@netmem/skbuff'
import {
  devClose,
  devOpen,
  devSetMtu,
  ethHwAddrSet,
  localBhDisable,
  localBhEnable,
  type NetDevice,
  type NicHw,
} from '@netmem/virtual-nic'
import type { HostAddress } from '../capture/address.js'
import type { SourceWindow } from '../capture/byte-source.js'
import { ETH_HLEN } from '../capture/frame.js'
import { InputError } from '../errors.js'
import { Card, dmaParams } from './card.js'
import type { ReplayOptions } from './options.js'

/** The largest frame that the card takes, in pieces: a segmentation offload frame of 64 KiB. */
export const MAX_CARD_FRAME = 65536 + ETH_HLEN + 16
/** A gateway that answers for every peer, so that each needs no neighbour entry: 192.0.0.9. */
const GATEWAY = 0xc0000009 | 0
/** The window of the capture lives in the machine's memory, as a file being read does: one block of 4 MiB. */
const WINDOW_ORDER = 10
const SCRATCH_BYTES = 128 << 10

/** Called for every frame on the cable; the bytes are lent for the call. */
export type SentHook = (bytes: Uint8Array, at: number, len: number) => void

export enum Cable {
  BytesIn = 0,
  FramesSent = 1,
  BytesSent = 2,
  Count = 3,
}

export class Machine {
  readonly clock: EventQueue
  readonly dev: NetDevice
  readonly card: Card
  private readonly hw: NicHw
  readonly hostMac = Uint8Array.of(2, 0, 0, 0, 0, 1)
  readonly peerMac = Uint8Array.of(2, 0, 0, 0, 0, 2)
  /** Both addresses as they begin a frame to the host: three big-endian words. */
  readonly linkWords = Int32Array.of(0x0200_0000, 0x0001_0200, 0x0000_0002)
  readonly mtu: number
  /** Where the reader keeps its window. */
  readonly window: SourceWindow
  /** Called after every event, when the machine is at rest: programs and peers may act. */
  afterEvent: () => void = () => {}
  onSent: SentHook = () => {}
  /** By `Cable`: counters that soon pass 2^31. */
  readonly cable = new Float64Array(Cable.Count)
  private readonly windowPfn: Pfn
  private readonly scratchAt: number

  constructor(
    readonly kernel: Kernel,
    options: ReplayOptions,
    hosts: readonly HostAddress[],
    mtu: number,
  ) {
    this.clock = kernel.clock
    this.mtu = mtu
    const cpu = kernel.cpus[0]
    const { GFP_KERNEL } = kernel.mem.gfp
    this.windowPfn = allocPages(kernel.mem, cpu, GFP_KERNEL, WINDOW_ORDER, -1, 'capture')
    assert(this.windowPfn > 0, 'no memory for the window of the capture')
    const start = pageAddress(this.windowPfn) >>> 0
    const length = 4096 << WINDOW_ORDER
    this.window = { bytes: kernel.mem.u8, at: start, length: length - SCRATCH_BYTES }
    this.scratchAt = start + length - SCRATCH_BYTES
    this.card = new Card(kernel, options, mtu, MAX_CARD_FRAME)
    const { dev, hw } = this.card
    this.dev = dev
    this.hw = hw
    kernel.initNet.devices.set('eth0', dev)
    ethHwAddrSet(dev, '02:00:00:00:00:01')
    hw.wire = {
      receive: (bytes, at, len) => {
        this.cable[Cable.FramesSent] += 1
        this.cable[Cable.BytesSent] += len
        this.onSent(bytes, at, len)
      },
    }
    const up = devSetMtu(dev, mtu, cpu) || devOpen(dev, cpu)
    if (up !== 0)
      throw new InputError(`--ring ${options.ring}: not enough memory for the receive ring, give more --memory`)
    this.addresses(hosts)
  }

  get nowNs(): number {
    return this.clock.nowNs
  }

  private addresses(hosts: readonly HostAddress[]): void {
    const { inet } = this.kernel
    const { dev } = this
    const [macHi, macLo] = [0x0200, 0x00000002]
    for (const host of hosts) {
      if (host.version === 4) {
        inetAddrAdd(inet, dev, host.w3, 32)
        inetRouteAdd(inet, dev, 0, 0, GATEWAY, host.w3)
      } else inet6AddrAdd(inet, dev, Int32Array.of(host.w0, host.w1, host.w2, host.w3), 0)
    }
    neighAdd(inet, dev, GATEWAY, null, macHi, macLo)
  }

  /** A peer of IPv6 is on the link: its link address is known. */
  neighbour6(words: Int32Array): void {
    neighAdd(this.kernel.inet, this.dev, 0, words, 0x0200, 0x00000002)
  }

  /**
   * A frame arrives at the card: `capBytes` at `at` in `bytes`, zeros up to `wireBytes`. The bytes in the
   * machine's own memory (the window) are taken from where they are.
   */
  inject(bytes: Uint8Array, at: number, capBytes: number, wireBytes: number): void {
    this.cable[Cable.BytesIn] += wireBytes
    const { u8 } = this.kernel.mem
    if (capBytes === wireBytes && bytes === u8) {
      this.hw.receive(u8, at, wireBytes)
      return
    }
    const to = this.scratchAt
    if (bytes === u8) u8.copyWithin(to, at, at + capBytes)
    else u8.set(bytes.subarray(at, at + capBytes), to)
    u8.fill(0, to + capBytes, to + wireBytes)
    this.hw.receive(u8, to, wireBytes)
  }

  /** Lets virtual time pass until `toNs`. */
  advance(toNs: number): void {
    const { clock } = this
    for (let next = clock.nextAtNs(); next >= 0 && next <= toNs; next = clock.nextAtNs()) {
      clock.runNext()
      this.afterEvent()
    }
    // Nothing is due before: time may be set without another look at the calendar.
    if (toNs > clock.nowNs) clock.nowNs = toNs as typeof clock.nowNs
  }

  /** Does the next thing that is due within `withinNs`. @returns false when there is none. */
  step(withinNs: number): boolean {
    const { clock } = this
    const next = clock.nextAtNs()
    if (next < 0 || next > clock.nowNs + withinNs) return false
    clock.runNext()
    this.afterEvent()
    return true
  }

  /** A system call may have left work to do at once. */
  settleCall(): void {
    this.afterEvent()
  }

  /** Frames that found no descriptor, and frames longer than the card takes. */
  get missed(): number {
    let missed = 0
    for (const queue of this.hw.queues) missed += queue.stats[0]
    return missed
  }

  get oversize(): number {
    return this.hw.oversize
  }

  /** What each page pool of the card was asked for, and what became of its pages. */
  poolStats(): PagePoolStats[] {
    return this.card.pools.map(pagePoolGetStats)
  }

  /** Takes the card down and gives back what the replay itself holds. */
  down(): void {
    const { kernel, dev } = this
    const cpu = kernel.cpus[0]
    // What one processor freed for another waits for that one's next receive softirq.
    for (const home of kernel.cpus) {
      localBhDisable(home)
      skbDeferFreeFlush(home, kernel.skbs)
      localBhEnable(kernel.devs, home)
    }
    devClose(dev, cpu)
    this.card.remove(cpu)
    freePages(kernel.mem, cpu, this.windowPfn, WINDOW_ORDER, 'capture')
  }
}

/** @throws InputError naming the sysctl that the kernel refuses. */
export function bootMachine(options: ReplayOptions): Kernel {
  const { profile } = options
  const kernel = bootKernel({
    profile,
    cpus: options.cpus,
    memoryBytes: options.memoryBytes,
    seed: options.seed,
    limits: 'memory',
    syscallNs: 0,
    dma: dmaParams(options.dma, options.memoryBytes),
  })
  for (const [name, text] of options.sysctl) {
    const now = kernel.sysctlRead(kernel.initNet, name)
    if (now === null) throw new InputError(`--sysctl ${name}=${text}: ${profile.release} has no sysctl of that name`)
    if (kernel.sysctlWrite(kernel.initNet, name, text) < 0)
      throw new InputError(
        `--sysctl ${name}=${text}: the kernel refuses this value, expected numbers like its present ${JSON.stringify(now.replaceAll('\t', ' '))}`,
      )
  }
  return kernel
}
