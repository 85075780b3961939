/** Room in the send buffer: what a stream may queue, and what happens when acknowledgements make room. */
import type { Cpu } from '@netmem/base'
import {
  SOCK_SNDBUF_LOCK,
  SOCKF_NOSPACE,
  type Sock,
  skMemoryAllocated,
  skProtMemLimits,
  skUnderMemoryPressure,
  skUnusedReservedMem,
} from '@netmem/sockmem'
import { tcpSndbufExpand } from './tcp-rcvbuf.js'
import { type TcpSock, tcpPacketsInFlight, tcpSk } from './tcp-sock.js'
import { tcpJiffies } from './tcp-time.js'

/** Models `tcp_notsent_lowat`. Bytes. */
export const tcpNotsentLowat = (tp: TcpSock): number =>
  tp.notsentLowat !== 0 ? tp.notsentLowat >>> 0 : tp.ctl.notsentLowat[0]!

/** Models `tcp_stream_memory_free`: too much that was not sent yet; twice as little is asked for before waking. */
export function tcpStreamMemoryFree(sk: Sock, wake: number): boolean {
  const tp = tcpSk(sk)
  const notsent = (tp.writeSeq - tp.sndNxt) >>> 0
  return notsent * 2 ** wake < tcpNotsentLowat(tp)
}

/** Models `tcp_should_expand_sndbuf` (net/ipv4/tcp_input.c). */
function tcpShouldExpandSndbuf(sk: Sock): boolean {
  const tp = tcpSk(sk)
  if ((sk.userlocks & SOCK_SNDBUF_LOCK) !== 0) return false
  if (skUnderMemoryPressure(sk)) {
    const unused = skUnusedReservedMem(sk)
    if (unused > sk.env.minSndbuf) sk.sndbuf = unused
    return false
  }
  if (skMemoryAllocated(sk) >= skProtMemLimits(sk, 0)) return false
  return tcpPacketsInFlight(tp) < tp.sndCwnd
}

/** Models `tcp_check_space` and `tcp_new_space`: only for a writer that was refused. */
export function tcpCheckSpace(cpu: Cpu, sk: Sock): void {
  if (sk.socket === 0 || (sk.flags & SOCKF_NOSPACE) === 0) return
  if (tcpShouldExpandSndbuf(sk)) {
    tcpSndbufExpand(sk)
    tcpSk(sk).sndCwndStamp = tcpJiffies(tcpSk(sk))
  }
  sk.writeSpace(cpu, sk)
}
