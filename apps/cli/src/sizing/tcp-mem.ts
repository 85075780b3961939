/**
 * `net.ipv4.tcp_mem` for a number of connections: so many connections of the model each have one round trip of
 * data under way, once on their way in (unread) and once on their way out (not acknowledged), and the pages that
 * they are charged are counted.
 */
import type { KernelProfile } from '@netmem/base'
import {
  bootKernel,
  type Kernel,
  type Process,
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysConnect,
  sysListen,
  sysSendmsg,
  sysSocket,
} from '@netmem/kernel-model'
import { AF_INET, SOCK_STREAM, type Sock, SockAddr } from '@netmem/sockmem'
import { sockOf } from '../answers/message-path.js'
import { InputError } from '../errors.js'
import { bytesText, countText, durationText } from '../report/format.js'
import type { SizeAnswer } from './answer.js'

export interface TcpMemQuestion {
  readonly profile: KernelProfile
  readonly connections: number
  readonly rttNs: number
  /** Of all connections together, in bytes per second. */
  readonly rateBytes: number
  /** Of the real machine; null when unknown. */
  readonly memoryBytes: number | null
}

/** Connections that are really made; more would show the same. */
const SAMPLE = 200
const PAGE_BYTES = 4096
const ETHERNET_MTU = 1500
const LOOPBACK = 0x7f000001
const PORT = 7000
/** Room above what an even load needs: loads are not even. */
const PRESSURE_FACTOR = 2
const MOST_FACTOR = 3

interface Connections {
  readonly process: Process
  readonly kernel: Kernel
  readonly clients: readonly number[]
  readonly servers: readonly Sock[]
}

function connectAll(profile: KernelProfile, count: number): Connections {
  const kernel = bootKernel({ profile, cpus: 1, memoryBytes: 2 ** 31, limits: 'memory' })
  const process = kernel.spawn()
  process.files.limit = 2 * count + 16
  const { links, initNet } = kernel
  links.setMtu(initNet.lo, ETHERNET_MTU)
  for (const offload of ['gso', 'tso', 'gro']) links.setFeature(initNet.lo, offload, false)
  const address = new SockAddr()
  address.family = AF_INET
  address.addr = LOOPBACK
  address.port = PORT
  const listening = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  sysBind(process, listening, address)
  sysListen(process, listening, 128)
  const clients: number[] = []
  const servers: Sock[] = []
  for (let i = 0; i < count; i++) {
    const client = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    sysConnect(process, client, address)
    kernel.passTime(1e5)
    const server = sysAccept(process, listening, SOCK_NONBLOCK)
    if (server < 0) throw new InputError(`${count} connections: the model could not make them all`)
    clients.push(client)
    servers.push(sockOf(process, server))
  }
  return { process, kernel, clients, servers }
}

/** Pages charged to a socket: what it holds and what it has in hand. */
const pagesOf = (sk: Sock): number => (sk.rmemAlloc + sk.wmemQueued + sk.forwardAlloc) / PAGE_BYTES
const total = (socks: readonly Sock[]): number => socks.reduce((sum, sk) => sum + pagesOf(sk), 0)

/** Every connection gets so many bytes, which nobody reads. @returns pages of the receivers, bytes that arrived. */
function unread(profile: KernelProfile, count: number, share: number): { pages: number; arrived: number } {
  const { process, kernel, clients, servers } = connectAll(profile, count)
  const left = clients.map(() => share)
  for (let stuck = 0; stuck < 3; ) {
    let moved = 0
    for (const [i, client] of clients.entries()) {
      if (left[i] === 0) continue
      const ret = sysSendmsg(process, client, Math.min(left[i]!, 1 << 16))
      if (ret <= 0) continue
      left[i]! -= ret
      moved += ret
    }
    kernel.passTime(2e6)
    if (moved === 0) stuck += 1
    if (left.every((bytes) => bytes === 0)) break
  }
  kernel.passTime(60e6)
  return { pages: total(servers), arrived: share * count - left.reduce((sum, bytes) => sum + bytes, 0) }
}

/** Every connection writes so many bytes, which nobody acknowledges. @returns pages of the senders. */
function unacknowledged(profile: KernelProfile, count: number, share: number): { pages: number; taken: number } {
  const { process, kernel, clients } = connectAll(profile, count)
  kernel.links.xdpAttach(kernel.initNet.lo, { action: 'drop', native: false, frags: false })
  let taken = 0
  for (const client of clients)
    for (let left = share; left > 0; ) {
      const ret = sysSendmsg(process, client, Math.min(left, 1 << 16))
      if (ret <= 0) break
      left -= ret
      taken += ret
    }
  return { pages: total(clients.map((fd) => sockOf(process, fd))), taken }
}

export function sizeTcpMem(question: TcpMemQuestion): SizeAnswer {
  const { profile, connections, rttNs, rateBytes, memoryBytes } = question
  const share = Math.max(1, Math.ceil((rateBytes * (rttNs / 1e9)) / connections))
  // Large shares need fewer connections to show what one costs.
  const sample = Math.max(1, Math.min(connections, SAMPLE, Math.floor((64 << 20) / share)))
  if (share > 256 << 20)
    throw new InputError(
      `${bytesText(share)} under way in one connection: no socket buffer holds that; expected less rate, a shorter time or more connections`,
    )
  const [inward, outward] = [unread(profile, sample, share), unacknowledged(profile, sample, share)]
  const scale = connections / sample
  const [inPages, outPages] = [Math.ceil(inward.pages * scale), Math.ceil(outward.pages * scale)]
  const need = inPages + outPages
  const [pressure, most] = [need * PRESSURE_FACTOR, need * MOST_FACTOR]
  const limited = inward.arrived < sample * share || outward.taken < sample * share
  const assumptions = [
    `the rate is shared evenly: each connection has ${bytesText(share)} under way, in segments for an MTU of 1500`,
    'all of it is held twice at the worst: unread by the program, and sent but not acknowledged (a proxy; a pure server or client needs one of the two)',
    `${countText(sample)} connections were made on the model${scale > 1 ? `, the rest counted like them` : ''}`,
    `pressure begins at ${PRESSURE_FACTOR} times that, the limit is ${MOST_FACTOR} times: real loads are uneven`,
  ]
  if (limited)
    assumptions.push(
      'a single connection could not hold its share: its buffers (net.ipv4.tcp_rmem, tcp_wmem) bound it first',
    )
  const bytes = most * PAGE_BYTES
  return {
    schema: 'netmem-size/1',
    what: 'tcp_mem',
    kernel: profile.name,
    question: `${countText(connections)} connections, ${bytesText(rateBytes)}/s together, round trip ${durationText(rttNs)}`,
    assumptions,
    measured: [
      {
        name: 'unread',
        value: inPages,
        unit: 'pages',
        about: `${bytesText((inPages * PAGE_BYTES) / connections)} a connection, for ${bytesText(share)} of data`,
      },
      {
        name: 'not acknowledged',
        value: outPages,
        unit: 'pages',
        about: `${bytesText((outPages * PAGE_BYTES) / connections)} a connection`,
      },
      { name: 'both', value: need, unit: 'pages', about: bytesText(need * PAGE_BYTES) },
      { name: 'the limit', value: most, unit: 'pages', about: bytesText(bytes) },
    ],
    settings: [`net.ipv4.tcp_mem = ${need} ${pressure} ${most}`],
    check: [
      'mem of the line "TCP:" in /proc/net/sockstat, in pages, against these numbers',
      'nstat TcpExtTCPMemoryPressures stays the same while the load is on',
    ],
    problem:
      memoryBytes !== null && bytes > memoryBytes / 2
        ? `the limit is ${bytesText(bytes)}, more than half of the machine's ${bytesText(memoryBytes)}: fewer connections, or less for each`
        : null,
  }
}
