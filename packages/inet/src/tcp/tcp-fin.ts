/** The peer will send no more. */
import type { Cpu } from '@netmem/base'
import { kfreeSkb, skbDequeue, skbQueueEmpty } from '@netmem/skbuff'
import {
  RCV_SHUTDOWN,
  SOCKF_DEAD,
  SOCKF_DONE,
  type Sock,
  sockFlag,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_SYN_RECV,
  TCP_TIME_WAIT,
} from '@netmem/sockmem'
import { tcpSackReset } from './tcp-dsack.js'
import { tcpTimeWait } from './tcp-minisocks.js'
import { tcpSendAck } from './tcp-output.js'
import { inetCskScheduleAck, type TcpSock, tcpIsSack, tcpSk } from './tcp-sock.js'
import { tcpSetState } from './tcp-state-set.js'

/** Models `skb_rbtree_purge` of the out-of-order queue. */
export function tcpOfoPurge(cpu: Cpu, tp: TcpSock): void {
  for (let skb = skbDequeue(tp.outOfOrderQueue); skb !== null; skb = skbDequeue(tp.outOfOrderQueue))
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'skb_rbtree_purge')
}

/** Models `tcp_fin` (net/ipv4/tcp_input.c). */
export function tcpFin(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  inetCskScheduleAck(tp)
  sk.shutdown |= RCV_SHUTDOWN
  sk.flags |= SOCKF_DONE
  switch (sk.state) {
    case TCP_SYN_RECV:
    case TCP_ESTABLISHED:
      tcpSetState(cpu, sk, TCP_CLOSE_WAIT)
      // The user will probably answer by closing too.
      tp.ackPingpong = 1
      break
    case TCP_FIN_WAIT1:
      // Both close at once.
      tcpSendAck(cpu, sk)
      tcpSetState(cpu, sk, TCP_CLOSING)
      break
    case TCP_FIN_WAIT2:
      tcpSendAck(cpu, sk)
      tcpTimeWait(cpu, sk, TCP_TIME_WAIT, 0)
      break
    default:
      // A FIN sent again.
      break
  }
  if (!skbQueueEmpty(tp.outOfOrderQueue)) tcpOfoPurge(cpu, tp)
  if (tcpIsSack(tp)) tcpSackReset(tp)
  if (!sockFlag(sk, SOCKF_DEAD)) sk.stateChange(cpu, sk)
}
