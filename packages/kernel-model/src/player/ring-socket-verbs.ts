/** UDP sockets as the ring traces use them: bound and connected to given addresses, in a given namespace. */
import { AF_INET, type Cmsg, SO, SOCK_DGRAM, SOL_SOCKET } from '@netmem/sockmem'
import { SOCK_NONBLOCK, sysBind, sysClose, sysConnect, sysRecvmsg, sysSendmsg, sysSocket } from '../syscalls.js'
import type { JsonObject } from '../trace/json.js'
import { anySlopeSegments } from '../trace/segments.js'
import { SOL_UDP, UDP_OPTIONS } from '../uapi.js'
import type { Answer } from './answer.js'
import { ipv4Address, meminfo, meminfoAnswer, receiveAll, setInt } from './calls.js'
import { countedAnswer, ringZero } from './device-verbs.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const ROOM = 1 << 17
const RMEM_ALLOC = 0

function udpSocket(world: PlayerWorld, args: JsonObject): Answer {
  const { process } = world
  return world.within(world.net((args.ns as string | undefined) ?? 'A'), () => {
    const fd = sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    if (fd < 0) return ringZero(fd)
    world.fds.set(args.id as string, fd)
    let err = 0
    if (args.rcvbuf !== undefined) err ||= setInt(process, fd, SOL_SOCKET, SO.SO_RCVBUFFORCE, args.rcvbuf as number)
    if (args.sndbuf !== undefined) err ||= setInt(process, fd, SOL_SOCKET, SO.SO_SNDBUFFORCE, args.sndbuf as number)
    for (const [level, opt, value] of (args.opts as readonly number[][] | undefined) ?? [])
      err ||= setInt(process, fd, level!, opt!, value!)
    if (Array.isArray(args.bind))
      err ||= sysBind(process, fd, ipv4Address(args.bind[0] as string, args.bind[1] as number))
    if (Array.isArray(args.connect))
      err ||= sysConnect(process, fd, ipv4Address(args.connect[0] as string, args.connect[1] as number))
    return ringZero(err)
  })
}

/** The control message UDP_SEGMENT, or nothing. */
const segmentControl = (gso: unknown): { control?: Cmsg[] } =>
  typeof gso === 'number' && gso !== 0
    ? { control: [{ level: SOL_UDP, type: UDP_OPTIONS.UDP_SEGMENT, value: gso }] }
    : {}

export const ringSocketHandlers: VerbHandlers = {
  udp_socket: udpSocket,

  send: (world, args) => {
    const fd = world.fd(args.id as string)
    const params = segmentControl(args.gso)
    return countedAnswer(args, () => sysSendmsg(world.process, fd, args.len as number, params))
  },

  recv: (world, args) => {
    const fd = world.fd(args.id as string)
    return countedAnswer(args, () => sysRecvmsg(world.process, fd, ROOM))
  },

  recv_all: (world, args) => receiveAll(world.process, world.fd(args.id as string), ROOM),

  meminfo: (world, args) => {
    const words = meminfo(world.process, world.fd(args.id as string))
    return words === null ? { errno: 'EBADF' } : meminfoAnswer(words, true)
  },

  close: (world, args) => {
    const fd = world.fd(args.id as string)
    world.fds.delete(args.id as string)
    return ringZero(sysClose(world.process, fd))
  },

  send_sweep: (world, args) => {
    const { process } = world
    const tx = world.fd(args.id as string)
    const rx = world.fd(args.rx as string)
    const from = args.len_from as number
    const values: number[] = []
    for (let n = from; n <= (args.len_to as number); n++) {
      const sent = sysSendmsg(process, tx, n)
      if (sent < 0) {
        values.push(sent)
        continue
      }
      values.push(meminfo(process, rx)![RMEM_ALLOC]!)
      receiveAll(process, rx, 1 << 16)
    }
    return { segments: anySlopeSegments(values, from) }
  },

  send_each: (world, args) => {
    const { process } = world
    const tx = world.fd(args.id as string)
    const rx = world.fd(args.rx as string)
    const truesize: number[] = []
    let before = meminfo(process, rx)![RMEM_ALLOC]!
    for (const n of args.lens as readonly number[]) {
      const sent = sysSendmsg(process, tx, n)
      if (sent < 0) return ringZero(sent)
      let after = meminfo(process, rx)![RMEM_ALLOC]!
      truesize.push(after - before)
      if (args.drain === true) {
        const got = sysRecvmsg(process, rx, ROOM)
        if (got < 0) return ringZero(got)
        after = meminfo(process, rx)![RMEM_ALLOC]!
      }
      before = after
    }
    return { truesize }
  },
}
