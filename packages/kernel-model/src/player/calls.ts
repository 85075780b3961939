/**
 * Short forms of system calls for verbs: addresses of loopback, options by number, and the nine numbers of
 * SO_MEMINFO.
 */
import { AF_INET, AF_INET6, SO, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, SockAddr } from '@netmem/sockmem'
import { ipv4Word } from '../ipv4.js'
import type { Process } from '../process.js'
import { SOCK_NONBLOCK, sysGetname, sysGetsockopt, sysRecvmsg, sysSetsockopt, sysSocket } from '../syscalls.js'
import type { Json } from '../trace/json.js'

/** The names of the nine numbers, in their order. */
export const MEMINFO_KEYS = [
  'rmem_alloc',
  'rcvbuf',
  'wmem_alloc',
  'sndbuf',
  'fwd_alloc',
  'wmem_queued',
  'optmem',
  'backlog',
  'drops',
] as const

export const LOOPBACK = '127.0.0.1'
/** SO_RCVBUF of the tables: the kernel doubles it to 8 MiB. */
export const TABLE_BUFFER = 4 << 20

/** @returns an IPv4 address and port as the kernel keeps them. */
export function ipv4Address(ip: string, port: number): SockAddr {
  const address = new SockAddr()
  address.family = AF_INET
  address.addr = ipv4Word(ip)
  address.port = port
  return address
}

/** @returns the loopback address of the family with a port; 0 lets the kernel choose. */
export function loopback(v6: boolean, port = 0): SockAddr {
  if (!v6) return ipv4Address(LOOPBACK, port)
  const address = new SockAddr()
  address.family = AF_INET6
  address.addr6[3] = 1
  address.port = port
  return address
}

export const inetSocket = (process: Process, v6: boolean, type: number): number =>
  sysSocket(process, v6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK)
export const udpSocket = (process: Process, v6 = false): number => inetSocket(process, v6, SOCK_DGRAM)
export const tcpSocket = (process: Process, v6 = false): number => inetSocket(process, v6, SOCK_STREAM)

/** Sets an option to a 32-bit value. @returns 0 or a negative errno. */
export function setInt(process: Process, fd: number, level: number, opt: number, value: number): number {
  const { val } = process
  val.int = value | 0
  val.len = 4
  val.program = null
  return sysSetsockopt(process, fd, level, opt, val)
}

/** @returns the address that a bound socket has, in an object of its own. */
export function boundAddress(process: Process, fd: number): SockAddr {
  const address = new SockAddr()
  sysGetname(process, fd, false, address)
  return address
}

/** Reads SO_MEMINFO. @returns the nine numbers (valid until the next option is read), or null on an error. */
export function meminfo(process: Process, fd: number): Int32Array | null {
  const { val } = process
  val.len = 36
  return sysGetsockopt(process, fd, SOL_SOCKET, SO.SO_MEMINFO, val) < 0 ? null : val.words
}

/** @returns the nine numbers by name. @param unsigned as the ring traces read them. */
export function meminfoAnswer(words: Int32Array, unsigned: boolean): { [key: string]: Json } {
  return Object.fromEntries(MEMINFO_KEYS.map((key, i) => [key, unsigned ? words[i]! >>> 0 : words[i]!]))
}

/** Receives until the queue is empty. @returns messages and bytes. */
export function receiveAll(process: Process, fd: number, room = 1 << 17): { count: number; bytes: number } {
  let count = 0
  let bytes = 0
  for (;;) {
    const got = sysRecvmsg(process, fd, room)
    if (got < 0) return { count, bytes }
    count += 1
    bytes += got
  }
}
