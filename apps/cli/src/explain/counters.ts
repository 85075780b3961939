/** Counters of nstat, /proc/net/snmp and /proc/net/netstat: what each one counts, and whether data was lost. */
import { countText } from '../report/format.js'
import { type Facts, type Finding, finding, type Level, type Line } from './finding.js'

interface Counter {
  readonly means: string
  /** What to look at when it is not zero. */
  readonly next?: string
  /** How bad a count above zero is. Default: a note. */
  readonly level?: Level
}

const FASTER = 'a faster reader, or a larger SO_RCVBUF (net.core.rmem_max bounds it)'

const counters: Readonly<Record<string, Counter>> = {
  UdpInErrors: {
    means: 'UDP datagrams that were received and not delivered, for any reason; the next counters divide it',
    level: 'over',
  },
  UdpRcvbufErrors: {
    means:
      'UDP datagrams dropped because a receive buffer was full; the data is lost. This also counts what udp_mem refused',
    next: `Which socket: d in "ss -uanm". If UdpMemErrors grows with it, net.ipv4.udp_mem is the limit; if not, ${FASTER}.`,
    level: 'over',
  },
  UdpSndbufErrors: {
    means: 'sends that failed because the send buffer was full (or memory was short)',
    next: 'SO_SNDBUF, net.core.wmem_default.',
  },
  UdpMemErrors: {
    means:
      'UDP datagrams dropped because the whole protocol was above net.ipv4.udp_mem, or their memory group above its limit; the data is lost',
    next: 'Compare UDP mem of /proc/net/sockstat with net.ipv4.udp_mem (both in pages); in a container, memory.max.',
    level: 'over',
  },
  UdpNoPorts: {
    means: 'UDP datagrams for ports that nobody listens on',
    next: 'Is the service up, and bound to the right address?',
  },
  UdpInCsumErrors: { means: 'UDP datagrams with a wrong checksum' },
  UdpInDatagrams: { means: 'UDP datagrams that programs have read', level: 'fine' },
  UdpIgnoredMulti: { means: 'multicast datagrams that no socket wanted', level: 'fine' },
  TcpExtTCPMemoryPressures: {
    means:
      'times TCP came under memory pressure: it was above the middle number of net.ipv4.tcp_mem; windows shrink, nothing is lost yet',
    next: 'TCP mem of /proc/net/sockstat against net.ipv4.tcp_mem (pages); who holds it: "ss -tmn".',
    level: 'near',
  },
  TcpExtTCPMemoryPressuresChrono: { means: 'milliseconds that TCP spent under memory pressure', level: 'near' },
  TcpExtPruneCalled: {
    means:
      'times a TCP receive buffer was so full that the kernel tidied its queues (collapsed small packets); nothing is lost by this alone',
    next: `If TcpExtRcvPruned or TcpExtTCPRcvQDrop is zero, no data was dropped. ${FASTER}.`,
  },
  TcpExtRcvPruned: {
    means: 'packets dropped from a TCP receive queue after tidying did not help; the peer sends them again',
    next: `${FASTER}; net.ipv4.tcp_rmem (third number).`,
    level: 'over',
  },
  TcpExtOfoPruned: {
    means: 'times out-of-order packets were dropped to make room in a TCP receive buffer; the peer sends them again',
    next: 'Loss on the way fills the out-of-order queue: net.ipv4.tcp_rmem (third number) must hold one round trip of data.',
    level: 'over',
  },
  TcpExtTCPRcvCollapsed: {
    means: 'packets that were merged into others to save memory; nothing is lost, CPU time is spent',
  },
  TcpExtTCPRcvQDrop: {
    means: 'segments dropped because the receive queue could not be charged with them; the peer sends them again',
    next: `${FASTER}; net.ipv4.tcp_mem if TcpExtTCPMemoryPressures grows too.`,
    level: 'over',
  },
  TcpExtTCPZeroWindowDrop: {
    means: 'segments dropped because the window was closed: the program does not read',
    next: FASTER,
    level: 'over',
  },
  TcpExtTCPToZeroWindowAdv: {
    means: 'times a TCP receiver closed its window: the program does not read fast enough',
    next: FASTER,
  },
  TcpExtTCPFromZeroWindowAdv: { means: 'times a closed window was opened again', level: 'fine' },
  TcpExtTCPWantZeroWindowAdv: { means: 'times the window could not be closed because it was promised before' },
  TcpExtTCPAbortOnMemory: {
    means: 'connections reset because there were too many orphans or TCP was out of memory; their data is lost',
    next: 'dmesg says which: "too many orphaned sockets" (net.ipv4.tcp_max_orphans) or "out of memory" (net.ipv4.tcp_mem).',
    level: 'over',
  },
  TcpExtTCPOFOQueue: { means: 'segments that came out of order and wait for those before them', level: 'fine' },
  TcpExtTCPOFODrop: {
    means: 'out-of-order segments that found no room; the peer sends them again',
    next: 'net.ipv4.tcp_rmem (third number).',
    level: 'over',
  },
  TcpExtTCPOFOMerge: { means: 'out-of-order segments that were there already', level: 'fine' },
  TcpExtTCPBacklogDrop: {
    means: 'segments dropped because the program held the socket and its backlog was full; the peer sends them again',
    next: 'SO_RCVBUF and SO_SNDBUF bound the backlog; does one thread hold the socket for long?',
    level: 'over',
  },
  TcpExtPFMemallocDrop: {
    means: 'packets dropped because only emergency memory was left',
    next: 'vm.min_free_kbytes, and what takes the memory.',
    level: 'over',
  },
  TcpExtTCPBacklogCoalesce: { means: 'segments merged while they waited in a backlog; saves memory', level: 'fine' },
  TcpExtTCPRcvCoalesce: {
    means: 'segments merged into the one before in the receive queue; saves memory',
    level: 'fine',
  },
  TcpExtListenOverflows: {
    means: 'connections refused because a listener had no room for another',
    next: 'The backlog of listen() and net.core.somaxconn; does the program accept()?',
    level: 'over',
  },
  TcpExtListenDrops: {
    means: 'connection attempts dropped by listeners, the overflows among them',
    next: 'See TcpExtListenOverflows.',
    level: 'over',
  },
  TcpExtTCPWqueueTooBig: {
    means: 'sends refused because the write queue was too long',
    next: 'SO_SNDBUF; a peer that acknowledges tiny pieces.',
    level: 'over',
  },
  TcpExtTCPTimeouts: { means: 'retransmission timeouts', level: 'note' },
  TcpRetransSegs: { means: 'segments sent again', level: 'note' },
  TcpAttemptFails: { means: 'connections that never came about', level: 'note' },
  TcpEstabResets: { means: 'connections that were reset', level: 'note' },
  TcpCurrEstab: { means: 'connections established now', level: 'fine' },
  IpReasmFails: {
    means: 'packets whose fragments did not all arrive in time or found no memory; they are lost',
    next: 'net.ipv4.ipfrag_high_thresh (bytes), net.ipv4.ipfrag_time; best is to avoid fragments.',
    level: 'over',
  },
  IpReasmTimeout: {
    means: 'packets whose fragments did not all arrive in time',
    next: 'net.ipv4.ipfrag_time.',
    level: 'note',
  },
  IpInDiscards: {
    means: 'IP packets dropped although nothing was wrong with them, mostly for want of memory',
    next: 'dmesg: page allocation failure.',
    level: 'over',
  },
  IpOutDiscards: {
    means: 'outgoing IP packets dropped, mostly because a queue was full or memory was short',
    level: 'note',
  },
}

function explain(line: Line, name: string, value: number, facts: Facts): Finding | null {
  facts.counters.set(name, value)
  const counter = counters[name] ?? counters[name.replace(/^(Udp|Ip)6/, '$1')]
  if (counter === undefined) return null
  const text = { ...line, text: `${name} ${value}` }
  if (value === 0) return finding(text, 'fine', [`${counter.means}: none.`])
  const next = counter.next === undefined ? [] : [counter.next]
  return finding(text, counter.level ?? 'note', [`${countText(value)}: ${counter.means}.`], next)
}

/** One line of `nstat`: a name, a count, a rate. */
export function readNstat(line: Line, facts: Facts): Finding | null {
  const match =
    /^\s*((?:Tcp|TcpExt|Udp|Udp6|UdpLite|UdpLite6|Ip|Ip6|IpExt|Icmp)[A-Z][A-Za-z0-9]*)\s+(\d+)(?:\s+[\d.]+)?\s*$/.exec(
      line.text,
    )
  return match === null ? null : explain(line, match[1]!, Number(match[2]), facts)
}

const PREFIXES: Readonly<Record<string, string>> = {
  TcpExt: 'TcpExt',
  Tcp: 'Tcp',
  Udp: 'Udp',
  Ip: 'Ip',
  IpExt: 'IpExt',
  UdpLite: 'UdpLite',
  Icmp: 'Icmp',
  MPTcpExt: 'MPTcpExt',
  IcmpMsg: 'IcmpMsg',
}

/** Two lines of /proc/net/snmp or netstat, names over values. @returns those that are known and not zero; null for other lines. */
export function readSnmpPair(names: Line, values: Line | undefined, facts: Facts): Finding[] | null {
  const head = /^(\w+): ([A-Z][A-Za-z0-9]*(?: [A-Za-z0-9]+)*)\s*$/.exec(names.text)
  if (head === null || values === undefined || PREFIXES[head[1]!] === undefined) return null
  const row = new RegExp(`^${head[1]}: (-?\\d+(?: -?\\d+)*)\\s*$`).exec(values.text)
  if (row === null) return null
  const numbers = row[1]!.split(' ').map(Number)
  return head[2]!.split(' ').flatMap((name, i) => {
    const found = explain(values, `${head[1]}${name}`, numbers[i] ?? 0, facts)
    return found === null || numbers[i] === 0 ? [] : [found]
  })
}

/** A name alone, without a count: someone asks what it is. */
export function readCounterName(line: Line): Finding | null {
  const name = line.text.trim()
  const known = Object.keys(counters).find((full) => full === name || full.replace(/^(TcpExt|Tcp|Udp|Ip)/, '') === name)
  if (known === undefined) return null
  const counter = counters[known]!
  return finding(line, 'note', [`${known}: ${counter.means}.`], counter.next === undefined ? [] : [counter.next])
}
