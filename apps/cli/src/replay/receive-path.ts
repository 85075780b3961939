/**
 * Which way captured frames reach a program, compared: the same capture through the same card, received by a packet
 * socket with `recv`, through the blocks of a V3 packet ring, or through the rings of AF_XDP. Everything that arrives is
 * for that one program; there are no other sockets, and nobody answers.
 */
import {
  type Mapping,
  type Process,
  SOCK_NONBLOCK,
  sysBind,
  sysClose,
  sysGetsockopt,
  sysMmap,
  sysMunmap,
  sysRecvmsg,
  sysSetsockopt,
  sysSocket,
} from '@netmem/kernel-model'
import { nrFreePages, nrPcpPages, totalramPages } from '@netmem/memory'
import { AF_PACKET, AF_XDP, SO, SOCK_RAW, SOL_SOCKET, SockAddr } from '@netmem/sockmem'
import { bpfRedirectMap, ETH_P_ALL, XDP_PASS, type XdpProgram } from '@netmem/virtual-nic'
import {
  PACKET_RX_RING,
  PACKET_STATISTICS,
  PACKET_VERSION,
  SOL_PACKET,
  SOL_XDP,
  SockaddrXdp,
  TPACKET_V3,
  TpacketBlockReader,
  XDP_PGOFF_RX_RING,
  XDP_RX_RING,
  XDP_STATISTICS,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_PGOFF_FILL_RING,
  XDP_UMEM_REG,
  XskMap,
  XskRing,
  xdpSk,
  xskRingConsPeek,
  xskRingConsRelease,
  xskRingConsRxAddr,
  xskRingConsRxLen,
  xskRingProdFillAddr,
  xskRingProdReserve,
  xskRingProdSubmit,
} from '@netmem/zerocopy'
import { InputError } from '../errors.js'
import type { Machine } from './machine.js'
import type { ReplayOptions } from './options.js'

export const RX_PATHS = ['socket', 'packet-mmap', 'af-xdp'] as const
export type RxPath = (typeof RX_PATHS)[number]

/** The program at the end of a path. */
export interface Receiver {
  packets: number
  bytes: number
  /** System calls that moved packets. */
  calls: number
  /** Memory that is there for the packets from the start. */
  readonly fixedBytes: number
  /** Takes what there is. */
  poll(): void
  /** @returns packets that wait for the program, each a frame of the wire; -1 where frames may be merged. */
  waiting(): number
  /** @returns packets lost on this path, by what the kernel calls it. */
  drops(): Record<string, number>
  close(): void
}

const RECV_ROOM = 1 << 17
const BLOCK_BYTES = 1 << 18
const BLOCKS = 16
const FRAME_BYTES = 2048
const RETIRE_MS = 10
const CHUNK_BYTES = 4096
const CHUNKS = 2048
const RING_ENTRIES = 2048
const RING_PAGES_BYTES = { rx: 64 + RING_ENTRIES * 16 + 256, fill: 64 + RING_ENTRIES * 8 + 256 }

function expectDone(rc: number, what: string): void {
  if (rc < 0) throw new InputError(`--rx: ${what} failed with errno ${-rc}; give more --memory`)
}

function setInt(process: Process, fd: number, level: number, opt: number, value: number): number {
  process.val.int = value
  process.val.len = 4
  return sysSetsockopt(process, fd, level, opt, process.val)
}

function packetSocket(process: Process, options: ReplayOptions): number {
  const fd = sysSocket(process, AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0)
  expectDone(fd, 'a packet socket')
  if (options.rcvbuf !== null) expectDone(setInt(process, fd, SOL_SOCKET, SO.SO_RCVBUF, options.rcvbuf), 'SO_RCVBUF')
  return fd
}

function bindPacket(machine: Machine, process: Process, fd: number): void {
  const address = new SockAddr()
  address.family = AF_PACKET
  address.ifindex = machine.dev.id
  address.protocol = ETH_P_ALL
  expectDone(sysBind(process, fd, address), 'binding a packet socket')
}

function packetDrops(process: Process, fd: number): Record<string, number> {
  process.val.len = 12
  sysGetsockopt(process, fd, SOL_PACKET, PACKET_STATISTICS, process.val)
  const drops = process.val.words[1]
  return drops === 0 ? {} : { tp_drops: drops }
}

/** `recv` until nothing is left. */
class SocketReceiver implements Receiver {
  packets = 0
  bytes = 0
  calls = 0
  readonly fixedBytes = 0
  private readonly fd: number

  constructor(
    machine: Machine,
    private readonly process: Process,
    options: ReplayOptions,
  ) {
    this.fd = packetSocket(process, options)
    bindPacket(machine, process, this.fd)
  }

  poll(): void {
    for (;;) {
      const got = sysRecvmsg(this.process, this.fd, RECV_ROOM)
      this.calls += 1
      if (got < 0) return
      this.packets += 1
      this.bytes += got
    }
  }

  waiting(): number {
    return -1
  }

  drops(): Record<string, number> {
    return packetDrops(this.process, this.fd)
  }

  close(): void {
    sysClose(this.process, this.fd)
  }
}

/** Walks the blocks that the kernel has given; no call per packet, none per block. */
class RingReceiver implements Receiver {
  packets = 0
  bytes = 0
  calls = 0
  readonly fixedBytes = BLOCK_BYTES * BLOCKS
  private readonly fd: number
  private readonly mapping: Mapping
  private readonly reader: TpacketBlockReader

  constructor(
    machine: Machine,
    private readonly process: Process,
    options: ReplayOptions,
  ) {
    const fd = packetSocket(process, options)
    this.fd = fd
    expectDone(setInt(process, fd, SOL_PACKET, PACKET_VERSION, TPACKET_V3), 'PACKET_VERSION')
    const { val } = process
    const frames = (BLOCK_BYTES / FRAME_BYTES) * BLOCKS
    ;[BLOCK_BYTES, BLOCKS, FRAME_BYTES, frames, RETIRE_MS, 0, 0].forEach((word, i) => {
      val.words[i] = word
    })
    val.len = 28
    expectDone(sysSetsockopt(process, fd, SOL_PACKET, PACKET_RX_RING, val), 'PACKET_RX_RING')
    const mapping = sysMmap(process, fd, this.fixedBytes)
    if (typeof mapping === 'number') throw new InputError(`--rx packet-mmap: the ring cannot be mapped (${mapping})`)
    this.mapping = mapping
    this.reader = new TpacketBlockReader(process.kernel.mem, mapping.buffer, BLOCK_BYTES, BLOCKS)
    bindPacket(machine, process, fd)
  }

  poll(): void {
    const { reader } = this
    while (reader.nextBlock()) {
      while (reader.nextPacket()) {
        this.packets += 1
        this.bytes += reader.snaplen
      }
      reader.releaseBlock()
    }
  }

  waiting(): number {
    return -1
  }

  drops(): Record<string, number> {
    return packetDrops(this.process, this.fd)
  }

  close(): void {
    sysMunmap(this.process, this.mapping)
    sysClose(this.process, this.fd)
  }
}

const XDP_DROPS = ['rx_dropped', 'rx_invalid_descs', '', 'rx_ring_full', '', ''] as const

/** Takes descriptors and posts the chunks again. Zero copy where the driver can, else a copy in the driver or behind it. */
class XdpReceiver implements Receiver {
  packets = 0
  bytes = 0
  calls = 0
  readonly fixedBytes = CHUNK_BYTES * CHUNKS
  private readonly fd: number
  private readonly native: boolean
  private readonly mappings: Mapping[] = []
  private readonly rx: XskRing
  private readonly fill: XskRing

  constructor(
    private readonly machine: Machine,
    private readonly process: Process,
  ) {
    const { dev } = machine
    const fd = sysSocket(process, AF_XDP, SOCK_RAW, 0)
    expectDone(fd, 'an AF_XDP socket')
    this.fd = fd
    const { val } = process
    val.words.fill(0)
    val.words[2] = this.fixedBytes
    val.words[4] = CHUNK_BYTES
    val.len = 32
    val.buffer = process.buffer('umem', this.fixedBytes)
    const registered = sysSetsockopt(process, fd, SOL_XDP, XDP_UMEM_REG, val)
    val.buffer = null
    expectDone(registered, 'XDP_UMEM_REG')
    for (const opt of [XDP_RX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING])
      expectDone(setInt(process, fd, SOL_XDP, opt, RING_ENTRIES), 'an AF_XDP ring')
    this.rx = this.ring('rx', XDP_PGOFF_RX_RING)
    this.fill = this.ring('fill', XDP_UMEM_PGOFF_FILL_RING)
    const posted = xskRingProdReserve(this.fill, CHUNKS)
    for (let i = 0; i < posted; i++) xskRingProdFillAddr(this.fill, this.fill.at + i, i * CHUNK_BYTES)
    xskRingProdSubmit(this.fill, posted)
    const address = new SockaddrXdp()
    address.ifindex = dev.id
    expectDone(sysBind(process, fd, address), 'binding an AF_XDP socket')
    const map = new XskMap(1)
    const file = process.files.get(fd)
    map.update(0, xdpSk(file?.priv as Parameters<typeof xdpSk>[0]))
    const program: XdpProgram = {
      name: 'xsk',
      hasFrags: false,
      run: (xdp) => bpfRedirectMap(xdp, map, xdp.rxQueueIndex, XDP_PASS),
    }
    this.native = dev.ops.xdpSet !== undefined && process.kernel.links.xdpInstall(dev, program, true) === 0
    if (!this.native) process.kernel.links.xdpInstall(dev, program, false)
  }

  private ring(kind: 'rx' | 'fill', offset: number): XskRing {
    const mapping = sysMmap(this.process, this.fd, RING_PAGES_BYTES[kind], offset)
    if (typeof mapping === 'number') throw new InputError(`--rx af-xdp: a ring cannot be mapped (${mapping})`)
    this.mappings.push(mapping)
    return new XskRing(this.process.kernel.mem, mapping.buffer, kind, RING_ENTRIES)
  }

  poll(): void {
    const { rx, fill } = this
    for (;;) {
      const n = xskRingConsPeek(rx, RING_ENTRIES)
      if (n === 0) return
      const room = xskRingProdReserve(fill, n)
      const back = fill.at
      for (let i = 0; i < n; i++) {
        this.packets += 1
        this.bytes += xskRingConsRxLen(rx, rx.at + i)
        if (i < room) xskRingProdFillAddr(fill, back + i, xskRingConsRxAddr(rx, rx.at + i) & -CHUNK_BYTES)
      }
      xskRingProdSubmit(fill, room)
      xskRingConsRelease(rx, n)
    }
  }

  waiting(): number {
    return xskRingConsPeek(this.rx, RING_ENTRIES)
  }

  drops(): Record<string, number> {
    const { val } = this.process
    val.len = 48
    sysGetsockopt(this.process, this.fd, SOL_XDP, XDP_STATISTICS, val)
    const drops: Record<string, number> = {}
    XDP_DROPS.forEach((name, i) => {
      const count = val.words[2 * i]
      if (name !== '' && count > 0) drops[name] = count
    })
    return drops
  }

  close(): void {
    this.process.kernel.links.xdpInstall(this.machine.dev, null, this.native)
    for (const mapping of this.mappings) sysMunmap(this.process, mapping)
    sysClose(this.process, this.fd)
  }
}

/** Sets a path up on a machine. */
export function receiver(path: RxPath, machine: Machine, process: Process, options: ReplayOptions): Receiver {
  if (path === 'socket') return new SocketReceiver(machine, process, options)
  if (path === 'packet-mmap') return new RingReceiver(machine, process, options)
  return new XdpReceiver(machine, process)
}

/** @returns bytes of memory that somebody has taken. */
export function usedBytes(process: Process): number {
  const { mem } = process.kernel
  return (totalramPages(mem) - nrFreePages(mem) - nrPcpPages(mem)) * 4096
}

/** @throws InputError for a path that does not exist. @returns the paths asked for, in order. */
export function rxPaths(text: string): RxPath[] {
  return text.split(',').map((name) => {
    const path = RX_PATHS.find((known) => known === name.trim())
    if (path === undefined) throw new InputError(`--rx ${text}: expected one or more of ${RX_PATHS.join(', ')}`)
    return path
  })
}
