/** Packet sockets and their rings: options, frames and blocks as a program with the ring mapped sees them. */

import { userAddr } from '@netmem/memory'
import { AF_PACKET, MSG_TRUNC, SO, SOCK_DGRAM, SOCK_RAW, SOL_SOCKET, SockAddr } from '@netmem/sockmem'
import { PACKET_RX_RING, PACKET_STATISTICS, PACKET_TX_RING, SOL_PACKET } from '@netmem/zerocopy'
import { type Mapping, sysMmap } from '../mmap.js'
import { SOCK_NONBLOCK, sysBind, sysGetsockopt, sysRecvmsg, sysSendmsg, sysSetsockopt, sysSocket } from '../syscalls.js'
import type { JsonObject } from '../trace/json.js'
import { PACKET_OPTIONS } from '../uapi.js'
import { type Answer, StepError, UnsupportedVerb } from './answer.js'
import { setInt } from './calls.js'
import { netDeviceOf, ringAnswer, ringZero } from './device-verbs.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const PACKET_HDRLEN = 11
const VERSIONS: Readonly<Record<string, number>> = { TPACKET_V1: 0, TPACKET_V2: 1, TPACKET_V3: 2 }
const RX_STATUS: readonly (readonly [number, string])[] = [
  [0, 'USER'],
  [1, 'COPY'],
  [2, 'LOSING'],
  [3, 'CSUMNOTREADY'],
  [4, 'VLAN_VALID'],
  [5, 'BLK_TMO'],
  [6, 'VLAN_TPID_VALID'],
  [7, 'CSUM_VALID'],
  [8, 'GSO_TCP'],
  [29, 'TS_SOFTWARE'],
  [31, 'TS_RAW_HARDWARE'],
]
const TX_STATUS: Readonly<Record<number, string>> = {
  0: 'AVAILABLE',
  1: 'SEND_REQUEST',
  2: 'SENDING',
  4: 'WRONG_FORMAT',
}
const SEND_REQUEST = 1
const TX_FRAME = [2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x99, 0x88, 0xb5]

/** What the program behind a trace remembers of a ring. */
interface RingShape {
  readonly blockBytes: number
  readonly blockNr: number
  readonly frameBytes: number
  readonly frameNr: number
}

/** One packet socket as the trace's program has it. */
class PacketUser {
  version = 0
  mapping: Mapping | null = null
  rx: RingShape | null = null
  tx: RingShape | null = null

  constructor(
    readonly world: PlayerWorld,
    readonly fd: number,
  ) {}

  private at(offset: number): number {
    if (this.mapping === null) throw new StepError('the ring is not mapped')
    return userAddr(this.mapping.buffer, offset) >>> 0
  }

  u32(offset: number): number {
    return this.world.kernel.mem.dv.getUint32(this.at(offset), true)
  }

  u16(offset: number): number {
    return this.world.kernel.mem.dv.getUint16(this.at(offset), true)
  }

  u8(offset: number): number {
    return this.world.kernel.mem.u8[this.at(offset)]!
  }

  put32(offset: number, value: number): void {
    this.world.kernel.mem.dv.setInt32(this.at(offset), value, true)
  }

  put8(offset: number, value: number): void {
    this.world.kernel.mem.u8[this.at(offset)] = value
  }

  shape(ring: 'rx' | 'tx'): RingShape {
    const shape = this[ring]
    if (shape === null) throw new StepError(`the socket has no ${ring} ring`)
    return shape
  }

  /** @returns where slot `i` is in the mapping: with both rings the receive ring comes first. */
  frameOffset(ring: 'rx' | 'tx', i: number): number {
    const shape = this.shape(ring)
    const per = Math.floor(shape.blockBytes / shape.frameBytes)
    const base = ring === 'tx' && this.rx !== null ? this.rx.blockBytes * this.rx.blockNr : 0
    return base + Math.floor(i / per) * shape.blockBytes + (i % per) * shape.frameBytes
  }
}

const FAMILY = 'packet'

function users(world: PlayerWorld): Map<string, PacketUser> {
  const known = world.extra.get(FAMILY) as Map<string, PacketUser> | undefined
  if (known !== undefined) return known
  const made = new Map<string, PacketUser>()
  world.extra.set(FAMILY, made)
  return made
}

function user(world: PlayerWorld, args: JsonObject): PacketUser {
  const found = users(world).get(args.id as string)
  if (found === undefined) throw new StepError(`"${args.id}" is no packet socket`)
  return found
}

const statusNames = (value: number): string[] => {
  const names = RX_STATUS.filter(([bit]) => ((value >>> bit) & 1) !== 0).map(([, name]) => name)
  const known = RX_STATUS.reduce((all, [bit]) => all | (value & (1 << bit)), 0)
  const rest = (value & ~known) >>> 0
  return rest === 0 ? names : [...names, `0x${rest.toString(16)}`]
}

/** @returns the address that `bind` takes: a device and an EtherType. */
export function packetAddress(ifindex: number, protocol: number): SockAddr {
  const address = new SockAddr()
  address.family = AF_PACKET
  address.ifindex = ifindex
  address.protocol = protocol
  return address
}

function packetSocket(world: PlayerWorld, args: JsonObject): Answer {
  const { process } = world
  const dev = args.dev as string | undefined
  const net = dev === undefined ? world.net('A') : world.device(dev).net
  return world.within(net, () => {
    const type = args.type === 'SOCK_DGRAM' ? SOCK_DGRAM : SOCK_RAW
    const fd = sysSocket(process, AF_PACKET, type | SOCK_NONBLOCK, 0)
    if (fd < 0) return ringZero(fd)
    let err = 0
    if (args.rcvbuf !== undefined) err = setInt(process, fd, SOL_SOCKET, SO.SO_RCVBUFFORCE, args.rcvbuf as number)
    const protocol = Number.parseInt((args.proto as string | undefined) ?? '0x0003', 16)
    if (err === 0 && dev !== undefined) err = sysBind(process, fd, packetAddress(netDeviceOf(world, dev).id, protocol))
    world.fds.set(args.id as string, fd)
    users(world).set(args.id as string, new PacketUser(world, fd))
    return ringZero(err)
  })
}

function packetOption(world: PlayerWorld, args: JsonObject): Answer {
  const packet = user(world, args)
  const opt = (PACKET_OPTIONS as Record<string, number>)[args.opt as string]
  if (opt === undefined) throw new UnsupportedVerb(`no option "${args.opt}" of packet sockets`)
  const named = typeof args.value === 'string' ? VERSIONS[args.value] : (args.value as number)
  if (named === undefined) throw new StepError(`"${args.value}" is no version of packet rings`)
  const err = setInt(world.process, packet.fd, SOL_PACKET, opt, named)
  if (err === 0 && args.opt === 'PACKET_VERSION') packet.version = named
  return ringZero(err)
}

function packetRing(world: PlayerWorld, args: JsonObject): Answer {
  const packet = user(world, args)
  const { val } = world.process
  const number = (key: string): number => (args[key] as number | undefined) ?? 0
  const fields = ['block_size', 'block_nr', 'frame_size', 'frame_nr']
  if (packet.version === 2) fields.push('retire_tov', 'sizeof_priv', 'feature')
  fields.forEach((key, i) => {
    val.words[i] = number(key)
  })
  val.len = fields.length * 4
  const opt = args.ring === 'rx' ? PACKET_RX_RING : PACKET_TX_RING
  const err = sysSetsockopt(world.process, packet.fd, SOL_PACKET, opt, val)
  if (err === 0)
    packet[args.ring as 'rx' | 'tx'] = {
      blockBytes: number('block_size'),
      blockNr: number('block_nr'),
      frameBytes: number('frame_size'),
      frameNr: number('frame_nr'),
    }
  return ringZero(err)
}

function frame(packet: PacketUser, index: number): { answer: Answer; status: number; offset: number } {
  const o = packet.frameOffset('rx', index)
  const v1 = packet.version === 0
  const status = packet.u32(o)
  const at = o + (v1 ? 8 : 4)
  const answer: Answer = {
    status: statusNames(status),
    len: packet.u32(at),
    snaplen: packet.u32(at + 4),
    mac: packet.u16(at + 8),
    net: packet.u16(at + 10),
  }
  if (!v1) answer.vlan_tci = packet.u16(o + 24)
  return { answer, status, offset: o }
}

function packetFrame(world: PlayerWorld, args: JsonObject): Answer {
  const packet = user(world, args)
  const { answer, offset } = frame(packet, args.index as number)
  if (args.sll !== true) return answer
  const o = offset + 32
  const swapped = packet.u16(o + 2)
  const proto = ((swapped & 0xff) << 8) | (swapped >> 8)
  answer.sll = {
    protocol: `0x${proto.toString(16).padStart(4, '0')}`,
    hatype: packet.u16(o + 8),
    pkttype: packet.u8(o + 10),
    halen: packet.u8(o + 11),
  }
  return answer
}

function packetBlock(world: PlayerWorld, args: JsonObject): Answer {
  const packet = user(world, args)
  const o = (args.index as number) * packet.shape('rx').blockBytes
  const num = packet.u32(o + 12)
  const packets: Answer[] = []
  let q = o + packet.u32(o + 16)
  for (let i = 0; i < num; i++) {
    const next = packet.u32(q)
    packets.push({
      next_offset: next,
      snaplen: packet.u32(q + 12),
      len: packet.u32(q + 16),
      status: statusNames(packet.u32(q + 20)),
      mac: packet.u16(q + 24),
      net: packet.u16(q + 26),
    })
    q += next
  }
  return {
    status: statusNames(packet.u32(o + 8)),
    version: packet.u32(o),
    offset_to_priv: packet.u32(o + 4),
    num_pkts: num,
    offset_to_first_pkt: packet.u32(o + 16),
    blk_len: packet.u32(o + 20),
    seq_num: packet.u32(o + 24) + packet.u32(o + 28) * 4294967296,
    packets,
  }
}

function packetTxPut(world: PlayerWorld, args: JsonObject): Answer {
  const packet = user(world, args)
  const o = packet.frameOffset('tx', args.index as number)
  const len = args.len as number
  const header = packet.version === 2 ? 48 : 32
  const fits = Math.min(packet.shape('tx').frameBytes - header, len)
  for (let i = 0; i < fits; i++) packet.put8(o + header + i, TX_FRAME[i] ?? 0)
  if (packet.version === 2) {
    for (let word = 0; word < 4; word++) packet.put32(o + word * 4, 0)
    packet.put32(o + 16, len)
    packet.put32(o + 20, SEND_REQUEST)
    return { ret: 0 }
  }
  const at = o + (packet.version === 0 ? 8 : 4)
  packet.put32(at, len)
  packet.put32(at + 4, 0)
  packet.put32(o, SEND_REQUEST)
  if (packet.version === 0) packet.put32(o + 4, 0)
  return { ret: 0 }
}

function packetStats(world: PlayerWorld, args: JsonObject): Answer {
  const packet = user(world, args)
  const { val } = world.process
  val.len = packet.version === 2 ? 12 : 8
  const err = sysGetsockopt(world.process, packet.fd, SOL_PACKET, PACKET_STATISTICS, val)
  if (err < 0) return ringZero(err)
  const answer: Answer = { tp_packets: val.words[0]! >>> 0, tp_drops: val.words[1]! >>> 0 }
  if (packet.version === 2) answer.tp_freeze_q_cnt = val.words[2]! >>> 0
  return answer
}

export const packetHandlers: VerbHandlers = {
  packet_socket: packetSocket,
  packet_opt: packetOption,

  packet_hdrlen: (world, args) => {
    const { val } = world.process
    val.int = typeof args.version === 'string' ? (VERSIONS[args.version] ?? -1) : (args.version as number)
    val.len = 4
    const err = sysGetsockopt(world.process, user(world, args).fd, SOL_PACKET, PACKET_HDRLEN, val)
    return err < 0 ? ringZero(err) : { ret: 0, hdrlen: val.int }
  },

  packet_ring: packetRing,

  packet_mmap: (world, args) => {
    const packet = user(world, args)
    const mapping = sysMmap(world.process, packet.fd, args.len as number)
    if (typeof mapping === 'number') return ringZero(mapping)
    packet.mapping = mapping
    return { ret: 0 }
  },

  packet_frame: packetFrame,

  packet_statuses: (world, args) => {
    const packet = user(world, args)
    const { frameNr } = packet.shape('rx')
    return { status: Array.from({ length: frameNr }, (_, i) => statusNames(frame(packet, i).status).join('|')) }
  },

  packet_release: (world, args) => {
    const packet = user(world, args)
    const o = packet.frameOffset('rx', args.index as number)
    packet.put32(o, 0)
    if (packet.version === 0) packet.put32(o + 4, 0)
    return { ret: 0 }
  },

  packet_block: packetBlock,

  packet_block_release: (world, args) => {
    const packet = user(world, args)
    packet.put32((args.index as number) * packet.shape('rx').blockBytes + 8, 0)
    return { ret: 0 }
  },

  packet_stats: packetStats,

  packet_filter: (world, args) => {
    const { val } = world.process
    val.program = new Int32Array([6, 0, 0, args.snaplen as number])
    val.len = 16
    const err = sysSetsockopt(world.process, user(world, args).fd, SOL_SOCKET, SO.SO_ATTACH_FILTER, val)
    val.program = null
    return ringZero(err)
  },

  packet_recv: (world, args) => {
    const flags = args.trunc === true ? MSG_TRUNC : 0
    return ringAnswer(
      sysRecvmsg(world.process, user(world, args).fd, (args.size as number | undefined) ?? 65536, { flags }),
    )
  },

  packet_tx_put: packetTxPut,
  packet_tx_kick: (world, args) => ringAnswer(sysSendmsg(world.process, user(world, args).fd, 0)),

  packet_tx_statuses: (world, args) => {
    const packet = user(world, args)
    const { frameNr } = packet.shape('tx')
    const at = packet.version === 2 ? 20 : 0
    return {
      status: Array.from({ length: frameNr }, (_, i) => {
        const status = packet.u32(packet.frameOffset('tx', i) + at)
        return TX_STATUS[status & 0xff] ?? `0x${status.toString(16)}`
      }),
    }
  },
}
