/** Verbs of kTLS: the ULP and its keys, records in both directions, and the bytes on the wire. */
import { errnoName } from '@netmem/base'
import { userRead, userWrite } from '@netmem/memory'
import { type Cmsg, MIB_GROUPS, MSG_CTRUNC, MSG_DONTWAIT, MSG_EOR, MSG_TRUNC, mibIndex } from '@netmem/sockmem'
import {
  diskInodeCreate,
  SOL_TLS,
  TLS_CIPHER_AES_CCM_128,
  TLS_CIPHER_AES_GCM_128,
  TLS_CIPHER_AES_GCM_256,
  TLS_CIPHER_ARIA_GCM_128,
  TLS_CIPHER_ARIA_GCM_256,
  TLS_CIPHER_CHACHA20_POLY1305,
  TLS_CIPHER_SM4_CCM,
  TLS_CIPHER_SM4_GCM,
  TLS_GET_RECORD_TYPE,
  TLS_RX,
  TLS_RX_EXPECT_NO_PAD,
  TLS_SET_RECORD_TYPE,
  TLS_TX,
  TLS_TX_ZEROCOPY_RO,
} from '@netmem/zerocopy'
import { O_RDWR } from '../file.js'
import { sysGetsockopt, sysLseek, sysRead, sysRecvmsg, sysSendmsg, sysSetsockopt, sysWrite } from '../syscalls.js'
import type { Json, JsonObject } from '../trace/json.js'
import { flagBits, MSG_FLAGS, SOL_TCP, TCP_OPTIONS } from '../uapi.js'
import { sysOpenInode } from '../vfs-file.js'
import { type Answer, repeatedAnswer, retAnswer, StepError, zeroAnswer } from './answer.js'
import type { VerbHandlers } from './handlers.js'
import { dataAnswer, fromHex, toHex, wireAnswer } from './tls-wire.js'
import type { PlayerWorld } from './world.js'

const CIPHERS: Readonly<Record<string, number>> = {
  AES_GCM_128: TLS_CIPHER_AES_GCM_128,
  AES_GCM_256: TLS_CIPHER_AES_GCM_256,
  AES_CCM_128: TLS_CIPHER_AES_CCM_128,
  CHACHA20_POLY1305: TLS_CIPHER_CHACHA20_POLY1305,
  SM4_GCM: TLS_CIPHER_SM4_GCM,
  SM4_CCM: TLS_CIPHER_SM4_CCM,
  ARIA_GCM_128: TLS_CIPHER_ARIA_GCM_128,
  ARIA_GCM_256: TLS_CIPHER_ARIA_GCM_256,
}
const VERSIONS: Readonly<Record<string, number>> = { '1.2': 0x0303, '1.3': 0x0304 }
const OPTIONS: Readonly<Record<string, number>> = { TLS_TX_ZEROCOPY_RO, TLS_RX_EXPECT_NO_PAD }
/** 6.1's name of a flag that later kernels have not. */
const SEND_FLAGS = { ...MSG_FLAGS, MSG_SENDPAGE_NOTLAST: 0x20000 }
const RECV_FLAG_NAMES = [
  [MSG_EOR, 'MSG_EOR'],
  [MSG_CTRUNC, 'MSG_CTRUNC'],
  [MSG_TRUNC, 'MSG_TRUNC'],
] as const
/** What a pattern's bytes count up to. */
const PATTERN = 251
const UNTIL_MAX = 1_000_000
/** Room of one receive of raw bytes. */
const WIRE_ROOM = 1 << 17

const direction = (args: JsonObject): number => (args.dir === 'TX' ? TLS_TX : TLS_RX)

/** An option that a verb names, or gives as a number. */
function tlsOption(name: Json): number {
  const opt = OPTIONS[name as string]
  if (opt === undefined) throw new StepError(`no TLS option "${String(name)}"`)
  return opt
}

/** Puts bytes into the process's option value. @returns the value. */
function fillValue(world: PlayerWorld, bytes: Uint8Array, len: number): PlayerWorld['process']['val'] {
  const { val } = world.process
  val.words.fill(0)
  new Uint8Array(val.words.buffer).set(bytes.subarray(0, len))
  val.int = val.words[0]!
  val.len = len
  val.text = ''
  return val
}

/** The structure of a cipher's key, as a program would fill it. */
function keyBytes(args: JsonObject): Uint8Array {
  const version = VERSIONS[args.version as string] ?? Number(args.version)
  const cipher = typeof args.cipher === 'number' ? args.cipher : CIPHERS[args.cipher as string]!
  const parts = [args.iv, args.key, args.salt, args.seq].map((part) => fromHex((part as string | undefined) ?? ''))
  return Uint8Array.from([
    version & 0xff,
    version >> 8,
    cipher & 0xff,
    cipher >> 8,
    ...parts.flatMap((part) => [...part]),
  ])
}

/** Fills the send buffer with the pattern, or the bytes that the step gives. @returns their number. */
function fillSend(world: PlayerWorld, args: JsonObject): number {
  const { process, kernel } = world
  if (typeof args.data === 'string') {
    const data = fromHex(args.data)
    userWrite(kernel.mem, process.buffer('send', Math.max(data.length, 1)), 0, data)
    return data.length
  }
  const len = args.len as number
  const start = (args.start as number | undefined) ?? 0
  writePattern(world, start, len)
  return len
}

function writePattern(world: PlayerWorld, start: number, len: number): void {
  const { process, kernel } = world
  const data = Uint8Array.from({ length: len }, (_, j) => (start + j) % PATTERN)
  userWrite(kernel.mem, process.buffer('send', Math.max(len, 1)), 0, data)
}

/** The control message of a send: a type, or what the step gives instead. */
function sendControl(args: JsonObject): Cmsg[] | undefined {
  if (Array.isArray(args.ctl)) {
    const [type, hex] = args.ctl as [number, string]
    const data = fromHex(hex)
    return [{ level: SOL_TLS, type, value: data[0] ?? 0, data }]
  }
  if (typeof args.type !== 'number') return undefined
  return [{ level: SOL_TLS, type: TLS_SET_RECORD_TYPE, value: args.type, data: [args.type] }]
}

function tlsSend(world: PlayerWorld, args: JsonObject): number {
  const len = fillSend(world, args)
  const control = sendControl(args)
  return sysSendmsg(world.process, world.fd(args.id as string), len, {
    flags: flagBits(args.flags, SEND_FLAGS),
    ...(control === undefined ? {} : { control }),
  })
}

function tlsRecv(world: PlayerWorld, args: JsonObject): Answer {
  const { process, kernel } = world
  const len = (args.len as number | undefined) ?? WIRE_ROOM
  const wantControl = args.cmsg !== false
  const ret = sysRecvmsg(process, world.fd(args.id as string), len, {
    flags: flagBits(args.flags, MSG_FLAGS),
    wantControl,
  })
  if (ret < 0) return { errno: errnoName(ret) }
  const answer: Answer = { ret }
  const cmsg = process.msg.control?.find(({ level }) => level === SOL_TLS)
  if (wantControl && cmsg !== undefined) {
    if (cmsg.type === TLS_GET_RECORD_TYPE) answer.type = cmsg.value
    answer.cmsg = cmsg.type
  }
  const flags = RECV_FLAG_NAMES.filter(([bit]) => (process.msg.msgFlags & bit) !== 0).map(([, name]) => name)
  if (flags.length > 0) answer.msg_flags = flags
  const data = userRead(kernel.mem, process.buffer('recv', Math.max(len, 1)), 0, Math.min(ret, len))
  return { ...answer, ...dataAnswer(data) }
}

/** All raw bytes that a socket has. */
function readWire(world: PlayerWorld, fd: number): Uint8Array {
  const { process, kernel } = world
  const chunks: number[] = []
  for (;;) {
    const got = sysRecvmsg(process, fd, WIRE_ROOM, { flags: MSG_DONTWAIT })
    if (got <= 0) return Uint8Array.from(chunks)
    for (const byte of userRead(kernel.mem, process.buffer('recv', WIRE_ROOM), 0, got)) chunks.push(byte)
  }
}

/** What `wire` steps remembered, by name. */
function wires(world: PlayerWorld): Map<string, Uint8Array> {
  const kept = (world.extra.get('wire') as Map<string, Uint8Array> | undefined) ?? new Map<string, Uint8Array>()
  world.extra.set('wire', kept)
  return kept
}

/** The bytes of a `wire_send`: its own, or remembered ones with some of them changed, and cut. */
function wireBytes(world: PlayerWorld, args: JsonObject): Uint8Array {
  if (typeof args.hex === 'string') return fromHex(args.hex)
  const kept = wires(world).get(args.from as string)
  if (kept === undefined) throw new StepError(`no wire step remembered "${String(args.from)}"`)
  const data = kept.slice()
  for (const [at, by] of (args.xor as readonly [number, number][] | undefined) ?? []) data[at] = (data[at] ?? 0) ^ by
  return data.slice((args.begin as number | undefined) ?? 0, (args.end as number | undefined) ?? data.length)
}

export const ktlsHandlers: VerbHandlers = {
  ulp: (world, args) => {
    const name = (args.name as string | undefined) ?? 'tls'
    const { val } = world.process
    val.text = name
    val.len = name.length
    return zeroAnswer(sysSetsockopt(world.process, world.fd(args.id as string), SOL_TCP, TCP_OPTIONS.TCP_ULP, val))
  },

  ulp_get: (world, args) => {
    const { val } = world.process
    val.text = ''
    val.len = (args.optlen as number | undefined) ?? 16
    const err = sysGetsockopt(world.process, world.fd(args.id as string), SOL_TCP, TCP_OPTIONS.TCP_ULP, val)
    return err < 0 ? zeroAnswer(err) : { value: val.text }
  },

  tls_key: (world, args) => {
    const bytes = keyBytes(args)
    const val = fillValue(world, bytes, (args.optlen as number | undefined) ?? bytes.length)
    return zeroAnswer(sysSetsockopt(world.process, world.fd(args.id as string), SOL_TLS, direction(args), val))
  },

  tls_key_get: (world, args) => {
    const val = fillValue(world, new Uint8Array(0), (args.optlen as number | undefined) ?? 40)
    const err = sysGetsockopt(world.process, world.fd(args.id as string), SOL_TLS, direction(args), val)
    if (err < 0) return zeroAnswer(err)
    const bytes = new Uint8Array(val.words.buffer, 0, val.len)
    const answer: Answer = {
      len: val.len,
      version: `0x${((bytes[1]! << 8) | bytes[0]!).toString(16).padStart(4, '0')}`,
      cipher: bytes[2]! | (bytes[3]! << 8),
    }
    if (val.len > 4) answer.rest = toHex(bytes.subarray(4))
    return answer
  },

  tls_opt: (world, args) => {
    const val = fillValue(world, new Uint8Array(0), (args.optlen as number | undefined) ?? 4)
    val.words[0] = args.value as number
    val.int = args.value as number
    const fd = world.fd(args.id as string)
    return zeroAnswer(sysSetsockopt(world.process, fd, SOL_TLS, tlsOption(args.opt!), val))
  },

  tls_opt_get: (world, args) => {
    const val = fillValue(world, new Uint8Array(0), 4)
    const fd = world.fd(args.id as string)
    const err = sysGetsockopt(world.process, fd, SOL_TLS, tlsOption(args.opt!), val)
    return err < 0 ? zeroAnswer(err) : { ret: 0, value: val.words[0]!, len: val.len }
  },

  tls_send: (world, args) => retAnswer(tlsSend(world, args)),

  tls_send_iov: (world, args) => {
    const lens = args.iov as readonly number[]
    const total = lens.reduce((sum, len) => sum + len, 0)
    writePattern(world, 0, total)
    return retAnswer(sysSendmsg(world.process, world.fd(args.id as string), total, { pieces: lens }))
  },

  tls_send_until: (world, args) => {
    const len = fillSend(world, args)
    const fd = world.fd(args.id as string)
    return repeatedAnswer((args.max as number | undefined) ?? UNTIL_MAX, len > 0, () =>
      sysSendmsg(world.process, fd, len),
    )
  },

  tls_recv: tlsRecv,

  wire: (world, args) => {
    const id = args.id as string
    const data = readWire(world, world.fd(id))
    wires(world).set((args.as as string | undefined) ?? id, data)
    return wireAnswer(data, args.hex === true || args.hex === 1)
  },

  wire_send: (world, args) => {
    const data = wireBytes(world, args)
    const { process, kernel } = world
    userWrite(kernel.mem, process.buffer('send', Math.max(data.length, 1)), 0, data)
    return retAnswer(sysSendmsg(process, world.fd(args.id as string), data.length))
  },

  pfile: (world, args) => {
    const { process, kernel } = world
    const size = args.size as number
    writePattern(world, 0, size)
    const fd = sysOpenInode(process, diskInodeCreate(kernel.vfs), O_RDWR)
    const ret = size > 0 ? sysWrite(process, fd, size) : 0
    if (ret < 0) return zeroAnswer(ret)
    sysLseek(process, fd, 0, 0)
    return zeroAnswer(world.keep(args.id as string, fd))
  },

  pwrite_pipe: (world, args) => {
    const len = args.len as number
    writePattern(world, 0, len)
    return retAnswer(sysWrite(world.process, world.fd(args.id as string), len))
  },

  pread_pipe: (world, args) => {
    const { process, kernel } = world
    const len = args.len as number
    const ret = sysRead(process, world.fd(args.id as string), len)
    if (ret < 0) return retAnswer(ret)
    return { ret, ...dataAnswer(userRead(kernel.mem, process.buffer('recv', Math.max(len, 1)), 0, ret)) }
  },

  tls_stat: ({ process }) => {
    const answer: Answer = {}
    for (const name of MIB_GROUPS.Tls!) {
      const value = process.net.ns.mib[mibIndex(`Tls.${name}`)]!
      if (value !== 0) answer[name] = value
    }
    return answer
  },
}
