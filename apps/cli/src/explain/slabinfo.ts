/** /proc/slabinfo: the caches that packets and sockets come from. */
import { bytesText, countText, percentText } from '../report/format.js'
import { type Facts, type Finding, finding, type Line } from './finding.js'

const about: Readonly<Record<string, string>> = {
  skbuff_head_cache: 'descriptors of packets (struct sk_buff)',
  skbuff_fclone_cache: 'descriptors of packets to send, with room for a clone; TCP queues hold these',
  skbuff_small_head: 'heads of small packets (up to about 448 bytes with headroom)',
  skbuff_ext_cache: 'extensions of packets',
  'kmalloc-1k': 'general objects of 1 KiB; heads of packets with up to about 700 bytes',
  'kmalloc-2k': 'general objects of 2 KiB; heads of packets with up to about 1,700 bytes',
  'kmalloc-4k': 'general objects of 4 KiB; heads of packets with up to about 3,700 bytes',
  TCP: 'TCP sockets',
  TCPv6: 'TCP sockets of IPv6',
  UDP: 'UDP sockets',
  UDPv6: 'UDP sockets of IPv6',
  UNIX: 'AF_UNIX sockets',
  'UNIX-STREAM': 'AF_UNIX stream sockets',
  PACKET: 'packet sockets',
  RAW: 'raw sockets',
  sock_inode_cache: 'inodes of sockets, one each',
  request_sock_TCP: 'TCP connections that are being made',
  tw_sock_TCP: 'TCP sockets in TIME-WAIT',
  request_sock_TCPv6: 'TCP connections of IPv6 that are being made',
  tw_sock_TCPv6: 'TCP sockets of IPv6 in TIME-WAIT',
}

export function readSlabinfo(line: Line, facts: Facts): Finding | null {
  const match =
    /^(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+: tunables/.exec(line.text) ??
    /^(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*$/.exec(line.text)
  if (match === null || about[match[1]!] === undefined) return null
  const [active, total, size, perSlab, pages] = match.slice(2).map(Number) as [number, number, number, number, number]
  const slabs = perSlab > 0 ? Math.ceil(total / perSlab) : 0
  const held = slabs * pages * facts.pageBytes
  return finding(line, 'note', [
    `${match[1]}: ${about[match[1]!]}.`,
    `${countText(active)} objects of ${size} bytes are in use (${bytesText(active * size)}), of ${countText(total)} that ${countText(slabs)} slabs of ${pages} page(s) hold (${bytesText(held)}); ${percentText(active, total)} of them are used. Slabs of a processor count as used whole, so small numbers are inexact.`,
  ])
}
