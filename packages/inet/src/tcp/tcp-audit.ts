/** What must hold for every TCP socket after every step; each breach throws an `Error` that says in words what it is. */
import type { SkBuff, SkbQueue } from '@netmem/skbuff'
import { type Sock, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT } from '@netmem/sockmem'
import { after, before } from './seq.js'
import type { TcpEnv } from './tcp-env.js'
import {
  TCPCB_LOST,
  TCPCB_SACKED_ACKED,
  TCPCB_SACKED_RETRANS,
  TCPHDR_FIN,
  TCPHDR_SYN,
  tcpFlags,
  tcpSkbPcount,
} from './tcp-skb.js'
import { TcpSock } from './tcp-sock.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`TCP audit: ${words()}`)
}

function* packets(queue: SkbQueue, env: TcpEnv): Generator<SkBuff> {
  for (let id = queue.first; id !== 0; id = env.skbs.skbs[id]!.next) yield env.skbs.skbs[id]!
}

/** Bytes of sequence space that a packet stands for. */
const seqLen = (skb: SkBuff): number => {
  const flags = tcpFlags(skb)
  return skb.len + ((flags & TCPHDR_SYN) !== 0 ? 1 : 0) + ((flags & TCPHDR_FIN) !== 0 ? 1 : 0)
}

/** The laws of one socket: memory is what its queues hold, and the queues are the stream without gap or overlap. */
export function auditTcpSock(sk: Sock): void {
  const tp = sk.priv as TcpSock
  const name = `socket ${sk.id} in state ${sk.state}`
  auditReceive(sk, tp, name)
  auditSend(sk, tp, name)
}

function auditReceive(sk: Sock, tp: TcpSock, name: string): void {
  let rmem = 0
  let next: number | null = null
  for (const skb of packets(sk.receiveQueue, tp.env)) {
    rmem += skb.truesize
    check(
      skb.destructor === sk.env.sockRfree && skb.sk === sk.id,
      () => `${name}: a received packet is not charged to it`,
    )
    if (next !== null) check(!after(skb.cb0, next), () => `${name}: the receive queue has a hole at ${next}`)
    next = skb.cb1
  }
  if (next !== null)
    check(next === tp.rcvNxt, () => `${name}: the receive queue ends at ${next}, expected is ${tp.rcvNxt}`)
  // Only where they begin is in order: one that grew by coalescing may reach over the end of its successor.
  let start = tp.rcvNxt
  for (const skb of packets(tp.outOfOrderQueue, tp.env)) {
    rmem += skb.truesize
    check(after(skb.cb0, start), () => `${name}: a packet out of order begins at ${skb.cb0}, not after ${start}`)
    check(after(skb.cb1, skb.cb0), () => `${name}: a packet out of order is empty at ${skb.cb0}`)
    start = skb.cb0
  }
  for (const skb of packets(sk.errorQueue, tp.env)) if (skb.destructor === sk.env.sockRmemFree) rmem += skb.truesize
  check(sk.rmemAlloc === rmem, () => `${name}: rmem_alloc ${sk.rmemAlloc}, its queues hold ${rmem}`)
  check(!after(tp.copiedSeq, (tp.rcvNxt + 1) | 0), () => `${name}: read up to ${tp.copiedSeq}, received ${tp.rcvNxt}`)
}

function auditSend(sk: Sock, tp: TcpSock, name: string): void {
  let wmem = 0
  let next: number | null = null
  const counts = { out: 0, sacked: 0, lost: 0, retrans: 0 }
  for (const queue of [tp.rtxQueue, sk.writeQueue])
    for (const skb of packets(queue, tp.env)) {
      wmem += skb.truesize
      const at = next
      if (at !== null) check(skb.cb0 === at, () => `${name}: a packet to send begins at ${skb.cb0}, not at ${at}`)
      next = skb.cb1
      check((skb.cb1 - skb.cb0) >>> 0 === seqLen(skb), () => `${name}: ${seqLen(skb)} bytes for ${skb.cb0}..${skb.cb1}`)
      if (queue === sk.writeQueue) continue
      const segs = tcpSkbPcount(skb)
      counts.out += segs
      if ((skb.cb2 & TCPCB_SACKED_ACKED) !== 0) counts.sacked += segs
      if ((skb.cb2 & TCPCB_LOST) !== 0) counts.lost += segs
      if ((skb.cb2 & TCPCB_SACKED_RETRANS) !== 0) counts.retrans += segs
    }
  check(sk.wmemQueued === wmem, () => `${name}: wmem_queued ${sk.wmemQueued}, its queues hold ${wmem}`)
  if (next !== null) check(next === tp.writeSeq, () => `${name}: the queues end at ${next}, written is ${tp.writeSeq}`)
  check(tp.packetsOut === counts.out, () => `${name}: packets_out ${tp.packetsOut}, in flight are ${counts.out}`)
  check(tp.lostOut === counts.lost, () => `${name}: lost_out ${tp.lostOut}, marked are ${counts.lost}`)
  // Not equal: a timeout after an undo counts the same packet twice, in the kernel too ("retrans_out leaked").
  check(tp.retransOut >= counts.retrans, () => `${name}: retrans_out ${tp.retransOut}, marked are ${counts.retrans}`)
  if (counts.out === 0 && tp.rx.sackOk !== 0)
    check(tp.retransOut === 0, () => `${name}: retrans_out ${tp.retransOut} with nothing in flight`)
  // Without SACK the count is a guess from duplicate ACKs.
  if (tp.rx.sackOk !== 0)
    check(tp.sackedOut === counts.sacked, () => `${name}: sacked_out ${tp.sackedOut}, marked are ${counts.sacked}`)
  const head = tp.rtxQueue.first === 0 ? null : tp.env.skbs.skbs[tp.rtxQueue.first]!
  if (head !== null) check(after(head.cb1, tp.sndUna), () => `${name}: a packet that is acknowledged is still queued`)
  check(!before(tp.sndNxt, tp.sndUna), () => `${name}: snd_nxt ${tp.sndNxt} is before snd_una ${tp.sndUna}`)
  const alive = sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV || sk.state === TCP_LISTEN
  if (!alive && head !== null) check(tp.pending !== 0, () => `${name}: packets are in flight and no timer runs`)
}

/** The laws of one machine's TCP: every socket, the ports, requests and time-wait socks. */
export function auditTcp(env: TcpEnv): void {
  let ports = 0
  let allocated = 0
  for (const sk of env.socks.socks) {
    if (sk === null || !(sk.priv instanceof TcpSock)) continue
    auditTcpSock(sk)
    if (!sk.priv.destroyed) allocated += 1
    if (sk.priv.bindBucket !== null) ports += 1
    check((sk.priv.bindBucket === null) === (sk.priv.bind2Bucket === null), () => `socket ${sk.id} holds half a port`)
    check(sk.owned === 0, () => `socket ${sk.id} is owned though nobody is in a call`)
    check(sk.backlogHead === 0 && sk.backlogLen === 0, () => `socket ${sk.id}: its backlog was forgotten`)
  }
  const counted = env.proto.socketsAllocated!.value
  check(counted === allocated, () => `${counted} sockets are counted, ${allocated} are there`)
  let waiting = 0
  for (const tw of env.timewaits)
    if (tw != null) {
      waiting += 1
      if (tw.tb !== null) ports += 1
    }
  check(env.twCount === waiting, () => `${env.twCount} time-wait socks are counted, ${waiting} are there`)
  const owners = env.bindTable.owners
  check(owners === ports, () => `ports are held ${owners} times, by ${ports} sockets`)
}
