/** The filter of a packet socket, asked once per packet on every way in. */
import type { SkBuff } from '@netmem/skbuff'
import { type Sock, skRunFilter } from '@netmem/sockmem'

/** Models `run_filter` (net/packet/af_packet.c). @returns bytes of the packet to show: `all` without a filter, 0 refuses it. */
export const runFilter = (sk: Sock, skb: SkBuff, all: number): number =>
  sk.filter === null ? all : skRunFilter(sk.filter, skb)
