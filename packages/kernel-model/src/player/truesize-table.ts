/**
 * The verb that measures one message of every length: what it costs its receiver (or, on AF_UNIX, its
 * sender). 65,520 lengths are ordinary, so nothing here is slower than the calls themselves.
 */
import { errnoName } from '@netmem/base'
import { AF_UNIX, MSG_MORE, SO, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET } from '@netmem/sockmem'
import type { Process } from '../process.js'
import {
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysListen,
  sysRecvmsg,
  sysSendmsg,
  sysSocketpair,
} from '../syscalls.js'
import type { JsonObject } from '../trace/json.js'
import { type Segment, unitSlopeSegments } from '../trace/segments.js'
import { SOL_TCP, TCP_OPTIONS } from '../uapi.js'
import { type Answer, UnsupportedVerb } from './answer.js'
import { boundAddress, loopback, meminfo, setInt, TABLE_BUFFER, tcpSocket, udpSocket } from './calls.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const RMEM_ALLOC = 0
const WMEM_ALLOC = 2
const ROOM = 200_000

interface Table {
  readonly from: number
  readonly to: number
  readonly v6: boolean
  readonly cork: number | null
}

type Value = number | string

function udpLoopback(process: Process, table: Table): Value[] {
  const rx = udpSocket(process, table.v6)
  sysBind(process, rx, loopback(table.v6))
  setInt(process, rx, SOL_SOCKET, SO.SO_RCVBUFFORCE, TABLE_BUFFER)
  const tx = udpSocket(process, table.v6)
  sysConnect(process, tx, boundAddress(process, rx))
  setInt(process, tx, SOL_SOCKET, SO.SO_SNDBUFFORCE, TABLE_BUFFER)
  const values: Value[] = []
  const more = { flags: MSG_MORE }
  for (let n = table.from; n <= table.to; n++) {
    const corked = table.cork === null ? 0 : sysSendmsg(process, tx, table.cork, more)
    const sent = corked < 0 ? corked : sysSendmsg(process, tx, n)
    if (sent < 0) {
      values.push(errnoName(sent))
      continue
    }
    const truesize = meminfo(process, rx)![RMEM_ALLOC]!
    values.push(truesize === 0 ? 'LOST' : truesize)
    if (truesize !== 0) sysRecvmsg(process, rx, ROOM)
  }
  sysClose(process, rx)
  sysClose(process, tx)
  return values
}

function tcpLoopback(process: Process, table: Table): Value[] {
  const listening = tcpSocket(process, table.v6)
  setInt(process, listening, SOL_SOCKET, SO.SO_RCVBUFFORCE, TABLE_BUFFER)
  sysBind(process, listening, loopback(table.v6))
  sysListen(process, listening, 1)
  const client = tcpSocket(process, table.v6)
  setInt(process, client, SOL_SOCKET, SO.SO_SNDBUFFORCE, TABLE_BUFFER)
  setInt(process, client, SOL_TCP, TCP_OPTIONS.TCP_NODELAY, 1)
  sysConnect(process, client, boundAddress(process, listening))
  const server = sysAccept(process, listening, SOCK_NONBLOCK)
  sysClose(process, listening)
  const values: Value[] = []
  for (let n = table.from; n <= table.to; n++) {
    const sent = sysSendmsg(process, client, n)
    if (sent < 0) {
      values.push(errnoName(sent))
      continue
    }
    values.push(meminfo(process, server)![RMEM_ALLOC]!)
    while (sysRecvmsg(process, server, ROOM) > 0);
  }
  sysClose(process, client)
  sysClose(process, server)
  return values
}

function unixPair(process: Process, table: Table, type: number): Value[] {
  const pair = new Int32Array(2)
  sysSocketpair(process, AF_UNIX, type | SOCK_NONBLOCK, 0, pair)
  const [tx, rx] = pair as unknown as [number, number]
  setInt(process, tx, SOL_SOCKET, SO.SO_SNDBUFFORCE, TABLE_BUFFER)
  const empty = meminfo(process, tx)![WMEM_ALLOC]!
  const values: Value[] = []
  for (let n = table.from; n <= table.to; n++) {
    const sent = sysSendmsg(process, tx, n)
    if (sent < 0) {
      values.push(errnoName(sent))
      continue
    }
    values.push(meminfo(process, tx)![WMEM_ALLOC]! - empty)
    sysRecvmsg(process, rx, 1 << 20)
  }
  sysClose(process, tx)
  sysClose(process, rx)
  return values
}

const paths: Readonly<Record<string, (process: Process, table: Table) => Value[]>> = {
  'udp-loopback': udpLoopback,
  'tcp-loopback': tcpLoopback,
  'unix-dgram': (process, table) => unixPair(process, table, SOCK_DGRAM),
  'unix-stream': (process, table) => unixPair(process, table, SOCK_STREAM),
}

function truesizeTable(world: PlayerWorld, args: JsonObject): Answer {
  const measure = paths[args.path as string]
  if (measure === undefined)
    throw new UnsupportedVerb(`no path "${args.path}"; there are ${Object.keys(paths).join(', ')}`)
  const from = args.from as number
  const values = measure(world.process, {
    from,
    to: args.to as number,
    v6: args.v6 === true,
    cork: (args.cork as number | undefined) ?? null,
  })
  return { segments: unitSlopeSegments(values, from) as Segment[] }
}

export const truesizeHandlers: VerbHandlers = { truesize_table: truesizeTable }
