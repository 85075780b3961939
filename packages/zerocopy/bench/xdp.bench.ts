/**
 * AF_XDP receive, measured whole: a 64-byte frame that the card writes into the user's chunk, its descriptor, the
 * program that redirects it, the rx ring, and the user who reads a byte of each frame and posts the chunk again. In
 * zero-copy mode the chunk is where the card wrote; in copy mode the frame comes in a page and is copied. Batches of 64.
 */
import { allocPages } from '@netmem/memory'
import { XDP_COPY, XDP_ZEROCOPY, type XskRing } from '../src/index.js'
import { XdpMachine, XdpUser } from '../src/xdp/test-xdp.js'
import {
  xskRingConsPeek,
  xskRingConsRelease,
  xskRingConsRxAddr,
  xskRingConsRxLen,
  xskRingProdFillAddr,
  xskRingProdReserve,
  xskRingProdSubmit,
} from '../src/xdp/xsk.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const BATCH = 64
const CHUNK = 2048
const CHUNKS = 256

class Bench {
  readonly machine = new XdpMachine({ bytes: 64 << 20, nic: { rxFrames: BATCH, rxUsecs: 1000, rxRing: 128 } })
  readonly user: XdpUser
  readonly frame: number
  readonly rx: XskRing
  readonly fill: XskRing
  readonly base: number
  sum = 0
  packets = 0

  constructor(bind: number) {
    const { machine } = this
    const { mem, cpu } = machine
    this.frame = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, 'bench') * 4096
    mem.dv.setUint16(this.frame + 12, 0x0800)
    this.user = new XdpUser(machine, {
      chunkSize: CHUNK,
      chunks: CHUNKS,
      entries: { rx: 128, fill: CHUNKS, tx: 64, comp: 64 },
      bind,
    })
    if (this.user.err !== 0) throw new Error(`bench: the socket could not be bound: ${this.user.err}`)
    if (this.user.area.base === 0) throw new Error('bench: the area is not one piece')
    this.base = this.user.area.base >>> 0
    this.rx = this.user.rings.rx
    this.fill = this.user.rings.fill
    this.user.fill(Array.from({ length: CHUNKS }, (_, i) => i))
    machine.attach()
  }

  /** What the program does: takes what there is, reads it in place, posts the chunks again. */
  drain(): void {
    const { rx, fill, base } = this
    const { u8 } = this.machine.mem
    const n = xskRingConsPeek(rx, BATCH)
    if (n === 0) return
    if (xskRingProdReserve(fill, n) !== n) throw new Error('bench: no room in the fill ring')
    let sum = 0
    for (let i = 0; i < n; i++) {
      const addr = xskRingConsRxAddr(rx, rx.at + i)
      sum += u8[base + addr]! + xskRingConsRxLen(rx, rx.at + i)
      xskRingProdFillAddr(fill, fill.at + i, addr & -CHUNK)
    }
    xskRingProdSubmit(fill, n)
    xskRingConsRelease(rx, n)
    this.sum = (this.sum + sum) | 0
    this.packets += n
  }
}

const receive = (bind: number, len: number): BenchCase => {
  let bench: Bench
  return {
    unit: 'ns/packet',
    setup: () => {
      bench = new Bench(bind)
    },
    run(n) {
      const { machine, frame } = bench
      const { hw } = machine.nic
      const { u8 } = machine.mem
      const before = bench.packets
      const frames = Math.ceil(n / BATCH) * BATCH
      for (let done = 0; done < frames; done += BATCH) {
        for (let i = 0; i < BATCH; i++) hw.receive(u8, frame, len)
        bench.drain()
      }
      if (bench.packets - before !== frames)
        throw new Error(`bench: ${bench.packets - before} of ${frames} were received`)
      return bench.sum
    },
  }
}

export const cases: Record<string, BenchCase> = {
  'xdp.zc.64B': receive(XDP_ZEROCOPY, 64),
  'xdp.zc.1400B': receive(XDP_ZEROCOPY, 1400),
  'xdp.copy.64B': receive(XDP_COPY, 64),
}
