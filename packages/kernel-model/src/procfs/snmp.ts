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

/** Models `snmp_seq_show` (net/ipv4/proc.c). @returns the file's text. */
export const snmpSeqShow = (net: Net): string =>
  ['Ip', 'Icmp', 'Tcp', 'Udp', 'UdpLite'].map((group) => twoLines(net, group)).join('')

/** Models `netstat_seq_show` (net/ipv4/proc.c). @returns the file's text. */
export const netstatSeqShow = (net: Net): string => ['TcpExt', 'IpExt'].map((group) => twoLines(net, group)).join('')

/** Models `snmp6_seq_show` (net/ipv6/proc.c): a name and a number per line. @returns the file's text. */
export const snmp6SeqShow = (net: Net): string =>
  ['Ip6', 'Icmp6', 'Udp6', 'UdpLite6']
    .flatMap((group) =>
      (MIB_GROUPS[group] ?? []).map((name) => `${`${group}${name}`.padEnd(32)}\t${numberOf(net, group, name)}\n`),
    )
    .join('')
