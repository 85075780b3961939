/** Verbs of TUN/TAP devices: opening a queue, writing and reading frames, and the sweep over lengths. */
import { sysClose } from '../syscalls.js'
import type { JsonObject } from '../trace/json.js'
import { anySlopeSegments } from '../trace/segments.js'
import type { Answer } from './answer.js'
import { meminfo, receiveAll } from './calls.js'
import { countedAnswer, ringAnswer, ringZero } from './device-verbs.js'
import { buildFrame } from './frames.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const MAC = '02:00:00:00:00:0a'
const IP = '10.0.0.1'
const STRANGER = { ip: '10.0.0.9', mac: '02:00:00:00:00:99' } as const
const VNET_HEADER_BYTES = 10
const VNET_FIELDS = ['hdr_len', 'gso_size', 'csum_start', 'csum_offset'] as const

/** What the trace's `tap` step said of a queue: needed to put headers before its frames. */
interface TapQueue {
  readonly dev: string
  readonly flags: readonly string[]
  readonly vnetHeaderBytes: number
}

const queueKey = (id: string): string => `tap:${id}`
const queueOf = (world: PlayerWorld, id: string): TapQueue => {
  world.fd(id)
  return world.extra.get(queueKey(id)) as TapQueue
}

function openTap(world: PlayerWorld, args: JsonObject): Answer {
  const { kernel, process } = world
  const name = args.dev as string
  const flags = args.flags as readonly string[]
  const fd = kernel.links.tun.open(process, { name, flags })
  if (fd < 0) return ringZero(fd)
  const id = args.id as string
  world.fds.set(id, fd)
  const vnetHeaderBytes = (args.vnet_hdr_sz as number | undefined) ?? VNET_HEADER_BYTES
  world.extra.set(queueKey(id), { dev: name, flags, vnetHeaderBytes } satisfies TapQueue)
  if (args.vnet_hdr_sz !== undefined) kernel.links.tun.setVnetHdrSz(process, fd, vnetHeaderBytes)
  if (args.sndbuf !== undefined) kernel.links.tun.setSndbuf(process, fd, args.sndbuf as number)
  // Another queue of a device that is configured already.
  if (world.devices.has(name)) return { ret: 0 }
  const ethernet = flags.includes('IFF_TAP')
  const dev = kernel.links.device(process.net, name)
  kernel.links.configure(dev, {
    ip: IP,
    prefix: 24,
    mtu: (args.mtu as number | undefined) ?? 1500,
    ...(ethernet ? { mac: MAC } : {}),
    ...(args.txqueuelen === undefined ? {} : { txQueueLen: args.txqueuelen as number }),
  })
  kernel.links.setUp(dev, true)
  if (ethernet) kernel.links.neighbour(dev, STRANGER.ip, STRANGER.mac)
  world.devices.set(name, { net: process.net, name, mac: MAC, ip: IP, ethernet, peer: null })
  return { ret: 0 }
}

/** The headers before the frame: packet information, then the virtio-net header. */
function headers(queue: TapQueue, frame: JsonObject, vnet: JsonObject): Uint8Array {
  const bytes: number[] = []
  if (!queue.flags.includes('IFF_NO_PI')) {
    const protocol = Number.parseInt((frame.pi_proto as string | undefined) ?? '0x0800', 16)
    bytes.push(0, 0, protocol >> 8, protocol & 0xff)
  }
  if (queue.flags.includes('IFF_VNET_HDR')) {
    const header = new Uint8Array(queue.vnetHeaderBytes)
    header[0] = (vnet.flags as number | undefined) ?? 0
    header[1] = (vnet.gso_type as number | undefined) ?? 0
    VNET_FIELDS.forEach((field, i) => {
      const value = (vnet[field] as number | undefined) ?? 0
      header[2 + 2 * i] = value & 0xff
      header[3 + 2 * i] = (value >> 8) & 0xff
    })
    bytes.push(...header)
  }
  return Uint8Array.from(bytes)
}

function writeFrame(
  world: PlayerWorld,
  id: string,
  frame: JsonObject,
  vnet: JsonObject,
  iov: readonly number[] | null,
): number {
  const queue = queueOf(world, id)
  const body = buildFrame(frame, world.device(queue.dev))
  const head = headers(queue, frame, vnet)
  const bytes = new Uint8Array(head.length + body.length)
  bytes.set(head)
  bytes.set(body, head.length)
  // The headers join the first buffer, which therefore grows by them.
  const cuts =
    iov === null || iov.length === 0 ? null : iov.map((length, i) => (i === 0 ? length + head.length : length))
  return world.kernel.links.tun.write(world.process, world.fd(id), bytes, cuts)
}

export const tapHandlers: VerbHandlers = {
  tap: openTap,

  tap_write: (world, args) =>
    countedAnswer(args, () =>
      writeFrame(
        world,
        args.id as string,
        args.frame as JsonObject,
        (args.vnet as JsonObject | undefined) ?? {},
        (args.iov as number[] | undefined) ?? null,
      ),
    ),

  tap_write_short: (world, args) =>
    ringAnswer(
      world.kernel.links.tun.write(
        world.process,
        world.fd(args.id as string),
        new Uint8Array(args.len as number),
        null,
      ),
    ),

  tap_read: (world, args) => {
    const size = (args.size as number | undefined) ?? 70000
    return countedAnswer(args, () => world.kernel.links.tun.read(world.process, world.fd(args.id as string), size))
  },

  tap_queue: (world, args) =>
    ringZero(world.kernel.links.tun.setQueue(world.process, world.fd(args.id as string), Boolean(args.attach))),

  tap_close: (world, args) => {
    const id = args.id as string
    const fd = world.fd(id)
    world.fds.delete(id)
    return ringZero(sysClose(world.process, fd))
  },

  tap_rx_sweep: (world, args) => {
    const { process } = world
    const rx = world.fd(args.rx as string)
    const from = args.len_from as number
    const values: number[] = []
    for (let n = from; n <= (args.len_to as number); n++) {
      const ret = writeFrame(
        world,
        args.id as string,
        { udp: n, udp_csum: 'zero' },
        (args.vnet as JsonObject | undefined) ?? {},
        (args.iov as number[] | undefined) ?? null,
      )
      if (ret < 0) {
        values.push(ret)
        continue
      }
      values.push(meminfo(process, rx)![0]!)
      receiveAll(process, rx, 1 << 16)
    }
    return { segments: anySlopeSegments(values, from) }
  },
}
