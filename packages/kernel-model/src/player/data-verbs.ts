/** Verbs that move data, and those that ask how much is where. */
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDHUP,
  MSG_ERRQUEUE,
  SIOCINQ,
  SIOCOUTQ,
  SIOCOUTQNSD,
} from '@netmem/sockmem'
import { type MsgParams, sysIoctl, sysPoll, sysRead, sysRecvmsg, sysSendmsg, sysWrite } from '../syscalls.js'
import type { Json, JsonObject } from '../trace/json.js'
import { flagBits, MSG_FLAGS } from '../uapi.js'
import { type Answer, repeatedAnswer, retAnswer } from './answer.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const UNTIL_MAX = 1_000_000
const ERRQUEUE_ROOM = 8192

const POLL_NAMES: readonly (readonly [number, string])[] = [
  [EPOLLIN, 'IN'],
  [EPOLLPRI, 'PRI'],
  [EPOLLOUT, 'OUT'],
  [EPOLLERR, 'ERR'],
  [EPOLLHUP, 'HUP'],
  [EPOLLRDHUP, 'RDHUP'],
]

/** @returns the call that a send verb makes, ready to be repeated. */
function sender(world: PlayerWorld, args: JsonObject): () => number {
  const { process } = world
  const fd = world.fd(args.id as string)
  const len = args.len as number
  const params: MsgParams = {
    flags: flagBits(args.flags, MSG_FLAGS),
    ...(typeof args.to === 'string' ? { to: world.address(args.to) } : {}),
  }
  return () => sysSendmsg(process, fd, len, params)
}

function receiver(world: PlayerWorld, args: JsonObject): () => number {
  const { process } = world
  const fd = world.fd(args.id as string)
  const len = args.len as number
  const params: MsgParams = { flags: flagBits(args.flags, MSG_FLAGS) }
  // Whoever recorded a receive of no bytes made no call: the queue stays as it is.
  if (len === 0) return () => 0
  return () => sysRecvmsg(process, fd, len, params)
}

const reader = (world: PlayerWorld, args: JsonObject): (() => number) => {
  const fd = world.fd(args.id as string)
  return () => sysRead(world.process, fd, args.len as number)
}

const writer = (world: PlayerWorld, args: JsonObject): (() => number) => {
  const fd = world.fd(args.id as string)
  return () => sysWrite(world.process, fd, args.len as number)
}

/** Every repeated verb stops where a call returns nothing although something was asked for. */
const many = (call: () => number, args: JsonObject, limit: Json | undefined): Answer =>
  repeatedAnswer((limit as number | undefined) ?? UNTIL_MAX, (args.len as number) > 0, call)

const query =
  (cmd: number) =>
  (world: PlayerWorld, args: JsonObject): Answer => {
    const value = sysIoctl(world.process, world.fd(args.id as string), cmd)
    return value < 0 ? retAnswer(value) : { ret: 0, value }
  }

/** One message of the error queue. */
function readErrqueue(world: PlayerWorld, id: string): Answer {
  const { process } = world
  const ret = sysRecvmsg(process, world.fd(id), ERRQUEUE_ROOM, { flags: MSG_ERRQUEUE, wantControl: true })
  if (ret < 0) return retAnswer(ret)
  const { msg } = process
  if (!msg.hasErr) return { ret }
  const { eeInfo, eeData, eeCode, eeOrigin, eeErrno } = msg.err
  return { ret, lo: eeInfo >>> 0, hi: eeData >>> 0, code: eeCode, origin: eeOrigin, ee_errno: eeErrno }
}

export const dataHandlers: VerbHandlers = {
  send: (world, args) => retAnswer(sender(world, args)()),
  recv: (world, args) => retAnswer(receiver(world, args)()),
  send_many: (world, args) => many(sender(world, args), args, args.count),
  recv_many: (world, args) => many(receiver(world, args), args, args.count),
  send_until: (world, args) => many(sender(world, args), args, args.max),
  recv_until: (world, args) => many(receiver(world, args), args, args.max),
  read: (world, args) => retAnswer(reader(world, args)()),
  write: (world, args) => retAnswer(writer(world, args)()),
  read_until: (world, args) => many(reader(world, args), args, args.max),
  write_until: (world, args) => many(writer(world, args), args, args.max),

  inq: query(SIOCINQ),
  outq: query(SIOCOUTQ),
  outqnsd: query(SIOCOUTQNSD),

  poll: (world, args) => {
    const ready = sysPoll(world.process, world.fd(args.id as string))
    if (ready < 0) return { events: ['NVAL'] }
    return { events: POLL_NAMES.filter(([bit]) => (ready & bit) !== 0).map(([, name]) => name) }
  },

  errqueue: (world, args) => readErrqueue(world, args.id as string),

  errqueue_drain: (world, args) => {
    const msgs: Json[] = []
    for (;;) {
      const answer = readErrqueue(world, args.id as string)
      if (answer.errno !== undefined) return { msgs, errno: answer.errno }
      msgs.push([answer.lo!, answer.hi!, answer.code!, answer.origin!, answer.ee_errno!])
    }
  },
}
