/** AF_XDP sockets and the maps that lead to them. The program behind a trace walks its rings with `XskRing`. */
import { PAGE_SIZE, userAlloc, userFree, userRead, userWrite } from '@netmem/memory'
import { AF_XDP, MSG_DONTWAIT, SOCK_RAW, type Sock } from '@netmem/sockmem'
import {
  SOL_XDP,
  SockaddrXdp,
  XDP_COPY,
  XDP_MMAP_OFFSETS,
  XDP_PGOFF_RX_RING,
  XDP_PGOFF_TX_RING,
  XDP_RX_RING,
  XDP_SHARED_UMEM,
  XDP_STATISTICS,
  XDP_TX_RING,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_PGOFF_COMPLETION_RING,
  XDP_UMEM_PGOFF_FILL_RING,
  XDP_UMEM_REG,
  XDP_UMEM_TX_METADATA_LEN,
  XDP_UMEM_TX_SW_CSUM,
  XDP_UMEM_UNALIGNED_CHUNK_FLAG,
  XDP_USE_NEED_WAKEUP,
  XDP_USE_SG,
  XDP_ZEROCOPY,
  XskMap,
  XskRing,
  type XskRingKind,
  xdpSk,
} from '@netmem/zerocopy'
import { sysMmap, sysMunmap } from '../mmap.js'
import type { Process } from '../process.js'
import { socketFile, sockfdError } from '../socket-file.js'
import { SOCK_NONBLOCK, sysBind, sysClose, sysGetsockopt, sysSendmsg, sysSetsockopt, sysSocket } from '../syscalls.js'
import type { JsonObject } from '../trace/json.js'
import { flagBits } from '../uapi.js'
import { type Answer, StepError } from './answer.js'
import { meminfo, meminfoAnswer, setInt } from './calls.js'
import { netDeviceOf, ringZero } from './device-verbs.js'
import { buildFrame } from './frames.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'
import { XskUser, xskMapOf, xskUserOf, xskUsersOf } from './xdp-world.js'

const KINDS = ['rx', 'tx', 'fill', 'comp'] as const
const RINGS: Readonly<Record<XskRingKind, { option: number; offset: number; descBytes: number }>> = {
  rx: { option: XDP_RX_RING, offset: XDP_PGOFF_RX_RING, descBytes: 16 },
  tx: { option: XDP_TX_RING, offset: XDP_PGOFF_TX_RING, descBytes: 16 },
  fill: { option: XDP_UMEM_FILL_RING, offset: XDP_UMEM_PGOFF_FILL_RING, descBytes: 8 },
  comp: { option: XDP_UMEM_COMPLETION_RING, offset: XDP_UMEM_PGOFF_COMPLETION_RING, descBytes: 8 },
}
const BIND_FLAGS = { XDP_SHARED_UMEM, XDP_COPY, XDP_ZEROCOPY, XDP_USE_NEED_WAKEUP, XDP_USE_SG }
const UMEM_FLAGS = { XDP_UMEM_UNALIGNED_CHUNK_FLAG, XDP_UMEM_TX_SW_CSUM, XDP_UMEM_TX_METADATA_LEN }
const STATISTICS = [
  'rx_dropped',
  'rx_invalid_descs',
  'tx_invalid_descs',
  'rx_ring_full',
  'rx_fill_ring_empty_descs',
  'tx_ring_empty_descs',
] as const
/** What every frame begins with that is to be sent. */
const TX_HEADER = Uint8Array.of(2, 0, 0, 0, 0, 0x0a, 2, 0, 0, 0, 0, 0x0b, 0x88, 0xb5)
/** The most that one `xsk_rx` or `xsk_comp` takes. */
const MOST_TAKEN = 64
const MAX_AREA_BYTES = 128 << 20
const DESC_OFFSET = 320
const HIGH = 4294967296

function registerUmem(world: PlayerWorld, args: JsonObject): Answer {
  const user = xskUserOf(world, args.id)
  const { process, kernel } = world
  const len = args.len as number
  // As large as the recorder's, so that an address in the middle is mapped too.
  const bytes = Math.max(len, PAGE_SIZE) + 2 * PAGE_SIZE
  const area = bytes > MAX_AREA_BYTES ? null : userAlloc(kernel.mem, process.cpu, bytes)
  const { val } = process
  const { words } = val
  const flags = flagBits(args.flags, UMEM_FLAGS) | ((args.raw_flags as number | undefined) ?? 0) | 0
  words.fill(0)
  words[0] = (args.addr_offset as number | undefined) ?? 0
  words[2] = len | 0
  words[3] = Math.floor(len / HIGH)
  words[4] = args.chunk_size as number
  words[5] = (args.headroom as number | undefined) ?? 0
  words[6] = flags
  words[7] = (args.tx_metadata_len as number | undefined) ?? 0
  val.len = 32
  val.buffer = area
  const err = sysSetsockopt(process, user.fd, SOL_XDP, XDP_UMEM_REG, val)
  val.buffer = null
  if (err === 0 && area !== null) {
    user.area = area
    user.areaBytes = len
    xskUsersOf(world).areas.push(area)
  } else if (area !== null) userFree(kernel.mem, process.cpu, area)
  return ringZero(err)
}

function mapRing(world: PlayerWorld, args: JsonObject): Answer {
  const user = xskUserOf(world, args.id)
  const kind = args.ring as XskRingKind
  const { offset, descBytes } = RINGS[kind]
  const entries = user.sizes.get(kind) ?? 0
  const bytes = (args.len as number | undefined) ?? DESC_OFFSET + entries * descBytes
  const mapping = sysMmap(world.process, user.fd, bytes, offset)
  if (typeof mapping === 'number') return ringZero(mapping)
  user.mappings.push(mapping)
  if (entries > 0) user.rings.set(kind, new XskRing(world.kernel.mem, mapping.buffer, kind, entries))
  return { ret: 0 }
}

/** Models the lookup of `sxdp_shared_umem_fd`. @returns a socket's id or -ENOTSOCK. */
function sharedSocket(process: Process, fd: number): number {
  const file = socketFile(process, fd)
  // A descriptor that is not open is no socket either, for this call.
  return file === null ? Math.min(sockfdError(process, fd), new SockaddrXdp().sharedUmem) : (file.priv as Sock).id
}

function bind(world: PlayerWorld, args: JsonObject): Answer {
  const { process } = world
  const addr = new SockaddrXdp()
  addr.flags = flagBits(args.flags, BIND_FLAGS)
  addr.ifindex = netDeviceOf(world, args.dev as string).id
  addr.queueId = (args.queue as number | undefined) ?? 0
  // Descriptor 0 is not a socket.
  if (args.shared_with !== undefined) addr.sharedUmem = sharedSocket(process, xskUserOf(world, args.shared_with).fd)
  return ringZero(sysBind(process, xskUserOf(world, args.id).fd, addr))
}

// Rings are walked by their shared words, as the recorder does, so that spoilt ones show.

const wordOf = (ring: XskRing, kind: 'producer' | 'consumer' | 'flags'): number =>
  ring.i32[kind === 'producer' ? ring.producerWord : kind === 'consumer' ? ring.consumerWord : ring.flagsWord]! >>> 0

function slotAt(ring: XskRing, index: number): number {
  const byte = DESC_OFFSET + ((index & ring.mask) << ring.descShift)
  return (ring.pfns[byte >>> 12]! << 10) | ((byte & 4095) >>> 2)
}

/** Appends entries. @param write fills the words of one. */
function produce(ring: XskRing, count: number, write: (word: number, i: number) => void): void {
  let at = wordOf(ring, 'producer')
  for (let i = 0; i < count; i++, at++) write(slotAt(ring, at), i)
  ring.i32[ring.producerWord] = at | 0
}

/** Takes what there is. @param read makes an answer of the words of one. */
function consume<T>(ring: XskRing, read: (word: number) => T): T[] {
  const taken: T[] = []
  const end = wordOf(ring, 'producer') | 0
  let at = wordOf(ring, 'consumer') | 0
  for (; at !== end && taken.length < MOST_TAKEN; at = (at + 1) | 0) taken.push(read(slotAt(ring, at)))
  ring.i32[ring.consumerWord] = at
  return taken
}

const wide = (i32: Int32Array, word: number): number => (i32[word + 1]! >>> 0) * HIGH + (i32[word]! >>> 0)

export const xdpHandlers: VerbHandlers = {
  xskmap: (world, args) => {
    xskUsersOf(world).maps.set(args.id as string, new XskMap((args.entries as number | undefined) ?? 4))
    return { ret: 0 }
  },

  xskmap_set: (world, args) => {
    const { process } = world
    const file = socketFile(process, xskUserOf(world, args.xsk).fd)
    if (file === null) return ringZero(sockfdError(process, xskUserOf(world, args.xsk).fd))
    return ringZero(xskMapOf(world, args.id).update(args.key as number, xdpSk(file.priv as Sock)))
  },

  xsk_socket: (world, args) =>
    world.within(world.net((args.ns as string | undefined) ?? 'A'), () => {
      const fd = sysSocket(world.process, AF_XDP, SOCK_RAW | SOCK_NONBLOCK)
      if (fd < 0) return ringZero(fd)
      world.fds.set(args.id as string, fd)
      xskUsersOf(world).sockets.set(args.id as string, new XskUser(fd))
      return { ret: 0 }
    }),

  xsk_umem: registerUmem,

  xsk_ring: (world, args) => {
    const user = xskUserOf(world, args.id)
    const kind = args.ring as XskRingKind
    const err = setInt(world.process, user.fd, SOL_XDP, RINGS[kind].option, args.size as number)
    if (err === 0) user.sizes.set(kind, args.size as number)
    return ringZero(err)
  },

  xsk_mmap_offsets: (world, args) => {
    const { val } = world.process
    val.len = 128
    const err = sysGetsockopt(world.process, xskUserOf(world, args.id).fd, SOL_XDP, XDP_MMAP_OFFSETS, val)
    if (err < 0) return ringZero(err)
    const names = ['producer', 'consumer', 'desc', 'flags'] as const
    return Object.fromEntries(
      KINDS.map((kind, ring) => [
        kind,
        Object.fromEntries(names.map((name, i) => [name, wide(val.words, 2 * (4 * ring + i))])),
      ]),
    )
  },

  xsk_mmap: mapRing,

  xsk_bind: bind,

  xsk_fill: (world, args) => {
    const ring = xskUserOf(world, args.id).ring('fill')
    const addrs = args.addrs as readonly number[]
    produce(ring, addrs.length, (word, i) => {
      ring.i32[word] = (addrs[i]! % HIGH) | 0
      ring.i32[word + 1] = Math.floor(addrs[i]! / HIGH)
    })
    return { ret: 0 }
  },

  xsk_rx: (world, args) => {
    const ring = xskUserOf(world, args.id).ring('rx')
    const { i32 } = ring
    return { descs: consume(ring, (word) => [wide(i32, word), i32[word + 2]! >>> 0, i32[word + 3]! >>> 0]) }
  },

  xsk_umem_frame: (world, args) => {
    const { area } = xskUserOf(world, args.id)
    if (area === null) throw new StepError('the socket has no area')
    const frame = buildFrame(args.frame as JsonObject, { mac: '02:00:00:00:00:0b', ip: '10.0.0.2', ethernet: true })
    const bytes = userRead(world.kernel.mem, area, args.addr as number, frame.length)
    return { equal: frame.every((byte, i) => byte === bytes[i]) }
  },

  xsk_tx: (world, args) => {
    const user = xskUserOf(world, args.id)
    const ring = user.ring('tx')
    const descs = args.descs as readonly (readonly number[])[]
    produce(ring, descs.length, (word, i) => {
      const [addr, len, options] = descs[i] as readonly [number, number, number]
      ring.i32[word] = (addr % HIGH) | 0
      ring.i32[word + 1] = Math.floor(addr / HIGH)
      ring.i32[word + 2] = len | 0
      ring.i32[word + 3] = options | 0
      if (user.area !== null && addr + TX_HEADER.length <= user.areaBytes)
        userWrite(world.kernel.mem, user.area, addr, TX_HEADER)
    })
    return { ret: 0 }
  },

  xsk_kick: (world, args) =>
    ringZero(sysSendmsg(world.process, xskUserOf(world, args.id).fd, 0, { flags: MSG_DONTWAIT })),

  xsk_comp: (world, args) => {
    const ring = xskUserOf(world, args.id).ring('comp')
    return { addrs: consume(ring, (word) => wide(ring.i32, word)) }
  },

  xsk_indices: (world, args) => {
    const { rings } = xskUserOf(world, args.id)
    const shown = KINDS.flatMap((kind) => {
      const ring = rings.get(kind)
      return ring === undefined ? [] : [[kind, ring] as const]
    })
    return Object.fromEntries(
      shown.map(([kind, ring]) => [kind, [wordOf(ring, 'producer'), wordOf(ring, 'consumer'), wordOf(ring, 'flags')]]),
    )
  },

  xsk_stats: (world, args) => {
    const { val } = world.process
    val.len = 48
    const err = sysGetsockopt(world.process, xskUserOf(world, args.id).fd, SOL_XDP, XDP_STATISTICS, val)
    if (err < 0) return ringZero(err)
    return Object.fromEntries(STATISTICS.map((name, i) => [name, wide(val.words, 2 * i)]))
  },

  xsk_meminfo: (world, args) => {
    const words = meminfo(world.process, xskUserOf(world, args.id).fd)
    return words === null ? { errno: 'EBADF' } : meminfoAnswer(words, true)
  },

  xsk_close: (world, args) => {
    const id = args.id as string
    const user = xskUserOf(world, id)
    for (const mapping of user.mappings.splice(0)) sysMunmap(world.process, mapping)
    world.fds.delete(id)
    xskUsersOf(world).sockets.delete(id)
    return ringZero(sysClose(world.process, user.fd))
  },
}
