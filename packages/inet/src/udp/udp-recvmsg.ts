/**
 * Reading a datagram: taking it from the queues, copying it out (checking its checksum in passing), freeing it.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_NONE,
  consumeStatelessSkb,
  gsoSize,
  kfreeSkb,
  type SkBuff,
  skbAttemptDeferFree,
  skbCopyAndCsumDatagramMsg,
  skbCopyDatagramIter,
  skbCsumUnnecessary,
  skbDequeue,
  skbPeek,
  skbQueueEmpty,
  skbQueueSpliceTailInit,
  skbReleaseHeadState,
  skbUnlink,
  skbUnref,
} from '@netmem/skbuff'
import {
  AF_INET,
  MSG_ERRQUEUE,
  MSG_PEEK,
  MSG_TRUNC,
  type Msg,
  putCmsg,
  SO,
  SOCKF_RXQ_OVFL,
  SOL_SOCKET,
  type Sock,
  skbTryRecvFromQueue,
  sockError,
} from '@netmem/sockmem'
import { ipRecvError } from '../ip/ip-sockglue.js'
import { type Udp, udpOf } from './udp-env.js'
import { udpRmemRelease, udpSkbDestructor } from './udp-queue.js'
import { UDP4_MIB, UDP6_MIB, type UdpMib, udpLibChecksumComplete, udpMibOf } from './udp-receive.js'
import { SOL_UDP } from './udp-send.js'
import { udpSk } from './udp-sock.js'

const UDP_GRO = 104

/**
 * Models `__skb_recv_udp` (net/ipv4/udp.c) without the wait.
 *
 * @returns null with the errno in `env.lastError`.
 */
export function skbRecvUdp(cpu: Cpu, sk: Sock, flags: number, udp: Udp): SkBuff | null {
  const up = udpSk(sk)
  const queue = up.readerQueue
  const err = sockError(sk)
  if (err !== 0) {
    sk.env.lastError = err
    return null
  }
  for (;;) {
    if ((flags & MSG_PEEK) === 0) {
      const skb = skbDequeue(queue)
      if (skb !== null) {
        udpSkbDestructor(cpu, sk, skb)
        return skb
      }
    } else {
      const skb = skbTryRecvFromQueue(queue, flags, udp.peek)
      if (skb !== null) return skb
    }
    if (skbQueueEmpty(sk.receiveQueue)) break
    skbQueueSpliceTailInit(sk.receiveQueue, queue)
  }
  sk.env.lastError = -ERRNO.EAGAIN
  return null
}

/**
 * Models `udp_recvmsg` (net/ipv4/udp.c).
 *
 * @returns bytes; with MSG_TRUNC the datagram's length; or a negative errno.
 */
export function udpRecvmsg(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  const up = udpSk(sk)
  if ((flags & (MSG_ERRQUEUE | MSG_PEEK | MSG_TRUNC)) !== 0 || sk.err !== 0 || sk.peekOff >= 0)
    return udpRecvmsgSlow(cpu, sk, msg, len, flags)
  // A plain read of a datagram that needs no sum. Benchmark: `rx.64B`.
  const queue = up.readerQueue
  if (queue.first === 0) skbQueueSpliceTailInit(sk.receiveQueue, queue)
  const first = queue.first === 0 ? null : queue.env.skbs[queue.first]
  if (first === null || !skbCsumUnnecessary(first)) return udpRecvmsgSlow(cpu, sk, msg, len, flags)
  const skb = skbDequeue(queue) as SkBuff
  udpRmemRelease(cpu, sk, skb.devScratch, 1)
  const ulen = skb.len
  let copied = ulen
  if (len < ulen) {
    copied = len
    msg.msgFlags |= MSG_TRUNC
  }
  const err = skbCopyDatagramIter(cpu, skb, 0, msg.iter, copied)
  if (err !== 0) return copyFailed(cpu, sk, skb, err)
  sk.net.mib[sk.v6 === null ? UDP4_MIB.inDatagrams : UDP6_MIB.inDatagrams] += 1
  if (msg.wantName || msg.wantControl) tellSource(sk, msg, skb, up.groEnabled !== 0)
  if (skb.users === 1 && up.defersFree) skbAttemptDeferFree(cpu, skb, up.recvSite)
  else skbConsumeUdp(cpu, sk, skb, copied)
  return copied
}

/** The reader's memory is not there: the datagram is lost. */
function copyFailed(cpu: Cpu, sk: Sock, skb: SkBuff, err: number): number {
  sk.drops += 1
  sk.net.mib[udpMibOf(sk).inErrors] += 1
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'udp_recvmsg')
  return err
}

/** `udp_recvmsg` whole: looking without taking, the error queue, checksums, peek offsets. */
function udpRecvmsgSlow(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  const up = udpSk(sk)
  const udp = udpOf(up.env)
  if ((flags & MSG_ERRQUEUE) !== 0) return ipRecvError(cpu, sk, msg, len)
  const peeking = (flags & MSG_PEEK) !== 0
  const mib = udpMibOf(sk)
  for (;;) {
    udp.peek.offset = peeking && sk.peekOff >= 0 ? sk.peekOff : peeking ? -1 : 0
    const skb = skbRecvUdp(cpu, sk, flags, udp)
    if (skb === null) return sk.env.lastError
    const off = Math.max(udp.peek.offset, 0)
    const ulen = skb.len
    let copied = len
    if (copied > ulen - off) copied = ulen - off
    else if (copied < ulen) msg.msgFlags |= MSG_TRUNC
    let checked = skbCsumUnnecessary(skb)
    if (!checked && (copied < ulen || peeking)) {
      if (udpLibChecksumComplete(skb)) {
        badChecksum(cpu, sk, skb, mib, peeking)
        msg.msgFlags &= ~MSG_TRUNC
        continue
      }
      checked = true
    }
    let err: number
    if (checked) err = skbCopyDatagramIter(cpu, skb, off, msg.iter, copied)
    else {
      err = skbCopyAndCsumDatagramMsg(cpu, skb, off, msg.iter)
      if (err === -ERRNO.EINVAL) {
        badChecksum(cpu, sk, skb, mib, peeking)
        msg.msgFlags &= ~MSG_TRUNC
        continue
      }
    }
    if (err !== 0) {
      if (!peeking) return copyFailed(cpu, sk, skb, err)
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'udp_recvmsg')
      return err
    }
    if (!peeking) sk.net.mib[mib.inDatagrams] += 1
    if (msg.wantName || msg.wantControl) tellSource(sk, msg, skb, up.groEnabled !== 0)
    const result = (flags & MSG_TRUNC) !== 0 ? ulen : copied
    skbConsumeUdp(cpu, sk, skb, peeking ? -result : result)
    return result
  }
}

/** Models `skb_consume_udp` (net/ipv4/udp.c). @param len bytes read, negative when only looked at. */
export function skbConsumeUdp(cpu: Cpu, sk: Sock, skb: SkBuff, len: number): void {
  if (sk.peekOff >= 0) sk.peekOff = len < 0 ? sk.peekOff - len : Math.max(sk.peekOff - len, 0)
  if (!skbUnref(skb)) return
  const up = udpSk(sk)
  if (up.defersFree) {
    skbAttemptDeferFree(cpu, skb, up.recvSite)
    return
  }
  if (skb.refdst !== 0) skbReleaseHeadState(cpu, skb)
  consumeStatelessSkb(cpu, skb, up.recvSite)
}

/** Models the `csum_copy_err` exit: the packet goes, whoever looks at it. */
function badChecksum(cpu: Cpu, sk: Sock, skb: SkBuff, mib: UdpMib, peeking: boolean): void {
  const up = udpSk(sk)
  if (peeking) {
    if (skb.next !== 0 || skb.prev !== 0 || up.readerQueue.first === skb.id) {
      skbUnlink(up.readerQueue, skb)
      skb.users -= 1
      udpSkbDestructor(cpu, sk, skb)
    }
  }
  sk.drops += 1
  sk.net.mib[mib.csumErrors] += 1
  sk.net.mib[mib.inErrors] += 1
  kfreeSkb(cpu, skb, sk.env.profile.features.udpReadCsumReason ? 'UDP_CSUM' : 'NOT_SPECIFIED', up.recvSite)
}

/** The source address, and control messages that the user asked for. */
function tellSource(sk: Sock, msg: Msg, skb: SkBuff, gro: boolean): void {
  const { dv } = sk.env.mem
  if (msg.wantName) {
    const { name } = msg
    const uh = (skb.head + skb.transportHeader) >>> 0
    const iph = (skb.head + skb.networkHeader) >>> 0
    name.port = dv.getUint16(uh)
    name.family = sk.family
    const v4 = dv.getUint8(iph) >> 4 === 4
    if (sk.family === AF_INET) name.addr = dv.getInt32(iph + 12)
    else if (v4) name.addr6.set([0, 0, 0xffff, dv.getInt32(iph + 12)])
    else for (let i = 0; i < 4; i += 1) name.addr6[i] = dv.getInt32(iph + 8 + 4 * i)
  }
  if (!msg.wantControl) return
  if ((sk.flags & SOCKF_RXQ_OVFL) !== 0 && skb.cb11 !== 0) putCmsg(msg, SOL_SOCKET, SO.SO_RXQ_OVFL, skb.cb11)
  if (gro && gsoSize(skb) !== 0) putCmsg(msg, SOL_UDP, UDP_GRO, gsoSize(skb))
}

/**
 * Models `first_packet_length` (net/ipv4/udp.c): bytes of the first good datagram, -1 without one; bad ones are
 * thrown away on the way.
 */
export function firstPacketLength(cpu: Cpu, sk: Sock): number {
  const up = udpSk(sk)
  const queue = up.readerQueue
  // The kernel counts in IPv4's table here, whatever the socket's family.
  const mib = UDP4_MIB
  let total = 0
  let skb = firstGood(cpu, sk, mib)
  if (skb.total !== 0) total += skb.total
  if (skb.skb === null && !skbQueueEmpty(sk.receiveQueue)) {
    skbQueueSpliceTailInit(sk.receiveQueue, queue)
    skb = firstGood(cpu, sk, mib)
    total += skb.total
  }
  const result = skb.skb === null ? -1 : skb.skb.len
  if (total !== 0) udpRmemRelease(cpu, sk, total, 1)
  return result
}

/** Models `__first_packet_length`. */
function firstGood(cpu: Cpu, sk: Sock, mib: UdpMib): { skb: SkBuff | null; total: number } {
  const queue = udpSk(sk).readerQueue
  let total = 0
  for (let skb = skbPeek(queue); skb !== null; skb = skbPeek(queue)) {
    if (skb.ipSummed !== CHECKSUM_NONE || !udpLibChecksumComplete(skb)) return { skb, total }
    sk.net.mib[mib.csumErrors] += 1
    sk.net.mib[mib.inErrors] += 1
    sk.drops += 1
    skbUnlink(queue, skb)
    total += skb.truesize
    kfreeSkb(
      cpu,
      skb,
      sk.env.profile.features.udpReadCsumReason ? 'UDP_CSUM' : 'NOT_SPECIFIED',
      '__first_packet_length',
    )
  }
  return { skb: null, total }
}
