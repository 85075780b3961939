/**
 * The receive path below the protocols, measured: a frame that the card writes by DMA, its descriptor, its skb,
 * and the call of the protocol's handler, in batches of 64 as a poll takes them. `setup` makes a machine, `run(n)`
 * receives `n` frames (a multiple of the batch) and returns a checksum of its work.
 */
import { Cpu, EventQueue, kernelProfile, Trace } from '@netmem/base'
import { deviceCreate, dmaInit } from '@netmem/dma'
import { allocPages, memoryCreate } from '@netmem/memory'
import { pagePoolsInit } from '@netmem/page-pool'
import { napiConsumeSkb, type SkBuff, skbInit } from '@netmem/skbuff'
import {
  devAddPack,
  devOpen,
  ETH_P_IP,
  NETIF_F_GRO,
  NETIF_F_RXCSUM,
  type NetDevice,
  netDevInit,
  netdevSetFeature,
  type PpNic,
  ppNicCreate,
  type RxChecksum,
} from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const BATCH = 64

class Bench {
  readonly nic: PpNic
  readonly frame: number
  readonly u8: Uint8Array
  readonly dv: DataView
  sum = 0
  packets = 0

  constructor(payload: number, gro: boolean, rxChecksum: RxChecksum = 'off') {
    const profile = kernelProfile('linux-6.18-x86_64')
    const trace = new Trace()
    const clock = new EventQueue()
    const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 2, trace })
    const cpus = [new Cpu(0, 0), new Cpu(1, 0)]
    const pools = pagePoolsInit({ mem, profile, trace, events: clock, cpus })
    const skbs = skbInit({ mem, cpus: 2, trace, profile, pagePools: pools })
    const env = netDevInit({ mem, skbs, pagePools: pools, cpus, clock, trace, profile })
    const dma = dmaInit({ mem, profile, trace, cpus, events: clock })
    const device = deviceCreate(dma, { name: 'nic' })
    const dev = ppNicCreate(env, {
      name: 'eth0',
      device,
      rxFrames: BATCH,
      rxUsecs: 1000,
      rxChecksum,
      features: rxChecksum === 'off' ? 0 : NETIF_F_RXCSUM,
    }) as NetDevice
    if (!gro) netdevSetFeature(dev, NETIF_F_GRO, false, cpus[0]!)
    devOpen(dev, cpus[0]!)
    this.nic = dev.priv as PpNic
    this.u8 = mem.u8
    this.dv = mem.dv
    // The wire is memory too: what a capture is read into.
    this.frame = allocPages(mem, cpus[0]!, mem.gfp.GFP_KERNEL, 0, -1, 'bench') * 4096
    writeUdp(mem.dv, this.frame, payload)
    devAddPack(env, {
      type: ETH_P_IP,
      func: (cpu: Cpu, skb: SkBuff) => {
        this.packets++
        this.sum = (this.sum + skb.len) | 0
        napiConsumeSkb(cpu, skb, BATCH)
        return 0
      },
    })
  }

  /** The frame's IP header gets its checksum. */
  sumHeader(): void {
    const { dv, frame } = this
    dv.setUint16(frame + 24, 0)
    let sum = 0
    for (let i = 0; i < 20; i += 2) sum += dv.getUint16(frame + 14 + i)
    sum = (sum & 0xffff) + (sum >> 16)
    dv.setUint16(frame + 24, ~sum & 0xffff)
  }
}

function writeUdp(dv: DataView, at: number, payload: number): void {
  dv.setUint16(at + 12, ETH_P_IP)
  dv.setUint8(at + 14, 0x45)
  dv.setUint16(at + 16, 28 + payload)
  dv.setUint8(at + 22, 64)
  dv.setUint8(at + 23, 17)
  dv.setUint32(at + 26, 0x0a000002)
  dv.setUint32(at + 30, 0x0a000001)
  dv.setUint16(at + 34, 9999)
  dv.setUint16(at + 36, 7000)
  dv.setUint16(at + 38, 8 + payload)
}

const receive = (payload: number, gro: boolean): BenchCase => {
  let bench: Bench
  return {
    unit: 'ns/packet',
    setup: () => {
      bench = new Bench(payload, gro)
    },
    run(n) {
      const { nic, u8, frame } = bench
      const before = bench.packets
      const len = payload + 42
      const frames = Math.ceil(n / BATCH) * BATCH
      for (let i = 0; i < frames; i++) nic.hw.receive(u8, frame, len)
      if (bench.packets - before !== frames)
        throw new Error(`bench: ${bench.packets - before} of ${frames} were delivered`)
      return bench.sum
    },
  }
}

const SEGMENT = 1448

/** One connection's full segments in a row, which GRO merges: what a bulk transfer is on the way in. */
function tcpTrain(): BenchCase {
  let bench: Bench
  let seq = 0
  return {
    unit: 'ns/packet',
    setup: () => {
      bench = new Bench(SEGMENT, true, 'trust')
      const { dv, frame } = bench
      dv.setUint16(frame + 16, 40 + SEGMENT)
      dv.setUint16(frame + 20, 0x4000)
      dv.setUint8(frame + 23, 6)
      dv.setUint32(frame + 42, 1)
      dv.setUint16(frame + 46, 0x5010)
      dv.setUint16(frame + 48, 512)
      dv.setUint32(frame + 50, 0)
      bench.sumHeader()
    },
    run(n) {
      const { nic, u8, frame, dv } = bench
      for (let i = 0; i < n; i++) {
        dv.setUint32(frame + 38, seq)
        seq = (seq + SEGMENT) >>> 0
        nic.hw.receive(u8, frame, 54 + SEGMENT)
      }
      return bench.sum
    },
  }
}

export const cases: Record<string, BenchCase> = {
  'vnic.rx.64B': receive(64, false),
  'vnic.rx.1400B': receive(1400, false),
  'vnic.rx.gro.64B': receive(64, true),
  'vnic.gro.tcp': tcpTrain(),
}
