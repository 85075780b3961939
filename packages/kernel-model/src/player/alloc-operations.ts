/**
 * The operations of allocation traces: system calls by the names and arguments of those traces, each
 * answering what the call returned.
 */
import { ERRNO } from '@netmem/base'
import { type UserBuffer, userWrite } from '@netmem/memory'
import {
  AF_INET,
  AF_PACKET,
  AF_UNIX,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_ZEROCOPY,
  SO,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  SOL_SOCKET,
} from '@netmem/sockmem'
import {
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysListen,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysShutdown,
  sysSocket,
  sysSocketpair,
} from '../syscalls.js'
import type { Json, JsonObject } from '../trace/json.js'
import { flagBits, MSG_FLAGS, optionByName } from '../uapi.js'
import { allocDeviceOperations } from './alloc-device-operations.js'
import { allocSpliceOperations } from './alloc-splice-operations.js'
import { StepError, UnsupportedVerb } from './answer.js'
import { ipv4Address, LOOPBACK, setInt } from './calls.js'
import { packetAddress } from './packet-verbs.js'
import type { PlayerWorld } from './world.js'

/** @returns what the call returned: a number, or a negative errno. */
export type Operation = (world: PlayerWorld, op: JsonObject) => number

const SHUT: Readonly<Record<string, number>> = { rd: 0, wr: 1, rdwr: 2 }

const idFd = (world: PlayerWorld, op: JsonObject): number => world.fd(op.id as string)
const addressOf = (op: JsonObject) => ipv4Address((op.addr as string | undefined) ?? LOOPBACK, op.port as number)

const inetSocket =
  (type: number): Operation =>
  (world, op) => {
    const net = world.net((op.ns as string | undefined) ?? 'a')
    return world.within(net, () => world.keep(op.id as string, sysSocket(world.process, AF_INET, type | SOCK_NONBLOCK)))
  }

const FILLED = 'filled'

/** The recorder sent the letter x, which raw packets carry as their addresses and type too. */
function fillOnce(world: PlayerWorld, buffer: UserBuffer): void {
  const filled = (world.extra.get(FILLED) ?? new Set<UserBuffer>()) as Set<UserBuffer>
  world.extra.set(FILLED, filled)
  if (filled.has(buffer)) return
  filled.add(buffer)
  userWrite(world.kernel.mem, buffer, 0, new Uint8Array(buffer.bytes).fill(0x78))
}

/** Zero-copy sends come from page-aligned memory plus `at`; the others from an ordinary buffer. */
function send(world: PlayerWorld, op: JsonObject): number {
  const flags = flagBits(op.flags, MSG_FLAGS)
  const name = (flags & MSG_ZEROCOPY) !== 0 ? 'zerocopy' : 'send'
  const offset = (op.at as number | undefined) ?? 0
  const len = op.len as number
  const buffer = world.process.buffer(name, Math.max(offset + len, 1 << 17))
  fillOnce(world, buffer)
  return sysSendmsg(world.process, idFd(world, op), len, {
    flags,
    offset,
    buffer,
    ...(op.port === undefined ? {} : { to: addressOf(op) }),
  })
}

function setsockopt(world: PlayerWorld, op: JsonObject): number {
  const option = optionByName(op.opt as string)
  if (option === null) throw new UnsupportedVerb(`no option "${op.opt}"`)
  const value = op.value as Json
  const fd = idFd(world, op)
  if (typeof value === 'number') return setInt(world.process, fd, option.level, option.opt, value)
  const { val } = world.process
  const [on, seconds] = value as readonly number[]
  val.words[0] = on!
  val.words[1] = seconds!
  val.int = on!
  val.len = 8
  return sysSetsockopt(world.process, fd, SOL_SOCKET, SO.SO_LINGER, val)
}

const operations: Readonly<Record<string, Operation>> = {
  udp_socket: inetSocket(SOCK_DGRAM),
  tcp_socket: inetSocket(SOCK_STREAM),

  packet_socket: (world, op) => {
    const type = (op.type === 'dgram' ? SOCK_DGRAM : SOCK_RAW) | SOCK_NONBLOCK
    const protocol = op.protocol as number
    const networkOrder = ((protocol & 0xff) << 8) | (protocol >> 8)
    return world.keep(op.id as string, sysSocket(world.process, AF_PACKET, type, networkOrder))
  },

  unix_pair: (world, op) => {
    const pair = new Int32Array(2)
    const type = (op.type === 'stream' ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK
    const err = sysSocketpair(world.process, AF_UNIX, type, 0, pair)
    if (err < 0) return err
    const [a, b] = op.ids as readonly string[]
    world.keep(a!, pair[0]!)
    world.keep(b!, pair[1]!)
    return 0
  },

  bind: (world, op) => {
    if (op.dev !== undefined) {
      const { id } = world.kernel.links.device(world.process.net, op.dev as string)
      return sysBind(world.process, idFd(world, op), packetAddress(id, op.protocol as number))
    }
    return sysBind(world.process, idFd(world, op), addressOf(op))
  },

  listen: (world, op) => sysListen(world.process, idFd(world, op), op.backlog as number),
  connect: (world, op) => sysConnect(world.process, idFd(world, op), addressOf(op)),
  accept: (world, op) => world.keep(op.as as string, sysAccept(world.process, idFd(world, op), SOCK_NONBLOCK)),
  setsockopt,
  shutdown: (world, op) => sysShutdown(world.process, idFd(world, op), SHUT[op.how as string]!),

  close: (world, op) => {
    const fd = idFd(world, op)
    world.fds.delete(op.id as string)
    return sysClose(world.process, fd)
  },

  send,

  recv: (world, op) =>
    sysRecvmsg(world.process, idFd(world, op), op.len as number, { flags: flagBits(op.flags, MSG_FLAGS) }),

  recv_errqueue: (world, op) =>
    sysRecvmsg(world.process, idFd(world, op), 0, { flags: MSG_ERRQUEUE | MSG_DONTWAIT, wantControl: true }),

  sysctl: (world, op) => {
    const err = world.kernel.sysctlWrite(world.process.net, op.name as string, String(op.value))
    if (err < 0 && err !== -ERRNO.EINVAL) throw new StepError(`no sysctl "${op.name}"`)
    return err
  },

  repeat: (world, op) => {
    let ret = 0
    for (let round = 0; round < (op.times as number); round++)
      for (const inner of op.ops as readonly JsonObject[]) {
        ret = performOperation(world, inner)
        // A failing call ends the round and the operation, as the exception did in the recorder.
        if (ret < 0) return ret
      }
    return ret
  },

  ...allocDeviceOperations,
  ...allocSpliceOperations,
}

/** @returns what the operation returned. @throws UnsupportedVerb for one that is not built. */
export function performOperation(world: PlayerWorld, op: JsonObject): number {
  const operation = operations[op.do as string]
  if (operation === undefined) throw new UnsupportedVerb(`operation "${op.do}" is not modelled`)
  return operation(world, op)
}
