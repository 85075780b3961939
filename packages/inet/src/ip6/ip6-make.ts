/** Building datagrams over IPv6, on the same machinery as IPv4's. */
import { type Cpu, ERRNO } from '@netmem/base'
import type { PageFrag } from '@netmem/page-frag'
import { SKB_IGNORE_DF, type SkBuff, type SkbQueue, skbQueueEmpty } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { type Dst, dstMtu } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import { inetOf } from '../inet-sock.js'
import type { Cork, IpcmCookie } from '../ip/cork.js'
import { type AppendSource, flushFrames, IPV6_APPEND, ipAppendDataTo } from '../ip/ip-append.js'
import { chainQueue, IP_PMTUDISC_PROBE, ipSkIgnoreDf } from '../ip/ip-make.js'
import { IP6_MAX_MTU } from './ip6-output.js'
import { IPV6_MIN_MTU, writeIpv6Addr } from './ipv6-header.js'

/** Models `ip6_setup_cork`. @returns 0, or -EINVAL for an impossible MTU. */
function ip6SetupCork(sk: Sock, cork: Cork, ipc: IpcmCookie, dst: Dst): number {
  const probes = inetOf(sk).pmtudisc6 >= IP_PMTUDISC_PROBE
  cork.fragsize = probes ? dst.dev.mtu : dstMtu(dst, IP6_MAX_MTU)
  if (cork.fragsize < IPV6_MIN_MTU) return -ERRNO.EINVAL
  cork.gsoSize = ipc.gsoSize
  cork.dst = dst
  cork.length = 0
  cork.ttl = ipc.ttl
  cork.tos = ipc.tos
  cork.priority = ipc.priority
  return 0
}

/** Models `ip6_append_data`: onto the socket's own queue. */
export function ip6AppendData(
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
    const err = ip6SetupCork(sk, cork, ipc, dst)
    if (err !== 0) return err
  } else header = 0
  const ignoreDf = ipSkIgnoreDf(inetOf(sk).pmtudisc6) && !inetOf(sk).dontfrag6
  const queue = sk.writeQueue
  const err = ipAppendDataTo(env, cpu, sk, queue, cork, pfrag, source, IPV6_APPEND, length, header, flags, ignoreDf)
  return err
}

/** Models `ip6_make_skb`. @param queue empty, and empty again afterwards. @returns null with the errno in `lastError`. */
export function ip6MakeSkb(
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
  let err = ip6SetupCork(sk, cork, ipc, dst)
  if (err === 0) {
    const ignoreDf = ipSkIgnoreDf(inetOf(sk).pmtudisc6) && !inetOf(sk).dontfrag6
    err = ipAppendDataTo(env, cpu, sk, queue, cork, pfrag, source, IPV6_APPEND, length, transhdrlen, flags, ignoreDf)
    if (err === 0) return ip6MakeSkbFrom(env, sk, queue, cork)
    flushFrames(env, cpu, queue, cork, '__ip6_flush_pending_frames')
  }
  cork.dst = null
  env.socks.lastError = err
  return null
}

/** Models `__ip6_make_skb` (net/ipv6/ip6_output.c): one packet of everything queued, with its IPv6 header. */
export function ip6MakeSkbFrom(env: InetEnv, sk: Sock, queue: SkbQueue, cork: Cork): SkBuff | null {
  const skb = chainQueue(queue)
  if (skb === null) return null
  const inet = inetOf(sk)
  const { mem } = env
  if (ipSkIgnoreDf(inet.pmtudisc6)) skb.flags |= SKB_IGNORE_DF
  const hdr = (skb.head + skb.networkHeader) >>> 0
  mem.dv.setInt32(hdr, 0x60000000 | ((cork.tos >= 0 ? cork.tos : inet.tos) << 20))
  mem.u8[hdr + 6] = sk.protocol
  mem.u8[hdr + 7] = cork.ttl !== 0 ? cork.ttl : inet.hopLimit < 0 ? 64 : inet.hopLimit
  writeIpv6Addr(mem, hdr + 8, cork.saddr6)
  writeIpv6Addr(mem, hdr + 24, cork.daddr6)
  skb.priority = cork.priority !== 0 ? cork.priority : sk.priority
  if (sk.mark !== 0) skb.mark = sk.mark
  skb.refdst = (cork.dst as Dst).id
  cork.dst = null
  return skb
}
