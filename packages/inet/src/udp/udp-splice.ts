/** UDP and sendfile: what was held back for more that never came, and page by page as kernels before 6.5 did it. */
import { type Addr, type Cpu, ERRNO, type Gfp, type Pfn } from '@netmem/base'
import {
  CHECKSUM_NONE,
  csumBlockAdd,
  csumPartial,
  csumSub,
  pskbTrim,
  type SkBuff,
  skbAppendPagefrags,
  skbCopyBits,
  skbPeekTail,
  skbPut,
  skbQueueTail,
  skbReserve,
} from '@netmem/skbuff'
import {
  lockSock,
  MSG_MORE,
  MSG_PROBE,
  MSG_SENDPAGE_NOTLAST,
  releaseSock,
  type Sock,
  sockWmalloc,
  type Task,
} from '@netmem/sockmem'
import { NETIF_F_SG } from '@netmem/virtual-nic'
import { type Dst, llReservedSpace } from '../dst.js'
import { IPV4_APPEND } from '../ip/ip-append.js'
import { ipSkIgnoreDf } from '../ip/ip-make.js'
import { udpOf } from './udp-env.js'
import { udpFlushPendingFrames, udpPushPendingFrames, udpSendmsg } from './udp-send.js'
import { udpSk } from './udp-sock.js'

/** Models `udp_splice_eof` (net/ipv4/udp.c). */
export function udpSpliceEof(cpu: Cpu, sk: Sock): void {
  const up = udpSk(sk)
  if (up.pending === 0 || up.corkOpt !== 0) return
  lockSock(sk)
  udpPushPendingFrames(cpu, sk)
  releaseSock(cpu, sk)
}

/**
 * Models `udp_sendpage` (net/ipv4/udp.c, before 6.5): the page joins the datagram under construction, which leaves
 * with the first page that announces no other.
 *
 * @returns `bytes`, or a negative errno; the datagram is thrown away then.
 */
export function udpSendpage(
  cpu: Cpu,
  task: Task,
  sk: Sock,
  page: Pfn,
  offset: number,
  bytes: number,
  asked: number,
): number {
  const up = udpSk(sk)
  const { pageMsg } = udpOf(up.env)
  const flags = (asked & MSG_SENDPAGE_NOTLAST) !== 0 ? asked | MSG_MORE : asked
  if (up.pending === 0) {
    // An empty send sets out the datagram; it finds the destination, which a page cannot name.
    const err = udpSendmsg(cpu, task, sk, pageMsg.of(page, offset, 0, flags | MSG_MORE), 0)
    if (err < 0) return err
  }
  lockSock(sk)
  let ret = up.pending === 0 ? -ERRNO.EINVAL : ipAppendPage(cpu, sk, page, offset, bytes, flags)
  if (ret === -ERRNO.ENOTSUP) {
    releaseSock(cpu, sk)
    return udpSendmsg(cpu, task, sk, pageMsg.of(page, offset, bytes, flags), bytes)
  }
  if (ret < 0) udpFlushPendingFrames(cpu, sk)
  else {
    up.len += bytes
    if (up.corkOpt === 0 && (flags & MSG_MORE) === 0) ret = udpPushPendingFrames(cpu, sk)
    if (ret === 0) ret = bytes
  }
  releaseSock(cpu, sk)
  return ret
}

/** Models `ip_append_page` (net/ipv4/ip_output.c, before 6.5). @returns 0 or a negative errno. */
function ipAppendPage(cpu: Cpu, sk: Sock, page: Pfn, from: number, bytes: number, flags: number): number {
  const { env, inet } = udpSk(sk)
  const { cork } = inet
  const { headerBytes, maxDatagram, outDiscards } = IPV4_APPEND
  if ((flags & MSG_PROBE) !== 0) return 0
  const { dev } = cork.dst as Dst
  if ((dev.features & NETIF_F_SG) === 0) return -ERRNO.ENOTSUP
  const mtu = cork.gsoSize !== 0 ? maxDatagram : cork.fragsize
  const maxfraglen = ((mtu - headerBytes) & ~7) + headerBytes
  if (cork.length + bytes > (ipSkIgnoreDf(inet.pmtudisc) ? maxDatagram : mtu) - headerBytes) return -ERRNO.EMSGSIZE
  let skb = skbPeekTail(sk.writeQueue)
  if (skb === null) return -ERRNO.EINVAL
  cork.length += bytes
  let left = bytes
  let offset = from
  let err = 0
  while (left > 0) {
    let len = mtu - skb.len
    if (len < left) len = maxfraglen - skb.len
    if (len <= 0) {
      const next: SkBuff | null = nextFragment(cpu, sk, skb, maxfraglen, llReservedSpace(dev))
      if (next === null) {
        err = -ERRNO.ENOBUFS
        break
      }
      skb = next
      continue
    }
    len = Math.min(len, left)
    if (skbAppendPagefrags(skb, page, offset, len, env.skbs.sizes.maxFrags) < 0) {
      err = -ERRNO.EMSGSIZE
      break
    }
    if (skb.ipSummed === CHECKSUM_NONE) {
      const at = ((page << 12) + offset) as Addr
      skb.csum = csumBlockAdd(skb.csum, csumPartial(env.skbs, at, len, 0), skb.len)
    }
    skb.len += len
    skb.dataLen += len
    skb.truesize += len
    sk.wmemAlloc += len
    offset += len
    left -= len
  }
  if (err === 0) return 0
  cork.length -= left
  sk.net.mib[outDiscards] += 1
  return err
}

/** The next IP fragment: its header, and what the one before has beyond a multiple of eight. */
function nextFragment(cpu: Cpu, sk: Sock, prev: SkBuff, maxfraglen: number, hhLen: number): SkBuff | null {
  const { env } = udpSk(sk)
  const { headerBytes, slackBytes } = IPV4_APPEND
  const gap = prev.len - maxfraglen
  const skb = sockWmalloc(cpu, sk, headerBytes + hhLen + gap + slackBytes, true, sk.allocation as Gfp)
  if (skb === null) return null
  skb.ipSummed = CHECKSUM_NONE
  skb.csum = 0
  skbReserve(skb, hhLen)
  const data = skbPut(skb, headerBytes + gap)
  skb.networkHeader = (data - skb.head) | 0
  skb.transportHeader = skb.networkHeader + headerBytes
  if (gap > 0) {
    const to = (data + headerBytes) as Addr
    skbCopyBits(prev, maxfraglen, to, gap)
    skb.csum = csumPartial(env.skbs, to, gap, 0)
    prev.csum = csumSub(prev.csum, skb.csum)
    pskbTrim(cpu, prev, maxfraglen)
  }
  skbQueueTail(sk.writeQueue, skb)
  return skb
}
