/**
 * Sends by reference: the writer's own pages in the write queue. A packet of nothing else is *pure*, its payload
 * is not charged; the first copied byte behind it takes that back.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  netZcopyPut,
  SKBFL_PURE_ZEROCOPY,
  type SkBuff,
  setShinfoFlags,
  shinfoFlags,
  skbEndOffset,
  skbTruesize,
  skbZcopy,
  skbZcopyDowngradeManaged,
  skbZcopyManaged,
  skbZcopyPure,
} from '@netmem/skbuff'
import {
  MSG_ZEROCOPY,
  type Msg,
  SOCKF_ZEROCOPY,
  type Sock,
  skMemCharge,
  skWmemSchedule,
  type Task,
} from '@netmem/sockmem'
import { NETIF_F_SG } from '@netmem/virtual-nic'
import { msgZerocopyCopied, msgZerocopyRealloc, netZcopyPutAbort } from '@netmem/zerocopy'
import type { SendState } from './tcp-sendmsg.js'
import type { TcpSock } from './tcp-sock.js'
import { tcpWriteQueueTail } from './tcp-xmit.js'

/**
 * The start of a send with MSG_ZEROCOPY: its notification, and whether pages go by reference. Without SO_ZEROCOPY
 * the flag means nothing. Models this part of `tcp_sendmsg_locked`.
 *
 * @returns 0, with `state.ubuf` to be given back by `tcpZerocopyEnd` and `state.zc` set; or -ENOBUFS.
 */
export function tcpZerocopyBegin(cpu: Cpu, task: Task, sk: Sock, tp: TcpSock, msg: Msg, state: SendState): number {
  const sg = (tp.routeCaps & NETIF_F_SG) !== 0
  if (msg.ubuf !== 0) {
    state.ubuf = msg.ubuf
    if (sg) state.zc = MSG_ZEROCOPY
    return 0
  }
  if ((sk.flags & SOCKF_ZEROCOPY) === 0) return 0
  const { zerocopy } = tp.env
  const tail = tcpWriteQueueTail(sk)
  const ubuf = msgZerocopyRealloc(zerocopy, cpu, task, sk, msg.iter.count, tail === null ? 0 : skbZcopy(tail))
  if (ubuf === 0) return -ERRNO.ENOBUFS
  state.ubuf = ubuf
  if (sg) state.zc = MSG_ZEROCOPY
  else msgZerocopyCopied(zerocopy, ubuf)
  return 0
}

/** The call is over. @param failed nothing was taken: the id is given back too. */
export function tcpZerocopyEnd(cpu: Cpu, tp: TcpSock, msg: Msg, state: SendState, failed: boolean): void {
  const { ubuf } = state
  state.ubuf = 0
  state.zc = 0
  // A reference that came with the message is its owner's.
  if (ubuf === 0 || msg.ubuf !== 0) return
  if (failed) netZcopyPutAbort(tp.env.zerocopy, cpu, ubuf, true)
  else netZcopyPut(tp.env.skbs, cpu, ubuf)
}

/**
 * Models `tcp_downgrade_zcopy_pure` (net/ipv4/tcp.c) and the downgrade of borrowed references: copied bytes are to
 * follow. @returns false when what was free so far may not be charged now.
 */
export function tcpDowngradeZcopyPure(cpu: Cpu, sk: Sock, skb: SkBuff): boolean {
  if (skbZcopyPure(skb)) {
    const extra = skb.truesize - skbTruesize(skb.env.sizes, skbEndOffset(skb))
    if (!skWmemSchedule(cpu, sk, extra)) return false
    skMemCharge(sk, extra)
    setShinfoFlags(skb, shinfoFlags(skb) & ~SKBFL_PURE_ZEROCOPY)
  }
  if (skbZcopyManaged(skb)) skbZcopyDowngradeManaged(skb)
  return true
}

/** Truesize in a socket's queues that is not charged: payload of pure packets. For proofs. */
export function tcpPureZcopyBytes(sk: Sock): number {
  const { skbs } = sk.env.skbs
  let bytes = 0
  for (const queue of [sk.writeQueue, (sk.priv as TcpSock).rtxQueue])
    for (let id = queue.first; id !== 0; id = skbs[id]!.next) {
      const skb = skbs[id]!
      if (skbZcopyPure(skb)) bytes += skb.truesize - skbTruesize(skb.env.sizes, skbEndOffset(skb))
    }
  return bytes
}
