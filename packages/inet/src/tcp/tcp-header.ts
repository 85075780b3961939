/**
 * The header of an established connection's segment: which options it carries, how long they are, and the
 * bytes themselves.
 */

import {
  TCPOLEN_SACK_BASE_ALIGNED,
  TCPOLEN_SACK_PERBLOCK,
  TCPOLEN_TSTAMP_ALIGNED,
  tcpWriteSackHead,
  tcpWriteTimestamp,
} from './tcp-options.js'
import { MAX_TCP_OPTION_SPACE, setBe32 } from './tcp-skb.js'
import type { TcpSock } from './tcp-sock.js'

/** Models the SACK part of `tcp_established_options`: blocks that fit. */
export function tcpSackBlocks(tp: TcpSock): number {
  const eff = tp.rx.numSacks + tp.rx.dsack
  if (eff === 0) return 0
  const used = tp.rx.tstampOk !== 0 ? TCPOLEN_TSTAMP_ALIGNED : 0
  const room = MAX_TCP_OPTION_SPACE - used
  return Math.min(eff, Math.floor((room - TCPOLEN_SACK_BASE_ALIGNED) / TCPOLEN_SACK_PERBLOCK))
}

/** Models `tcp_established_options` (net/ipv4/tcp_output.c). @returns bytes. */
export function tcpEstablishedOptionsBytes(tp: TcpSock): number {
  const blocks = tcpSackBlocks(tp)
  const ts = tp.rx.tstampOk !== 0 ? TCPOLEN_TSTAMP_ALIGNED : 0
  return blocks === 0 ? ts : ts + TCPOLEN_SACK_BASE_ALIGNED + blocks * TCPOLEN_SACK_PERBLOCK
}

/** Models `tcp_options_write` for established connections. @param at where the options begin. */
export function tcpWriteEstablishedOptions(tp: TcpSock, u8: Uint8Array, at: number, tsval: number): void {
  let p = at
  if (tp.rx.tstampOk !== 0) p = tcpWriteTimestamp(u8, p, tsval, tp.rx.tsRecent)
  const blocks = tcpSackBlocks(tp)
  if (blocks === 0) return
  p = tcpWriteSackHead(u8, p, blocks)
  let written = 0
  if (tp.rx.dsack !== 0) {
    setBe32(u8, p, tp.duplicateSackSeq)
    setBe32(u8, p + 4, tp.duplicateSackEnd)
    p += TCPOLEN_SACK_PERBLOCK
    written = 1
  }
  for (let i = 0; written < blocks; i++, written++) {
    setBe32(u8, p, tp.selectiveAcks[2 * i]!)
    setBe32(u8, p + 4, tp.selectiveAcks[2 * i + 1]!)
    p += TCPOLEN_SACK_PERBLOCK
  }
  // A duplicate is told once.
  tp.rx.dsack = 0
}
