/**
 * From queued buffers to one packet with an IPv4 header: the rest of the buffers becomes its fragment list.
 */
import { type Addr, type Cpu, ERRNO, NULL } from '@netmem/base'
import { kfree, kmalloc } from '@netmem/memory'
import type { PageFrag } from '@netmem/page-frag'
import {
  SKB_IGNORE_DF,
  type SkBuff,
  type SkbQueue,
  setFragList,
  skbDequeue,
  skbPullUnchecked,
  skbQueueEmpty,
} from '@netmem/skbuff'
import { IPPROTO_ICMP, type Sock } from '@netmem/sockmem'
import { type Dst, dstMtu } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import { inetOf } from '../inet-sock.js'
import type { Cork, IpcmCookie } from './cork.js'
import { type AppendSource, flushFrames, IPV4_APPEND, ipAppendDataTo } from './ip-append.js'
import { IP_DF, IP_MAX_MTU } from './ip-header.js'

/** Models `sizeof(struct ip_options) + 40`, which a cork allocates for options. */
const CORK_OPT_BYTES = 56

// pmtudisc values (include/uapi/linux/in.h).
export const IP_PMTUDISC_DONT = 0
export const IP_PMTUDISC_WANT = 1
export const IP_PMTUDISC_DO = 2
export const IP_PMTUDISC_PROBE = 3
export const IP_PMTUDISC_INTERFACE = 4
export const IP_PMTUDISC_OMIT = 5

/** Models `ip_sk_ignore_df`: datagrams longer than the MTU may be fragmented here. */
export const ipSkIgnoreDf = (pmtudisc: number): boolean => pmtudisc < IP_PMTUDISC_DO || pmtudisc === IP_PMTUDISC_OMIT

/** Models `ip_setup_cork` (net/ipv4/ip_output.c). @returns 0, -ENOBUFS, or -ENETUNREACH for an impossible MTU. */
export function ipSetupCork(env: InetEnv, cpu: Cpu, sk: Sock, cork: Cork, ipc: IpcmCookie, dst: Dst): number {
  if (ipc.opt && cork.opt === NULL) {
    cork.opt = kmalloc(env.mem, cpu, CORK_OPT_BYTES, sk.allocation as never, 'ip_setup_cork')
    if (cork.opt === NULL) return -ERRNO.ENOBUFS
  }
  const pmtudisc = inetOf(sk).pmtudisc
  cork.fragsize = pmtudisc < IP_PMTUDISC_PROBE ? dstMtu(dst, IP_MAX_MTU) : Math.min(dst.dev.mtu, IP_MAX_MTU)
  if (cork.fragsize < 68) return -ERRNO.ENETUNREACH
  cork.gsoSize = ipc.gsoSize
  cork.dst = dst
  cork.length = 0
  cork.ttl = ipc.ttl
  cork.tos = ipc.tos
  cork.mark = ipc.mark
  cork.priority = ipc.priority
  return 0
}

/** Models `ip_cork_release`. */
export function ipCorkRelease(env: InetEnv, cpu: Cpu, cork: Cork, site: string): void {
  if (cork.opt !== NULL) kfree(env.mem, cpu, cork.opt, site)
  cork.opt = NULL as Addr
  cork.dst = null
}

/** Models `ip_append_data` (net/ipv4/ip_output.c): onto the socket's own queue, which holds one datagram. */
export function ipAppendData(
  env: InetEnv,
  cpu: Cpu,
  sk: Sock,
  cork: Cork,
  pfrag: PageFrag,
  source: AppendSource,
  length: number,
  transhdrlen: number,
  ipc: IpcmCookie,
  dst: Dst,
  flags: number,
): number {
  let header = transhdrlen
  if (skbQueueEmpty(sk.writeQueue)) {
    const err = ipSetupCork(env, cpu, sk, cork, ipc, dst)
    if (err !== 0) return err
  } else header = 0
  const ignoreDf = ipSkIgnoreDf(inetOf(sk).pmtudisc)
  const err = ipAppendDataTo(
    env,
    cpu,
    sk,
    sk.writeQueue,
    cork,
    pfrag,
    source,
    IPV4_APPEND,
    length,
    header,
    flags,
    ignoreDf,
  )
  return err
}

/**
 * Models `ip_make_skb` (net/ipv4/ip_output.c): a datagram in one call, not through the socket's queue.
 *
 * @param queue an empty queue of the caller's, empty again afterwards.
 * @returns null with the errno in `env.socks.lastError`.
 */
export function ipMakeSkb(
  env: InetEnv,
  cpu: Cpu,
  sk: Sock,
  queue: SkbQueue,
  cork: Cork,
  pfrag: PageFrag,
  source: AppendSource,
  length: number,
  transhdrlen: number,
  ipc: IpcmCookie,
  dst: Dst,
  flags: number,
): SkBuff | null {
  const pmtudisc = inetOf(sk).pmtudisc
  let err = ipSetupCork(env, cpu, sk, cork, ipc, dst)
  if (err === 0) {
    err = ipAppendDataTo(
      env,
      cpu,
      sk,
      queue,
      cork,
      pfrag,
      source,
      IPV4_APPEND,
      length,
      transhdrlen,
      flags,
      ipSkIgnoreDf(pmtudisc),
    )
    if (err === 0) return ipMakeSkbFrom(env, cpu, sk, queue, cork)
    flushFrames(env, cpu, queue, cork, '__ip_flush_pending_frames')
  }
  ipCorkRelease(env, cpu, cork, 'ip_cork_release')
  env.socks.lastError = err
  return null
}

/** Models `__ip_make_skb` (net/ipv4/ip_output.c): one packet of everything queued, with its IP header. */
export function ipMakeSkbFrom(env: InetEnv, cpu: Cpu, sk: Sock, queue: SkbQueue, cork: Cork): SkBuff | null {
  const skb = chainQueue(queue)
  if (skb === null) return null
  const { mem } = env
  const inet = inetOf(sk)
  const dst = cork.dst as Dst
  if (ipSkIgnoreDf(inet.pmtudisc)) skb.flags |= SKB_IGNORE_DF
  const df =
    inet.pmtudisc === IP_PMTUDISC_DO ||
    inet.pmtudisc === IP_PMTUDISC_PROBE ||
    (inet.pmtudisc === IP_PMTUDISC_WANT && skb.len <= dstMtu(dst, IP_MAX_MTU))
      ? IP_DF
      : 0
  const iph = (skb.head + skb.networkHeader) >>> 0
  const { dv } = mem
  const ignoreDf = (skb.flags & SKB_IGNORE_DF) !== 0
  dv.setUint16(iph, 0x4500 | (cork.tos >= 0 ? cork.tos : inet.tos))
  dv.setUint16(iph + 6, df)
  mem.u8[iph + 8] = cork.ttl !== 0 ? cork.ttl : inet.ttl(env, sk, dst)
  mem.u8[iph + 9] = sk.protocol
  dv.setInt32(iph + 12, cork.saddr)
  dv.setInt32(iph + 16, cork.daddr)
  dv.setUint16(iph + 4, ipSelectIdent(env, sk, df !== 0 && !ignoreDf))
  skb.priority = cork.priority !== 0 ? cork.priority : sk.priority
  if (sk.mark !== 0) skb.mark = sk.mark
  skb.refdst = dst.id
  if (sk.protocol === IPPROTO_ICMP) inet.icmpOutCount(env, sk, skb)
  ipCorkRelease(env, cpu, cork, '__ip_make_skb')
  return skb
}

/** The buffers behind the first become its fragment list, without their network headers; the first answers for all. */
export function chainQueue(queue: SkbQueue): SkBuff | null {
  const skb = skbDequeue(queue)
  if (skb === null) return null
  const network = (skb.head + skb.networkHeader) | 0
  if (skb.data < network) skbPullUnchecked(skb, (network - skb.data) | 0)
  const header = skb.transportHeader - skb.networkHeader
  let last: SkBuff | null = null
  for (let next = skbDequeue(queue); next !== null; next = skbDequeue(queue)) {
    skbPullUnchecked(next, header)
    if (last === null) setFragList(skb, next.id)
    else last.next = next.id
    last = next
    skb.len += next.len
    skb.dataLen += next.len
    skb.truesize += next.truesize
    next.destructor = 0
    next.sk = 0
  }
  return skb
}

/** Models `ip_select_ident`: a packet that cannot be fragmented needs no number that means anything. */
export function ipSelectIdent(env: InetEnv, sk: Sock, whole: boolean): number {
  if (whole) {
    if (sk.daddr === 0) return 0
    const inet = inetOf(sk)
    const id = inet.id
    inet.id = (id + 1) & 0xffff
    return id
  }
  const net = env.netOf(sk.net)
  const id = net.nextIpId
  net.nextIpId = (id + 1) & 0xffff
  return id
}
