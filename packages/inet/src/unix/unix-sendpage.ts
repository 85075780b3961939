/** One page at a time into a unix stream, as kernels before 6.5 did it. */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { consumeSkb, type SkBuff, skbAppendPagefrags, skbPeekTail, skbQueueTail } from '@netmem/skbuff'
import {
  MSG_OOB,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SOCKF_DEAD,
  type Sock,
  sockAllocSendPskb,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import { unixPeer } from './unix-sock.js'

/**
 * Models `unix_stream_sendpage` (net/unix/af_unix.c, before 6.5): the page joins the last packet that the peer has not
 * read, whatever the send buffer says, and only a packet without a free slot makes a new one.
 *
 * @returns `bytes`, or a negative errno.
 */
export function unixStreamSendpage(
  cpu: Cpu,
  sk: Sock,
  page: Pfn,
  offset: number,
  bytes: number,
  flags: number,
): number {
  if ((flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  const other = unixPeer(sk)
  if (other === null || sk.state !== TCP_ESTABLISHED) return -ERRNO.ENOTCONN
  if ((sk.shutdown & SEND_SHUTDOWN) !== 0) return -ERRNO.EPIPE
  if ((other.flags & SOCKF_DEAD) !== 0 || (other.shutdown & RCV_SHUTDOWN) !== 0) return -ERRNO.EPIPE
  const { maxFrags } = sk.env.skbs.sizes
  let skb: SkBuff | null = skbPeekTail(other.receiveQueue)
  if (skb === null || skbAppendPagefrags(skb, page, offset, bytes, maxFrags) < 0) {
    skb = sockAllocSendPskb(cpu, sk, 0, 0, 0)
    if (skb === null) return sk.env.lastError
    if (skbAppendPagefrags(skb, page, offset, bytes, maxFrags) < 0) {
      consumeSkb(cpu, skb, 'unix_stream_sendpage')
      return -ERRNO.EMSGSIZE
    }
    skb.cb0 = 0
    skbQueueTail(other.receiveQueue, skb)
  }
  skb.len += bytes
  skb.dataLen += bytes
  skb.truesize += bytes
  sk.wmemAlloc += bytes
  other.dataReady(cpu, other)
  return bytes
}
