/**
 * The whole way in, measured: a frame in the card's buffer, its descriptor, its skb, IP, UDP, the socket's queue,
 * the user's copy, and the page's way back to the ring, in batches of 64 as a poll takes them. `setup` makes a
 * machine, `run(n)` receives `n` datagrams (a multiple of the batch) and returns a checksum of its work.
 */
import { Cpu, EventQueue, kernelProfile, Trace } from '@netmem/base'
import { deviceCreate, dmaInit } from '@netmem/dma'
import { allocPages, iovIterInit, memoryCreate, type UserBuffer, userAlloc } from '@netmem/memory'
import { pagePoolsInit } from '@netmem/page-pool'
import { skbInit } from '@netmem/skbuff'
import { Msg, type Sock, SockAddr, Sysctls, sockCreate, sockEnvCreate, Task } from '@netmem/sockmem'
import {
  devOpen,
  NETIF_F_GRO,
  type NetDevice,
  netDevInit,
  netdevSetFeature,
  type PpNic,
  ppNicCreate,
} from '@netmem/virtual-nic'
import { inetAddrAdd, inetInit, skbConsumeUdp, skbRecvUdp, udpOf, udpSk } from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

/** What is measured. */
interface Options {
  readonly payload: number
  /** The card writes the frame into its buffer; otherwise it finds it there, as the C twin's does. */
  readonly deviceCopy?: boolean
  /** `copy`: recvmsg into user memory; `inPlace`: a reader inside the kernel, as NFS has one, that looks and lets go. */
  readonly reader?: 'copy' | 'inPlace'
  /** Tracepoints that write four numbers each into a ring: five events of every packet. */
  readonly traced?: boolean
  readonly gro?: boolean
}

const BATCH = 64
const SLOT_BYTES = 2048
const HOST = 0x0a000001
const PEER = 0x0a000002
const PORT = 5007

class Bench {
  readonly nic: PpNic
  readonly cpu: Cpu
  readonly task: Task
  readonly sk: Sock
  readonly user: UserBuffer
  readonly msg = new Msg()
  readonly frame: number
  readonly u8: Uint8Array
  readonly udp: ReturnType<typeof udpOf>

  constructor(o: Options) {
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
    const inet = inetInit({ socks, devs, seed: 1 })
    const device = deviceCreate(dma, { name: 'nic' })
    const dev = ppNicCreate(devs, { name: 'eth0', device, rxFrames: BATCH, rxUsecs: 1000, features: 0 }) as NetDevice
    netdevSetFeature(dev, NETIF_F_GRO, o.gro === true, cpu)
    devOpen(dev, cpu)
    inetAddrAdd(inet, dev, HOST, 24)
    this.cpu = cpu
    this.nic = dev.priv as PpNic
    this.task = new Task(1, cpu, socks.initNet)
    this.sk = socks.socks[sockCreate(socks, cpu, this.task, 2, 2, 0)] as Sock
    const at = new SockAddr()
    at.family = 2
    at.port = PORT
    at.addr = HOST
    this.sk.ops.bind(cpu, this.task, this.sk, at)
    this.sk.rcvbuf = 4 << 20
    // As setting SO_RCVBUF does.
    udpSk(this.sk).forwardThreshold = this.sk.rcvbuf >> 2
    this.udp = udpOf(inet)
    this.u8 = mem.u8
    this.user = userAlloc(mem, cpu, BATCH * SLOT_BYTES) as UserBuffer
    // The wire is memory too: what a capture is read into.
    this.frame = allocPages(mem, cpu, mem.gfp.GFP_KERNEL, 0, -1, 'bench') * 4096
    writeUdp(mem.dv, this.frame, o.payload)
    if (o.traced === true) record(trace)
  }
}

/** Subscribes a recorder to five tracepoints that every packet passes. */
function record(trace: Trace): void {
  const ring = new Float64Array(1 << 16)
  let at = 0
  const put = (a: number, b: number, c: number, d: number): void => {
    ring[at] = a
    ring[at + 1] = b
    ring[at + 2] = c
    ring[at + 3] = d
    at = (at + 4) & 65535
  }
  trace.netifReceiveSkb = (cpu, skb, len) => put(1, cpu.id, skb, len)
  trace.skbCopyDatagramIovec = (cpu, skb, len) => put(2, cpu.id, skb, len)
  trace.consumeSkb = (cpu, skb) => put(3, cpu.id, skb, 0)
  trace.copy = (cpu, _site, bytes) => put(4, cpu.id, bytes, 0)
  trace.napiPoll = (cpu, napi, _dev, work) => put(5, cpu.id, napi, work)
}

function writeUdp(dv: DataView, at: number, payload: number): void {
  for (let i = 0; i < payload + 42; i++) dv.setUint8(at + i, i & 255)
  // To the card's own address, which is all zeros here.
  for (let i = 0; i < 6; i++) dv.setUint8(at + i, 0)
  dv.setUint16(at + 12, 0x0800)
  dv.setUint16(at + 14, 0x4500)
  dv.setUint16(at + 16, 28 + payload)
  dv.setUint32(at + 18, 0)
  dv.setUint16(at + 22, 0x4011)
  dv.setUint16(at + 24, 0)
  dv.setUint32(at + 26, PEER)
  dv.setUint32(at + 30, HOST)
  let sum = 0
  for (let i = 0; i < 20; i += 2) sum += dv.getUint16(at + 14 + i)
  sum = (sum & 0xffff) + (sum >> 16)
  dv.setUint16(at + 24, ~sum & 0xffff)
  dv.setUint16(at + 34, 9999)
  dv.setUint16(at + 36, PORT)
  dv.setUint16(at + 38, 8 + payload)
  dv.setUint16(at + 40, 0)
}

/** Frames that fill every buffer of the ring and every page on its way round it. */
const PRIMING = 1 << 13

function receive(o: Options): BenchCase {
  let bench: Bench
  const wire = o.payload + 42
  const inPlace = o.reader === 'inPlace'
  const batch = (copy: boolean): number => {
    const { nic, u8, frame } = bench
    const hw = nic.hw
    if (copy) for (let i = 0; i < BATCH; i++) hw.receive(u8, frame, wire)
    else for (let i = 0; i < BATCH; i++) hw.received(wire)
    return inPlace ? look() : read()
  }
  const read = (): number => {
    const { cpu, task, sk, msg, user } = bench
    let bytes = 0
    for (let i = 0; i < BATCH; i++) {
      msg.reset(0)
      iovIterInit(msg.iter, user, i * SLOT_BYTES, SLOT_BYTES)
      bytes += sk.ops.recvmsg(cpu, task, sk, msg, SLOT_BYTES, 0)
    }
    return bytes
  }
  const look = (): number => {
    const { cpu, sk, udp } = bench
    let bytes = 0
    for (let i = 0; i < BATCH; i++) {
      const skb = skbRecvUdp(cpu, sk, 0, udp)
      if (skb === null) return 0
      bytes += skb.len
      skbConsumeUdp(cpu, sk, skb, skb.len)
    }
    return bytes
  }
  return {
    unit: 'ns/packet',
    setup: () => {
      bench = new Bench(o)
      for (let i = 0; i < PRIMING; i += BATCH) batch(true)
    },
    run(n) {
      let bytes = 0
      for (let i = 0; i < n; i += BATCH) {
        const got = batch(o.deviceCopy === true)
        if (got !== BATCH * o.payload) throw new Error(`bench: ${got} bytes of ${BATCH * o.payload} arrived`)
        bytes += got
      }
      return bytes
    },
  }
}

export const cases: Record<string, BenchCase> = {
  'rx.64B': receive({ payload: 64 }),
  'rx.1400B': receive({ payload: 1400 }),
  'rx.device.64B': receive({ payload: 64, deviceCopy: true }),
  'rx.device.1400B': receive({ payload: 1400, deviceCopy: true }),
  'rx.inPlace.64B': receive({ payload: 64, reader: 'inPlace' }),
  'rx.traced.64B': receive({ payload: 64, traced: true }),
  'rx.gro.64B': receive({ payload: 64, gro: true }),
}
