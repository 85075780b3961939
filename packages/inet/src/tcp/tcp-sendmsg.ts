/**
 * From the user's buffer into the write queue: each packet grows in the task's page fragment until it is as
 * long as the device may send it in one, and leaves early when much is waiting.
 */
import { type Addr, type Cpu, ERRNO, type Gfp, type Pfn } from '@netmem/base'
import { copyFromIter, getPage, iovIterCount } from '@netmem/memory'
import { PageFrag } from '@netmem/page-frag'
import {
  fragLen,
  nrFrags,
  SKBFL_MANAGED_FRAG_REFS,
  SKBFL_PURE_ZEROCOPY,
  SKBFL_SHARED_FRAG,
  type SkBuff,
  setFragLen,
  setShinfoFlags,
  shinfoFlags,
  skbCanCoalesce,
  skbFillPageDesc,
  skbHeaderRelease,
  skbQueueEmpty,
  skbQueueTail,
  skbSpliceFromIter,
  skbUnlink,
  skbZcopyPure,
} from '@netmem/skbuff'
import {
  MSG_EOR,
  MSG_MORE,
  MSG_OOB,
  MSG_SENDPAGE_NOTLAST,
  MSG_SPLICE_PAGES,
  MSG_ZEROCOPY,
  type Msg,
  SEND_SHUTDOWN,
  SOCKF_NOSPACE,
  type Sock,
  skFlushBacklog,
  skForcedMemSchedule,
  skMemCharge,
  skStreamError,
  skStreamMemoryFree,
  skStreamWaitMemory,
  skWmemQueuedAdd,
  skWmemSchedule,
  sockError,
  sockPageFragRefill,
  type Task,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
} from '@netmem/sockmem'
import { NETIF_F_SG } from '@netmem/virtual-nic'
import { skbZerocopyIterStream } from '@netmem/zerocopy'
import { tcpSlowStartAfterIdleCheck } from './tcp-cong.js'
import { tcpStreamAllocSkb } from './tcp-fragment.js'
import { lockSock, tcpReleaseSock } from './tcp-lock.js'
import { incStats, MIB } from './tcp-mib.js'
import { tcpCurrentMss, tcpXmitSizeGoal } from './tcp-mss.js'
import { tcpWmemFreeSkb } from './tcp-queue.js'
import { tcpRateCheckAppLimited } from './tcp-rate.js'
import { TCPCB_EOR, TCPHDR_ACK, TCPHDR_PSH } from './tcp-skb.js'
import { TCP_NAGLE_CORK, TCP_NAGLE_PUSH, type TcpSock, TSQ_THROTTLED, tcpSk } from './tcp-sock.js'
import { tcpSpendCopy } from './tcp-time.js'
import { tcpForcedPush, tcpPushOne, tcpPushPendingFramesNow, tcpSendHead, tcpWriteQueueTail } from './tcp-xmit.js'
import { tcpDowngradeZcopyPure, tcpZerocopyBegin, tcpZerocopyEnd } from './tcp-zerocopy.js'

/** New packets between two looks at what arrived meanwhile. */
const PROCESS_BACKLOG_AFTER = 16

// What filling came to, when not to a number of bytes: beyond every errno.
const FILL_WAIT = -10000
const FILL_RESTART = -10001
const NEW_SEGMENT = -10002

/** A packet with one of these is not ready for copied bytes. */
const DOWNGRADES = SKBFL_PURE_ZEROCOPY | SKBFL_MANAGED_FRAG_REFS

/** What one call of `tcp_sendmsg` carries along; one per machine, for calls do not overlap. */
export class SendState {
  mss = 0
  /** Length that packets are filled to (`size_goal`). */
  goal = 0
  /** Packets made since the backlog was last looked at. */
  newSkbs = 0
  /** What waits for the pages of a send by reference, 0 none. */
  ubuf = 0
  /** How the bytes go: 0 copied, MSG_ZEROCOPY as the writer's pages. */
  zc = 0
  /** Stands for the socket's own fragment while a call uses that. */
  readonly sockFrag = new PageFrag()
}

/** Models `tcp_sendmsg` (net/ipv4/tcp.c). @returns bytes taken, or a negative errno; never sleeps. */
export function tcpSendmsg(cpu: Cpu, task: Task, sk: Sock, msg: Msg): number {
  lockSock(sk)
  const ret = tcpSendmsgLocked(cpu, task, sk, msg)
  tcpReleaseSock(cpu, sk)
  return ret
}

/** Models `tcp_sendmsg_locked`. */
export function tcpSendmsgLocked(cpu: Cpu, task: Task, sk: Sock, msg: Msg, sendpage = false): number {
  const tp = tcpSk(sk)
  const state = tp.env.sendState
  const { flags, iter } = msg
  state.zc = 0
  if ((flags & MSG_ZEROCOPY) !== 0 && iovIterCount(iter) > 0) {
    const err = tcpZerocopyBegin(cpu, task, sk, tp, msg, state)
    if (err !== 0) return sendError(cpu, sk, tp, msg, err)
  } else if ((flags & MSG_SPLICE_PAGES) !== 0 && (tp.routeCaps & NETIF_F_SG) !== 0) state.zc = MSG_SPLICE_PAGES
  tcpRateCheckAppLimited(tp)
  if (sk.state !== TCP_ESTABLISHED && sk.state !== TCP_CLOSE_WAIT) {
    const err = waitConnect(sk)
    if (err !== 0) return sendError(cpu, sk, tp, msg, err)
  }
  state.newSkbs = 0
  tcpSendMss(sk, tp, state, flags)
  let copied = 0
  let err = sendable(sk)
  while (err === 0 && iovIterCount(iter) > 0) {
    const bytes = tcpFill(cpu, task, sk, tp, msg, state)
    if (bytes === FILL_RESTART) {
      tcpSendMss(sk, tp, state, flags)
      err = sendable(sk)
      continue
    }
    if (bytes === FILL_WAIT) {
      sk.flags |= SOCKF_NOSPACE
      tcpRemoveEmptySkb(cpu, sk)
      // With sendpage each call is one page, and what earlier ones held back leaves now.
      if (copied !== 0 || sendpage) tcpPush(cpu, sk, tp, flags & ~MSG_MORE, state, TCP_NAGLE_PUSH)
      err = skStreamWaitMemory(sk)
      continue
    }
    if (bytes < 0) {
      err = bytes
      continue
    }
    const skb = tcpWriteQueueTail(sk) as SkBuff
    if (copied === 0) skb.cb2 &= ~TCPHDR_PSH
    tp.writeSeq = (tp.writeSeq + bytes) | 0
    skb.cb1 = (skb.cb1 + bytes) | 0
    // Its number of segments is counted when it is sent.
    skb.cb3 = 0
    copied += bytes
    if (iovIterCount(iter) === 0) {
      if ((flags & MSG_EOR) !== 0) skb.cb2 |= TCPCB_EOR
      break
    }
    if (skb.len < state.goal || (flags & MSG_OOB) !== 0) continue
    if (tcpForcedPush(tp)) {
      tcpMarkPush(tp, skb)
      tcpPushPendingFramesNow(cpu, sk, state.mss, TCP_NAGLE_PUSH)
    } else if (skb === tcpSendHead(sk)) tcpPushOne(cpu, sk, state.mss)
  }
  if (err !== 0) {
    tcpRemoveEmptySkb(cpu, sk)
    if (copied === 0) return sendError(cpu, sk, tp, msg, err)
  }
  if (copied !== 0 && (flags & MSG_SENDPAGE_NOTLAST) === 0) tcpPush(cpu, sk, tp, flags, state, tp.nonagle)
  if (state.ubuf !== 0) tcpZerocopyEnd(cpu, tp, msg, state, false)
  return copied
}

/** Models `tcp_send_mss`. */
export function tcpSendMss(sk: Sock, tp: TcpSock, state: SendState, flags: number): void {
  state.mss = tcpCurrentMss(sk)
  state.goal = tcpXmitSizeGoal(tp, state.mss, (flags & MSG_OOB) === 0)
}

const sendable = (sk: Sock): number => (sk.err !== 0 || (sk.shutdown & SEND_SHUTDOWN) !== 0 ? -ERRNO.EPIPE : 0)

/** Appends to the last packet, or to a new one. @returns bytes, `FILL_WAIT`, `FILL_RESTART` or a negative errno. */
function tcpFill(cpu: Cpu, task: Task, sk: Sock, tp: TcpSock, msg: Msg, state: SendState): number {
  let skb = tcpWriteQueueTail(sk)
  if (skb !== null && (state.goal <= skb.len || (skb.cb2 & TCPCB_EOR) !== 0)) skb = null
  for (;;) {
    if (skb === null) {
      const rc = tcpNewSegment(cpu, sk, tp, state)
      if (rc !== 0) return rc
      skb = tcpWriteQueueTail(sk) as SkBuff
    }
    const most = Math.min(state.goal - skb.len, iovIterCount(msg.iter))
    const bytes =
      state.zc === 0
        ? tcpAppend(cpu, task, sk, tp, msg, skb, most)
        : state.zc === MSG_SPLICE_PAGES
          ? tcpAppendSplice(cpu, sk, tp, msg, skb, most)
          : tcpAppendZerocopy(cpu, sk, tp, msg, skb, most, state)
    if (bytes !== NEW_SEGMENT) return bytes
    skb = null
  }
}

/** An empty packet at the end of the write queue. @returns 0, `FILL_WAIT` or `FILL_RESTART`. */
function tcpNewSegment(cpu: Cpu, sk: Sock, tp: TcpSock, state: SendState): number {
  if (!skStreamMemoryFree(sk)) return FILL_WAIT
  if (state.newSkbs >= PROCESS_BACKLOG_AFTER) {
    state.newSkbs = 0
    // Whatever arrived may have changed everything.
    if (skFlushBacklog(cpu, sk)) return FILL_RESTART
  }
  const first = skbQueueEmpty(tp.rtxQueue) && skbQueueEmpty(sk.writeQueue)
  const skb = tcpStreamAllocSkb(cpu, sk, sk.allocation as Gfp, first)
  if (skb === null) return FILL_WAIT
  state.newSkbs += 1
  tcpSkbEntail(sk, tp, skb)
  return 0
}

/** Models `tcp_skb_entail` (net/ipv4/tcp.c). */
function tcpSkbEntail(sk: Sock, tp: TcpSock, skb: SkBuff): void {
  skb.cb0 = tp.writeSeq
  skb.cb1 = tp.writeSeq
  skb.cb2 = TCPHDR_ACK
  skbHeaderRelease(skb)
  skbQueueTail(sk.writeQueue, skb)
  skWmemQueuedAdd(sk, skb.truesize)
  skMemCharge(sk, skb.truesize)
  tp.nonagle &= ~TCP_NAGLE_PUSH
  tcpSlowStartAfterIdleCheck(tp)
}

/** Copies into the fragment page, as much as that has room for. @returns bytes, `NEW_SEGMENT`, `FILL_WAIT` or -EFAULT. */
function tcpAppend(cpu: Cpu, task: Task, sk: Sock, tp: TcpSock, msg: Msg, skb: SkBuff, most: number): number {
  const { mem } = tp.env
  const pfrag = sk.useTaskFrag !== 0 ? task.taskFrag : loadSockFrag(sk, tp.env.sendState.sockFrag)
  const refilled = sockPageFragRefill(cpu, sk, pfrag)
  if (sk.useTaskFrag === 0) storeSockFrag(sk, pfrag)
  if (!refilled) return FILL_WAIT
  const i = nrFrags(skb)
  const merge = skbCanCoalesce(skb, i, pfrag.page, pfrag.offset)
  if (!merge && i >= tp.ctl.maxSkbFrags[0]!) {
    tcpMarkPush(tp, skb)
    return NEW_SEGMENT
  }
  if ((shinfoFlags(skb) & DOWNGRADES) !== 0 && !tcpDowngradeZcopyPure(cpu, sk, skb)) return FILL_WAIT
  const wanted = tcpWmemSchedule(cpu, sk, tp, Math.min(most, pfrag.size - pfrag.offset))
  if (wanted === 0) return FILL_WAIT
  const to = ((pfrag.page << 12) + pfrag.offset) as Addr
  const copied = copyFromIter(mem, cpu, to, wanted, msg.iter)
  tcpSpendCopy(tp.env, wanted)
  if (copied !== wanted) return -ERRNO.EFAULT
  skb.len += wanted
  skb.dataLen += wanted
  skb.truesize += wanted
  skWmemQueuedAdd(sk, wanted)
  skMemCharge(sk, wanted)
  if (merge) setFragLen(skb, i - 1, fragLen(skb, i - 1) + wanted)
  else {
    skbFillPageDesc(skb, i, pfrag.page, pfrag.offset, wanted)
    getPage(mem, pfrag.page)
  }
  pfrag.offset += wanted
  if (sk.useTaskFrag === 0) sk.fragOffset = pfrag.offset
  return wanted
}

/** The writer's own pages, as many as there are slots. @returns bytes, `NEW_SEGMENT`, `FILL_WAIT` or -EFAULT. */
function tcpAppendZerocopy(
  cpu: Cpu,
  sk: Sock,
  tp: TcpSock,
  msg: Msg,
  skb: SkBuff,
  most: number,
  state: SendState,
): number {
  // An empty packet whose first bytes are user pages begins as a pure one.
  if (skb.len === 0) setShinfoFlags(skb, shinfoFlags(skb) | SKBFL_PURE_ZEROCOPY)
  let wanted = most
  if (!skbZcopyPure(skb)) {
    wanted = tcpWmemSchedule(cpu, sk, tp, most)
    if (wanted === 0) return FILL_WAIT
  }
  const bytes = skbZerocopyIterStream(tp.env.zerocopy, cpu, sk, skb, msg, wanted, state.ubuf)
  if (bytes !== -ERRNO.EMSGSIZE && bytes !== -ERRNO.EEXIST) return bytes
  tcpMarkPush(tp, skb)
  return NEW_SEGMENT
}

/** References to somebody's pages (MSG_SPLICE_PAGES). @returns bytes, `NEW_SEGMENT`, `FILL_WAIT` or -EIO. */
function tcpAppendSplice(cpu: Cpu, sk: Sock, tp: TcpSock, msg: Msg, skb: SkBuff, most: number): number {
  if ((shinfoFlags(skb) & DOWNGRADES) !== 0 && !tcpDowngradeZcopyPure(cpu, sk, skb)) return FILL_WAIT
  const wanted = tcpWmemSchedule(cpu, sk, tp, most)
  if (wanted === 0) return FILL_WAIT
  const bytes = skbSpliceFromIter(skb, msg.iter, wanted)
  if (bytes === -ERRNO.EMSGSIZE) {
    tcpMarkPush(tp, skb)
    return NEW_SEGMENT
  }
  if (bytes < 0) return bytes
  // Whose pages these are may go on writing to them.
  setShinfoFlags(skb, shinfoFlags(skb) | SKBFL_SHARED_FRAG)
  skWmemQueuedAdd(sk, bytes)
  skMemCharge(sk, bytes)
  return bytes
}

// Kernel sockets that may send in any context fill a page of their own.

function loadSockFrag(sk: Sock, pfrag: PageFrag): PageFrag {
  pfrag.page = sk.fragPage as Pfn
  pfrag.offset = sk.fragOffset
  pfrag.size = sk.fragSize
  return pfrag
}

function storeSockFrag(sk: Sock, pfrag: PageFrag): void {
  sk.fragPage = pfrag.page
  sk.fragOffset = pfrag.offset
  sk.fragSize = pfrag.size
}

/** Models `tcp_wmem_schedule` (net/ipv4/tcp.c): a socket with little queued may always go on. @returns bytes granted. */
function tcpWmemSchedule(cpu: Cpu, sk: Sock, tp: TcpSock, copy: number): number {
  const left = tp.ctl.wmem[0]! - sk.wmemQueued
  if (skWmemSchedule(cpu, sk, copy)) return copy
  if (left > 0) skForcedMemSchedule(cpu, sk, Math.min(left, copy))
  return Math.min(copy, sk.forwardAlloc)
}

/** Models `tcp_remove_empty_skb`: a packet was made, then there was no room for its first byte. */
function tcpRemoveEmptySkb(cpu: Cpu, sk: Sock): void {
  const skb = tcpWriteQueueTail(sk)
  if (skb === null || skb.cb0 !== skb.cb1) return
  skbUnlink(sk.writeQueue, skb)
  tcpWmemFreeSkb(cpu, sk, skb, 'tcp_remove_empty_skb')
}

/** Models `sk_stream_wait_connect` for a caller that does not wait. */
function waitConnect(sk: Sock): number {
  const err = sockError(sk)
  if (err !== 0) return err
  return sk.state === TCP_SYN_SENT || sk.state === TCP_SYN_RECV ? -ERRNO.EAGAIN : -ERRNO.EPIPE
}

/** The end of a call that took nothing. */
function sendError(cpu: Cpu, sk: Sock, tp: TcpSock, msg: Msg, err: number): number {
  if (tp.env.sendState.ubuf !== 0) tcpZerocopyEnd(cpu, tp, msg, tp.env.sendState, true)
  const ret = skStreamError(sk, err)
  // Nobody else would wake this writer: nothing of it is queued.
  if (ret === -ERRNO.EAGAIN && skbQueueEmpty(tp.rtxQueue) && skbQueueEmpty(sk.writeQueue)) sk.writeSpace(cpu, sk)
  return ret
}

/** Models `tcp_mark_push`. */
export function tcpMarkPush(tp: TcpSock, skb: SkBuff): void {
  skb.cb2 |= TCPHDR_PSH
  tp.pushedSeq = tp.writeSeq
}

/** Models `tcp_push` (net/ipv4/tcp.c): the call is over, what may leave leaves. */
export function tcpPush(cpu: Cpu, sk: Sock, tp: TcpSock, flags: number, state: SendState, nonagle: number): void {
  const skb = tcpWriteQueueTail(sk)
  if (skb === null) return
  if ((flags & MSG_MORE) === 0 || tcpForcedPush(tp)) tcpMarkPush(tp, skb)
  if ((flags & MSG_OOB) !== 0) tp.sndUp = tp.writeSeq
  if (tcpShouldAutocork(sk, tp, skb, state.goal)) {
    if ((tp.tsqFlags & TSQ_THROTTLED) === 0) {
      incStats(sk, MIB.TCPAutoCorking)
      tp.tsqFlags |= TSQ_THROTTLED
    }
    return
  }
  tcpPushPendingFramesNow(cpu, sk, state.mss, (flags & MSG_MORE) !== 0 ? TCP_NAGLE_CORK : nonagle)
}

/** Models `tcp_should_autocork`: packets of ours are below us, whose end will send this one. */
const tcpShouldAutocork = (sk: Sock, tp: TcpSock, skb: SkBuff, goal: number): boolean =>
  skb.len < goal &&
  tp.ctl.autocorking[0] !== 0 &&
  !skbQueueEmpty(tp.rtxQueue) &&
  sk.wmemAlloc > skb.truesize &&
  (skb.cb2 & TCPCB_EOR) === 0
