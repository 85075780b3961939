/**
 * The blocks of a V3 receive ring: packets are packed into one until the next does not fit or its timer runs
 * out, then the block is the user's.
 *
 *     kernel:  open -> fill ... fill -> close (status USER) -> next block: free? open it : freeze the queue
 *     user:                                     read, then write status KERNEL
 *
 * While the queue is frozen packets are dropped; the first packet or timer tick that finds the block free thaws it.
 */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import { SKB_VLAN_PRESENT } from '@netmem/skbuff'
import { skbGetHash } from '@netmem/virtual-nic'
import {
  BD,
  BLK_HDR_LEN,
  blkPlusPriv,
  H3,
  TP_FT_REQ_FILL_RXHASH,
  TP_STATUS_BLK_TMO,
  TP_STATUS_LOSING,
  TP_STATUS_USER,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
  TPACKET_V3,
} from './constants.js'
import { type KbdqCore, type PgVec, pgvAddr } from './packet-ring.js'
import type { PacketSock } from './packet-sock.js'
import { refreshRetireTimer } from './retire-timer.js'

// Hot path: each packet.

/**
 * Models `__packet_lookup_frame_in_block` (net/packet/af_packet.c): room for one packet, its header begun.
 *
 * @param len bytes from the start of the header. @returns the packet's offset in the active block, or -1.
 */
export function packetLookupFrameInBlock(cpu: Cpu, po: PacketSock, skb: SkBuff, len: number): number {
  const pkc = po.rxRing.kbdq!
  if (pkc.frozen) {
    if (prbCurrBlkInUse(po, pkc)) return -1
    // The user has given it back: opening it thaws the queue.
    prbOpenBlock(po, pkc)
  }
  const total = (len + 7) & ~7
  let curr = pkc.nxtOffset
  if (curr + total >= pkc.kblkSize) {
    prbRetireCurrentBlock(cpu, po, pkc, 0)
    if (!prbDispatchNextBlock(po, pkc)) return -1
    curr = pkc.nxtOffset
  }
  prbFillCurrBlock(po, pkc, skb, curr, total)
  return curr
}

/** Models `prb_fill_curr_block` and `prb_run_all_ft_ops`. */
function prbFillCurrBlock(po: PacketSock, pkc: KbdqCore, skb: SkBuff, curr: number, total: number): void {
  pkc.prev = curr
  pkc.nxtOffset = curr + total
  const { i32 } = po.env.mem
  const start = pkc.pkblkStart
  if (start === 0) {
    fillScattered(po, pkc, skb, curr, total)
    return
  }
  const bd = start >>> 2
  i32[bd + (BD.blkLen >> 2)]! += total
  i32[bd + (BD.numPkts >> 2)]! += 1
  const h = (start + curr) >>> 2
  i32[h] = total
  let status = 0
  let tci = 0
  let tpid = 0
  if ((skb.flags & SKB_VLAN_PRESENT) !== 0) {
    tci = skb.vlanTci
    tpid = skb.vlanProto
    status = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID
  }
  i32[h + (H3.status >> 2)] = status
  i32[h + (H3.rxhash >> 2)] = (pkc.featureReqWord & TP_FT_REQ_FILL_RXHASH) !== 0 ? skbGetHash(po.env.devs, skb) : 0
  i32[h + (H3.tci >> 2)] = tci
  i32[h + (H3.tpid >> 2)] = tpid
  i32[h + (H3.padding >> 2)] = 0
  i32[h + (H3.padding >> 2) + 1] = 0
}

/** The same, word by word, in a block that is not in one piece. */
function fillScattered(po: PacketSock, pkc: KbdqCore, skb: SkBuff, curr: number, total: number): void {
  const { i32 } = po.env.mem
  const vec = po.rxRing.vec!
  const block = pkc.kactiveBlkNum
  const bd = pgvAddr(vec, block, 0) >>> 2
  i32[bd + (BD.blkLen >> 2)]! += total
  i32[bd + (BD.numPkts >> 2)]! += 1
  const put = (member: number, value: number): void => {
    i32[pgvAddr(vec, block, curr + member) >>> 2] = value
  }
  const tagged = (skb.flags & SKB_VLAN_PRESENT) !== 0
  put(H3.nextOffset, total)
  put(H3.status, tagged ? TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID : 0)
  put(H3.rxhash, (pkc.featureReqWord & TP_FT_REQ_FILL_RXHASH) !== 0 ? skbGetHash(po.env.devs, skb) : 0)
  put(H3.tci, tagged ? skb.vlanTci : 0)
  put(H3.tpid, tagged ? skb.vlanProto : 0)
  put(H3.padding, 0)
  put(H3.padding + 4, 0)
}

/** @returns the status word of a block, as the user left it. */
export function blockStatus(po: PacketSock, vec: PgVec, block: number): number {
  const start = vec.blocks[block]!
  // The header is in the first page, wherever the others are.
  return po.env.mem.i32[((start !== 0 ? start : pgvAddr(vec, block, 0)) + BD.status) >>> 2]!
}

/** Models `prb_curr_blk_in_use`. */
export const prbCurrBlkInUse = (po: PacketSock, pkc: KbdqCore): boolean =>
  (blockStatus(po, po.rxRing.vec!, pkc.kactiveBlkNum) & TP_STATUS_USER) !== 0

// Cold path: each block.

/** Models `prb_retire_current_block`. A block whose status the user has overwritten is left alone. */
export function prbRetireCurrentBlock(cpu: Cpu, po: PacketSock, pkc: KbdqCore, status: number): void {
  if (blockStatus(po, po.rxRing.vec!, pkc.kactiveBlkNum) === 0) prbCloseBlock(cpu, po, pkc, status)
}

/** Models `prb_close_block`: the block is the user's from here on. */
function prbCloseBlock(cpu: Cpu, po: PacketSock, pkc: KbdqCore, stat: number): void {
  const { i32 } = po.env.mem
  const vec = po.rxRing.vec!
  const block = pkc.kactiveBlkNum
  const bd = pgvAddr(vec, block, 0) >>> 2
  let status = TP_STATUS_USER | stat
  if (po.tpDrops !== 0) status |= TP_STATUS_LOSING
  i32[pgvAddr(vec, block, pkc.prev + H3.nextOffset) >>> 2] = 0
  if (i32[bd + (BD.numPkts >> 2)] !== 0) {
    i32[bd + (BD.tsLast >> 2)] = i32[pgvAddr(vec, block, pkc.prev + H3.sec) >>> 2]!
    i32[bd + (BD.tsLast >> 2) + 1] = i32[pgvAddr(vec, block, pkc.prev + H3.nsec) >>> 2]!
  } else {
    po.env.stamp()
    i32[bd + (BD.tsLast >> 2)] = po.env.sec
    i32[bd + (BD.tsLast >> 2) + 1] = po.env.nsec
  }
  i32[bd + (BD.status >> 2)] = status
  po.sk.dataReady(cpu, po.sk)
  pkc.kactiveBlkNum = block < pkc.knumBlocks - 1 ? block + 1 : 0
  pkc.pkblkStart = 0
}

/** Models `prb_open_block`: the queue is thawed, and on kernels with a timer wheel its timer starts anew. */
export function prbOpenBlock(po: PacketSock, pkc: KbdqCore): void {
  const { i32 } = po.env.mem
  const vec = po.rxRing.vec!
  const start = pgvAddr(vec, pkc.kactiveBlkNum, 0)
  const bd = start >>> 2
  const first = blkPlusPriv(pkc.blkSizeofPriv)
  i32[bd + (BD.seqNum >> 2)] = pkc.nxtSeqNum | 0
  i32[bd + (BD.seqNum >> 2) + 1] = Math.floor(pkc.nxtSeqNum / 4294967296) | 0
  pkc.nxtSeqNum += 1
  i32[bd + (BD.numPkts >> 2)] = 0
  i32[bd + (BD.blkLen >> 2)] = first
  po.env.stamp()
  i32[bd + (BD.tsFirst >> 2)] = po.env.sec
  i32[bd + (BD.tsFirst >> 2) + 1] = po.env.nsec
  i32[bd + (BD.offsetToFirstPkt >> 2)] = first
  i32[bd + (BD.offsetToPriv >> 2)] = BLK_HDR_LEN
  i32[bd + (BD.version >> 2)] = TPACKET_V3
  pkc.pkblkStart = vec.pages[pkc.kactiveBlkNum] === null ? start : 0
  const ahead = (pkc.kactiveBlkNum + (pkc.knumBlocks >> 2)) % pkc.knumBlocks
  pkc.aheadStatusWord = (pgvAddr(vec, ahead, 0) + BD.status) >>> 2
  pkc.nxtOffset = first
  pkc.prev = first
  pkc.frozen = false
  refreshRetireTimer(po, pkc)
}

/** Models `prb_dispatch_next_block`. @returns false when the user still has it: then the queue is frozen. */
export function prbDispatchNextBlock(po: PacketSock, pkc: KbdqCore): boolean {
  if (prbCurrBlkInUse(po, pkc)) {
    pkc.frozen = true
    po.tpFreezeQCnt += 1
    return false
  }
  prbOpenBlock(po, pkc)
  return true
}

/**
 * Models what `prb_retire_rx_blk_timer_expired` does to the blocks.
 *
 * @returns true when the timer has been started anew or need not run again: only a timer wheel asks.
 */
export function prbTimerTick(cpu: Cpu, po: PacketSock, pkc: KbdqCore): boolean {
  if (pkc.frozen) {
    if (prbCurrBlkInUse(po, pkc)) return false
    prbOpenBlock(po, pkc)
    return true
  }
  const bd = pgvAddr(po.rxRing.vec!, pkc.kactiveBlkNum, 0)
  if (po.env.mem.i32[(bd + BD.numPkts) >>> 2] === 0) return false
  prbRetireCurrentBlock(cpu, po, pkc, TP_STATUS_BLK_TMO)
  return prbDispatchNextBlock(po, pkc)
}
