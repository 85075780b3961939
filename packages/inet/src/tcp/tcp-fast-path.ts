/**
 * Header prediction: one compare tells that a segment is the expected one. The word holds header length, the
 * ACK flag and the peer's window as it stands in the header.
 */
import { skbQueueEmpty } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { be32, TCPHDR_ACK, TCPHDR_PSH } from './tcp-skb.js'
import { type TcpSock, tcpSk } from './tcp-sock.js'

const PSH_BIT = TCPHDR_PSH << 16
const RESERVED_BITS = 0x0f000000

/** The flag word of a header, without PSH and the reserved bits (`TCP_HP_BITS`). */
export const tcpHpWord = (u8: Uint8Array, th: number): number => be32(u8, th + 12) & ~(PSH_BIT | RESERVED_BITS)

/** Models `__tcp_fast_path_on`. @param sndWnd as it stands in the header, unscaled. */
export function tcpFastPathOnAt(tp: TcpSock, sndWnd: number): void {
  tp.predFlags = (tp.tcpHeaderLen << 26) | (TCPHDR_ACK << 16) | sndWnd
}

/** Models `tcp_fast_path_on`. */
export const tcpFastPathOn = (tp: TcpSock): void => tcpFastPathOnAt(tp, tp.sndWnd >>> tp.rx.sndWscale)

/** Models `tcp_fast_path_check`: nothing out of order, a window left, room in the buffer. */
export function tcpFastPathCheck(sk: Sock): void {
  const tp = tcpSk(sk)
  if (skbQueueEmpty(tp.outOfOrderQueue) && tp.rcvWnd !== 0 && sk.rmemAlloc < sk.rcvbuf && tp.urgData === 0)
    tcpFastPathOn(tp)
}
