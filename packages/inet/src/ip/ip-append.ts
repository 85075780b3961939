/**
 * Building a datagram from user bytes: one linear buffer when it is short, headers and page fragments when it
 * is long, several buffers when it must be fragmented. Serves IPv4 and IPv6; what differs is in `AppendFormat`.
 *
 * Everything here is charged to the sender's `wmemAlloc` from the moment it exists.
 */
import { type Addr, type Cpu, ERRNO, type Gfp } from '@netmem/base'
import { copyFromIter, getPage } from '@netmem/memory'
import { type PageFrag, SK_PAGE_FRAG_BYTES, skbPageFragRefill } from '@netmem/page-frag'
import {
  allocSkb,
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  csumBlockAdd,
  csumPartial,
  csumSub,
  fragLen,
  kfreeSkb,
  nrFrags,
  pskbTrim,
  type SkBuff,
  type SkbQueue,
  setFragLen,
  skbCanCoalesce,
  skbChecksum,
  skbCopyBits,
  skbFillPageDesc,
  skbPut,
  skbQueueTail,
  skbReserve,
  skbSpliceFromIter,
  skbTailroom,
  skbZcopy,
  skbZcopySet,
} from '@netmem/skbuff'
import {
  MSG_MORE,
  MSG_SPLICE_PAGES,
  MSG_ZEROCOPY,
  type Msg,
  mibIndex,
  SOCKF_ZEROCOPY,
  type Sock,
  sockAllocSendSkb,
  type Task,
} from '@netmem/sockmem'
import { NETIF_F_HW_CSUM, NETIF_F_IP_CSUM, NETIF_F_IPV6_CSUM, NETIF_F_SG } from '@netmem/virtual-nic'
import { msgZerocopyCopied, msgZerocopyRealloc, netZcopyPutAbort, skbZerocopyIterDgram } from '@netmem/zerocopy'
import { type Dst, llReservedSpace } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import type { Cork } from './cork.js'

/** Copies the next `bytes` of the datagram, which start `offset` bytes into it, to `to`. */
export interface AppendSource {
  /** Models `getfrag`. @returns 0, or -EFAULT. Adds to the packet's checksum when the device will not make it. */
  getfrag(env: InetEnv, cpu: Cpu, to: Addr, offset: number, bytes: number, odd: number, skb: SkBuff): number
  /** Pages to send without a copy, when the call asked for it with MSG_SPLICE_PAGES. */
  zeroCopy(): ZeroCopyAppend | null
  /** The call and who makes it, for sends with MSG_ZEROCOPY. */
  readonly msg?: Msg
  readonly task?: Task
}

/** What sends from pipes plug in: models `skb_splice_from_iter`. */
export interface ZeroCopyAppend {
  /** Only headers are linear; false: the bytes are copied after all, and the notification says so. */
  readonly paged: boolean
  /** Notes the reference in a new packet (`skb_zcopy_set`). */
  attach(cpu: Cpu, skb: SkBuff): void
  /** @returns bytes appended, or a negative errno. */
  append(cpu: Cpu, sk: Sock, skb: SkBuff, bytes: number): number
  /** The send failed: gives back what the call took (`net_zcopy_put_abort`). */
  abort(cpu: Cpu): void
  /** True when `append` charges the bytes itself. */
  readonly charges: boolean
}

/** What differs between `__ip_append_data` and `__ip6_append_data`. */
export interface AppendFormat {
  /** Bytes of the network header. */
  readonly headerBytes: number
  /** Room for a fragment header, left free in each buffer (IPv6), bytes. */
  readonly fragHeaderBytes: number
  /** Slack behind the link header reserve (IPv4), bytes. */
  readonly slackBytes: number
  /** The longest datagram with its network header that the protocol can describe. */
  readonly maxDatagram: number
  /** Checksum features of devices that may finish the transport checksum. */
  readonly csumFeatures: number
  /** Counts datagrams given up half-built. */
  readonly outDiscards: number
}

export const IPV4_APPEND: AppendFormat = {
  headerBytes: 20,
  fragHeaderBytes: 0,
  slackBytes: 15,
  maxDatagram: 0xffff,
  csumFeatures: NETIF_F_HW_CSUM | NETIF_F_IP_CSUM,
  outDiscards: mibIndex('Ip.OutDiscards'),
}

export const IPV6_APPEND: AppendFormat = {
  headerBytes: 40,
  fragHeaderBytes: 8,
  slackBytes: 0,
  maxDatagram: 40 + 65535,
  csumFeatures: NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM,
  outDiscards: mibIndex('Ip6.OutDiscards'),
}

/** Where `ip_generic_getfrag` copies from: the caller's message. One per call site, reused. */
export class MsgSource implements AppendSource {
  msg!: Msg
  task!: Task
  zc: ZeroCopyAppend | null = null

  /** Models `ip_generic_getfrag` (net/ipv4/ip_output.c). */
  getfrag(env: InetEnv, cpu: Cpu, to: Addr, _offset: number, bytes: number, odd: number, skb: SkBuff): number {
    if (copyFromIter(env.mem, cpu, to, bytes, this.msg.iter) !== bytes) return -ERRNO.EFAULT
    if (skb.ipSummed !== CHECKSUM_PARTIAL) skb.csum = csumBlockAdd(skb.csum, csumPartial(env.skbs, to, bytes, 0), odd)
    return 0
  }

  zeroCopy(): ZeroCopyAppend | null {
    return (this.msg.flags & MSG_SPLICE_PAGES) !== 0 ? this.splice : this.zc
  }

  /** Models MSG_SPLICE_PAGES in `__ip_append_data`: the caller's pages become fragments, where the device takes any. */
  private readonly splice: ZeroCopyAppend = {
    paged: false,
    charges: true,
    attach: () => undefined,
    append: (_cpu, _sk, skb, bytes) => skbSpliceFromIter(skb, this.msg.iter, bytes),
    abort: () => undefined,
  }
}

/**
 * Models `__ip_append_data` (net/ipv4/ip_output.c) and `__ip6_append_data`.
 *
 * @param queue where the buffers go; the last one is continued.
 * @param length bytes to append, the transport header included in the first call.
 * @param transhdrlen bytes of the transport header when this is the start, else 0.
 * @returns 0 or a negative errno; what was appended before an error stays queued, for the caller to flush.
 */
export function ipAppendDataTo(
  env: InetEnv,
  cpu: Cpu,
  sk: Sock,
  queue: SkbQueue,
  cork: Cork,
  pfrag: PageFrag,
  source: AppendSource,
  format: AppendFormat,
  length: number,
  transhdrlen: number,
  flags: number,
  ignoreDf: boolean,
): number {
  const dst = cork.dst as Dst
  const { dev } = dst
  const { skbs } = env
  const sg = (dev.features & NETIF_F_SG) !== 0
  const headerBytes = format.headerBytes
  const mtu = cork.gsoSize !== 0 ? format.maxDatagram : cork.fragsize
  const hhLen = llReservedSpace(dev)
  const maxfraglen = ((mtu - headerBytes) & ~7) + headerBytes - format.fragHeaderBytes
  const maxDatagram = ignoreDf ? format.maxDatagram : mtu
  if (cork.length + length > maxDatagram - headerBytes) return -ERRNO.EMSGSIZE

  let csummode = CHECKSUM_NONE
  if (
    transhdrlen !== 0 &&
    length + headerBytes <= mtu &&
    (dev.features & format.csumFeatures) !== 0 &&
    ((flags & MSG_MORE) === 0 || cork.gsoSize !== 0)
  )
    csummode = CHECKSUM_PARTIAL

  let paged = cork.gsoSize !== 0
  let skb: SkBuff | null = queue.last === 0 ? null : skbs.skbs[queue.last]
  // What waits for the pages of a send with MSG_ZEROCOPY, and whether its own reference is still to be given away.
  let ubuf = 0
  let ownRef = false
  let userPages = false
  if ((flags & MSG_ZEROCOPY) !== 0 && length > 0) {
    userPages = sg && csummode === CHECKSUM_PARTIAL
    const tailUbuf = skb === null ? 0 : skbZcopy(skb)
    ubuf = appendZerocopyBegin(env, cpu, sk, source, length, tailUbuf, userPages)
    if (ubuf < 0) return ubuf
    if (ubuf === 0) userPages = false
    ownRef = ubuf !== 0 && tailUbuf === 0 && (source.msg as Msg).ubuf === 0
    if (userPages) paged = true
    else if (ubuf !== 0 && skb !== null && tailUbuf === 0) {
      skbZcopySet(skb, ubuf, ownRef)
      ownRef = false
    }
  }
  let zc = source.zeroCopy()
  if (zc !== null && length > 0) paged = paged || (zc.paged && sg && csummode === CHECKSUM_PARTIAL)
  else zc = null
  const byReference = zc !== null && (zc.charges ? sg : zc.paged && sg && csummode === CHECKSUM_PARTIAL)
  if (byReference) paged = true

  cork.length += length
  let left = length
  let offset = 0
  let header = transhdrlen
  let charged = 0
  let err = 0

  while (left > 0 || skb === null) {
    let copy = 0
    if (skb !== null) {
      // In IPv6 a datagram that fits whole may use the room that fragments leave for their header.
      copy = (format.fragHeaderBytes === 0 || cork.length <= mtu ? mtu : maxfraglen) - skb.len
      if (copy < left) copy = maxfraglen - skb.len
    }
    if (copy <= 0) {
      const prev: SkBuff | null = skb
      const gap: number = prev === null ? 0 : prev.len - maxfraglen
      const whole = format.fragHeaderBytes === 0 || cork.length <= mtu ? mtu : maxfraglen
      let datalen = left + gap
      if (datalen > whole - headerBytes) datalen = maxfraglen - headerBytes
      const fraglen = datalen + headerBytes
      const extra = hhLen + format.slackBytes + format.fragHeaderBytes
      let linear = fraglen
      let pagedlen = 0
      if ((flags & MSG_MORE) !== 0 && !sg) linear = mtu
      else if ((paged || fraglen + extra >= env.maxAlloc) && sg) {
        linear = headerBytes + header
        pagedlen = datalen - header
      }
      const fresh: SkBuff | null = allocFragment(env, cpu, sk, linear + extra, header !== 0, charged)
      if (fresh === null) {
        err = env.socks.lastError
        break
      }
      fresh.ipSummed = csummode
      fresh.csum = 0
      skbReserve(fresh, hhLen + format.fragHeaderBytes)
      const data = skbPut(fresh, fraglen - pagedlen)
      fresh.networkHeader = (data - fresh.head) | 0
      fresh.transportHeader = fresh.networkHeader + headerBytes
      let at = (data + headerBytes) | 0
      if (gap !== 0) {
        // The part of the last buffer beyond a multiple of eight belongs to this one.
        const before = prev as SkBuff
        skbCopyBits(before, maxfraglen, (at + header) as Addr, gap)
        fresh.csum = csumPartial(skbs, (at + header) as Addr, gap, 0)
        before.csum = csumSub(before.csum, fresh.csum)
        pskbTrim(cpu, before, maxfraglen)
        at = (at + gap) | 0
      }
      copy = datalen - header - gap - pagedlen
      if (copy > 0 && source.getfrag(env, cpu, (at + header) as Addr, offset, copy, gap, fresh) < 0) {
        err = -ERRNO.EFAULT
        kfreeSkb(cpu, fresh, 'NOT_SPECIFIED', '__ip_append_data')
        break
      }
      if (copy < 0) copy = 0
      offset += copy
      left -= copy + header
      header = 0
      csummode = CHECKSUM_NONE
      if (zc !== null && prev === null) zc.attach(cpu, fresh)
      if (ubuf !== 0) {
        skbZcopySet(fresh, ubuf, ownRef)
        ownRef = false
      }
      if (fresh.destructor === 0) {
        fresh.destructor = env.socks.sockWfree
        fresh.sk = sk.id
        charged += fresh.truesize
      }
      skbQueueTail(queue, fresh)
      skb = fresh
      continue
    }
    const tail = skb as SkBuff
    if (copy > left) copy = left
    if (!sg && skbTailroom(tail) >= copy) {
      const before = tail.len
      if (source.getfrag(env, cpu, skbPut(tail, copy), offset, copy, before, tail) < 0) {
        tail.len = before
        tail.tail = (tail.data + before) as Addr
        err = -ERRNO.EFAULT
        break
      }
    } else if (userPages) {
      err = skbZerocopyIterDgram(env.zerocopy, sk, tail, source.msg as Msg, copy)
      if (err < 0) break
    } else if (byReference) {
      const done: number = (zc as ZeroCopyAppend).append(cpu, sk, tail, copy)
      if (done < 0) {
        err = done
        break
      }
      copy = done
      if ((zc as ZeroCopyAppend).charges) charged += copy
    } else {
      copy = appendPaged(env, cpu, sk, tail, pfrag, source, offset, copy)
      if (copy < 0) {
        err = copy
        break
      }
      charged += copy
    }
    offset += copy
    left -= copy
  }
  if (err !== 0) {
    zc?.abort(cpu)
    netZcopyPutAbort(env.zerocopy, cpu, ubuf, ownRef)
    cork.length -= left
    sk.net.mib[format.outDiscards] += 1
  }
  sk.wmemAlloc += charged
  return err
}

/**
 * The notification of a send with MSG_ZEROCOPY; without SO_ZEROCOPY the flag means nothing. Models this part of
 * `__ip_append_data`.
 *
 * @param tailUbuf what the datagram under construction answers to, 0 nothing. @param userPages pages may go by reference.
 * @returns the ubuf; 0 for an ordinary send; -ENOBUFS, or -EINVAL for a mix of two owners.
 */
function appendZerocopyBegin(
  env: InetEnv,
  cpu: Cpu,
  sk: Sock,
  source: AppendSource,
  length: number,
  tailUbuf: number,
  userPages: boolean,
): number {
  const { ubuf } = source.msg as Msg
  if (ubuf !== 0) {
    if (tailUbuf !== 0 && tailUbuf !== ubuf) return -ERRNO.EINVAL
    return userPages ? ubuf : 0
  }
  if ((sk.flags & SOCKF_ZEROCOPY) === 0) return 0
  const made = msgZerocopyRealloc(env.zerocopy, cpu, source.task as Task, sk, length, tailUbuf)
  if (made === 0) return -ERRNO.ENOBUFS
  if (!userPages) msgZerocopyCopied(env.zerocopy, made)
  return made
}

/** The first buffer waits for room in the send buffer; later ones may take it to twice the limit. */
function allocFragment(
  env: InetEnv,
  cpu: Cpu,
  sk: Sock,
  bytes: number,
  first: boolean,
  charged: number,
): SkBuff | null {
  if (first) return sockAllocSendSkb(cpu, sk, bytes)
  env.socks.lastError = -ERRNO.ENOBUFS
  if (sk.wmemAlloc + charged > 2 * sk.sndbuf) return null
  return allocSkb(env.skbs, cpu, bytes, sk.allocation as Gfp, 0, -1)
}

/** Bytes into the page fragment: the last slot grows when they follow it. @returns bytes, or a negative errno. */
function appendPaged(
  env: InetEnv,
  cpu: Cpu,
  sk: Sock,
  skb: SkBuff,
  pfrag: PageFrag,
  source: AppendSource,
  offset: number,
  wanted: number,
): number {
  const { mem } = env
  const noHighOrder = env.socks.highOrderAllocDisable[0] !== 0
  if (!skbPageFragRefill(mem, cpu, SK_PAGE_FRAG_BYTES, pfrag, sk.allocation as Gfp, noHighOrder)) return -ERRNO.ENOMEM
  let i = nrFrags(skb)
  if (!skbCanCoalesce(skb, i, pfrag.page, pfrag.offset)) {
    if (i === env.skbs.sizes.maxFrags) return -ERRNO.EMSGSIZE
    skbFillPageDesc(skb, i, pfrag.page, pfrag.offset, 0)
    getPage(mem, pfrag.page)
    i += 1
  }
  const copy = Math.min(wanted, pfrag.size - pfrag.offset)
  const to = ((pfrag.page << 12) + pfrag.offset) as Addr
  if (source.getfrag(env, cpu, to, offset, copy, skb.len, skb) < 0) return -ERRNO.EFAULT
  pfrag.offset += copy
  setFragLen(skb, i - 1, fragLen(skb, i - 1) + copy)
  skb.len += copy
  skb.dataLen += copy
  skb.truesize += copy
  return copy
}

/** Models `ip_flush_pending_frames`: throws away a datagram under construction. */
export function flushFrames(env: InetEnv, cpu: Cpu, queue: SkbQueue, cork: Cork, location: string): void {
  for (let id = queue.last; id !== 0; id = queue.last) {
    const skb = env.skbs.skbs[id]
    queue.last = skb.prev
    if (queue.last === 0) queue.first = 0
    else env.skbs.skbs[queue.last].next = 0
    queue.qlen -= 1
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', location)
  }
  cork.length = 0
}

/** @returns the checksum over the transport header and data of a datagram in one buffer. Models `udp_csum`'s walk. */
export const transportChecksum = (skb: SkBuff): number => {
  const offset = (skb.head + skb.transportHeader - skb.data) | 0
  return skbChecksum(skb, offset, skb.len - offset, 0)
}
