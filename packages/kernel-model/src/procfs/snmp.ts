/** /proc/net/snmp, netstat and snmp6: a line of names, a line of numbers, group by group. */
import { MIB_GROUPS, mibIndex } from '@netmem/sockmem'
import type { Net } from '../net.js'

/** Numbers that are settings rather than counts, and so are not kept with the counters. */
const SETTINGS: Readonly<Record<string, number>> = {
  'Ip.Forwarding': 2,
  'Ip.DefaultTTL': 64,
  'Tcp.RtoAlgorithm': 1,
  'Tcp.RtoMin': 200,
  'Tcp.RtoMax': 120000,
  'Tcp.MaxConn': -1,
}

const numberOf = (net: Net, group: string, name: string): number =>
  SETTINGS[`${group}.${name}`] ?? net.ns.mib[mibIndex(`${group}.${name}`)]!

const twoLines = (net: Net, group: string): string => {
  const names = MIB_GROUPS[group] ?? []
  return `${group}: ${names.join(' ')}\n${group}: ${names.map((name) => numberOf(net, group, name)).join(' ')}\n`
}

/** ICMP types by the counter that each is also counted in. */
const ICMP_TYPES: readonly (readonly [name: string, type: number])[] = [
  ['EchoReps', 0],
  ['DestUnreachs', 3],
  ['SrcQuenchs', 4],
  ['Redirects', 5],
  ['Echos', 8],
  ['TimeExcds', 11],
  ['ParmProbs', 12],
  ['Timestamps', 13],
  ['TimestampReps', 14],
  ['AddrMasks', 17],
  ['AddrMaskReps', 18],
]
const ICMP6_TYPES: readonly (readonly [name: string, type: number])[] = [
  ['DestUnreachs', 1],
  ['PktTooBigs', 2],
  ['TimeExcds', 3],
  ['ParmProblems', 4],
  ['Echos', 128],
  ['EchoReplies', 129],
  ['GroupMembQueries', 130],
  ['GroupMembResponses', 131],
  ['GroupMembReductions', 132],
  ['RouterSolicits', 133],
  ['RouterAdvertisements', 134],
  ['NeighborSolicits', 135],
  ['NeighborAdvertisements', 136],
  ['Redirects', 137],
  ['MLDv2Reports', 143],
]

/** Types that were seen, as `In` and `Out` names with their counts. */
const seenTypes = (net: Net, group: string, types: typeof ICMP_TYPES, way: 'In' | 'Out'): [string, number][] =>
  types
    .map(([name, type]): [string, number] => [`${way}Type${type}`, numberOf(net, group, `${way}${name}`)])
    .filter(([, count]) => count !== 0)

/** Models `icmpmsg_put`: only types that occurred; no line at all when none did. */
function icmpMsg(net: Net): string {
  const seen = [...seenTypes(net, 'Icmp', ICMP_TYPES, 'In'), ...seenTypes(net, 'Icmp', ICMP_TYPES, 'Out')]
  if (seen.length === 0) return ''
  return `IcmpMsg: ${seen.map(([name]) => name).join(' ')}\nIcmpMsg: ${seen.map(([, count]) => count).join(' ')}\n`
}

/** Models `snmp_seq_show` (net/ipv4/proc.c). @returns the file's text. */
export const snmpSeqShow = (net: Net): string =>
  ['Ip', 'Icmp'].map((group) => twoLines(net, group)).join('') +
  icmpMsg(net) +
  ['Tcp', 'Udp', 'UdpLite'].map((group) => twoLines(net, group)).join('')

/** Models `netstat_seq_show` (net/ipv4/proc.c). @returns the file's text. */
export const netstatSeqShow = (net: Net): string =>
  ['TcpExt', 'IpExt', 'MPTcpExt'].map((group) => twoLines(net, group)).join('')

const named = (name: string, count: number): string => `${name.padEnd(32)}\t${count}\n`

/** Models `snmp6_seq_show` (net/ipv6/proc.c): a name and a number per line. @returns the file's text. */
export function snmp6SeqShow(net: Net): string {
  const group = (title: string): string =>
    (MIB_GROUPS[title] ?? []).map((name) => named(`${title}${name}`, numberOf(net, title, name))).join('')
  const types = [...seenTypes(net, 'Icmp6', ICMP6_TYPES, 'In'), ...seenTypes(net, 'Icmp6', ICMP6_TYPES, 'Out')].map(
    ([name, count]) => named(`Icmp6${name}`, count),
  )
  return group('Ip6') + group('Icmp6') + types.join('') + group('Udp6') + group('UdpLite6')
}

/** Models `tls_statistics_seq_show` (net/tls/tls_proc.c). @param rekey whether keys can be renewed, which is counted then. @returns the text of /proc/net/tls_stat. */
export const tlsStatSeqShow = (net: Net, rekey: boolean): string =>
  (MIB_GROUPS.Tls ?? [])
    .filter((name) => rekey || !name.includes('Rekey'))
    .map((name) => named(name, numberOf(net, 'Tls', name)))
    .join('')
