/** Reassembly of IPv6: as IPv4's, with the fragment header taken out of the finished packet. */
import type { Cpu } from '@netmem/base'
import { kfreeSkb, pskbMayPull, pskbPull, pskbTrimRcsum, type SkBuff, type SkbDropReason } from '@netmem/skbuff'
import { mibIndex } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import { ICMPV6_EXC_FRAGTIME, ICMPV6_TIME_EXCEED, icmpSlotsOf } from '../icmp-slots.js'
import type { InetEnv } from '../inet-env.js'
import {
  type FragQueue,
  fragHash,
  fragOrphan,
  INET_FRAG_COMPLETE,
  INET_FRAG_DROP,
  INET_FRAG_FIRST_IN,
  INET_FRAG_LAST_IN,
  IPFRAG_DUP,
  inetFragCreate,
  inetFragDestroy,
  inetFragKill,
  inetFragQueueInsert,
  inetFragReasmFinish,
  inetFragReasmPrepare,
} from '../inet-fragment.js'
import type { InetNet } from '../inet-net.js'
import { FRAG_HLEN, IPV6_HLEN, IPV6_MAXPLEN, readIpv6Addr } from './ipv6-header.js'

const REASM_REQDS = mibIndex('Ip6.ReasmReqds')
const REASM_OKS = mibIndex('Ip6.ReasmOKs')
const REASM_FAILS = mibIndex('Ip6.ReasmFails')
const REASM_TIMEOUT = mibIndex('Ip6.ReasmTimeout')
const IN_HDR_ERRORS = mibIndex('Ip6.InHdrErrors')
const IP6_MF = 1
const IP6_OFFSET = 0xfff8

const fold = (a: Int32Array): number => a[0] ^ Math.imul(a[1], 3) ^ Math.imul(a[2], 5) ^ Math.imul(a[3], 7)
const hashOf = (q: FragQueue): number => fragHash(q.id, fold(q.saddr6), fold(q.daddr6), 44)

/**
 * Models `ipv6_frag_rcv` (net/ipv6/reassembly.c), `data` at the fragment header. Takes the skb when it returns 0.
 *
 * @returns 0, or the negative number of the header that follows in the whole packet.
 */
export function ipv6FragRcv(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, dev: NetDevice): number {
  const { mem } = env
  net.net.mib[REASM_REQDS] += 1
  if (!pskbMayPull(cpu, skb, FRAG_HLEN)) {
    net.net.mib[IN_HDR_ERRORS] += 1
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ipv6_frag_rcv')
    return 0
  }
  const fh = skb.data >>> 0
  const word = mem.dv.getUint16(fh + 2)
  const nexthdr = mem.u8[fh]
  if ((word & (IP6_OFFSET | IP6_MF)) === 0) {
    // A fragment that is the whole packet.
    skb.transportHeader += FRAG_HLEN
    net.net.mib[REASM_OKS] += 1
    return -nexthdr
  }
  const queue = fqFind(env, cpu, net, skb, mem.dv.getInt32(fh + 4))
  if (queue === null) {
    net.net.mib[REASM_FAILS] += 1
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ipv6_frag_rcv')
    return 0
  }
  queue.refcnt += 1
  if ((word & IP6_OFFSET) === 0) queue.protocol = nexthdr
  const whole = ip6FragQueue(env, cpu, net, queue, skb, word, dev)
  const first = queue.protocol
  queue.refcnt -= 1
  if (!queue.hashed && queue.refcnt === 1) inetFragDestroy(cpu, queue)
  return whole ? -first : 0
}

/** Models `fq_find`. */
function fqFind(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, id: number): FragQueue | null {
  const fqdir = net.frags6
  if (fqdir.highThresh[0] === 0 || fqdir.mem > fqdir.highThresh[0]) return null
  const hdr = (skb.head + skb.networkHeader) >>> 0
  const { scratch6 } = env
  readIpv6Addr(env.mem, hdr + 8, scratch6.saddr)
  readIpv6Addr(env.mem, hdr + 24, scratch6.daddr)
  const hash = fragHash(id, fold(scratch6.saddr), fold(scratch6.daddr), 44)
  const { frags } = fqdir
  for (let at = frags.table[hash]; at !== 0; ) {
    const q = frags.bodies[at - 1]
    if (q.fqdir === fqdir && q.id === id && same(q.saddr6, scratch6.saddr) && same(q.daddr6, scratch6.daddr)) return q
    at = q.hashNext
  }
  const queue = inetFragCreate(cpu, fqdir, hash)
  if (queue === null) return null
  queue.id = id
  queue.ipv6 = true
  queue.protocol = 0
  queue.saddr6.set(scratch6.saddr)
  queue.daddr6.set(scratch6.daddr)
  return queue
}

const same = (a: Int32Array, b: Int32Array): boolean => a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3]

/** Models `ip6_frag_queue`. @returns true when `skb` is the whole packet now; otherwise it is taken. */
function ip6FragQueue(
  env: InetEnv,
  cpu: Cpu,
  net: InetNet,
  queue: FragQueue,
  skb: SkBuff,
  word: number,
  dev: NetDevice,
): boolean {
  if ((queue.flags & INET_FRAG_COMPLETE) !== 0) return refuse(cpu, skb, 'DUP_FRAG')
  const offset = word & IP6_OFFSET
  const end = offset + skb.len - FRAG_HLEN
  if ((word & IP6_MF) === 0) {
    if (end < queue.len || ((queue.flags & INET_FRAG_LAST_IN) !== 0 && end !== queue.len))
      return discard(cpu, net, queue, skb)
    queue.flags |= INET_FRAG_LAST_IN
    queue.len = end
  } else {
    if ((end & 7) !== 0) return discard(cpu, net, queue, skb)
    if (end > queue.len) {
      if ((queue.flags & INET_FRAG_LAST_IN) !== 0) return discard(cpu, net, queue, skb)
      queue.len = end
    }
  }
  if (end === offset || pskbPull(cpu, skb, FRAG_HLEN) === 0 || pskbTrimRcsum(cpu, skb, end - offset) !== 0)
    return discard(cpu, net, queue, skb)
  const inserted = inetFragQueueInsert(queue, skb, offset, end)
  if (inserted === IPFRAG_DUP) return refuse(cpu, skb, 'DUP_FRAG')
  if (inserted !== 0) return discard(cpu, net, queue, skb)
  queue.iif = dev.id
  queue.meat += skb.len
  queue.fqdir.mem += skb.truesize
  if (offset === 0) queue.flags |= INET_FRAG_FIRST_IN
  if (queue.flags === (INET_FRAG_FIRST_IN | INET_FRAG_LAST_IN) && queue.meat === queue.len) {
    const refdst = skb.refdst
    skb.refdst = 0
    const whole = ip6FragReasm(env, cpu, net, queue, skb, dev)
    if (whole) skb.refdst = refdst
    return whole
  }
  skb.refdst = 0
  fragOrphan(cpu, skb)
  return false
}

/** Models `ip6_frag_reasm`. */
function ip6FragReasm(env: InetEnv, cpu: Cpu, net: InetNet, queue: FragQueue, skb: SkBuff, dev: NetDevice): boolean {
  inetFragKill(queue, hashOf(queue))
  const ok = inetFragReasmPrepare(cpu, queue, skb)
  const before = ((skb.data - skb.head) | 0) - skb.networkHeader - IPV6_HLEN - FRAG_HLEN
  const payload = before + queue.len
  if (!ok || payload > IPV6_MAXPLEN) {
    net.net.mib[REASM_FAILS] += 1
    return false
  }
  const { u8, dv } = env.mem
  const head = skb.head >>> 0
  // Everything in front of the fragment header moves up by its length.
  u8.copyWithin(head + FRAG_HLEN, head, (skb.data >>> 0) - FRAG_HLEN)
  skb.macHeader += FRAG_HLEN
  skb.networkHeader += FRAG_HLEN
  skb.transportHeader = (skb.data - skb.head) | 0
  inetFragReasmFinish(cpu, queue, skb, true)
  skb.dev = dev.id
  const hdr = (skb.head + skb.networkHeader) >>> 0
  u8[hdr + 6] = queue.protocol
  dv.setUint16(hdr + 4, payload)
  net.net.mib[REASM_OKS] += 1
  return true
}

function refuse(cpu: Cpu, skb: SkBuff, reason: SkbDropReason): false {
  kfreeSkb(cpu, skb, reason, 'ipv6_frag_rcv')
  return false
}

function discard(cpu: Cpu, net: InetNet, queue: FragQueue, skb: SkBuff): false {
  inetFragKill(queue, hashOf(queue))
  net.net.mib[REASM_FAILS] += 1
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ipv6_frag_rcv')
  return false
}

/** Models `ip6frag_expire_frag_queue`. */
export function ip6FragExpire(env: InetEnv, cpu: Cpu, queue: FragQueue): void {
  const net = env.nets[queue.fqdir.ns]
  queue.flags |= INET_FRAG_DROP
  inetFragKill(queue, hashOf(queue))
  net.net.mib[REASM_FAILS] += 1
  net.net.mib[REASM_TIMEOUT] += 1
  if ((queue.flags & INET_FRAG_FIRST_IN) !== 0 && queue.first !== 0) {
    const head = env.skbs.skbs[queue.first]
    queue.first = head.next
    if (head.next === 0) queue.last = 0
    head.next = 0
    queue.fqdir.mem -= head.truesize
    head.dev = queue.iif
    icmpSlotsOf(env).icmp6Send(cpu, head, ICMPV6_TIME_EXCEED, ICMPV6_EXC_FRAGTIME, 0)
    kfreeSkb(cpu, head, 'FRAG_REASM_TIMEOUT', 'ip6frag_expire_frag_queue')
  }
  inetFragDestroy(cpu, queue)
}
