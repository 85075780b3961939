/**
 * From a drop reason to the limit behind it and the setting that moves it: what a person would otherwise
 * have to know by heart. Reasons are the kernel's, without `SKB_DROP_REASON_`.
 */

export interface Advice {
  /** What was full, closed or missing. */
  readonly limit: string
  /** What to change, as one would type it; null where no setting helps. */
  readonly setting: string | null
}

const advice: Readonly<Record<string, Advice>> = {
  SOCKET_RCVBUFF: {
    limit: "the socket's receive buffer (SO_RCVBUF) was full",
    setting: 'a faster reader, or SO_RCVBUF / net.core.rmem_default, both bounded by net.core.rmem_max',
  },
  PROTO_MEM: {
    limit: 'the protocol was over its memory limit, or the receive buffer could not take more',
    setting: 'net.ipv4.udp_mem or net.ipv4.tcp_mem (pages), net.ipv4.tcp_rmem',
  },
  SOCKET_BACKLOG: {
    limit: 'the backlog of a socket in use was full (2 * rcvbuf + sndbuf / 2 + 64 KiB)',
    setting: 'SO_RCVBUF, net.ipv4.tcp_rmem',
  },
  TCP_ZEROWINDOW: {
    limit: 'the receive window was closed: the program does not read',
    setting: 'a faster reader, net.ipv4.tcp_rmem (third number)',
  },
  TCP_OVERWINDOW: {
    limit: 'the segment lay beyond the advertised window',
    setting: 'a faster reader, net.ipv4.tcp_rmem (third number)',
  },
  TCP_INVALID_END_SEQUENCE: {
    limit: 'the segment ended beyond the advertised window',
    setting: 'a faster reader, net.ipv4.tcp_rmem (third number)',
  },
  TCP_INVALID_SEQUENCE: { limit: 'the segment lay outside the window', setting: null },
  TCP_OFO_QUEUE_PRUNE: {
    limit: 'the out-of-order queue was pruned because the receive buffer was full',
    setting: 'net.ipv4.tcp_rmem (third number)',
  },
  TCP_OFO_DROP: { limit: 'the out-of-order queue could not take more', setting: 'net.ipv4.tcp_rmem' },
  TCP_OLD_DATA: { limit: 'the peer sent data again that had arrived already', setting: null },
  TCP_OLD_ACK: { limit: 'the acknowledgement was older than the window of the connection', setting: null },
  TCP_OFOMERGE: { limit: 'the data was in the out-of-order queue already', setting: null },
  TCP_CLOSE: { limit: 'the connection was closed', setting: null },
  TCP_RESET: { limit: 'the peer reset the connection', setting: null },
  TCP_ABORT_ON_DATA: { limit: 'data came after the program had closed the socket', setting: null },
  NO_SOCKET: { limit: 'no socket was open on that port', setting: null },
  CPU_BACKLOG: { limit: 'the input queue of a processor was full', setting: 'net.core.netdev_max_backlog' },
  NOMEM: { limit: 'the machine had no memory left', setting: '--memory, vm.min_free_kbytes' },
  PFMEMALLOC: { limit: 'only the emergency reserve was left', setting: '--memory, vm.min_free_kbytes' },
  FULL_RING: { limit: 'a ring was full', setting: '--ring' },
  RX_MISSED: { limit: 'the receive ring of the network card had no free descriptor', setting: '--ring (ethtool -G)' },
  RX_NO_BUFFER: {
    limit: 'the network card had no buffer: memory for the receive ring ran out',
    setting: '--memory, vm.min_free_kbytes',
  },
  RX_LENGTH: { limit: 'the frame was longer than the network card takes', setting: '--mtu' },
  PKT_TOO_SMALL: { limit: 'the packet was shorter than its header says', setting: null },
  PKT_TOO_BIG: { limit: 'the packet was larger than the MTU', setting: '--mtu' },
  IP_CSUM: { limit: 'the IP header checksum was wrong', setting: null },
  UDP_CSUM: { limit: 'the UDP checksum was wrong', setting: null },
  TCP_CSUM: { limit: 'the TCP checksum was wrong', setting: null },
  IP_INHDR: { limit: 'the IP header was malformed', setting: null },
  UNHANDLED_PROTO: { limit: 'nothing on the machine handles this protocol', setting: null },
  OTHERHOST: { limit: 'the frame was for another machine', setting: null },
  FRAG_REASM_TIMEOUT: { limit: 'fragments were missing when the time was over', setting: 'net.ipv4.ipfrag_time' },
  DUP_FRAG: { limit: 'a fragment came twice', setting: null },
  FRAG_TOO_FAR: { limit: 'fragments came too far apart', setting: 'net.ipv4.ipfrag_max_dist' },
}

/** @returns what is known of a reason; a reason without an entry names itself. */
export function dropAdvice(reason: string): Advice {
  return advice[reason] ?? { limit: `the kernel gave ${reason} as its reason`, setting: null }
}
