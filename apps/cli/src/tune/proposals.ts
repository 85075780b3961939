/**
 * Settings proposed to a machine, each with the sign or the load that calls for it and the memory it can cost. A
 * machine that shows no sign of shortage is told so: nothing is changed for the sake of changing it.
 */
import { bootLimits, type ProcHost } from '@netmem/kernel-model'
import { bytesText, countText, plural } from '../report/format.js'
import { type MachineSigns, sysctlText } from './machine-signs.js'

export interface Proposal {
  readonly name: string
  readonly current: string
  readonly proposed: string
  readonly reason: string
  /** What it can cost, in words. */
  readonly cost: string
}

/** A load that the machine is to carry, if one was given. */
export interface Load {
  readonly connections: number
  readonly rttNs: number
  /** Of all connections together, in bytes per second. */
  readonly rateBytes: number
  /** What the model needs for it: the three numbers of tcp_mem, in pages. */
  readonly tcpMem: readonly number[]
}

const PAGE_BYTES = 4096
/** One packet of a full Ethernet frame in a receive queue, as the model charges it. */
const FRAME_TRUESIZE = 2304
/** Shares of memory that a proposal never goes above. */
const PROTOCOL_SHARE = 4
const SOCKET_SHARE = 64
/** From here on a squeeze is not by chance. */
const SQUEEZE_SHARE = 0.001

export function proposals(host: ProcHost, signs: MachineSigns, load: Load | null): Proposal[] {
  const wanted = new Wanted(host)
  fromMistakes(wanted, signs)
  fromCounters(wanted, signs)
  if (load !== null) fromLoad(wanted, signs, load)
  return wanted.list()
}

/** Collects what is wanted; of two wishes for one setting the larger counts, with both reasons. */
class Wanted {
  private readonly found = new Map<string, { current: string; values: number[]; reasons: string[]; cost: string }>()

  constructor(private readonly host: ProcHost) {}

  numbers(name: string): number[] | null {
    const before = this.found.get(name)
    if (before !== undefined) return before.values
    const text = sysctlText(this.host, name)
    const values = text?.split(' ').map(Number) ?? null
    return values?.some((value) => !Number.isFinite(value)) === true ? null : values
  }

  /** Raises numbers that are below `values`; never lowers. */
  atLeast(name: string, values: readonly number[], reason: string, cost: string): void {
    const now = this.numbers(name)
    if (now === null || now.length !== values.length || values.every((value, i) => value <= now[i]!)) return
    this.set(
      name,
      now.map((value, i) => Math.max(value, Math.round(values[i]!))),
      reason,
      cost,
    )
  }

  set(name: string, values: readonly number[], reason: string, cost: string): void {
    const before = this.found.get(name)
    const current = before?.current ?? sysctlText(this.host, name)
    if (current === null) return
    this.found.set(name, { current, values: [...values], reasons: [...(before?.reasons ?? []), reason], cost })
  }

  list(): Proposal[] {
    return [...this.found].map(([name, { current, values, reasons, cost }]) => ({
      name,
      current,
      proposed: values.join(' '),
      reason: reasons.join('; '),
      cost,
    }))
  }
}

/** Settings that cannot work on this machine: above all bytes where pages are counted. */
function fromMistakes(wanted: Wanted, { memoryBytes }: MachineSigns): void {
  if (memoryBytes === 0) return
  const usual = bootLimits(Math.floor((memoryBytes / PAGE_BYTES) * 0.97), 6291456, memoryBytes / PAGE_BYTES)
  for (const name of ['net.ipv4.tcp_mem', 'net.ipv4.udp_mem']) {
    const now = wanted.numbers(name)
    const text = usual[name]
    if (now === null || now.length !== 3 || text === undefined) continue
    const [low, pressure, most] = now as [number, number, number]
    if (most * PAGE_BYTES <= memoryBytes && low <= pressure && pressure <= most) continue
    const values = text.trim().split(/\s+/).map(Number)
    wanted.set(
      name,
      values,
      most * PAGE_BYTES > memoryBytes
        ? `it counts pages: its limit of ${bytesText(most * PAGE_BYTES)} is more than the machine has, so memory runs out before it works; this is what the kernel chooses at boot`
        : 'its three numbers must rise; this is what the kernel chooses at boot',
      `at most ${bytesText(values[2]! * PAGE_BYTES)}, ${Math.round((100 * values[2]! * PAGE_BYTES) / memoryBytes)} % of memory`,
    )
  }
}

function fromCounters(wanted: Wanted, signs: MachineSigns): void {
  const { counters, softnet, memoryBytes, cpus, pages } = signs
  const count = (name: string): number => counters.get(name) ?? 0
  const grown = (values: readonly number[], factor: number, most: number): number[] =>
    values.map((value) => Math.min(value * factor, Math.max(value, most)))
  const perSocket = memoryBytes / SOCKET_SHARE
  const perProtocol = memoryBytes / PROTOCOL_SHARE / PAGE_BYTES

  const udpBuffer = count('UdpRcvbufErrors') - count('UdpMemErrors')
  const rmem = wanted.numbers('net.core.rmem_default')
  if (udpBuffer > 0 && rmem !== null) {
    const [value] = grown(rmem, 2, perSocket) as [number]
    const why = `${plural(udpBuffer, 'UDP datagram was', 'UDP datagrams were')} dropped because a receive buffer was full (UdpRcvbufErrors)`
    wanted.atLeast(
      'net.core.rmem_default',
      [value],
      why,
      `${bytesText(value)} for each socket whose reader falls behind`,
    )
    wanted.atLeast(
      'net.core.rmem_max',
      [value],
      'programs may then ask for as much',
      'nothing until a program asks for it',
    )
  }
  for (const [name, errors, used, words] of [
    ['net.ipv4.udp_mem', count('UdpMemErrors'), pages.udp, 'UDP datagrams were refused by it (UdpMemErrors)'],
    [
      'net.ipv4.tcp_mem',
      count('TcpExtTCPMemoryPressures'),
      pages.tcp,
      'times TCP came under memory pressure (TCPMemoryPressures)',
    ],
  ] as const) {
    const now = wanted.numbers(name)
    if (now === null || now.length !== 3 || (errors === 0 && used < now[1]!)) continue
    const values = grown(now, 1.5, perProtocol)
    const why =
      errors > 0 ? `${countText(errors)} ${words}` : `it stands at ${countText(used)} pages, above the middle number`
    wanted.atLeast(name, values.map(Math.floor), why, `at most ${bytesText(values[2]! * PAGE_BYTES)} in all`)
  }
  const pruned = count('TcpExtRcvPruned') + count('TcpExtTCPRcvQDrop') + count('TcpExtOfoPruned')
  const tcpRmem = wanted.numbers('net.ipv4.tcp_rmem')
  if (pruned > 0 && tcpRmem?.length === 3) {
    const most = Math.min(tcpRmem[2]! * 2, Math.max(tcpRmem[2]!, perSocket))
    wanted.atLeast(
      'net.ipv4.tcp_rmem',
      [tcpRmem[0]!, tcpRmem[1]!, most],
      `${plural(pruned, 'packet was', 'packets were')} dropped from full TCP receive queues (RcvPruned, TCPRcvQDrop, OfoPruned)`,
      `up to ${bytesText(most)} for a connection whose reader falls behind; the sum stays below net.ipv4.tcp_mem`,
    )
  }
  const backlog = wanted.numbers('net.core.netdev_max_backlog')
  if (softnet.dropped > 0 && backlog !== null) {
    const [value] = grown(backlog, 2, 65536) as [number]
    wanted.atLeast(
      'net.core.netdev_max_backlog',
      [value],
      `${plural(softnet.dropped, 'packet', 'packets')} found the input queue of a processor full (softnet_stat)`,
      `${bytesText(value * FRAME_TRUESIZE * Math.max(1, cpus))} on ${plural(cpus, 'processor')} when all queues are full`,
    )
  }
  if (softnet.squeezed > SQUEEZE_SHARE * softnet.processed && softnet.squeezed > 100) {
    const why = `polling stopped early ${countText(softnet.squeezed)} times in ${countText(softnet.processed)} packets (time_squeeze)`
    for (const name of ['net.core.netdev_budget', 'net.core.netdev_budget_usecs']) {
      const now = wanted.numbers(name)
      if (now !== null)
        wanted.atLeast(name, grown(now, 2, 1 << 20), why, 'no memory; programs wait a little longer for the processor')
    }
  }
  const somaxconn = wanted.numbers('net.core.somaxconn')
  if (count('TcpExtListenOverflows') > 0 && somaxconn !== null)
    wanted.atLeast(
      'net.core.somaxconn',
      grown(somaxconn, 2, 65535),
      `${plural(count('TcpExtListenOverflows'), 'connection')} found a listener full (ListenOverflows); the program's own backlog counts too`,
      'a TCP socket (about 2.5 kB) for each connection that waits',
    )
}

function fromLoad(wanted: Wanted, { memoryBytes }: MachineSigns, load: Load): void {
  const underWay = load.rateBytes * (load.rttNs / 1e9)
  // One connection alone should fill the path; half of a buffer is overhead.
  const one = Math.min(2 * underWay, memoryBytes === 0 ? 2 * underWay : memoryBytes / SOCKET_SHARE)
  const why = `one connection fills the path only with ${bytesText(underWay)} under way, and half of a buffer is overhead`
  for (const name of ['net.ipv4.tcp_rmem', 'net.ipv4.tcp_wmem']) {
    const now = wanted.numbers(name)
    if (now?.length === 3)
      wanted.atLeast(
        name,
        [now[0]!, now[1]!, one],
        why,
        `up to ${bytesText(one)} a connection; the sum stays below net.ipv4.tcp_mem`,
      )
  }
  wanted.atLeast(
    'net.ipv4.tcp_mem',
    load.tcpMem,
    `${plural(load.connections, 'connection')} of that load, tried on the model`,
    `at most ${bytesText(load.tcpMem[2]! * PAGE_BYTES)} in all`,
  )
}
