/** Columns that the socket files of /proc/net share: addresses, times, pointers. */

import type { Sock } from '@netmem/sockmem'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'

/** Models `USER_HZ`: the tick that /proc shows times in. */
const USER_HZ = 100

/** Models `%0nX`. */
export const hex = (value: number, digits: number): string =>
  (value >>> 0).toString(16).toUpperCase().padStart(digits, '0')

const swab = (word: number): number =>
  ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)

/** Models the address column of IPv4: the word as a little-endian machine reads it from the packet, and the port. */
export const v4End = (addr: number, port: number): string => `${hex(swab(addr), 8)}:${hex(port, 4)}`

/** Models the address column of IPv6. */
export const v6End = (addr: Int32Array, port: number): string =>
  `${[...addr].map((word) => hex(swab(word), 8)).join('')}:${hex(port, 4)}`

/** Models `%pK`: sixteen digits that stand for a socket. Here they are its address in the machine's memory. */
export const pointer = (addr: number): string => (addr >>> 0).toString(16).padStart(16, '0')

/** The number of a socket's inode, 0 when its user is gone. Differs: it is the socket's number on this machine. */
export const sockINo = (sk: Sock): number => (sk.socket === 0 ? 0 : sk.id)

/** Models `jiffies_to_clock_t` and `jiffies_delta_to_clock_t`: never below 0. */
export const jiffiesToClock = (kernel: Kernel, jiffies: number): number =>
  Math.floor((Math.max(0, jiffies) * USER_HZ) / kernel.profile.HZ)

/** @returns sockets of a namespace that belong to one of these protocols, by number. */
export function* socketsOf(kernel: Kernel, net: Net, protos: readonly string[]): Generator<Sock> {
  for (const sk of kernel.socks.socks) if (sk != null && sk.net === net.ns && protos.includes(sk.proto.name)) yield sk
}

export const decimal = (value: number, width: number): string => String(value).padStart(width)
