/**
 * What kTLS needs of TCP: the receive queue as a stream that a parser looks into before it takes from it, and a
 * few numbers. kTLS is in a package below this one and declares these as slots.
 */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import type { TlsReadActor, TlsTransport } from '@netmem/zerocopy'
import { tcpEatRecvSkb } from './tcp-close.js'
import { tcpEpollinReady } from './tcp-data-queue.js'
import type { TcpEnv } from './tcp-env.js'
import { lockSock, tcpReleaseSock } from './tcp-lock.js'
import { tcpRateCheckAppLimited } from './tcp-rate.js'
import { tcpRcvSpaceAdjust } from './tcp-rcvbuf.js'
import { tcpCleanupRbuf, tcpInq } from './tcp-recvmsg.js'
import { TCPCB_EOR, TCPHDR_FIN, tcpFlags } from './tcp-skb.js'
import { tcpSk } from './tcp-sock.js'
import { tcpWriteQueueTail } from './tcp-xmit.js'

/** Models `tcp_recv_skb` (net/ipv4/tcp.c): the packet with byte `seq` or its FIN; those before it are eaten. */
function tcpRecvSkb(cpu: Cpu, sk: Sock, seq: number): SkBuff | null {
  const { skbs } = sk.env.skbs
  while (sk.receiveQueue.first !== 0) {
    const skb = skbs[sk.receiveQueue.first]!
    if (((seq - skb.cb0) | 0) < skb.len || (tcpFlags(skb) & TCPHDR_FIN) !== 0) return skb
    tcpEatRecvSkb(cpu, sk, skb, 'tcp_recv_skb')
  }
  return null
}

/** Models `tcp_read_done` (net/ipv4/tcp.c): `len` bytes of the queue have been used where they were. */
function tcpReadDone(cpu: Cpu, sk: Sock, len: number): void {
  const tp = tcpSk(sk)
  let seq = tp.copiedSeq
  let left = len
  for (let skb = tcpRecvSkb(cpu, sk, seq); left > 0 && skb !== null; skb = tcpRecvSkb(cpu, sk, seq)) {
    const used = Math.min(left, skb.len - ((seq - skb.cb0) | 0))
    seq = (seq + used) | 0
    left -= used
    if ((tcpFlags(skb) & TCPHDR_FIN) !== 0 && ((seq - skb.cb0) | 0) >= skb.len) {
      seq = (seq + 1) | 0
      break
    }
  }
  tp.copiedSeq = seq
  tcpRcvSpaceAdjust(sk)
  if (left !== len) tcpCleanupRbuf(cpu, sk, len - left)
}

/** Models `tcp_read_sock` (net/ipv4/tcp.c): the actor takes from packet after packet, until it takes nothing. */
function tcpReadSock(cpu: Cpu, sk: Sock, actor: TlsReadActor): void {
  const tp = tcpSk(sk)
  let seq = tp.copiedSeq
  let copied = 0
  for (let skb = tcpRecvSkb(cpu, sk, seq); skb !== null; skb = tcpRecvSkb(cpu, sk, seq)) {
    const offset = (seq - skb.cb0) | 0
    if (offset < skb.len) {
      const used = actor(cpu, sk, skb, offset, skb.len - offset)
      if (used <= 0) break
      seq = (seq + used) | 0
      copied += used
      if (offset + used !== skb.len) continue
    }
    const fin = (tcpFlags(skb) & TCPHDR_FIN) !== 0
    tcpEatRecvSkb(cpu, sk, skb, '__tcp_read_sock')
    if (fin) {
      seq = (seq + 1) | 0
      break
    }
    tp.copiedSeq = seq
  }
  tp.copiedSeq = seq
  tcpRcvSpaceAdjust(sk)
  if (copied > 0) tcpCleanupRbuf(cpu, sk, copied)
}

/** @returns the slots of a machine's kTLS. */
export function tlsTransport(env: TcpEnv): TlsTransport {
  let recvOffset = 0
  return {
    lockSock,
    releaseSock: tcpReleaseSock,
    rateCheckAppLimited: (sk) => tcpRateCheckAppLimited(tcpSk(sk)),
    inq: tcpInq,
    recvSkb: (sk) => {
      const { copiedSeq } = tcpSk(sk)
      const skb = tcpRecvSkb(env.cpus[0]!, sk, copiedSeq)
      recvOffset = skb === null ? 0 : (copiedSeq - skb.cb0) | 0
      return skb
    },
    recvOffset: () => recvOffset,
    readDone: tcpReadDone,
    readSock: tcpReadSock,
    epollinReady: tcpEpollinReady,
    writeSeq: (sk) => tcpSk(sk).writeSeq,
    cleanAcked: (sk, freed) => {
      tcpSk(sk).cleanAcked = freed
    },
    writeCollapseFence: (sk) => {
      const skb = tcpWriteQueueTail(sk)
      if (skb !== null) skb.cb2 |= TCPCB_EOR
    },
    netdevFor: (sk) => tcpSk(sk).inet.dst?.dev ?? null,
  }
}
