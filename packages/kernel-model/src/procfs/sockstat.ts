/**
 * /proc/net/sockstat and sockstat6: how many sockets there are and what they hold. Some numbers are the
 * namespace's, some the machine's; the file does not say which.
 */
import { type Proto, protoMemoryAllocated, type SockEnv } from '@netmem/sockmem'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'

const protoOf = (socks: SockEnv, name: string): Proto | null =>
  socks.protos.find((proto) => proto.name === name) ?? null

/** Models `sock_prot_inuse_get` (net/core/sock.c): sockets of one protocol in one namespace. */
export function sockProtInuseGet(net: Net, proto: Proto | null): number {
  return proto === null ? 0 : Math.max(0, net.ns.protoInuse[proto.inuseIndex]!)
}

/** Models `proto_memory_allocated` (net/ipv4/proc.c): pages, on all namespaces; -1 when the protocol does not count. */
export function protoMemoryPages(proto: Proto | null): number {
  return proto === null ? 0 : protoMemoryAllocated(proto)
}

/** Models `tcp_orphan_count` and `tcp_orphan_count_sum` (net/ipv4/tcp.c): sockets without a user, on all namespaces. */
export function tcpOrphanCount(proto: Proto | null): number {
  return Math.max(0, proto?.orphanCount?.value ?? 0)
}

/** Models `frag_mem_limit` (include/net/inet_frag.h): bytes of truesize that wait to be put together. */
export function fragMemLimit(kernel: Kernel, net: Net): number {
  return kernel.inet.netOf(net.ns).frags.mem
}

/** Models `sockstat_seq_show` (net/ipv4/proc.c). @returns the file's text. */
export function sockstatSeqShow(kernel: Kernel, net: Net): string {
  const { socks, inet } = kernel
  const tcp = protoOf(socks, 'TCP')
  const udp = protoOf(socks, 'UDP')
  return [
    `sockets: used ${net.ns.socketsInuse}`,
    `TCP: inuse ${sockProtInuseGet(net, tcp)} orphan ${tcpOrphanCount(tcp)} tw ${kernel.timeWaitSockets()} ` +
      `alloc ${tcp?.socketsAllocated?.value ?? 0} mem ${protoMemoryPages(tcp)}`,
    `UDP: inuse ${sockProtInuseGet(net, udp)} mem ${protoMemoryPages(udp)}`,
    `UDPLITE: inuse ${sockProtInuseGet(net, protoOf(socks, 'UDP-Lite'))}`,
    `RAW: inuse ${sockProtInuseGet(net, protoOf(socks, 'RAW'))}`,
    `FRAG: inuse ${inet.netOf(net.ns).frags.queues} memory ${fragMemLimit(kernel, net)}`,
    '',
  ].join('\n')
}

/** Models `sockstat6_seq_show` (net/ipv6/proc.c). @returns the file's text. */
export function sockstat6SeqShow(kernel: Kernel, net: Net): string {
  const { frags6 } = kernel.inet.netOf(net.ns)
  const inuse = (name: string): number => sockProtInuseGet(net, protoOf(kernel.socks, name))
  return [
    `TCP6: inuse ${inuse('TCPv6')}`,
    `UDP6: inuse ${inuse('UDPv6')}`,
    `UDPLITE6: inuse ${inuse('UDPLITEv6')}`,
    `RAW6: inuse ${inuse('RAWv6')}`,
    `FRAG6: inuse ${frags6.queues} memory ${frags6.mem}`,
    '',
  ].join('\n')
}
