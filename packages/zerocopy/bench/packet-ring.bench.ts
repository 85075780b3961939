/**
 * A packet ring, measured whole: a frame in the card's buffer, its descriptor, its skb, the tap, the block of a V3
 * ring, and the program that walks the blocks and reads a byte of each packet. Batches of 64 as a poll takes them.
 */
import { Cpu, EventQueue, kernelProfile, Trace } from '@netmem/base'
import { deviceCreate, dmaInit } from '@netmem/dma'
import { allocPages, memoryCreate } from '@netmem/memory'
import { pagePoolsInit } from '@netmem/page-pool'
import { skbInit } from '@netmem/skbuff'
import {
  AF_PACKET,
  OptVal,
  SOCK_RAW,
  type Sock,
  SockAddr,
  Sysctls,
  sockCreate,
  sockEnvCreate,
  Task,
} from '@netmem/sockmem'
import {
  devOpen,
  ETH_P_ALL,
  NETIF_F_GRO,
  type NetDevice,
  netDevInit,
  netdevSetFeature,
  type PpNic,
  ppNicCreate,
} from '@netmem/virtual-nic'
import { PACKET_RX_RING, PACKET_VERSION, packetInit, SOL_PACKET, TPACKET_V3, TpacketBlockReader } from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const BATCH = 64
const BLOCK_BYTES = 1 << 16
const BLOCKS = 64
const SLOT_BYTES = 2048
/** A 64-byte frame with its header. */
const SLOT_MIN_BYTES = 64

class Bench {
  readonly nic: PpNic
  readonly u8: Uint8Array
  readonly frame: number
  readonly reader: TpacketBlockReader
  sum = 0
  packets = 0

  constructor(payload: number) {
    const profile = kernelProfile('linux-6.18-x86_64')
    const trace = new Trace()
    const clock = new EventQueue()
    const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
    const cpus = [new Cpu(0, 0)]
    const cpu = cpus[0] as Cpu
    const pools = pagePoolsInit({ mem, profile, trace, events: clock, cpus })
    const skbs = skbInit({ mem, cpus: 1, trace, profile, pagePools: pools })
    const devs = netDevInit({ mem, skbs, pagePools: pools, cpus, clock, trace, profile })
    const dma = dmaInit({ mem, profile, trace, cpus, events: clock })
    const socks = sockEnvCreate({ mem, skbs, cpus, clock, trace, profile, sysctls: new Sysctls(profile) })
    packetInit({ socks, devs })
    const device = deviceCreate(dma, { name: 'nic' })
    const dev = ppNicCreate(devs, { name: 'eth0', device, rxFrames: BATCH, rxUsecs: 1000, features: 0 }) as NetDevice
    netdevSetFeature(dev, NETIF_F_GRO, false, cpu)
    devOpen(dev, cpu)
    this.nic = dev.priv as PpNic
    this.u8 = mem.u8
    this.frame = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, 'bench') * 4096
    mem.dv.setUint16(this.frame + 12, 0x88b5)
    mem.dv.setUint8(this.frame + 14, payload)

    const task = new Task(1, cpu, socks.initNet)
    const sk = socks.socks[sockCreate(socks, cpu, task, AF_PACKET, SOCK_RAW, 0)] as Sock
    const val = new OptVal()
    val.int = TPACKET_V3
    sk.ops.setsockopt(cpu, task, sk, SOL_PACKET, PACKET_VERSION, val)
    val.words.set([BLOCK_BYTES, BLOCKS, SLOT_BYTES, (BLOCK_BYTES / SLOT_BYTES) * BLOCKS, 10, 0, 0])
    val.len = 28
    if (sk.ops.setsockopt(cpu, task, sk, SOL_PACKET, PACKET_RX_RING, val) !== 0) throw new Error('bench: no ring')
    const area = sk.ops.mmap!(cpu, sk, 0, BLOCK_BYTES * BLOCKS)
    if (typeof area === 'number') throw new Error('bench: the ring cannot be mapped')
    this.reader = new TpacketBlockReader(mem, area, BLOCK_BYTES, BLOCKS)
    const address = new SockAddr()
    address.family = AF_PACKET
    address.ifindex = dev.id
    address.protocol = ETH_P_ALL
    sk.ops.bind(cpu, task, sk, address)
  }

  /** The program: all blocks that it has been given. */
  walk(): void {
    const { reader, u8 } = this
    let { sum, packets } = this
    while (reader.nextBlock()) {
      while (reader.nextPacket()) {
        sum = (sum + u8[reader.data + 12]!) | 0
        packets += 1
      }
      reader.releaseBlock()
    }
    this.sum = sum
    this.packets = packets
  }
}

/** Frames that fill every buffer of the card's ring and every page on its way round it. */
const PRIMING = 1 << 13
/** What the last, still open block may hold unseen. */
const UNSEEN = BLOCK_BYTES / SLOT_MIN_BYTES

function receive(bytes: number, deviceCopy: boolean): BenchCase {
  let bench: Bench
  const batch = (copy: boolean): void => {
    const { nic, u8, frame } = bench
    const { hw } = nic
    if (copy) for (let i = 0; i < BATCH; i++) hw.receive(u8, frame, bytes)
    else for (let i = 0; i < BATCH; i++) hw.received(bytes)
    bench.walk()
  }
  return {
    unit: 'ns/packet',
    setup: () => {
      bench = new Bench(bytes & 0xff)
      for (let i = 0; i < PRIMING; i += BATCH) batch(true)
    },
    run(n) {
      const before = bench.packets
      const frames = Math.ceil(n / BATCH) * BATCH
      for (let i = 0; i < frames; i += BATCH) batch(deviceCopy)
      if (frames - (bench.packets - before) > UNSEEN) throw new Error('bench: packets were lost')
      return bench.sum
    },
  }
}

export const cases: Record<string, BenchCase> = {
  /** The frame lies in the card's buffer. */
  'packet.v3.64B': receive(64, false),
  'packet.v3.1400B': receive(1400, false),
  /** The card writes it there. */
  'packet.v3.device.64B': receive(64, true),
}
