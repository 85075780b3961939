/**
 * Too much is queued: first the window is clamped, then wasteful packets are copied into fewer and fuller ones,
 * then what waits out of order is thrown away. Only if all that does not help is the incoming packet refused.
 */
import type { Cpu, Gfp } from '@netmem/base'
import {
  allocSkb,
  kfreeSkbUnchecked,
  type SkBuff,
  type SkbQueue,
  skbCopyBits,
  skbMaxOrder,
  skbPeek,
  skbPeekTail,
  skbPut,
  skbQueueBefore,
  skbQueueEmpty,
  skbUnlink,
  skbWithOverhead,
} from '@netmem/skbuff'
import { type Sock, skbSetOwnerR, skUnderMemoryPressure } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { tcpDropReason } from './tcp-challenge.js'
import { tcpCanIngest } from './tcp-data-queue.js'
import { tcpSackReset } from './tcp-dsack.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpClampWindow } from './tcp-rcvbuf.js'
import { TCPCB_EOR, TCPHDR_FIN, TCPHDR_SYN, tcpFlags } from './tcp-skb.js'
import { type TcpSock, tcpSk } from './tcp-sock.js'
import { tcpAdjustRcvSsthresh, tcpWinFromSpace } from './tcp-window.js'

const nextOf = (tp: TcpSock, skb: SkBuff): SkBuff | null => (skb.next === 0 ? null : tp.env.skbs.skbs[skb.next]!)
const isSynFin = (skb: SkBuff): boolean => (tcpFlags(skb) & (TCPHDR_SYN | TCPHDR_FIN)) !== 0

/** Models `tcp_collapse_one`: frees one packet that was copied. @returns the next. */
function collapseOne(cpu: Cpu, sk: Sock, tp: TcpSock, list: SkbQueue, skb: SkBuff): SkBuff | null {
  const next = nextOf(tp, skb)
  skbUnlink(list, skb)
  kfreeSkbUnchecked(cpu, skb, 'tcp_collapse')
  incStats(sk, MIB.TCPRcvCollapsed)
  return next
}

/**
 * Models `tcp_collapse` (net/ipv4/tcp_input.c): copies packets from `head` up to `tail` (null: the end) into fresh
 * ones of a page each, from the first that wastes memory on.
 */
export function tcpCollapse(
  cpu: Cpu,
  sk: Sock,
  list: SkbQueue,
  head: SkBuff | null,
  tail: SkBuff | null,
  from: number,
  end: number,
): void {
  const tp = tcpSk(sk)
  let start = from
  let skb = head
  let found = false
  while (skb !== null && skb !== tail) {
    const next = nextOf(tp, skb)
    if (!before(start, skb.cb1)) {
      skb = collapseOne(cpu, sk, tp, list, skb)
      continue
    }
    if (!isSynFin(skb) && (tcpWinFromSpace(tp, skb.truesize) > skb.len || before(skb.cb0, start))) {
      found = true
      break
    }
    if (next !== null && next !== tail && (skb.cb2 & TCPCB_EOR) === 0 && skb.cb1 !== next.cb0) {
      found = true
      break
    }
    start = skb.cb1
    skb = next
  }
  if (!found || skb === null || isSynFin(skb)) return
  const max = skbMaxOrder(skb.env.sizes, 0, 0)
  while (before(start, end)) {
    let copy = Math.min(max, (end - start) | 0)
    const nskb: SkBuff | null = allocSkb(tp.env.skbs, cpu, copy, tp.env.mem.gfp.GFP_ATOMIC as Gfp)
    if (nskb === null) return
    nskb.cb0 = start
    nskb.cb1 = start
    nskb.cb2 = skb.cb2
    nskb.cb3 = skb.cb3
    skbQueueBefore(list, skb, nskb)
    skbSetOwnerR(cpu, nskb, sk)
    while (copy > 0) {
      const offset: number = (start - skb.cb0) | 0
      let size: number = (skb.cb1 - start) | 0
      if (size > 0) {
        size = Math.min(copy, size)
        skbCopyBits(skb, offset, skbPut(nskb, size), size)
        nskb.cb1 = (nskb.cb1 + size) | 0
        copy -= size
        start = (start + size) | 0
      }
      if (!before(start, skb.cb1)) {
        skb = collapseOne(cpu, sk, tp, list, skb)
        if (skb === null || skb === tail || (nskb.cb2 & TCPCB_EOR) !== 0 || isSynFin(skb)) return
      }
    }
  }
}

/** Models `tcp_collapse_ofo_queue`: each contiguous range by itself, unless it is tiny. */
function tcpCollapseOfoQueue(cpu: Cpu, sk: Sock): void {
  const tp = tcpSk(sk)
  const list = tp.outOfOrderQueue
  const pageRoom = skbWithOverhead(tp.env.skbs.sizes, tp.env.skbs.sizes.pageBytes)
  let sumTiny = 0
  let head = skbPeek(list)
  while (head !== null) {
    let start = head.cb0
    let end = head.cb1
    let truesize = head.truesize
    let skb = nextOf(tp, head)
    while (skb !== null && !after(skb.cb0, end) && !before(skb.cb1, start)) {
      truesize += skb.truesize
      if (before(skb.cb0, start)) start = skb.cb0
      if (after(skb.cb1, end)) end = skb.cb1
      skb = nextOf(tp, skb)
    }
    if (truesize !== head.truesize || ((end - start) | 0) >= pageRoom) tcpCollapse(cpu, sk, list, head, skb, start, end)
    else {
      sumTiny += truesize
      if (sumTiny > sk.rcvbuf >> 3) return
    }
    head = skb
  }
}

/**
 * Models `tcp_prune_ofo_queue`: drops from the highest sequence down, an eighth of the buffer at a time, but
 * nothing that comes before the incoming packet.
 *
 * @returns true when something was dropped.
 */
export function tcpPruneOfoQueue(cpu: Cpu, sk: Sock, incoming: SkBuff): boolean {
  const tp = tcpSk(sk)
  const list = tp.outOfOrderQueue
  let goal = sk.rcvbuf >> 3
  let pruned = false
  for (let skb = skbPeekTail(list); skb !== null; skb = skbPeekTail(list)) {
    if (tp.env.features.tcpRcvQueueAware && after(incoming.cb0, skb.cb0)) break
    pruned = true
    skbUnlink(list, skb)
    goal -= skb.truesize
    tcpDropReason(cpu, sk, skb, 'TCP_OFO_QUEUE_PRUNE', 'tcp_prune_ofo_queue')
    if (skbQueueEmpty(list) || goal <= 0) {
      if (tcpCanIngest(sk) && !skUnderMemoryPressure(sk)) break
      goal = sk.rcvbuf >> 3
    }
  }
  if (pruned) {
    incStats(sk, MIB.OfoPruned)
    if (tp.rx.sackOk !== 0) tcpSackReset(tp)
  }
  return pruned
}

/**
 * Models `tcp_prune_queue` (net/ipv4/tcp_input.c).
 *
 * @returns true when there is room again, false to drop the incoming packet.
 */
export function tcpPruneQueue(cpu: Cpu, sk: Sock, incoming: SkBuff): boolean {
  const tp = tcpSk(sk)
  // With nothing queued there is nothing to gain.
  if (sk.rmemAlloc === 0 && tp.env.features.tcpNomemZeroWindow) return false
  incStats(sk, MIB.PruneCalled)
  if (!tcpCanIngest(sk)) tcpClampWindow(sk)
  else if (skUnderMemoryPressure(sk)) tcpAdjustRcvSsthresh(sk)
  if (tcpCanIngest(sk)) return true
  tcpCollapseOfoQueue(cpu, sk)
  if (!skbQueueEmpty(sk.receiveQueue))
    tcpCollapse(cpu, sk, sk.receiveQueue, skbPeek(sk.receiveQueue), null, tp.copiedSeq, tp.rcvNxt)
  if (tcpCanIngest(sk)) return true
  tcpPruneOfoQueue(cpu, sk, incoming)
  if (tcpCanIngest(sk)) return true
  incStats(sk, MIB.RcvPruned)
  tp.predFlags = 0
  return false
}
