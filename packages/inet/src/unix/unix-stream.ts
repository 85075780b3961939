/**
 * Unix streams. A send makes buffers of at most half the send buffer and queues each at the peer at once; a
 * read takes bytes across buffers and frees each when its last byte is gone.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  CHECKSUM_UNNECESSARY,
  consumeSkb,
  type SkBuff,
  skbCopyDatagramFromIter,
  skbCopyDatagramIter,
  skbMaxHead,
  skbPeek,
  skbPut,
  skbQueueTail,
  skbSpliceFromIter,
  skbUnlink,
} from '@netmem/skbuff'
import {
  MSG_OOB,
  MSG_PEEK,
  MSG_SPLICE_PAGES,
  MSG_WAITALL,
  type Msg,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  type SkbSplicer,
  SOCKF_DEAD,
  type Sock,
  skFilterTrimCap,
  sockAllocSendPskb,
  sockError,
  type Task,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import { unixPeer } from './unix-sock.js'

/** Order of the largest pages behind one buffer; 32 KiB of them at most. */
const FRAG_PAGE_ORDER = 3

/** Models `unix_stream_sendmsg` (net/unix/af_unix.c). @returns bytes taken, or a negative errno when none were. */
export function unixStreamSendmsg(cpu: Cpu, sk: Sock, msg: Msg, len: number): number {
  const { env } = sk
  if ((msg.flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  if (msg.name.family !== 0) return sk.state === TCP_ESTABLISHED ? -ERRNO.EISCONN : -ERRNO.ENOTSUP
  const other = unixPeer(sk)
  if (other === null) return -ERRNO.ENOTCONN
  if ((sk.shutdown & SEND_SHUTDOWN) !== 0) return -ERRNO.EPIPE
  const pageSize = env.pageSize
  const maxHead = skbMaxHead(env.skbs.sizes, 0)
  let sent = 0
  while (sent < len) {
    if ((msg.flags & MSG_SPLICE_PAGES) !== 0) {
      const spliced = sendPages(cpu, sk, other, msg, len - sent)
      if (spliced < 0) return sent > 0 ? sent : spliced
      sent += spliced
      continue
    }
    // Two buffers always fit the send buffer; the 64 are the kernel's allowance for the packet itself.
    const most = Math.min((sk.sndbuf >> 1) - 64, maxHead + (pageSize << FRAG_PAGE_ORDER))
    const size = Math.min(len - sent, most)
    const paged = Math.min(size, alignUp(Math.max(0, size - maxHead), pageSize))
    const skb = sockAllocSendPskb(cpu, sk, size - paged, paged, FRAG_PAGE_ORDER)
    if (skb === null) return sent > 0 ? sent : env.lastError
    const err = fillFromUser(cpu, skb, msg, size, paged)
    if (err < 0) {
      consumeSkb(cpu, skb, 'unix_stream_sendmsg')
      return sent > 0 ? sent : err
    }
    if ((other.flags & SOCKF_DEAD) !== 0 || (other.shutdown & RCV_SHUTDOWN) !== 0) {
      consumeSkb(cpu, skb, 'unix_stream_sendmsg')
      return sent > 0 ? sent : -ERRNO.EPIPE
    }
    skb.cb0 = 0
    skbQueueTail(other.receiveQueue, skb)
    other.dataReady(cpu, other)
    sent += size
  }
  return sent
}

/** One buffer of the caller's pages (MSG_SPLICE_PAGES): as many as there are slots. @returns bytes, or a negative errno. */
function sendPages(cpu: Cpu, sk: Sock, other: Sock, msg: Msg, most: number): number {
  const skb = sockAllocSendPskb(cpu, sk, 0, 0, 0)
  if (skb === null) return sk.env.lastError
  skb.ipSummed = CHECKSUM_UNNECESSARY
  const bytes = skbSpliceFromIter(skb, msg.iter, most)
  if (bytes < 0) {
    consumeSkb(cpu, skb, 'unix_stream_sendmsg')
    return bytes
  }
  sk.wmemAlloc += bytes
  if ((other.flags & SOCKF_DEAD) !== 0 || (other.shutdown & RCV_SHUTDOWN) !== 0) {
    consumeSkb(cpu, skb, 'unix_stream_sendmsg')
    return -ERRNO.EPIPE
  }
  skb.cb0 = 0
  skbQueueTail(other.receiveQueue, skb)
  other.dataReady(cpu, other)
  return bytes
}

const alignUp = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit

/** Copies the user's bytes into a buffer of `size - paged` linear and `paged` paged bytes. @returns 0 or -EFAULT. */
export function fillFromUser(cpu: Cpu, skb: SkBuff, msg: Msg, size: number, paged: number): number {
  skbPut(skb, size - paged)
  skb.dataLen = paged
  skb.len = size
  return skbCopyDatagramFromIter(cpu, skb, 0, msg.iter, size)
}

/** Models `unix_skb_len`: bytes of a stream packet not read yet. */
export const unixSkbLen = (skb: SkBuff): number => skb.len - skb.cb0

/** Takes bytes of one packet. Models `recv_actor`. @returns how many, or a negative errno. */
type RecvActor = (skb: SkBuff, offset: number, bytes: number) => number

/** Models `unix_stream_recvmsg`. @returns bytes, 0 at the end of the stream, or a negative errno. */
export const unixStreamRecvmsg = (cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number =>
  unixStreamReadGeneric(cpu, sk, len, flags, (skb, offset, bytes) =>
    skbCopyDatagramIter(cpu, skb, offset, msg.iter, bytes) < 0 ? -ERRNO.EFAULT : bytes,
  )

/** Models `unix_stream_splice_read`: the packets' pages go into a pipe. */
export const unixStreamSpliceRead = (cpu: Cpu, task: Task, sk: Sock, splicer: SkbSplicer, len: number): number =>
  unixStreamReadGeneric(cpu, sk, len, 0, (skb, offset, bytes) =>
    splicer.skbSpliceBits(cpu, task, sk, skb, offset, bytes),
  )

/** Models `unix_stream_read_generic` (net/unix/af_unix.c). */
function unixStreamReadGeneric(cpu: Cpu, sk: Sock, len: number, flags: number, actor: RecvActor): number {
  if (sk.state !== TCP_ESTABLISHED) return -ERRNO.EINVAL
  if ((flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  const { skbs } = sk.env.skbs
  const target = Math.max(1, (flags & MSG_WAITALL) !== 0 ? len : Math.min(sk.rcvlowat, len))
  let copied = 0
  let left = len
  let skb = skbPeek(sk.receiveQueue)
  // Where a peek begins in the first packet; SO_PEEK_OFF moves it.
  let skip = (flags & MSG_PEEK) !== 0 ? Math.max(0, sk.peekOff) : 0
  for (;;) {
    while (skb !== null && skip >= unixSkbLen(skb) && skip > 0) {
      skip -= unixSkbLen(skb)
      skb = skb.next === 0 ? null : skbs[skb.next]!
    }
    if (skb === null) {
      if (copied >= target) break
      const err = sockError(sk)
      if (err !== 0) return copied > 0 ? copied : err
      if ((sk.shutdown & RCV_SHUTDOWN) !== 0) break
      return copied > 0 ? copied : -ERRNO.EAGAIN
    }
    const chunk = actor(skb, skb.cb0 + skip, Math.min(unixSkbLen(skb) - skip, left))
    // Whatever went wrong, a full pipe too, is told as a fault.
    if (chunk < 0) return copied > 0 ? copied : -ERRNO.EFAULT
    copied += chunk
    left -= chunk
    if ((flags & MSG_PEEK) === 0) {
      skb.cb0 += chunk
      if (unixSkbLen(skb) > 0) break
      skbUnlink(sk.receiveQueue, skb)
      consumeSkb(cpu, skb, 'unix_stream_read_generic')
      skb = skbPeek(sk.receiveQueue)
    } else {
      if (sk.peekOff >= 0) sk.peekOff += chunk
      skip = 0
      skb = skb.next === 0 ? null : skbs[skb.next]!
      if (skb === null) break
    }
    if (left === 0) break
  }
  return copied
}

/** @returns false when the receiver's filter refuses the packet; the caller still owns it. */
export const unixFilterPasses = (cpu: Cpu, other: Sock, skb: SkBuff): boolean =>
  skFilterTrimCap(cpu, other, skb, 1) >= 0
