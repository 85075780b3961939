/**
 * Option and flag names as users type them, with their levels and numbers: what turns `"TCP_NODELAY"` of a
 * trace, a scenario or a command line into arguments of a system call.
 */
import { SOL_TCP, TCP_OPT } from '@netmem/inet'
import { SO, SOL_SOCKET } from '@netmem/sockmem'

export { SOL_TCP }
export const SOL_IP = 0
export const SOL_UDP = 17
export const SOL_PACKET = 263
export const SOL_TLS = 282
export const SOL_XDP = 283

/** Models the `TCP_*` numbers of include/uapi/linux/tcp.h: those that TCP knows, and those that it refuses. */
export const TCP_OPTIONS = {
  ...TCP_OPT,
  TCP_FASTOPEN: 23,
  TCP_TIMESTAMP: 24,
  TCP_ZEROCOPY_RECEIVE: 35,
  TCP_TX_DELAY: 37,
} as const

/** Models the `UDP_*` numbers of include/uapi/linux/udp.h. */
export const UDP_OPTIONS = {
  UDP_CORK: 1,
  UDP_ENCAP: 100,
  UDP_NO_CHECK6_TX: 101,
  UDP_NO_CHECK6_RX: 102,
  UDP_SEGMENT: 103,
  UDP_GRO: 104,
} as const

/** Models the `IP_*` numbers of include/uapi/linux/in.h. */
export const IP_OPTIONS = {
  IP_TOS: 1,
  IP_TTL: 2,
  IP_OPTIONS: 4,
  IP_PKTINFO: 8,
  IP_MTU_DISCOVER: 10,
  IP_RECVERR: 11,
  IP_FREEBIND: 15,
} as const

/** Models the `PACKET_*` numbers of include/uapi/linux/if_packet.h. */
export const PACKET_OPTIONS = {
  PACKET_RX_RING: 5,
  PACKET_STATISTICS: 6,
  PACKET_COPY_THRESH: 7,
  PACKET_AUXDATA: 8,
  PACKET_VERSION: 10,
  PACKET_HDRLEN: 11,
  PACKET_RESERVE: 12,
  PACKET_TX_RING: 13,
  PACKET_LOSS: 14,
  PACKET_VNET_HDR: 15,
  PACKET_TX_TIMESTAMP: 16,
  PACKET_TIMESTAMP: 17,
  PACKET_FANOUT: 18,
  PACKET_TX_HAS_OFF: 19,
  PACKET_QDISC_BYPASS: 20,
  PACKET_IGNORE_OUTGOING: 23,
} as const

/** Models the flags of `send` and `recv` by name. */
export const MSG_FLAGS = {
  MSG_OOB: 0x1,
  MSG_PEEK: 0x2,
  MSG_DONTROUTE: 0x4,
  MSG_CTRUNC: 0x8,
  MSG_TRUNC: 0x20,
  MSG_DONTWAIT: 0x40,
  MSG_EOR: 0x80,
  MSG_WAITALL: 0x100,
  MSG_CONFIRM: 0x800,
  MSG_ERRQUEUE: 0x2000,
  MSG_NOSIGNAL: 0x4000,
  MSG_MORE: 0x8000,
  MSG_ZEROCOPY: 0x4000000,
  MSG_FASTOPEN: 0x20000000,
} as const

/** Models the flags of `splice`, `tee` and `vmsplice` by name. */
export const SPLICE_FLAGS = {
  SPLICE_F_MOVE: 1,
  SPLICE_F_NONBLOCK: 2,
  SPLICE_F_MORE: 4,
  SPLICE_F_GIFT: 8,
} as const

const levels: readonly (readonly [number, Readonly<Record<string, number>>])[] = [
  [SOL_SOCKET, SO],
  [SOL_TCP, TCP_OPTIONS],
  [SOL_UDP, UDP_OPTIONS],
  [SOL_IP, IP_OPTIONS],
  [SOL_PACKET, PACKET_OPTIONS],
]

/** @returns level and number of an option by its name, or null when there is no such option. */
export function optionByName(name: string): { level: number; opt: number } | null {
  for (const [level, table] of levels) if (Object.hasOwn(table, name)) return { level, opt: table[name]! }
  return null
}

/**
 * @param value names joined by `|`, a list of names, a number, or nothing.
 * @returns the bits or-ed together. @throws RangeError at a name that is not in the table.
 */
export function flagBits(value: unknown, table: Readonly<Record<string, number>>): number {
  if (value === undefined || value === null) return 0
  if (typeof value === 'number') return value
  const names = typeof value === 'string' ? value.split('|') : (value as readonly string[])
  return names.reduce((bits, name) => {
    if (name === '') return bits
    const bit = table[name]
    if (bit === undefined) throw new RangeError(`no flag "${name}"; there are ${Object.keys(table).join(', ')}`)
    return bits | bit
  }, 0)
}
