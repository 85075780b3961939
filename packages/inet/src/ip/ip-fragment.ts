/**
 * Reassembly of IPv4. A datagram's fragments are found by addresses, identification and protocol; what arrives
 * twice is dropped, what overlaps takes the whole queue with it.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_NONE,
  CHECKSUM_UNNECESSARY,
  kfreeSkb,
  pskbPull,
  pskbTrimRcsum,
  type SkBuff,
  type SkbDropReason,
} from '@netmem/skbuff'
import { mibIndex } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import { icmpSendTimeExceeded } from '../icmp-slots.js'
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
import { IP_MF, IP_OFFSET, ipSendCheck } from './ip-header.js'

const IP_REASM_REQDS = mibIndex('Ip.ReasmReqds')
const IP_REASM_OKS = mibIndex('Ip.ReasmOKs')
const IP_REASM_FAILS = mibIndex('Ip.ReasmFails')
const IP_REASM_TIMEOUT = mibIndex('Ip.ReasmTimeout')
const IP_REASM_OVERLAPS = mibIndex('IpExt.ReasmOverlaps')

const hashOf = (q: FragQueue): number => fragHash(q.id, q.saddr, q.daddr, q.protocol)

/**
 * Models `ip_defrag` (net/ipv4/ip_fragment.c). Takes the skb unless it returns 0; then it is the whole datagram.
 *
 * @returns 0, -EINPROGRESS while fragments are missing, or another negative errno.
 */
export function ipDefrag(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff, dev: NetDevice): number {
  net.net.mib[IP_REASM_REQDS] += 1
  const queue = ipFind(env, cpu, net, skb)
  if (queue === null) {
    net.net.mib[IP_REASM_FAILS] += 1
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_defrag')
    return -ERRNO.ENOMEM
  }
  queue.refcnt += 1
  const err = ipFragQueue(env, cpu, net, queue, skb, dev)
  queue.refcnt -= 1
  if (!queue.hashed && queue.refcnt === 1) inetFragDestroy(cpu, queue)
  return err
}

/** Models `ip_find`. @returns null when the namespace's limit is reached or there is no memory. */
function ipFind(env: InetEnv, cpu: Cpu, net: InetNet, skb: SkBuff): FragQueue | null {
  const fqdir = net.frags
  if (fqdir.highThresh[0] === 0 || fqdir.mem > fqdir.highThresh[0]) return null
  const { dv } = env.mem
  const iph = skb.data >>> 0
  const id = dv.getUint16(iph + 4)
  const saddr = dv.getInt32(iph + 12)
  const daddr = dv.getInt32(iph + 16)
  const protocol = env.mem.u8[iph + 9]
  const hash = fragHash(id, saddr, daddr, protocol)
  const { frags } = fqdir
  for (let at = frags.table[hash]; at !== 0; ) {
    const q = frags.bodies[at - 1]
    if (q.fqdir === fqdir && q.id === id && q.saddr === saddr && q.daddr === daddr && q.protocol === protocol) return q
    at = q.hashNext
  }
  const queue = inetFragCreate(cpu, fqdir, hash)
  if (queue === null) return null
  queue.id = id
  queue.saddr = saddr
  queue.daddr = daddr
  queue.protocol = protocol
  queue.ipv6 = false
  return queue
}

/** Models `ip_frag_queue`. */
function ipFragQueue(env: InetEnv, cpu: Cpu, net: InetNet, queue: FragQueue, skb: SkBuff, dev: NetDevice): number {
  if ((queue.flags & INET_FRAG_COMPLETE) !== 0) return refuse(cpu, skb, 'DUP_FRAG', -ERRNO.ENOENT)
  const iph = skb.data >>> 0
  const word = env.mem.dv.getUint16(iph + 6)
  const offset = (word & IP_OFFSET) << 3
  const more = (word & IP_MF) !== 0
  const ihl = (env.mem.u8[iph] & 15) * 4
  let end = offset + skb.len - ihl
  if (!more) {
    if (end < queue.len || ((queue.flags & INET_FRAG_LAST_IN) !== 0 && end !== queue.len))
      return discard(cpu, net, queue, skb, -ERRNO.EINVAL)
    queue.flags |= INET_FRAG_LAST_IN
    queue.len = end
  } else {
    if ((end & 7) !== 0) {
      end &= ~7
      if (skb.ipSummed !== CHECKSUM_UNNECESSARY) skb.ipSummed = CHECKSUM_NONE
    }
    if (end > queue.len) {
      if ((queue.flags & INET_FRAG_LAST_IN) !== 0) return discard(cpu, net, queue, skb, -ERRNO.EINVAL)
      queue.len = end
    }
  }
  if (end === offset) return discard(cpu, net, queue, skb, -ERRNO.EINVAL)
  if (pskbPull(cpu, skb, ihl) === 0) return discard(cpu, net, queue, skb, -ERRNO.ENOMEM)
  if (pskbTrimRcsum(cpu, skb, end - offset) !== 0) return discard(cpu, net, queue, skb, -ERRNO.ENOMEM)
  const inserted = inetFragQueueInsert(queue, skb, offset, end)
  if (inserted === IPFRAG_DUP) return refuse(cpu, skb, 'DUP_FRAG', -ERRNO.EINVAL)
  if (inserted !== 0) {
    net.net.mib[IP_REASM_OVERLAPS] += 1
    return discard(cpu, net, queue, skb, -ERRNO.EINVAL)
  }
  queue.iif = dev.id
  queue.meat += skb.len
  queue.fqdir.mem += skb.truesize
  if (offset === 0) queue.flags |= INET_FRAG_FIRST_IN
  if (skb.len + ihl > queue.maxSize) queue.maxSize = skb.len + ihl
  if (queue.flags === (INET_FRAG_FIRST_IN | INET_FRAG_LAST_IN) && queue.meat === queue.len) {
    const refdst = skb.refdst
    skb.refdst = 0
    const err = ipFragReasm(env, cpu, net, queue, skb, dev)
    if (err === 0) skb.refdst = refdst
    return err
  }
  skb.refdst = 0
  fragOrphan(cpu, skb)
  return -ERRNO.EINPROGRESS
}

/** Models `ip_frag_reasm`: all fragments are here. */
function ipFragReasm(env: InetEnv, cpu: Cpu, net: InetNet, queue: FragQueue, skb: SkBuff, dev: NetDevice): number {
  inetFragKill(queue, hashOf(queue))
  const ok = inetFragReasmPrepare(cpu, queue, skb)
  const ihl = skb.transportHeader - skb.networkHeader
  if (!ok || ihl + queue.len > 65535) {
    // The queue still owns every fragment, this one too, and frees them with itself.
    net.net.mib[IP_REASM_FAILS] += 1
    return ok ? -ERRNO.E2BIG : -ERRNO.ENOMEM
  }
  inetFragReasmFinish(cpu, queue, skb, true)
  skb.dev = dev.id
  const iph = (skb.head + skb.networkHeader) >>> 0
  env.mem.dv.setUint16(iph + 2, ihl + queue.len)
  env.mem.dv.setUint16(iph + 6, 0)
  ipSendCheck(env.mem, iph)
  net.net.mib[IP_REASM_OKS] += 1
  return 0
}

// Cold path.

function refuse(cpu: Cpu, skb: SkBuff, reason: SkbDropReason, err: number): number {
  kfreeSkb(cpu, skb, reason, 'ip_defrag')
  return err
}

/** The whole queue is worthless. Models the `discard_qp` exit of `ip_frag_queue`. */
function discard(cpu: Cpu, net: InetNet, queue: FragQueue, skb: SkBuff, err: number): number {
  inetFragKill(queue, hashOf(queue))
  net.net.mib[IP_REASM_FAILS] += 1
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_defrag')
  return err
}

/** Models `ip_expire` (net/ipv4/ip_fragment.c): the time is over; the sender is told if the first fragment came. */
export function ipExpire(env: InetEnv, cpu: Cpu, queue: FragQueue): void {
  const net = env.nets[queue.fqdir.ns]
  queue.flags |= INET_FRAG_DROP
  inetFragKill(queue, hashOf(queue))
  net.net.mib[IP_REASM_FAILS] += 1
  net.net.mib[IP_REASM_TIMEOUT] += 1
  if ((queue.flags & INET_FRAG_FIRST_IN) !== 0 && queue.first !== 0) {
    const head = env.skbs.skbs[queue.first]
    queue.first = head.next
    if (head.next === 0) queue.last = 0
    head.next = 0
    queue.fqdir.mem -= head.truesize
    head.dev = queue.iif
    icmpSendTimeExceeded(env, cpu, head)
    kfreeSkb(cpu, head, 'FRAG_REASM_TIMEOUT', 'ip_expire')
  }
  inetFragDestroy(cpu, queue)
}
