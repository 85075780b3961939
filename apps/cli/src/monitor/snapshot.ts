/** One look at a machine's network memory, through the files of /proc and /sys that every tool reads. */
import type { ProcHost } from '@netmem/kernel-model'
import { machineSigns, sysctlText } from '../tune/machine-signs.js'

export interface Snapshot {
  /** Milliseconds since the epoch of whoever looks. */
  readonly atMs: number
  readonly release: string
  readonly memoryBytes: number
  readonly sockets: {
    readonly used: number
    readonly tcp: number
    readonly orphans: number
    readonly timeWait: number
    readonly udp: number
  }
  readonly protocols: readonly ProtocolMemory[]
  readonly slabs: readonly SlabLine[]
  readonly softnet: { readonly processed: number; readonly dropped: number; readonly squeezed: number }
  readonly devices: readonly DeviceLine[]
  /** Counters of drops and pressure by the names of nstat. */
  readonly counters: Readonly<Record<string, number>>
}

/** Memory of a protocol, in pages, against its three limits. */
export interface ProtocolMemory {
  readonly name: 'TCP' | 'UDP'
  readonly pages: number
  readonly low: number
  readonly pressure: number
  readonly high: number
}

export interface SlabLine {
  readonly name: string
  readonly active: number
  readonly total: number
  readonly objectBytes: number
}

export interface DeviceLine {
  readonly name: string
  readonly rxPackets: number
  readonly rxBytes: number
  readonly txPackets: number
  readonly txBytes: number
  readonly rxDropped: number
  readonly txDropped: number
  readonly rxFifo: number
}

/** What is watched: each of these is somebody's lost data, or the step before it. */
export const WATCHED = [
  'UdpRcvbufErrors',
  'UdpSndbufErrors',
  'UdpMemErrors',
  'TcpExtTCPMemoryPressures',
  'TcpExtPruneCalled',
  'TcpExtRcvPruned',
  'TcpExtTCPRcvQDrop',
  'TcpExtTCPOFODrop',
  'TcpExtTCPBacklogDrop',
  'TcpExtTCPAbortOnMemory',
  'TcpExtListenOverflows',
  'IpReasmFails',
] as const

const SLABS = /^(skbuff_\w+|TCP|TCPv6|UDP|UDPv6|UNIX|UNIX-STREAM|sock_inode_cache)\s/

export function snapshot(host: ProcHost, atMs: number): Snapshot {
  const signs = machineSigns(host)
  const sockstat = host.read('/proc/net/sockstat') ?? ''
  const number = (pattern: RegExp): number => Number(pattern.exec(sockstat)?.[1] ?? 0)
  const protocol = (name: 'TCP' | 'UDP', pages: number): ProtocolMemory => {
    const limits = (sysctlText(host, `net.ipv4.${name.toLowerCase()}_mem`) ?? '0 0 0').split(' ').map(Number)
    return { name, pages, low: limits[0] ?? 0, pressure: limits[1] ?? 0, high: limits[2] ?? 0 }
  }
  return {
    atMs,
    release: signs.release,
    memoryBytes: signs.memoryBytes,
    sockets: {
      used: number(/^sockets: used (\d+)/m),
      tcp: number(/^TCP: inuse (\d+)/m),
      orphans: number(/^TCP: .*orphan (\d+)/m),
      timeWait: number(/^TCP: .*tw (\d+)/m),
      udp: number(/^UDP: inuse (\d+)/m),
    },
    protocols: [protocol('TCP', signs.pages.tcp), protocol('UDP', signs.pages.udp)],
    slabs: slabLines(host.read('/proc/slabinfo') ?? ''),
    softnet: signs.softnet,
    devices: deviceLines(host.read('/proc/net/dev') ?? ''),
    counters: Object.fromEntries(WATCHED.map((name) => [name, signs.counters.get(name) ?? 0])),
  }
}

const slabLines = (text: string): SlabLine[] =>
  text
    .split('\n')
    .filter((line) => SLABS.test(line))
    .map((line) => {
      const [name, active, total, size] = line.split(/\s+/)
      return { name: name!, active: Number(active), total: Number(total), objectBytes: Number(size) }
    })

function deviceLines(text: string): DeviceLine[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*([^:]+):\s*(.*)$/.exec(line)
    if (match === null) return []
    const columns = match[2]!.trim().split(/\s+/).map(Number)
    if (columns.length < 16) return []
    const [rxBytes, rxPackets, , rxDropped, rxFifo] = columns as [number, number, number, number, number]
    const [txBytes, txPackets, , txDropped] = columns.slice(8) as [number, number, number, number]
    return [{ name: match[1]!, rxPackets, rxBytes, txPackets, txBytes, rxDropped, txDropped, rxFifo }]
  })
}

/** Counters per second between two looks. A counter that fell was reset: its rate is 0. */
export function perSecond(now: number, before: number, from: Snapshot, to: Snapshot): number {
  const seconds = (to.atMs - from.atMs) / 1000
  return seconds <= 0 || now < before ? 0 : (now - before) / seconds
}
