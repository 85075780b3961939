/** /proc/net/udp, udplite, raw and their IPv6 twins: sockets, what waits in them, and what they dropped. */
import { udpSk } from '@netmem/inet'
import { type Sock, skWmemAllocGet } from '@netmem/sockmem'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import { decimal, hex, pointer, socketsOf, sockINo, v4End, v6End } from './socket-columns.js'

const UDP_WIDTH = 127
/** Models `UDP_HTABLE_SIZE_MIN`'s table as far as the first column goes: which of its buckets a port is in. */
const UDP_BUCKETS = 1024
const TITLES = 'st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops'
const HEAD6 = `  sl  local_address                         remote_address                        ${TITLES}`

/** Models `udp_rqueue_get`: truesize that waits, less what was read and not given back. */
const udpRqueueGet = (sk: Sock): number => sk.rmemAlloc - udpSk(sk).forwardDeficit

const ends = (sk: Sock, local: number, remote: number): string =>
  sk.v6 === null
    ? `${v4End(sk.rcvSaddr, local)} ${v4End(sk.daddr, remote)}`
    : `${v6End(sk.v6.rcvSaddr, local)} ${v6End(sk.v6.daddr, remote)}`

/** Models `udp4_format_sock`, `raw_sock_seq_show` and `__ip6_dgram_sock_seq_show` behind the bucket. */
const columns = (sk: Sock, rqueue: number, remote: number): string =>
  `${ends(sk, sk.num, remote)} ${hex(sk.state, 2)} ${hex(skWmemAllocGet(sk), 8)}:${hex(rqueue, 8)} ` +
  `00:00000000 00000000 ${decimal(0, 5)} ${decimal(0, 8)} ${sockINo(sk)} ${sk.refcnt} ${pointer(sk.addr)} ${sk.drops}`

const bound = (kernel: Kernel, net: Net, name: string): Sock[] =>
  [...socketsOf(kernel, net, [name])]
    .filter((sk) => sk.num !== 0)
    .sort((a, b) => (a.num % UDP_BUCKETS) - (b.num % UDP_BUCKETS))

/** Models `udp4_seq_show` (net/ipv4/udp.c). @param name the protocol, `UDP` or `UDP-Lite`. */
export function udp4SeqShow(kernel: Kernel, net: Net, name: string): string {
  const lines = bound(kernel, net, name).map((sk) =>
    `${decimal(sk.num % UDP_BUCKETS, 5)}: ${columns(sk, udpRqueueGet(sk), sk.dport)}`.padEnd(UDP_WIDTH),
  )
  return `${[`   sl  local_address rem_address   ${TITLES}`.padEnd(UDP_WIDTH), ...lines].join('\n')}\n`
}

/** Models `udp6_seq_show` (net/ipv6/udp.c). @param name the protocol, `UDPv6` or `UDPLITEv6`. */
export function udp6SeqShow(kernel: Kernel, net: Net, name: string): string {
  const lines = bound(kernel, net, name).map(
    (sk) => `${decimal(sk.num % UDP_BUCKETS, 5)}: ${columns(sk, udpRqueueGet(sk), sk.dport)}`,
  )
  return `${[HEAD6, ...lines].join('\n')}\n`
}

const raw = (kernel: Kernel, net: Net, name: string, width: number): string[] =>
  [...socketsOf(kernel, net, [name])].map((sk) => `${decimal(sk.num, width)}: ${columns(sk, sk.rmemAlloc, 0)}`)

/** Models `raw_seq_show` (net/ipv4/raw.c). @returns the text of /proc/net/raw. */
export const rawSeqShow = (kernel: Kernel, net: Net): string =>
  `${[`  sl  local_address rem_address   ${TITLES}`, ...raw(kernel, net, 'RAW', 4)].join('\n')}\n`

/** Models `raw6_seq_show` (net/ipv6/raw.c). @returns the text of /proc/net/raw6. */
export const raw6SeqShow = (kernel: Kernel, net: Net): string =>
  `${[HEAD6, ...raw(kernel, net, 'RAWv6', 5)].join('\n')}\n`
