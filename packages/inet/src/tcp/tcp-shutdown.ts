/** One direction ends: the FIN, and the state that follows from it. */
import type { Cpu } from '@netmem/base'
import { skbPeekTail } from '@netmem/skbuff'
import {
  SEND_SHUTDOWN,
  type Sock,
  skUnderMemoryPressure,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_LAST_ACK,
  TCP_LISTEN,
  TCP_NEW_SYN_RECV,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_TIME_WAIT,
} from '@netmem/sockmem'
import { tcpCurrentMss } from './tcp-mss.js'
import { tcpQueueFin } from './tcp-output.js'
import { TCP_NAGLE_OFF, tcpSk } from './tcp-sock.js'
import { tcpSetState } from './tcp-state-set.js'
import { tcpPushPendingFramesNow, tcpWriteQueueTail } from './tcp-xmit.js'

/** Models `tcp_close_state` (net/ipv4/tcp.c). @returns whether a FIN is to be sent. */
export function tcpCloseState(cpu: Cpu, sk: Sock): boolean {
  switch (sk.state) {
    case TCP_ESTABLISHED:
    case TCP_SYN_RECV:
      tcpSetState(cpu, sk, TCP_FIN_WAIT1)
      return true
    case TCP_CLOSE_WAIT:
      tcpSetState(cpu, sk, TCP_LAST_ACK)
      return true
    case TCP_SYN_SENT:
    case TCP_TIME_WAIT:
    case TCP_CLOSE:
    case TCP_LISTEN:
    case TCP_NEW_SYN_RECV:
      tcpSetState(cpu, sk, TCP_CLOSE)
      return false
    default:
      return false
  }
}

/** Models `tcp_send_fin` (net/ipv4/tcp_output.c): at the end of what waits, or in a packet of its own. */
export function tcpSendFin(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  let tail = tcpWriteQueueTail(sk)
  if (tail === null && skUnderMemoryPressure(sk)) {
    tail = skbPeekTail(tp.rtxQueue)
    if (tail !== null) {
      // Already sent: it goes along when that is sent again.
      tcpQueueFin(cpu, sk, tail)
      tp.sndNxt = (tp.sndNxt + 1) | 0
      return
    }
  }
  if (!tcpQueueFin(cpu, sk, tail)) return
  tcpPushPendingFramesNow(cpu, sk, tcpCurrentMss(sk), TCP_NAGLE_OFF)
}

/** Models `tcp_shutdown` (net/ipv4/tcp.c) for `SEND_SHUTDOWN`. */
export function tcpShutdownSend(cpu: Cpu, sk: Sock): void {
  const { state } = sk
  if (state !== TCP_ESTABLISHED && state !== TCP_SYN_SENT && state !== TCP_CLOSE_WAIT) return
  if (tcpCloseState(cpu, sk)) tcpSendFin(cpu, sk)
}

/** Models `tcp_shutdown`. @param how `RCV_SHUTDOWN` and `SEND_SHUTDOWN`. */
export function tcpShutdown(cpu: Cpu, sk: Sock, how: number): void {
  if ((how & SEND_SHUTDOWN) !== 0) tcpShutdownSend(cpu, sk)
}
