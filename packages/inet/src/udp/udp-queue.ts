/**
 * Queueing a datagram at its socket, and giving its memory back when it was read. The two kernels differ in
 * what is compared with the buffer, in how much is charged, and in whether packets pass through a producer queue.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { kfreeSkb, type SkBuff, skbCondense, skbQueueEmpty, skbQueueSpliceTailInit, skbQueueTail } from '@netmem/skbuff'
import {
  SK_MEM_RECV,
  SOCKF_DEAD,
  type Sock,
  skMemPages,
  skMemRaiseAllocated,
  skMemReduceAllocated,
  skMemSchedule,
  sockSkbSetDropcount,
} from '@netmem/sockmem'
import { type UdpProdQueue, udpSk } from './udp-sock.js'

const INT_MAX_HALF = 0x7fffffff >> 1

/** Models `udp_set_dev_scratch`: the queue remembers the truesize where the device was. */
function udpSetDevScratch(skb: SkBuff): void {
  skb.devScratch = skb.truesize
}

/**
 * Models `__udp_enqueue_schedule_skb` (net/ipv4/udp.c). Takes the skb when it returns 0.
 *
 * @returns 0; -ENOMEM when the receive buffer is full; -ENOBUFS when the protocol is (6.1 only: later kernels drop the
 * packet themselves and tell nobody).
 */
export function udpEnqueueScheduleSkb(cpu: Cpu, sk: Sock, skb: SkBuff): number {
  const up = udpSk(sk)
  return up.prodQueues.length !== 0
    ? enqueueThroughProducer(cpu, sk, up.prodQueues[cpu.node], skb)
    : enqueueDirect(cpu, sk, skb)
}

/** 6.18: an empty socket takes any packet, any other only what fits; the charge is what is lacking. */
function enqueueThroughProducer(cpu: Cpu, sk: Sock, prod: UdpProdQueue, skb: SkBuff): number {
  const rcvbuf = sk.rcvbuf
  const rmem = sk.rmemAlloc + prod.rmemAlloc
  let size = skb.truesize
  if (rmem + size > rcvbuf && (rcvbuf > INT_MAX_HALF || rmem !== 0)) {
    sk.drops += 1
    return -ERRNO.ENOMEM
  }
  // A half full queue is squeezed: readers behind schedule should at least cost little.
  if (rmem > rcvbuf >> 1) {
    skbCondense(cpu, skb)
    size = skb.truesize
  }
  skb.devScratch = size
  if (prod.rmemAlloc !== 0) {
    // Somebody is already moving this list to the socket, and will see the packet too.
    prod.rmemAlloc += size
    skb.next = prod.first
    prod.first = skb.id
    return 0
  }
  prod.rmemAlloc = size
  queueOrDrop(cpu, sk, skb, size)
  // Callbacks may have sent something that came back to this very socket.
  while (prod.first !== 0) drainProducer(cpu, sk, prod)
  prod.rmemAlloc = 0
  return 0
}

/** The usual batch: one packet. */
function queueOrDrop(cpu: Cpu, sk: Sock, skb: SkBuff, size: number): void {
  const delta = size - sk.forwardAlloc
  if (delta > 0 && !skMemSchedule(cpu, sk, delta, SK_MEM_RECV)) {
    skb.next = 0
    dropRefused(cpu, sk, skb.id)
    return
  }
  sk.forwardAlloc -= size
  sockSkbSetDropcount(sk, skb)
  skbQueueTail(sk.receiveQueue, skb)
  sk.rmemAlloc += size
  if ((sk.flags & SOCKF_DEAD) === 0) sk.dataReady(cpu, sk)
}

/** Takes over everything pushed meanwhile, oldest first, and charges it. */
function drainProducer(cpu: Cpu, sk: Sock, prod: UdpProdQueue): void {
  const { skbs } = sk.env.skbs
  let id = reverse(skbs, prod.first)
  prod.first = 0
  let queued = 0
  let refused = 0
  let bytes = 0
  while (id !== 0) {
    const skb = skbs[id]
    const next = skb.next
    const size = skb.truesize
    const delta = size - sk.forwardAlloc
    if (delta > 0 && !skMemSchedule(cpu, sk, delta, SK_MEM_RECV)) {
      skb.next = refused
      refused = id
    } else {
      sk.forwardAlloc -= size
      sockSkbSetDropcount(sk, skb)
      bytes += size
      queued += 1
      skbQueueTail(sk.receiveQueue, skb)
    }
    id = next
  }
  sk.rmemAlloc += bytes
  if ((sk.flags & SOCKF_DEAD) === 0) for (; queued > 0; queued -= 1) sk.dataReady(cpu, sk)
  if (refused !== 0) dropRefused(cpu, sk, refused)
}

function reverse(skbs: readonly SkBuff[], first: number): number {
  let result = 0
  for (let id = first; id !== 0; ) {
    const skb = skbs[id]
    const next = skb.next
    skb.next = result
    result = id
    id = next
  }
  return result
}

function dropRefused(cpu: Cpu, sk: Sock, first: number): void {
  const { skbs } = sk.env.skbs
  for (let id = first; id !== 0; ) {
    const skb = skbs[id]
    id = skb.next
    skb.next = 0
    sk.drops += 1
    kfreeSkb(cpu, skb, 'PROTO_MEM', '__udp_enqueue_schedule_skb', sk.id)
  }
}

/** 6.1: compares what is queued without the newcomer, so one packet too many gets in; charges whole pages per packet. */
function enqueueDirect(cpu: Cpu, sk: Sock, skb: SkBuff): number {
  if (sk.rmemAlloc > sk.rcvbuf) {
    sk.drops += 1
    return -ERRNO.ENOMEM
  }
  if (sk.rmemAlloc > sk.rcvbuf >> 1) skbCondense(cpu, skb)
  const size = skb.truesize
  udpSetDevScratch(skb)
  sk.rmemAlloc += size
  if (sk.rmemAlloc > size + sk.rcvbuf) {
    sk.rmemAlloc -= size
    sk.drops += 1
    return -ERRNO.ENOMEM
  }
  if (size >= sk.forwardAlloc) {
    const pages = skMemPages(sk.env, size)
    const bytes = pages << sk.env.pageShift
    if (!skMemRaiseAllocated(cpu, sk, bytes, pages, SK_MEM_RECV)) {
      sk.rmemAlloc -= size
      sk.drops += 1
      return -ERRNO.ENOBUFS
    }
    sk.forwardAlloc += bytes
  }
  sk.forwardAlloc -= size
  sockSkbSetDropcount(sk, skb)
  skbQueueTail(sk.receiveQueue, skb)
  if ((sk.flags & SOCKF_DEAD) === 0) sk.dataReady(cpu, sk)
  return 0
}

/**
 * Models `udp_rmem_release` (net/ipv4/udp.c): what was read is given back in steps of a quarter of the buffer, or when
 * the reader's queue is empty; one page at most stays with the socket.
 *
 * @param size bytes of truesize just read. @param partial 1, or 0 to give everything back.
 */
export function udpRmemRelease(cpu: Cpu, sk: Sock, size: number, partial: number): void {
  const up = udpSk(sk)
  const bytes = size + up.forwardDeficit
  if (partial !== 0) {
    up.forwardDeficit = bytes
    if (bytes < up.forwardThreshold && !skbQueueEmpty(up.readerQueue)) return
  }
  up.forwardDeficit = 0
  const amount = (bytes + sk.forwardAlloc - partial) & -sk.env.pageSize
  sk.forwardAlloc += bytes - amount
  if (amount !== 0) skMemReduceAllocated(cpu, sk, amount >> sk.env.pageShift)
  sk.rmemAlloc -= bytes
  skbQueueSpliceTailInit(sk.receiveQueue, up.readerQueue)
}

/** Models `udp_skb_destructor`: the reader took this packet. */
export function udpSkbDestructor(cpu: Cpu, sk: Sock, skb: SkBuff): void {
  udpRmemRelease(cpu, sk, skb.devScratch, 1)
}
