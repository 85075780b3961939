/**
 * AF_XDP zero copy in the page-pool driver: the ring is filled with chunks of a user's area instead of pages, the card
 * writes straight into them, and a redirect passes on nothing but where the frame is. What the program wants otherwise
 * is copied out, as the chunk stays the user's.
 *
 * Law per ring: posted chunks = Σ over slots of `heads` that are not 0; each is the driver's until it is redirected or
 * given back to the pool.
 */
import type { Addr, Cpu } from '@netmem/base'
import { dmaDevNeedSync } from '@netmem/dma'
import { napiAllocSkb, type SkBuff, skbPut } from '@netmem/skbuff'
import { ETH_HLEN, ethTypeTrans } from '../eth.js'
import { napiGroReceive } from '../gro.js'
import { DESC_WORDS, RXD_DD, RXD_EOP, RXD_ERROR } from '../hw/nic-hw.js'
import { type NetDevice, RX_BYTES, RX_DROPPED, RX_ERRORS, RX_PACKETS, TX_BYTES, TX_PACKETS } from '../net-device.js'
import {
  MEM_TYPE_XSK_BUFF_POOL,
  XDP_DROP,
  XDP_PACKET_HEADROOM,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  XdpBuff,
  type XdpTarget,
  type XskSlot,
} from '../xdp.js'
import { xdpConvertBuffToFrame, xdpReturnBuff } from '../xdp-frame.js'
import { xdpDoRedirect, xdpReturn } from '../xdp-redirect.js'
import type { XskPoolSlot } from '../xsk-pool-slot.js'
import { nicXmitXsk, txUnused } from './nic-tx.js'
import type { PpNic, PpNicQueue } from './pp-nic.js'
import { ppNicXdpXmit } from './pp-nic-xdp.js'

/** Chunks asked for, and descriptors taken to send, at once. */
const XSK_BATCH = 64
/** How long a ring without a single chunk waits before it looks again, when its user need not be told. */
const XSK_RETRY_NS = 1_000_000

/** What a queue needs in zero-copy mode. */
export class XskQueueState {
  /** By descriptor: the posted chunk's head plus 1, 0 none. */
  readonly heads: Int32Array
  readonly batch = new Int32Array(XSK_BATCH)
  readonly xdp: XdpBuff
  /** A frame of several buffers that is not complete: its first head plus 1, 0 none, and its bytes. */
  first = 0
  firstLen = 0
  /** The rest of this frame is thrown away. */
  bad = false

  constructor(
    readonly pool: XskPoolSlot,
    nic: PpNic,
    queue: PpNicQueue,
    cpu: Cpu,
  ) {
    const { env } = nic
    this.heads = new Int32Array(queue.rx.count)
    const xdp = new XdpBuff(env.mem, env.skbs.sizes.sharedInfoBytes, env.xdpFrameBytes, cpu)
    xdp.memType = MEM_TYPE_XSK_BUFF_POOL
    xdp.xskPool = pool
    xdp.rxDev = queue.napi.dev!.id
    xdp.rxQueueIndex = queue.index
    xdp.frameSz = pool.rxFrameBytes + XDP_PACKET_HEADROOM
    this.xdp = xdp
  }
}

// Hot path: the poll.

/** Models a driver's zero-copy poll: received frames to the program, chunks to the ring, and what there is to send. */
export function ppNicXskPoll(cpu: Cpu, dev: NetDevice, nic: PpNic, queue: PpNicQueue, budget: number): number {
  const state = queue.xsk!
  const work = cleanRx(cpu, dev, nic, queue, state, budget)
  if (((queue.rx.nextToClean - queue.rx.nextToUse - 1) & (queue.rx.count - 1)) >= queue.rx.refillBatch)
    refill(cpu, nic, queue, state)
  return xmitZc(cpu, dev, queue, state, budget) ? work : budget
}

/** Shaped for speed: one frame in one chunk runs straight through. Benchmark: `xdp.zc.64B` of apps/bench. */
function cleanRx(
  cpu: Cpu,
  dev: NetDevice,
  nic: PpNic,
  queue: PpNicQueue,
  state: XskQueueState,
  budget: number,
): number {
  const { env } = nic
  const { i32 } = env.mem
  const { heads, xdp, pool } = state
  const { headData } = pool
  const ring = queue.rx
  const mask = ring.count - 1
  const base = queue.hw.rx.base
  const prog = nic.prog!
  const needSync = dmaDevNeedSync(nic.hw.device)
  let at = ring.nextToClean
  let work = 0
  let bytes = 0
  let last: XskSlot | null = null
  while (work < budget) {
    const d = base + at * DESC_WORDS
    const status = i32[d + 3]!
    if ((status & RXD_DD) === 0) break
    const head = heads[at]! - 1
    const len = i32[d + 2]! & 0xffff
    heads[at] = 0
    i32[d + 3] = 0
    at = (at + 1) & mask
    if (needSync) pool.syncForCpu(cpu, head, len)
    if ((status & (RXD_EOP | RXD_ERROR)) !== RXD_EOP || state.first !== 0 || state.bad || len < ETH_HLEN) {
      ring.nextToClean = at
      work += rxPiece(cpu, dev, nic, queue, state, head, len, status)
      continue
    }
    const data = headData[head]!
    xdp.data = data as Addr
    xdp.dataEnd = (data + len) as Addr
    xdp.dataMeta = data as Addr
    xdp.dataHardStart = (data - XDP_PACKET_HEADROOM) as Addr
    xdp.hasFrags = false
    xdp.xskHead = head
    xdp.target = null
    bytes += len
    work++
    const act = prog.run(xdp)
    if (act !== XDP_REDIRECT) {
      runSlow(cpu, dev, nic, queue, xdp, act)
      continue
    }
    // The rest of `xdpDoRedirect` is finding out where to: the last frame's socket is among those to flush already.
    const target = xdp.target as XdpTarget | null
    const xsk = target === null ? null : target.xsk
    const rc = xsk !== null && xsk === last ? xsk.rcv(cpu, xdp) : xdpDoRedirect(env, cpu, xdp)
    if (rc < 0) {
      dev.stats[RX_DROPPED]!++
      xdpReturnBuff(cpu, xdp, true)
      continue
    }
    last = xsk
    nic.redirected = true
  }
  ring.nextToClean = at
  if (work !== 0) {
    dev.stats[RX_PACKETS]! += work
    dev.stats[RX_BYTES]! += bytes
  }
  return work
}

/** Models `alloc_rx_buffers_zc`: chunks to the card until the ring is full or the user has posted no more. */
function refill(cpu: Cpu, nic: PpNic, queue: PpNicQueue, state: XskQueueState): void {
  const { i32 } = nic.env.mem
  const { heads, batch, pool } = state
  const { headDma } = pool
  const ring = queue.rx
  const mask = ring.count - 1
  const base = queue.hw.rx.base
  let at = ring.nextToUse
  let free = (ring.nextToClean - at - 1) & mask
  while (free > 0) {
    const wanted = Math.min(free, XSK_BATCH)
    const got = pool.allocBatch(cpu, batch, wanted)
    for (let i = 0; i < got; i++) {
      const head = batch[i]!
      const dma = headDma[head]!
      const d = base + at * DESC_WORDS
      heads[at] = head + 1
      i32[d] = dma | 0
      i32[d + 1] = dma < 4294967296 ? 0 : Math.floor(dma / 4294967296)
      at = (at + 1) & mask
    }
    free -= got
    if (got < wanted) break
  }
  ring.nextToUse = at
  queue.hw.rx.tail = at
  if (pool.usesNeedWakeup) pool.setRxNeedWakeup(free > 0)
  else if (free > 0 && at === ring.nextToClean && nic.retryTimer === 0) retryLater(nic)
}

// An empty ring gets no interrupt, and its user was not promised a flag: a timer looks again.
function retryLater(nic: PpNic): void {
  const { clock } = nic.env
  nic.retryTimer = clock.schedule(clock.nowNs + XSK_RETRY_NS, nic.retryHandler, 0, 0)
}

/** Models `xmit_zc`. @returns false when there may be more to send than this poll did. */
function xmitZc(cpu: Cpu, dev: NetDevice, queue: PpNicQueue, state: XskQueueState, budget: number): boolean {
  const { pool } = state
  const { tx } = queue
  if (tx.xskDone !== 0) {
    pool.txCompleted(tx.xskDone)
    tx.xskDone = 0
  }
  const most = Math.min(budget, XSK_BATCH, txUnused(tx))
  const n = most > 0 ? pool.txPeekReleaseDescBatch(cpu, most) : 0
  if (n === 0) {
    if (pool.usesNeedWakeup) pool.setTxNeedWakeup(true)
    return true
  }
  let bytes = 0
  let packets = 0
  for (let i = 0; i < n; i++) {
    const more = (pool.txOptions[i]! & 1) !== 0
    nicXmitXsk(tx, pool.txDma[i]!, pool.txLen[i]!, more)
    bytes += pool.txLen[i]!
    if (!more) packets++
  }
  dev.stats[TX_PACKETS]! += packets
  dev.stats[TX_BYTES]! += bytes
  tx.hw.doorbell(queue.index, tx.nextToUse)
  if (pool.usesNeedWakeup) pool.setTxNeedWakeup(true)
  return n < most
}

// Cold path: other verdicts, frames of several buffers, errors.

/** One buffer of a frame that is not of the everyday kind. @returns packets that are through. */
function rxPiece(
  cpu: Cpu,
  dev: NetDevice,
  nic: PpNic,
  queue: PpNicQueue,
  state: XskQueueState,
  head: number,
  len: number,
  status: number,
): number {
  const { pool, xdp } = state
  const end = (status & RXD_EOP) !== 0
  const first = state.first === 0
  const broken = (status & RXD_ERROR) !== 0 || (first && len < ETH_HLEN)
  const unwanted = !(first && end) && (!pool.sg || !nic.prog!.hasFrags)
  if (state.bad || broken || unwanted) {
    if (!state.bad) dev.stats[RX_ERRORS]!++
    pool.free(head)
    dropPartial(state)
    state.bad = !end
    return end ? 1 : 0
  }
  if (first) {
    state.first = head + 1
    state.firstLen = len
  } else pool.addFrag(head, len)
  if (!end) return 0
  const data = pool.headData[state.first - 1]!
  xdp.data = data as Addr
  xdp.dataEnd = (data + state.firstLen) as Addr
  xdp.dataMeta = data as Addr
  xdp.dataHardStart = (data - XDP_PACKET_HEADROOM) as Addr
  xdp.hasFrags = pool.fragHeads.length !== 0
  xdp.xskHead = state.first - 1
  xdp.target = null
  state.first = 0
  const act = nic.prog!.run(xdp)
  if (act !== XDP_REDIRECT) runSlow(cpu, dev, nic, queue, xdp, act)
  else if (xdpDoRedirect(nic.env, cpu, xdp) === 0) nic.redirected = true
  else {
    dev.stats[RX_DROPPED]!++
    xdpReturnBuff(cpu, xdp, true)
  }
  return 1
}

/** What the program wants when it does not redirect. Takes the frame. */
function runSlow(cpu: Cpu, dev: NetDevice, nic: PpNic, queue: PpNicQueue, xdp: XdpBuff, act: number): void {
  const { env } = nic
  if (act === XDP_PASS) {
    const skb = buildSkb(cpu, dev, nic, xdp)
    xdpReturnBuff(cpu, xdp, true)
    if (skb === null) dev.stats[RX_DROPPED]!++
    else napiGroReceive(cpu, queue.napi, skb)
    return
  }
  if (act === XDP_TX) {
    const frame = xdpConvertBuffToFrame(env.xdpFrames, xdp)
    if (frame === null) xdpReturnBuff(cpu, xdp, true)
    else {
      nic.xdpOut[0] = frame
      if (ppNicXdpXmit(cpu, dev, nic.xdpOut, 1) < 1) xdpReturn(env, cpu, frame, true)
    }
    return
  }
  if (act !== XDP_DROP && act !== 0 && env.trace.warn !== null)
    env.trace.warn(
      'bpf_warn_invalid_xdp_action',
      `Illegal XDP return value ${act} on prog ${nic.prog!.name}, expect packet loss!`,
    )
  xdpReturnBuff(cpu, xdp, true)
}

/** Models `xdp_build_skb_from_zc` (net/core/xdp.c): the stack gets a copy. @returns null without memory. */
function buildSkb(cpu: Cpu, dev: NetDevice, nic: PpNic, xdp: XdpBuff): SkBuff | null {
  const { env } = nic
  const { u8 } = env.mem
  const pool = xdp.xskPool!
  let len = (xdp.dataEnd - xdp.data) | 0
  if (xdp.hasFrags) for (const bytes of pool.fragLens) len += bytes
  const skb = napiAllocSkb(env.skbs, cpu, dev.id, len)
  if (skb === null) return null
  if (env.trace.copy !== null) env.trace.copy(cpu, 'xdp_build_skb_from_zc', len)
  let to = skbPut(skb, len) >>> 0
  u8.copyWithin(to, xdp.data >>> 0, xdp.dataEnd >>> 0)
  to += (xdp.dataEnd - xdp.data) | 0
  for (let i = 0; xdp.hasFrags && i < pool.fragHeads.length; i++) {
    const from = pool.headData[pool.fragHeads[i]!]! >>> 0
    u8.copyWithin(to, from, from + pool.fragLens[i]!)
    to += pool.fragLens[i]!
  }
  if (nic.queues.length > 1) skb.queueMapping = xdp.rxQueueIndex + 1
  ethTypeTrans(skb, dev)
  return skb
}

function dropPartial(state: XskQueueState): void {
  state.pool.dropFrags()
  if (state.first !== 0) state.pool.free(state.first - 1)
  state.first = 0
}

// Up and down.

/** The queue's descriptors are there: the pool's chunks go into them. A user who has posted none yet is waited for. */
export function ppNicXskOpen(cpu: Cpu, nic: PpNic, queue: PpNicQueue, pool: XskPoolSlot): void {
  const state = new XskQueueState(pool, nic, queue, cpu)
  queue.xsk = state
  refill(cpu, nic, queue, state)
}

/** Models `xsk_clean_rx_ring`: every posted chunk is the pool's again, and what was being sent is completed. */
export function ppNicXskClose(queue: PpNicQueue): void {
  const state = queue.xsk
  if (state === null) return
  dropPartial(state)
  for (let i = 0; i < state.heads.length; i++) if (state.heads[i] !== 0) state.pool.free(state.heads[i]! - 1)
  if (queue.tx.xskDone !== 0) state.pool.txCompleted(queue.tx.xskDone)
  queue.tx.xskDone = 0
  queue.xsk = null
}

/** @returns chunks that the driver holds, for audits. */
export const ppNicXskHeld = (queue: PpNicQueue): readonly number[] => {
  const { xsk } = queue
  if (xsk === null) return []
  const held = [...xsk.heads].filter((head) => head !== 0).map((head) => head - 1)
  return xsk.first === 0 ? held : [...held, xsk.first - 1]
}
