/** Verbs that make, connect and close sockets, over loopback. */
import { ERRNO } from '@netmem/base'
import { AF_UNIX, SO, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET } from '@netmem/sockmem'
import {
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysListen,
  sysSetsockopt,
  sysShutdown,
  sysSocketpair,
} from '../syscalls.js'
import type { JsonObject } from '../trace/json.js'
import { SOL_TCP, TCP_OPTIONS } from '../uapi.js'
import { type Answer, zeroAnswer } from './answer.js'
import { boundAddress, loopback, setInt, tcpSocket, udpSocket } from './calls.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const UNIX_TYPES: Readonly<Record<string, number>> = {
  stream: SOCK_STREAM,
  dgram: SOCK_DGRAM,
  seqpacket: SOCK_SEQPACKET,
}
const SHUT: Readonly<Record<string, number>> = { RD: 0, WR: 1, RDWR: 2 }

/** Sets the options that a verb names for a socket before it is used. */
function setUp(world: PlayerWorld, fd: number, args: JsonObject, who: string): number {
  const { process } = world
  for (const [key, opt] of [
    ['sndbuf', SO.SO_SNDBUF],
    ['rcvbuf', SO.SO_RCVBUF],
  ] as const) {
    const value = args[who + key]
    if (typeof value !== 'number') continue
    const err = setInt(process, fd, SOL_SOCKET, opt, value)
    if (err < 0) return err
  }
  return args.nodelay === true ? setInt(process, fd, SOL_TCP, TCP_OPTIONS.TCP_NODELAY, 1) : 0
}

/** Makes a TCP socket, sets it up, binds it to loopback and listens. @returns a descriptor or a negative errno. */
function listener(world: PlayerWorld, args: JsonObject, who: string, backlog: number): number {
  const { process } = world
  const v6 = args.v6 === true
  const fd = tcpSocket(process, v6)
  if (fd < 0) return fd
  const err = setUp(world, fd, args, who) || sysBind(process, fd, loopback(v6)) || sysListen(process, fd, backlog)
  if (err === 0) return fd
  sysClose(process, fd)
  return err
}

/** A non-blocking connect over loopback is over when the call returns, whatever it says. */
const connected = (err: number): number => (err === -ERRNO.EINPROGRESS ? 0 : err)

function tcpPair(world: PlayerWorld, args: JsonObject): Answer {
  const { process } = world
  const listening = listener(world, args, 'server_', 1)
  if (listening < 0) return zeroAnswer(listening)
  const client = tcpSocket(process, args.v6 === true)
  const err =
    setUp(world, client, args, 'client_') || connected(sysConnect(process, client, boundAddress(process, listening)))
  if (err < 0) return zeroAnswer(err)
  const server = sysAccept(process, listening, SOCK_NONBLOCK)
  if (server < 0) return zeroAnswer(server)
  if (args.nodelay === true) setInt(process, server, SOL_TCP, TCP_OPTIONS.TCP_NODELAY, 1)
  sysClose(process, listening)
  world.keep(args.client as string, client)
  world.keep(args.server as string, server)
  return { ret: 0 }
}

/** Closes a descriptor and forgets its name. */
function closeId(world: PlayerWorld, id: string): Answer {
  const fd = world.fd(id)
  world.fds.delete(id)
  return zeroAnswer(sysClose(world.process, fd))
}

export const socketHandlers: VerbHandlers = {
  udp_socket: (world, args) => {
    const { process } = world
    const v6 = args.v6 === true
    const fd = udpSocket(process, v6)
    if (fd < 0) return zeroAnswer(fd)
    const err = sysBind(process, fd, loopback(v6))
    world.addresses.set(args.id as string, boundAddress(process, fd))
    world.keep(args.id as string, fd)
    return zeroAnswer(err)
  },

  udp_connect: (world, args) =>
    zeroAnswer(sysConnect(world.process, world.fd(args.id as string), world.address(args.to as string))),

  tcp_pair: tcpPair,

  tcp_listener: (world, args) => {
    const fd = listener(world, args, '', (args.backlog as number | undefined) ?? 8)
    if (fd >= 0) world.addresses.set(args.id as string, boundAddress(world.process, fd))
    return zeroAnswer(world.keep(args.id as string, fd))
  },

  tcp_connect: (world, args) => {
    const { process } = world
    const to = world.address(args.to as string)
    const fd = tcpSocket(process, args.v6 === true)
    if (fd < 0) return zeroAnswer(fd)
    world.keep(args.id as string, fd)
    return zeroAnswer(setUp(world, fd, args, '') || connected(sysConnect(process, fd, to)))
  },

  tcp_accept: (world, args) =>
    zeroAnswer(
      world.keep(args.id as string, sysAccept(world.process, world.fd(args.listener as string), SOCK_NONBLOCK)),
    ),

  unix_pair: (world, args) => {
    const pair = new Int32Array(2)
    const type = UNIX_TYPES[args.type as string]! | SOCK_NONBLOCK
    const err = sysSocketpair(world.process, AF_UNIX, type, 0, pair)
    if (err < 0) return zeroAnswer(err)
    world.keep(args.a as string, pair[0]!)
    world.keep(args.b as string, pair[1]!)
    return { ret: 0 }
  },

  close: (world, args) => closeId(world, args.id as string),

  reset: (world, args) => {
    const { process } = world
    const { val } = process
    val.words[0] = 1
    val.words[1] = 0
    val.int = 1
    val.len = 8
    const err = sysSetsockopt(process, world.fd(args.id as string), SOL_SOCKET, SO.SO_LINGER, val)
    return err < 0 ? zeroAnswer(err) : closeId(world, args.id as string)
  },

  shutdown: (world, args) =>
    zeroAnswer(sysShutdown(world.process, world.fd(args.id as string), SHUT[args.how as string]!)),
}
