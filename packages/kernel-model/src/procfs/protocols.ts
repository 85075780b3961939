/** /proc/net/protocols: one line per protocol, the one registered last first. */
import { type Proto, protoMemoryAllocated, protoMemoryPressure } from '@netmem/sockmem'
import type { Kernel } from '../kernel.js'

/** The methods whose presence is shown by a letter, in the order of the columns. */
const METHODS = [
  'close',
  'connect',
  'disconnect',
  'accept',
  'ioctl',
  'init',
  'destroy',
  'shutdown',
  'setsockopt',
  'getsockopt',
  'sendmsg',
  'recvmsg',
  'bind',
  'backlog_rcv',
  'hash',
  'unhash',
  'get_port',
  'enter_memory_pressure',
] as const
const COLUMNS = [
  'cl',
  'co',
  'di',
  'ac',
  'io',
  'in',
  'de',
  'sh',
  'ss',
  'gs',
  'se',
  're',
  'bi',
  'br',
  'ha',
  'uh',
  'gp',
  'em',
]
const SENDPAGE = 12

/** Inserts what belongs to `sendpage`, which kernels that have it show before `bind`. */
const withSendpage = <T>(list: readonly T[], sendpage: T | null): T[] =>
  sendpage === null ? [...list] : [...list.slice(0, SENDPAGE), sendpage, ...list.slice(SENDPAGE)]

/** Models `proto_seq_printf` (net/core/sock.c). */
function protoSeqPrintf(proto: Proto, hasSendpage: boolean): string {
  const methods = new Set(proto.methods.split(','))
  const letters = withSendpage(
    METHODS.map((method) => methods.has(method)),
    hasSendpage ? methods.has('sendpage') : null,
  )
  const fixed = [
    proto.name.padEnd(9),
    String(proto.objSize).padStart(4),
    String(proto.sockets).padStart(6),
    ` ${String(protoMemoryAllocated(proto)).padStart(6)}`,
    `  ${protoMemoryPressure(proto).padEnd(3)}`,
    String(proto.maxHeader).padStart(6),
    `  ${(proto.slab ? 'yes' : 'no').padEnd(3)}`,
    ` ${'kernel'.padEnd(10)}`,
  ].join(' ')
  return `${fixed} ${letters.map((has) => (has ? ' y' : ' n')).join(' ')}`
}

/** Models `proto_seq_show` (net/core/sock.c). @returns the file's text. */
export function protocolsSeqShow(kernel: Kernel): string {
  const { sendpage } = kernel.profile.features
  const head = `${'protocol'.padEnd(9)} size sockets  memory press maxhdr  slab module     `
  const columns = withSendpage(COLUMNS, sendpage ? 'sp' : null).join(' ')
  const lines = [...kernel.socks.protos].reverse().map((proto) => protoSeqPrintf(proto, sendpage))
  return `${[`${head}${columns}`, ...lines].join('\n')}\n`
}
