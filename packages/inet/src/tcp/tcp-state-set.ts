/** Changing a connection's state: counters, tables and the port that goes with it. */
import type { Cpu } from '@netmem/base'
import {
  SOCK_BINDPORT_LOCK,
  type Sock,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_SYN_RECV,
} from '@netmem/sockmem'
import { inetPutPort } from './inet-bind.js'
import { inetUnhash } from './inet-hashtables.js'
import { MIB } from './tcp-mib.js'
import { tcpSk } from './tcp-sock.js'

/** Models `inet_sk_state_store` with its tracepoint. */
export function inetSkStateStore(sk: Sock, state: number): void {
  const trace = sk.env.trace
  if (trace.inetSockSetState !== null && sk.state !== state) trace.inetSockSetState(sk.id, sk.state, state)
  sk.state = state
}

/** Models `tcp_set_state` (net/ipv4/tcp.c). */
export function tcpSetState(cpu: Cpu, sk: Sock, state: number): void {
  const old = sk.state
  const { mib } = sk.net
  if (state === TCP_ESTABLISHED) {
    if (old !== TCP_ESTABLISHED) mib[MIB.CurrEstab]! += 1
  } else if (state === TCP_CLOSE_WAIT && old === TCP_SYN_RECV) mib[MIB.CurrEstab]! += 1
  else {
    if (state === TCP_CLOSE) {
      if (old === TCP_CLOSE_WAIT || old === TCP_ESTABLISHED) mib[MIB.EstabResets]! += 1
      inetUnhash(sk)
      const tp = tcpSk(sk)
      if (tp.bindBucket !== null && (sk.userlocks & SOCK_BINDPORT_LOCK) === 0) inetPutPort(cpu, sk)
    }
    // Established and close-wait count together; leaving both ends it.
    if (old === TCP_ESTABLISHED ? state !== TCP_CLOSE_WAIT : old === TCP_CLOSE_WAIT) mib[MIB.CurrEstab]! -= 1
  }
  inetSkStateStore(sk, state)
}
