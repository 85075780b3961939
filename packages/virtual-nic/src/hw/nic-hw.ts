/**
 * A network card as hardware: DMA engine, descriptor rings, FIFO, interrupt moderation. It knows nothing of
 * skbs or drivers; it reads and writes the machine's memory through the mappings it was given, and it owns a
 * descriptor from the doorbell until it sets the done bit.
 *
 *     receive descriptor, 16 bytes, little endian
 *       posted       +0 buffer address (low, high)      +8 0                            +12 0
 *       written back +0 RSS hash                        +4 checksum   +8 length, VLAN   +12 status
 *     transmit descriptor
 *       posted       +0 address low    +4 address high, mss    +8 length, checksum field    +12 command, VLAN
 *       written back                                                                       +12 TXD_DD added
 */
import { type Addr, assert, type Cpu, type DmaAddr } from '@netmem/base'
import { type Device, dmaEngineRead, dmaEngineWrite } from '@netmem/dma'
import type { NetDevs } from '../net-devs.js'
import { irqEnter, irqExit } from '../softirq.js'
import { frameChecksumOk } from './frame-checksum.js'
import { Rss, rssQueue } from './rss.js'
import { sumFrame, tsoCut } from './tso.js'

/** Words of a descriptor. */
export const DESC_WORDS = 4
export const DESC_BYTES = 16

// Status bits of a receive descriptor.
export const RXD_DD = 1 << 0
export const RXD_EOP = 1 << 1
export const RXD_VLAN = 1 << 2
/** The card summed the transport checksum and found it right. */
export const RXD_L4_OK = 1 << 3
/** The hash covers ports. */
export const RXD_L4_HASH = 1 << 4
/** The frame did not fit the posted buffers or the engine took a fault. */
export const RXD_ERROR = 1 << 5
/** This descriptor's bytes are headers only (header split). */
export const RXD_SPLIT = 1 << 6

// Command bits of a transmit descriptor.
export const TXD_EOP = 1 << 0
/** Sum from byte `start` of the frame and store at `start + offset`: bits 16..25 and 26..31 of the length word. */
export const TXD_CSUM = 1 << 1
export const TXD_TSO = 1 << 2
export const TXD_VLAN = 1 << 3
export const TXD_DD = 1 << 4

/** Whoever is at the other end of a cable. The bytes are lent for the call. */
export interface WirePort {
  receive(bytes: Uint8Array, at: number, len: number): void
}

/** One ring as the card knows it: base, length, its own position and the driver's doorbell. */
export class HwRing {
  /** Word index of the first descriptor in memory. */
  base = 0
  count = 0
  mask = 0
  /** The next descriptor that the card will use. */
  head = 0
  /** One past the last posted descriptor: the driver's doorbell. */
  tail = 0
  /** Receive: bytes that one posted buffer takes. */
  bufBytes = 0
  enabled = false
}

/** One interrupt vector: a receive and a transmit ring, and when to interrupt. */
export class HwQueue {
  readonly rx = new HwRing()
  readonly tx = new HwRing()
  /** Interrupts are off; the driver polls. */
  masked = true
  /** Frames done since the last interrupt. */
  pending = 0
  /** Models `rx-usecs` and `rx-frames`: interrupt after so many microseconds or frames, whichever is first. */
  rxUsecs = 0
  rxFrames = 1
  timer = 0
  cpu: Cpu
  // Counters of this queue, exact to 2^53.
  readonly stats = new Float64Array(HW_STATS)
  /** Called in hard interrupt context. */
  handler: ((cpu: Cpu, queue: number) => void) | null = null

  constructor(cpu: Cpu) {
    this.cpu = cpu
  }
}

/** Indices of `HwQueue.stats`: no descriptor was posted; interrupts; engine faults; frames sent. */
export const HW_MISSED = 0
export const HW_INTERRUPTS = 1
export const HW_FAULTS = 2
export const HW_TX_FRAMES = 3
export const HW_TX_BYTES = 4
const HW_STATS = 5

/** Up to here words are copied one by one, which is quicker than a call: 12 ns for 64 bytes instead of 26. */
const SHORT_FRAME = 128

function copyShort(i32: Int32Array, u8: Uint8Array, to: number, at: number, len: number): void {
  let w = at >>> 2
  let v = to >>> 2
  for (const end = w + ((len >>> 4) << 2); w < end; w += 4, v += 4) {
    const a = i32[w]!
    const b = i32[w + 1]!
    const c = i32[w + 2]!
    const d = i32[w + 3]!
    i32[v] = a
    i32[v + 1] = b
    i32[v + 2] = c
    i32[v + 3] = d
  }
  for (const end = (at + len) >>> 2; w < end; w++, v++) i32[v] = i32[w]!
  for (let i = len & ~3; i < len; i++) u8[to + i] = u8[at + i]!
}

/** How the card treats receive checksums: not at all, by summing, or by believing that cables do not corrupt. */
export type RxChecksum = 'off' | 'verify' | 'trust'

export interface NicHwParams {
  readonly device: Device
  readonly queues?: number
  /** The longest frame that the card takes, with its checksum. */
  readonly maxFrameBytes?: number
  readonly rxChecksum?: RxChecksum
  readonly rss?: boolean
  readonly rssUdpPorts?: boolean
  /** The card takes VLAN tags out of received frames and puts them into the descriptor. */
  readonly vlanStrip?: boolean
}

export class NicHw {
  // What the receive path needs, at hand.
  readonly i32: Int32Array
  readonly u8: Uint8Array
  readonly writable: Uint16Array
  readonly queue0: HwQueue
  /** Nothing stands between the engine and memory: no IOMMU, no bounce pool, no debug facility, snooping caches. */
  direct = false
  /** `direct`, and no offload looks at the frame. */
  plain = false
  /** The status that a frame then gets. */
  private plainStatus = RXD_DD | RXD_EOP
  readonly device: Device
  readonly queues: HwQueue[] = []
  readonly rss: Rss | null
  readonly maxFrameBytes: number
  readonly vlanStrip: boolean
  rxChecksum: RxChecksum
  /** The cable. */
  wire: WirePort | null = null
  /**
   * An engine that works on packets as they leave, before they are summed and cut (inline encryption). The bytes are the
   * card's own copy. @returns false when the packet must not leave.
   */
  inlineTx: ((frame: Uint8Array, len: number) => boolean) | null = null
  /** Frames longer than the card takes. */
  oversize = 0
  /** Where frames of several pieces are put together, and where a frame waits while its tag is taken out. */
  readonly fifo: Uint8Array
  /** Where one segment of a TSO packet is made. */
  readonly segment: Uint8Array
  private readonly timerHandler: number

  constructor(
    readonly env: NetDevs,
    p: NicHwParams,
  ) {
    this.device = p.device
    this.maxFrameBytes = p.maxFrameBytes ?? 9728
    this.rxChecksum = p.rxChecksum ?? 'off'
    this.vlanStrip = p.vlanStrip ?? false
    const queues = p.queues ?? 1
    if (!(queues >= 1 && queues <= 64)) throw new RangeError(`a card with ${queues} queues: 1 to 64 are possible`)
    for (let i = 0; i < queues; i++) this.queues.push(new HwQueue(env.cpus[i % env.cpus.length]!))
    this.rss = queues > 1 || p.rss === true ? new Rss(queues, env.seed, p.rssUdpPorts) : null
    this.queue0 = this.queues[0]!
    this.i32 = env.mem.i32
    this.u8 = env.mem.u8
    this.writable = p.device.writable
    this.refreshPath()
    // A TSO packet is gathered whole before it is cut.
    this.fifo = new Uint8Array(Math.max(this.maxFrameBytes, 70_000))
    this.segment = new Uint8Array(this.maxFrameBytes)
    this.timerHandler = env.clock.register((queue) => {
      const q = this.queues[queue]!
      q.timer = 0
      if (!q.masked && q.pending > 0) this.interrupt(q, queue)
    })
  }

  // Receive: the hot path of the hardware.

  /**
   * A frame arrives from the cable, without its checksum. When it returns, the bytes are in posted buffers or
   * lost, and counted.
   *
   * @param bytes lent for the call; quickest when it is the machine's own memory.
   */
  receive(bytes: Uint8Array, at: number, len: number): void {
    const rss = this.rss
    if (rss !== null) {
      this.receiveOn(rssQueue(rss, bytes, at, len), bytes, at, len)
      return
    }
    // One queue and plain memory is the common machine; it is written out here. Benchmark: `vnic.rx.64B`.
    const q = this.queue0
    const ring = q.rx
    const head = ring.head
    const i32 = this.i32
    const d = ring.base + head * DESC_WORDS
    const to = i32[d]! >>> 0
    if (
      head === ring.tail ||
      len > ring.bufBytes ||
      bytes !== this.u8 ||
      !this.plain ||
      this.writable[to >>> 12] === 0 ||
      this.writable[(to + len - 1) >>> 12] === 0
    ) {
      this.receiveOn(0, bytes, at, len)
      return
    }
    if (len <= SHORT_FRAME && ((to | at) & 3) === 0) copyShort(i32, bytes, to, at, len)
    else bytes.copyWithin(to, at, at + len)
    i32[d + 2] = len
    i32[d + 3] = this.plainStatus
    ring.head = (head + 1) & ring.mask
    q.pending++
    if (!q.masked) this.moderate(q, 0)
  }

  /**
   * Completes the next buffer of the first queue for a frame that is in it already: whoever drives this card
   * moves bytes itself, as another device on the bus does. Only for cards with one queue and no offloads.
   */
  received(len: number): void {
    const q = this.queue0
    const ring = q.rx
    const head = ring.head
    assert(this.plain && len <= ring.bufBytes, 'a frame can not be in the buffer already')
    if (head === ring.tail) {
      q.stats[HW_MISSED]!++
      return
    }
    const i32 = this.i32
    const d = ring.base + head * DESC_WORDS
    i32[d + 2] = len
    i32[d + 3] = this.plainStatus
    ring.head = (head + 1) & ring.mask
    q.pending++
    if (!q.masked) this.moderate(q, 0)
  }

  private receiveOn(index: number, bytes: Uint8Array, at: number, len: number): void {
    const q = this.queues[index]!
    const ring = q.rx
    const head = ring.head
    if (head === ring.tail || len > ring.bufBytes || this.vlanStrip) {
      this.receiveSlow(q, index, bytes, at, len)
      return
    }
    const i32 = this.i32
    const d = ring.base + head * DESC_WORDS
    let status = RXD_DD | RXD_EOP
    if (this.write(i32[d]!, i32[d + 1]!, bytes, at, len) !== 0) {
      status |= RXD_ERROR
      q.stats[HW_FAULTS]!++
    }
    const rss = this.rss
    if (rss !== null) {
      i32[d] = rss.lastHash
      if (rss.lastIsL4) status |= RXD_L4_HASH
    }
    if (this.rxChecksum !== 'off' && (this.rxChecksum === 'trust' || frameChecksumOk(bytes, at, len)))
      status |= RXD_L4_OK
    i32[d + 2] = len
    i32[d + 3] = status
    ring.head = (head + 1) & ring.mask
    q.pending++
    if (!q.masked) this.moderate(q, index)
  }

  /** Looks again at what stands between the engine and memory. Called when a ring is set up. */
  refreshPath(): void {
    const dev = this.device
    const direct = dev.domain === null && dev.ioTlb === null && dev.env.debug === null && dev.coherent
    this.direct = direct
    this.plain = direct && this.rxChecksum !== 'verify' && !this.vlanStrip
    this.plainStatus = RXD_DD | RXD_EOP | (this.rxChecksum === 'trust' ? RXD_L4_OK : 0)
  }

  /** The engine writes one buffer. @returns 0 or -errno. */
  private write(lo: number, hi: number, bytes: Uint8Array, at: number, len: number): number {
    if (this.direct && hi === 0 && bytes === this.u8) {
      const to = lo >>> 0
      if (this.writable[to >>> 12]! !== 0 && this.writable[(to + len - 1) >>> 12]! !== 0) {
        bytes.copyWithin(to, at, at + len)
        return 0
      }
    }
    return dmaEngineWrite(this.device, ((lo >>> 0) + hi * 4294967296) as DmaAddr, bytes, at, len)
  }

  // Cold path: no buffer, frames of several buffers, tags to strip.

  private receiveSlow(q: HwQueue, index: number, bytes: Uint8Array, at: number, len: number): void {
    const ring = q.rx
    if (len > this.maxFrameBytes || !ring.enabled) {
      if (ring.enabled) this.oversize++
      return
    }
    const i32 = this.env.mem.i32
    let src = bytes
    let from = at
    let left = len
    let vlan = 0
    let tagged = false
    if (this.vlanStrip && len >= 18 && bytes[at + 12] === 0x81 && bytes[at + 13] === 0x00) {
      vlan = (bytes[at + 14]! << 8) | bytes[at + 15]!
      tagged = true
      this.fifo.set(bytes.subarray(at, at + 12), 0)
      this.fifo.set(bytes.subarray(at + 16, at + len), 12)
      src = this.fifo
      from = 0
      left = len - 4
    }
    const needed = Math.max(1, Math.ceil(left / Math.max(1, ring.bufBytes)))
    if (((ring.tail - ring.head) & ring.mask) < needed) {
      q.stats[HW_MISSED]!++
      return
    }
    const ok = this.rxChecksum === 'trust' || (this.rxChecksum === 'verify' && frameChecksumOk(src, from, left))
    while (left > 0 || from === at) {
      const n = Math.min(left, ring.bufBytes)
      const d = ring.base + ring.head * DESC_WORDS
      let status = RXD_DD
      if (this.write(i32[d]!, i32[d + 1]!, src, from, n) !== 0) {
        status |= RXD_ERROR
        q.stats[HW_FAULTS]!++
      }
      left -= n
      from += n
      if (left <= 0) status |= RXD_EOP
      if (ok) status |= RXD_L4_OK
      if (tagged) status |= RXD_VLAN
      if (this.rss !== null) {
        i32[d] = this.rss.lastHash
        if (this.rss.lastIsL4) status |= RXD_L4_HASH
      }
      i32[d + 2] = n | (vlan << 16)
      i32[d + 3] = status
      ring.head = (ring.head + 1) & ring.mask
      if (left <= 0) break
    }
    q.pending++
    if (!q.masked) this.moderate(q, index)
  }

  // Interrupts.

  /** Interrupts now, or lets the moderation timer do it. */
  private moderate(q: HwQueue, index: number): void {
    if (q.rxUsecs === 0 || q.pending >= q.rxFrames) this.interrupt(q, index)
    else if (q.timer === 0)
      q.timer = this.env.clock.schedule(this.env.clock.nowNs + q.rxUsecs * 1000, this.timerHandler, index, 0)
  }

  private interrupt(q: HwQueue, index: number): void {
    if (q.timer !== 0) {
      this.env.clock.cancel(q.timer)
      q.timer = 0
    }
    q.pending = 0
    // Masks itself: the driver's poll ends by unmasking.
    q.masked = true
    q.stats[HW_INTERRUPTS]!++
    if (this.env.timed) this.env.softnet[q.cpu.id]!.spentNs += this.env.costs.irqNs
    irqEnter(q.cpu)
    if (q.handler !== null) q.handler(q.cpu, index)
    irqExit(this.env, q.cpu)
  }

  /** The driver has polled everything: interrupt again from here on, at once if something came meanwhile. */
  unmask(index: number): void {
    const q = this.queues[index]!
    q.masked = false
    if (q.pending > 0) this.moderate(q, index)
  }

  /** The driver polls, or the device is down. */
  mask(index: number): void {
    const q = this.queues[index]!
    q.masked = true
    if (q.timer === 0) return
    this.env.clock.cancel(q.timer)
    q.timer = 0
  }

  // Transmit.

  /**
   * The driver's doorbell: the card reads frames up to `tail` and puts them on the cable. Each packet's last
   * descriptor gets the done bit; completion interrupts share the queue's vector.
   */
  doorbell(index: number, tail: number): void {
    const q = this.queues[index]!
    const ring = q.tx
    ring.tail = tail
    if (!ring.enabled) return
    let sent = 0
    while (ring.head !== ring.tail) {
      this.sendOne(q, ring)
      sent++
    }
    if (sent === 0) return
    q.pending += sent
    if (!q.masked) this.moderate(q, index)
  }

  private sendOne(q: HwQueue, ring: HwRing): void {
    const i32 = this.env.mem.i32
    const fifo = this.fifo
    const first = ring.base + ring.head * DESC_WORDS
    const mss = i32[first + 1]! >>> 16
    const csum = i32[first + 2]! >>> 16
    const command = i32[first + 3]!
    let len = 0
    for (let more = true; more; ) {
      assert(ring.head !== ring.tail, 'transmit ring: a packet without an end was posted')
      const d = ring.base + ring.head * DESC_WORDS
      const n = i32[d + 2]! & 0xffff
      const dma = ((i32[d]! >>> 0) + (i32[d + 1]! & 0xffff) * 4294967296) as DmaAddr
      if (len + n > fifo.length || dmaEngineRead(this.device, dma, fifo, len, n) !== 0) q.stats[HW_FAULTS]!++
      len += n
      more = (i32[d + 3]! & TXD_EOP) === 0
      ring.head = (ring.head + 1) & ring.mask
      i32[d + 3] = i32[d + 3]! | TXD_DD
    }
    if (this.inlineTx !== null && !this.inlineTx(fifo, len)) return
    const out = this.wire
    if ((command & (TXD_CSUM | TXD_TSO | TXD_VLAN)) === 0) {
      q.stats[HW_TX_FRAMES]!++
      q.stats[HW_TX_BYTES]! += len
      if (out !== null) out.receive(fifo, 0, len)
    } else finishFrame(this, q.stats, fifo, len, command, mss, csum & 0x3ff, csum >>> 10)
  }
}

/** Tags, sums and cuts a packet as its first descriptor says, and puts the result on the cable. */
function finishFrame(
  hw: NicHw,
  stats: Float64Array,
  fifo: Uint8Array,
  bytes: number,
  command: number,
  mss: number,
  csumStart: number,
  csumOffset: number,
): void {
  let len = bytes
  let start = csumStart
  if ((command & TXD_VLAN) !== 0) {
    fifo.copyWithin(16, 12, len)
    fifo[12] = 0x81
    fifo[13] = 0x00
    fifo[14] = (command >>> 24) & 0xff
    fifo[15] = (command >>> 16) & 0xff
    len += 4
    start += 4
  }
  const send = (frame: Uint8Array, n: number): void => {
    stats[HW_TX_FRAMES]!++
    stats[HW_TX_BYTES]! += n
    hw.wire?.receive(frame, 0, n)
  }
  if ((command & TXD_TSO) !== 0) tsoCut(fifo, len, start, mss, hw.segment, send)
  else {
    if ((command & TXD_CSUM) !== 0) sumFrame(fifo, len, start, csumOffset)
    send(fifo, len)
  }
}

/** Programs a ring's base and length: what a driver writes into registers. */
export function hwRingSetup(ring: HwRing, desc: Addr, count: number, bufBytes: number): void {
  assert((count & (count - 1)) === 0 && count >= 8, 'a descriptor ring has a power of two of entries, at least 8')
  ring.base = desc >>> 2
  ring.count = count
  ring.mask = count - 1
  ring.head = 0
  ring.tail = 0
  ring.bufBytes = bufBytes
  ring.enabled = true
}
